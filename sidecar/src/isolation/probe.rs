//! One round: the gateway vouches, then everything that it vouched for is tried at once. The only place where the
//! sidecar sends a packet to anybody but its gateway.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clawlock_control::client::Canaries;
use clawlock_proxy::hop::HopClient;
use clawlock_proxy::probe::{self, Answer};
use clawlock_proxy::voucher::{Ports, Voucher};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::plan::Plan;
use super::state::Finding;

/// How long an answer may take. Whoever is there answers within a round trip; TCP asks twice in this time, UDP
/// three times.
const BOUND: Duration = Duration::from_millis(1500);

/// Asks the gateway to vouch.
pub(crate) trait Vouch: Send + Sync {
    /// Asks now, within a bounded time.
    fn vouch(&self) -> impl Future<Output = Result<Voucher, String>> + Send;
}

impl Vouch for Arc<HopClient> {
    async fn vouch(&self) -> Result<Voucher, String> {
        self.voucher().await.map_err(|error| error.to_string())
    }
}

/// What came of trying one kind of target, with words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// Nobody answered.
    Dropped(String),
    /// Somebody did.
    Answered(String),
    /// It cannot be said.
    Unproven(String),
    /// There is nothing of this kind to try.
    Absent(String),
}

/// What a round has found.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// The tripwires.
    pub(crate) tripwire: Tried,
    /// Another node.
    pub(crate) node: Tried,
    /// Whether the pod's own node answered, when it was tried. The network may always let it through.
    pub(crate) own_node: Option<bool>,
    /// When the gateway said that it looked, in milliseconds since the Unix epoch.
    pub(crate) checked_ms: Option<u64>,
    /// When it was asked.
    asked: Instant,
}

impl Round {
    /// What it means.
    pub(crate) fn finding(&self) -> Finding {
        match (&self.tripwire, &self.node) {
            (Tried::Answered(_), _) | (_, Tried::Answered(_)) => Finding::Answered,
            (Tried::Dropped(_), Tried::Dropped(_) | Tried::Absent(_)) => {
                Finding::Dropped { vouched: self.asked.into_std() }
            }
            // Without a tripwire that kept silent nothing is proven, whatever else did.
            (Tried::Dropped(_) | Tried::Unproven(_) | Tried::Absent(_), _) => Finding::NotVouched,
        }
    }

    /// A round that came to nothing, for both kinds of targets.
    fn unproven(asked: Instant, why: &str) -> Self {
        let tried = || Tried::Unproven(why.to_owned());
        Self { tripwire: tried(), node: tried(), own_node: None, checked_ms: None, asked }
    }
}

/// What rounds have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    /// The pod's own node.
    pub(crate) host: IpAddr,
    /// Ports of the canaries.
    pub(crate) ports: Ports,
}

/// Does round number `turn`.
pub(crate) async fn round<V: Vouch>(vouch: &V, canaries: &Canaries, here: Here, turn: usize, own_node: bool) -> Round {
    let Here { host, ports } = here;
    let asked = Instant::now();
    let voucher = match vouch.vouch().await {
        Ok(voucher) => voucher,
        Err(why) => return Round::unproven(asked, &format!("no voucher: {why}")),
    };
    let plan = Plan::of(&voucher, canaries, host, turn);
    let own = async {
        let tried = if own_node { Some(probe::tcp(SocketAddr::new(host, ports.node), BOUND).await) } else { None };
        tried.map(|answer| answer == Answer::Answered)
    };
    let (tripwires, node, own_node) = tokio::join!(
        join_all(plan.tripwires.iter().map(|address| try_tripwire(*address, ports.tripwire))),
        try_node(plan.node, ports.node),
        own
    );
    let questions: Vec<&Question> = tripwires.iter().flatten().chain(&node).collect();
    // Whoever refuses is either the network, or a target that has gone meanwhile and whose machine was reached.
    if questions.iter().any(|question| question.is_refused())
        && !questions.iter().any(|question| question.is_answered())
    {
        match vouch.vouch().await {
            Ok(again) if plan.is_vouched_by(&again) => {}
            Ok(_) => return Round::unproven(asked, "a target refused and then did not answer the gateway either"),
            Err(why) => return Round::unproven(asked, &format!("a target refused, and no voucher since: {why}")),
        }
    }
    let tripwire = if tripwires.is_empty() {
        Tried::Unproven(missing_tripwire(&voucher, canaries))
    } else {
        judge("tripwire", tripwires.iter().flatten())
    };
    let node = if node.is_empty() {
        Tried::Absent("no other node that answers the gateway: only the tripwire counts".to_owned())
    } else {
        judge("node", node.iter())
    };
    Round { tripwire, node, own_node, checked_ms: Some(voucher.checked_ms), asked }
}

/// A question, and what came of it.
struct Question {
    address: IpAddr,
    protocol: &'static str,
    answer: Answer,
}

impl Question {
    fn is_answered(&self) -> bool {
        self.answer == Answer::Answered
    }

    fn is_refused(&self) -> bool {
        matches!(self.answer, Answer::Silent(kind) if kind != ErrorKind::TimedOut)
    }
}

async fn try_tripwire(address: IpAddr, port: u16) -> [Question; 2] {
    let target = SocketAddr::new(address, port);
    let (tcp, udp) = tokio::join!(probe::tcp(target, BOUND), probe::udp(target, BOUND));
    [Question { address, protocol: "tcp", answer: tcp }, Question { address, protocol: "udp", answer: udp }]
}

async fn try_node(address: Option<IpAddr>, port: u16) -> Vec<Question> {
    let Some(address) = address else { return Vec::new() };
    let answer = probe::tcp(SocketAddr::new(address, port), BOUND).await;
    vec![Question { address, protocol: "tcp", answer }]
}

/// The strictest that can be said of all answers, naming whom it is said of.
fn judge<'a>(kind: &str, questions: impl Iterator<Item = &'a Question> + Clone) -> Tried {
    let named = |verb: &str, meant: &dyn Fn(&Question) -> bool| {
        let mut parts: Vec<String> = Vec::new();
        let mut last = None;
        for Question { address, protocol, answer } in questions.clone().filter(|question| meant(question)) {
            let note = match answer {
                Answer::Answered | Answer::Silent(ErrorKind::TimedOut) => (*protocol).to_owned(),
                Answer::Silent(error) | Answer::NotAsked(error) => format!("{protocol}: {error}"),
            };
            match parts.last_mut() {
                Some(part) if last == Some(*address) => part.push_str(&format!(", {note}")),
                _ => parts.push(format!("{kind} {address} {verb} ({note}")),
            }
            last = Some(*address);
        }
        (!parts.is_empty()).then(|| format!("{})", parts.join("), ")))
    };
    if let Some(text) = named("answered", &Question::is_answered) {
        Tried::Answered(text)
    } else if let Some(text) = named("could not be tried", &|question| matches!(question.answer, Answer::NotAsked(_))) {
        Tried::Unproven(text)
    } else {
        Tried::Dropped(named("dropped", &|_| true).unwrap_or_default())
    }
}

fn missing_tripwire(voucher: &Voucher, canaries: &Canaries) -> String {
    if canaries.tripwire.is_empty() {
        "the operator has named no tripwire; is the release's tripwire running?".to_owned()
    } else if voucher.tripwire.is_empty() {
        "the gateway knows of no tripwire yet".to_owned()
    } else {
        format!(
            "the gateway vouches for no tripwire: of {}, none answered it by TCP and UDP; look at the release's \
             tripwire and at the NetworkPolicies of the gateway",
            voucher.tripwire.len()
        )
    }
}

#[cfg(test)]
impl Round {
    /// A round that came out so, with a voucher of the second second of time.
    pub(crate) fn example(tripwire: Tried, node: Tried) -> Self {
        Self { tripwire, node, own_node: None, checked_ms: Some(1000), asked: Instant::now() }
    }
}

#[cfg(test)]
mod tests;
