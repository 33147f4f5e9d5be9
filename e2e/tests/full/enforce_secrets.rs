//! Secrets that are deleted: what Upstreams refer to, and the release's keys. Denied or unchanged, never open.

use std::time::{Duration, Instant};

use clawlock_e2e::{Result, Tenant, eventually};

use crate::release::{RELEASE, back};
use crate::watch::{Watch, works};

const BOUND: Duration = Duration::from_secs(90);

#[test]
fn what_an_upstream_refers_to_is_deleted() -> Result<()> {
    let tenant = Tenant::create("references")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    works(&agent, &tenant)?;
    let object = |kind: &str, name: &str| {
        let kept = tenant.kubectl.get(&tenant.platform, kind, name)?;
        let mut kept = kept.ok_or_else(|| format!("there is no {kind} {name}"))?;
        kept["metadata"] = serde_json::json!({"name": name, "namespace": tenant.platform});
        tenant.kubectl.run(&["delete", kind, name, "-n", &tenant.platform])?;
        Ok::<_, String>((kept, Instant::now()))
    };
    let resolved =
        |status| tenant.condition_is("upstream", &tenant.platform, "payments", ("ResolvedRefs", status), BOUND);

    let (credential, deleted) = object("secret", "payments")?;
    let answer = eventually("requests are denied", BOUND, || {
        let answer = agent.request(&[&tenant.url("/v1/charges")])?;
        if answer["status"] == 200 { Err(answer.to_string()) } else { Ok(answer) }
    })?;
    assert_eq!(answer["code"], "CredentialUnavailable", "{answer}");
    println!("figure: Secret of the credential deleted: denied after {:.1} s", deleted.elapsed().as_secs_f64());
    tenant.kubectl.apply(&credential.to_string())?;
    let made = Instant::now();
    works(&agent, &tenant)?;
    println!("figure: Secret of the credential there again: arrives after {:.1} s", made.elapsed().as_secs_f64());

    // What an Upstream meant when it was good stays, and its status says what is missing.
    let (authority, _) = object("configmap", "payments-ca")?;
    let told = resolved("False")?;
    works(&agent, &tenant)?;
    println!("figure: ConfigMap of the CA deleted: unchanged; ResolvedRefs=False: {}", told["message"]);
    tenant.kubectl.apply(&authority.to_string())?;
    resolved("True")?;
    works(&agent, &tenant)?;
    println!("figure: referenced objects deleted: packets past the sidecar: 0 of {}", watch.closed()?);
    Ok(())
}

#[test]
fn the_releases_keys_are_deleted() -> Result<()> {
    let tenant = Tenant::create("keys")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    let ca = format!("clawlock-tenant-ca-{}", tenant.name);
    for (n, (name, is_put_back)) in
        [("clawlock-webhook-tls", false), ("clawlock-signing", true), ("clawlock-anchor", true), (&*ca, false)]
            .into_iter()
            .enumerate()
    {
        let secret =
            || tenant.kubectl.get(RELEASE, "secret", name)?.ok_or_else(|| format!("there is no Secret {name}"));
        let before = secret()?;
        tenant.kubectl.run(&["delete", "secret", name, "-n", RELEASE])?;
        let deleted = Instant::now();
        let after = eventually("it is there again", BOUND, secret)?;
        let how = if is_put_back { "written" } else { "made" };
        println!("figure: Secret {name} deleted: {how} again after {:.1} s", deleted.elapsed().as_secs_f64());
        assert_eq!(after["data"] == before["data"], is_put_back, "{name}");
        works(&agent, &tenant)?;
        works(&tenant.agent(&format!("next-{n}"))?, &tenant)?;
        println!(
            "figure: Secret {name} deleted: old and new agents work after {:.1} s",
            deleted.elapsed().as_secs_f64()
        );
    }
    // What was written is what the next operators read.
    tenant.kubectl.run(&["delete", "pods", "-n", RELEASE, "-l", "clawlock.dev/role=operator", "--now"])?;
    back("operator")?;
    works(&agent, &tenant)?;
    works(&tenant.agent("last")?, &tenant)?;
    println!("figure: keys deleted: packets past the sidecar: 0 of {}", watch.closed()?);
    Ok(())
}
