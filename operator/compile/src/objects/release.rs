//! What the chart decides for every tenant.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements, Toleration};
use serde::{Deserialize, Serialize};

/// What the chart decides for every tenant. Written by the platform's own installer, so that it is taken
/// as it is; the API server refuses what is malformed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// Namespace of the release.
    pub namespace: String,
    /// Image of the gateway.
    pub gateway_image: String,
    /// Image of the sidecar. Nodes must be able to pull it without a Secret of the agents' namespaces.
    pub sidecar_image: String,
    /// When images are pulled. Absent: as Kubernetes decides.
    #[serde(default)]
    pub image_pull_policy: Option<PullPolicy>,
    /// Secrets of the platform namespaces with which the gateway's image is pulled.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// Resources of a gateway's container.
    #[serde(default)]
    pub gateway_resources: ResourceRequirements,
    /// Resources of a sidecar.
    #[serde(default)]
    pub sidecar_resources: ResourceRequirements,
    /// Priority of the gateways.
    #[serde(default)]
    pub priority_class: Option<String>,
    /// Nodes of the gateways.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the gateways tolerate.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Labels of the namespaces that may read the gateways' metrics. Empty: none may.
    #[serde(default)]
    pub monitoring: BTreeMap<String, String>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the node has it.
    Never,
}

impl PullPolicy {
    /// The policy as it stands in YAML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl Release {
    pub(super) fn pull_policy(&self) -> Option<String> {
        self.image_pull_policy.map(|policy| policy.as_str().to_owned())
    }

    pub(super) fn pull_secrets(&self) -> Option<Vec<LocalObjectReference>> {
        let secrets = self.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
        Some(secrets.collect()).filter(|secrets: &Vec<_>| !secrets.is_empty())
    }
}
