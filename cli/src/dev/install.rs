//! From a compilation to both gates: signs documents and assignment and installs them as any other source
//! of policy does. The signing key is made here and never leaves memory.

use std::sync::Arc;
use std::time::Duration;

use clawlock_compile::{Assigned, Compilation, Pod, Ticket};
use clawlock_policy::document::{Assignment, Document};
use clawlock_policy::envelope::{self, Envelope, SigningKey, TrustedKeys};
use clawlock_policy::{Policy, SpiffeId, codec};
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::policies::PolicyTable;

/// How long an assignment is valid: the operator's figure.
const VALIDITY: Duration = Duration::from_secs(12 * 60 * 60);

/// How often it is renewed.
pub(super) const RENEWAL: Duration = Duration::from_secs(5 * 60);

/// Signs and installs.
pub(super) struct Installer {
    key: SigningKey,
    agent: Arc<PolicyTable>,
    gateway: Arc<PolicyTable>,
    pod: Pod,
    identity: SpiffeId,
    tenant: String,
    generation: u64,
    in_force: Option<Assigned>,
}

/// What became of a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Installed {
    /// It is in force as a new generation.
    Generation(u64),
    /// It says the same as what was in force.
    Unchanged,
}

impl Installer {
    /// An installer for one pod, and the two empty tables that it fills.
    ///
    /// # Errors
    /// When no key can be made, or the pod has no valid tenant.
    pub(super) fn new(pod: Pod, compilation: &Compilation) -> Result<Self, String> {
        let key = SigningKey::generate().map_err(|error| error.to_string())?;
        let table = || Arc::new(PolicyTable::new(TrustedKeys::new([key.public().clone()]), Arc::new(SystemClock)));
        let (agent, gateway) = (table(), table());
        // Only who it is for is read from this one; it is never signed.
        let assignment =
            compilation.assign(&pod, ticket(1, agent.now_ms())).map_err(|error| error.to_string())?.assignment;
        let identity = SpiffeId::parse(&assignment.identity).map_err(|error| error.to_string())?;
        let tenant = assignment.tenant;
        Ok(Self { key, agent, gateway, pod, identity, tenant, generation: 0, in_force: None })
    }

    /// The agent gate's table.
    pub(super) fn agent(&self) -> &Arc<PolicyTable> {
        &self.agent
    }

    /// The gateway's table.
    pub(super) fn gateway(&self) -> &Arc<PolicyTable> {
        &self.gateway
    }

    /// The pod's identity.
    pub(super) fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The tenant's name.
    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The generation in force; 0 before the first.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Puts a compilation in force at both gates, at once or not at all.
    ///
    /// # Errors
    /// When the pod has no assignment any more or would get another identity, or the documents make no
    /// policy. Then what was in force stays.
    pub(super) fn install(&mut self, compilation: &Compilation) -> Result<Installed, String> {
        let generation = self.generation + 1;
        let assigned = compilation.assign(&self.pod, self.ticket(generation)).map_err(|error| error.to_string())?;
        if assigned.assignment.identity != self.identity.as_str() || assigned.assignment.tenant != self.tenant {
            return Err(format!(
                "the agent would become {} of tenant {}, but the certificates of this run say {}; restart clawlock dev",
                assigned.assignment.identity, assigned.assignment.tenant, self.identity
            ));
        }
        if self.in_force.as_ref().is_some_and(|before| says_the_same(&before.assignment, &assigned.assignment)) {
            return Ok(Installed::Unchanged);
        }
        self.put_in_force(assigned)?;
        self.generation = generation;
        Ok(Installed::Generation(generation))
    }

    /// Signs what is in force again, so that its validity goes on.
    ///
    /// # Errors
    /// When nothing is in force, or a gate refuses it.
    pub(super) fn renew(&mut self) -> Result<(), String> {
        let mut assigned = self.in_force.clone().ok_or("nothing is in force yet")?;
        let Ticket { generation, issued_at_ms, not_after_ms } = self.ticket(self.generation);
        assigned.assignment.generation = generation;
        assigned.assignment.issued_at_ms = issued_at_ms;
        assigned.assignment.not_after_ms = not_after_ms;
        self.put_in_force(assigned)
    }

    fn ticket(&self, generation: u64) -> Ticket {
        // The tables' time never goes back, so neither does the time of issue.
        ticket(generation, self.gateway.now_ms().max(self.agent.now_ms()))
    }

    fn put_in_force(&mut self, assigned: Assigned) -> Result<(), String> {
        let Assigned { assignment, documents } = &assigned;
        // Whatever a gate would refuse shows here, before the first of the two has changed.
        Policy::build(assignment.clone(), documents.clone()).map_err(|error| error.to_string())?;
        let signed: Vec<Vec<u8>> = documents.iter().map(|document| self.sign_document(document)).collect();
        let ticket = Envelope::sign(envelope::ASSIGNMENT, &codec::encode_assignment(assignment), &self.key).encode();
        for table in [&self.gateway, &self.agent] {
            table.install(&ticket, &signed).map_err(|error| error.to_string())?;
        }
        self.in_force = Some(assigned);
        Ok(())
    }

    fn sign_document(&self, document: &Document) -> Vec<u8> {
        Envelope::sign(envelope::DOCUMENT, &codec::encode(document), &self.key).encode()
    }
}

fn ticket(generation: u64, issued_at_ms: u64) -> Ticket {
    let validity = u64::try_from(VALIDITY.as_millis()).unwrap_or(u64::MAX);
    Ticket { generation, issued_at_ms, not_after_ms: issued_at_ms.saturating_add(validity) }
}

/// Whether two assignments say the same of the same pod.
fn says_the_same(one: &Assignment, other: &Assignment) -> bool {
    let Assignment { tenant, identity, pod, plugin_optional, digests, generation: _, issued_at_ms: _, not_after_ms: _ } =
        one;
    *tenant == other.tenant
        && *identity == other.identity
        && *pod == other.pod
        && *plugin_optional == other.plugin_optional
        && *digests == other.digests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::AgentArgs;
    use crate::{agent, folder, init};

    fn compiled(text: &str) -> Compilation {
        let content = folder::parse("a.yaml".into(), text);
        assert_eq!(content.problems, []);
        clawlock_compile::compile(&folder::resources(&content.objects))
    }

    fn installer(compilation: &Compilation) -> Installer {
        Installer::new(agent::pod(&AgentArgs::default(), compilation).unwrap(), compilation).unwrap()
    }

    #[test]
    fn generations_grow_with_changes_only() {
        let first = compiled(init::STARTER);
        let mut installer = installer(&first);
        assert!(installer.agent().active(installer.identity()).is_err(), "nothing is in force yet");
        assert_eq!(installer.install(&first), Ok(Installed::Generation(1)));
        assert_eq!(installer.install(&first), Ok(Installed::Unchanged));
        let second = compiled(&init::STARTER.replace("tier: Auto", "tier: Block"));
        assert_eq!(installer.install(&second), Ok(Installed::Generation(2)));
        for table in [installer.agent(), installer.gateway()] {
            assert_eq!(table.active(installer.identity()).unwrap().0.generation(), 2);
        }
        let before = installer.agent().active(installer.identity()).unwrap().0.not_after_ms();
        installer.renew().unwrap();
        let after = installer.agent().active(installer.identity()).unwrap().0;
        assert!(after.not_after_ms() >= before && after.generation() == 2);
    }

    #[test]
    fn another_identity_needs_a_restart_and_changes_nothing() {
        let first = compiled(init::STARTER);
        let mut installer = installer(&first);
        installer.install(&first).unwrap();
        let moved = compiled(&init::STARTER.replace("acme.example", "other.example"));
        assert!(installer.install(&moved).unwrap_err().contains("restart"));
        assert_eq!(installer.agent().active(installer.identity()).unwrap().0.generation(), 1);
    }
}
