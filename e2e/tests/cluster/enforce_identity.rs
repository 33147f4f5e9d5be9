//! Who an agent can be at its gateway and at the control API behind it: nobody. What it sends there is what a fully
//! compromised agent would send, from its own pod.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clawlock_e2e::{Agent, Kubectl, Result, Tenant};
use serde_json::{Value, json};

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The address of the tenant's gateway.
fn gateway(tenant: &Tenant) -> Result<String> {
    let pods = tenant.kubectl.list(&tenant.platform, "pods", "clawlock.dev/role=gateway")?;
    let pod = pods.first().ok_or("the tenant has no gateway")?;
    Ok(format!("{}:8443", text(pod, "/status/podIP")))
}

/// The names of servers behind that address.
fn names(tenant: &Tenant) -> (String, String) {
    (format!("gateway.{}.clawlock.internal", tenant.name), format!("control.{}.clawlock.internal", tenant.name))
}

#[test]
fn only_the_sidecar_speaks_to_the_gateway() -> Result<()> {
    let tenant = Tenant::create("identity")?;
    let agent = tenant.agent("agent")?;
    let (address, (gateway_name, control)) = (gateway(&tenant)?, names(&tenant));
    let uid = text(&agent.get()?, "/metadata/uid");
    let itself = format!("spiffe://{0}.e2e.example/ns/{0}/sa/default/pod/{uid}", tenant.name);
    // The control: the one name that is passed on answers, and there is nothing to be had without a token.
    let answer = agent.say(&["dress", &address, &control])?;
    println!("{control}: {answer}");
    assert_eq!(answer["status"], 404, "{answer}");
    for (what, args) in [
        ("without a certificate", &["dress", &address, &gateway_name][..]),
        ("with a certificate of its own", &["dress", "-as", &itself, &address, &gateway_name]),
        ("to the control API with that certificate", &["dress", "-as", &itself, &address, &control]),
        ("to another tenant's control API", &["dress", &address, "control.other.clawlock.internal"]),
        ("to the operator by another name", &["dress", &address, "clawlock-operator.clawlock-system.svc"]),
        ("to its upstream by name", &["dress", &address, &tenant.host()]),
    ] {
        let answer = agent.say(args)?;
        println!("{what}: {}", answer["error"]);
        assert_eq!(answer["status"], 0, "{what}: {answer}");
        assert!(text(&answer, "/error").contains("remote error: tls"), "{what}: {answer}");
    }
    let stream = format!("https://{control}/v1/stream");
    let answer = agent.say(&["post", &address, &stream, r#"{"type":"hello","version":1,"documents":[]}"#])?;
    println!("a stream without a certificate: {answer}");
    assert!(answer["status"] == 401 || answer["status"] == 403, "{answer}");
    assert_eq!(agent.request(&[&tenant.url("/v1/charges")])?["status"], 200);
    Ok(())
}

#[test]
fn a_pod_that_floods_the_control_api_stops_nobody_else() -> Result<()> {
    let tenant = Tenant::create("flood")?;
    let (agent, neighbour) = (tenant.agent("agent")?, tenant.agent("neighbour")?);
    let (address, (gateway_name, control)) = (gateway(&tenant)?, names(&tenant));
    for name in [&control, &gateway_name] {
        let mut flood = agent.start(&["flood", "-n", "200", "-for", "60s", &address, name])?;
        let sum = flood.until(|line| line["tried"].is_u64())?;
        println!("figure: of {} connections of one pod to {name} {} are open at once", sum["tried"], sum["open"]);
        if *name == control {
            // What the gateway passes on for one pod at once: its sidecar has one of them.
            assert!(sum["open"].as_u64().is_some_and(|open| open <= 4), "{sum}");
        }
        assert_eq!(neighbour.request(&[&tenant.url("/v1/charges")])?["status"], 200);
        let next = tenant.agent("next")?;
        assert_eq!(next.request(&[&tenant.url("/v1/charges")])?["status"], 200);
        next.delete()?;
    }
    assert_eq!(agent.request(&[&tenant.url("/v1/charges")])?["status"], 200, "nor itself");
    Ok(())
}

/// A token of a pod's ServiceAccount, perhaps bound to the pod. For our audience only kubelets get one: the administrator
/// gives himself their group.
fn token(pod: &Agent, audiences: &[&str], bound: bool) -> Result<String> {
    let uid = text(&pod.get()?, "/metadata/uid");
    let mut args = vec!["create", "token", "default", "-n", &pod.namespace];
    args.extend(audiences.iter().flat_map(|audience| ["--audience", audience]));
    if bound {
        args.extend(["--bound-object-kind", "Pod", "--bound-object-name", &pod.name, "--bound-object-uid", &uid]);
    }
    let kubelet = Kubectl::member("kubelet", &["system:masters", "system:nodes"]);
    kubelet.run(&args).map(|token| token.trim().to_owned())
}

/// A token that says something else, with the signature of before.
fn changed(token: &str, change: impl Fn(&mut Value)) -> Result<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let &[head, payload, signature] = parts.as_slice() else { return Err("no token".to_owned()) };
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|error| error.to_string())?;
    let mut claims: Value = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
    change(&mut claims);
    Ok(format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string())))
}

#[test]
fn a_certificate_needs_the_token_of_a_living_pod() -> Result<()> {
    let (tenant, other) = (Tenant::create("tokens")?, Tenant::create("tokens-two")?);
    let (agent, neighbour) = (tenant.agent("agent")?, other.agent("agent")?);
    let elsewhere = Agent::create(&tenant.origin, "plain", "app: plain")?.ready(clawlock_e2e::tenant::STARTS)?;
    let (address, (_, control)) = (gateway(&tenant)?, names(&tenant));
    let enrol = |args: &[&str], token: &str| -> Result<(u64, String)> {
        let answer = agent.say(&[&["enrol"], args, &[&address, &control, token]].concat())?;
        Ok((answer["status"].as_u64().unwrap_or_default(), text(&answer, "/body")))
    };
    // The control: the pod's own token, as its node gets it.
    let good = token(&agent, &["clawlock.dev"], true)?;
    let (status, body) = enrol(&[], &good)?;
    assert_eq!(status, 200, "{body}");

    let gone = tenant.agent("gone")?;
    let dead = token(&gone, &["clawlock.dev"], true)?;
    gone.delete()?;
    let uid = text(&agent.get()?, "/metadata/uid");
    let ended = changed(&good, |claims| claims["exp"] = 1.into())?;
    let foreign = changed(&token(&agent, &["example.com"], true)?, |claims| claims["aud"] = json!(["clawlock.dev"]))?;
    let taken_on = changed(&token(&elsewhere, &["clawlock.dev"], true)?, |claims| {
        claims["kubernetes.io"]["namespace"] = json!(tenant.name);
        claims["kubernetes.io"]["pod"]["uid"] = json!(uid);
    })?;
    let mut wrong = Vec::new();
    for (what, token, status) in [
        ("of another audience", token(&agent, &["example.com"], true)?, 401),
        ("of two audiences", token(&agent, &["clawlock.dev", "example.com"], true)?, 401),
        ("of another audience, changed", foreign, 401),
        ("bound to no pod", token(&agent, &["clawlock.dev"], false)?, 401),
        ("that has ended", ended, 401),
        ("of a deleted pod", dead, 401),
        ("with another pod's uid", taken_on, 401),
        ("of a pod elsewhere", token(&elsewhere, &["clawlock.dev"], true)?, 403),
        ("of another tenant's agent", token(&neighbour, &["clawlock.dev"], true)?, 403),
        ("that is none", "a.b.c".to_owned(), 401),
    ] {
        let (answered, body) = enrol(&[], &token)?;
        println!("a token {what}: {answered} {body}");
        if answered != status || body.contains(&token) {
            wrong.push(format!("a token {what}: {answered} {body}"));
        }
    }
    for (what, args, status) in [
        ("an RSA key", &["-csr", "rsa"][..], 400),
        ("a signing request signed with another key", &["-csr", "spoilt"], 400),
        ("noise for a signing request", &["-csr", "noise"], 400),
        ("no JSON", &["-body", "{\"token\":"], 400),
        ("an unknown field", &["-body", "{\"token\":\"\",\"csr\":\"\",\"namespace\":\"kube-system\"}"], 400),
        ("a megabyte", &["-size", "1000000"], 400),
    ] {
        let (answered, body) = enrol(args, &good)?;
        println!("{what}: {answered} {body}");
        if answered != status || body.len() > 1024 {
            wrong.push(format!("{what}: {answered} {body}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nothing has changed for those whose token it is.
    assert_eq!(enrol(&[], &good)?.0, 200);
    assert_eq!(agent.request(&[&tenant.url("/v1/charges")])?["status"], 200);
    Ok(())
}
