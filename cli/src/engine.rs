//! A folder of policy that can be asked: what `explain`, `test` and their like have in common. They ask the same
//! engine, with the same documents, as the gates.

use std::collections::BTreeSet;
use std::path::Path;

use clawlock_compile::{Assigned, Compilation, Pod, Tenant, Ticket};
use clawlock_crds::AgentSelector;
use clawlock_policy::Policy;
use clawlock_proxy::clock::{Clock as _, SystemClock};

use crate::args::{AgentArgs, Time};
use crate::folder::{self, Folder, Resource};
use crate::{agent, lint};

/// A folder without an error.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What it came to.
    pub(crate) compilation: Compilation,
    /// Namespaces in which an object selects agents by their labels.
    by_labels: BTreeSet<String>,
}

impl Rules {
    /// Reads a folder.
    ///
    /// # Errors
    /// When there is an error in it: an answer from half of the files would be a wrong one.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        Self::of(&folder::read(&[root.to_owned()]), root)
    }

    /// Takes what was read.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn of(files: &Folder, root: &Path) -> Result<Self, String> {
        let (problems, compilation) = lint::judge(files, root);
        let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
        match errors.first() {
            None => Ok(Self { by_labels: by_labels(files, &compilation), compilation }),
            Some(first) => {
                Err(format!("the policy has {} error(s), the first is {first}; clawlock lint lists all", errors.len()))
            }
        }
    }

    /// Whether what holds for an agent of a namespace depends on its labels.
    pub(crate) fn selects_by_labels(&self, namespace: &str) -> bool {
        self.by_labels.contains(namespace)
    }

    /// What holds for an agent.
    ///
    /// # Errors
    /// When it is no agent of a tenant.
    pub(crate) fn policy_of(&self, agent: &AgentArgs, now_ms: u64) -> Result<Policy, String> {
        let Assigned { assignment, documents } = self.assigned(&agent::pod(agent, &self.compilation)?, now_ms)?;
        Policy::build(assignment, documents).map_err(|error| error.to_string())
    }

    /// The documents that hold for a pod.
    ///
    /// # Errors
    /// When it is no agent of a tenant.
    pub(crate) fn assigned(&self, pod: &Pod, now_ms: u64) -> Result<Assigned, String> {
        // The question is what the rules say, not whether a ticket is still valid.
        let ticket = Ticket { generation: 1, issued_at_ms: now_ms, not_after_ms: u64::MAX };
        self.compilation.assign(pod, ticket).map_err(|error| error.to_string())
    }
}

fn by_labels(files: &Folder, compilation: &Compilation) -> BTreeSet<String> {
    let selectors = files.objects().filter_map(|object| match &object.resource {
        Resource::Policy(policy) => Some((&object.id.namespace, &policy.spec.agent_selector)),
        Resource::Halt(halt) => Some((&object.id.namespace, &halt.spec.agent_selector)),
        Resource::Gateway(_) | Resource::Upstream(_) | Resource::ConfigMap(_) => None,
    });
    let mut namespaces = BTreeSet::new();
    for (namespace, _) in selectors.filter(|(_, selector)| **selector != AgentSelector::default()) {
        namespaces.insert(namespace.clone());
        // A halt of the platform's namespace selects in all of the tenant's.
        let owners = compilation.tenants().filter(|tenant| tenant.platform_namespace() == namespace);
        namespaces.extend(owners.flat_map(Tenant::namespaces).map(str::to_owned));
    }
    namespaces
}

/// The time that was named, or the present.
pub(crate) fn now_or(time: Option<Time>) -> u64 {
    time.map_or_else(|| SystemClock.read().wall_ms, |Time(ms)| ms)
}
