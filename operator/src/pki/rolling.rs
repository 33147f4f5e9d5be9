//! How a tenant's CA is rolled, as a pure function of what there is and the time.
//!
//! ```text
//! Stable ──asked, or old──► Distributing: both roots are trusted, the current one issues
//!   ▲                            │ after DISTRIBUTE
//!   └──after the last leaf──── Draining: both roots are trusted, the new one issues
//! ```
//! So no leaf is ever presented to someone who does not trust its root yet, and no root is dropped while a
//! leaf under it is alive.

use std::time::Duration;

use crate::clock::millis;

/// How long both roots are handed out before the new one issues. A stream that is alive hears of the new
/// root at once; one that died unnoticed is missed after 60 s of silence, and reconnects.
pub(crate) const DISTRIBUTE: Duration = Duration::from_secs(90);

/// How long a tenant's CA holds.
pub(crate) const LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// A CA older than this is rolled without being asked: two thirds of its life.
pub(crate) const ROLL_AFTER: Duration = Duration::from_secs(243 * 86_400);

/// After the end of the last leaf, the old root stays this long: clocks differ.
const DRAIN_MARGIN: Duration = Duration::from_secs(600);

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// When the current CA was made, in milliseconds since the Unix epoch.
    pub(crate) current_since_ms: u64,
    /// Since when the next CA is handed out, when there is one.
    pub(crate) next_since_ms: Option<u64>,
    /// Until when the previous root is needed, when there is one.
    pub(crate) previous_until_ms: Option<u64>,
    /// What was asked for when the CA was rolled last.
    pub(crate) rolled_for: Option<String>,
    /// The end of the last leaf that the current CA may have issued.
    pub(crate) last_leaf_end_ms: u64,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Nothing before this time; `None`: nothing at all.
    Wait(Option<u64>),
    /// Make the next CA and hand out its root.
    MakeNext,
    /// Issue by the next CA. The previous root is needed until this time.
    IssueByNext {
        /// In milliseconds since the Unix epoch.
        previous_until_ms: u64,
    },
    /// Drop the previous root.
    DropPrevious,
}

/// Decides. `asked` is what the tenant's annotation says; each new value asks for one roll.
pub(crate) fn decide(facts: &Facts, asked: Option<&str>, now_ms: u64) -> Move {
    let Facts { current_since_ms, next_since_ms, previous_until_ms, rolled_for, last_leaf_end_ms } = facts;
    if let Some(since_ms) = next_since_ms {
        let from_ms = since_ms.saturating_add(millis(DISTRIBUTE));
        // A previous root that is still needed has the only place for one.
        let from_ms = previous_until_ms.map_or(from_ms, |until_ms| from_ms.max(until_ms));
        if now_ms >= from_ms {
            let previous_until_ms = last_leaf_end_ms.max(&now_ms).saturating_add(millis(DRAIN_MARGIN));
            return Move::IssueByNext { previous_until_ms };
        }
        return Move::Wait(Some(from_ms));
    }
    if let Some(until_ms) = previous_until_ms {
        return if now_ms >= *until_ms { Move::DropPrevious } else { Move::Wait(Some(*until_ms)) };
    }
    let old_ms = current_since_ms.saturating_add(millis(ROLL_AFTER));
    let is_asked = asked.is_some() && asked != rolled_for.as_deref();
    if is_asked || now_ms >= old_ms { Move::MakeNext } else { Move::Wait(Some(old_ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn stable() -> Facts {
        Facts { current_since_ms: NOW, last_leaf_end_ms: NOW + 60_000, ..Facts::default() }
    }

    #[test]
    fn a_young_ca_stays() {
        assert_eq!(decide(&stable(), None, NOW), Move::Wait(Some(NOW + millis(ROLL_AFTER))));
        assert_eq!(decide(&stable(), None, NOW + millis(ROLL_AFTER)), Move::MakeNext);
    }

    #[test]
    fn asking_rolls_once_per_value() {
        assert_eq!(decide(&stable(), Some("1"), NOW), Move::MakeNext);
        let rolled = Facts { rolled_for: Some("1".to_owned()), ..stable() };
        assert!(matches!(decide(&rolled, Some("1"), NOW), Move::Wait(_)));
        assert_eq!(decide(&rolled, Some("2"), NOW), Move::MakeNext);
        assert!(matches!(decide(&rolled, None, NOW), Move::Wait(_)));
    }

    #[test]
    fn the_next_ca_issues_only_after_its_root_was_handed_out() {
        let facts = Facts { next_since_ms: Some(NOW), ..stable() };
        let from = NOW + millis(DISTRIBUTE);
        assert_eq!(decide(&facts, Some("2"), from - 1), Move::Wait(Some(from)));
        let until = from + millis(DRAIN_MARGIN);
        assert_eq!(decide(&facts, Some("2"), from), Move::IssueByNext { previous_until_ms: until });
    }

    #[test]
    fn the_old_root_stays_until_its_last_leaf_is_dead() {
        let last = NOW + 86_400_000;
        let facts = Facts { next_since_ms: Some(NOW), last_leaf_end_ms: last, ..stable() };
        let Move::IssueByNext { previous_until_ms } = decide(&facts, None, NOW + millis(DISTRIBUTE)) else { panic!() };
        assert!(previous_until_ms > last);
        let draining = Facts { previous_until_ms: Some(previous_until_ms), ..stable() };
        assert_eq!(decide(&draining, None, previous_until_ms - 1), Move::Wait(Some(previous_until_ms)));
        assert_eq!(decide(&draining, None, previous_until_ms), Move::DropPrevious);
    }

    #[test]
    fn a_roll_that_is_asked_for_while_one_goes_on_waits() {
        let draining = Facts { previous_until_ms: Some(NOW + 5), ..stable() };
        assert_eq!(decide(&draining, Some("2"), NOW), Move::Wait(Some(NOW + 5)));
        let both = Facts { next_since_ms: Some(0), previous_until_ms: Some(NOW + 5), ..stable() };
        assert_eq!(decide(&both, Some("2"), NOW), Move::Wait(Some(NOW + 5)));
    }
}
