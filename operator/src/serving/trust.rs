//! Whom the pods of each tenant trust: the roots of the tenant's CA, and the keys that sign policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use clawlock_compile::objects::names::{TENANT_LABEL, tenant_ca_secret};
use tokio::sync::watch;

use crate::pki::tenant::TenantCa;
use crate::world::World;

/// The CA of each tenant, by name.
pub(crate) type Authorities = Arc<BTreeMap<String, Arc<TenantCa>>>;

/// Keeps the CAs at what their Secrets say. A Secret that is gone or broken takes nothing away: pods trust
/// what it held.
pub(crate) struct Trust {
    world: Arc<World>,
    authorities: watch::Sender<Authorities>,
}

impl Trust {
    /// Knows nothing yet.
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, authorities: watch::channel(Authorities::default()).0 }
    }

    /// The CAs.
    pub(crate) fn authorities(&self) -> watch::Receiver<Authorities> {
        self.authorities.subscribe()
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut changed = self.world.secret_bell.listen();
        let mut versions: BTreeMap<String, Option<String>> = BTreeMap::new();
        loop {
            let mut all = BTreeMap::clone(&self.authorities.borrow());
            let mut moved = false;
            for secret in self.world.secrets.all() {
                let name = secret.metadata.name.clone().unwrap_or_default();
                let tenant = secret.metadata.labels.as_ref().and_then(|labels| labels.get(TENANT_LABEL)).cloned();
                let Some(tenant) = tenant.filter(|tenant| tenant_ca_secret(tenant) == name) else { continue };
                let version = secret.metadata.resource_version.clone();
                if versions.get(&tenant) == Some(&version) {
                    continue;
                }
                versions.insert(tenant.clone(), version);
                match TenantCa::read(&secret) {
                    Ok(ca) => {
                        all.insert(tenant, Arc::new(ca));
                        moved = true;
                    }
                    Err(error) => tracing::error!("{error}; what it held before stays in use"),
                }
            }
            if moved {
                self.authorities.send_replace(Arc::new(all));
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
