//! Which agents' namespaces are closed: where a default deny selects every pod.

use std::collections::{BTreeMap, BTreeSet};

use clawlock_crds::Onboarding;

use crate::Tenant;

/// The agents' namespaces that are closed from now on.
///
/// With onboarding Enforce all of them. With Observe those that were closed before (`remembered`: the
/// status and what is in the cluster), and those that are known to have no ungoverned pod left. A
/// namespace that `ungoverned` does not mention was not looked at, which is no reason to cut pods off.
#[must_use]
pub fn isolation(
    tenant: &Tenant,
    remembered: &BTreeSet<String>,
    ungoverned: &BTreeMap<String, u32>,
) -> BTreeSet<String> {
    let closed = |namespace: &&str| match tenant.settings().onboarding {
        Onboarding::Enforce => true,
        Onboarding::Observe => remembered.contains(*namespace) || ungoverned.get(*namespace) == Some(&0),
    };
    tenant.namespaces().filter(closed).map(str::to_owned).collect()
}
