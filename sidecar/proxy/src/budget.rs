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

    /// Takes bytes for a caller; `None` when it would hold more than [`DECIDED_BODIES`].
    pub(crate) fn take(&self, identity: &SpiffeId, bytes: usize) -> Option<Share> {
        let mut in_use = self.lock();
        let held = in_use.get(identity).copied().unwrap_or_default();
        let total = held.checked_add(bytes).filter(|total| *total <= DECIDED_BODIES)?;
        in_use.insert(identity.clone(), total);
        Some(Share { budget: self.clone(), identity: identity.clone(), bytes })
    }
}

impl Share {
    /// Gives back what is beyond `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        self.give_back(back);
    }

    fn give_back(&mut self, bytes: usize) {
        let mut in_use = self.budget.lock();
        if let Some(held) = in_use.get_mut(&self.identity) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                in_use.remove(&self.identity);
            }
        }
        self.bytes -= bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_s_bound_is_its_own_and_is_given_back() {
        let budget = Budget::default();
        let pod = |uid| SpiffeId::of_pod("acme.example", "acme", "default", uid).unwrap();
        let mut first = budget.take(&pod("1"), DECIDED_BODIES).unwrap();
        assert!(budget.take(&pod("1"), 1).is_none());
        assert!(budget.take(&pod("2"), DECIDED_BODIES).is_some());
        first.shrink(10);
        assert!(budget.take(&pod("1"), DECIDED_BODIES - 10).is_some());
        drop(first);
        assert!(budget.lock().is_empty());
    }
}
