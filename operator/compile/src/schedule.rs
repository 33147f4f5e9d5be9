//! Schedules of rules: the engine's own reader judges them, so that what is accepted is what it can read.

use clawlock_crds::{Schedule, Window};
use clawlock_policy::document::{Day, ScheduleDoc, WindowDoc};

use crate::problem::Report;

/// Converts a schedule, reporting the first mistake in it.
pub(crate) fn convert(report: &mut Report, path: &str, schedule: &Schedule) -> ScheduleDoc {
    let Schedule { time_zone, windows, excluded_dates } = schedule;
    let windows = windows.iter().map(|window| {
        let Window { days, from, to } = window;
        WindowDoc { days: days.iter().copied().map(convert_day).collect(), from: from.clone(), to: to.clone() }
    });
    let document = ScheduleDoc {
        time_zone: time_zone.clone(),
        windows: windows.collect(),
        excluded_dates: excluded_dates.clone(),
    };
    if let Err(error) = clawlock_policy::schedule::Schedule::parse(&document) {
        report.error(format!("{path}.{}", error.field), error.reason);
    }
    document
}

fn convert_day(day: clawlock_crds::Day) -> Day {
    match day {
        clawlock_crds::Day::Mon => Day::Mon,
        clawlock_crds::Day::Tue => Day::Tue,
        clawlock_crds::Day::Wed => Day::Wed,
        clawlock_crds::Day::Thu => Day::Thu,
        clawlock_crds::Day::Fri => Day::Fri,
        clawlock_crds::Day::Sat => Day::Sat,
        clawlock_crds::Day::Sun => Day::Sun,
    }
}
