//! An edit with kubectl is in force in the pods at once, on open streams too.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clawlock_e2e::{Result, Tenant};

/// How many edits are measured: `E2E_EDITS`, or enough to see that it works.
fn edits() -> usize {
    std::env::var("E2E_EDITS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// A patch that sets the tier of the first rule.
fn patch(tier: &str) -> String {
    format!(r#"[{{"op":"replace","path":"/spec/rules/0/tier","value":"{tier}"}}]"#)
}

#[test]
fn an_edit_is_in_force_at_once() -> Result<()> {
    let tenant = Tenant::create("edits")?;
    let agent = tenant.agent("agent")?;
    let mut answers = agent.start(&["poll", "--every", "5ms", "--for", "600s", &tenant.url("/v1/charges")])?;
    answers.until(|line| line["status"] == 200)?;
    let mut took = Vec::new();
    for n in 0..edits() {
        let (tier, status) = if n % 2 == 0 { ("Block", 403) } else { ("Auto", 200) };
        tenant.kubectl.run(&[
            "patch",
            "agentpolicy",
            "agent",
            "-n",
            &tenant.name,
            "--type=json",
            "-p",
            &patch(tier),
        ])?;
        let accepted = now_ms();
        let line = answers.until(|line| line["status"] == status)?;
        took.push((line["atMs"].as_i64().unwrap_or(i64::MAX) - accepted).max(0));
    }
    took.sort_unstable();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    eprintln!(
        "{} edits, from kubectl's return to the first request decided anew: median {median} ms, slowest {slowest} ms",
        took.len()
    );
    Ok(())
}

#[test]
fn a_halt_stops_and_its_removal_resumes() -> Result<()> {
    let tenant = Tenant::create("halt")?;
    let agent = tenant.agent("agent")?;
    let mut answers = agent.start(&["poll", "--every", "5ms", "--for", "120s", &tenant.url("/v1/charges")])?;
    answers.until(|line| line["status"] == 200)?;
    let halt = format!(
        "apiVersion: clawlock.dev/v1alpha1\nkind: AgentHalt\nmetadata: {{name: inc-42, namespace: {}}}\n\
         spec: {{agentSelector: {{}}, reason: \"INC-42: unusual refunds\"}}\n",
        tenant.name
    );
    tenant.kubectl.apply(&halt)?;
    let accepted = now_ms();
    let halted = answers.until(|line| line["code"] == "Halted")?;
    eprintln!("a halt was in force after {} ms", (halted["atMs"].as_i64().unwrap_or_default() - accepted).max(0));
    tenant.kubectl.run(&["delete", "agenthalt", "inc-42", "-n", &tenant.name])?;
    answers.until(|line| line["status"] == 200)?;
    Ok(())
}

#[test]
fn an_open_stream_that_is_no_longer_allowed_is_closed() -> Result<()> {
    let tenant = Tenant::create("streams")?;
    let agent = tenant.agent("agent")?;
    let mut stream = agent.start(&["stream", &tenant.url("/v1/events")])?;
    stream.until(|line| line["open"] == true && line["status"] == 200)?;
    tenant.kubectl.run(&["patch", "agentpolicy", "agent", "-n", &tenant.name, "--type=json", "-p", &patch("Block")])?;
    let started = Instant::now();
    let closed = stream.until(|line| line["open"] == false)?;
    eprintln!("the stream was closed after {} ms: {}", started.elapsed().as_millis(), closed["why"]);
    Ok(())
}

#[test]
fn an_invalid_edit_is_refused_and_the_last_good_one_stays() -> Result<()> {
    let tenant = Tenant::create("invalid")?;
    let agent = tenant.agent("agent")?;
    let broken = r#"[{"op":"add","path":"/spec/rules/0/when","value":"args.amount +"}]"#;
    let patch = ["patch", "agentpolicy", "agent", "-n", &tenant.name, "--type=json", "-p", broken];
    tenant.kubectl.must_refuse(&patch, "")?.says("spec.rules[0].when")?;
    let answer = agent.request(&[&tenant.url("/v1/charges")])?;
    assert_eq!(answer["status"], 200, "{answer}");
    Ok(())
}

#[test]
fn a_rotated_secret_is_used_for_the_next_request() -> Result<()> {
    let tenant = Tenant::create("rotate")?;
    let agent = tenant.agent("agent")?;
    assert_eq!(agent.request(&[&tenant.url("/v1/charges")])?["status"], 200);
    let rotated = r#"{"stringData":{"token":"rotated-credential-0815"}}"#;
    tenant.kubectl.run(&["patch", "secret", "payments", "-n", &tenant.platform, "-p", rotated])?;
    clawlock_e2e::eventually("the new credential is used", Duration::from_secs(10), || {
        agent.request(&[&tenant.url("/v1/charges")])?;
        let seen = tenant.seen()?;
        let last = seen.iter().rfind(|request| request["tls"] == true).cloned().unwrap_or_default();
        let used = last["header"]["Authorization"][0].as_str().unwrap_or_default().to_owned();
        if used == "Bearer rotated-credential-0815" { Ok(()) } else { Err("the old one was used".to_owned()) }
    })?;
    tenant.kubectl.run(&["delete", "secret", "payments", "-n", &tenant.platform])?;
    clawlock_e2e::eventually("without the Secret it is denied", Duration::from_secs(10), || {
        let answer = agent.request(&[&tenant.url("/v1/charges")])?;
        if answer["status"] == 200 { Err(answer.to_string()) } else { Ok(()) }
    })
}
