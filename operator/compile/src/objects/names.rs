//! Names, labels, ports and paths that several programs and the charts must agree on.
//!
//! Sidecar and gateway do not depend on this crate: they get what they need as arguments, made of these.

use std::collections::BTreeMap;

/// What reserved labels start with.
pub const GROUP_PREFIX: &str = "clawlock.dev/";
/// Label of an agents' namespace, of managed objects and of injected pods: the tenant. Also the finalizer.
pub const TENANT_LABEL: &str = "clawlock.dev/tenant";
/// Label of pods: what they are.
pub const ROLE_LABEL: &str = "clawlock.dev/role";
/// Annotation of pods: the ConfigMap of their namespace that has their manifest. Label of these ConfigMaps.
pub const MANIFEST: &str = "clawlock.dev/manifest";
/// Label of managed objects.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGED_BY: &str = "clawlock-operator";
/// Label of managed objects, for people and dashboards.
pub const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// Its value.
pub const PART_OF: &str = "clawlock";
/// Field manager of server-side apply. Never renamed: the fields of an earlier name would stay for ever.
pub const FIELD_MANAGER: &str = "clawlock-operator";
/// Finalizer of a TenantGateway, until none of its agents is left.
pub const FINALIZER: &str = "clawlock.dev/tenant";
/// Label that Kubernetes writes on each namespace: its name. Nobody else can.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What a pod of ours is: the value of [`ROLE_LABEL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// An injected pod.
    Agent,
    /// A pod of a tenant's gateway.
    Gateway,
    /// The operator.
    Operator,
    /// The admission webhooks.
    Webhook,
    /// What the canaries of the sidecars try to reach.
    Tripwire,
}

impl Role {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Webhook => "webhook",
            Self::Tripwire => "tripwire",
        }
    }
}

/// The release's namespace, unless another is given.
pub const RELEASE_NAMESPACE: &str = "clawlock-system";

/// Name of all objects of a gateway in the platform namespace, and of the chart's ClusterRole for it.
pub const GATEWAY: &str = "clawlock-gateway";
/// NetworkPolicy of an agents' namespace: selects every pod and allows nothing.
pub const DEFAULT_DENY: &str = "clawlock-default-deny";
/// NetworkPolicy of an agents' namespace: injected pods reach their gateway.
pub const AGENTS: &str = "clawlock-agents";

/// NetworkPolicy of one entry of `agents.ingress`.
#[must_use]
pub fn ingress(entry: &str) -> String {
    format!("clawlock-ingress-{entry}")
}

/// NetworkPolicy of one entry of `agents.exemptions`.
#[must_use]
pub fn exempt(entry: &str) -> String {
    format!("clawlock-exempt-{entry}")
}

/// Secret of the release: root of the control API.
pub const ANCHOR_SECRET: &str = "clawlock-anchor";
/// Secret of the release: seed of the key that signs policy.
pub const SIGNING_SECRET: &str = "clawlock-signing";
/// Secret of the release: the webhooks' certificate.
pub const WEBHOOK_SECRET: &str = "clawlock-webhook-tls";
/// ConfigMap of the release: parameters of the admission policies.
pub const ADMISSION: &str = "clawlock-admission";

/// Secret of the release: a tenant's certificate authority.
#[must_use]
pub fn tenant_ca_secret(tenant: &str) -> String {
    format!("clawlock-tenant-ca-{tenant}")
}

/// ConfigMap of the release: the list of what is in force for a tenant.
#[must_use]
pub fn tenant_state(tenant: &str) -> String {
    format!("clawlock-tenant-{tenant}")
}

/// Hex digits of a digest that stand in a name: 192 bits, far more than a second object could be made for.
const OBJECT_DIGITS: usize = 48;

/// ConfigMap of the release: one accepted object, by its digest (`sha256:…`). `None` for another form.
#[must_use]
pub fn object(digest: &str) -> Option<String> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let start = hex.get(..OBJECT_DIGITS).filter(|_| is_hex)?;
    Some(format!("clawlock-object-{start}"))
}

/// ConfigMap of the release: what one replica of the operator has heard.
#[must_use]
pub fn replica(pod: &str) -> String {
    format!("clawlock-replica-{pod}")
}

/// Service of the release: the control API.
pub const CONTROL: &str = "clawlock-control";
/// Service of the release: the admission webhooks.
pub const WEBHOOK: &str = "clawlock-webhook";
/// Service of the release, without an address of its own: the tripwire.
pub const TRIPWIRE: &str = "clawlock-tripwire";

/// The control API's name as gateways look it up. Their resolver adds the cluster's domain.
#[must_use]
pub fn control_host(release_namespace: &str) -> String {
    format!("{CONTROL}.{release_namespace}.svc")
}

/// Port of the gateway: the hop from sidecars, and the splice to the control API.
pub const HOP_PORT: u16 = 8443;
/// Its name.
pub const HOP_PORT_NAME: &str = "hop";
/// Port of the gateway: health and metrics.
pub const GATEWAY_ADMIN_PORT: u16 = 9090;
/// Its name.
pub const ADMIN_PORT_NAME: &str = "admin";
/// Port of the sidecar on loopback: the proxy.
pub const PROXY_PORT: u16 = 15_001;
/// Port of the sidecar on loopback: `/v1/decide`.
pub const DECIDE_PORT: u16 = 15_002;
/// Port of the sidecar: health and metrics.
pub const SIDECAR_HEALTH_PORT: u16 = 15_020;
/// Port of the operator: the control API.
pub const CONTROL_PORT: u16 = 8444;
/// Port of the operator: health and metrics.
pub const OPERATOR_ADMIN_PORT: u16 = 9090;
/// Port of the webhooks.
pub const WEBHOOK_PORT: u16 = 9443;
/// Port of the webhooks: health and metrics.
pub const WEBHOOK_ADMIN_PORT: u16 = 9090;
/// Port of the tripwire, TCP and UDP.
pub const DNS_PORT: u16 = 53;

/// Audience of the tokens that prove to the control API which pod asks.
pub const AUDIENCE: &str = "clawlock.dev";
/// Life of such a token in seconds; the kubelet renews it. The shortest that leaves room for an operator
/// that is away for a while.
pub const TOKEN_SECONDS: i64 = 3600;
/// File of the token within [`TOKEN_DIR`].
pub const TOKEN_FILE: &str = "token";
/// User and group of the sidecar: no other container of an agent's pod may have them.
pub const SIDECAR_UID: i64 = 65_515;
/// User and group of gateway, operator, webhooks and tripwire.
pub const RELEASE_UID: i64 = 65_514;
/// Container of the sidecar.
pub const SIDECAR: &str = "clawlock";
/// Volume with the token; only the sidecar mounts it.
pub const TOKEN_VOLUME: &str = "clawlock-token";
/// Volume with the interception CA's key; only the sidecar mounts it.
pub const PRIVATE_VOLUME: &str = "clawlock-private";
/// Volume with what agents read: the CA's certificate, wget's configuration, the decision socket.
pub const AGENT_VOLUME: &str = "clawlock-agent";
/// Init container that writes [`OPENCLAW_VOLUME`], after those of the pod.
pub const INSTALLER: &str = "clawlock-openclaw";
/// Volume with what governs OpenClaw: its guard plugin and its configuration. It belongs to the agent's user, since
/// OpenClaw takes no plugin of another, and the agent mounts it read-only.
pub const OPENCLAW_VOLUME: &str = "clawlock-openclaw";
/// All volumes of ours.
pub const VOLUMES: [&str; 4] = [TOKEN_VOLUME, PRIVATE_VOLUME, AGENT_VOLUME, OPENCLAW_VOLUME];
/// Below it are all mounts of ours.
pub const RUN_DIR: &str = "/run/clawlock";
/// Mount of [`TOKEN_VOLUME`].
pub const TOKEN_DIR: &str = "/run/clawlock/token";
/// Mount of [`PRIVATE_VOLUME`].
pub const PRIVATE_DIR: &str = "/run/clawlock/private";
/// Mount of [`AGENT_VOLUME`].
pub const AGENT_DIR: &str = "/run/clawlock/agent";
/// Mount of [`OPENCLAW_VOLUME`].
pub const OPENCLAW_DIR: &str = "/run/clawlock/openclaw";
/// Annotation with which `kubectl` picks a container of a pod when none is named
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Seconds that a gateway may take to finish what is open once it was told to stop.
pub const GATEWAY_DRAIN_SECONDS: i64 = 60;
/// Seconds between the removal of a gateway from its Service and SIGTERM: kube-proxy needs a moment, and
/// connections must not arrive where nobody listens any more.
pub const GATEWAY_LINGER_SECONDS: i64 = 5;

/// Labels of the objects of a tenant.
#[must_use]
pub fn managed_labels(tenant: &str) -> BTreeMap<String, String> {
    [(MANAGED_BY_LABEL, MANAGED_BY), (PART_OF_LABEL, PART_OF), (TENANT_LABEL, tenant)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Label selector of the objects of a tenant, for lists.
#[must_use]
pub fn managed_selector(tenant: &str) -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY},{TENANT_LABEL}={tenant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_after_its_digest() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(object(&format!("sha256:{hex}")), Some(format!("clawlock-object-{}", &hex[..48])));
        let upper = format!("sha256:{}", hex.to_uppercase());
        for wrong in ["", "sha256:", &hex, &upper, &format!("sha256:{hex}0"), &format!("sha512:{hex}")] {
            assert_eq!(object(wrong), None, "{wrong}");
        }
    }
}
