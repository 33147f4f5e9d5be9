//! Edits that are not valid, refused by admission and forced past it; and references to what is not there.

use std::time::Duration;

use clawlock_e2e::tenant::RULES;
use clawlock_e2e::{Agent, Result, Tenant};
use serde_json::Value;

use crate::node;
use crate::release::{RELEASE, Unasked, back};
use crate::watch::works;

const BOUND: Duration = Duration::from_secs(60);

/// Allows everything that it can, and has a mistake.
const WIDE: &str = r#"  - {name: all, match: {operations: ["payments.*"]}, tier: Auto}
  - {name: wrong, match: {operations: [payments.create_refund]}, when: args.amount <=, tier: Auto}
"#;

/// What the rules of before the mistake say still holds.
fn holds(agent: &Agent, tenant: &Tenant) -> Result<()> {
    works(agent, tenant)?;
    let large = agent.request(&["-X", "POST", "-d", r#"{"amount":5000}"#, &tenant.url("/v1/refunds")])?;
    if large["rule"] == "large-refund" { Ok(()) } else { Err(format!("another rule decided: {large}")) }
}

fn condition(tenant: &Tenant, kind: &str, status: &str) -> Result<Value> {
    tenant.condition_is("agentpolicy", &tenant.name, "agent", (kind, status), BOUND)
}

fn leader(tenant: &Tenant) -> Result<Value> {
    let lease = tenant.kubectl.get(RELEASE, "lease", "clawlock-operator")?.ok_or("there is no Lease")?;
    Ok(lease["spec"]["holderIdentity"].clone())
}

#[test]
fn an_invalid_policy_forced_past_admission_leaves_the_last_good_one() -> Result<()> {
    let tenant = Tenant::create("forced")?;
    let agent = tenant.agent("agent")?;
    holds(&agent, &tenant)?;
    let wide = tenant.policy(WIDE);
    let apply = ["apply", "--server-side", "--field-manager=e2e", "--force-conflicts", "-f", "-"];
    let refused = tenant.kubectl.must_refuse(&apply, &wide)?;
    refused.says("rules[1].when")?;
    println!("figure: invalid edit: refused: {}", refused.0);

    let unasked = Unasked::begin()?;
    tenant.kubectl.apply(&wide)?;
    drop(unasked);
    let told = condition(&tenant, "Accepted", "False")?;
    println!("figure: invalid edit forced: Accepted=False {}: {}", told["reason"], told["message"]);
    holds(&agent, &tenant)?;

    // Everybody who could remember it starts anew, all replicas at once.
    let before = leader(&tenant)?;
    tenant.kubectl.run(&["delete", "pods", "-n", RELEASE, "-l", "clawlock.dev/role=operator", "--now"])?;
    back("operator")?;
    for pod in tenant.kubectl.list(&tenant.platform, "pods", "clawlock.dev/role=gateway")? {
        node::kill(&pod, "gateway")?;
    }
    let next = tenant.agent("next")?;
    assert_ne!(leader(&tenant)?, before, "the leader of before still leads");
    for agent in [&agent, &next] {
        holds(agent, &tenant)?;
    }
    let told = condition(&tenant, "Accepted", "False")?;
    println!("figure: invalid edit forced, operators and gateway restarted: last good holds; {}", told["message"]);
    assert!(told["message"].as_str().is_some_and(|message| message.contains("rules[1].when")), "{told}");

    tenant.kubectl.apply(&tenant.policy(RULES))?;
    condition(&tenant, "Accepted", "True")?;
    holds(&agent, &tenant)
}

#[test]
fn an_upstream_that_is_not_there_warns_and_denies() -> Result<()> {
    let tenant = Tenant::create("unknown")?;
    let agent = tenant.agent("agent")?;
    works(&agent, &tenant)?;
    let rules = r#"  - {name: reading, match: {operations: [elsewhere.list_charges]}, tier: Auto}
  - {name: any, match: {http: {upstreams: [elsewhere], paths: ["/**"]}}, tier: Auto}
"#;
    let policy = tenant.policy(rules);
    let apply = ["apply", "--server-side", "--field-manager=e2e", "--force-conflicts", "-f", "-"];
    let strict = [&apply[..], &["--dry-run=server", "--warnings-as-errors"]].concat();
    let warned = tenant.kubectl.must_refuse(&strict, &policy)?;
    warned.says("Warning")?;
    warned.says("elsewhere")?;
    println!("figure: unknown upstream: {}", warned.0);
    tenant.kubectl.apply(&policy)?;
    let told = condition(&tenant, "ResolvedRefs", "False")?;
    println!("figure: unknown upstream: ResolvedRefs=False {}: {}", told["reason"], told["message"]);
    for url in [tenant.url("/v1/charges"), "http://elsewhere.example/v1/charges".to_owned()] {
        let answer = agent.request(&[&url])?;
        assert_eq!(answer["status"], 403, "{url}: {answer}");
        println!("figure: unknown upstream: {url}: denied, {}", answer["code"]);
    }
    Ok(())
}
