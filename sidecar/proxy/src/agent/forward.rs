//! Deciding one request of the agent and passing it on to the gateway.

use std::sync::Arc;

use clawlock_audit::ActionRecord;
use clawlock_policy::{Cause, Code, Denial};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::AgentGate;
use super::crosscheck::{self, AnswerCheck, Found, Reading, RequestCheck};
use crate::body::GateBody;
use crate::gate::{Asked, Asking, Held, Refused};
use crate::guard::Guard;
use crate::hop::HopError;
use crate::hop::client::OpenStream;
use crate::latch::Halt;
use crate::listen::Place;
use crate::llm::Api;
use crate::request::{Target, clean_headers};
use crate::{denial, hop, problem, tunnel, websocket};

impl AgentGate {
    /// Decides a request to a target; allowed, it goes to the gateway.
    pub(super) async fn forward(self: Arc<Self>, target: &Target, request: Request<Incoming>) -> Response<GateBody> {
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
        self: &Arc<Self>,
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
        let (mut asked, permit) = self.decider.decide(asking, target, parts, body).await?;
        let (question, policy) = (asked.question.clone(), asked.policy.clone());
        let refuse = |denial: Denial| Box::new(Refused { denial, action: question.record(&policy) });
        self.check_plugin(&asked.upstream, &policy).map_err(refuse)?;
        let mut guard = asked.guard(&self.decider, &permit);
        if let Some(recheck) = self.plugin_recheck(&asked.upstream) {
            guard = guard.and(recheck);
        }
        let reading = crosscheck::reading(&mut asked, &policy, upgrade.is_some()).map_err(refuse)?;
        let outgoing = outgoing(asked, asking, &guard, upgrade.is_some()).map_err(refuse)?;
        let (outgoing, found) = match reading {
            Reading::Not => (outgoing, None),
            Reading::As(api) => self.checked(api, outgoing, asking, question.record(&policy)),
        };
        let micros = asking.started.elapsed().as_micros();
        let outgoing = with_latency(outgoing, u32::try_from(micros).unwrap_or(u32::MAX));
        let known = found.as_ref().is_some_and(|found| found.get().is_some());
        let sent = if known { None } else { Some(guard.run(std::pin::pin!(self.hop.send(outgoing))).await) };
        // What was found in the body is why it broke off, or why it was not sent.
        match found.as_ref().and_then(|found| found.get()) {
            None => {}
            // It was recorded when it was found.
            Some(denial) if denial.code == Code::Disobeyed => {
                return Ok(problem::response(denial, &asking.request_id));
            }
            Some(denial) => return Err(refuse(denial.clone())),
        }
        let response = sent
            .ok_or_else(|| refuse(denial::of(Code::BadRequest, "the request was not sent".to_owned())))?
            .map_err(|cut| refuse(denial::of(Code::NoMatch, cut.to_string())))?
            .map_err(|error| refuse(unavailable(&error)))?;
        if let Some(field) = response.headers().get(hop::HALT) {
            let halt = Halt::from_field(field);
            let denial = halt.denial();
            self.decider.policies().halt(&self.identity, halt);
            // The answer of the gateway would be cut off, as everything open is.
            return Err(refuse(denial));
        }
        match (upgrade, reading) {
            (Some(upgrade), _) if response.status() == StatusCode::OK => Ok(upgrade.answer(response, guard)),
            (_, Reading::Not) => pass(response, guard).map_err(refuse),
            (_, Reading::As(api)) => self.pass_read(api, response, guard).map_err(refuse),
        }
    }

    /// Has a request to a model read on its way. Answers where it stands what was found.
    fn checked(
        self: &Arc<Self>,
        api: Api,
        request: Request<GateBody>,
        asking: &Asking,
        action: ActionRecord,
    ) -> (Request<GateBody>, Option<Found>) {
        let gate = self.clone();
        let asking = Asking::named(asking.request_id.clone(), self.identity.clone());
        // Called where the body is polled: the answer to it may have begun already.
        let on_disobeyed = Box::new(move |denial: Denial| {
            tracing::error!(detail = denial.detail, "the agent disobeyed and is halted");
            let halt = Halt { cause: Cause::Disobedience, detail: denial.detail.clone() };
            gate.decider.policies().halt(&gate.identity, halt);
            tokio::spawn(async move {
                gate.decider.refuse(&asking, Refused { denial, action }).await;
            });
        });
        let check = RequestCheck::new(self.crosscheck.clone(), api, on_disobeyed);
        let found = check.found();
        let (parts, body) = request.into_parts();
        // A body that is known already and must not go on: what was found says so.
        let body = body.inspected(Box::new(check)).unwrap_or_else(|_| GateBody::empty());
        (Request::from_parts(parts, body), Some(found))
    }

    /// Passes a model's answer on, read on its way.
    fn pass_read(&self, api: Api, response: Response<Incoming>, guard: Guard) -> Result<Response<GateBody>, Denial> {
        let check = AnswerCheck::new(self.crosscheck.clone(), api, &response)?;
        let response = pass(response, guard)?;
        let Some(check) = check else { return Ok(response) };
        let (parts, body) = response.into_parts();
        let body = body.inspected(Box::new(check));
        let body = body.map_err(|error| denial::of(Code::UpstreamResponse, error.to_string()))?;
        Ok(Response::from_parts(parts, body))
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
