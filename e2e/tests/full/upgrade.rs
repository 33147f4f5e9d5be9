//! The release replaced by another version and back again, under load: agents go on as they are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clawlock_e2e::{Agent, Kubectl, Load, Result, Tenant, eventually, node, program};
use serde_json::Value;

use crate::creations::{Creations, Made};

const RELEASE: &str = "clawlock-system";
const RATE: u32 = 50;
const PROGRAMS: [&str; 3] = ["operator", "gateway", "sidecar"];

/// The version that is upgraded to. Only its name differs, and that of its images: whatever runs is replaced.
const VERSION: &str = "99.0.0-e2e";

/// The charts with the namespaces of their releases, in the order in which they are upgraded.
const CHARTS: [(&str, &str); 2] = [("clawlock-crds", "default"), ("clawlock", RELEASE)];

/// What is installed, which comes back when this is dropped.
struct Installed {
    revisions: Vec<(&'static str, &'static str, u64)>,
    packages: PathBuf,
    back: bool,
}

impl Installed {
    fn now() -> Result<Self> {
        let mut revisions = Vec::new();
        for (name, namespace) in CHARTS {
            let text = program::run("helm", &["status", name, "-n", namespace, "-o", "json"])?;
            let status: Value = serde_json::from_str(&text).map_err(|error| format!("helm status {name}: {error}"))?;
            let revision = status["version"].as_u64().ok_or_else(|| format!("{name} has no revision: {text}"))?;
            revisions.push((name, namespace, revision));
        }
        let packages = std::env::temp_dir().join(format!("clawlock-charts-{}", std::process::id()));
        std::fs::create_dir_all(&packages).map_err(|error| format!("{}: {error}", packages.display()))?;
        Ok(Self { revisions, packages, back: false })
    }

    /// Upgrades both charts to [`VERSION`], with images of that name.
    fn upgrade(&self) -> Result<()> {
        let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts");
        let tags: Vec<String> = PROGRAMS.iter().map(|program| format!("images.{program}.tag={VERSION}")).collect();
        for (name, namespace) in CHARTS {
            let (chart, to) = (charts.join(name), self.packages.to_string_lossy().into_owned());
            let chart = chart.to_string_lossy();
            program::run("helm", &["package", &chart, "--version", VERSION, "--app-version", VERSION, "-d", &to])?;
            let package = format!("{to}/{name}-{VERSION}.tgz");
            let mut upgrade = vec!["upgrade", name, &package, "-n", namespace, "--wait", "--timeout", "5m"];
            if name == "clawlock" {
                upgrade.push("--reuse-values");
                upgrade.extend(tags.iter().flat_map(|tag| ["--set", tag]));
            }
            program::run("helm", &upgrade)?;
        }
        Ok(())
    }

    fn rollback(&mut self) -> Result<()> {
        for (name, namespace, revision) in self.revisions.iter().rev() {
            let revision = revision.to_string();
            program::run("helm", &["rollback", name, &revision, "-n", namespace, "--wait", "--timeout", "5m"])?;
        }
        self.back = true;
        Ok(())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if !self.back
            && let Err(why) = self.rollback()
        {
            eprintln!("the release was not rolled back: {why}");
        }
        if let Err(why) = untag() {
            eprintln!("the images of {VERSION} stay: {why}");
        }
        // It is a temporary folder.
        drop(std::fs::remove_dir_all(&self.packages));
    }
}

fn nodes() -> Result<Vec<String>> {
    let nodes = Kubectl::admin().list("", "nodes", "")?;
    Ok(nodes.iter().filter_map(|node| node.pointer("/metadata/name")?.as_str().map(str::to_owned)).collect())
}

fn ctr(node: &str, args: &[&str]) -> Result<String> {
    node::run(node, &[&["ctr", "-n", "k8s.io", "images"], args].concat())
}

/// The name under which a node has an image of ours: containerd puts a registry before it.
fn named(node: &str, program: &str, tag: &str) -> Result<Option<String>> {
    let (names, ending) = (ctr(node, &["ls", "-q"])?, format!("/clawlock-{program}:{tag}"));
    Ok(names.lines().find(|name| name.ends_with(&ending)).map(str::to_owned))
}

/// Gives the release's images a second name in every node.
fn tag() -> Result<()> {
    let installed = program::run("helm", &["get", "values", "clawlock", "-n", RELEASE, "-o", "json"])?;
    let installed: Value = serde_json::from_str(&installed).map_err(|error| format!("helm get values: {error}"))?;
    for node in nodes()? {
        for program in PROGRAMS {
            let tag = installed["images"][program]["tag"].as_str().ok_or("the release has no tags of its own")?;
            let old = named(&node, program, tag)?.ok_or_else(|| format!("{node} has no image of {program} {tag}"))?;
            let new = old.strip_suffix(tag).map(|name| format!("{name}{VERSION}")).ok_or("it ends with its tag")?;
            ctr(&node, &["tag", "--force", &old, &new])?;
        }
    }
    Ok(())
}

fn untag() -> Result<()> {
    for node in nodes()? {
        for program in PROGRAMS {
            if let Some(name) = named(&node, program, VERSION)? {
                ctr(&node, &["rm", &name])?;
            }
        }
    }
    Ok(())
}

/// Images of the pods of a namespace that have a role.
fn images(namespace: &str, role: &str) -> Result<Vec<String>> {
    let pods = Kubectl::admin().list(namespace, "pods", &format!("clawlock.dev/role={role}"))?;
    let image = |pod: &Value| Some(pod.pointer("/spec/containers/0/image")?.as_str()?.to_owned());
    Ok(pods.iter().filter_map(image).collect())
}

/// Waits until all that runs of the release has images of this version, or none has.
fn all_are(tenant: &Tenant, new: bool) -> Result<()> {
    let parts = [(tenant.platform.as_str(), "gateway"), (RELEASE, "operator"), (RELEASE, "webhook")];
    for (namespace, role) in parts {
        eventually(&format!("the pods of the {role} are replaced"), Duration::from_secs(240), || {
            let images = images(namespace, role)?;
            let replaced = images.len() == 2 && images.iter().all(|image| image.ends_with(VERSION) == new);
            if replaced { Ok(()) } else { Err(format!("{images:?}")) }
        })?;
    }
    let set = "statefulset/clawlock-gateway";
    tenant.kubectl.run(&["rollout", "status", set, "-n", &tenant.platform, "--timeout=240s"]).map(drop)
}

/// A pod, and how often its containers were started.
fn life(agent: &Agent) -> Result<(String, u64)> {
    let pod = agent.get()?;
    let statuses = |list: &str| pod["status"][list].as_array().cloned().unwrap_or_default();
    let containers = [statuses("initContainerStatuses"), statuses("containerStatuses")].concat();
    let restarts = containers.iter().filter_map(|container| container["restartCount"].as_u64()).sum();
    Ok((pod["metadata"]["uid"].to_string(), restarts))
}

#[test]
fn upgrade_and_roll_back_without_a_failed_request() -> Result<()> {
    let tenant = Tenant::create("upgrade")?;
    crate::rotate::scale(&tenant)?;
    let agent = tenant.agent("agent")?;
    let before = life(&agent)?;
    tag()?;
    let mut installed = Installed::now()?;
    let load = Load::start(&agent, RATE, Duration::from_secs(1200), &tenant.url("/v1/charges"))?;
    let creations = Creations::start(&tenant.name);

    let started = Instant::now();
    installed.upgrade()?;
    all_are(&tenant, true)?;
    let upgraded = started.elapsed().as_secs();
    let newer = tenant.agent("newer")?;
    let image = newer.get()?["spec"]["initContainers"][0]["image"].to_string();
    assert!(image.contains(VERSION), "{image}");

    let started = Instant::now();
    installed.rollback()?;
    all_are(&tenant, false)?;
    let back = started.elapsed().as_secs();
    let Made { taken, refused } = creations.stop()?;
    let total = load.stop()?;
    println!("figure: upgraded in {upgraded} s, rolled back in {back} s, under {RATE}/s: {total}");
    println!("figure: pods created meanwhile: {taken} taken, {} refused", refused.len());
    total.none_failed(u64::from(RATE) * 60)?;
    assert!(refused.is_empty(), "{} of {taken}: {refused:?}", refused.len());
    assert_eq!(life(&agent)?, before, "the agent's pod was replaced, or a container of it restarted");
    // One that came with the newer release goes on under the older one.
    assert_eq!(newer.request(&[&tenant.url("/v1/charges")])?["status"], 200);
    Ok(())
}
