//! `offboard`: takes a tenant out of a cluster, in the one order in which no agent is ever without its fence: what runs
//! agents, then the TenantGateway, whose finalizer waits for the last agent. What is left over is named and stays: the
//! namespaces, their label, credentials and policies are somebody's to decide about.
//!
//! It changes nothing without `--yes`. Whatever it knows and does, it does through the `kubectl` on the path, so that the
//! rights, the cluster and the way to log in are those of whoever types the command.

mod found;

use std::process::ExitCode;

use serde::Serialize;

use crate::args::{Format, OffboardArgs, TenantName};
use crate::kubectl::Kubectl;
use crate::output::{self, BAD, GOOD, QUIET, STRONG, styled};
use crate::problem::plain;

use found::{Found, Named, left_over};

/// What `--output json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    tenant: String,
    /// Whether the tenant is out: no agent, no TenantGateway.
    offboarded: bool,
    /// What was there, or still is when nothing was changed.
    #[serde(flatten)]
    found: Found,
    /// What stays, to be kept or deleted by hand.
    left_over: Vec<Named>,
    /// What to do next, in this order.
    next: Vec<String>,
}

/// Says what is in the way, or takes it away.
pub(crate) fn run(args: &OffboardArgs) -> Result<ExitCode, String> {
    let OffboardArgs { tenant, yes, context, output } = args;
    let kubectl = Kubectl::of(context.clone());
    let found = Found::look(&kubectl, tenant)?;
    if *yes {
        take_away(&kubectl, &found)?;
    }
    let offboarded = *yes || found.is_nothing();
    let left_over = left_over(&kubectl, &found)?;
    let next = next(&kubectl, tenant, &found, offboarded);
    let report = Report { tenant: tenant.as_str().to_owned(), offboarded, found, left_over, next };
    match output {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text(&report))?,
    }
    Ok(if offboarded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Deletes what makes agents, waits for the agents' end, then deletes the TenantGateway and waits for its finalizer.
fn take_away(kubectl: &Kubectl, found: &Found) -> Result<(), String> {
    for (place, names) in found.workloads_by_place() {
        kubectl.delete(place.namespace(), &names)?;
    }
    for namespace in &found.namespaces {
        kubectl.wait_for_no_pods(namespace)?;
        let left = found::pods(kubectl, namespace)?;
        if let Some(pod) = left.first() {
            return Err(format!(
                "namespace {namespace}: {} pod(s) are left or made again, the first is {}; delete what makes them \
                 (kubectl get pods -n {namespace} -o yaml names it), then run this again",
                left.len(),
                pod.name
            ));
        }
    }
    match &found.gateway {
        Some(gateway) => kubectl.delete(&gateway.namespace, &[gateway.reference()]),
        None => Ok(()),
    }
}

/// The commands that finish it.
fn next(kubectl: &Kubectl, tenant: &TenantName, found: &Found, offboarded: bool) -> Vec<String> {
    let context = kubectl.flags();
    if !offboarded {
        return vec![format!("clawlock offboard {}{context} --yes", tenant.as_str())];
    }
    let label = |namespace: &String| format!("kubectl{context} label namespace {namespace} clawlock.dev/tenant-");
    found.labelled.iter().map(label).collect()
}

fn text(report: &Report) -> String {
    let Report { tenant, offboarded, found, left_over, next } = report;
    let mut text = match (offboarded, found.is_nothing()) {
        (true, true) => styled(GOOD, format!("tenant {tenant} has neither agents nor a TenantGateway")),
        (true, false) => styled(GOOD, format!("tenant {tenant} is offboarded")),
        (false, _) => styled(BAD, format!("tenant {tenant} is still there; nothing was changed")),
    };
    text.push('\n');
    let deleted = if *offboarded { "deleted" } else { "to be deleted, in this order" };
    let list = |heading: &str, items: &mut dyn Iterator<Item = String>| {
        let lines: String = items.map(|item| format!("  {}\n", plain(&item))).collect();
        if lines.is_empty() { lines } else { format!("\n{}\n{lines}", styled(STRONG, heading)) }
    };
    let gateway = found.gateway.iter().map(Named::to_string);
    text += &list(deleted, &mut found.workloads.iter().map(Named::to_string).chain(gateway));
    let count = |agents: &usize| format!("{agents} pod(s) run in {}", found.namespaces.join(", "));
    text += &list("agents", &mut (!offboarded && found.pods > 0).then_some(&found.pods).map(count).into_iter());
    text += &list("stays; delete what nobody needs any more", &mut left_over.iter().map(Named::to_string));
    text += &list("next", &mut next.iter().cloned());
    if *offboarded && !next.is_empty() {
        text += &format!("{}\n", styled(QUIET, "  until then nothing new starts in these namespaces"));
    }
    text
}
