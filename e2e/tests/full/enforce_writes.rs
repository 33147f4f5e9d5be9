//! The operator killed after every write it makes, while a tenant is created, changed and deleted: what comes of it is
//! what comes of it without kills, and packets past the sidecar are dropped from the agent's first moment to its last.

use std::path::Path;
use std::time::Duration;

use clawlock_e2e::agent::{Lines, manifest};
use clawlock_e2e::snapshot::{self, Snapshot};
use clawlock_e2e::tenant::{RULES, STARTS};
use clawlock_e2e::{Agent, Beside, Result, Tenant, eventually};
use serde_json::Value;

/// The operator looks at everything every 15 s without any sign of a change: by then it has written what it would.
const QUIET: Duration = Duration::from_secs(16);
/// A chapter with some fifty lives of the operator, each of which reads everything first.
const CHAPTER: Duration = Duration::from_secs(300);

/// The last chapter.
const DELETION: &str = "deletion";

/// How each chapter ended, and how often the operator was killed in it.
struct Chapter {
    name: &'static str,
    end: Snapshot,
    kills: usize,
    writes: usize,
}

#[test]
fn an_operator_killed_after_every_write_converges_and_no_agent_is_ever_open() -> Result<()> {
    let mut operator = Beside::start(Path::new(env!("CARGO_TARGET_TMPDIR")).join("writes").as_path())?;
    let told = Story::tell(&mut operator, "writes-unharmed", None).and_then(|unharmed| {
        let killed = Story::tell(&mut operator, "writes-killed", Some(&unharmed))?;
        Ok((unharmed, killed))
    });
    let (unharmed, killed) = told.map_err(|why| format!("{why}\nthe operator's log:\n{}", operator.log()))?;
    operator.sound()?;
    let left = unharmed.iter().chain(&killed).filter(|chapter| chapter.name == DELETION);
    for chapter in left {
        let left: Vec<&String> = chapter.end.keys().filter(|name| !name.starts_with("status: ")).collect();
        assert!(left.is_empty(), "the tenant is gone, and this is not: {left:?}");
    }
    for (without, with) in unharmed.iter().zip(&killed) {
        let Chapter { name, kills, .. } = with;
        assert!(*kills > 0, "{name}: the operator was never killed");
        println!("figure: {name}: {kills} kills, {} writes; without kills {} writes", with.writes, without.writes);
    }
    let kills: Vec<String> =
        killed.iter().map(|chapter| format!("{} during {}", chapter.kills, chapter.name)).collect();
    println!("figure: operator killed after every write: {}; each converged", kills.join(", "));
    Ok(())
}

/// One tenant from its creation to its deletion.
struct Story<'a> {
    operator: &'a mut Beside,
    tenant: Tenant,
    /// What must come of each chapter; without it the operator is left alone.
    expected: Option<&'a [Chapter]>,
    told: Vec<Chapter>,
}

impl<'a> Story<'a> {
    fn tell(operator: &'a mut Beside, tenant: &str, expected: Option<&'a [Chapter]>) -> Result<Vec<Chapter>> {
        operator.turn(false)?;
        let tenant = Tenant::prepare(tenant)?;
        let mut story = Story { operator, tenant, expected, told: Vec::new() };
        let upstream = story.upstream()?;
        let agent = story.creation(&upstream)?;
        story.change(&agent)?;
        let answered = story.deletion(&agent)?;
        println!("figure: packets past the sidecar, from the agent's first moment to its last: {answered}");
        Ok(story.told)
    }

    /// The address that the agent tries, after it was shown that others reach it.
    fn upstream(&self) -> Result<String> {
        let Tenant { origin, .. } = &self.tenant;
        let pod = self.tenant.upstream_agent().ready(STARTS)?.get()?;
        let ip = pod.pointer("/status/podIP").and_then(Value::as_str).ok_or("the upstream has no address")?;
        let address = format!("{ip}:8443");
        let sender = Agent::create(origin, "sender", "app: sender")?.ready(STARTS)?;
        assert_eq!(sender.reach("tcp", &address)?, "answered", "a pod of another namespace reaches the upstream");
        Ok(address)
    }

    /// The tenant is declared. An agent is tried from before on; it is refused, and one day taken.
    fn creation(&mut self, upstream: &str) -> Result<Agent> {
        self.begin()?;
        let knocks = knocking(&self.tenant.name, upstream);
        let refused = self.tenant.kubectl.must_refuse(&["create", "-f", "-"], &knocks)?;
        refused.says("no TenantGateway lists it")?;
        self.tenant.declare("")?;
        let mut refusals = 1;
        eventually("an agent is taken", CHAPTER, || {
            let taken = self.tenant.kubectl.run_with(&["create", "-f", "-"], &knocks);
            refusals += usize::from(taken.is_err());
            taken
        })?;
        println!("an agent was refused {refusals} times before it was taken");
        let agent = Agent::existing(&self.tenant.name, "agent");
        self.end("creation", served)?;
        assert_eq!(self.refund(&agent)?, 200, "50 is below the limit of the policy");
        closed(&agent.follow()?.read()?)?;
        Ok(agent)
    }

    /// Everything that can be changed is, one thing after the other, without waiting for the operator.
    fn change(&mut self, agent: &Agent) -> Result<()> {
        self.begin()?;
        let gateway = self.tenant.gateway(MORE).replace("replicas: 1", "replicas: 2");
        self.tenant.kubectl.apply(&gateway)?;
        self.tenant.kubectl.apply(&self.tenant.policy(&RULES.replace("args.amount <= 100", "args.amount <= 10")))?;
        let platform = &self.tenant.platform;
        self.tenant.kubectl.run(&["patch", "upstream", "payments", "-n", platform, "--type=json", "-p", OPERATION])?;
        self.end("change", served)?;
        assert_eq!(self.refund(agent)?, 403, "50 is above the new limit");
        closed(&agent.follow()?.read()?)
    }

    /// The tenant goes first: it stays until its last agent is gone. Answers how often the agent tried to get out.
    fn deletion(&mut self, agent: &Agent) -> Result<Value> {
        self.begin()?;
        let Tenant { name, platform, kubectl, .. } = &self.tenant;
        kubectl.run(&["delete", "tenantgateway", name, "-n", platform, "--wait=false"])?;
        let operator = &self.operator;
        eventually("the operator has said that it waits for the agent", CHAPTER, || operator.quiet(QUIET))?;
        assert_eq!(self.refund(agent)?, 403, "its policy holds while the tenant waits for it to go");
        let knocks = agent.follow()?;
        kubectl.run(&["delete", "pod", &agent.name, "-n", name, "--wait=false"])?;
        self.end(DELETION, gone)?;
        last(knocks)
    }

    fn begin(&mut self) -> Result<()> {
        self.operator.turn(self.expected.is_some())
    }

    /// Waits until the operator writes nothing new, and everything is as it should be.
    fn end(&mut self, name: &'static str, done: fn(&Tenant) -> Result<()>) -> Result<()> {
        let expected = self.expected.and_then(|told| told.iter().find(|chapter| chapter.name == name));
        let end = eventually(name, CHAPTER, || {
            self.operator.quiet(QUIET)?;
            done(&self.tenant)?;
            let end = snapshot::take(&self.tenant)?;
            let difference = expected.map(|chapter| snapshot::difference(&chapter.end, &end)).unwrap_or_default();
            if difference.is_empty() {
                Ok(end)
            } else {
                Err(format!("it differs from that without kills:\n{difference}"))
            }
        })?;
        let writes = self.operator.writes();
        let kills = writes.iter().filter(|write| write.killed).count();
        for write in writes.iter().filter(|write| write.killed) {
            println!("{name}: killed after {}", write.what);
        }
        self.told.push(Chapter { name, end, kills, writes: writes.len() });
        Ok(())
    }

    fn refund(&self, agent: &Agent) -> Result<Value> {
        let answer = agent.request(&["-X", "POST", "-d", r#"{"amount":50}"#, &self.tenant.url("/v1/refunds")])?;
        Ok(answer["status"].clone())
    }
}

fn served(tenant: &Tenant) -> Result<()> {
    tenant.condition("tenantgateway", &tenant.platform, &tenant.name, "Ready", Duration::ZERO)
}

fn gone(tenant: &Tenant) -> Result<()> {
    match tenant.kubectl.get(&tenant.platform, "tenantgateway", &tenant.name)? {
        None => Ok(()),
        Some(object) => Err(object["metadata"].to_string()),
    }
}

/// What the change adds to the TenantGateway.
const MORE: &str = r"  agents:
    exemptions:
    - {name: batch, podSelector: {matchLabels: {role: batch}}}
    ingress:
    - name: web
      from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]
      ports: [{port: 18789}]
  identity: {certificateTTL: 12h}
";

/// What the change adds to the Upstream.
const OPERATION: &str = r#"[{"op": "add", "path": "/spec/operations/-",
    "value": {"name": "list_refunds", "method": "GET", "path": "/v1/refunds"}}]"#;

/// An agent whose only work is to try to get out, and which goes on when it is told to end.
fn knocking(namespace: &str, address: &str) -> String {
    manifest(namespace, "agent", "app: agent")
        .replace("[/tools, wait]", &format!("[/tools, knock, tcp, '{address}']"))
        .replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 5")
}

/// Fails when a packet got out, or when none was tried.
fn closed(sum: &Value) -> Result<()> {
    let tried = sum["soFar"].as_u64().unwrap_or_default() > 0;
    if tried && sum["answered"] == 0 { Ok(()) } else { Err(format!("packets got out, or none was tried: {sum}")) }
}

/// Reads an agent's sums until it is gone; each of them counts.
fn last(knocks: Lines) -> Result<Value> {
    let mut last = Value::Null;
    for sum in knocks {
        last = sum?;
        closed(&last)?;
    }
    if last.is_null() { Err("the agent said nothing".to_owned()) } else { Ok(last) }
}
