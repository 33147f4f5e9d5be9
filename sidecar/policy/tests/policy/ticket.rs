//! Trusted time: a ticket that has ended stays dead.

use clawlock_policy::document::Assignment;
use clawlock_policy::ticket::{Reading, TrustedTime};
use proptest::prelude::*;

use crate::fixtures;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const ISSUED: u64 = 1_800_000_000_000;

fn ticket() -> Assignment {
    Assignment { issued_at_ms: ISSUED, not_after_ms: ISSUED + 12 * HOUR, ..fixtures::assignment(&[]) }
}

/// The clocks of a machine that was booted a day before [`ISSUED`] and whose wall clock is right.
fn after(ms: u64) -> Reading {
    Reading { wall_ms: ISSUED + ms, boot_ms: DAY + ms }
}

fn wall_back(reading: Reading, ms: u64) -> Reading {
    Reading { wall_ms: reading.wall_ms - ms, ..reading }
}

#[test]
fn a_ticket_lives_until_it_ends() {
    let time = TrustedTime::new();
    time.install(ISSUED, after(0));
    assert!(!time.is_expired(&ticket(), after(12 * HOUR - 1)));
    assert!(time.is_expired(&ticket(), after(12 * HOUR)));
}

#[test]
fn a_wall_clock_set_back_two_days_revives_nothing() {
    let time = TrustedTime::new();
    time.install(ISSUED, after(0));
    assert!(time.is_expired(&ticket(), wall_back(after(13 * HOUR), 2 * DAY)), "before anybody saw it expired");
    assert!(time.is_expired(&ticket(), after(13 * HOUR)));
    assert!(time.is_expired(&ticket(), wall_back(after(13 * HOUR), 2 * DAY)));
    assert!(time.is_expired(&ticket(), wall_back(after(14 * HOUR), 2 * DAY)));
}

#[test]
fn a_wall_clock_that_was_always_wrong_does_not_help() {
    let time = TrustedTime::new();
    time.install(ISSUED, wall_back(after(0), 2 * DAY));
    assert_eq!(time.now_ms(wall_back(after(HOUR), 2 * DAY)), ISSUED + HOUR);
    assert!(!time.is_expired(&ticket(), wall_back(after(11 * HOUR), 2 * DAY)));
    assert!(time.is_expired(&ticket(), wall_back(after(12 * HOUR), 2 * DAY)));
}

#[test]
fn without_a_ticket_the_wall_clock_is_all_there_is() {
    let time = TrustedTime::default();
    assert_eq!(time.now_ms(after(5)), ISSUED + 5);
    assert_eq!(time.now_ms(wall_back(after(6), HOUR)), ISSUED + 5, "but it never goes back");
}

#[test]
fn an_older_issue_time_takes_nothing_back() {
    let time = TrustedTime::new();
    time.install(ISSUED, wall_back(after(0), DAY));
    time.install(ISSUED - DAY, wall_back(after(10), DAY));
    assert_eq!(time.now_ms(wall_back(after(20), DAY)), ISSUED + 20);
}

#[test]
fn a_renewed_ticket_lives() {
    let time = TrustedTime::new();
    time.install(ISSUED, after(0));
    let now = wall_back(after(13 * HOUR), 2 * DAY);
    assert!(time.is_expired(&ticket(), now));
    time.install(ISSUED + 13 * HOUR, now);
    let renewed = Assignment { not_after_ms: ISSUED + 25 * HOUR, ..ticket() };
    assert!(!time.is_expired(&renewed, now));
}

#[test]
fn extreme_readings_do_not_wrap() {
    let time = TrustedTime::new();
    time.install(u64::MAX, Reading { wall_ms: 0, boot_ms: 0 });
    assert!(time.is_expired(&ticket(), Reading { wall_ms: 0, boot_ms: 0 }));
    let time = TrustedTime::new();
    time.install(0, Reading { wall_ms: 0, boot_ms: u64::MAX });
    assert_eq!(time.now_ms(Reading { wall_ms: 7, boot_ms: 0 }), 7);
    assert_eq!(time.now_ms(Reading { wall_ms: u64::MAX, boot_ms: u64::MAX }), u64::MAX);
}

proptest! {
    #[test]
    fn time_never_goes_back(readings in prop::collection::vec((any::<u64>(), any::<u64>(), any::<Option<u64>>()), 1..20)) {
        let time = TrustedTime::new();
        let mut last = 0;
        for (wall_ms, boot_ms, issued) in readings {
            let reading = Reading { wall_ms, boot_ms };
            if let Some(issued) = issued {
                time.install(issued, reading);
            }
            let now = time.now_ms(reading);
            prop_assert!(now >= last && now >= wall_ms);
            last = now;
        }
    }
}
