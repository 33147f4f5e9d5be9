//! A rule with `onDeny: Halt` halts its pod and no other, at both gates, until a person deletes the AgentHalt or the pod
//! ends.

use std::time::Duration;

use clawlock_e2e::{Agent, Kubectl, Result, Tenant, eventually};
use serde_json::Value;

/// Longer than it takes.
const BOUND: Duration = Duration::from_secs(20);

const HALTING: &str = r#"[{"op":"add","path":"/spec/rules/0","value":{"name":"no-secrets",
    "match":{"http":{"upstreams":["payments"],"paths":["/v1/secrets"]}},"tier":"Block","onDeny":"Halt"}}]"#;

/// The halt of a pod, once it is there.
fn halt_of(tenant: &Tenant, agent: &Agent) -> Result<Value> {
    let uid = agent.get()?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    eventually("the AgentHalt is there", BOUND, || {
        let halt = tenant.kubectl.get(&tenant.name, "agenthalt", &format!("pod-{uid}"))?;
        halt.ok_or_else(|| "there is none".to_owned())
    })
}

fn allows(agent: &Agent, url: &str) -> Result<()> {
    eventually("it is allowed", BOUND, || {
        let answer = agent.request(&[url])?;
        if answer["status"] == 200 { Ok(()) } else { Err(answer.to_string()) }
    })
}

/// Asks for what halts, once the rule is in force.
fn trips(agent: &Agent, url: &str) -> Result<()> {
    eventually("the rule refuses", BOUND, || {
        let answer = agent.request(&[url])?;
        if answer["rule"] == "no-secrets" { Ok(()) } else { Err(answer.to_string()) }
    })
}

#[test]
fn a_refusal_halts_its_pod_until_a_person_resumes_it() -> Result<()> {
    let tenant = Tenant::create("on-deny")?;
    tenant.kubectl.run(&["patch", "agentpolicy", "agent", "-n", &tenant.name, "--type=json", "-p", HALTING])?;
    let (agent, other) = (tenant.agent("agent")?, tenant.agent("other")?);
    let (charges, secrets) = (tenant.url("/v1/charges"), tenant.url("/v1/secrets"));
    // One connection, so that its answers can be read also once CONNECT is refused.
    let mut answers = agent.start(&["poll", "--every", "5ms", "--for", "120s", &charges])?;
    answers.until(|line| line["status"] == 200)?;
    trips(&agent, &secrets)?;
    answers.until(|line| line["code"] == "Halted" && line["rule"] == "no-secrets")?;
    let halt = halt_of(&tenant, &agent)?;
    println!("{}", halt["spec"]);
    assert_eq!(halt["spec"]["cause"]["denial"]["rule"], "no-secrets");
    assert_eq!(halt["metadata"]["ownerReferences"][0]["name"], "agent");
    let name = halt["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    tenant.condition("agenthalt", &tenant.name, &name, "Ready", BOUND)?;
    allows(&other, &charges)?;

    let delete = ["delete", "agenthalt", &name, "-n", &tenant.name];
    let account = format!("system:serviceaccount:{}:default", tenant.name);
    Kubectl::user(&account).must_refuse(&delete, "")?.says("forbidden")?;
    tenant.editor()?.run(&delete)?;
    answers.until(|line| line["status"] == 200)?;
    Ok(())
}

#[test]
fn a_halt_goes_with_its_pod() -> Result<()> {
    let tenant = Tenant::create("on-deny-end")?;
    tenant.kubectl.run(&["patch", "agentpolicy", "agent", "-n", &tenant.name, "--type=json", "-p", HALTING])?;
    let agent = tenant.agent("agent")?;
    trips(&agent, &tenant.url("/v1/secrets"))?;
    let name = halt_of(&tenant, &agent)?["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    agent.delete()?;
    let again = tenant.agent("agent")?;
    allows(&again, &tenant.url("/v1/charges"))?;
    eventually("the AgentHalt is gone", Duration::from_secs(60), || {
        match tenant.kubectl.get(&tenant.name, "agenthalt", &name)? {
            None => Ok(()),
            Some(halt) => Err(halt.to_string()),
        }
    })
}
