//! Schedules, written down as the documentation states them, with a calendar and zones of their own.

use clawlock_policy::document::{Day, ScheduleDoc, WindowDoc};

use super::world::Dice;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Zones whose rules are simple enough to stand here.
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"];
const DAYS: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
const TIMES: [&str; 12] =
    ["00:00", "00:30", "01:15", "01:45", "02:00", "02:15", "02:45", "03:00", "08:00", "18:00", "22:00", "23:59"];

pub(crate) fn random_schedule(dice: &mut Dice) -> ScheduleDoc {
    let window = |dice: &mut Dice| {
        let from = dice.pick(&TIMES);
        let to = loop {
            let to = if dice.roll(6) == 0 { "24:00" } else { dice.pick(&TIMES) };
            if to != from {
                break to;
            }
        };
        let mut days: Vec<Day> = DAYS.into_iter().filter(|_| dice.roll(2) == 0).collect();
        if days.is_empty() {
            days.push(dice.pick(&DAYS));
        }
        WindowDoc { days, from: from.to_owned(), to: to.to_owned() }
    };
    let windows = (0..1 + dice.roll(3)).map(|_| window(dice)).collect();
    let dates = ["2027-01-15", "2027-03-14", "2027-03-28", "2027-10-31", "2027-11-07", "2028-02-29"];
    let excluded_dates = dates.iter().filter(|_| dice.roll(4) == 0).map(|date| (*date).to_owned()).collect();
    ScheduleDoc { time_zone: dice.pick(&ZONES).to_owned(), windows, excluded_dates }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar, counted year by year.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let years: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before: i64 = months.iter().take(usize::try_from(month - 1).unwrap()).sum();
    years + before + day - 1
}

/// 0 is Monday: 1970-01-01 was a Thursday.
fn weekday(day: i64) -> usize {
    usize::try_from((day + 3).rem_euclid(7)).unwrap()
}

/// The first Sunday on or after a day.
fn sunday_from(day: i64) -> i64 {
    (day..).find(|day| weekday(*day) == 6).unwrap()
}

/// Seconds east of UTC.
fn offset(zone: &str, now: i64) -> i64 {
    let between = |summer: fn(i64) -> (i64, i64)| (2026..2031).map(summer).any(|(from, to)| (from..to).contains(&now));
    match zone {
        "UTC" => 0,
        "Asia/Kolkata" => 5 * HOUR + 30 * MINUTE,
        // The last Sundays of March and October at 01:00 UTC.
        "Europe/Berlin" => {
            let summer = |year| {
                let (march, october) = (sunday_from(day_number(year, 3, 25)), sunday_from(day_number(year, 10, 25)));
                (march * DAY + HOUR, october * DAY + HOUR)
            };
            if between(summer) { 2 * HOUR } else { HOUR }
        }
        // The second Sunday of March and the first of November, at 02:00 local time.
        "America/New_York" => {
            let summer = |year| {
                let (march, november) = (sunday_from(day_number(year, 3, 8)), sunday_from(day_number(year, 11, 1)));
                (march * DAY + 7 * HOUR, november * DAY + 6 * HOUR)
            };
            if between(summer) { -4 * HOUR } else { -5 * HOUR }
        }
        other => panic!("{other}"),
    }
}

fn seconds(text: &str) -> i64 {
    let (hours, minutes) = text.split_once(':').unwrap();
    hours.parse::<i64>().unwrap() * HOUR + minutes.parse::<i64>().unwrap() * MINUTE
}

/// Whether any of the last days has a window that has begun and has not ended.
pub(crate) fn is_open(doc: &ScheduleDoc, now_ms: u64) -> bool {
    let now = i64::try_from(now_ms / 1000).unwrap();
    let local = now + offset(&doc.time_zone, now);
    let today = local.div_euclid(DAY);
    let excluded: Vec<i64> = doc
        .excluded_dates
        .iter()
        .map(|date| {
            let parts: Vec<i64> = date.split('-').map(|part| part.parse().unwrap()).collect();
            day_number(parts[0], parts[1], parts[2])
        })
        .collect();
    (today - 2..=today).filter(|day| !excluded.contains(day)).any(|day| {
        doc.windows.iter().filter(|window| window.days.contains(&DAYS[weekday(day)])).any(|window| {
            let (from, mut to) = (seconds(&window.from), seconds(&window.to));
            if to < from {
                to += DAY;
            }
            (day * DAY + from..day * DAY + to).contains(&local)
        })
    })
}
