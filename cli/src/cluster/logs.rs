//! `logs`: the decisions of a tenant's gateway and sidecars, decoded for a terminal or as they stand in the logs. What the
//! programs say beside their records is left out; `kubectl logs` has it.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::process::{Child, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use super::{gateway, namespaces, text};
use crate::args::{ClusterArgs, Format, LogsArgs, TenantName};
use crate::kubectl::Kubectl;
use crate::log::{Line, Log, Logged, Verdict};
use crate::output::{self, BAD, GOOD, NOTICE, QUIET, styled};
use crate::problem::plain;
use crate::replay::Agent;

/// Most pods that are read at once: each is a process and a thread.
const MAX_PODS: usize = 200;
/// How often, while following, new pods are looked for.
const LOOK: Duration = Duration::from_secs(10);
/// Most lines that wait for the terminal; a reader that is slower holds up `kubectl`, which waits.
const QUEUE: usize = 1024;

/// A pod whose log is read, and the container in it that keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pod {
    namespace: String,
    name: String,
    uid: String,
    container: &'static str,
}

/// Prints.
pub(crate) fn run(args: &LogsArgs) -> Result<ExitCode, String> {
    let LogsArgs { tenant, follow, since, cluster: ClusterArgs { context, output } } = args;
    let kubectl = Kubectl::of(context.clone());
    let found = pods(&kubectl, tenant)?;
    if found.is_empty() && !follow {
        return Err(format!("tenant {} has no pod whose log could be read", tenant.as_str()));
    }
    let mut reading = Reading { kubectl, follow: *follow, since: since.clone(), children: BTreeMap::new() };
    let (sender, lines) = mpsc::sync_channel(QUEUE);
    let mut sender = Some(sender);
    if let Some(sender) = &sender {
        reading.start_all(found, sender)?;
    }
    if !follow {
        // The end has come when every thread that reads has let go.
        sender = None;
    }
    let mut looked = Instant::now();
    loop {
        let printed = match lines.recv_timeout(LOOK) {
            Ok(record) => output::print_line(&line(&record, *output))?,
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
        };
        if !printed {
            return Ok(ExitCode::SUCCESS);
        }
        if let (Some(sender), true) = (&sender, looked.elapsed() >= LOOK) {
            reading.start_all(pods(&reading.kubectl, tenant)?, sender)?;
            looked = Instant::now();
        }
    }
}

/// A record, and the line that it was.
type Found = (Box<Logged>, String);

/// What is read.
struct Reading {
    kubectl: Kubectl,
    follow: bool,
    since: Option<String>,
    children: BTreeMap<Pod, Child>,
}

impl Reading {
    /// Starts to read those that are not read yet.
    fn start_all(&mut self, pods: Vec<Pod>, sender: &SyncSender<Found>) -> Result<(), String> {
        // Those that have ended make room.
        self.children.retain(|_, child| matches!(child.try_wait(), Ok(None)));
        for pod in pods {
            if self.children.contains_key(&pod) {
                continue;
            }
            if self.children.len() == MAX_PODS {
                return Err(format!(
                    "more than {MAX_PODS} pods; read some of them with kubectl logs and clawlock explain"
                ));
            }
            let child = self.start(&pod, sender.clone())?;
            self.children.insert(pod, child);
        }
        Ok(())
    }

    fn start(&self, pod: &Pod, sender: SyncSender<Found>) -> Result<Child, String> {
        let Pod { namespace, name, uid: _, container } = pod;
        let mut args = vec!["logs", "--namespace", namespace, name, "--container", container];
        let since = self.since.as_ref().map(|since| format!("--since={since}"));
        args.extend(since.as_deref());
        if self.follow {
            args.push("--follow");
        }
        let mut child = self.kubectl.start(&args)?;
        let stdout = child.stdout.take().ok_or("kubectl has no output")?;
        let mut log = Log::new(BufReader::new(stdout), name);
        let reader = move || {
            while let Ok(Some(line)) = log.next() {
                if let Line::Record(record) = line
                    && sender.send((record, log.text())).is_err()
                {
                    return;
                }
            }
        };
        thread::Builder::new().name("read-log".to_owned()).spawn(reader).map_err(|error| error.to_string())?;
        Ok(child)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            // One that has ended by itself is no mistake.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The pods of a tenant that decide.
fn pods(kubectl: &Kubectl, tenant: &TenantName) -> Result<Vec<Pod>, String> {
    let namespaces = namespaces(&gateway(kubectl, tenant)?);
    let mut pods = Vec::new();
    for (index, namespace) in namespaces.iter().enumerate() {
        let (role, container) = if index == 0 { ("gateway", "gateway") } else { ("agent", "clawlock") };
        let selector = format!("clawlock.dev/role={role},clawlock.dev/tenant={}", tenant.as_str());
        let found = kubectl.list(&["pods", "--namespace", namespace, "--selector", &selector])?;
        let running = found.iter().filter(|pod| text(pod, "/status/phase") == "Running");
        pods.extend(running.map(|pod| Pod {
            namespace: namespace.clone(),
            name: text(pod, "/metadata/name").to_owned(),
            uid: text(pod, "/metadata/uid").to_owned(),
            container,
        }));
    }
    Ok(pods)
}

fn line((record, raw): &Found, format: Format) -> String {
    if format == Format::Json {
        return format!("{raw}\n");
    }
    let time = i64::try_from(record.time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let time = time.map(|time| time.to_string()).unwrap_or_default();
    let outcome = &record.outcome;
    let style = match outcome.verdict {
        Verdict::Allow => GOOD,
        Verdict::Ask => NOTICE,
        Verdict::Deny => BAD,
    };
    let agent = Agent::of(record).map_or_else(|| "unknown agent".to_owned(), |agent| agent.name());
    let mut about = format!("{agent}: {}", record.action.words());
    about += &outcome.code.as_ref().map(|code| format!(", {code}")).unwrap_or_default();
    about += &outcome.shadow.as_ref().map(|code| format!(", Enforce would refuse it: {code}")).unwrap_or_default();
    if let (Some(policy), Some(rule)) = (&outcome.policy, &outcome.rule) {
        about += &format!(", rule {rule} of {policy}");
    }
    let verdict = styled(style, format!("{:<5}", outcome.verdict.as_str()));
    let id = styled(QUIET, plain(&record.request_id));
    format!("{} {verdict} {} {id}\n", styled(QUIET, time), plain(&about))
}
