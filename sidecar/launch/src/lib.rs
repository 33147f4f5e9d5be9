//! Restricts a process with Landlock and then becomes the agent.
//!
//! This crate owns the kernel's second fence around an agent: which TCP ports it may connect to, and
//! that it can neither signal nor trace the gates. It holds no policy and starts no thread that
//! outlives a call. Landlock knows ports, not addresses; it leaves UDP, ICMP, files and path-named
//! Unix sockets as they are, so whoever prints a [`Report`] says so too ([`Report::unconfined`]).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU16;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use landlock::{
    AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// Most ports that a process may be given. Each costs a rule in the kernel; a launcher that needs more
/// than this confines nothing worth naming.
pub const MAX_PORTS: usize = 64;

/// What the launched process may still do on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    ports: BTreeSet<NonZeroU16>,
}

impl Confinement {
    /// Allows outgoing TCP connections to these ports, at any address, and to no other.
    ///
    /// # Errors
    /// When there are more than [`MAX_PORTS`].
    pub fn to_ports(ports: impl IntoIterator<Item = NonZeroU16>) -> Result<Self, LaunchError> {
        let ports: BTreeSet<NonZeroU16> = ports.into_iter().collect();
        if ports.len() > MAX_PORTS {
            return Err(LaunchError::TooManyPorts(ports.len()));
        }
        Ok(Self { ports })
    }

    /// The allowed ports in ascending order.
    pub fn ports(&self) -> impl Iterator<Item = NonZeroU16> {
        self.ports.iter().copied()
    }
}

/// What the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// TCP ports, signals and abstract Unix sockets (Linux 6.12 and newer).
    Full,
    /// TCP ports only (Linux 6.7 to 6.11).
    Partial,
    /// Nothing, and why.
    NotEnforced(&'static str),
}

impl Report {
    /// What stays open, in words for the person who starts an agent.
    #[must_use]
    pub fn unconfined(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[
                "Landlock knows TCP ports, not addresses: an allowed port is open at every address",
                "UDP, ICMP, DNS lookups and path-named Unix sockets are not covered",
            ],
            Self::Partial => &[
                "Landlock knows TCP ports, not addresses: an allowed port is open at every address",
                "UDP, ICMP, DNS lookups and Unix sockets are not covered",
                "this kernel cannot keep the agent from signalling other processes of this user (Linux 6.12 can)",
            ],
            Self::NotEnforced(_) => &[
                "the agent can open any connection that it makes without the proxy variables",
                "the agent can signal and inspect other processes of this user",
            ],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("TCP ports, signals and abstract Unix sockets"),
            Self::Partial => f.write_str("TCP ports"),
            Self::NotEnforced(why) => write!(f, "nothing: {why}"),
        }
    }
}

/// Why a process was not restricted or not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Too many ports.
    #[error("{0} ports are allowed, at most {MAX_PORTS} may be: allow fewer")]
    TooManyPorts(usize),
    /// The kernel offers Landlock and refused the rules: an error, never a reason to go on without.
    #[error("the kernel refused the Landlock rules: {0}")]
    Landlock(#[from] RulesetError),
    /// The thread that tries the rules ended early.
    #[error("the thread that tries the Landlock rules could not run")]
    Thread,
    /// The program could not be started.
    #[error("{} cannot be started: {source}; check its name and that it is executable", .program.display())]
    Exec {
        /// The program.
        program: OsString,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Restricts the calling thread and everything that it starts from now on. What the kernel does not
/// know is left out and reported; what it knows and refuses is an error. It cannot be undone.
///
/// # Errors
/// When the kernel offers Landlock and refuses the rules.
pub fn restrict(confinement: &Confinement) -> Result<Report, LaunchError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::Signal)?
        .scope(Scope::AbstractUnixSocket)?
        .create()?;
    for port in confinement.ports() {
        ruleset = ruleset.add_rule(NetPort::new(port.get(), AccessNet::ConnectTcp))?;
    }
    Ok(report(&ruleset.restrict_self()?))
}

/// Says what [`restrict`] would enforce, without restricting the caller: Landlock holds per thread, so
/// the rules are tried on one that ends at once.
///
/// # Errors
/// As [`restrict`].
pub fn probe(confinement: &Confinement) -> Result<Report, LaunchError> {
    let confinement = confinement.clone();
    thread::Builder::new()
        .name("landlock-probe".to_owned())
        .spawn(move || restrict(&confinement))
        .map_err(|_| LaunchError::Thread)?
        .join()
        .map_err(|_| LaunchError::Thread)?
}

/// Restricts this process and becomes the program. Call it from a process with one thread: the rules
/// hold for the calling thread and what descends from it.
///
/// # Errors
/// When the kernel refused the rules or the program cannot be started. It never returns otherwise.
pub fn exec(confinement: &Confinement, program: OsString, arguments: Vec<OsString>) -> Result<Infallible, LaunchError> {
    restrict(confinement)?;
    let source = Command::new(&program).args(arguments).exec();
    Err(LaunchError::Exec { program, source })
}

fn report(status: &RestrictionStatus) -> Report {
    match (&status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => Report::Full,
        (RulesetStatus::PartiallyEnforced, _) => Report::Partial,
        (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented) => {
            Report::NotEnforced("this kernel is built without Landlock")
        }
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Report::NotEnforced("Landlock is off; start the kernel with lsm=landlock,...")
        }
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => {
            Report::NotEnforced("this kernel's Landlock knows no TCP ports yet (Linux 6.7 does)")
        }
    }
}
