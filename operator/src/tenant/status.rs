//! What came of it, written into the status of each object: on success and on failure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use clawlock_compile::objects::ObjectKind;
use clawlock_compile::{Kind as ObjectKindOf, ObjectRef, Problem};
use clawlock_crds::TenantGateway;
use clawlock_crds::status::{ACCEPTED, CERTIFICATES_ISSUED, EGRESS_ISOLATED, PLUGIN_REPORTING, READY, RESOLVED_REFS};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::runtime::events::{Event, EventType};
use serde_json::{Value, json};

use super::fetch::{self, Facts};
use super::sequel::{Done, named};
use super::validate::Plan;
use super::{Context, Error};
use crate::accept::InForce;
use crate::clock::now_ms;
use crate::cluster::{Brief, WriteError};
use crate::replica::{Sum, sum};
use crate::status::objects::{self, Facts as ObjectFacts};
use crate::status::tenant::{self, Isolation};
use crate::status::{Written, is_due, judged};
use crate::world::pod::Pod;
use crate::world::resource::{Kind, Read};
use crate::world::shelf::Shelf;

/// Statuses that are written at once.
const PARALLEL: usize = 8;
/// Statuses that are written in one look: tenants must not wait for a thousand of them.
const MAX_WRITES: usize = 100;
/// Longest note of an event (events.k8s.io/v1).
const MAX_NOTE: usize = 1000;

/// Conditions whose change people hear of.
const TOLD: [&str; 5] = [READY, ACCEPTED, EGRESS_ISOLATED, CERTIFICATES_ISSUED, PLUGIN_REPORTING];

/// What is remembered of statuses.
#[derive(Default)]
pub(super) struct Statuses {
    written: Written,
    /// Since which generation of its tenant's state an object says what it says.
    since: HashMap<ObjectRef, (Option<i64>, u64)>,
    /// By tenant the UIDs of pods whose OpenClaw was not yet put under its guard.
    ungoverned: HashMap<String, HashSet<String>>,
}

/// A status that is to be written.
struct Write {
    resource: ApiResource,
    /// Whose it is.
    metadata: ObjectMeta,
    key: String,
    old: Value,
    status: Value,
}

impl Statuses {
    /// Writes a tenant's status.
    pub(super) async fn tenant(
        &mut self,
        context: &Context,
        facts: &Facts,
        plan: &Plan,
        done: &Done,
        foreign: Vec<String>,
        error: Option<&Error>,
    ) -> Result<(), WriteError> {
        self.tell_overrides(context, facts).await;
        let Some(gateway) = &facts.gateway else { return Ok(()) };
        let none = BTreeMap::new();
        let disagreed = match plan {
            Plan::Keep { disagreed, .. } | Plan::Refuse { disagreed } => disagreed,
            Plan::Depart { .. } => &none,
        };
        let object = facts.object();
        let judged_at = object.as_ref().and_then(|object| facts.in_force.judged.get(object).copied().flatten());
        let kept = object.is_some_and(|object| facts.in_force.settled.kept.contains(&object));
        let key = format!("TenantGateway {}/{}", gateway.namespace(), gateway.name());
        let old = self.written.old(&key, &gateway.status);
        let instead = "until it is mended, its agents are denied everything";
        let error = error.map(ToString::to_string);
        let pods = pods(facts);
        let status = tenant::status(
            &tenant::Facts {
                judged: judged(&facts.problems(), kept, instead),
                ending: gateway.metadata.deletion_timestamp.is_some(),
                disagreed,
                error: error.as_deref(),
                certificates: done.certificates.clone().unwrap_or_else(|| Err("nothing is issued for it".to_owned())),
                gateways: gateways(facts),
                isolation: isolation(facts, done, foreign),
                generation: facts.stored.as_ref().map(|stored| stored.state.generation),
                pods: &pods,
                sum: &acknowledged(facts),
                agents: facts.counts(),
                isolated: &done.isolated,
            },
            &old,
            judged_at,
            now_ms(),
        );
        for news in &done.news {
            tell(context, &gateway.metadata, "TenantGateway", EventType::Normal, "Keys", news).await;
        }
        if !is_due(&old, &status, self.written.of(&key), Instant::now()) {
            return Ok(());
        }
        let resource = ApiResource::erase::<TenantGateway>(&());
        let one = Write { resource, metadata: gateway.metadata.clone(), key, old, status };
        write(context, &one).await?;
        tell_changes(context, &one, &TOLD).await;
        self.written.now(one.key, one.status);
        Ok(())
    }

    /// Tells people what of an OpenClaw's configuration does not hold, when its pod starts. Pods that this process found
    /// started are old news.
    async fn tell_overrides(&mut self, context: &Context, facts: &Facts) {
        let before = facts.agents.iter().filter(|pod| pod.overridden.is_none()).map(|pod| pod.uid.clone()).collect();
        let Some(before) = self.ungoverned.insert(facts.name.clone(), before) else { return };
        for pod in facts.agents.iter().filter(|pod| before.contains(&pod.uid)) {
            let Some(words) = pod.overridden.as_deref().filter(|words| !words.is_empty()) else { continue };
            let note = format!("of OpenClaw's configuration this does not hold: {}", words.replace('\n', "; "));
            tell_of_pod(context, pod, EventType::Normal, "ConfigurationOverridden", &note).await;
        }
    }

    /// Writes the statuses of policies, upstreams and halts. Answers whether some are left for the next look.
    pub(super) async fn objects(&mut self, context: &Context, in_force: &InForce) -> Result<bool, WriteError> {
        let index = Index::new(context, in_force);
        let mut writes = Vec::new();
        let world = &context.world;
        self.kind(&index, &world.policies, ObjectKindOf::AgentPolicy, objects::policy, &mut writes);
        self.kind(&index, &world.upstreams, ObjectKindOf::Upstream, objects::upstream, &mut writes);
        self.kind(&index, &world.halts, ObjectKindOf::AgentHalt, objects::halt, &mut writes);
        let present = &index.present;
        self.since.retain(|object, _| present.borrow().contains(object));
        let names: BTreeSet<String> = present.borrow().iter().map(ToString::to_string).collect();
        self.written.retain(|key| key.starts_with("TenantGateway ") || names.contains(key));
        let left = writes.len() > MAX_WRITES;
        writes.truncate(MAX_WRITES);
        let mut results = stream::iter(writes)
            .map(|one| async move {
                let written = write(context, &one).await;
                if written.is_ok() {
                    tell_changes(context, &one, &[ACCEPTED, RESOLVED_REFS]).await;
                }
                (one, written)
            })
            .buffer_unordered(PARALLEL);
        let mut failed = Ok(left);
        while let Some((one, written)) = results.next().await {
            match written {
                Ok(()) => self.written.now(one.key, one.status),
                // It is gone, or changed; the next look says.
                Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                Err(error) => failed = Err(error),
            }
        }
        failed
    }

    fn kind<G: Kind + Clone>(
        &mut self,
        index: &Index<'_>,
        shelf: &Shelf<Read<G>>,
        kind: ObjectKindOf,
        make: fn(&ObjectFacts<'_>) -> Value,
        writes: &mut Vec<Write>,
    ) {
        for read in shelf.all() {
            let object = ObjectRef::new(kind, &read.metadata);
            index.present.borrow_mut().insert(object.clone());
            // What was not judged yet has no status yet.
            let Some(judged) = index.in_force.judged.get(&object).copied() else { continue };
            let about = index.about(&object);
            let since = about.generation.map(|generation| {
                let known = self.since.entry(object.clone()).or_insert((judged, generation));
                if known.0 != judged {
                    *known = (judged, generation);
                }
                known.1
            });
            let problems = index.problems.get(&object).map(Vec::as_slice).unwrap_or_default();
            let key = object.to_string();
            let old = self.written.old(&key, &read.status);
            let status = make(&ObjectFacts {
                object: &object,
                problems,
                kept: index.in_force.settled.kept.contains(&object),
                generation: judged,
                old: &old,
                compilation: &index.in_force.settled.compilation,
                since,
                pods: &about.pods,
                agents: about.agents,
                now_ms: index.now_ms,
            });
            if is_due(&old, &status, self.written.of(&key), Instant::now()) {
                writes.push(Write {
                    resource: ApiResource::erase::<G>(&()),
                    metadata: read.metadata.clone(),
                    key,
                    old,
                    status,
                });
            }
        }
    }
}

/// Tells people of conditions that turned.
async fn tell_changes(context: &Context, write: &Write, told: &[&str]) {
    let Write { resource, metadata, key: _, old, status } = write;
    let status_of = |status: &Value, wanted: &str| {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|condition| condition["type"] == wanted)
    };
    for wanted in told {
        let Some(now) = status_of(status, wanted) else { continue };
        let before = status_of(old, wanted);
        let same = before
            .as_ref()
            .is_some_and(|before| before["status"] == now["status"] && before["reason"] == now["reason"]);
        // A condition that is good from the beginning is no news.
        if same || (before.is_none() && now["status"] == "True") {
            continue;
        }
        let type_ = if now["status"] == "True" { EventType::Normal } else { EventType::Warning };
        let reason = now["reason"].as_str().unwrap_or(wanted);
        let message = now["message"].as_str().unwrap_or_default();
        tell(context, metadata, &resource.kind, type_, reason, &format!("{wanted}: {message}")).await;
    }
}

/// Agents and gateway pods of a tenant with their names, by UID.
fn pods(facts: &Facts) -> BTreeMap<String, String> {
    let all = facts.agents.iter().chain(&facts.gateways);
    all.map(|pod| (pod.uid.clone(), pod.title())).collect()
}

/// What was acknowledged. A gateway that has no pod to serve has everything.
fn acknowledged(facts: &Facts) -> Sum {
    let mut sum = facts.sum.clone();
    if let (true, Some(stored)) = (facts.agents.is_empty(), &facts.stored) {
        for pod in &facts.gateways {
            sum.generations.insert(pod.uid.clone(), stored.state.generation);
        }
    }
    sum
}

fn gateways(facts: &Facts) -> (usize, usize) {
    let ready = facts.gateways.iter().filter(|pod| pod.is_ready).count();
    let wanted = facts.tenant().map(|tenant| usize::from(tenant.settings().replicas.get()));
    (ready, wanted.unwrap_or(facts.gateways.len()))
}

fn isolation(facts: &Facts, done: &Done, foreign: Vec<String>) -> Isolation {
    let policies = done.wanted.iter().filter(|key| key.kind == ObjectKind::NetworkPolicy);
    let mut missing: Vec<String> = policies
        .filter_map(|key| match facts.managed.get(key) {
            // It closes until the last agent is gone, and comes back then.
            Some(trace) if trace.ending => {
                Some(format!("{} (somebody deleted it; it holds until no agent is left)", named(key)))
            }
            Some(_) => None,
            None => (!done.applied.contains(key)).then(|| named(key)),
        })
        .collect();
    missing.extend(
        done.held.iter().map(|key| format!("{} (no longer wanted; it stays until no agent is left)", named(key))),
    );
    let tenant = facts.tenant();
    let open = tenant.into_iter().flat_map(|tenant| tenant.namespaces());
    let open = open.filter(|namespace| !done.isolated.contains(*namespace)).map(str::to_owned).collect();
    let ingress = tenant.map(|tenant| &tenant.settings().agents.ingress);
    let ingress = ingress.into_iter().flatten().map(|entry| entry.name.clone()).collect();
    Isolation { missing, foreign, open, ingress }
}

/// What many statuses depend on, collected once.
struct Index<'a> {
    in_force: &'a InForce,
    problems: HashMap<ObjectRef, Vec<&'a Problem>>,
    /// By tenant: what its pods acknowledged, the pods that each object selects, and its gateways.
    tenants: BTreeMap<String, TenantIndex>,
    present: std::cell::RefCell<BTreeSet<ObjectRef>>,
    now_ms: u64,
}

struct TenantIndex {
    generation: u64,
    gateways: BTreeMap<String, Option<u64>>,
    agents: BTreeMap<String, Option<u64>>,
    selected: HashMap<ObjectRef, BTreeMap<String, Option<u64>>>,
}

/// Whom an object is about.
#[derive(Default)]
struct About {
    generation: Option<u64>,
    pods: BTreeMap<String, Option<u64>>,
    agents: u32,
}

impl<'a> Index<'a> {
    fn new(context: &Context, in_force: &'a InForce) -> Self {
        let mut problems: HashMap<ObjectRef, Vec<&Problem>> = HashMap::new();
        for problem in &in_force.settled.problems {
            problems.entry(problem.object.clone()).or_default().push(problem);
        }
        let world = &context.world;
        let reports = fetch::live_reports(world);
        let compilation = &in_force.settled.compilation;
        let tenants = compilation.tenants().filter_map(|tenant| {
            let name = tenant.name();
            let generation = in_force.tenants.get(name)?.state.generation;
            let sum = sum(name, reports.iter());
            let has = |pod: &Pod| sum.generations.get(&pod.uid).copied();
            let agents = world.pods_of(clawlock_compile::objects::names::Role::Agent, name);
            let gateways = world.pods_of(clawlock_compile::objects::names::Role::Gateway, name);
            let mut selected: HashMap<ObjectRef, BTreeMap<String, Option<u64>>> = HashMap::new();
            for pod in &agents {
                for object in compilation.selecting(&pod.namespace, &pod.uid, &pod.view.labels) {
                    selected.entry(object.clone()).or_default().insert(pod.title(), has(pod));
                }
            }
            let gateway_has = |pod: &Pod| match agents.is_empty() {
                true => Some(generation),
                false => has(pod),
            };
            let index = TenantIndex {
                generation,
                gateways: gateways.iter().map(|pod| (pod.title(), gateway_has(pod))).collect(),
                agents: agents.iter().map(|pod| (pod.title(), has(pod))).collect(),
                selected,
            };
            Some((name.to_owned(), index))
        });
        Self {
            in_force,
            problems,
            tenants: tenants.collect(),
            present: std::cell::RefCell::default(),
            now_ms: now_ms(),
        }
    }

    fn about(&self, object: &ObjectRef) -> About {
        let compilation = &self.in_force.settled.compilation;
        let by_platform = || compilation.tenants().find(|tenant| tenant.platform_namespace() == object.namespace);
        let tenant = compilation.tenant_of(&object.namespace).or_else(by_platform);
        let Some(index) = tenant.and_then(|tenant| self.tenants.get(tenant.name())) else { return About::default() };
        let mut pods = match object.kind {
            // Every pod of the tenant has its upstreams.
            ObjectKindOf::Upstream | ObjectKindOf::TenantGateway => index.agents.clone(),
            ObjectKindOf::AgentPolicy | ObjectKindOf::AgentHalt => {
                index.selected.get(object).cloned().unwrap_or_default()
            }
        };
        let agents = u32::try_from(pods.len()).unwrap_or(u32::MAX);
        if !pods.is_empty() {
            pods.extend(index.gateways.clone());
        }
        About { generation: Some(index.generation), pods, agents }
    }
}

async fn write(context: &Context, write: &Write) -> Result<(), WriteError> {
    let Write { resource, metadata, key: _, old: _, status } = write;
    let (namespace, name) =
        (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    let patch = json!({"status": status});
    match context.writer.merge(resource, namespace, name, Some("status"), &patch).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(404) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn tell(context: &Context, metadata: &ObjectMeta, kind: &str, type_: EventType, reason: &str, note: &str) {
    let reference = ObjectReference {
        api_version: Some(clawlock_crds::API_VERSION.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    };
    publish(context, &reference, type_, reason, note).await;
}

/// Publishes an event about a pod.
pub(super) async fn tell_of_pod(context: &Context, pod: &Pod, type_: EventType, reason: &str, note: &str) {
    let about = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    };
    publish(context, &about, type_, reason, note).await;
}

async fn publish(context: &Context, about: &ObjectReference, type_: EventType, reason: &str, note: &str) {
    let note: String = note.chars().take(MAX_NOTE).collect();
    let event =
        Event { type_, reason: reason.to_owned(), note: Some(note), action: "Reconcile".to_owned(), secondary: None };
    // An event is a courtesy; what counts stands in the status.
    if let Err(error) = context.recorder.publish(&event, about).await {
        tracing::debug!("an event was not published: {}", Brief(&error));
    }
}
