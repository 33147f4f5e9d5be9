//! The credential of an Upstream: at the upstream and in the gateway's memory, and nowhere near the agent. Whatever does
//! not find it must find something else in the same place with the same means.

use clawlock_e2e::node::Container;
use clawlock_e2e::tenant::CANARY;
use clawlock_e2e::{Agent, Kubectl, Result, Tenant};
use serde_json::Value;

/// What the agent sends in clear past its sidecar, to be dropped: the tools' question by UDP.
const IN_CLEAR: &str = "clawlock?";

/// Requests that make the gateway use the credential, one of them to an upstream that sends it back.
fn use_credential(tenant: &Tenant, agent: &Agent) -> Result<()> {
    for args in [
        &[tenant.url("/v1/charges")][..],
        &[tenant.url("/echo")],
        &["-X", "POST", "-d", r#"{"amount":5}"#, &tenant.url("/v1/refunds")].map(str::to_owned),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let answer = agent.request(&args)?;
        assert_eq!(answer["status"], 200, "{answer}");
        assert!(!answer.to_string().contains(CANARY), "{answer}");
    }
    Ok(())
}

/// The words that were found, by where.
fn found(searched: &Value, word: &str) -> Vec<String> {
    let found = searched["found"].as_array().into_iter().flatten().filter(|found| found["word"] == word);
    found.map(|found| format!("{} {}", found["form"], found["where"])).collect()
}

#[test]
fn the_credential_is_nowhere_near_the_agent() -> Result<()> {
    let tenant = Tenant::create("canary")?;
    let agent = tenant.agent("agent")?;
    use_credential(&tenant, &agent)?;
    let seen = tenant.seen()?;
    assert!(seen.iter().any(|request| request["header"]["Authorization"][0] == format!("Bearer {CANARY}")), "{seen:?}");

    bytes_on_the_network(&tenant, &agent)?;
    processes_and_files(&tenant, &agent)?;
    objects(&tenant)
}

/// Everything that crosses the agent's interface, while the gateway uses the credential.
fn bytes_on_the_network(tenant: &Tenant, agent: &Agent) -> Result<()> {
    let capture = Container::of(agent, "agent")?.capture(&[CANARY, IN_CLEAR, "Bearer "])?;
    use_credential(tenant, agent)?;
    // The control: what the pod sends in clear is seen, although the network drops it.
    assert_eq!(agent.reach("udp", "10.96.0.10:53")?, "dropped");
    let captured = capture.end()?;
    println!("figure: {} packets and {} bytes left the pod", captured["sent"]["packets"], captured["sent"]["bytes"]);
    println!("figure: {} packets came into the pod", captured["received"]["packets"]);
    assert_eq!(captured["lost"], 0, "{captured}");
    assert!(!found(&captured, IN_CLEAR).is_empty(), "{captured}");
    for word in [CANARY, "Bearer "] {
        assert!(found(&captured, word).is_empty(), "{captured}");
    }
    Ok(())
}

/// Environment, memory, files and logs of the pod, read by root of its node; the gateway is the control.
fn processes_and_files(tenant: &Tenant, agent: &Agent) -> Result<()> {
    let host = tenant.host();
    let search = |pod: &Agent, container: &str| -> Result<(Value, Value)> {
        let container = Container::of(pod, container)?;
        Ok((container.search(&[CANARY, &host])?, container.search_node(&[CANARY, "list_charges"])?))
    };
    let gateway = Agent::existing(&tenant.platform, "clawlock-gateway-0");
    let (inside, kept) = search(&gateway, "gateway")?;
    println!("figure: gateway: found {} times in its memory", found(&inside, CANARY).len());
    assert!(found(&inside, CANARY).iter().all(|place| place.contains("/mem ")), "only in its memory: {inside}");
    assert!(!found(&inside, CANARY).is_empty(), "the same search finds it in the gateway");
    assert!(found(&kept, CANARY).is_empty() && !found(&kept, "list_charges").is_empty(), "the gateway's log: {kept}");

    for container in ["clawlock", "agent"] {
        let (inside, kept) = search(agent, container)?;
        let Value::Object(mut figures) = inside.clone() else { return Err(format!("no object: {inside}")) };
        figures.remove("found");
        println!("figure: {container}: searched {}, found nothing", Value::Object(figures));
        assert_eq!(inside["unread"].as_array().map(Vec::len), Some(0), "{inside}");
        for searched in [&inside, &kept] {
            assert!(found(searched, CANARY).is_empty(), "{container}: {searched}");
        }
        // The control: the sidecar knows the upstream by name, and a variable of the agent was put there by us.
        let control =
            if container == "clawlock" { inside } else { Container::of(agent, "agent")?.search(&["_PROXY="])? };
        assert!(found(&control, "_PROXY=").len() + found(&control, &host).len() > 0, "{container}: {control}");
    }
    Ok(())
}

/// Every object of the agents' namespace that somebody bound to `edit` can list.
fn objects(tenant: &Tenant) -> Result<()> {
    let (editor, marker) = (tenant.editor()?, "a-secret-of-the-tenants-own");
    let own = ["create", "secret", "generic", "own", "-n", &tenant.name, &format!("--from-literal=key={marker}")];
    editor.run(&own)?;
    // The first bytes of either, in base64.
    let (marker, canary) = ("YS1zZWNyZXQtb2YtdGhlLXRl", "Y2FuYXJ5LXNr");
    let secrets = tenant.kubectl.run(&["get", "secrets", "-n", &tenant.platform, "-o", "json"])?;
    assert!(secrets.contains(canary), "the administrator finds it where it belongs");

    let kinds = Kubectl::admin().run(&["api-resources", "--verbs=list", "--namespaced", "--output=name"])?;
    let (mut listed, mut refused, mut controls) = (Vec::new(), 0, 0);
    for kind in kinds.lines() {
        match editor.run(&["get", kind, "-n", &tenant.name, "-o", "json"]) {
            Ok(objects) => {
                assert!(!objects.contains(CANARY) && !objects.contains(canary), "{kind}: {objects}");
                controls += usize::from(objects.contains(marker));
                listed.push(kind);
            }
            Err(why) if why.contains("Forbidden") => refused += 1,
            Err(why) => return Err(why),
        }
    }
    println!("figure: {} kinds listed as edit, {refused} refused: {}", listed.len(), listed.join(" "));
    assert_eq!(controls, 1, "the same search finds a Secret of the tenant's own");
    let elsewhere = editor.must_refuse(&["get", "secret", "payments", "-n", &tenant.platform], "")?;
    elsewhere.says("Forbidden")
}
