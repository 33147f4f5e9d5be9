//! Who the tenants are, as far as the webhooks need it: which namespace is whose, what is injected there,
//! and which Upstreams a policy may name.
//!
//! Made anew, purely, from what was read (`Sources`), and swapped as a whole. What is injected is taken from the
//! ConfigMap that the admission policies compare with, so that both change at once while a release is rolled out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use clawlock_compile::objects::Release;
use clawlock_compile::objects::names::HOP_PORT;
use clawlock_compile::objects::sidecar::Injection;
use clawlock_compile::state::{Settled, settle};
use clawlock_compile::{Kind, ObjectRef, Resources, Severity, Tenant};
use clawlock_crds::{TenantGateway, Upstream};
use serde_json::Value;

/// Key of an object: namespace and name.
pub(super) type Key = (String, String);

/// What was read from the API server. `None`: not read yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// The TenantGateways, as they stand there: one that cannot be read must not hide the others.
    pub(super) gateways: Option<BTreeMap<Key, Value>>,
    /// The Upstreams, likewise.
    pub(super) upstreams: Option<BTreeMap<Key, Value>>,
    /// The data of the ConfigMap `clawlock-admission`; empty when it is not there.
    pub(super) admission: Option<BTreeMap<String, String>>,
}

/// The tenants at one moment.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    /// By agents' namespace.
    namespaces: BTreeMap<String, Arc<Standing>>,
    /// TenantGateways that can be read, for checks of objects beside them.
    pub(super) gateways: Vec<TenantGateway>,
    /// Upstreams that can be read, by namespace, for the same.
    pub(super) upstreams: BTreeMap<String, Vec<Upstream>>,
    /// How many tenants have pods into which it can inject.
    pub(super) ready: usize,
}

/// Whether pods of a tenant can be injected.
#[derive(Debug)]
pub(super) enum Standing {
    /// They can.
    Ready(Box<Injection>),
    /// The operator has not yet said with which arguments, or says others than follow from the TenantGateway.
    NotYet(String),
    /// Its TenantGateway is invalid and never was valid.
    Invalid(String),
}

impl Tenants {
    /// What holds for the pods of a namespace; `None`: nobody lists it.
    pub(super) fn of(&self, namespace: &str) -> Option<&Standing> {
        self.namespaces.get(namespace).map(Arc::as_ref)
    }

    /// Makes them of what was read. `good` is what was valid so far and is brought up to date: an invalid edit
    /// keeps the last good version, as it does in the operator.
    pub(super) fn build(release: &Release, sources: &Sources, good: &mut Resources) -> Option<Self> {
        let (gateways, upstreams, admission) =
            (sources.gateways.as_ref()?, sources.upstreams.as_ref()?, sources.admission.as_ref()?);
        let mut tenants = Self::default();
        let mut current = Resources::default();
        for value in gateways.values() {
            current.add(Kind::TenantGateway, value);
        }
        tenants.gateways.clone_from(&current.gateways);
        let mut known = Resources::default();
        for value in upstreams.values() {
            known.add(Kind::Upstream, value);
        }
        for mut upstream in known.upstreams {
            // Its certificates are not read here; without them it would count as one that does not exist.
            upstream.spec.tls = None;
            let namespace = upstream.metadata.namespace.clone().unwrap_or_default();
            tenants.upstreams.entry(namespace).or_default().push(upstream);
        }
        let Settled { resources, compilation, problems, .. } = settle(&current, good);
        *good = resources;
        for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
            let ObjectRef { kind: _, namespace, name } = &problem.object;
            let Some(value) = gateways.get(&(namespace.clone(), name.clone())) else { continue };
            let standing = Arc::new(Standing::Invalid(problem.to_string()));
            for namespace in listed(value) {
                tenants.namespaces.entry(namespace).or_insert_with(|| standing.clone());
            }
        }
        // Last, so that a tenant in force is never hidden by the mistakes of another object that claims its namespace.
        for tenant in compilation.tenants() {
            let standing = match injection(tenant, release, admission) {
                Ok(injection) => {
                    tenants.ready += 1;
                    Standing::Ready(Box::new(injection))
                }
                Err(reason) => Standing::NotYet(reason),
            };
            let standing = Arc::new(standing);
            for namespace in tenant.namespaces() {
                tenants.namespaces.insert(namespace.to_owned(), standing.clone());
            }
        }
        Some(tenants)
    }
}

/// The namespaces that an invalid TenantGateway seems to list: only good for saying what is wrong.
fn listed(value: &Value) -> Vec<String> {
    let namespaces = value.pointer("/spec/namespaces").and_then(Value::as_array);
    namespaces.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What is injected into the pods of a tenant, from what the admission policies compare with.
fn injection(tenant: &Tenant, release: &Release, admission: &BTreeMap<String, String>) -> Result<Injection, String> {
    let name = tenant.name();
    let wait = |what: &str| format!("tenant {name} is not ready: {what}; its TenantGateway's status says more");
    let arguments = admission.get(&format!("args_{name}"));
    let arguments = arguments.ok_or_else(|| wait("the arguments of its sidecar are not known yet"))?;
    let image = admission.get("sidecar-image").ok_or_else(|| wait("the sidecar's image is not known yet"))?;
    let (gateway, anchor) = places(arguments).ok_or_else(|| wait("the arguments of its sidecar cannot be read"))?;
    let release = Release { sidecar_image: image.clone(), ..release.clone() };
    let injection = Injection::new(tenant, &release, anchor, gateway.ip());
    // Of an edit the operator learns at about the same time; a pod in between would be refused with less of a reason.
    if injection.container().args.as_deref().unwrap_or_default().join("\n") != *arguments {
        return Err(wait("an edit of it is being rolled out"));
    }
    Ok(injection)
}

/// Gateway and anchor of the sidecar's arguments.
fn places(arguments: &str) -> Option<(SocketAddr, &str)> {
    let value = |name: &str| arguments.split('\n').find_map(|argument| argument.strip_prefix(name));
    let gateway: SocketAddr = value("--gateway=")?.parse().ok()?;
    (gateway.port() == HOP_PORT).then_some((gateway, value("--anchor=")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::fixtures::{gateway, release, sources, upstream};
    use serde_json::json;

    fn build(sources: &Sources) -> Tenants {
        Tenants::build(&release(), sources, &mut Resources::default()).unwrap()
    }

    fn reason(tenants: &Tenants, namespace: &str) -> String {
        match tenants.of(namespace) {
            Some(Standing::NotYet(reason) | Standing::Invalid(reason)) => reason.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_namespace_of_a_tenant_is_known_and_no_other() {
        let tenants = build(&sources(&[gateway()], &[upstream("stripe")]));
        assert!(matches!(tenants.of("acme"), Some(Standing::Ready(_))));
        assert!(matches!(tenants.of("acme-staging"), Some(Standing::Ready(_))));
        assert!(tenants.of("acme-gateway").is_none());
        assert!(tenants.of("other").is_none());
        assert_eq!((tenants.ready, tenants.gateways.len(), tenants.upstreams["acme-gateway"].len()), (1, 1, 1));
    }

    #[test]
    fn nothing_is_said_before_everything_was_read() {
        for forget in [
            |sources: &mut Sources| sources.gateways = None,
            |sources: &mut Sources| sources.upstreams = None,
            |sources: &mut Sources| sources.admission = None,
        ] {
            let mut sources = sources(&[gateway()], &[]);
            forget(&mut sources);
            assert!(Tenants::build(&release(), &sources, &mut Resources::default()).is_none());
        }
    }

    #[test]
    fn the_image_is_the_one_that_admission_compares() {
        let mut sources = sources(&[gateway()], &[]);
        sources.admission.as_mut().unwrap().insert("sidecar-image".to_owned(), "sidecar:1".to_owned());
        let tenants = build(&sources);
        let Some(Standing::Ready(injection)) = tenants.of("acme") else { panic!() };
        assert_eq!(injection.container().image.as_deref(), Some("sidecar:1"));
    }

    #[test]
    fn without_the_operator_s_word_nothing_is_injected() {
        for (key, value) in [
            ("args_acme", None),
            ("sidecar-image", None),
            ("args_acme", Some("")),
            ("args_acme", Some("run\n--gateway=10.0.0.1:8443")),
            ("args_acme", Some("run\n--gateway=10.0.0.1:1\n--anchor=QUJD")),
            ("args_acme", Some("run\n--gateway=evil.test:8443\n--anchor=QUJD")),
            // Not what follows from the TenantGateway.
            ("args_acme", Some("run\n--tenant=other\n--gateway=10.0.0.1:8443\n--anchor=QUJD")),
        ] {
            let mut sources = sources(&[gateway()], &[]);
            let admission = sources.admission.as_mut().unwrap();
            match value {
                Some(value) => admission.insert(key.to_owned(), value.to_owned()),
                None => admission.remove(key),
            };
            let tenants = build(&sources);
            assert!(reason(&tenants, "acme").contains("tenant acme is not ready"), "{key} {value:?}");
            assert_eq!(tenants.ready, 0);
        }
    }

    #[test]
    fn an_invalid_edit_keeps_the_last_good_version() {
        for edit in [json!({ "namespaces": ["acme"], "trustDomain": "acme.test", "later": 1 }), json!({})] {
            let mut good = Resources::default();
            let before = Tenants::build(&release(), &sources(&[gateway()], &[]), &mut good).unwrap();
            assert_eq!(before.ready, 1);
            let mut broken = gateway();
            broken["spec"] = edit.clone();
            let after = Tenants::build(&release(), &sources(std::slice::from_ref(&broken), &[]), &mut good).unwrap();
            assert!(matches!(after.of("acme-staging"), Some(Standing::Ready(_))), "{edit}");
            let alone = build(&sources(&[broken], &[]));
            assert!(!matches!(alone.of("acme"), Some(Standing::Ready(_))), "{edit}");
        }
    }

    #[test]
    fn one_that_never_was_valid_says_what_is_wrong() {
        let mut broken = gateway();
        broken["spec"]["trustDomain"] = json!("UPPER CASE");
        let tenants = build(&sources(&[broken], &[]));
        let reason = reason(&tenants, "acme");
        assert!(reason.contains("TenantGateway acme-gateway/acme") && reason.contains("trustDomain"), "{reason}");
    }

    #[test]
    fn a_claim_of_another_tenant_does_not_hide_the_first() {
        let mut good = Resources::default();
        Tenants::build(&release(), &sources(&[gateway()], &[]), &mut good).unwrap();
        let mut thief = gateway();
        thief["metadata"] = json!({ "name": "thief", "namespace": "thief-gateway" });
        thief["spec"]["trustDomain"] = json!("thief.test");
        let tenants = Tenants::build(&release(), &sources(&[gateway(), thief], &[]), &mut good).unwrap();
        assert!(matches!(tenants.of("acme"), Some(Standing::Ready(_))));
    }
}
