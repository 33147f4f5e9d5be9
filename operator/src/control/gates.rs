//! What the tenants share of the control API: each has its own handshakes and unproven connections, so that
//! one tenant's flood keeps nobody else out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::limits::{HANDSHAKES, UNPROVEN};

/// Most tenants that are remembered at once; only such that are served come here.
const MAX_TENANTS: usize = 16_384;

/// What one tenant may have at once.
pub(super) struct Gate {
    /// Handshakes.
    pub(super) handshakes: Semaphore,
    /// Connections without a client certificate.
    pub(super) unproven: Arc<Semaphore>,
}

/// A gate per tenant.
#[derive(Default)]
pub(super) struct Gates(Mutex<HashMap<String, Arc<Gate>>>);

impl Gates {
    /// The gate of a tenant.
    pub(super) fn of(&self, tenant: &str) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= MAX_TENANTS {
            // One that nobody holds has nothing to remember.
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let new = || Gate { handshakes: Semaphore::new(HANDSHAKES), unproven: Arc::new(Semaphore::new(UNPROVEN)) };
        gates.entry(tenant.to_owned()).or_insert_with(|| Arc::new(new())).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenants_flood_keeps_nobody_else_out() {
        let gates = Gates::default();
        let flooded = gates.of("acme");
        let held: Vec<_> = (0..UNPROVEN).map(|_| flooded.unproven.try_acquire().unwrap()).collect();
        assert!(gates.of("acme").unproven.try_acquire().is_err());
        assert!(gates.of("other").unproven.try_acquire().is_ok());
        drop(held);
        assert!(gates.of("acme").unproven.try_acquire().is_ok());
    }
}
