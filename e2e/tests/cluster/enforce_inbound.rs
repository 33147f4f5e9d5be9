//! What comes in: to agents, to the webhook, and by NetworkPolicies that others write.

use std::time::Duration;

use clawlock_e2e::{Agent, Kubectl, Result, Tenant, eventually};
use serde_json::{Value, json};

fn ip(pod: &Agent) -> Result<String> {
    let pod = pod.get()?;
    pod.pointer("/status/podIP").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| "no address".to_owned())
}

#[test]
fn nobody_connects_to_an_agent_but_who_is_listed() -> Result<()> {
    let tenant = Tenant::create("inbound")?;
    let agent = tenant.agent("agent")?;
    let outside = Agent::create(&tenant.origin, "outside", "app: outside")?.ready(Duration::from_secs(60))?;
    let neighbour = tenant.agent("neighbour")?;
    let _listening = agent.start(&["accept", "18789"])?;
    let address = format!("{}:18789", ip(&agent)?);
    // The control: it listens, and in its own pod it is reached.
    eventually("the agent listens", Duration::from_secs(10), || {
        let outcome = agent.reach("tcp", &address)?;
        if outcome == "answered" { Ok(()) } else { Err(outcome) }
    })?;
    assert_eq!(outside.reach("tcp", &address)?, "dropped", "a pod elsewhere");
    assert_eq!(neighbour.reach("tcp", &address)?, "dropped", "another agent of the tenant");

    let listed = format!(
        "  agents:\n    ingress:\n    - name: web\n      from: [{{namespaceSelector: {{matchLabels: \
         {{kubernetes.io/metadata.name: {}}}}}}}]\n      ports: [{{port: 18789}}]\n",
        tenant.origin
    );
    tenant.kubectl.apply(&tenant.gateway(&listed))?;
    eventually("the listed pod connects", Duration::from_secs(30), || {
        let outcome = outside.reach("tcp", &address)?;
        if outcome == "answered" { Ok(()) } else { Err(outcome) }
    })?;
    assert_eq!(neighbour.reach("tcp", &address)?, "dropped", "another agent is not listed");
    tenant.kubectl.apply(&tenant.gateway(""))?;
    eventually("what is listed no more is dropped", Duration::from_secs(30), || {
        let outcome = outside.reach("tcp", &address)?;
        if outcome == "dropped" { Ok(()) } else { Err(outcome) }
    })
}

#[test]
fn a_foreign_policy_that_widens_is_named() -> Result<()> {
    let tenant = Tenant::create("widens")?;
    let (name, platform, soon) = (tenant.name.as_str(), tenant.platform.as_str(), Duration::from_secs(60));
    let isolated = |status| tenant.condition_is("tenantgateway", platform, name, ("EgressIsolated", status), soon);
    isolated("True")?;
    // The platform team may; whoever reads the status should know.
    let open = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "left-open", "namespace": name},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    });
    tenant.kubectl.apply(&open.to_string())?;
    let condition = isolated("False")?;
    println!("status: {}", condition["message"]);
    assert!(condition["message"].to_string().contains("left-open"), "{condition}");
    tenant.kubectl.run(&["delete", "networkpolicy", "left-open", "-n", name])?;
    isolated("True").map(drop)
}

#[test]
fn reviews_posted_from_a_pod_are_answered_in_bounds_and_change_nothing() -> Result<()> {
    let tenant = Tenant::create("reviews")?;
    // Not from an agent's pod: there the network drops it (see enforce_isolation).
    let outside = Agent::create(&tenant.origin, "outside", "app: outside")?.ready(Duration::from_secs(60))?;
    let webhooks = Kubectl::admin().list("clawlock-system", "pods", "clawlock.dev/role=webhook")?;
    let pod = &webhooks.first().ok_or("there is no webhook")?["metadata"]["name"];
    let webhook = Agent::existing("clawlock-system", pod.as_str().unwrap_or_default());
    let address = format!("{}:9443", ip(&webhook)?);
    let restarts = || Ok::<_, String>(webhook.get()?.pointer("/status/containerStatuses/0/restartCount").cloned());
    let before = restarts()?;
    let review = |operation: &str| {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "operation": operation, "namespace": tenant.name, "name": "posted",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"}, "userInfo": {"username": "system:admin"},
                "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "posted"}, "spec": {"containers": []}},
            },
        })
        .to_string()
    };
    let post = |path: &str, body: &str, size: &str| {
        let url = format!("https://clawlock-webhook.clawlock-system.svc{path}");
        outside.say(&["post", "-size", size, &address, &url, body])
    };
    for (what, path, body, size, status) in [
        ("a review", "/mutate/pods", review("CREATE"), "0", 200),
        ("a review of a deletion", "/mutate/pods", review("DELETE"), "0", 400),
        ("a review of another kind", "/validate/upstreams", review("CREATE"), "0", 400),
        ("no JSON", "/mutate/pods", "{\"kind\":".to_owned(), "0", 400),
        ("nested JSON", "/mutate/pods", "[".repeat(100_000), "0", 400),
        ("32 MiB", "/mutate/pods", "{".to_owned(), "33554432", 413),
        ("another path", "/metrics", String::new(), "0", 404),
    ] {
        let answer = post(path, &body, size)?;
        let text = answer["body"].as_str().unwrap_or_default();
        println!("{what}: {} {}", answer["status"], text.chars().take(160).collect::<String>().trim());
        // Whoever goes on sending after the answer may lose it with the connection.
        let cut = answer["status"] == 0 && status == 413;
        assert!(answer["status"] == status || cut, "{what}: {answer}");
    }
    assert!(tenant.kubectl.get(&tenant.name, "pod", "posted")?.is_none(), "an answer is no pod");
    assert_eq!(restarts()?, before, "the webhook goes on");
    tenant.agent("agent").map(drop)
}
