//! CONNECT: a tunnel whose inside is read as well. Nothing that the agent sends in it goes anywhere
//! before it was parsed as HTTP and decided, request by request.

use std::sync::Arc;

use clawlock_audit::ActionRecord;
use clawlock_audit::record::bounded;
use clawlock_policy::document::Scheme;
use clawlock_policy::{Code, Denial};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::AgentGate;
use super::http::serve;
use super::peek::{TLS_HANDSHAKE, peek};
use crate::body::GateBody;
use crate::denial;
use crate::drain::Watcher;
use crate::gate::{Refused, unknown};
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::request::{Target, named};

impl AgentGate {
    /// Answers a CONNECT: 200 only when its host and port are an upstream's.
    pub(super) async fn connect(self: Arc<Self>, mut request: Request<Incoming>, drain: Watcher) -> Response<GateBody> {
        let target = match self.connect_target(&request) {
            Ok(target) => target,
            Err(denial) => {
                return self.refuse(refused(denial, &named(request.uri()))).await;
            }
        };
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(self.tunnel(target, upgrade, drain));
        Response::new(GateBody::empty())
    }

    /// The upstream's triple that a CONNECT means. The scheme is what the upstream declares; whether the
    /// client then speaks it is seen at its first byte.
    fn connect_target(&self, request: &Request<Incoming>) -> Result<Target, Denial> {
        let bad = |what: &str| denial::of(Code::BadRequest, what.to_owned());
        if request.extensions().get::<hyper::ext::Protocol>().is_some() {
            return Err(denial::of(Code::MethodRefused, "extended CONNECT is not offered to agents".to_owned()));
        }
        let authority = request.uri().authority().ok_or_else(|| bad("CONNECT names no host and port"))?;
        if authority.as_str() == authority.host() {
            return Err(bad("CONNECT names no port"));
        }
        let target = Target::parse(Scheme::Https, authority)?;
        let (policy, _) = self.decider.policies().active(&self.identity)?;
        let known = |scheme| policy.upstream(scheme, &target.host, target.port).is_some();
        if known(Scheme::Https) {
            Ok(target)
        } else if known(Scheme::Http) {
            Ok(Target { scheme: Scheme::Http, ..target })
        } else {
            Err(unknown(&target, &policy))
        }
    }

    async fn tunnel(self: Arc<Self>, target: Target, upgrade: OnUpgrade, drain: Watcher) {
        let stream = match upgrade.await {
            Ok(stream) => TokioIo::new(stream),
            Err(error) => return tracing::debug!(%error, "tunnel broke off"),
        };
        let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, peek(stream)).await;
        let Ok(Ok(Some((first, stream)))) = first else {
            return tracing::debug!(target = %target.text(), "nothing came through the tunnel");
        };
        match (target.scheme, first == TLS_HANDSHAKE) {
            (Scheme::Https, true) => self.intercept(target, stream, drain).await,
            (Scheme::Http, false) => self.inside(target, stream, drain).await,
            (scheme, _) => {
                let wanted = if scheme == Scheme::Https { "TLS" } else { "HTTP in clear" };
                let detail = format!("{} takes {wanted}; something else came through CONNECT", target.text());
                self.refuse(refused(denial::of(Code::MethodRefused, detail), &target.text())).await;
            }
        }
    }

    async fn intercept<S>(self: Arc<Self>, target: Target, stream: S, drain: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = match self.ca.server_config(&target.host) {
            Ok(config) => config,
            Err(error) => {
                let detail = format!("no certificate for {}: {error}", target.host);
                self.refuse(refused(denial::of(Code::Overloaded, detail), &target.text())).await;
                return;
            }
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
            // A task of its own, so that the handshake's state is not kept as long as the tunnel; boxed, since
            // each function on the way would keep room for the stream.
            Ok(Ok(stream)) => drop(tokio::spawn(self.inside(target, Box::new(stream), drain))),
            Ok(Err(error)) => {
                // Most often a client that does not trust the CA, or asks for another name than CONNECT's.
                let detail = format!("the TLS handshake for {} failed: {error}", target.host);
                self.refuse(refused(denial::of(Code::AuthorityMismatch, detail), &target.text())).await;
            }
            Err(_) => tracing::debug!(target = %target.text(), "TLS handshake took too long"),
        }
    }

    async fn inside<S>(self: Arc<Self>, target: Target, stream: S, drain: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let target = Arc::new(target);
        serve(stream, drain, move |request| {
            let (gate, target) = (self.clone(), target.clone());
            async move { gate.forward(&target, request).await }
        })
        .await;
    }
}

fn refused(denial: Denial, target: &str) -> Refused {
    let action = ActionRecord::Http {
        upstream: None,
        operation: None,
        method: "CONNECT".to_owned(),
        target: bounded(target),
        path: String::new(),
    };
    Refused { denial, action }
}
