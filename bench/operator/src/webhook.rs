//! Injection: reviews as the API server sends them, over one HTTP/2 connection, as it does.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, header};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::api::{Api, Http2, connect, exchange};
use crate::objects::{Tenant, pod};
use crate::release::Program;

/// Pods a second.
pub(crate) const RATE: u32 = 50;
/// How long the webhook may take to learn of a tenant.
const KNOWN: Duration = Duration::from_secs(30);
/// The name that the API server expects.
const NAME: &str = "clawlock-webhook.clawlock-system.svc";

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Injection {
    /// Pods that were injected.
    pub(crate) pods: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) slowest_ms: f64,
}

/// Asks the webhook.
#[derive(Clone)]
pub(crate) struct Injector {
    http: Http2,
}

impl Injector {
    /// Connects, with the CA that the operator wrote into the configuration.
    pub(crate) async fn connect(api: &Api, webhook: &Program) -> Result<Self, String> {
        let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/clawlock";
        let configuration = api.get(path).await?.unwrap_or_default();
        let bundle = configuration.pointer("/webhooks/0/clientConfig/caBundle").and_then(Value::as_str);
        let bundle = bundle.and_then(|bundle| BASE64.decode(bundle).ok()).and_then(|pem| String::from_utf8(pem).ok());
        let bundle = bundle.ok_or("the operator has written no caBundle")?;
        Ok(Self { http: connect(webhook.port(), NAME, &bundle).await? })
    }

    /// The pod as it is after injection. A new tenant is waited for.
    pub(crate) async fn inject(&self, tenant: &Tenant, pod: &Value) -> Result<Value, String> {
        let begun = Instant::now();
        let answer = loop {
            match self.review(review(tenant, pod)).await {
                Err(_) if begun.elapsed() < KNOWN => tokio::time::sleep(Duration::from_millis(100)).await,
                answer => break answer?,
            }
        };
        let patch = answer.pointer("/response/patch").and_then(Value::as_str).and_then(|text| BASE64.decode(text).ok());
        let patch: Vec<Value> = serde_json::from_slice(&patch.ok_or_else(|| format!("not injected: {answer}"))?)
            .map_err(|error| error.to_string())?;
        let mut pod = pod.clone();
        for operation in patch {
            let (op, path) = (operation["op"].as_str(), operation["path"].as_str().unwrap_or_default());
            let (above, member) = path.rsplit_once('/').unwrap_or_default();
            let object = pod.pointer_mut(above).and_then(Value::as_object_mut).filter(|_| op == Some("add"));
            let object = object.ok_or_else(|| format!("a patch of another kind: {operation}"))?;
            object.insert(member.to_owned(), operation["value"].clone());
        }
        Ok(pod)
    }

    async fn review(&self, review: Bytes) -> Result<Value, String> {
        let request = Request::post(format!("https://{NAME}/mutate/pods?timeout=5s"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(review))
            .map_err(|error| error.to_string())?;
        let (status, body) = exchange(self.http.clone(), request).await?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| format!("{status}: {error}"))?;
        if answer["response"]["allowed"] == true { Ok(answer) } else { Err(format!("refused: {answer}")) }
    }
}

fn review(tenant: &Tenant, pod: &Value) -> Bytes {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "resource": resource, "requestKind": kind,
            "requestResource": resource, "namespace": tenant.name, "name": pod["metadata"]["name"],
            "operation": "CREATE", "object": pod, "oldObject": null, "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
        },
    });
    Bytes::from(review.to_string())
}

/// Has pods injected at [`RATE`]. A pod that has to wait for the one before waits by its own time as well.
pub(crate) async fn measure(injector: &Injector, tenant: &Tenant, duration: Duration) -> Result<Injection, String> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let review = review(tenant, &pod(tenant));
    let begun = Instant::now();
    let mut asked = JoinSet::new();
    while begun.elapsed() < duration {
        let due = ticks.tick().await.into_std();
        let (injector, review) = (injector.clone(), review.clone());
        asked.spawn(async move {
            let answer = injector.review(review).await?;
            let taken = due.elapsed();
            if answer.pointer("/response/patch").is_some() {
                Ok(taken)
            } else {
                Err("a pod was not injected".to_owned())
            }
        });
    }
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).map_err(|error| error.to_string())?;
    while let Some(taken) = asked.join_next().await {
        let taken = taken.map_err(|error| error.to_string())??;
        times.saturating_record(u64::try_from(taken.as_micros()).unwrap_or(u64::MAX).max(1));
    }
    // Minutes in microseconds fit.
    let ms = |micros: u64| u32::try_from(micros).map_or(f64::INFINITY, f64::from) / 1e3;
    Ok(Injection {
        pods: times.len(),
        p50_ms: ms(times.value_at_quantile(0.5)),
        p99_ms: ms(times.value_at_quantile(0.99)),
        slowest_ms: ms(times.max()),
    })
}
