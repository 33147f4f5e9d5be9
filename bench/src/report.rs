//! The report: figures of all rounds, their medians, the ratios, and which targets were met.

mod table;

use serde::Serialize;

use crate::decide::DecideRow;
use crate::scenario::Scenario;

/// A whole run.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Load average before the run: another process on the machine spoils figures.
    pub(crate) load: f64,
    /// Cores of the machine.
    pub(crate) cores: usize,
    /// Whether it was a short run.
    pub(crate) quick: bool,
    /// `decide()` alone.
    pub(crate) decide: Vec<DecideRow>,
    /// The comparisons.
    pub(crate) comparisons: Vec<Comparison>,
    /// Peers that are not installed.
    pub(crate) missing_peers: Vec<String>,
    /// Size of the released binary in bytes.
    pub(crate) binary: Option<u64>,
}

/// One comparison.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Comparison {
    pub(crate) title: &'static str,
    /// The subject first, then its counterpart, then peers.
    pub(crate) parties: Vec<Figures>,
    #[serde(skip)]
    least_max: Option<f64>,
    #[serde(skip)]
    most_p50: Option<f64>,
    #[serde(skip)]
    most_memory: Option<(f64, f64)>,
}

impl Comparison {
    /// Takes what was measured.
    pub(crate) fn new(scenario: &Scenario, parties: Vec<Figures>) -> Self {
        let &Scenario { title, least_max, most_p50, most_memory, .. } = scenario;
        Self { title, parties, least_max, most_p50, most_memory }
    }
}

/// What one side of a comparison measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) label: String,
    /// Resident memory after the start.
    pub(crate) idle_kib: u64,
    /// Resident memory with 1,000 connections that have each carried a request.
    pub(crate) held_kib: u64,
    pub(crate) rounds: Vec<Round>,
}

/// One round.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Round {
    /// Median latency at 1,000 requests per second.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Processor time per request at 1,000 requests per second.
    pub(crate) cpu_us: f64,
    /// Requests per second, closed loop.
    pub(crate) max_rps: f64,
    /// Processor time per request at the maximum: what it costs when nobody waits.
    pub(crate) cpu_max_us: f64,
    /// Part of its core that the subject used at the maximum. Below 0.9 the other core was the limit.
    pub(crate) busy: f64,
    /// New connections per second, each with one request.
    pub(crate) fresh_rps: f64,
    pub(crate) fresh_p50_us: f64,
}

impl Figures {
    /// The median of one figure over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// KiB as MB, as the targets are stated.
    pub(crate) fn megabytes(kib: u64) -> f64 {
        u32::try_from(kib).map_or(f64::INFINITY, f64::from) * 1024.0 / 1e6
    }
}

/// One target of the project and what was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) measured: String,
    pub(crate) target: String,
    pub(crate) met: bool,
}

/// Most nanoseconds of `decide()` without a condition, at 1,000 and at 10,000 rules.
const DECIDE_NS: f64 = 2_000.0;

/// Most nanoseconds of `decide()` with one CEL condition.
const DECIDE_CEL_NS: f64 = 5_000.0;

/// Flat: how much slower 10,000 rules may be than 1,000.
const FLAT: f64 = 1.25;

/// Largest released binary in bytes.
const BINARY: u64 = 20_000_000;

impl Report {
    /// Everything, as JSON.
    pub(crate) fn json(&self) -> Result<String, String> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            report: &'a Report,
            targets: Vec<Check>,
        }
        serde_json::to_string_pretty(&Whole { report: self, targets: self.checks() }).map_err(|e| e.to_string())
    }

    /// Every target that this run can judge.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let mut checks = self.decide_checks();
        for comparison in &self.comparisons {
            checks.extend(comparison.checks());
        }
        checks.extend(self.binary.map(|bytes| Check {
            what: "released binary".to_owned(),
            measured: format!("{:.1} MB", u32::try_from(bytes).map_or(f64::INFINITY, f64::from) / 1e6),
            target: "<= 20 MB".to_owned(),
            met: bytes <= BINARY,
        }));
        checks
    }

    fn decide_checks(&self) -> Vec<Check> {
        let row = |rules: usize| self.decide.iter().find(|row| row.rules == rules);
        let mut checks = Vec::new();
        let mut below = |what: &str, measured: f64, most: f64, unit: &str| {
            checks.push(Check {
                what: format!("decide(), {what}"),
                measured: format!("{measured:.2} {unit}"),
                target: format!("<= {most:.2} {unit}"),
                met: measured <= most,
            });
        };
        if let Some(row) = row(1_000) {
            below("1,000 rules, no condition", row.plain_ns() / 1e3, DECIDE_NS / 1e3, "µs");
            below("1,000 rules, one CEL condition", row.cel_ns() / 1e3, DECIDE_CEL_NS / 1e3, "µs");
        }
        if let (Some(small), Some(large)) = (row(1_000), row(10_000)) {
            below("10,000 rules, no condition", large.plain_ns() / 1e3, DECIDE_NS / 1e3, "µs");
            below("10,000 rules, one CEL condition", large.cel_ns() / 1e3, DECIDE_CEL_NS / 1e3, "µs");
            below("10,000 against 1,000 rules", large.plain_ns() / small.plain_ns(), FLAT, "times");
        }
        checks
    }
}

impl DecideRow {
    fn plain_ns(&self) -> f64 {
        self.tool_ns.max(self.http_ns)
    }

    fn cel_ns(&self) -> f64 {
        self.tool_cel_ns.max(self.http_cel_ns)
    }
}

impl Comparison {
    fn checks(&self) -> Vec<Check> {
        let [subject, counterpart, ..] = self.parties.as_slice() else { return Vec::new() };
        let mut checks = Vec::new();
        let mut check = |what: &str, measured: String, target: String, met: bool| {
            checks.push(Check { what: format!("{}, {what}", self.title), measured, target, met });
        };
        if let Some(least) = self.least_max {
            let ratio = subject.median(|r| r.max_rps) / counterpart.median(|r| r.max_rps);
            check("maximum", format!("{ratio:.2} of the counterpart"), format!(">= {least:.2}"), ratio >= least);
        }
        if let Some(most) = self.most_p50 {
            let ratio = subject.median(|r| r.p50_us) / counterpart.median(|r| r.p50_us);
            check("p50 at 1,000/s", format!("{ratio:.2} of the counterpart"), format!("<= {most:.2}"), ratio <= most);
        }
        if let Some((idle, held)) = self.most_memory {
            let (now_idle, now_held) = (Figures::megabytes(subject.idle_kib), Figures::megabytes(subject.held_kib));
            check("memory idle", format!("{now_idle:.1} MB"), format!("<= {idle:.0} MB"), now_idle <= idle);
            check(
                "memory, 1,000 connections",
                format!("{now_held:.1} MB"),
                format!("<= {held:.0} MB"),
                now_held <= held,
            );
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rps: [f64; 3]) -> Figures {
        let round = |max_rps| Round {
            p50_us: 100.0,
            p99_us: 200.0,
            cpu_us: 20.0,
            max_rps,
            cpu_max_us: 15.0,
            busy: 1.0,
            fresh_rps: 1.0,
            fresh_p50_us: 1.0,
        };
        Figures { label: "x".to_owned(), idle_kib: 10_000, held_kib: 40_000, rounds: rps.map(round).to_vec() }
    }

    fn comparison(subject: [f64; 3]) -> Comparison {
        Comparison {
            title: "t",
            parties: vec![figures(subject), figures([100.0, 100.0, 100.0])],
            least_max: Some(0.8),
            most_p50: Some(1.15),
            most_memory: Some((12.0, 45.0)),
        }
    }

    #[test]
    fn the_median_round_counts() {
        let met = |rps| comparison(rps).checks()[0].met;
        assert!(met([10.0, 85.0, 90.0]));
        assert!(!met([75.0, 79.0, 500.0]));
    }

    #[test]
    fn a_missed_target_is_said_in_table_and_json() {
        let report = Report { comparisons: vec![comparison([50.0, 50.0, 50.0])], ..Report::default() };
        assert!(report.table().contains("MISSED"));
        assert!(report.json().unwrap().contains("\"met\": false"));
    }

    #[test]
    fn memory_is_judged_in_megabytes() {
        let checks = comparison([100.0; 3]).checks();
        assert_eq!(checks[2].measured, "10.2 MB");
        assert!(checks[2].met && checks[3].met);
    }
}
