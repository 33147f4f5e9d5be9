//! `dev`: both gates in one process with their real hop, over a folder that is watched, and an agent
//! under them. This module puts the parts together in their order; the order is what is written here.

mod command;
mod environment;
mod events;
mod gates;
mod halted;
mod install;
mod last_good;
mod manifest;
mod openclaw;
mod pki;
mod reload;
mod state;
mod watch;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clawlock_audit::Record;
use clawlock_compile::Pod;
use clawlock_launch::{Confinement, Report};
use clawlock_policy::document::Protocol;
use clawlock_proxy::intercept::InterceptionCa;
use clawlock_proxy::limits::DRAIN_TIMEOUT;
use rustix::process::{DumpableBehavior, Signal, geteuid, set_dumpable_behavior};
use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use crate::args::{DevArgs, Guard};
use crate::problem::Problem;
use crate::secret::{SecretText, Secrets};
use crate::{agent, folder};

use command::{Agent, Plan, exit_code};
use environment::Places;
use events::{Event, Printer, Ready, Teller};
use gates::{Gates, Parts};
use install::Installer;
use last_good::{Applied, LastGood};
use openclaw::Guarded;
use reload::{Reloader, Reloading, Selected, Told, look, missing_credentials};
use state::{Homes, State};
use watch::{Fingerprint, Stopper, Watch};

/// What `--help` ends with.
pub(crate) const HELP: &str = "\
What the gates see is decided, twice, and recorded; what goes past them is not. COMMAND gets the variables that \
send its traffic through the gates and, where the kernel has Landlock (TCP ports: Linux 6.7, signals: 6.12), can \
connect to no TCP port but the gates' and those of --allow-port: an agent that talks to servers of its own on \
loopback, as OpenClaw's commands do to its gateway on 18789, needs that. Under Landlock COMMAND gains no rights by \
setuid programs.

Landlock knows ports, not addresses, and covers neither UDP nor files nor path-named Unix sockets. The agent is the \
same user as clawlock: it can read that user's files, among them the state folder and files of --secret, so prefer \
env:VAR, and do not run clawlock as root. The interception CA enters no system trust store.

A broken edit keeps the last good version and says why. A halt holds at once. SIGINT, SIGTERM and SIGHUP end open \
requests gracefully, a second one at once. Exit status: 0 after a signal, COMMAND's own with one (127 not found, 126 \
not executable, 128 and the signal that ended it), 1 for problems in the folder, 2 for wrong usage. Diagnostics of \
clawlock itself: CLAWLOCK_LOG=info (tracing's filter syntax).";

/// How long tasks may take that nobody waits for any more.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// Everything that was checked before anything listens.
struct Prepared {
    folder: PathBuf,
    state: State,
    secrets: Arc<Secrets>,
    watch: Watch,
    stopper: Stopper,
    seen: Fingerprint,
    good: LastGood,
    installer: Installer,
    pod: Pod,
    selected: Selected,
    told: Told,
}

/// Runs both gates, and the agent.
pub(crate) fn run(args: DevArgs) -> Result<ExitCode, String> {
    // First of all: no process of this user may read our memory or environment.
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hidden.map_err(|error| format!("this process cannot be hidden from other processes of this user: {error}"))?;
    let filter = EnvFilter::try_from_env("CLAWLOCK_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let to_stderr = !args.command.is_empty();
    let (printer, teller, records) =
        Printer::start(args.output, to_stderr).map_err(|error| format!("a thread cannot be started: {error}"))?;
    let ended = match prepare(&args)? {
        Ok(prepared) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("the runtime cannot be started: {error}"))?;
            let ended = runtime.block_on(Box::pin(serve(args, *prepared, teller, records)));
            runtime.shutdown_timeout(LAST_TASKS);
            ended
        }
        Err(problems) => {
            teller.tell(Event::Problems { problems, kept: Vec::new() });
            drop((teller, records));
            Ok(ExitCode::FAILURE)
        }
    };
    printer.finish();
    ended
}

/// Reads and checks everything, and puts the policy in force before a gate listens. The inner error are
/// the problems of the folder.
fn prepare(args: &DevArgs) -> Result<Result<Box<Prepared>, Vec<Problem>>, String> {
    // Made absolute, not resolved: the folder may be a link that is pointed elsewhere later.
    let folder = std::path::absolute(&args.folder).map_err(|error| format!("--folder: {error}"))?;
    if !folder.is_dir() {
        return Err(format!(
            "--folder {} is no folder; name the one that holds the policy, clawlock init makes one",
            folder.display()
        ));
    }
    let arguments = args.secrets.iter().map(SecretText::parse).collect::<Result<Vec<_>, _>>()?;
    let secrets = Arc::new(Secrets::load(arguments, |name| std::env::var_os(name))?);
    let read = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let homes = Homes { state: read("XDG_STATE_HOME"), home: read("HOME") };
    let state = State::open(args.state_dir.clone(), homes, &folder)?;
    // Watched and looked at before it is read: no edit falls between.
    let (watch, stopper, remark) = Watch::start(&folder);
    let seen = look(&folder, &secrets);
    if let Some(problem) = secrets.reload().into_iter().next() {
        return Err(problem);
    }
    let mut good = LastGood::default();
    let files = folder::read(std::slice::from_ref(&folder));
    let Applied { compilation, objects, problems, kept: _ } = good.apply(&files, &folder);
    if problems.iter().any(Problem::is_error) {
        return Ok(Err(problems));
    }
    let mut pod = agent::pod(&args.agent, &compilation)?;
    let compilation = match &args.manifest {
        None => compilation,
        Some(file) => {
            good.declare(manifest::read(file, &mut pod)?);
            good.apply(&files, &folder).compilation
        }
    };
    let mut installer = Installer::new(pod.clone(), &compilation)?;
    installer.install(&compilation)?;
    let mut notices = missing_credentials(&compilation, installer.tenant(), &secrets);
    notices.extend(remark);
    let selected = Selected::of(&objects, &pod);
    let told = Told { problems, notices };
    Ok(Ok(Box::new(Prepared { folder, state, secrets, watch, stopper, seen, good, installer, pod, selected, told })))
}

/// Runs the gates until a signal comes or the agent ends.
async fn serve(
    args: DevArgs,
    prepared: Prepared,
    teller: Teller,
    records: mpsc::Sender<Record>,
) -> Result<ExitCode, String> {
    let Prepared { folder, state, secrets, watch, stopper, seen, good, installer, pod, selected, told } = prepared;
    let mut signals = Signals::listen().map_err(|error| format!("signals cannot be received: {error}"))?;
    let log = args.log.clone().unwrap_or_else(|| state.path("decisions.jsonl"));
    let sockets = state.sockets(args.listen)?;
    let ca_folder = state.path("ca");
    let ca = Arc::new(InterceptionCa::load_or_create(&ca_folder).map_err(|error| error.to_string())?);
    let places = Places {
        proxy: address(&sockets.proxy)?,
        decide: address(&sockets.decide)?,
        socket: state.socket(),
        ca: ca_folder.join("ca.crt"),
        wgetrc: state.write("wgetrc", &environment::wgetrc(&ca_folder.join("ca.crt")))?,
        node_option: environment::node_takes_option().await,
    };
    let admin = address(&sockets.admin)?;
    let env_file = state.write("env", &environment::shell_file(&places))?;
    let parts =
        Parts { sockets, ca, secrets: secrets.clone(), resolve: args.resolve.clone(), log: &log, shown: records };
    halted::keep(&args, &state, &installer)?;
    let mut gates = Gates::start(parts, &installer).await?;
    let halts = halted::tell(installer.agent().clone(), teller.clone());

    let guarded = guards(&args).then(|| openclaw::prepare(&state)).transpose()?;
    let (plan, fence) = plan(&args, &places, &secrets, guarded.as_ref())?;
    let Told { problems, notices } = &told;
    let guard_notices = match &guarded {
        Some(guarded) => guarded.notices.clone(),
        None => silent_models(&installer).into_iter().collect(),
    };
    if !problems.is_empty() {
        teller.tell(Event::Problems { problems: problems.clone(), kept: Vec::new() });
    }
    for message in notices.iter().chain(&guard_notices) {
        teller.tell(Event::Notice { message: message.clone() });
    }
    teller.tell(Event::Ready(Box::new(Ready {
        tenant: installer.tenant().to_owned(),
        agent: installer.identity().to_string(),
        generation: installer.generation(),
        policies: selected.policies,
        other_policies: selected.others,
        halts: selected.halts,
        manifest: args.manifest.clone(),
        proxy: format!("http://{}", places.proxy),
        decide: format!("http://{}/v1/decide", places.decide),
        decide_socket: places.socket,
        admin: format!("http://{admin}"),
        ca: places.ca,
        unconfined: unconfined(&args, fence, &secrets, &env_file, places.node_option, guarded.is_some()),
        env_file,
        log: log.clone(),
        confined: fence.map(|fence| fence.to_string()),
    })));
    let reloader = Reloader { folder, seen, pod, good, installer, secrets, teller: teller.clone(), told };
    let reloading = Reloading::start(reloader, watch, stopper)?;
    let ended = tokio::select! {
        ended = live(plan, &mut signals, &teller) => ended,
        () = gates.ended() => Err("a gate has ended by itself; see the messages above".to_owned()),
        () = halts => Err("the watch over halts has ended by itself".to_owned()),
    };
    reloading.stop();
    let (code, bound) = ended?;
    tokio::select! {
        _ = gates.finish(bound) => {}
        // A second signal: whoever sent it does not want to wait.
        _ = signals.next() => {}
    }
    Ok(code)
}

/// Waits for the end: a signal's or the agent's. Answers the exit status and how long to drain.
async fn live(plan: Option<Plan>, signals: &mut Signals, teller: &Teller) -> Result<(ExitCode, Duration), String> {
    let mut agent = plan.map(Agent::start).transpose()?;
    let Some(agent) = &mut agent else {
        let signal = signals.next().await;
        teller.tell(Event::Stopping { reason: format!("{}; open requests may finish", name(signal)) });
        return Ok((ExitCode::SUCCESS, DRAIN_TIMEOUT));
    };
    let ended = tokio::select! {
        ended = agent.ended() => ended,
        signal = signals.next() => {
            teller.tell(Event::Stopping { reason: format!("{}; the agent is asked to end", name(signal)) });
            agent.end(signal).await
        }
    };
    let status = ended.map_err(|error| format!("the agent's end cannot be seen: {error}"))?;
    teller.tell(Event::Stopping { reason: format!("the agent has ended: {status}") });
    // Nobody is left whom an open request would serve.
    Ok((ExitCode::from(exit_code(status)), LAST_TASKS))
}

/// Whether the guard plugin is put under the command.
fn guards(args: &DevArgs) -> bool {
    match args.guard {
        Guard::Auto => openclaw::is_openclaw(&args.command),
        Guard::Always => true,
        Guard::Never => false,
    }
}

/// What to say when language models are out of reach, since nobody will send heartbeats.
fn silent_models(installer: &Installer) -> Option<String> {
    let (policy, _) = installer.agent().active(installer.identity()).ok()?;
    let mut models = policy.upstreams().filter(|upstream| upstream.protocol == Protocol::Llm);
    let model = models.next().filter(|_| policy.plugin_optional().is_none())?;
    Some(format!(
        "upstream {} is a language model, out of reach without the guard plugin: start OpenClaw as COMMAND, or list the \
         agent in agents.pluginOptional of the TenantGateway",
        model.name
    ))
}

/// What to start, and what the kernel will enforce on it.
fn plan(
    args: &DevArgs,
    places: &Places,
    secrets: &Secrets,
    guarded: Option<&Guarded>,
) -> Result<(Option<Plan>, Option<Report>), String> {
    if args.command.is_empty() {
        return Ok((None, None));
    }
    let own = [places.proxy.port(), places.decide.port()].into_iter().filter_map(NonZeroU16::new);
    let ports: Vec<NonZeroU16> = own.chain(args.allow_ports.iter().copied()).collect();
    let (launcher, fence) = if args.no_landlock {
        (None, Report::NotEnforced("switched off by --no-landlock"))
    } else {
        let confinement =
            Confinement::to_ports(ports.iter().copied()).map_err(|error| format!("--allow-port: {error}"))?;
        let fence = clawlock_launch::probe(&confinement).map_err(|error| error.to_string())?;
        let program =
            std::env::current_exe().map_err(|error| format!("this program's own path is unknown: {error}"))?;
        (Some(program), fence)
    };
    let node_options = std::env::var("NODE_OPTIONS").ok();
    let mut variables = environment::variables(places, node_options.as_deref());
    variables.extend(guarded.into_iter().flat_map(|guarded| guarded.variables.iter().cloned()));
    let plan = Plan {
        command: args.command.clone(),
        launcher,
        ports,
        variables,
        without: secrets.variables().map(str::to_owned).collect(),
    };
    Ok((Some(plan), Some(fence)))
}

/// What a person must know who trusts this run.
fn unconfined(
    args: &DevArgs,
    fence: Option<Report>,
    secrets: &Secrets,
    env_file: &Path,
    node_option: bool,
    guarded: bool,
) -> Vec<String> {
    let mut open: Vec<String> = match fence {
        Some(fence) => fence.unconfined().iter().map(|text| (*text).to_owned()).collect(),
        None => vec![format!(
            "an agent that you start yourself after `. {}` is held by these variables only; clawlock dev -- COMMAND \
             puts it under Landlock, too",
            env_file.display()
        )],
    };
    open.extend(args.allow_ports.iter().map(|port| format!("TCP port {port} is open at every address (--allow-port)")));
    open.push(
        if guarded {
            "the guard plugin and its configuration are files of this user: an agent that changes them runs tools unasked, \
             until it needs a language model (upstreams of protocol LLM)"
        } else {
            "tool calls are decided when the agent asks /v1/decide; one that does not ask is held at the network only"
        }
        .into(),
    );
    open.push(
        "the agent is the same user: it can read this user's files, the key of the interception CA among them".into(),
    );
    open.extend(
        secrets.files().map(|path| format!("the agent can read {}; prefer --secret ...=env:VAR", path.display())),
    );
    if !node_option {
        open.push(
            "the Node on the path is too old for --disable-sigusr1: a signal opens its inspector; start OpenClaw with \
             Node 24 and that option"
                .into(),
        );
    }
    if geteuid().is_root() {
        open.push(
            "clawlock and the agent are root: credentials can be read out of clawlock; use an ordinary user".into(),
        );
    }
    open
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::INT => "SIGINT",
        Signal::TERM => "SIGTERM",
        _ => "SIGHUP",
    }
}

fn address(listener: &std::net::TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| format!("a socket without address: {error}"))
}

/// The signals that end it.
struct Signals {
    interrupt: UnixSignal,
    terminate: UnixSignal,
    hangup: UnixSignal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}
