//! From an edit to the documents: how long after the API server's answer the last agent that a policy selects has it.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use crate::agents::Agents;
use crate::api::Api;
use crate::objects::{EVERYONE, Tenant, own, rules};
use crate::process::Memory;
use crate::release::Program;
use crate::{Sizes, say};

/// Longest that an edit may take before it counts as lost.
const LOST: Duration = Duration::from_secs(30);
/// Between two edits: a person's next one finds nothing of the one before.
const PAUSE: Duration = Duration::from_millis(500);

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edits {
    /// How many of each kind.
    pub(crate) edits: usize,
    /// Of a policy that selects one agent.
    pub(crate) one: Spread,
    /// Of the policy that selects all.
    pub(crate) all: Spread,
    /// Memory of the operator, which leads and has all streams.
    pub(crate) memory: Memory,
}

/// Median and slowest, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spread {
    pub(crate) median_ms: f64,
    pub(crate) slowest_ms: f64,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        Self { median_ms: ms(times.get(times.len() / 2)), slowest_ms: ms(times.last()) }
    }
}

/// Edits policies of a tenant.
pub(crate) async fn measure(
    api: &Api,
    agents: &Agents,
    tenant: &Tenant,
    sizes: &Sizes,
    operator: &Program,
) -> Result<Edits, String> {
    let mut series = Vec::new();
    let mut number = 0;
    for (policy, selected) in [(own(0), 1), (EVERYONE.to_owned(), sizes.agents)] {
        say(&format!("{} edits of a policy that selects {selected}", sizes.edits));
        tokio::time::sleep(sizes.idle).await;
        let mut times = Vec::new();
        for _ in 0..sizes.edits {
            number += 1;
            agents.expect(number);
            api.patch(&tenant.policy(&policy), &json!({"spec": {"rules": rules(number)}})).await?;
            let answered = Instant::now();
            let last = agents.all_arrived(selected, LOST).await?;
            times.push(last.saturating_duration_since(answered));
            tokio::time::sleep(PAUSE).await;
        }
        let spread = Spread::of(times);
        say(&format!("median {:.0}, slowest {:.0} ms", spread.median_ms, spread.slowest_ms));
        series.push(spread);
    }
    let [one, all] = series[..] else { return Err("two series were to be measured".to_owned()) };
    Ok(Edits { edits: sizes.edits, one, all, memory: operator.memory()? })
}
