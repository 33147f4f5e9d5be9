//! `/healthz`, `/startupz`, `/readyz` and `/metrics`. They only read, take no input, and answer the same to everyone.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::drain::Watcher;
use crate::limits::{ADMIN_CONNECTIONS, HEAD_TIMEOUT, HEADER_FIELDS};
use crate::listen;
use crate::metrics::Metrics;

/// Whether a gate can do its work.
pub trait Ready: Send + Sync + 'static {
    /// Why it cannot; `None` when it can.
    fn why_not(&self) -> impl Future<Output = Option<&'static str>> + Send;

    /// Why others must still wait for its start; `None` from then on.
    fn why_not_started(&self) -> impl Future<Output = Option<&'static str>> + Send {
        async { None }
    }
}

/// Serves until the drain begins.
pub async fn serve<R: Ready>(listener: TcpListener, metrics: Arc<Metrics>, gate: Arc<R>, drain: Watcher) {
    let (scraped, starting) = (metrics.clone(), gate.clone());
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/startupz", get(move || started(starting.clone())))
        .route("/readyz", get(move || ready(gate.clone())))
        .route("/metrics", get(move || scrape(scraped.clone())))
        .layer(from_fn(no_pages));
    listen::accept(listener, ADMIN_CONNECTIONS, metrics, drain, move |tcp, drain| connection(app.clone(), tcp, drain))
        .await;
}

async fn connection(app: Router, tcp: TcpStream, mut drain: Watcher) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(HEADER_FIELDS);
    let connection = builder.serve_connection(TokioIo::new(tcp), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}

/// A page that rebinds its name to this port always says where it comes from; probes and scrapers do not.
async fn no_pages(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) || request.headers().contains_key("sec-fetch-site") {
        return (StatusCode::FORBIDDEN, "web pages may not ask\n").into_response();
    }
    next.run(request).await
}

async fn ready<R: Ready>(gate: Arc<R>) -> impl IntoResponse {
    answer("ready", gate.why_not().await)
}

async fn started<R: Ready>(gate: Arc<R>) -> impl IntoResponse {
    answer("started", gate.why_not_started().await)
}

fn answer(what: &str, why_not: Option<&'static str>) -> (StatusCode, String) {
    match why_not {
        None => (StatusCode::OK, format!("{what}\n")),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not {what}: {why}\n")),
    }
}

async fn scrape(metrics: Arc<Metrics>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.text())
}
