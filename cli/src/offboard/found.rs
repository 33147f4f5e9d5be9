//! What of a tenant is in a cluster.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::args::TenantName;
use crate::kubectl::Kubectl;

/// The label of a tenant's namespaces.
const TENANT_LABEL: &str = "clawlock.dev/tenant";

/// What makes pods. ReplicaSets, Jobs and pods that have an owner go with it.
const WORKLOADS: &str = "cronjobs.batch,deployments.apps,statefulsets.apps,daemonsets.apps,replicasets.apps,jobs.batch,\
                         replicationcontrollers,pods";

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Named {
    fn of(object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { kind: text("/kind"), namespace: text("/metadata/namespace"), name: text("/metadata/name") }
    }

    /// As kubectl wants it: `Kind/name`.
    pub(super) fn reference(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// What is deleted by one command: the kinds of one rank in a namespace. What makes others has the lower rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u8, String);

impl Place {
    fn of(workload: &Named) -> Self {
        let rank = match workload.kind.as_str() {
            "CronJob" => 0,
            "Pod" => 2,
            _ => 1,
        };
        Self(rank, workload.namespace.clone())
    }

    pub(super) fn namespace(&self) -> &str {
        &self.1
    }
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    /// The TenantGateway.
    pub(super) gateway: Option<Named>,
    /// The agents' namespaces: those that the TenantGateway lists and those that carry its label.
    pub(super) namespaces: Vec<String>,
    /// Those that carry the label.
    pub(super) labelled: Vec<String>,
    /// What makes pods there, and pods that nothing made.
    pub(super) workloads: Vec<Named>,
    /// How many pods there are.
    pub(super) pods: usize,
}

impl Found {
    /// Looks.
    ///
    /// # Errors
    /// When the cluster cannot be asked, or does not know the tenant.
    pub(super) fn look(kubectl: &Kubectl, tenant: &TenantName) -> Result<Self, String> {
        let tenant = tenant.as_str();
        let gateways = kubectl.list(&["tenantgateways.clawlock.dev", "--all-namespaces"])?;
        let gateway = gateways.iter().find(|gateway| gateway.pointer("/metadata/name") == Some(&tenant.into()));
        let selector = format!("{TENANT_LABEL}={tenant}");
        let labelled = kubectl.list(&["namespaces", "--selector", &selector])?;
        let labelled: Vec<String> = labelled.iter().map(|namespace| Named::of(namespace).name).collect();
        if gateway.is_none() && labelled.is_empty() {
            return Err(format!(
                "tenant {tenant} is not in this cluster: no TenantGateway has this name and no namespace the label \
                 {selector}; kubectl get tenantgateways --all-namespaces lists the tenants"
            ));
        }
        let listed = gateway.and_then(|gateway| gateway.pointer("/spec/namespaces")).and_then(Value::as_array);
        let listed = listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let mut namespaces: Vec<String> = listed.chain(labelled.iter().cloned()).collect();
        namespaces.sort();
        namespaces.dedup();
        let mut found = Self { gateway: gateway.map(Named::of), namespaces, labelled, workloads: Vec::new(), pods: 0 };
        for namespace in &found.namespaces {
            let objects = kubectl.list(&[WORKLOADS, "--namespace", namespace])?;
            found.pods += objects.iter().filter(|object| is_pod(object)).count();
            found.workloads.extend(objects.iter().filter(|object| !is_owned(object)).map(Named::of));
        }
        found.workloads.sort_by_key(Place::of);
        Ok(found)
    }

    /// Whether there is neither an agent nor a TenantGateway.
    pub(super) fn is_nothing(&self) -> bool {
        self.gateway.is_none() && self.workloads.is_empty() && self.pods == 0
    }

    /// The workloads by what is deleted together, in its order.
    pub(super) fn workloads_by_place(&self) -> BTreeMap<Place, Vec<String>> {
        let mut places: BTreeMap<Place, Vec<String>> = BTreeMap::new();
        for workload in &self.workloads {
            places.entry(Place::of(workload)).or_default().push(workload.reference());
        }
        places
    }
}

fn is_pod(object: &Value) -> bool {
    object.pointer("/kind") == Some(&"Pod".into())
}

fn is_owned(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner.pointer("/controller") == Some(&true.into()))
}

/// The pods of a namespace.
pub(super) fn pods(kubectl: &Kubectl, namespace: &str) -> Result<Vec<Named>, String> {
    Ok(kubectl.list(&["pods", "--namespace", namespace])?.iter().map(Named::of).collect())
}

/// What the platform team and the tenant have written, and nobody deletes for them.
pub(super) fn left_over(kubectl: &Kubectl, found: &Found) -> Result<Vec<Named>, String> {
    let mut left = Vec::new();
    if let Some(gateway) = &found.gateway {
        let objects = kubectl.list(&["upstreams.clawlock.dev,secrets", "--namespace", &gateway.namespace])?;
        left.extend(objects.iter().map(Named::of));
        left.push(Named { kind: "Namespace".to_owned(), namespace: String::new(), name: gateway.namespace.clone() });
    }
    for namespace in &found.namespaces {
        let objects =
            kubectl.list(&["agentpolicies.clawlock.dev,agenthalts.clawlock.dev", "--namespace", namespace])?;
        left.extend(objects.iter().map(Named::of));
        left.push(Named { kind: "Namespace".to_owned(), namespace: String::new(), name: namespace.clone() });
    }
    Ok(left)
}
