//! The CA of one tenant: its Secret, and what is read from it.
//!
//! `current.*` issues, `next.*` is on its way, `previous.crt` is on its way out; all of their roots are
//! trusted. The times of [`super::rolling`] stand in annotations of the Secret.

use std::collections::BTreeMap;
use std::time::Duration;

use clawlock_compile::objects::names::{TENANT_LABEL, tenant_ca_secret};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{ExtendedKeyUsagePurpose, PublicKeyData, SanType};
use rustls::pki_types::CertificateDer;

use super::PkiError;
use super::rolling::{Facts, LIFETIME, Move, decide};
use super::secrets::{Secrets, new_secret, part, required, wrong};
use super::x509::{Authority, IssuedLeaf, LeafParams, read_certificate};
use crate::clock::millis;
use crate::cluster::Writer;

const CURRENT: &str = "current.crt";
const CURRENT_KEY: &str = "current.key";
const NEXT: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS: &str = "previous.crt";

const NEXT_SINCE: &str = "clawlock.dev/next-since-ms";
const PREVIOUS_UNTIL: &str = "clawlock.dev/previous-until-ms";
const ROLLED_FOR: &str = "clawlock.dev/rolled-for";
const LONGEST_TTL: &str = "clawlock.dev/longest-certificate-ms";

/// What a Secret of a tenant's CA says, for issuing and for trusting.
pub(crate) struct TenantCa {
    current: Authority,
    roots: Vec<CertificateDer<'static>>,
}

impl TenantCa {
    /// Reads it.
    ///
    /// # Errors
    /// When a part that must be there is not, or is something else.
    pub(crate) fn read(secret: &Secret) -> Result<Self, PkiError> {
        let authority = Authority::read(required(secret, CURRENT)?, required(secret, CURRENT_KEY)?);
        let current = authority.map_err(|reason| wrong(secret, CURRENT, reason))?;
        let mut roots = vec![current.certificate().clone()];
        for key in [NEXT, PREVIOUS] {
            if let Some(pem) = part(secret, key) {
                roots.push(read_certificate(pem).map_err(|reason| wrong(secret, key, reason))?);
            }
        }
        Ok(Self { current, roots })
    }

    /// The roots that are trusted, the issuing one first.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Signs a leaf.
    ///
    /// # Errors
    /// When a name or a time cannot be written.
    pub(crate) fn issue(
        &self,
        key: &impl PublicKeyData,
        names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<IssuedLeaf, PkiError> {
        self.current.issue(key, LeafParams { names, usages, now_ms, lifetime })
    }

    /// A CA that exists in memory only.
    #[cfg(test)]
    pub(crate) fn for_tests(now_ms: u64) -> Self {
        let (current, _) = Authority::generate("test", now_ms, LIFETIME).unwrap();
        let roots = vec![current.certificate().clone()];
        Self { current, roots }
    }
}

/// What keeping a CA came to.
pub(crate) struct Kept {
    /// When to look again, in milliseconds since the Unix epoch.
    pub(crate) look_again_ms: Option<u64>,
    /// What was done, for people.
    pub(crate) done: Option<&'static str>,
}

/// Makes a tenant's CA when there is none, and takes the next step of a roll when it is time. `secret` is
/// what the watch shows; it is replaced only at the version that it has.
///
/// # Errors
/// When the Secret could not be written, or holds something else. A Secret that is broken is never
/// replaced: pods trust what it held.
pub(crate) async fn keep(
    secret: Option<&Secret>,
    secrets: &Secrets,
    writer: &Writer,
    tenant: &str,
    certificate_ttl: Duration,
    asked: Option<&str>,
    now_ms: u64,
) -> Result<Kept, PkiError> {
    let Some(secret) = secret else {
        let secret = first(tenant, certificate_ttl, asked, now_ms)?;
        let made = writer.create(secrets.namespace(), &secret).await?;
        let done = Some("made the tenant's CA");
        TenantCa::read(&made)?;
        return Ok(Kept { look_again_ms: Some(now_ms), done });
    };
    let Step { secret: changed, look_again_ms, done } = step(secret, tenant, certificate_ttl, asked, now_ms)?;
    if let Some(changed) = changed {
        TenantCa::read(&writer.replace(secrets.namespace(), &changed).await?)?;
    }
    Ok(Kept { look_again_ms, done })
}

fn common_name(tenant: &str) -> String {
    // A common name has at most 64 characters, 17 of which the key's id takes.
    let short: String = tenant.chars().take(30).collect();
    format!("clawlock tenant {short}")
}

fn first(tenant: &str, ttl: Duration, asked: Option<&str>, now_ms: u64) -> Result<Secret, PkiError> {
    let (_, pems) = Authority::generate(&common_name(tenant), now_ms, LIFETIME)?;
    let key = pems.key.as_bytes().to_vec();
    let data = BTreeMap::from([(CURRENT, pems.certificate.into_bytes()), (CURRENT_KEY, key)]);
    let mut secret = new_secret(&tenant_ca_secret(tenant), "Opaque", data);
    secret.metadata.labels.get_or_insert_default().insert(TENANT_LABEL.to_owned(), tenant.to_owned());
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(LONGEST_TTL.to_owned(), millis(ttl).to_string());
    if let Some(asked) = asked {
        annotations.insert(ROLLED_FOR.to_owned(), asked.to_owned());
    }
    Ok(secret)
}

/// One step of keeping a CA.
struct Step {
    /// The Secret as it is to be written; `None`: as it is.
    secret: Option<Secret>,
    look_again_ms: Option<u64>,
    done: Option<&'static str>,
}

fn step(secret: &Secret, tenant: &str, ttl: Duration, asked: Option<&str>, now_ms: u64) -> Result<Step, PkiError> {
    let ca = TenantCa::read(secret)?;
    let facts = facts(secret, &ca, ttl, now_ms);
    let mut changed = secret.clone();
    let mut marks = changed.metadata.annotations.take().unwrap_or_default();
    let mut data = changed.data.take().unwrap_or_default();
    let step = decide(&facts, asked, now_ms);
    let done = match &step {
        Move::Wait(_) => None,
        Move::MakeNext => {
            let (_, pems) = Authority::generate(&common_name(tenant), now_ms, LIFETIME)?;
            data.insert(NEXT.to_owned(), ByteString(pems.certificate.into_bytes()));
            data.insert(NEXT_KEY.to_owned(), ByteString(pems.key.as_bytes().to_vec()));
            marks.extend(asked.map(|asked| (ROLLED_FOR.to_owned(), asked.to_owned())));
            Some("a new CA of the tenant is handed out beside the old one")
        }
        Move::IssueByNext { previous_until_ms } => {
            for (from, to) in [(CURRENT, PREVIOUS), (NEXT, CURRENT), (NEXT_KEY, CURRENT_KEY)] {
                data.remove(from).map(|value| data.insert(to.to_owned(), value));
            }
            marks.remove(NEXT_SINCE);
            marks.insert(PREVIOUS_UNTIL.to_owned(), previous_until_ms.to_string());
            marks.insert(LONGEST_TTL.to_owned(), millis(ttl).to_string());
            Some("the tenant's new CA issues")
        }
        Move::DropPrevious => {
            data.remove(PREVIOUS);
            marks.remove(PREVIOUS_UNTIL);
            Some("the tenant's old CA is no longer trusted")
        }
    };
    // Marks that are missing are written down, so that their wait ends some time.
    if data.contains_key(NEXT) {
        marks.entry(NEXT_SINCE.to_owned()).or_insert_with(|| now_ms.to_string());
    }
    if let (true, Some(until_ms)) = (data.contains_key(PREVIOUS), facts.previous_until_ms) {
        marks.entry(PREVIOUS_UNTIL.to_owned()).or_insert_with(|| until_ms.to_string());
    }
    let longest = marks.entry(LONGEST_TTL.to_owned()).or_default();
    if longest.parse::<u64>().unwrap_or_default() < millis(ttl) {
        *longest = millis(ttl).to_string();
    }
    changed.metadata.annotations = Some(marks);
    changed.data = Some(data);
    let same = changed.data == secret.data && changed.metadata.annotations == secret.metadata.annotations;
    let look_again_ms = if let Move::Wait(until_ms) = step { until_ms } else { Some(now_ms) };
    Ok(Step { secret: (!same).then_some(changed), look_again_ms, done })
}

/// What a Secret says of its roll. A mark that was lost must not drop a root early: without one, its whole
/// wait starts now.
fn facts(secret: &Secret, ca: &TenantCa, ttl: Duration, now_ms: u64) -> Facts {
    let annotations = secret.metadata.annotations.as_ref();
    let mark = |key: &str| annotations.and_then(|all| all.get(key));
    let number = |key: &str| mark(key).and_then(|text| text.parse::<u64>().ok());
    let longest_ms = number(LONGEST_TTL).unwrap_or_default().max(millis(ttl));
    let last_leaf_end_ms = now_ms.saturating_add(longest_ms);
    Facts {
        current_since_ms: ca.current.not_before_ms(),
        next_since_ms: part(secret, NEXT).map(|_| number(NEXT_SINCE).unwrap_or(now_ms)),
        previous_until_ms: part(secret, PREVIOUS).map(|_| number(PREVIOUS_UNTIL).unwrap_or(last_leaf_end_ms)),
        rolled_for: mark(ROLLED_FOR).cloned(),
        last_leaf_end_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rolling::DISTRIBUTE;
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const TTL: Duration = Duration::from_secs(3600);

    fn go(secret: &Secret, asked: Option<&str>, now_ms: u64) -> (Secret, Step) {
        let step = step(secret, "acme", TTL, asked, now_ms).unwrap();
        (step.secret.clone().unwrap_or_else(|| secret.clone()), step)
    }

    #[test]
    fn a_roll_never_leaves_a_living_leaf_without_its_root() {
        let stable = first("acme", TTL, None, NOW).unwrap();
        let old = TenantCa::read(&stable).unwrap();
        let (same, step) = go(&stable, None, NOW + 1000);
        assert!(step.secret.is_none() && step.done.is_none());

        let (distributing, step) = go(&same, Some("roll-1"), NOW + 1000);
        assert!(step.done.is_some());
        let ca = TenantCa::read(&distributing).unwrap();
        assert_eq!(ca.roots().len(), 2);
        assert_eq!(ca.current.certificate(), old.current.certificate());
        let (waiting, step) = go(&distributing, Some("roll-1"), NOW + 2000);
        assert!(step.secret.is_none());

        let switched_at = NOW + 1000 + millis(DISTRIBUTE);
        let (draining, _) = go(&waiting, Some("roll-1"), switched_at);
        let ca = TenantCa::read(&draining).unwrap();
        assert_eq!(ca.roots().len(), 2);
        assert_ne!(ca.current.certificate(), old.current.certificate());
        assert!(ca.roots().contains(old.current.certificate()));

        // The last leaf of the old CA was issued just before the switch.
        let (still, _) = go(&draining, Some("roll-1"), switched_at + millis(TTL));
        assert_eq!(TenantCa::read(&still).unwrap().roots().len(), 2);
        let (stable, step) = go(&still, Some("roll-1"), switched_at + 2 * millis(TTL));
        assert!(step.done.is_some());
        assert_eq!(TenantCa::read(&stable).unwrap().roots().len(), 1);
    }

    #[test]
    fn a_longer_certificate_time_of_before_still_counts() {
        let long = Duration::from_secs(86_400);
        let secret = first("acme", long, None, NOW).unwrap();
        let (secret, _) = go(&secret, Some("1"), NOW);
        let switched_at = NOW + millis(DISTRIBUTE);
        let (secret, _) = go(&secret, Some("1"), switched_at);
        let (secret, _) = go(&secret, Some("1"), switched_at + 2 * millis(TTL));
        assert_eq!(TenantCa::read(&secret).unwrap().roots().len(), 2);
    }

    #[test]
    fn lost_marks_start_their_wait_again() {
        let secret = first("acme", TTL, None, NOW).unwrap();
        let (mut secret, _) = go(&secret, Some("1"), NOW);
        secret.metadata.annotations = None;
        let later = NOW + 10 * millis(DISTRIBUTE);
        let (marked, step) = go(&secret, None, later);
        assert!(step.done.is_none() && step.secret.is_some());
        let (_, step) = go(&marked, None, later + millis(DISTRIBUTE));
        assert_eq!(step.done, Some("the tenant's new CA issues"));
    }

    #[test]
    fn a_broken_secret_is_an_error_and_not_a_new_ca() {
        let mut secret = first("acme", TTL, None, NOW).unwrap();
        secret.data.as_mut().unwrap().remove(CURRENT_KEY);
        assert!(step(&secret, "acme", TTL, None, NOW).is_err());
    }
}
