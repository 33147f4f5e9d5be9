//! When a rule holds: windows of local time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{DATE_LENGTH, MAX_EXCLUDED_DATES, MAX_TIME_ZONE, MAX_WINDOWS, TIME_LENGTH, WEEK};
use crate::schema::open_object;
use crate::strict;

/// Name of a time zone, roughly; the exact names are those of the bundled database.
const TIME_ZONE: &str = "^[A-Za-z][-+_/A-Za-z0-9]*$";
/// A time at which a window begins.
const FROM: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";
/// A time at which a window ends.
const TO: &str = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$";
/// `YYYY-MM-DD`.
const DATE: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$";

/// When a rule holds. Outside of its windows it is as if the rule were not there, whatever its tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Schedule {
    /// The time zone of the windows, by its IANA name, such as America/New_York or UTC.
    #[schemars(length(min = 1, max = MAX_TIME_ZONE), regex(pattern = TIME_ZONE))]
    pub time_zone: String,
    /// The windows, 1 to 32. The rule holds in any of them.
    #[serde(deserialize_with = "strict::objects")]
    #[schemars(length(min = 1, max = MAX_WINDOWS), extend("x-kubernetes-list-type" = "atomic"))]
    pub windows: Vec<Window>,
    /// Dates YYYY-MM-DD on which no window begins, at most 366. A window that began the day before still ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::list")]
    #[schemars(
        length(max = MAX_EXCLUDED_DATES),
        inner(length(min = DATE_LENGTH, max = DATE_LENGTH), regex(pattern = DATE)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub excluded_dates: Vec<String>,
}

/// A window of local time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [{
        "rule": "self.from != self.to",
        "message": "a window that ends when it begins never opens; a whole day is from 00:00 to 24:00",
    }])
)]
pub struct Window {
    /// The days on which the window begins: Mon, Tue, Wed, Thu, Fri, Sat, Sun.
    #[serde(deserialize_with = "strict::list")]
    #[schemars(length(min = 1, max = WEEK), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Day>,
    /// The time at which it opens, HH:MM, 00:00 to 23:59.
    #[schemars(length(min = TIME_LENGTH, max = TIME_LENGTH), regex(pattern = FROM))]
    pub from: String,
    /// The time at which it is closed again, HH:MM, 00:00 to 24:00. Before `from`: on the next day.
    #[schemars(length(min = TIME_LENGTH, max = TIME_LENGTH), regex(pattern = TO))]
    pub to: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}
