//! What both gates do alike: read a request into a question, decide it, record the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use clawlock_audit::record::{RECORD_VERSION, bounded};
use clawlock_audit::{ActionRecord, AuditSink, Gate, Latency, Outcome, Receipt, Record};
use clawlock_policy::document::CredentialDoc;
use clawlock_policy::{Code, Denial, Facts, Permit, Policy, SpiffeId, Upstream, Verdict, decide};
use http::{HeaderMap, HeaderName, Method, Uri, header};
use hyper::body::{Body, Incoming};
use tokio::sync::watch;

use crate::body::{ReadError, read};
use crate::budget::{Budget, Share};
use crate::guard::{Guard, Recheck};
use crate::latch::Halt;
use crate::limits::{BODY_TIMEOUT, DECIDED_BODY, HOP_SLACK_MS};
use crate::meter::Meter;
use crate::metrics::Metrics;
use crate::policies::PolicyTable;
use crate::request::{KnownBody, Question, Target, check_authority, clean_headers, parse_path};
use crate::{denial, headers};

/// A gate's parts that decide and record.
pub struct Decider {
    gate: Gate,
    policies: Arc<PolicyTable>,
    audit: Arc<dyn AuditSink>,
    metrics: Arc<Metrics>,
    ids: RequestIds,
    bodies: Budget,
    meter: Meter,
}

/// A request that may be allowed: its question, and what is forwarded beside it.
pub struct Asked {
    /// What is decided.
    pub question: Arc<Question>,
    /// The policy by which it is decided.
    pub policy: Arc<Policy>,
    /// The upstream that it goes to.
    pub upstream: Arc<Upstream>,
    /// Headers to forward.
    pub headers: HeaderMap,
    /// The rest of the body.
    pub body: Held,
    epoch: watch::Receiver<u64>,
    share: Option<Arc<Share>>,
}

/// A request's body after the decision.
pub enum Held {
    /// It was read for the decision.
    Whole(Bytes),
    /// It still streams in.
    Streaming(Incoming),
}

/// A refusal with what was refused, ready to be recorded.
pub struct Refused {
    /// Why.
    pub denial: Denial,
    /// What.
    pub action: ActionRecord,
}

/// When a request came, who asked, and how the record will name it.
pub struct Asking {
    /// Identifies the request at both gates.
    pub request_id: Arc<str>,
    /// Who asks.
    pub identity: SpiffeId,
    /// When the head was there.
    pub started: Instant,
    /// What the agent's gate has measured, for the gateway's record.
    pub agent_gate_us: u32,
}

impl Asking {
    /// A request that has an id already.
    #[must_use]
    pub fn named(request_id: Arc<str>, identity: SpiffeId) -> Self {
        Self { request_id, identity, started: Instant::now(), agent_gate_us: 0 }
    }
}

impl Decider {
    /// Puts the parts together.
    #[must_use]
    pub fn new(gate: Gate, policies: Arc<PolicyTable>, audit: Arc<dyn AuditSink>, metrics: Arc<Metrics>) -> Self {
        let meter = Meter::new(if gate == Gate::Agent { 0 } else { HOP_SLACK_MS });
        Self { gate, policies, audit, metrics, ids: RequestIds::new(), bodies: Budget::default(), meter }
    }

    /// The assignments.
    #[must_use]
    pub fn policies(&self) -> &Arc<PolicyTable> {
        &self.policies
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A new request.
    #[must_use]
    pub fn asking(&self, identity: SpiffeId) -> Asking {
        Asking::named(self.ids.next(), identity)
    }

    /// Reads a request to a target and decides it.
    ///
    /// # Errors
    /// With the refusal.
    pub async fn decide(
        &self,
        asking: &Asking,
        target: &Target,
        parts: http::request::Parts,
        body: Incoming,
    ) -> Result<(Asked, Permit), Box<Refused>> {
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let refuse = |denial| Box::new(Refused { denial, action: raw_action(target, &method, &uri) });
        let mut asked = self.ask(asking, target, parts, body).map_err(refuse)?;
        let now_ms = self.policies.now_ms();
        let caller = asked.policy.caller().clone();
        let empty = matches!(asked.question.body, KnownBody::Empty);
        if !empty && asked.policy.needs_body(&asked.question.facts(&caller, now_ms)) {
            Box::pin(asked.read_body(&self.bodies))
                .await
                .map_err(|denial| Box::new(Refused { denial, action: asked.record() }))?;
        }
        match self.decide_metered(&asked.policy, &asked.question.facts(&caller, now_ms)) {
            Verdict::Allow(permit) => Ok((asked, permit)),
            Verdict::Ask(denial) | Verdict::Deny(denial) => Err(Box::new(Refused { denial, action: asked.record() })),
        }
    }

    /// Decides, halts the pod if the rule that refuses says so, and takes room from the limits that count what is
    /// allowed. Nothing is awaited in between: who asks cannot break off before the pod is halted.
    pub(crate) fn decide_metered(&self, policy: &Policy, facts: &Facts<'_>) -> Verdict {
        let verdict = decide(policy, facts);
        if let Some(halt) = verdict.denial().and_then(Halt::of) {
            tracing::warn!(identity = %facts.caller.identity, detail = halt.detail, "the agent is halted");
            self.policies.halt(&facts.caller.identity, halt);
        }
        let Verdict::Allow(permit) = &verdict else { return verdict };
        match self.meter.take(&facts.caller.identity, &policy.limits(facts), facts.context.now_ms) {
            Ok(()) => verdict,
            Err(denial) => Verdict::Deny(Denial { generation: permit.generation(), ..denial }),
        }
    }

    fn ask(
        &self,
        asking: &Asking,
        target: &Target,
        mut parts: http::request::Parts,
        body: Incoming,
    ) -> Result<Asked, Denial> {
        if parts.method == Method::TRACE {
            // It exists to echo headers, an injected credential among them (RFC 9110 section 9.3.8).
            return Err(denial::of(Code::MethodRefused, "TRACE is never forwarded".to_owned()));
        }
        if parts.method.as_str().bytes().any(|b| b.is_ascii_lowercase()) {
            // Methods are case-sensitive, but some servers read `delete` as DELETE: two readings.
            let detail = format!("method {:?} is not in upper case", bounded(parts.method.as_str()));
            return Err(denial::of(Code::MethodRefused, detail));
        }
        check_authority(&parts.uri, &parts.headers, target)?;
        let path = parse_path(&parts.uri)?;
        clean_headers(&mut parts.headers)?;
        // Subscribed before the policy is read: a change in between is seen as one.
        let epoch = self.policies.epoch();
        let (policy, _) = self.policies.active(&asking.identity)?;
        let Some(upstream) = policy.upstream(target.scheme, &target.host, target.port).cloned() else {
            return Err(unknown(target, &policy));
        };
        headers::strip_carriers(&mut parts.headers, credential_header(&upstream).as_ref());
        let query =
            headers::strip_query_carriers(parts.uri.query().unwrap_or_default(), &|name| declares(&upstream, name));
        let question = Question {
            target: target.clone(),
            upstream: Some(upstream.name.clone()),
            method: parts.method,
            path,
            query: query.into_owned(),
            headers: policy.reads_headers().then(|| parts.headers.clone()),
            body: if body.is_end_stream() { KnownBody::Empty } else { KnownBody::Unread },
        };
        Ok(Asked {
            question: Arc::new(question),
            policy,
            upstream,
            headers: parts.headers,
            body: Held::Streaming(body),
            epoch,
            share: None,
        })
    }

    /// Records a refusal, and answers it; a record that cannot be written changes nothing, since
    /// nothing happens anyway.
    pub async fn refuse(&self, asking: &Asking, refused: Refused) -> Denial {
        let Refused { denial, action } = refused;
        let verdict = match denial.code {
            Code::ApprovalUnavailable => Verdict::Ask(denial.clone()),
            _ => Verdict::Deny(denial.clone()),
        };
        if let Err(error) = self.record(asking, action, &verdict).await {
            tracing::warn!(%error, request = %asking.request_id, "a refusal could not be recorded");
        }
        denial
    }

    /// Records an allowed action. Only with the receipt may it happen.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`].
    pub async fn record_allow(
        &self,
        asking: &Asking,
        action: ActionRecord,
        permit: &Permit,
    ) -> Result<Receipt, Denial> {
        self.record(asking, action, &Verdict::Allow(permit.clone())).await.map_err(|error| {
            let mut denial = denial::of(Code::AuditUnavailable, error.to_string());
            denial.generation = permit.generation();
            denial
        })
    }

    /// Records what came of an allowed action. It decides nothing.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn report(
        &self,
        asking: &Asking,
        action: ActionRecord,
        generation: u64,
    ) -> Result<Receipt, clawlock_audit::AuditError> {
        self.write(asking, action, Outcome::reported(generation), Latency::default()).await
    }

    async fn record(
        &self,
        asking: &Asking,
        action: ActionRecord,
        verdict: &Verdict,
    ) -> Result<Receipt, clawlock_audit::AuditError> {
        let micros = u32::try_from(asking.started.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.metrics.decided(self.gate, verdict, micros);
        let latency_us = match self.gate {
            Gate::Agent => Latency { agent_gate: micros, gateway: 0 },
            Gate::Gateway => Latency { agent_gate: asking.agent_gate_us, gateway: micros },
        };
        self.write(asking, action, Outcome::from(verdict), latency_us).await
    }

    async fn write(
        &self,
        asking: &Asking,
        action: ActionRecord,
        outcome: Outcome,
        latency_us: Latency,
    ) -> Result<Receipt, clawlock_audit::AuditError> {
        let (tenant, time_ms) = self.policies.tenant_and_time(&asking.identity);
        let record = Record {
            version: RECORD_VERSION,
            time_ms,
            request_id: asking.request_id.clone(),
            gate: self.gate,
            tenant,
            workload: asking.identity.shared(),
            action,
            outcome,
            latency_us,
        };
        self.audit.commit(record).await
    }
}

impl Asked {
    /// The record's action.
    #[must_use]
    pub fn record(&self) -> ActionRecord {
        self.question.record(&self.policy)
    }

    async fn read_body(&mut self, budget: &Budget) -> Result<(), Denial> {
        let Held::Streaming(incoming) = std::mem::replace(&mut self.body, Held::Whole(Bytes::new())) else {
            return Ok(());
        };
        let mut share = budget.share(&self.policy.caller().identity);
        let bytes = read(incoming, DECIDED_BODY, BODY_TIMEOUT, |more| share.grow(more)).await;
        let bytes = bytes.map_err(|error| match error {
            ReadError::TooLarge(_) => denial::of(Code::BodyTooLarge, format!("{error}, and a rule must read it whole")),
            ReadError::NoRoom => denial::of(Code::Overloaded, error.to_string()),
            ReadError::Timeout(_) | ReadError::Broken => denial::of(Code::BadRequest, error.to_string()),
        })?;
        self.share = Some(Arc::new(share));
        self.body = Held::Whole(bytes.clone());
        let coding = self.headers.get(header::CONTENT_ENCODING);
        // Nobody else holds the question yet, so this changes it in place.
        Arc::make_mut(&mut self.question).body = if coding.is_some_and(|coding| coding != "identity") {
            KnownBody::Unusable("the body has a content coding")
        } else if bytes.is_empty() {
            KnownBody::Empty
        } else {
            let content_type = self.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::to_str);
            match content_type.transpose() {
                Ok(content_type) => KnownBody::Full(bytes, content_type.unwrap_or_default().to_owned()),
                Err(_) => KnownBody::Unusable("the Content-Type is not ASCII"),
            }
        };
        Ok(())
    }

    /// Watches over the streams of this request.
    #[must_use]
    pub fn guard(&self, decider: &Decider, permit: &Permit) -> Guard {
        let recheck = HttpRecheck {
            policies: decider.policies.clone(),
            metrics: decider.metrics.clone(),
            identity: self.policy.caller().identity.clone(),
            question: self.question.clone(),
            upstream: self.upstream.clone(),
            credential: permit.credential(),
            _share: self.share.clone(),
        };
        Guard::new(Arc::new(recheck), self.epoch.clone())
    }
}

struct HttpRecheck {
    policies: Arc<PolicyTable>,
    metrics: Arc<Metrics>,
    identity: SpiffeId,
    question: Arc<Question>,
    upstream: Arc<Upstream>,
    credential: bool,
    // The question holds the body as long as the stream lives.
    _share: Option<Arc<Share>>,
}

impl Recheck for HttpRecheck {
    fn still_allowed(&self) -> bool {
        let allowed = self.policies.active(&self.identity).is_ok_and(|(policy, now_ms)| {
            let Target { scheme, host, port } = &self.question.target;
            // The triple must still lead to the same place, and the rules must still allow as much.
            policy.upstream(*scheme, host, *port).is_some_and(|upstream| leads_there(&self.upstream, upstream))
                && match decide(&policy, &self.question.facts(policy.caller(), now_ms)) {
                    Verdict::Allow(permit) => permit.credential() || !self.credential,
                    Verdict::Ask(_) | Verdict::Deny(_) => false,
                }
        });
        if !allowed {
            self.metrics.revoked.inc();
        }
        allowed
    }
}

/// Whether a stream to an upstream as it was could be opened to it as it is, with the same credential.
fn leads_there(was: &Upstream, is: &Upstream) -> bool {
    was.name == is.name
        && was.protocol == is.protocol
        && was.credential == is.credential
        && was.ca_pem == is.ca_pem
        && was.allowed_cidrs.iter().all(|network| is.allowed_cidrs.contains(network))
}

fn declares(upstream: &Upstream, argument: &str) -> bool {
    upstream.arguments.binary_search_by(|name| (**name).cmp(argument)).is_ok()
}

fn credential_header(upstream: &Upstream) -> Option<HeaderName> {
    match &upstream.credential {
        CredentialDoc::Header { name, .. } => HeaderName::try_from(name).ok(),
        CredentialDoc::None {} | CredentialDoc::Bearer { .. } | CredentialDoc::Basic { .. } => None,
    }
}

/// The refusal of a target that is no upstream of the tenant.
#[must_use]
pub fn unknown(target: &Target, policy: &Policy) -> Denial {
    let mut denial =
        denial::of(Code::UnknownUpstream, format!("{} is no upstream of tenant {}", target.text(), policy.tenant()));
    denial.generation = policy.generation();
    denial
}

/// An action as far as it can be told of a request that was not understood.
#[must_use]
pub fn raw_action(target: &Target, method: &Method, uri: &Uri) -> ActionRecord {
    ActionRecord::Http {
        upstream: None,
        operation: None,
        method: bounded(method.as_str()),
        target: target.text(),
        path: bounded(uri.path()),
    }
}

/// Request ids: random per process, then counted, so that they are unique and cheap.
struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let mut seed = [0; 6];
        // Uniqueness, not secrecy, is wanted; without randomness the counter still tells requests
        // of one process apart.
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            tracing::warn!("no randomness for request ids");
        }
        let prefix = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { prefix, next: AtomicU64::new(1) }
    }

    fn next(&self) -> Arc<str> {
        format!("{}-{:x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed)).into()
    }
}
