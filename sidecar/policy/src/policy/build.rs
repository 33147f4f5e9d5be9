//! From documents to a policy.

mod manifest;
mod matches;
mod places;
mod restrict;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::index::ToolIndex;
use super::upstream::{Reach, Upstream, UpstreamIndex};
use super::{BuildError, Cause, Group, Halt, Match, Policy, Rule, RuleId};
use crate::codec::{digest, encode};
use crate::condition::{Condition, Target};
use crate::document::{
    Assignment, CauseDoc, Document, HaltDoc, ManifestDoc, Mode, OnDeny, PodDoc, PolicyDoc, RuleDoc, ScheduleDoc,
    TenantDoc, Tier, UpstreamDoc,
};
use crate::limit::Limit;
use crate::pattern::{HostPattern, PatternError};
use crate::schedule::Schedule;
use crate::{Caller, RuleRef, SpiffeId, Workload};
use manifest::parse_manifest;
use matches::{parse_categories, parse_match};
use places::{add_operation, check_place};

/// Most documents of an assignment: far beyond the policies that select one pod.
pub const MAX_DOCUMENTS: usize = 4096;

/// Most rules of an assignment, guardrails included: ten times what the indexes are measured with.
pub const MAX_RULES: usize = 100_000;

/// Most patterns of one list of a rule.
pub const MAX_PATTERNS: usize = 1024;

/// Longest name of an object or rule in bytes: a namespace and a name of Kubernetes.
pub const MAX_NAME: usize = 512;

/// Why an Auto rule may not read what the agent says.
pub const UNTRUSTED: &str = "an Auto rule does not depend on requester, run or model: the agent's process makes them \
                             up, so that they can only tighten; ask or block by them instead";

type Result<T> = std::result::Result<T, BuildError>;

/// Names the object that an error is about.
struct At<'a> {
    object: &'a str,
    rule: Option<&'a str>,
}

impl At<'_> {
    fn error(&self, reason: impl ToString) -> BuildError {
        BuildError { object: self.object.to_owned(), rule: self.rule.map(str::to_owned), reason: reason.to_string() }
    }

    fn refuse<T>(&self, reason: impl ToString) -> Result<T> {
        Err(self.error(reason))
    }

    fn name(&self, name: &str) -> Result<()> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return self.refuse(format!("a name has 1 to {MAX_NAME} bytes without white space and control characters"));
        }
        Ok(())
    }

    fn patterns<T>(&self, texts: &[String], parse: fn(&str) -> std::result::Result<T, PatternError>) -> Result<Vec<T>> {
        if texts.len() > MAX_PATTERNS {
            return self.refuse(format!("a list has at most {MAX_PATTERNS} patterns"));
        }
        texts.iter().map(|text| parse(text).map_err(|error| self.error(error))).collect()
    }
}

/// An error about the assignment itself.
fn assignment_error(reason: impl ToString) -> BuildError {
    At { object: "assignment", rule: None }.error(reason)
}

/// The documents by kind, each with its digest.
#[derive(Default)]
struct Sorted {
    policies: BTreeMap<String, (PolicyDoc, Arc<str>)>,
    tenants: Vec<(TenantDoc, Arc<str>)>,
    upstreams: BTreeMap<String, (UpstreamDoc, Arc<str>)>,
    halts: BTreeMap<String, (HaltDoc, Arc<str>)>,
    manifests: Vec<(ManifestDoc, Arc<str>)>,
}

impl Policy {
    /// Builds the policy of an assignment from its documents, in any order. Everything is parsed again:
    /// a signature says who wrote a document, not that it can be understood.
    ///
    /// # Errors
    /// When the documents are not exactly those that the assignment lists; when anything in them does
    /// not parse, names something twice or exceeds a bound; when two upstreams claim the same scheme,
    /// host and port. Nothing is ever left out instead.
    pub fn build(assignment: Assignment, documents: Vec<Document>) -> Result<Self> {
        let Assignment { tenant, identity, pod, plugin_optional, digests, generation, issued_at_ms, not_after_ms } =
            assignment;
        if issued_at_ms >= not_after_ms {
            return Err(assignment_error("it ends before it was issued"));
        }
        let caller = caller(&tenant, &identity, pod)?;
        plugin_optional.as_deref().map_or(Ok(()), |name| At { object: "assignment", rule: None }.name(name))?;
        let Sorted { policies, tenants, upstreams, halts, manifests } = sort(documents, &digests)?;
        let Ok([(tenant_doc, tenant_digest)]) = <[_; 1]>::try_from(tenants) else {
            return Err(assignment_error(format!("it must have exactly one tenant document, of {tenant}")));
        };
        if tenant_doc.name != tenant {
            return Err(assignment_error(format!(
                "its tenant is {tenant}, and the document is of {}",
                tenant_doc.name
            )));
        }
        let manifest = parse_manifest(manifests)?;
        let mut builder = Builder::default();
        for (name, (doc, digest)) in upstreams {
            builder.add_upstream(&name, doc, digest)?;
        }
        for (name, (doc, digest)) in policies {
            let PolicyDoc { name: _, mode, rules, residency, limits } = doc;
            let object = format!("policy {name}");
            builder.add_group(&object, name.into(), Some(mode))?;
            builder.add_residency(&object, residency, &digest)?;
            builder.add_rules(&object, rules, &digest)?;
            builder.add_limits(&object, &limits, &digest)?;
        }
        let TenantDoc { name, guardrails, limits, tool_categories, audit_until_ms, allowed_modes } = tenant_doc;
        if let Some(rule) = guardrails.iter().find(|rule| rule.tier == Tier::Auto) {
            let object = format!("tenant {name}");
            return At { object: &object, rule: Some(&rule.name) }.refuse("a guardrail says Ask or Block");
        }
        let object = format!("tenant {name}");
        let tool_categories = parse_categories(&object, &tool_categories)?;
        builder.add_group(&object, format!("tenantgateway/{name}").into(), None)?;
        builder.add_rules(&object, guardrails, &tenant_digest)?;
        builder.add_limits(&object, &limits, &tenant_digest)?;
        let Builder { rules, groups, limits, schedules, tools, upstreams, by_name, reach } = builder;
        Ok(Self {
            caller,
            generation,
            issued_at_ms,
            not_after_ms,
            plugin_optional: plugin_optional.map(Into::into),
            manifest,
            halts: halts.into_values().map(halt).collect(),
            audit_until_ms: audit_until_ms.filter(|_| allowed_modes.contains(&Mode::Audit)),
            reads_headers: rules.iter().filter_map(|rule| rule.when.as_ref()).any(Condition::reads_headers),
            may_halt: rules.iter().any(|rule| rule.halts),
            rules,
            groups,
            limits,
            schedules: schedules.into_values().collect(),
            tool_categories,
            tools,
            upstreams,
            by_name,
            reach,
        })
    }
}

fn halt((HaltDoc { name, reason, cause }, digest): (HaltDoc, Arc<str>)) -> Halt {
    let cause = cause.map(|cause| match cause {
        CauseDoc::Denial { policy, rule } => {
            Cause::Denial(RuleRef { policy: policy.into(), rule: rule.into(), digest })
        }
        CauseDoc::Disobedience {} => Cause::Disobedience,
    });
    Halt { name, reason, cause }
}

fn caller(tenant: &str, identity: &str, pod: PodDoc) -> Result<Arc<Caller>> {
    let PodDoc { namespace, name, uid, service_account, labels } = pod;
    let identity = SpiffeId::parse(identity).map_err(assignment_error)?;
    if !identity.as_str().ends_with(&format!("/ns/{namespace}/sa/{service_account}/pod/{uid}")) {
        return Err(assignment_error(format!("the identity {identity} is not that of pod {namespace}/{name}")));
    }
    Ok(Arc::new(Caller {
        tenant: tenant.into(),
        workload: Workload {
            namespace: namespace.into(),
            service_account: service_account.into(),
            pod: name.into(),
            uid: uid.into(),
            labels: Arc::new(labels),
        },
        identity,
    }))
}

/// Checks that the documents are those of the assignment, and sorts them.
fn sort(documents: Vec<Document>, digests: &[String]) -> Result<Sorted> {
    if documents.len() > MAX_DOCUMENTS {
        return Err(assignment_error(format!("it has more than {MAX_DOCUMENTS} documents")));
    }
    let listed: BTreeSet<&str> = digests.iter().map(String::as_str).collect();
    if listed.len() != digests.len() || !digests.is_sorted() {
        return Err(assignment_error("its digests are not sorted, or one is listed twice"));
    }
    let mut sorted = Sorted::default();
    let mut seen = BTreeSet::new();
    for document in documents {
        let digest: Arc<str> = digest(&encode(&document)).into();
        if !listed.contains(&*digest) {
            return Err(assignment_error(format!("it does not list {digest}, {}", describe(&document))));
        }
        if !seen.insert(digest.clone()) {
            return Err(assignment_error(format!("{} is there twice", describe(&document))));
        }
        let name = describe(&document);
        let twice = match document {
            Document::Policy(doc) => sorted.policies.insert(doc.name.clone(), (doc, digest)).is_some(),
            Document::Upstream(doc) => sorted.upstreams.insert(doc.name.clone(), (doc, digest)).is_some(),
            Document::Halt(doc) => sorted.halts.insert(doc.name.clone(), (doc, digest)).is_some(),
            Document::Tenant(doc) => {
                sorted.tenants.push((doc, digest));
                false
            }
            Document::Manifest(doc) => {
                sorted.manifests.push((doc, digest));
                false
            }
        };
        if twice {
            return Err(assignment_error(format!("there are two versions of {name}")));
        }
    }
    match listed.iter().find(|digest| !seen.contains(**digest)) {
        Some(missing) => Err(assignment_error(format!("the document {missing} is missing"))),
        None => Ok(sorted),
    }
}

fn describe(document: &Document) -> String {
    match document {
        Document::Policy(doc) => format!("policy {}", doc.name),
        Document::Tenant(doc) => format!("tenant {}", doc.name),
        Document::Upstream(doc) => format!("upstream {}", doc.name),
        Document::Halt(doc) => format!("halt {}", doc.name),
        Document::Manifest(doc) => format!("manifest {}", doc.name),
    }
}

#[derive(Default)]
struct Builder {
    rules: Vec<Rule>,
    groups: Vec<Group>,
    limits: Vec<Limit>,
    schedules: HashMap<ScheduleDoc, Arc<Schedule>>,
    tools: ToolIndex,
    upstreams: Vec<Arc<Upstream>>,
    by_name: HashMap<Arc<str>, UpstreamIndex>,
    reach: Reach,
}

impl Builder {
    fn add_upstream(&mut self, name: &str, doc: UpstreamDoc, digest: Arc<str>) -> Result<()> {
        let object = format!("upstream {name}");
        let at = At { object: &object, rule: None };
        at.name(name)?;
        if name.contains(['.', '*']) {
            return at.refuse("an upstream's name has no '.' and no '*': operations are named upstream.operation");
        }
        let UpstreamDoc {
            name: _,
            protocol,
            scheme,
            hosts,
            port,
            allowed_cidrs,
            ca_pem,
            credential,
            residency,
            category,
            operations,
        } = doc;
        let hosts = at.patterns(&hosts, HostPattern::parse)?;
        check_place(&at, scheme, &hosts, port, &credential)?;
        let cidr = |text: &String| text.parse::<IpNet>().map_err(|_| at.error(format!("{text:?} is no CIDR")));
        let place = self.upstreams.len();
        for host in &hosts {
            self.reach.insert(scheme, host, port, place).map_err(|other| {
                let other = self.upstreams.get(other).map_or("another", |other| &*other.name);
                let url = format!("{}://{}:{port}", scheme.as_str(), host.as_str());
                at.error(format!("{url} also belongs to upstream {other}; a request would have two owners"))
            })?;
        }
        let arguments: BTreeSet<&str> =
            operations.iter().flat_map(|operation| &operation.arguments).map(|argument| &*argument.name).collect();
        let upstream = Arc::new(Upstream {
            name: name.into(),
            digest,
            protocol,
            scheme,
            hosts,
            port,
            allowed_cidrs: allowed_cidrs.iter().map(cidr).collect::<Result<_>>()?,
            ca_pem: ca_pem.map(Into::into),
            credential,
            residency: residency.map(|place| at.name(&place).map(|()| place.into())).transpose()?,
            arguments: arguments.into_iter().map(Arc::from).collect(),
        });
        let mut index = UpstreamIndex::new(upstream.clone(), category);
        for operation in operations {
            add_operation(&mut index, &object, operation)?;
        }
        self.upstreams.push(upstream.clone());
        self.by_name.insert(upstream.name.clone(), index);
        Ok(())
    }

    /// Begins a policy, or the guardrails.
    fn add_group(&mut self, object: &str, name: Arc<str>, mode: Option<Mode>) -> Result<()> {
        At { object, rule: None }.name(&name)?;
        let start = rule_id(self.rules.len());
        self.groups.push(Group { name, mode, rules: start..start });
        Ok(())
    }

    /// The group that was begun last.
    fn group(&mut self) -> &mut Group {
        self.groups.last_mut().expect("a group was begun")
    }

    /// Adds a rule to the group that was begun last.
    fn add_rule(&mut self, rule: Rule, operations: &[(Arc<str>, usize)]) {
        let id = rule_id(self.rules.len());
        self.index(id, &rule, operations);
        self.rules.push(rule);
        self.group().rules.end = id + 1;
    }

    /// Adds rules to the group that was begun last.
    fn add_rules(&mut self, object: &str, rules: Vec<RuleDoc>, digest: &Arc<str>) -> Result<()> {
        if self.rules.len() + rules.len() > MAX_RULES {
            return At { object, rule: None }.refuse(format!("the assignment has more than {MAX_RULES} rules"));
        }
        let group = self.group().name.clone();
        let mut names = HashSet::new();
        for doc in rules {
            let RuleDoc { name, matches, when, schedule, tier, on_deny } = doc;
            let at = At { object, rule: Some(&name) };
            at.name(&name)?;
            if !names.insert(name.clone()) {
                return at.refuse("another rule has the same name");
            }
            let matches = parse_match(&at, matches)?;
            let operations = self.operations_of(&matches);
            let condition = when.map(|text| self.condition(&at, &text, &matches, &operations)).transpose()?;
            if tier == Tier::Auto && condition.as_ref().is_some_and(Condition::reads_claims) {
                return at.refuse(UNTRUSTED);
            }
            if tier == Tier::Auto && on_deny == OnDeny::Halt {
                return at.refuse("an Auto rule refuses nothing, so that there is nothing to halt for");
            }
            let reference = RuleRef { policy: group.clone(), rule: name.as_str().into(), digest: digest.clone() };
            let schedule = schedule.map(|doc| self.schedule(&at, doc)).transpose()?;
            let (group, halts) = (self.groups.len() - 1, on_deny == OnDeny::Halt);
            self.add_rule(Rule { reference, group, matches, when: condition, schedule, tier, halts }, &operations);
        }
        Ok(())
    }

    /// The schedule that a document describes: rules of one office share one.
    fn schedule(&mut self, at: &At<'_>, doc: ScheduleDoc) -> Result<Arc<Schedule>> {
        if let Some(known) = self.schedules.get(&doc) {
            return Ok(known.clone());
        }
        let schedule = Arc::new(Schedule::parse(&doc).map_err(|error| at.error(format!("schedule.{error}")))?);
        self.schedules.insert(doc, schedule.clone());
        Ok(schedule)
    }

    /// The declared operations that a match names, as upstream and place.
    fn operations_of(&self, matches: &Match) -> Vec<(Arc<str>, usize)> {
        let Match::Operations(patterns) = matches else { return Vec::new() };
        let mut found = BTreeSet::new();
        for pattern in patterns {
            let all = || self.by_name.iter().filter(|(name, _)| pattern.upstream().matches(name)).collect::<Vec<_>>();
            let indexes = match pattern.upstream().exact() {
                Some(name) => self.by_name.get_key_value(name).into_iter().collect(),
                None => all(),
            };
            for (name, index) in indexes {
                let matching = index
                    .operations
                    .iter()
                    .enumerate()
                    .filter(|(_, operation)| pattern.matches(name, &operation.short));
                found.extend(matching.map(|(place, _)| (name.clone(), place)));
            }
        }
        found.into_iter().collect()
    }

    fn condition(&self, at: &At<'_>, text: &str, matches: &Match, named: &[(Arc<str>, usize)]) -> Result<Condition> {
        let declared = named.iter().filter_map(|(upstream, place)| {
            Some(self.by_name.get(upstream)?.operations.get(*place)?.arguments.as_slice())
        });
        let target = match matches {
            Match::Tools(_) => Target::tools(),
            Match::Operations(_) => Target::operations(declared),
            Match::Http { .. } => Target::http(),
            // A residency has no condition.
            Match::Category(_) | Match::OutsideOf(_) => Target::category(),
        };
        Condition::parse(text, &target).map_err(|error| at.error(error))
    }

    fn index(&mut self, id: RuleId, rule: &Rule, operations: &[(Arc<str>, usize)]) {
        let Some(group) = self.groups.get(rule.group) else { return };
        match &rule.matches {
            Match::Tools(patterns) => {
                for pattern in patterns {
                    self.tools.insert(pattern, id, rule, group);
                }
            }
            Match::Operations(_) => {
                for (upstream, place) in operations {
                    let operation = self.by_name.get_mut(upstream).and_then(|index| index.operations.get_mut(*place));
                    if let Some(operation) = operation {
                        operation.rules.push(id, rule, group);
                    }
                }
            }
            // Upstreams that are not there (yet) have no requests.
            Match::Http { upstreams, methods, paths } => {
                for upstream in upstreams {
                    if let Some(index) = self.by_name.get_mut(upstream.as_str()) {
                        index.insert(methods, paths, id, rule, group);
                    }
                }
            }
            Match::OutsideOf(allowed) => {
                for index in self.by_name.values_mut() {
                    if !allowed.contains(index.upstream.residency.as_deref()) {
                        index.insert_all(id, rule, group);
                    }
                }
            }
            Match::Category(category) => {
                self.tools.insert_category(*category, id, rule, group);
                for index in self.by_name.values_mut() {
                    index.insert_category(*category, id, rule, group);
                }
            }
        }
    }
}

fn rule_id(place: usize) -> RuleId {
    RuleId::try_from(place).expect("MAX_RULES fits")
}
