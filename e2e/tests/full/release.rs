//! The release as somebody breaks it and puts it right again.

use clawlock_e2e::{Kubectl, Result, program};

/// Its namespace.
pub(crate) const RELEASE: &str = "clawlock-system";

/// Waits until all replicas of a part are there.
pub(crate) fn back(role: &str) -> Result<()> {
    let deployment = format!("deployment/clawlock-{role}");
    Kubectl::admin().run(&["rollout", "status", "-n", RELEASE, &deployment, "--timeout=180s"]).map(drop)
}

/// A chart of this checkout.
fn chart(name: &str) -> String {
    format!("{}/../charts/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Both charts, uninstalled for as long as this lives.
pub(crate) struct Uninstalled {
    values: String,
}

impl Uninstalled {
    /// Uninstalls the release and then the definitions, as the page on the first minutes says.
    pub(crate) fn all() -> Result<Self> {
        let values = program::run("helm", &["get", "values", "clawlock", "-n", RELEASE, "-o", "json"])?;
        let this = Self { values };
        program::run("helm", &["uninstall", "clawlock", "-n", RELEASE, "--wait", "--timeout=2m"])?;
        program::run("helm", &["uninstall", "clawlock-crds"])?;
        Ok(this)
    }

    /// Installs both again, with the values of before.
    pub(crate) fn install(&self) -> Result<()> {
        install_definitions()?;
        let chart = chart("clawlock");
        let args = ["upgrade", "--install", "clawlock", &chart, "-n", RELEASE, "-f", "-", "--wait", "--timeout=5m"];
        program::run_with("helm", &args, &self.values).map(drop)
    }
}

impl Drop for Uninstalled {
    fn drop(&mut self) {
        // Also when a test fails: the next one needs the release.
        if let Err(why) = self.install() {
            eprintln!("the release is not installed again: {why}");
        }
    }
}

/// Installs the definitions, or what is missing of them.
fn install_definitions() -> Result<()> {
    program::run("helm", &["upgrade", "--install", "clawlock-crds", &chart("clawlock-crds")]).map(drop)
}

/// A definition that is deleted by somebody who means it, for as long as this lives.
pub(crate) struct Undefined(());

impl Undefined {
    /// Deletes it, and every object of its kind.
    pub(crate) fn begin(definition: &str) -> Result<Self> {
        Kubectl::admin().run(&["annotate", "crd", definition, "clawlock.dev/allow-deletion=true"])?;
        let this = Self(());
        Kubectl::admin().run(&["delete", "crd", definition, "--timeout=60s"])?;
        Ok(this)
    }
}

impl Drop for Undefined {
    fn drop(&mut self) {
        if let Err(why) = install_definitions() {
            eprintln!("the definitions are not installed again: {why}");
        }
    }
}

/// The validating webhook, which asks nobody for as long as this lives.
pub(crate) struct Unasked {
    webhooks: usize,
}

impl Unasked {
    /// Adds a condition to each of its webhooks that nothing meets.
    pub(crate) fn begin() -> Result<Self> {
        let configuration = Kubectl::admin().get("", "validatingwebhookconfiguration", "clawlock")?;
        let webhooks = configuration.as_ref().and_then(|all| all["webhooks"].as_array()).map_or(0, Vec::len);
        let this = Self { webhooks };
        this.patch(r#""op":"add","value":{"name":"off","expression":"false"}"#)?;
        Ok(this)
    }

    fn patch(&self, change: &str) -> Result<()> {
        let one = |n| format!(r#"{{{change},"path":"/webhooks/{n}/matchConditions/0"}}"#);
        let patch = (0..self.webhooks).map(one).collect::<Vec<_>>().join(",");
        let args = ["patch", "validatingwebhookconfiguration", "clawlock", "--type=json", "-p", &format!("[{patch}]")];
        Kubectl::admin().run(&args).map(drop)
    }
}

impl Drop for Unasked {
    fn drop(&mut self) {
        if let Err(why) = self.patch(r#""op":"remove""#) {
            eprintln!("the validating webhook still asks nobody: {why}");
        }
    }
}
