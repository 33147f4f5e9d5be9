//! What is asked of a cluster: `status`, `logs`, `shadow`, `halt`, `resume`, `doctor`. All of it through the `kubectl` on
//! the path, so that the rights, the cluster and the way to log in are those of whoever types the command.

pub(crate) mod doctor;
pub(crate) mod halt;
pub(crate) mod logs;
pub(crate) mod shadow;
pub(crate) mod status;

use serde_json::Value;

use crate::args::TenantName;
use crate::kubectl::Kubectl;

/// A text of an object; empty when it is not there.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list of an object.
fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A condition of an object: its status, reason and message; `None` when nobody has said anything.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let condition = items(object, "/status/conditions").find(|condition| text(condition, "/type") == kind)?;
    Some((text(condition, "/status"), text(condition, "/reason"), text(condition, "/message")))
}

/// The TenantGateway of a tenant.
fn gateway(kubectl: &Kubectl, tenant: &TenantName) -> Result<Value, String> {
    let gateways = kubectl.list(&["tenantgateways.clawlock.dev", "--all-namespaces"])?;
    gateways
        .into_iter()
        .find(|gateway| text(gateway, "/metadata/name") == tenant.as_str())
        .ok_or_else(|| format!("no TenantGateway has the name {}; clawlock status lists the tenants", tenant.as_str()))
}

/// The namespaces of a tenant: the platform's first, then those of its agents.
fn namespaces(gateway: &Value) -> Vec<String> {
    let agents = items(gateway, "/spec/namespaces").filter_map(Value::as_str);
    std::iter::once(text(gateway, "/metadata/namespace")).chain(agents).map(str::to_owned).collect()
}
