//! Schedules: windows, midnight, excluded dates, changes of clocks, and what is none.

use clawlock_policy::document::{Day, RuleDoc, ScheduleDoc, Tier, WindowDoc};
use clawlock_policy::explain::Outcome;
use clawlock_policy::schedule::Schedule;
use clawlock_policy::{Context, Facts, Policy, Verdict, decide, explain};

use crate::fixtures::*;

const WORK: [Day; 5] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
const ALL: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

fn doc(zone: &str, days: &[Day], from: &str, to: &str) -> ScheduleDoc {
    let window = WindowDoc { days: days.to_vec(), from: from.into(), to: to.into() };
    ScheduleDoc { time_zone: zone.into(), windows: vec![window], excluded_dates: vec![] }
}

fn ms(instant: &str) -> u64 {
    let instant: jiff::Timestamp = instant.parse().unwrap();
    instant.as_millisecond().try_into().unwrap()
}

/// Instants with whether the schedule is open then.
fn check(doc: &ScheduleDoc, expected: &[(&str, bool)]) {
    let schedule = Schedule::parse(doc).unwrap();
    for (instant, open) in expected {
        assert_eq!(schedule.is_open(ms(instant)), Some(*open), "{instant} {doc:?}");
    }
}

#[test]
fn windows_are_of_local_time_and_end_before_their_end() {
    check(
        &doc("America/New_York", &WORK, "08:00", "18:00"),
        &[
            ("2027-01-15T12:59:59.999Z", false),
            ("2027-01-15T13:00:00Z", true),
            ("2027-01-15T22:59:59.999Z", true),
            ("2027-01-15T23:00:00Z", false),
            // In summer the same local times are another hour.
            ("2027-07-15T11:59:59Z", false),
            ("2027-07-15T12:00:00Z", true),
            // Saturday.
            ("2027-01-16T15:00:00Z", false),
        ],
    );
    check(
        &doc("UTC", &[Day::Fri], "00:00", "24:00"),
        &[("2027-01-15T23:59:59.999Z", true), ("2027-01-16T00:00:00Z", false)],
    );
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let mut night = doc("UTC", &[Day::Fri], "22:00", "06:00");
    let nights = [
        ("2027-01-15T05:59:00Z", false),
        ("2027-01-15T22:00:00Z", true),
        ("2027-01-16T05:59:59Z", true),
        ("2027-01-16T06:00:00Z", false),
        ("2027-01-16T22:00:00Z", false),
    ];
    check(&night, &nights);
    // The excluded Saturday begins no window, but the one of Friday still ends on it.
    night.excluded_dates = vec!["2027-01-16".into()];
    check(&night, &nights);
    night.excluded_dates = vec!["2027-01-15".into()];
    check(&night, &nights.map(|(instant, _)| (instant, false)));
}

#[test]
fn local_times_that_are_skipped_never_come() {
    // New York, 2027-03-14: 02:00 is 03:00, at 07:00 UTC.
    let skipped = doc("America/New_York", &ALL, "02:15", "02:45");
    check(
        &skipped,
        &[("2027-03-14T06:59:59Z", false), ("2027-03-14T07:00:00Z", false), ("2027-03-14T07:30:00Z", false)],
    );
    let shorter = doc("America/New_York", &ALL, "01:30", "02:30");
    check(&shorter, &[("2027-03-14T06:30:00Z", true), ("2027-03-14T06:59:59Z", true), ("2027-03-14T07:00:00Z", false)]);
    let into = doc("America/New_York", &ALL, "02:30", "04:00");
    check(&into, &[("2027-03-14T06:59:59Z", false), ("2027-03-14T07:00:00Z", true), ("2027-03-14T08:00:00Z", false)]);
}

#[test]
fn local_times_that_come_twice_are_in_the_window_twice() {
    // New York, 2027-11-07: 02:00 is 01:00 again, at 06:00 UTC.
    check(
        &doc("America/New_York", &ALL, "01:15", "01:45"),
        &[
            ("2027-11-07T05:14:59Z", false),
            ("2027-11-07T05:15:00Z", true),
            ("2027-11-07T05:45:00Z", false),
            ("2027-11-07T06:14:59Z", false),
            ("2027-11-07T06:15:00Z", true),
            ("2027-11-07T06:45:00Z", false),
        ],
    );
    // Lord Howe Island changes by half an hour, Kiritimati is fourteen hours ahead, summer is in January.
    check(
        &doc("Australia/Lord_Howe", &ALL, "01:45", "02:00"),
        &[("2027-04-03T14:50:00Z", true), ("2027-04-03T15:10:00Z", false), ("2027-04-03T15:20:00Z", true)],
    );
    check(&doc("Pacific/Kiritimati", &[Day::Sat], "00:00", "24:00"), &[("2027-01-15T10:00:00Z", true)]);
    check(&doc("Australia/Sydney", &ALL, "19:00", "20:00"), &[("2027-01-15T08:00:00Z", true)]);
}

#[test]
fn what_is_no_schedule_is_refused_with_its_place() {
    let fine = || doc("UTC", &WORK, "08:00", "18:00");
    let window = |from: &str, to: &str| doc("UTC", &WORK, from, to);
    let dates = |dates: &[&str]| ScheduleDoc { excluded_dates: strings(dates), ..fine() };
    let zone = |name: &str| ScheduleDoc { time_zone: name.into(), ..fine() };
    let cases: Vec<(ScheduleDoc, &str)> = vec![
        (zone("Mars/Olympus"), "timeZone: no time zone of the IANA database; write one such as Europe/Berlin, or UTC"),
        (zone("europe/berlin"), "timeZone: this time zone is written Europe/Berlin"),
        (zone(""), "timeZone: no time zone"),
        (zone("+01:00"), "timeZone: no time zone"),
        (zone("../../etc/passwd"), "timeZone: no time zone"),
        (ScheduleDoc { windows: vec![], ..fine() }, "windows: write 1 to 32 windows"),
        (ScheduleDoc { windows: vec![fine().windows[0].clone(); 33], ..fine() }, "windows: write 1 to 32 windows"),
        (doc("UTC", &[], "08:00", "18:00"), "windows[0].days: name the days"),
        (doc("UTC", &[Day::Mon, Day::Mon], "08:00", "18:00"), "windows[0].days: name the days"),
        (window("08:00", "08:00"), "windows[0].to: the window never opens"),
        (window("24:00", "08:00"), "windows[0].from: no time"),
        (window("8:00", "18:00"), "windows[0].from: no time"),
        (window("08:00", "24:01"), "windows[0].to: no time"),
        (window("08:00", "18:60"), "windows[0].to: no time"),
        (window("08:00", "+8:00"), "windows[0].to: no time"),
        (window("08:00", "18"), "windows[0].to: no time"),
        (dates(&["2027-02-29"]), "excludedDates[0]: no date"),
        (dates(&["20270228"]), "excludedDates[0]: no date"),
        (dates(&["2027-02-28T00:00"]), "excludedDates[0]: no date"),
        (dates(&["2027-01-01", "2027-01-01"]), "excludedDates[1]: this date stands here twice"),
        (dates(&["2027-01-01"; 367]), "excludedDates: at most 366"),
    ];
    for (doc, expected) in cases {
        let error = Schedule::parse(&doc).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\n{doc:?}");
        let scheduled = RuleDoc { schedule: Some(doc), ..rule("r", tools(&["t"]), Tier::Block) };
        assert!(try_build(vec![tenant(vec![]), enforce("acme/p", vec![scheduled])]).is_err());
    }
}

fn at(policy: &Policy, tool: &str, instant: &str) -> Verdict {
    let facts = Facts { context: Context { now_ms: ms(instant) }, ..tool_facts(policy.caller(), tool, "{}") };
    decide(policy, &facts)
}

fn hours(name: &str, tool: &str, tier: Tier) -> RuleDoc {
    let schedule = Some(doc("Europe/Berlin", &WORK, "08:00", "18:00"));
    RuleDoc { schedule, ..rule(name, tools(&[tool]), tier) }
}

#[test]
fn outside_of_its_windows_a_rule_is_not_there_whatever_its_tier() {
    let rules = vec![
        hours("block", "a", Tier::Block),
        hours("ask", "b", Tier::Ask),
        hours("auto", "c", Tier::Auto),
        rule("a", tools(&["a", "b"]), Tier::Auto),
    ];
    let policy = build(vec![tenant(vec![]), enforce("acme/p", rules)]);
    let (day, night) = ("2027-01-15T10:00:00Z", "2027-01-15T20:00:00Z");
    let seen = |instant: &str| ["a", "b", "c"].map(|tool| short(&at(&policy, tool, instant)));
    assert_eq!(seen(day), ["deny TierBlock", "ask ApprovalUnavailable", "allow"]);
    assert_eq!(seen(night), ["allow", "allow", "deny NoMatch"]);
    let Verdict::Deny(denial) = at(&policy, "c", night) else { panic!() };
    assert!(denial.detail.ends_with("rule auto of policy acme/p holds at other times only, by its schedule"));
    let facts = Facts { context: Context { now_ms: ms(night) }, ..tool_facts(policy.caller(), "c", "{}") };
    assert_eq!(explain(&policy, &facts).policies[0].rules[2].outcome, Outcome::NotNow);
    assert_eq!(policy.open_schedules(ms(day)), [true], "rules share what they have in common");
    assert_eq!(policy.open_schedules(ms(night)), [false]);
}

/// Denied on doubt: a rule that forbids counts, one that allows does not.
#[test]
fn a_time_beyond_the_calendar_fails_the_rule() {
    let facts_of = |policy: &Policy| {
        let facts = Facts { context: Context { now_ms: u64::MAX }, ..tool_facts(policy.caller(), "t", "{}") };
        short(&decide(policy, &facts))
    };
    let all = || rule("all", tools(&["*"]), Tier::Auto);
    let policy = |rules| build(vec![tenant(vec![]), enforce("acme/p", rules)]);
    assert_eq!(facts_of(&policy(vec![hours("r", "t", Tier::Block), all()])), "deny ConditionError");
    assert_eq!(facts_of(&policy(vec![hours("r", "t", Tier::Auto)])), "deny NoMatch");
}
