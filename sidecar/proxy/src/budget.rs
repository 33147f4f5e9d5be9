//! How many bytes of bodies each caller makes a gate hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawlock_policy::SpiffeId;

use crate::limits::DECIDED_BODIES;

type InUse = HashMap<SpiffeId, usize>;

/// Bytes in use, by caller. Callers that hold none take no place.
#[derive(Clone, Default)]
pub(crate) struct Budget(Arc<Mutex<InUse>>);

/// A share of a caller's bytes, given back when it is dropped.
pub(crate) struct Share {
    budget: Budget,
    identity: SpiffeId,
    bytes: usize,
}

impl Budget {
    fn lock(&self) -> MutexGuard<'_, InUse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A caller's share, without a byte yet.
    pub(crate) fn share(&self, identity: &SpiffeId) -> Share {
        Share { budget: self.clone(), identity: identity.clone(), bytes: 0 }
    }
}

impl Share {
    /// Takes more bytes. Says no when the caller would hold more than [`DECIDED_BODIES`].
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let mut in_use = self.budget.lock();
        let held = in_use.get(&self.identity).copied().unwrap_or_default();
        let Some(total) = held.checked_add(bytes).filter(|total| *total <= DECIDED_BODIES) else { return false };
        in_use.insert(self.identity.clone(), total);
        self.bytes += bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut in_use = self.budget.lock();
        if let Some(held) = in_use.get_mut(&self.identity) {
            *held = held.saturating_sub(self.bytes);
            if *held == 0 {
                in_use.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_s_bound_is_its_own_and_is_given_back() {
        let budget = Budget::default();
        let pod = |uid| SpiffeId::of_pod("acme.example", "acme", "default", uid).unwrap();
        let mut first = budget.share(&pod("1"));
        assert!(first.grow(DECIDED_BODIES - 1) && first.grow(1) && !first.grow(1));
        assert!(!budget.share(&pod("1")).grow(1));
        assert!(budget.share(&pod("2")).grow(DECIDED_BODIES));
        drop(first);
        assert!(budget.share(&pod("1")).grow(DECIDED_BODIES));
        assert!(budget.lock().is_empty());
    }
}
