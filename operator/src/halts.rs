//! Halts that gates ask for: each becomes an `AgentHalt` beside the pod, which is deleted with the pod, or by whoever
//! resumes it.
//!
//! Every replica writes those that its own streams ask for, without the Lease: an object is only ever created, under a
//! name that the pod's UID makes, and one that is there is left as it is. What could not be written is asked for again.

use std::sync::Arc;
use std::time::Duration;

use clawlock_compile::check_halt;
use clawlock_compile::objects::names::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};
use clawlock_control::HaltingRule;
use clawlock_crds::bounds::MAX_REASON;
use clawlock_crds::{AgentHalt, AgentHaltSpec, AgentSelector, HaltCause, HaltCauseType, HaltDenial};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PostParams;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::cluster::{Brief, status_code};
use crate::metrics::{Metrics, Written};

/// Halts that wait to be written. More than these are asked for again in a few seconds.
const QUEUE: usize = 256;
/// Longest that one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most characters of an event's note, as the API server has it.
const MAX_NOTE: usize = 1024;

/// Where halts go that gates ask for.
#[derive(Clone)]
pub(crate) struct Halts(mpsc::Sender<Wanted>);

impl Halts {
    /// Both ends.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Wanted>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// A gate asks for one.
    pub(crate) fn want(&self, wanted: Wanted) {
        if self.0.try_send(wanted).is_err() {
            tracing::warn!("more halts are asked for than can be written; what is left is asked for again");
        }
    }
}

/// A halt that a gate asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted(AgentHalt);

impl Wanted {
    /// The halt of a pod, given as `namespace/name`.
    ///
    /// # Errors
    /// When it makes no valid `AgentHalt`: then it was no gate of ours that asked.
    pub(crate) fn new(pod: &str, uid: &str, reason: &str, rule: Option<HaltingRule>) -> Result<Self, String> {
        let (namespace, name) = pod.split_once('/').ok_or_else(|| format!("{pod:?} is no namespace/name of a pod"))?;
        let cause = match rule {
            Some(HaltingRule { policy, name }) => {
                HaltCause { kind: HaltCauseType::Denial, denial: Some(HaltDenial { policy, rule: name }) }
            }
            None => HaltCause { kind: HaltCauseType::Disobedience, denial: None },
        };
        let line = format!("pod {name}: {reason}");
        let spec = AgentHaltSpec {
            agent_selector: AgentSelector::default(),
            reason: line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect(),
            pod_uid: Some(uid.to_owned()),
            cause: Some(cause),
        };
        let mut halt = AgentHalt::new(&format!("pod-{uid}"), spec);
        halt.metadata.namespace = Some(namespace.to_owned());
        halt.metadata.labels = Some([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())].into());
        halt.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller: None,
            block_owner_deletion: None,
        }]);
        match check_halt(&halt) {
            Ok(_) => Ok(Self(halt)),
            Err(problems) => {
                let told: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
                Err(format!("a halt that cannot be written: {}", told.join("; ")))
            }
        }
    }

    fn namespace(&self) -> &str {
        self.0.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.0.metadata.name.as_deref().unwrap_or_default()
    }

    /// What people read in the pod's events.
    fn event(&self) -> (Event, ObjectReference) {
        let Self(AgentHalt { metadata, spec, .. }) = self;
        let note = format!("{}; resume it by deleting AgentHalt {}/{}", spec.reason, self.namespace(), self.name());
        let event = Event {
            type_: EventType::Warning,
            reason: "Halted".to_owned(),
            note: Some(note.chars().take(MAX_NOTE).collect()),
            action: "Halt".to_owned(),
            secondary: None,
        };
        let owner = metadata.owner_references.iter().flatten().next();
        let pod = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: metadata.namespace.clone(),
            name: owner.map(|pod| pod.name.clone()),
            uid: spec.pod_uid.clone(),
            ..ObjectReference::default()
        };
        (event, pod)
    }
}

/// Writes them.
pub(crate) struct Writer {
    client: Client,
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// One that tells people as well.
    pub(crate) fn new(client: Client, recorder: Recorder, metrics: Arc<Metrics>) -> Self {
        Self { client, recorder, metrics }
    }

    /// Runs until nobody asks any more.
    pub(crate) async fn run(self, mut wanted: mpsc::Receiver<Wanted>) {
        while let Some(halt) = wanted.recv().await {
            self.write(&halt).await;
        }
    }

    async fn write(&self, wanted: &Wanted) {
        let (namespace, name) = (wanted.namespace(), wanted.name());
        let api: Api<AgentHalt> = Api::namespaced(self.client.clone(), namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let failed = match tokio::time::timeout(WRITE_TIMEOUT, api.create(&params, &wanted.0)).await {
            Ok(Ok(_)) => None,
            // It was asked for before, and is on its way to the gates.
            Ok(Err(error)) if status_code(&error) == Some(409) => return,
            Ok(Err(error)) => Some(Brief(&error).to_string()),
            Err(_) => Some("the API server did not answer in time".to_owned()),
        };
        self.metrics.written(Written::Create, failed.is_none());
        if let Some(error) = failed {
            tracing::warn!("AgentHalt {namespace}/{name} is not written, the gate that asks for it holds: {error}");
            return;
        }
        tracing::warn!("AgentHalt {namespace}/{name} was written for a gate: {}", wanted.0.spec.reason);
        self.metrics.halts.inc();
        let (event, pod) = wanted.event();
        // An event is a courtesy; what counts is the object.
        if let Err(error) = self.recorder.publish(&event, &pod).await {
            tracing::debug!("an event was not published: {}", Brief(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use kube::runtime::events::Reporter;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    const UID: &str = "7f1d0c52-8f6b-4a3e-9c57-2b1f0e6d9a11";

    fn rule() -> Option<HaltingRule> {
        Some(HaltingRule { policy: "acme/support".to_owned(), name: "no-rm".to_owned() })
    }

    fn wanted() -> Wanted {
        Wanted::new("acme/support-0", UID, "tool rm is blocked by rule no-rm of policy acme/support", rule()).unwrap()
    }

    #[test]
    fn a_halt_is_of_one_pod_goes_with_it_and_names_the_rule() {
        assert_eq!(
            serde_json::to_value(&wanted().0).unwrap(),
            json!({
                "apiVersion": "clawlock.dev/v1alpha1",
                "kind": "AgentHalt",
                "metadata": {
                    "name": format!("pod-{UID}"),
                    "namespace": "acme",
                    "labels": {"app.kubernetes.io/managed-by": "clawlock-operator"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "support-0", "uid": UID}],
                },
                "spec": {
                    "agentSelector": {},
                    "reason": "pod support-0: tool rm is blocked by rule no-rm of policy acme/support",
                    "podUID": UID,
                    "cause": {"type": "Denial", "denial": {"policy": "acme/support", "rule": "no-rm"}},
                },
            })
        );
        let disobeyed = Wanted::new("acme/support-0", UID, "call 1\nwas blocked", None).unwrap().0.spec;
        assert_eq!(disobeyed.reason, "pod support-0: call 1 was blocked");
        assert_eq!(disobeyed.cause, Some(HaltCause { kind: HaltCauseType::Disobedience, denial: None }));
        let long = Wanted::new("acme/support-0", UID, &"é".repeat(2000), None).unwrap().0.spec.reason;
        assert_eq!(long.chars().count(), MAX_REASON);
    }

    #[test]
    fn what_no_gate_of_ours_says_is_not_written() {
        let broken = |policy: &str, name: &str| {
            let rule = HaltingRule { policy: policy.to_owned(), name: name.to_owned() };
            Wanted::new("acme/support-0", UID, "x", Some(rule)).unwrap_err()
        };
        assert!(broken("support", "no-rm").contains("spec.cause.denial.policy"));
        assert!(broken("acme/support", "No rm").contains("spec.cause.denial.rule"));
        assert!(Wanted::new("acme/support-0", "A/B", "x", None).unwrap_err().contains("spec.podUID"));
        assert!(Wanted::new("support-0", UID, "x", None).is_err());
    }

    /// An API server that knows each object once, and what was written to it.
    async fn api_server() -> (Client, Arc<Mutex<Vec<(String, Value)>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let written = seen.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let written = written.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let written = written.clone();
                    async move {
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let body: Value = serde_json::from_slice(&body).unwrap();
                        let known = written.lock().unwrap().iter().any(|(_, before)| *before == body);
                        let (status, answer) = match known {
                            true => (
                                409,
                                json!({"kind": "Status", "status": "Failure", "code": 409, "message": "",
                                                 "reason": "AlreadyExists"}),
                            ),
                            false => (201, body.clone()),
                        };
                        if !known {
                            written.lock().unwrap().push((path, body));
                        }
                        let answer = Full::new(Bytes::from(answer.to_string()));
                        Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
            }
        });
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        (client, seen)
    }

    #[tokio::test]
    async fn it_is_written_once_with_an_event_however_often_it_is_asked_for() {
        let (client, seen) = api_server().await;
        let metrics = Arc::new(Metrics::new());
        let reporter = Reporter { controller: "test".to_owned(), instance: None };
        let writer = Writer::new(client.clone(), Recorder::new(client, reporter), metrics.clone());
        let (halts, receiver) = Halts::new();
        for _ in 0..3 {
            halts.want(wanted());
        }
        drop(halts);
        writer.run(receiver).await;
        let seen = seen.lock().unwrap();
        let [(path, halt), (_, event)] = seen.as_slice() else { panic!("{seen:#?}") };
        assert_eq!(path, "/apis/clawlock.dev/v1alpha1/namespaces/acme/agenthalts");
        assert_eq!(*halt, serde_json::to_value(&wanted().0).unwrap());
        assert_eq!(event["regarding"]["name"], "support-0");
        let note = event["note"].as_str().unwrap();
        assert!(note.contains("no-rm") && note.ends_with(&format!("AgentHalt acme/pod-{UID}")), "{note}");
        assert!(metrics.text().contains("clawlock_operator_halts_total 1"));
    }

    #[test]
    fn a_full_queue_keeps_nobody_waiting() {
        let (halts, receiver) = Halts::new();
        (0..QUEUE + 3).for_each(|_| halts.want(wanted()));
        assert_eq!(receiver.len(), QUEUE);
    }
}
