//! Tells the operator what is heard of the guard plugin, for the tenant's status: whenever that changes, and again when a
//! stream begins.

use std::sync::Arc;

use clawlock_control::message::{self, MAX_DETAIL, ToServer};
use clawlock_proxy::agent::{AgentGate, PluginState};
use clawlock_proxy::limits::HEARTBEAT_CHECK;
use tokio::sync::{mpsc, watch};

use crate::receiver::Known;

/// Tells it. Runs until it is dropped.
pub(crate) async fn report(gate: Arc<AgentGate>, known: watch::Receiver<Known>, reports: mpsc::Sender<ToServer>) {
    let mut told = None;
    loop {
        let now = (known.borrow().synced, gate.plugin());
        // Full while the stream is away: what is true by then is told.
        if told.as_ref() != Some(&now) && reports.try_send(said(&now.1)).is_ok() {
            told = Some(now);
        }
        tokio::time::sleep(HEARTBEAT_CHECK).await;
    }
}

fn said(state: &PluginState) -> ToServer {
    let (state, mut detail) = match state {
        PluginState::Optional => (message::PluginState::Optional, String::new()),
        PluginState::Awaited => (message::PluginState::Awaited, String::new()),
        PluginState::Reporting => (message::PluginState::Reporting, String::new()),
        PluginState::Silent => (message::PluginState::Silent, String::new()),
        PluginState::Disobeyed(detail) => (message::PluginState::Disobeyed, detail.clone()),
    };
    let end = (0..=MAX_DETAIL).rev().find(|at| detail.is_char_boundary(*at)).unwrap_or_default();
    detail.truncate(end);
    ToServer::Plugin { state, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut() {
        let ToServer::Plugin { state, detail } = said(&PluginState::Disobeyed("é".repeat(MAX_DETAIL))) else {
            panic!("another message")
        };
        assert_eq!(state, message::PluginState::Disobeyed);
        assert_eq!(detail, "é".repeat(MAX_DETAIL / 2));
        let short = said(&PluginState::Disobeyed("short".to_owned()));
        assert!(matches!(short, ToServer::Plugin { detail, .. } if detail == "short"));
    }
}
