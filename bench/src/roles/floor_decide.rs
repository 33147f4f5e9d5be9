//! Minimal counterpart of `/v1/decide`: a hyper server on a Unix socket that parses and serialises
//! the same JSON and appends the same record. It decides nothing.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use clawlock_audit::{ActionRecord, Gate};
use clawlock_proxy::agent::{API_VERSION, DecideAnswer, DecideRequest, Decision};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

use super::log::Log;
use crate::child::Ready;

/// Serves.
pub(super) async fn run(dir: &Path) -> Result<(), String> {
    let log = Arc::new(Log::create(dir, "floor-decide.jsonl", Gate::Agent)?);
    let socket = dir.join("floor-decide.sock");
    let listener = UnixListener::bind(&socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    Ready { socket: Some(socket), ..Ready::default() }.announce()?;
    loop {
        let (stream, _) = listener.accept().await.map_err(|e| format!("cannot accept: {e}"))?;
        let log = log.clone();
        let service = service_fn(move |request| answer(log.clone(), request));
        tokio::spawn(async move {
            if let Err(e) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                eprintln!("floor-decide: {e}");
            }
        });
    }
}

async fn answer(log: Arc<Log>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, String> {
    let body = request.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    let asked: DecideRequest<'_> = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
    if asked.version != API_VERSION || !asked.args.get().starts_with('{') {
        return Err("not a decide request of version 1".to_owned());
    }
    log.append(Some(&asked.request_id), ActionRecord::Tool { tool: asked.tool.into_owned(), call_id: None })?;
    let answer = DecideAnswer {
        version: API_VERSION,
        request_id: &asked.request_id,
        decision: Decision::Allow,
        policy: Some("acme/bench"),
        rule: Some("allowed"),
        code: None,
        detail: None,
        hint: None,
        message: None,
        retryable: None,
        retry_after: None,
    };
    let bytes = serde_json::to_vec(&answer).map_err(|e| e.to_string())?;
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes.into()))
        .map_err(|e| e.to_string())
}
