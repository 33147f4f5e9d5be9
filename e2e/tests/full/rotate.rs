//! Keys, certificates and credentials that change under load, without a request that fails.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clawlock_e2e::{Agent, Kubectl, Load, Result, Tenant, eventually};
use serde_json::Value;

use crate::creations::{Creations, Made};

const RELEASE: &str = "clawlock-system";

/// The shortest life of a certificate that the API takes.
const LEAVES_OF_A_MINUTE: &str = "  identity: {certificateTTL: 60s}\n";

/// How many requests a second certificates are renewed under.
const RATE: u32 = 50;

/// Longer than any load here lasts: it is stopped when what it is for is done.
const UNTIL_STOPPED: Duration = Duration::from_secs(600);

/// How long the operator and the pods may take to do a step that nothing holds back.
const SOON: Duration = Duration::from_secs(60);

/// A certificate as the gateway shows it to an agent.
fn shown(agent: &Agent, tenant: &Tenant) -> Result<Value> {
    let host = format!("clawlock-gateway.{}", tenant.platform);
    let service = tenant.kubectl.get(&tenant.platform, "service", "clawlock-gateway")?.ok_or(host)?;
    let address = service.pointer("/spec/clusterIP").and_then(Value::as_str).ok_or("the gateway has no address")?;
    agent.say(&["leaf", &format!("{address}:8443"), &format!("gateway.{}.clawlock.internal", tenant.name)])
}

/// Ends of the certificates that a sidecar has got within the last seconds, as it says in its log.
fn issued(agent: &Agent, seconds: u32) -> Result<BTreeSet<String>> {
    let since = format!("--since={seconds}s");
    let log = Kubectl::admin().run(&["logs", "-n", &agent.namespace, &agent.name, "-c", "clawlock", &since])?;
    let lines = log.lines().filter(|line| line.contains("a certificate was issued to this pod"));
    Ok(lines.filter_map(|line| Some(line.split_once("not_after_ms=")?.1.trim().to_owned())).collect())
}

#[test]
fn rotate_leaves_of_a_minute_without_a_failed_request() -> Result<()> {
    let tenant = Tenant::create_with("rotate-leaves", LEAVES_OF_A_MINUTE)?;
    let agent = tenant.agent("agent")?;
    let started = Instant::now();
    let five_minutes = Duration::from_secs(300);
    let mut load = Load::start(&agent, RATE, five_minutes, &tenant.url("/v1/charges"))?;
    let (mut gateways, mut sidecars) = (BTreeSet::new(), BTreeSet::new());
    let mut seconds = 0_u32;
    while load.second()? {
        seconds += 1;
        if seconds.is_multiple_of(10) {
            let leaf = shown(&agent, &tenant)?;
            let life =
                leaf["notAfterMs"].as_i64().unwrap_or_default() - leaf["notBeforeMs"].as_i64().unwrap_or_default();
            assert!(life <= 10 * 60_000, "a certificate of a minute, and of some minutes before for clocks: {leaf}");
            gateways.insert(leaf["serial"].to_string());
            sidecars.append(&mut issued(&agent, 30)?);
        }
    }
    let total = load.finish()?;
    println!("figure: leaves of 60 s under {RATE}/s for {} s: {total}", started.elapsed().as_secs());
    println!("figure: certificates seen: {} of the gateway, {} of the sidecar", gateways.len(), sidecars.len());
    total.none_failed(u64::from(RATE) * 290)?;
    // More than one a minute: each is renewed before it ends.
    assert!(gateways.len() > 5 && sidecars.len() > 5, "{gateways:?} {sidecars:?}");
    Ok(())
}

/// The Secret of the tenant's CA.
fn ca_secret(tenant: &Tenant) -> Result<Value> {
    let name = format!("clawlock-tenant-ca-{}", tenant.name);
    tenant.kubectl.get(RELEASE, "secret", &name)?.ok_or_else(|| format!("{name} is not there"))
}

fn has(secret: &Value, key: &str) -> bool {
    secret["data"][key].is_string()
}

#[test]
fn rotate_the_ca_of_a_tenant_without_a_failed_request() -> Result<()> {
    let tenant = Tenant::create_with("rotate-ca", LEAVES_OF_A_MINUTE)?;
    let agent = tenant.agent("agent")?;
    let before = shown(&agent, &tenant)?;
    let load = Load::start(&agent, RATE, UNTIL_STOPPED, &tenant.url("/v1/charges"))?;
    let started = Instant::now();
    let gateway = ["annotate", "tenantgateway", &tenant.name, "-n", &tenant.platform, "--overwrite"];
    tenant.kubectl.run(&[&gateway[..], &["clawlock.dev/roll-ca=e2e"]].concat())?;
    eventually("both roots are trusted", SOON, || {
        let secret = ca_secret(&tenant)?;
        if has(&secret, "next.crt") { Ok(()) } else { Err(secret["metadata"].to_string()) }
    })?;
    eventually("the new CA issues", Duration::from_secs(150), || {
        let secret = ca_secret(&tenant)?;
        if has(&secret, "previous.crt") { Ok(()) } else { Err(secret["metadata"].to_string()) }
    })?;
    let issues = started.elapsed();
    eventually("the gateway shows a certificate of the new CA", SOON, || {
        let leaf = shown(&agent, &tenant)?;
        if leaf["issuer"] == before["issuer"] { Err(leaf.to_string()) } else { Ok(()) }
    })?;
    // Every leaf of the old one is dead before its root goes.
    eventually("the sidecar has had a new certificate since", SOON, || {
        if issued(&agent, 15)?.is_empty() { Err("none within 15 s".to_owned()) } else { Ok(()) }
    })?;
    // The wait for clocks that differ is cut short; what is shown is that nothing needs the old root any more.
    let name = format!("clawlock-tenant-ca-{}", tenant.name);
    let past = "clawlock.dev/previous-until-ms=1";
    tenant.kubectl.run(&["annotate", "secret", &name, "-n", RELEASE, "--overwrite", past])?;
    eventually("the old root is no longer trusted", SOON, || {
        let secret = ca_secret(&tenant)?;
        if has(&secret, "previous.crt") { Err(secret["metadata"].to_string()) } else { Ok(()) }
    })?;
    let renewed = shown(&agent, &tenant)?;
    eventually("a certificate is renewed once more", SOON, || {
        let leaf = shown(&agent, &tenant)?;
        if leaf["serial"] == renewed["serial"] { Err(leaf.to_string()) } else { Ok(()) }
    })?;
    let total = load.stop()?;
    println!("figure: tenant CA rolled under {RATE}/s, the new one issued after {} s: {total}", issues.as_secs());
    total.none_failed(u64::from(RATE) * 90)
}

/// What the upstream says about a credential: how often, first and last time.
fn credential(tenant: &Tenant, token: &str) -> Result<Option<(u64, i64, i64)>> {
    let answer = tenant.upstream_agent().request(&["http://127.0.0.1:8080/credentials"])?;
    let body = answer["body"].as_str().unwrap_or_default();
    let all: Value = serde_json::from_str(body).map_err(|error| format!("{answer}: {error}"))?;
    let of = &all[format!("Bearer {token}")];
    let ms = |key: &str| of[key].as_i64().unwrap_or_default();
    Ok(of["count"].as_u64().map(|count| (count, ms("firstMs"), ms("lastMs"))))
}

#[test]
fn rotate_a_secret_without_a_failed_request() -> Result<()> {
    const NEW: &str = "rotated-credential-0815";
    /// For how long gateways may differ: each hears of a Secret by a watch of its own.
    const BOUND_MS: i64 = 1000;
    let tenant = Tenant::create("rotate-secret")?;
    scale(&tenant)?;
    let agent = tenant.agent("agent")?;
    let mut load = Load::start(&agent, RATE, UNTIL_STOPPED, &tenant.url("/v1/charges"))?;
    assert!(credential(&tenant, NEW)?.is_none(), "the new one is not there yet");
    let rotated = format!(r#"{{"stringData":{{"token":"{NEW}"}}}}"#);
    tenant.kubectl.run(&["patch", "secret", "payments", "-n", &tenant.platform, "-p", &rotated])?;
    eventually("the new credential is used", SOON, || credential(&tenant, NEW)?.ok_or_else(|| "not yet".to_owned()))?;
    for _ in 0..20 {
        load.second()?;
    }
    let total = load.stop()?;
    let (old, _, old_last) = credential(&tenant, clawlock_e2e::tenant::CANARY)?.ok_or("the old one was never used")?;
    let (new, new_first, _) = credential(&tenant, NEW)?.ok_or("the new one was never used")?;
    let overlap = (old_last - new_first).max(0);
    println!("figure: Secret rotated under {RATE}/s: {total}; {old} requests with the old one, {new} with the new one");
    println!("figure: the old credential came last {overlap} ms after the new one came first");
    total.none_failed(u64::from(RATE) * 15)?;
    assert!(overlap <= BOUND_MS, "{overlap} ms");

    // That a load sees requests which fail: without the Secret they do.
    let mut load = Load::start(&agent, RATE, UNTIL_STOPPED, &tenant.url("/v1/charges"))?;
    tenant.kubectl.run(&["delete", "secret", "payments", "-n", &tenant.platform])?;
    for _ in 0..5 {
        load.second()?;
    }
    let total = load.stop()?;
    assert!(total.failed > 0, "{total}");
    Ok(())
}

/// Two gateways for a tenant.
pub(crate) fn scale(tenant: &Tenant) -> Result<()> {
    let two = r#"{"spec":{"replicas":2}}"#;
    let gateway = ["tenantgateway", &tenant.name, "-n", &tenant.platform];
    tenant.kubectl.run(&[&["patch"], &gateway[..], &["--type=merge", "-p", two]].concat())?;
    eventually("there are two gateways", Duration::from_secs(120), || {
        let set = tenant.kubectl.get(&tenant.platform, "statefulset", "clawlock-gateway")?.ok_or("it is not there")?;
        if set["status"]["readyReplicas"] == 2 { Ok(()) } else { Err(set["status"].to_string()) }
    })
}

#[test]
fn rotate_gateways_under_200_requests_a_second_without_a_failed_one() -> Result<()> {
    const RATE: u32 = 200;
    let tenant = Tenant::create("rotate-gateways")?;
    scale(&tenant)?;
    let (agent, listener) = (tenant.agent("agent")?, tenant.agent("listener")?);
    let load = Load::start(&agent, RATE, UNTIL_STOPPED, &tenant.url("/v1/charges"))?;
    let pods = || tenant.kubectl.list(&tenant.platform, "pods", "clawlock.dev/role=gateway");
    let before = uids(&pods()?);
    assert_eq!(before.len(), 2);
    // Half a minute of events: longer than a gateway is given to leave its Service, shorter than its drain.
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = listener.start(&["stream", &tenant.url("/v1/events?events=400")])?;
        stream.until(|line| line["open"] == true && line["status"] == 200)?;
        streams.push(stream);
    }
    let started = Instant::now();
    let set = "statefulset/clawlock-gateway";
    tenant.kubectl.run(&["rollout", "restart", set, "-n", &tenant.platform])?;
    tenant.kubectl.run(&["rollout", "status", set, "-n", &tenant.platform, "--timeout=300s"])?;
    let took = started.elapsed().as_secs();
    let after = uids(&pods()?);
    assert!(after.len() == 2 && after.is_disjoint(&before), "{before:?} {after:?}");
    let mut whole = 0;
    for stream in &mut streams {
        let end = stream.until(|line| line["open"] == false)?;
        assert!(end["whole"] == true && end["events"] == 400, "a stream shorter than the drain was cut: {end}");
        whole += 1;
    }
    let total = load.stop()?;
    println!(
        "figure: two gateways rolled in {took} s under {RATE}/s: {total}; {whole} open streams of 40 s ended whole"
    );
    total.none_failed(u64::from(RATE) * 20)
}

fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect()
}

/// The serial of the certificate that a webhook shows, as the API server sees it.
fn webhook_leaf(asking: &Agent) -> Result<String> {
    let service = Kubectl::admin().get(RELEASE, "service", "clawlock-webhook")?.ok_or("there is no webhook")?;
    let address = service.pointer("/spec/clusterIP").and_then(Value::as_str).ok_or("the webhook has no address")?;
    let leaf = asking.say(&["leaf", &format!("{address}:443"), "clawlock-webhook.clawlock-system.svc"])?;
    leaf["serial"].as_str().map(str::to_owned).ok_or_else(|| format!("no serial: {leaf}"))
}

/// Waits until no webhook shows a certificate any more, while pods are created.
fn rolled(tenant: &Tenant, what: &str, roll: impl FnOnce() -> Result<()>) -> Result<Made> {
    // Beside the tenant's agents, who reach nothing but their gateway.
    let asking = tenant.upstream_agent();
    let before = webhook_leaf(&asking)?;
    let (creations, started) = (Creations::start(&tenant.name), Instant::now());
    roll()?;
    eventually("the webhooks show another certificate", Duration::from_secs(180), || {
        // Whichever of them it is that answers.
        for _ in 0..8 {
            if webhook_leaf(&asking)? == before {
                return Err("one shows the old one".to_owned());
            }
        }
        Ok(())
    })?;
    let took = started.elapsed().as_secs();
    // One that is kept.
    tenant.agent("agent")?.delete()?;
    let made = creations.stop()?;
    let Made { taken, refused } = &made;
    println!("figure: {what}, new certificate after {took} s: {taken} pods taken meanwhile, {} refused", refused.len());
    Ok(made)
}

#[test]
fn rotate_the_certificate_of_the_webhooks_without_a_refused_pod() -> Result<()> {
    let tenant = Tenant::create("rotate-webhook")?;
    let annotate = |mark: &str| {
        let secret = ["annotate", "secret", "clawlock-webhook-tls", "-n", RELEASE, "--overwrite", mark];
        Kubectl::admin().run(&secret).map(drop)
    };
    // Each roll waits until what was served before the one before is forgotten, which takes minutes: not for the test.
    annotate("clawlock.dev/old-until-ms=1")?;
    let serial = webhook_leaf(&tenant.upstream_agent())?;
    let made = rolled(&tenant, "webhook certificate rolled", || annotate(&format!("clawlock.dev/roll=e2e-{serial}")))?;
    assert!(made.taken > 30 && made.refused.is_empty(), "{:?}", made.refused);

    let made = rolled(&tenant, "webhook Secret deleted", || {
        Kubectl::admin().run(&["delete", "secret", "clawlock-webhook-tls", "-n", RELEASE]).map(drop)
    })?;
    assert!(made.taken > 0 && made.refused.is_empty(), "{:?}", made.refused);
    Ok(())
}
