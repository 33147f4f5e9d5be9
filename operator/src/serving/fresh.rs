//! Renewing assignments, only after a fresh read.
//!
//! A watch can hang without an error, and a replica that is cut off must not prolong old policy for ever.
//! So before assignments are signed again, the API server itself is asked: which state is stored, which
//! pods are there, and whether some replica leads. What differs from what this replica serves means that
//! its watches lag, and nothing is renewed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clawlock_compile::objects::names::{ROLE_LABEL, Role, TENANT_LABEL, tenant_state};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use tokio::sync::watch;

use super::{Board, Served};
use crate::cluster::Brief;
use crate::lease;
use crate::pki::signing::Signer;
use crate::store::StoredTenant;

/// How often assignments are renewed.
pub(crate) const PERIOD: Duration = Duration::from_secs(300);
/// Longest that all reads of one tenant may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Pods per page of a list.
const PAGE: u32 = 500;
/// Assignments that are renewed at once, and the pause between them: others must not wait for ten thousand.
const CHUNK: usize = 200;
const PAUSE: Duration = Duration::from_millis(100);
/// A Lease that was not renewed for this long says that nobody accepts changes. Many times its duration:
/// the clocks of two machines are compared here.
const LEADERLESS: SignedDuration = SignedDuration::from_secs(20 * 15);

/// Renews the assignments of all tenants.
pub(crate) struct Renewer {
    /// Asks the API server.
    pub(crate) client: Client,
    /// The release namespace.
    pub(crate) release: String,
    /// What is served.
    pub(crate) served: watch::Receiver<Arc<Served>>,
    /// Where assignments are.
    pub(crate) board: Arc<Board>,
    /// Signs them.
    pub(crate) signer: Signer,
}

impl Renewer {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let served = self.served.borrow().clone();
            if let Err(error) = bounded(self.check_leader()).await {
                tracing::warn!("no assignment is renewed: {error}");
                continue;
            }
            for (tenant, state) in &served.tenants {
                // A pod that comes after this look is not missed by the read.
                let known = self.board.agents(tenant);
                match bounded(self.read(tenant)).await {
                    Ok((stored, pods)) if stored.state.generation == state.generation => {
                        self.board.take_down(known.difference(&pods).cloned());
                        let confirmed: Vec<String> = known.intersection(&pods).cloned().collect();
                        for uids in confirmed.chunks(CHUNK) {
                            self.board.renew(uids, &self.signer);
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                    Ok((stored, _)) => tracing::warn!(
                        tenant,
                        served = state.generation,
                        stored = stored.state.generation,
                        "the watch lags; the assignments of this tenant are not renewed now"
                    ),
                    Err(error) => tracing::warn!(tenant, "the assignments of this tenant are not renewed: {error}"),
                }
            }
        }
    }

    async fn check_leader(&self) -> Result<(), String> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.release);
        let lease =
            api.get(lease::NAME).await.map_err(|error| format!("the Lease cannot be read: {}", Brief(&error)))?;
        let renewed = lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0);
        match renewed {
            Some(renewed) if Timestamp::now().duration_since(renewed) < LEADERLESS => Ok(()),
            _ => Err("no replica leads, so that changes are not accepted".to_owned()),
        }
    }

    /// What is stored of a tenant, and the UIDs of its agents, by reads that go past every cache.
    async fn read(&self, tenant: &str) -> Result<(StoredTenant, HashSet<String>), String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.release);
        let map = api.get(&tenant_state(tenant)).await.map_err(|error| Brief(&error).to_string())?;
        let stored = StoredTenant::read(&map, &self.signer).ok_or("its state has lost its label")??;
        let pods: Api<PartialObjectMeta<Pod>> = Api::all(self.client.clone());
        let selector = format!("{ROLE_LABEL}={},{TENANT_LABEL}={tenant}", Role::Agent.as_str());
        let mut params = ListParams::default().labels(&selector).limit(PAGE);
        let mut uids = HashSet::new();
        loop {
            let page = pods.list(&params).await.map_err(|error| Brief(&error).to_string())?;
            uids.extend(page.items.into_iter().filter_map(|pod| pod.metadata.uid));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok((stored, uids)),
            }
        }
    }
}

async fn bounded<T>(read: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(READ_TIMEOUT, read).await {
        Ok(result) => result,
        Err(_) => Err("the API server did not answer in time".to_owned()),
    }
}
