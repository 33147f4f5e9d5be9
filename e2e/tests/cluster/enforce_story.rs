//! The story between real pods: allowed, blocked, unknown; the credential is seen at its upstream only.

use clawlock_e2e::tenant::CANARY;
use clawlock_e2e::{Result, Tenant};
use serde_json::Value;

fn status(answer: &Value) -> (u64, &str, &str) {
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    (answer["status"].as_u64().unwrap_or_default(), text("code"), text("rule"))
}

#[test]
fn calls_are_decided_and_the_credential_is_added_at_the_gateway() -> Result<()> {
    let tenant = Tenant::create("story")?;
    let agent = tenant.agent("agent")?;

    let allowed = agent.request(&[&tenant.url("/v1/charges")])?;
    assert_eq!(status(&allowed), (200, "", ""), "{allowed}");
    let small = agent.request(&["-X", "POST", "-d", r#"{"amount":5}"#, &tenant.url("/v1/refunds")])?;
    assert_eq!(status(&small), (200, "", ""), "{small}");
    let large = agent.request(&["-X", "POST", "-d", r#"{"amount":5000}"#, &tenant.url("/v1/refunds")])?;
    assert_eq!(status(&large), (403, "TierBlock", "large-refund"), "{large}");
    let nobody = agent.request(&["https://example.com/"])?;
    assert!(nobody["error"].as_str().unwrap_or_default().contains("Forbidden"), "{nobody}");

    // A credential of the agent's own does not get through, and ours does not come back.
    let own = ["-H", "Authorization: Bearer stolen-from-elsewhere", "-H", "X-Api-Key: stolen-too"];
    let echo = agent.request(&[&own[..], &[&tenant.url("/echo")]].concat())?;
    assert_eq!(status(&echo), (200, "", ""), "{echo}");
    assert!(!echo.to_string().contains(CANARY), "{echo}");

    let seen = tenant.seen()?;
    let requests: Vec<_> = seen.iter().filter(|request| request["tls"] == true).collect();
    assert_eq!(requests.len(), 3, "{seen:?}");
    for request in requests {
        assert_eq!(request["header"]["Authorization"][0], format!("Bearer {CANARY}"), "{request}");
        assert!(!request.to_string().contains("stolen"), "{request}");
    }
    Ok(())
}

#[test]
fn tool_calls_are_decided_in_the_pod() -> Result<()> {
    let tenant = Tenant::create("tools")?;
    let agent = tenant.agent("agent")?;
    for (tool, decision) in [("read", "allow"), ("exec", "deny")] {
        let answer = agent.say(&["decide", tool, r#"{"path":"/workspace/a"}"#])?;
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
        assert_eq!(body["decision"], decision, "{answer}");
    }
    Ok(())
}
