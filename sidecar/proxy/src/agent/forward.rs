//! Deciding one request of the agent and passing it on to the gateway.

use clawlock_policy::{Code, Denial};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::AgentGate;
use crate::body::GateBody;
use crate::gate::{Asked, Asking, Held, Refused};
use crate::guard::Guard;
use crate::hop::HopError;
use crate::hop::client::OpenStream;
use crate::listen::Place;
use crate::request::{Target, clean_headers};
use crate::{denial, hop, problem, tunnel, websocket};

impl AgentGate {
    /// Decides a request to a target; allowed, it goes to the gateway.
    pub(super) async fn forward(&self, target: &Target, request: Request<Incoming>) -> Response<GateBody> {
        let asking = self.decider.asking(self.identity.clone());
        // Bound before it is matched on: the refusal's future then takes the place of this one.
        let passed = self.through(&asking, target, request).await;
        match passed {
            Ok(response) => response,
            Err(refused) => {
                let denial = Box::pin(self.decider.refuse(&asking, *refused)).await;
                problem::response(&denial, &asking.request_id)
            }
        }
    }

    async fn through(
        &self,
        asking: &Asking,
        target: &Target,
        mut request: Request<Incoming>,
    ) -> Result<Response<GateBody>, Box<Refused>> {
        let upgrade = websocket::is_upgrade(&request).then(|| {
            let place = request.extensions_mut().remove::<Place>();
            // The key is this hop's: the gateway makes one of its own for the upstream.
            let key = request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
            Switch { client: hyper::upgrade::on(&mut request), place, accept: key.as_ref().map(websocket::accept) }
        });
        let (parts, body) = request.into_parts();
        // The gateway records what is allowed, when it decides again; the permit ends here.
        let (asked, permit) = self.decider.decide(asking, target, parts, body).await?;
        let (question, policy) = (asked.question.clone(), asked.policy.clone());
        let refuse = |denial: Denial| Box::new(Refused { denial, action: question.record(&policy) });
        self.check_plugin(&asked.upstream, &policy).map_err(refuse)?;
        let mut guard = asked.guard(&self.decider, &permit);
        if let Some(recheck) = self.plugin_recheck(&asked.upstream) {
            guard = guard.and(recheck);
        }
        let outgoing = outgoing(asked, asking, &guard, upgrade.is_some()).map_err(refuse)?;
        let micros = asking.started.elapsed().as_micros();
        let outgoing = with_latency(outgoing, u32::try_from(micros).unwrap_or(u32::MAX));
        let response = guard
            .run(std::pin::pin!(self.hop.send(outgoing)))
            .await
            .map_err(|cut| refuse(denial::of(Code::NoMatch, cut.to_string())))?
            .map_err(|error| refuse(unavailable(&error)))?;
        match upgrade {
            Some(upgrade) if response.status() == StatusCode::OK => Ok(upgrade.answer(response, guard)),
            _ => pass(response, guard).map_err(refuse),
        }
    }
}

/// The agent learns that the gateway is gone, not where it is.
fn unavailable(error: &HopError) -> Denial {
    tracing::warn!(%error, "no answer from the gateway");
    denial::of(Code::GatewayUnavailable, "the tenant's gateway did not answer".to_owned())
}

fn outgoing(asked: Asked, asking: &Asking, guard: &Guard, websocket: bool) -> Result<Request<GateBody>, Denial> {
    let Asked { question, policy: _, upstream, headers, body, .. } = asked;
    let invalid = |why: http::Error| denial::of(Code::BadRequest, format!("cannot be forwarded: {why}"));
    let body = match body {
        _ if websocket => GateBody::empty(),
        Held::Whole(bytes) => GateBody::full(bytes),
        Held::Streaming(incoming) => GateBody::request(incoming, guard.clone()),
    };
    let uri = Uri::builder()
        .scheme(question.target.scheme.as_str())
        .authority(question.target.authority())
        .path_and_query(question.path_and_query())
        .build()
        .map_err(invalid)?;
    let mut request = Request::new(body);
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    *request.version_mut() = http::Version::HTTP_2;
    if websocket {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static(websocket::WEBSOCKET));
    } else {
        *request.method_mut() = question.method.clone();
    }
    let fields = request.headers_mut();
    fields.insert(hop::UPSTREAM, HeaderValue::try_from(&*upstream.name).map_err(|error| invalid(error.into()))?);
    fields.insert(hop::REQUEST_ID, HeaderValue::try_from(&*asking.request_id).map_err(|error| invalid(error.into()))?);
    Ok(request)
}

fn with_latency(mut request: Request<GateBody>, micros: u32) -> Request<GateBody> {
    request.headers_mut().insert(hop::AGENT_GATE_US, HeaderValue::from(micros));
    request
}

fn pass(response: Response<Incoming>, guard: Guard) -> Result<Response<GateBody>, Denial> {
    let (mut parts, body) = response.into_parts();
    clean_headers(&mut parts.headers).map_err(|denial| denial::of(Code::UpstreamResponse, denial.detail))?;
    let open = parts.extensions.remove::<OpenStream>();
    parts.extensions.clear();
    parts.version = http::Version::HTTP_11;
    Ok(Response::from_parts(parts, GateBody::stream(body, guard).holding(open)))
}

/// A WebSocket handshake of the agent that waits for the gateway's answer.
struct Switch {
    client: OnUpgrade,
    place: Option<Place>,
    accept: Option<HeaderValue>,
}

impl Switch {
    /// Answers the handshake and carries what follows.
    fn answer(self, mut response: Response<Incoming>, guard: Guard) -> Response<GateBody> {
        let Self { client, place, accept } = self;
        let gateway = hyper::upgrade::on(&mut response);
        let open = response.extensions_mut().remove::<OpenStream>();
        tokio::spawn(async move {
            let _held = (place, open);
            match tokio::try_join!(client, gateway) {
                Ok((client, gateway)) => {
                    let carried = tunnel::carry(TokioIo::new(client), TokioIo::new(gateway), None, &guard).await;
                    if let Err(cut) = carried {
                        tracing::info!(%cut, "WebSocket closed");
                    }
                }
                Err(error) => tracing::debug!(%error, "WebSocket broke off"),
            }
        });
        let mut answer = Response::new(GateBody::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let fields = answer.headers_mut();
        *fields = response.headers().clone();
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static(websocket::WEBSOCKET));
        if let Some(accept) = accept {
            fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        answer
    }
}
