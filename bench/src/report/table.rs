//! The report as text.

use std::fmt::Write;

use super::{Comparison, Figures, Report};

/// Load average from which on other processes have likely disturbed the run.
const BUSY: f64 = 0.7;

/// Part of a core below which the subject was not the limit at the maximum.
const SATURATED: f64 = 0.9;

impl Report {
    /// The report as text.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "Measured process on core 0, load generator and origin on core 1; loopback, 300-byte JSON answers."
        )?;
        writeln!(out, "Every figure is the median of the rounds. The ratios within one run count, not the figures.")?;
        if self.quick {
            writeln!(out, "QUICK RUN: one short round; it shows that everything works, the figures mean little.")?;
        }
        if self.cores < 2 {
            writeln!(out, "ONE CORE ONLY: both sides share it, so the figures cannot be compared with others.")?;
        }
        if self.load > BUSY {
            writeln!(
                out,
                "BUSY MACHINE: load average {:.1} at the start; other processes disturb the figures.",
                self.load
            )?;
        }
        self.write_decide(out)?;
        for comparison in &self.comparisons {
            comparison.write(out)?;
        }
        if !self.missing_peers.is_empty() {
            writeln!(out, "\nNot installed, so not measured: {}.", self.missing_peers.join(", "))?;
        }
        let checks = self.checks();
        let width = checks.iter().map(|check| check.what.chars().count()).max().unwrap_or_default();
        writeln!(out, "\nTargets")?;
        for check in &checks {
            let word = if check.met { "met" } else { "MISSED" };
            writeln!(out, "  {:width$}  {:24}  {:14}  {word}", check.what, check.measured, check.target)?;
        }
        Ok(())
    }

    fn write_decide(&self, out: &mut String) -> std::fmt::Result {
        if self.decide.is_empty() {
            return Ok(());
        }
        writeln!(out, "\ndecide() alone, ns per call")?;
        writeln!(out, "  {:>8} {:>10} {:>10} {:>12} {:>12}", "rules", "tool", "http", "tool + CEL", "http + CEL")?;
        for row in &self.decide {
            writeln!(
                out,
                "  {:>8} {:>10.0} {:>10.0} {:>12.0} {:>12.0}",
                row.rules, row.tool_ns, row.http_ns, row.tool_cel_ns, row.http_cel_ns
            )?;
        }
        Ok(())
    }
}

impl Comparison {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n{}", self.title)?;
        writeln!(
            out,
            "  {:40} {:>7} {:>7} {:>7} {:>9} {:>6} {:>7} {:>8} {:>9} {:>6} {:>6}   {:>6} {:>6}",
            "",
            "p50 µs",
            "p99 µs",
            "CPU µs",
            "max /s",
            "core",
            "CPU µs",
            "new /s",
            "new p50",
            "idle",
            "1,000",
            "max",
            "p50"
        )?;
        let base = self.parties.get(1);
        for party in &self.parties {
            party.write(out, base)?;
        }
        Ok(())
    }
}

impl Figures {
    fn write(&self, out: &mut String, base: Option<&Self>) -> std::fmt::Result {
        let (p50, max, busy) = (self.median(|r| r.p50_us), self.median(|r| r.max_rps), self.median(|r| r.busy));
        write!(
            out,
            "  {:40} {p50:>7.0} {:>7.0} {:>7.1} {max:>9.0} {:>4.0} %{} {:>6.1} {:>8.0} {:>9.0} {:>6.1} {:>6.1}",
            self.label,
            self.median(|r| r.p99_us),
            self.median(|r| r.cpu_us),
            busy * 100.0,
            if busy < SATURATED { '*' } else { ' ' },
            self.median(|r| r.cpu_max_us),
            self.median(|r| r.fresh_rps),
            self.median(|r| r.fresh_p50_us),
            Self::megabytes(self.idle_kib),
            Self::megabytes(self.held_kib),
        )?;
        if let Some(base) = base {
            let (max_ratio, p50_ratio) = (max / base.median(|r| r.max_rps), p50 / base.median(|r| r.p50_us));
            write!(out, "   {max_ratio:>6.2} {p50_ratio:>6.2}")?;
        }
        writeln!(out)
    }
}
