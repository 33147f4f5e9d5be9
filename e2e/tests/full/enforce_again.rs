//! A tenant that is made again under the same operator: nothing of the one before is left in anybody's memory.

use clawlock_e2e::{Kubectl, Result, Tenant};
use serde_json::Value;

const NAME: &str = "again";
/// Where the address of the first gateway goes: to whom it may be given once it is free.
const OTHER: &str = "again-other";

fn address(tenant: &Tenant) -> Result<String> {
    let service = tenant.kubectl.get(&tenant.platform, "service", "clawlock-gateway")?.unwrap_or_default();
    let ip = service.pointer("/spec/clusterIP").and_then(Value::as_str);
    ip.map(str::to_owned).ok_or_else(|| "the gateway's Service has no address".to_owned())
}

/// A namespace that goes with this.
struct Namespace;

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Kubectl::admin().run(&["delete", "namespace", OTHER, "--wait=false"]));
    }
}

#[test]
fn a_tenant_that_is_made_again_serves_though_its_address_of_before_is_taken() -> Result<()> {
    let tenant = Tenant::create(NAME)?;
    let before = address(&tenant)?;
    tenant.remove()?;
    let kubectl = Kubectl::admin();
    kubectl.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {OTHER}}}\n"))?;
    let _other = Namespace;
    kubectl.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: other, namespace: {OTHER}}}\n\
         spec: {{clusterIP: {before}, ports: [{{port: 80}}]}}\n"
    ))?;
    // It waits until the tenant is ready.
    let tenant = Tenant::create(NAME)?;
    assert_ne!(address(&tenant)?, before);
    Ok(())
}
