//! `explain --request`: a decision that stands in the log, the rule that made it, and whether that rule is still the same
//! in a folder of policy.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clawlock_compile::{check_gateway, check_policy};
use clawlock_policy::codec;
use clawlock_policy::document::Document;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::args::{ExplainArgs, Format};
use crate::engine::Rules;
use crate::folder::{self, Folder, Object, Resource};
use crate::log::{Line, Log, Logged, LoggedOutcome, Verdict};
use crate::output::{self, BAD, GOOD, STRONG, styled};
use crate::problem::plain;
use crate::replay::{Agent, Refusal, Replay, Said};

/// The code of whatever a halted agent asks for.
const HALTED: &str = clawlock_policy::Code::Halted.as_str();

/// Most records of one request: each gate writes one.
const MAX_RECORDS: usize = 16;

/// What is told of a record.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    request_id: String,
    time: String,
    gate: String,
    tenant: String,
    workload: String,
    action: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    generation: u64,
    /// Where the rule stands in the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// Whether the folder has the policy as it was when it decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_policy: Option<bool>,
    /// What the folder says now, in words.
    now: String,
}

/// Looks a request up and prints.
pub(super) fn run(id: &str, log: &Path, args: &ExplainArgs) -> Result<ExitCode, String> {
    let records = find(id, log)?;
    let files = folder::read(std::slice::from_ref(&args.folder));
    let rules = Rules::of(&files, &args.folder)?;
    let mut replay = Replay::new(&rules, &args.agent.labels)?;
    let reports = records.into_iter().map(|record| report(record, &files, &mut replay));
    let reports: Vec<Report> = reports.collect::<Result<_, _>>()?;
    match args.output {
        Format::Json => output::print_json(&reports)?,
        Format::Text => output::print(&reports.iter().map(Report::text).collect::<String>())?,
    }
    let allowed = reports.iter().all(|report| report.verdict == Verdict::Allow);
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn find(id: &str, path: &Path) -> Result<Vec<Logged>, String> {
    let mut log = Log::open(path)?;
    let mut records = Vec::new();
    while let Some(line) = log.next()? {
        if let Line::Record(record) = line
            && record.request_id == id
            && records.len() < MAX_RECORDS
        {
            records.push(*record);
        }
    }
    if records.is_empty() {
        return Err(format!(
            "{}: no record has the request id {id:?}; look into the logs of both gates",
            path.display()
        ));
    }
    Ok(records)
}

fn report(record: Logged, files: &Folder, replay: &mut Replay<'_>) -> Result<Report, String> {
    let now = match Agent::of(&record) {
        None => "nothing: the caller was unknown".to_owned(),
        Some(agent) => words(&replay.ask(&agent, &record)?),
    };
    let found = record.outcome.policy.as_deref().and_then(|policy| object(files, policy));
    let rule = record.outcome.rule.as_deref();
    let place = found.zip(rule).and_then(|(object, rule)| place(object, rule));
    // Of an agent that is halted the digest may be that of the halt.
    let digest = record.outcome.digest.as_deref().filter(|_| record.outcome.code.as_deref() != Some(HALTED));
    let same_policy = found.zip(digest).map(|(object, digest)| {
        document(object).is_some_and(|document| codec::digest(&codec::encode(&document)) == digest)
    });
    let Logged { time_ms, request_id, gate, tenant, workload, action, outcome, .. } = record;
    let LoggedOutcome { verdict, code, shadow, shadow_policy, shadow_rule, policy, rule, digest: _, generation } =
        outcome;
    let shadow = shadow.map(|code| match shadow_policy.zip(shadow_rule) {
        Some((policy, rule)) => format!("{code} by rule {rule} of {policy}"),
        None => code,
    });
    let time = i64::try_from(time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let time = time.map_or_else(|| format!("{time_ms} ms"), |time| time.to_string());
    let action = action.words();
    Ok(Report {
        request_id,
        time,
        gate,
        tenant,
        workload,
        action,
        verdict,
        code,
        shadow,
        policy,
        rule,
        generation,
        place,
        same_policy,
        now,
    })
}

/// The object that a record names: `namespace/name`, or `tenantgateway/NAME`.
fn object<'a>(files: &'a Folder, policy: &str) -> Option<&'a Object> {
    files.objects().find(|object| match &object.resource {
        Resource::Policy(_) => policy == format!("{}/{}", object.id.namespace, object.id.name),
        Resource::Gateway(_) => policy.strip_prefix("tenantgateway/") == Some(&object.id.name),
        Resource::Upstream(_) | Resource::Halt(_) | Resource::ConfigMap(_) => false,
    })
}

fn document(object: &Object) -> Option<Document> {
    match &object.resource {
        Resource::Policy(policy) => check_policy(policy).ok().map(Document::Policy),
        Resource::Gateway(gateway) => check_gateway(gateway).ok().map(Document::Tenant),
        Resource::Upstream(_) | Resource::Halt(_) | Resource::ConfigMap(_) => None,
    }
}

/// Where a rule stands.
fn place(object: &Object, rule: &str) -> Option<String> {
    let (list, index) = match &object.resource {
        Resource::Policy(policy) => ("rules", policy.spec.rules.iter().position(|known| known.name == rule)?),
        Resource::Gateway(gateway) => {
            ("guardrails", gateway.spec.guardrails.iter().position(|known| known.name == rule)?)
        }
        Resource::Upstream(_) | Resource::Halt(_) | Resource::ConfigMap(_) => return None,
    };
    let at = object.source.root.locate(&format!("spec.{list}[{index}]"));
    Some(format!("{}:{}:{}", object.source.file.display(), at.line, at.column))
}

fn words(said: &Said) -> String {
    let by = |rule: &Option<clawlock_policy::RuleRef>| {
        rule.as_ref().map(|rule| format!(" by rule {} of {}", rule.rule, rule.policy)).unwrap_or_default()
    };
    match said {
        Said::Allow(rule) => format!("allow{}", by(rule)),
        Said::Refuse(Refusal { verdict, rule, halts }) => {
            let halts = if *halts { ", halts the pod" } else { "" };
            format!("{}{}{halts}", verdict.map_or("ask or deny", Verdict::as_str), by(rule))
        }
        Said::Unknown(why) => format!("unknown: {}", why.words()),
    }
}

impl Report {
    fn text(&self) -> String {
        let style = if self.verdict == Verdict::Allow { GOOD } else { BAD };
        let mut text = format!("{} {}\n", styled(style, self.verdict.as_str()), styled(STRONG, plain(&self.action)));
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String does not fail.
                let _ = writeln!(text, "  {name:<10} {}", plain(&value));
            }
        };
        line("time", Some(self.time.clone()));
        line("gate", Some(self.gate.clone()));
        line("agent", Some(self.workload.clone()));
        line("code", self.code.clone());
        line("audit mode", self.shadow.as_ref().map(|code| format!("Enforce would have refused it: {code}")));
        let policy = self.policy.as_deref().unwrap_or_default();
        line("rule", self.rule.as_ref().map(|rule| format!("{rule} of {policy}, generation {}", self.generation)));
        line("stands in", self.place.clone());
        line(
            "policy",
            self.same_policy.map(
                |same| {
                    if same { "as it was then".to_owned() } else { "changed since then".to_owned() }
                },
            ),
        );
        line("now", Some(self.now.clone()));
        text
    }
}
