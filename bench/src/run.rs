//! A whole run: starts the origins, goes through the comparisons in rounds, and collects a report.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::load::{Sample, closed_loop, fresh_loop, hold, open_loop};
use crate::pin::{DRIVER_CORE, SUBJECT_CORE, cores, pin};
use crate::pki::Pki;
use crate::report::{Comparison, Figures, Report, Round};
use crate::scenario::{self, Party, Ports, Scenario, start_role};
use crate::{RunArgs, decide, peers};

/// Connections of the memory measurement.
const HELD: usize = 1000;

/// How long each part of a measurement takes, and how many rounds there are.
struct Times {
    rounds: usize,
    open: Duration,
    closed: Duration,
    fresh: Duration,
    decide: Duration,
}

impl Times {
    fn of(args: &RunArgs) -> Self {
        let ms = Duration::from_millis;
        if args.quick {
            Self { rounds: 1, open: ms(600), closed: ms(600), fresh: ms(400), decide: ms(90) }
        } else {
            Self { rounds: 3, open: ms(3000), closed: ms(3000), fresh: ms(1500), decide: ms(900) }
        }
    }
}

/// Measures.
pub(crate) fn run(args: &RunArgs) -> Result<Report, String> {
    let times = Times::of(args);
    let mut report = Report { load: load_average(), cores: cores(), quick: args.quick, ..Report::default() };
    let wanted = |title: &str| args.only.as_ref().is_none_or(|only| title.contains(only.as_str()));
    if wanted("decide() alone") {
        pin(SUBJECT_CORE)?;
        for rules in decide::SIZES {
            eprintln!("decide() with {rules} rules");
            report.decide.push(decide::measure(rules, times.decide)?);
        }
    }
    pin(DRIVER_CORE)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let dir = tempfile::Builder::new().prefix("clawlock-bench-").tempdir().map_err(|e| e.to_string())?;
    let path = dir.path();
    open_to_peers(path)?;
    Pki::create(path)?;
    let origin = start_role("origin", DRIVER_CORE, path, &[])?;
    let origin_tls = start_role("origin-tls", DRIVER_CORE, path, &[])?;
    let stub = start_role("stub", DRIVER_CORE, path, &[])?;
    let ports = Ports { origin: origin.ready.port, origin_tls: origin_tls.ready.port, stub: stub.ready.port };
    for scenario in scenario::ALL.iter().filter(|scenario| wanted(scenario.title)) {
        let folder = path.join(format!("run-{}", report.comparisons.len()));
        std::fs::create_dir(&folder).map_err(|e| e.to_string())?;
        open_to_peers(&folder)?;
        copy_pki(path, &folder)?;
        report.comparisons.push(compare(scenario, &runtime, &folder, ports, &times, !args.no_peers)?);
        // The logs of one comparison can fill gigabytes.
        std::fs::remove_dir_all(&folder).map_err(|e| e.to_string())?;
    }
    report.missing_peers =
        peers::ALL.into_iter().filter(|peer| peer.program().is_none()).map(|peer| format!("{peer:?}")).collect();
    report.binary = args.binary.as_ref().map(|path| size_of(path)).transpose()?;
    Ok(report)
}

fn compare(
    scenario: &Scenario,
    runtime: &Runtime,
    dir: &Path,
    ports: Ports,
    times: &Times,
    with_peers: bool,
) -> Result<Comparison, String> {
    let parties = scenario.start(dir, ports, with_peers)?;
    let local = LocalSet::new();
    let mut figures: Vec<Figures> = Vec::new();
    for party in &parties {
        eprintln!("{}: {}: memory", scenario.title, party.label);
        let idle_kib = party.running.usage().rss_kib;
        let held = local.block_on(runtime, hold(&party.target, HELD)).map_err(|e| format!("{}: {e}", party.label))?;
        let held_kib = party.running.usage().rss_kib;
        drop(held);
        figures.push(Figures { label: party.label.clone(), idle_kib, held_kib, rounds: Vec::new() });
    }
    for round in 1..=times.rounds {
        for (party, figures) in parties.iter().zip(&mut figures) {
            eprintln!("{}: {}: round {round}", scenario.title, party.label);
            let measured = measure(party, runtime, &local, times).map_err(|e| format!("{}: {e}", party.label))?;
            figures.rounds.push(measured);
        }
    }
    Ok(Comparison::new(scenario, figures))
}

fn measure(party: &Party, runtime: &Runtime, local: &LocalSet, times: &Times) -> Result<Round, String> {
    let before = party.running.usage().cpu_us;
    let open: Sample = local.block_on(runtime, open_loop(&party.target, times.open))?;
    let between = party.running.usage().cpu_us;
    let closed = local.block_on(runtime, closed_loop(&party.target, times.closed))?;
    let after = party.running.usage().cpu_us;
    let fresh = local.block_on(runtime, fresh_loop(&party.target, times.fresh))?;
    let micros = |us: u64| Duration::from_micros(us).as_secs_f64() * 1e6;
    Ok(Round {
        p50_us: open.quantile_us(0.5),
        p99_us: open.quantile_us(0.99),
        cpu_us: micros(between - before) / (open.rate() * open.seconds),
        max_rps: closed.rate(),
        cpu_max_us: micros(after - between) / (closed.rate() * times.closed.as_secs_f64()),
        busy: micros(after - between) / (times.closed.as_secs_f64() * 1e6),
        fresh_rps: fresh.rate(),
        fresh_p50_us: fresh.quantile_us(0.5),
    })
}

/// Squid gives up root and must still find its folder.
fn open_to_peers(dir: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).map_err(|e| e.to_string())
}

fn copy_pki(from: &Path, to: &Path) -> Result<(), String> {
    for entry in std::fs::read_dir(from).map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            std::fs::copy(&path, to.join(name)).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

fn size_of(path: &Path) -> Result<u64, String> {
    let meta = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(meta.len())
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default()
}
