//! The second gate: the tenant's gateway. It takes requests from sidecars, decides them again, adds the
//! credential and sends them to the upstream. It trusts a sidecar for nothing but the request itself.

use std::sync::Arc;

use clawlock_audit::{AuditSink, Gate};
use clawlock_policy::document::Scheme;
use clawlock_policy::{Code, Denial, SpiffeId};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::body::GateBody;
use crate::drain::Watcher;
use crate::gate::{Asked, Asking, Decider, Held, Refused, raw_action};
use crate::guard::Guard;
use crate::hop::Front;
use crate::limits::REQUEST_ID;
use crate::metrics::Metrics;
use crate::policies::PolicyTable;
use crate::request::{Target, clean_headers, named};
use crate::upstream::{Exchange, Injector, Upstreams};
use crate::voucher::Vouchers;
use crate::{denial, hop, problem, tunnel, websocket};

/// A tenant's gateway.
pub struct Gateway {
    decider: Decider,
    upstreams: Upstreams,
    vouchers: Option<Arc<Vouchers>>,
}

impl Gateway {
    /// Puts a gateway together.
    #[must_use]
    pub fn new(
        policies: Arc<PolicyTable>,
        audit: Arc<dyn AuditSink>,
        metrics: Arc<Metrics>,
        upstreams: Upstreams,
    ) -> Self {
        Self { decider: Decider::new(Gate::Gateway, policies, audit, metrics), upstreams, vouchers: None }
    }

    /// Answers vouchers, too: see [`crate::voucher`].
    #[must_use]
    pub fn vouching(mut self, vouchers: Arc<Vouchers>) -> Self {
        self.vouchers = Some(vouchers);
        self
    }

    /// Serves the hop until the drain begins.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, front: impl Into<Front>, drain: Watcher) {
        let (policies, metrics) = (self.decider.policies().clone(), self.decider.metrics().clone());
        hop::server::serve(listener, front.into(), policies, metrics, drain, move |identity, request| {
            let gateway = self.clone();
            async move { gateway.handle(identity, request).await }
        })
        .await;
    }

    async fn handle(&self, identity: SpiffeId, request: Request<Incoming>) -> Response<GateBody> {
        if let Some(vouchers) = &self.vouchers
            && vouchers.are_asked_by(&request)
        {
            return Box::pin(vouchers.answer()).await;
        }
        let mut asking = self.decider.asking(identity);
        let answered = self.answer(&mut asking, request).await;
        match answered {
            Ok(response) => response,
            Err(refused) => {
                let denial = Box::pin(self.decider.refuse(&asking, *refused)).await;
                let mut response = problem::response(&denial, &asking.request_id);
                // The agent's gate may not have heard of it yet: the answer that came with it can have been lost.
                if let Some(halt) = self.decider.policies().halt_of(&asking.identity) {
                    response.headers_mut().insert(hop::HALT, halt.to_field());
                }
                response
            }
        }
    }

    async fn answer(
        &self,
        asking: &mut Asking,
        mut request: Request<Incoming>,
    ) -> Result<Response<GateBody>, Box<Refused>> {
        let upgrade = websocket::is_extended_connect(&request).then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let (target, named) = read_hop(asking, &parts).map_err(|denial| {
            let action = clawlock_audit::ActionRecord::Http {
                upstream: None,
                operation: None,
                method: clawlock_audit::record::bounded(method.as_str()),
                target: named(&uri),
                path: String::new(),
            };
            Box::new(Refused { denial, action })
        })?;
        let refuse = |denial| Box::new(Refused { denial, action: raw_action(&target, &method, &uri) });
        if upgrade.is_some() {
            parts.method = Method::GET;
        } else if parts.method == Method::CONNECT {
            return Err(refuse(denial::of(Code::MethodRefused, "CONNECT carries no protocol".to_owned())));
        }
        let (asked, permit) = self.decider.decide(asking, &target, parts, body).await?;
        let action = asked.record();
        if *asked.upstream.name != *named {
            let detail = format!("the sidecar decided on upstream {named:?}, here it is {}", asked.upstream.name);
            return Err(Box::new(Refused { denial: denial::of(Code::AuthorityMismatch, detail), action }));
        }
        let receipt = match self.decider.record_allow(asking, action.clone(), &permit).await {
            Ok(receipt) => receipt,
            Err(denial) => return Err(Box::new(Refused { denial, action })),
        };
        let guard = asked.guard(&self.decider, &permit);
        let handshake = upgrade.is_some().then(websocket::Handshake::new).transpose();
        let handshake = handshake.map_err(|why| refuse(denial::of(Code::Overloaded, why.to_owned())))?;
        let exchange = if upgrade.is_some() { Exchange::WebSocket } else { Exchange::Http };
        let work = async {
            let way =
                self.upstreams.connect_upstream(permit, receipt, asked.upstream.clone(), &target, exchange).await?;
            let request = outgoing(asked, &guard, handshake.as_ref())?;
            way.send(request).await
        };
        let worked = guard.run(Box::pin(work).as_mut()).await;
        let sent = match worked {
            Ok(sent) => sent,
            Err(_) => Err(denial::of(Code::NoMatch, "a change of policy no longer allows this request".to_owned())),
        };
        let (response, injector) = sent.map_err(|denial| Box::new(Refused { denial, action: action.clone() }))?;
        let passed = match upgrade.zip(handshake) {
            Some((upgrade, handshake)) => switch(response, &handshake, upgrade, injector, guard),
            None => pass(response, injector.as_deref(), guard),
        };
        passed.map_err(|denial| Box::new(Refused { denial, action }))
    }
}

/// What the sidecar says beside the request.
fn read_hop(asking: &mut Asking, parts: &http::request::Parts) -> Result<(Target, String), Denial> {
    let bad = |what: &str| denial::of(Code::BadRequest, format!("the hop's {what} is missing or not valid"));
    let field = |name: &str| {
        let mut all = parts.headers.get_all(name).iter();
        let first = all.next()?.to_str().ok()?;
        all.next().is_none().then_some(first)
    };
    let id = field(hop::REQUEST_ID).ok_or_else(|| bad(hop::REQUEST_ID))?;
    if id.is_empty() || id.len() > REQUEST_ID || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad(hop::REQUEST_ID));
    }
    asking.request_id = id.into();
    let micros = field(hop::AGENT_GATE_US).ok_or_else(|| bad(hop::AGENT_GATE_US))?;
    asking.agent_gate_us = micros.parse().map_err(|_| bad(hop::AGENT_GATE_US))?;
    let upstream = field(hop::UPSTREAM).ok_or_else(|| bad(hop::UPSTREAM))?.to_owned();
    let scheme = match parts.uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(bad("scheme")),
    };
    let authority = parts.uri.authority().ok_or_else(|| bad("authority"))?;
    Ok((Target::parse(scheme, authority)?, upstream))
}

fn outgoing(
    asked: Asked,
    guard: &Guard,
    handshake: Option<&websocket::Handshake>,
) -> Result<Request<GateBody>, Denial> {
    let Asked { question, policy: _, upstream: _, mut headers, body, .. } = asked;
    let invalid = |why: &dyn std::fmt::Display| denial::of(Code::BadRequest, format!("cannot be forwarded: {why}"));
    let body = match (handshake, body) {
        (Some(handshake), _) => {
            handshake.write(&mut headers);
            GateBody::empty()
        }
        (None, Held::Whole(bytes)) => GateBody::full(bytes),
        (None, Held::Streaming(incoming)) => GateBody::request(incoming, guard.clone()),
    };
    // The body frames itself; a length that the client stated is checked by the one who reads it.
    let mut request = Request::builder()
        .method(question.method.clone())
        .uri(question.path_and_query())
        .body(body)
        .map_err(|why| invalid(&why))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Removes from a response what must not reach the agent.
fn clean_response(fields: &mut HeaderMap, injector: Option<&Injector>) -> Result<(), Denial> {
    clean_headers(fields).map_err(|denial| denial::of(Code::UpstreamResponse, denial.detail))?;
    // Another way to the same server, around the gates (RFC 7838).
    fields.remove(header::ALT_SVC);
    if let Some(injector) = injector {
        let coded = fields.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
        if coded {
            let detail = "the upstream used a content coding although none was accepted".to_owned();
            return Err(denial::of(Code::UpstreamResponse, detail));
        }
        // A session that our credential opened is a credential too.
        fields.remove(header::SET_COOKIE);
        injector.redact_headers(fields);
    }
    Ok(())
}

fn pass(response: Response<Incoming>, injector: Option<&Injector>, guard: Guard) -> Result<Response<GateBody>, Denial> {
    let (mut parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(denial::of(Code::UpstreamResponse, "the upstream switched protocols unasked".to_owned()));
    }
    clean_response(&mut parts.headers, injector)?;
    let body = match injector {
        Some(injector) => GateBody::redacted(body, guard, injector.stream()),
        None => GateBody::stream(body, guard),
    };
    parts.extensions.clear();
    Ok(Response::from_parts(parts, body))
}

fn switch(
    mut response: Response<Incoming>,
    handshake: &websocket::Handshake,
    client: hyper::upgrade::OnUpgrade,
    injector: Option<Arc<Injector>>,
    guard: Guard,
) -> Result<Response<GateBody>, Denial> {
    if response.status().is_success() {
        // On the hop a 2xx would mean that the stream is open (RFC 8441 section 5).
        let detail = format!("the upstream answered {} to a WebSocket handshake", response.status());
        return Err(denial::of(Code::UpstreamResponse, detail));
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // It refused the handshake; its answer goes back as it is.
        return pass(response, injector.as_deref(), guard);
    }
    let server = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    if !handshake.is_answered(&mut parts.headers) {
        // What follows would be a raw stream to something that does not speak WebSocket.
        let detail = "the upstream switched protocols without proof of a WebSocket handshake".to_owned();
        return Err(denial::of(Code::UpstreamResponse, detail));
    }
    if injector.is_some() && parts.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        // Compressed messages hide an echo, like a coded body; none was offered.
        let detail = "the upstream used a WebSocket extension although none was offered".to_owned();
        return Err(denial::of(Code::UpstreamResponse, detail));
    }
    clean_response(&mut parts.headers, injector.as_deref())?;
    let redact = injector.map(|injector| injector.stream());
    tokio::spawn(async move {
        match tokio::try_join!(client, server) {
            Ok((client, server)) => {
                let carried = tunnel::carry(TokioIo::new(client), TokioIo::new(server), redact, &guard).await;
                if let Err(cut) = carried {
                    tracing::info!(%cut, "WebSocket closed");
                }
            }
            Err(error) => tracing::debug!(%error, "WebSocket broke off"),
        }
    });
    let mut answer = Response::new(GateBody::empty());
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}
