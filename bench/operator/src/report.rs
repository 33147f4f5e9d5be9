//! The report: what was measured, and which targets were met.

use std::fmt::Write as _;

use serde::Serialize;

use crate::edits::Edits;
use crate::process::Memory;
use crate::streams::Streams;
use crate::webhook::{Injection, RATE};

/// Load average from which on other processes have likely disturbed the run.
const BUSY: f64 = 0.7;

/// A whole run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Load average before the run.
    pub(crate) load: f64,
    /// Cores of the machine.
    pub(crate) cores: usize,
    /// Whether it was a short run.
    pub(crate) quick: bool,
    /// Edits, with many policies.
    pub(crate) edits: Option<Edits>,
    /// The webhook.
    pub(crate) injection: Option<Injection>,
    /// Many streams.
    pub(crate) streams: Option<Streams>,
}

/// One target of the project and what was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    what: String,
    measured: String,
    target: String,
    met: bool,
}

impl Report {
    /// Nothing was measured yet.
    pub(crate) fn begin(quick: bool) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { load, cores, quick, edits: None, injection: None, streams: None }
    }

    /// Everything, as JSON.
    pub(crate) fn json(&self) -> Result<String, String> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            report: &'a Report,
            targets: Vec<Check>,
        }
        serde_json::to_string_pretty(&Whole { report: self, targets: self.checks() }).map_err(|error| error.to_string())
    }

    /// The report as text.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "Operator, API server, etcd and all simulated agents on {} cores; loopback.", self.cores)?;
        if self.quick {
            writeln!(out, "QUICK RUN: a hundredth of everything; it shows that it works, the figures mean little.")?;
        }
        if self.load > BUSY {
            writeln!(
                out,
                "BUSY MACHINE: load average {:.1} at the start; other processes disturb the figures.",
                self.load
            )?;
        }
        if let Some(Streams { streams, tenants, busy, half_back_s, memory_after, .. }) = &self.streams {
            writeln!(
                out,
                "\n{streams} streams of {tenants} tenants idle: {:.0} % of a core. Half of them are back after {half_back_s:.1} s; \
                 the replica that took them all has {:.1} MB.",
                busy * 100.0,
                megabytes(memory_after.now_kib)
            )?;
        }
        let checks = self.checks();
        let width = checks.iter().map(|check| check.what.chars().count()).max().unwrap_or_default();
        writeln!(out, "\nTargets")?;
        for Check { what, measured, target, met } in &checks {
            let word = if *met { "met" } else { "MISSED" };
            writeln!(out, "  {what:width$}  {measured:28}  {target:10}  {word}")?;
        }
        Ok(())
    }

    fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Some(Edits { edits, one, all, memory }) = &self.edits {
            for (selects, spread) in [("one agent", one), ("all agents", all)] {
                checks.push(Check {
                    what: format!("edit -> documents, policy of {selects}, {edits} edits"),
                    measured: format!("median {:.0}, slowest {:.0} ms", spread.median_ms, spread.slowest_ms),
                    target: "<= 100 ms".to_owned(),
                    met: spread.slowest_ms <= 100.0,
                });
            }
            checks.push(memory_check("memory with those policies and agents".to_owned(), *memory, 200.0));
        }
        if let Some(Injection { pods, p50_ms, p99_ms, .. }) = &self.injection {
            checks.push(Check {
                what: format!("injection at {RATE}/s, {pods} pods"),
                measured: format!("p50 {p50_ms:.1}, p99 {p99_ms:.1} ms"),
                target: "p99 <= 10 ms".to_owned(),
                met: *p99_ms <= 10.0,
            });
        }
        if let Some(Streams { streams, memory, back_s, .. }) = &self.streams {
            checks.push(memory_check(format!("memory with {streams} idle streams"), *memory, 800.0));
            checks.push(Check {
                what: "all streams back after the death of their replica".to_owned(),
                measured: format!("{back_s:.1} s"),
                target: "<= 60 s".to_owned(),
                met: *back_s <= 60.0,
            });
        }
        checks
    }
}

/// The peak counts: it is what a limit would have to let through.
fn memory_check(what: String, memory: Memory, most: f64) -> Check {
    let Memory { now_kib, peak_kib } = memory;
    let (now, peak) = (megabytes(now_kib), megabytes(peak_kib));
    let measured = format!("{now:.1} MB, peak {peak:.1} MB");
    Check { what, measured, target: format!("<= {most:.0} MB"), met: peak <= most }
}

fn megabytes(kib: u64) -> f64 {
    u32::try_from(kib).map_or(f64::INFINITY, f64::from) * 1024.0 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edits::Spread;

    fn report(slowest_ms: f64, peak_kib: u64) -> Report {
        let memory = Memory { now_kib: 100_000, peak_kib };
        let spread = Spread { median_ms: 20.0, slowest_ms };
        Report { edits: Some(Edits { edits: 50, one: spread, all: spread, memory }), ..Report::begin(false) }
    }

    #[test]
    fn a_missed_target_is_said_in_table_and_json() {
        let met = report(99.0, 150_000);
        assert!(met.table().contains("median 20, slowest 99 ms") && !met.table().contains("MISSED"));
        let missed = report(101.0, 150_000);
        assert_eq!(missed.table().matches("MISSED").count(), 2);
        assert!(missed.json().unwrap().contains("\"met\": false"));
    }

    #[test]
    fn the_peak_of_the_memory_counts_in_megabytes() {
        let checks = report(1.0, 200_000).checks();
        assert_eq!(checks[2].measured, "102.4 MB, peak 204.8 MB");
        assert!(!checks[2].met);
    }
}
