//! `/healthz`, `/readyz` and `/metrics`. They only read, take no input, and answer the same to everyone.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::drain::Watcher;
use crate::metrics::Metrics;

/// Whether a gate can do its work.
pub trait Ready: Send + Sync + 'static {
    /// Why it cannot; `None` when it can.
    fn why_not(&self) -> impl Future<Output = Option<&'static str>> + Send;
}

/// Serves until the drain begins.
pub async fn serve<R: Ready>(listener: TcpListener, metrics: Arc<Metrics>, gate: Arc<R>, mut drain: Watcher) {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || ready(gate.clone())))
        .route("/metrics", get(move || scrape(metrics.clone())));
    let ended = axum::serve(listener, app).with_graceful_shutdown(async move { drain.begun().await }).await;
    if let Err(error) = ended {
        tracing::error!(%error, "the admin listener failed");
    }
}

async fn ready<R: Ready>(gate: Arc<R>) -> impl IntoResponse {
    match gate.why_not().await {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn scrape(metrics: Arc<Metrics>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.text())
}
