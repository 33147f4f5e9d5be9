//! When a rule holds: windows of local time.
//!
//! An instant has exactly one local time in a zone, so a window holds at an instant when the local time then
//! lies in it. What follows: local times that a change of clocks skips never come, and a window that lies in
//! them does not open; local times that come twice are in the window twice; a window is as much shorter or
//! longer as the clocks say. The zones are those of the bundled database: two gates of one build never differ,
//! and nothing is read from the machine.

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};

use crate::document::{Day, ScheduleDoc, WindowDoc};

/// Most windows of a schedule: seven days with a few breaks each.
pub const MAX_WINDOWS: usize = 32;

/// Most excluded dates of a schedule: a year of them.
pub const MAX_EXCLUDED: usize = 366;

/// Minutes of a day without a change of clocks.
const DAY: u16 = 24 * 60;

/// Why a schedule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ScheduleError {
    /// The field, for example `windows[0].to`.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

fn refuse<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, ScheduleError> {
    Err(ScheduleError { field: field.into(), reason: reason.into() })
}

/// When a rule holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    zone: TimeZone,
    windows: Vec<Window>,
    excluded: BTreeSet<Date>,
}

/// A window belongs to the days on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    days: Vec<Weekday>,
    /// Minutes since midnight; one that ends before it begins ends on the next day.
    from: u16,
    to: u16,
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// When the zone is not known, a time or date is none, or a window or the whole never opens.
    pub fn parse(doc: &ScheduleDoc) -> Result<Self, ScheduleError> {
        let ScheduleDoc { time_zone, windows, excluded_dates } = doc;
        let zone = zone(time_zone)?;
        if windows.is_empty() || windows.len() > MAX_WINDOWS {
            return refuse("windows", format!("write 1 to {MAX_WINDOWS} windows"));
        }
        if excluded_dates.len() > MAX_EXCLUDED {
            return refuse("excludedDates", format!("at most {MAX_EXCLUDED} dates are excluded"));
        }
        let windows = windows.iter().enumerate().map(|(place, doc)| window(place, doc)).collect::<Result<_, _>>()?;
        let mut excluded = BTreeSet::new();
        for (place, text) in excluded_dates.iter().enumerate() {
            let at = format!("excludedDates[{place}]");
            // The parser also takes other forms of ISO 8601; this has one.
            let Some(date) = text.parse::<Date>().ok().filter(|date| date.to_string() == *text) else {
                return refuse(at, "no date; write it as YYYY-MM-DD, such as 2027-01-01");
            };
            if !excluded.insert(date) {
                return refuse(at, "this date stands here twice; remove one");
            }
        }
        Ok(Self { zone, windows, excluded })
    }

    /// Whether it is open at a time in milliseconds since the Unix epoch; `None`: the time is beyond the calendar.
    #[must_use]
    pub fn is_open(&self, now_ms: u64) -> Option<bool> {
        let now = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?;
        let local: DateTime = self.zone.to_datetime(now);
        let (today, yesterday) = (local.date(), local.date().checked_sub(1.day()).ok()?);
        let minute = u16::try_from(local.hour()).ok()? * 60 + u16::try_from(local.minute()).ok()?;
        Some(self.windows.iter().any(|window| {
            let Window { days, from, to } = window;
            let begins = |date: Date| days.contains(&date.weekday()) && !self.excluded.contains(&date);
            if from < to {
                (*from..*to).contains(&minute) && begins(today)
            } else {
                (minute >= *from && begins(today)) || (minute < *to && begins(yesterday))
            }
        }))
    }
}

fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let wrong = "no time zone of the IANA database; write one such as Europe/Berlin, or UTC";
    match TimeZoneDatabase::bundled().get(name) {
        // The database looks names up whatever their case; this has one spelling.
        Ok(zone) if zone.iana_name() == Some(name) => Ok(zone),
        Ok(zone) => match zone.iana_name() {
            Some(known) => refuse("timeZone", format!("this time zone is written {known}")),
            None => refuse("timeZone", wrong),
        },
        Err(_) => refuse("timeZone", wrong),
    }
}

fn window(place: usize, doc: &WindowDoc) -> Result<Window, ScheduleError> {
    let WindowDoc { days, from, to } = doc;
    let at = |field: &str| format!("windows[{place}].{field}");
    let names: BTreeSet<Day> = days.iter().copied().collect();
    if days.is_empty() || names.len() != days.len() {
        return refuse(at("days"), "name the days on which it begins, each once, such as Mon");
    }
    let Some(start) = minutes(from).filter(|start| *start < DAY) else {
        return refuse(at("from"), "no time; write it as HH:MM, from 00:00 to 23:59");
    };
    let Some(end) = minutes(to) else {
        return refuse(at("to"), "no time; write it as HH:MM, from 00:00 to 24:00");
    };
    if start == end {
        return refuse(at("to"), "the window never opens; for a whole day write from 00:00 to 24:00");
    }
    Ok(Window { days: names.into_iter().map(weekday).collect(), from: start, to: end })
}

/// Minutes since midnight of a time `HH:MM`, `24:00` included.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let two = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        if two { digits.parse::<u16>().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    if minutes < 60 && total <= DAY { Some(total) } else { None }
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}
