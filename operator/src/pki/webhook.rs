//! The certificate of the admission webhooks, and what API servers trust for them.
//!
//! Each certificate has a CA of its own, whose key is dropped as soon as it has signed: nothing can be
//! signed under it later. While one takes the place of another, API servers trust both:
//!
//! ```text
//! Stable ──asked, or old──► Announced: both CAs are trusted, the old certificate is served
//!   ▲                            │ after ANNOUNCE
//!   └──after LINGER───────── Switched: both CAs are trusted, the new certificate is served
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clawlock_compile::objects::names::{WEBHOOK, WEBHOOK_SECRET};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use serde_json::json;
use zeroize::Zeroizing;

use super::PkiError;
use super::secrets::{Secrets, new_secret, part, required, wrong};
use super::x509::{Authority, LeafParams, end_ms, read_certificates, start_ms};
use crate::clock::millis;
use crate::cluster::Writer;

/// How long a certificate holds.
const LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// How long both CAs are trusted before the new certificate is served: API servers watch the configuration.
const ANNOUNCE: Duration = Duration::from_secs(30);
/// How long both stay trusted afterwards: the kubelet, or a watch, must bring the new one to every webhook.
const LINGER: Duration = Duration::from_secs(600);

/// Annotation of the Secret: each new value asks for a new certificate.
const ROLL: &str = "clawlock.dev/roll";
const ROLLED_FOR: &str = "clawlock.dev/rolled-for";
const NEXT_SINCE: &str = "clawlock.dev/next-since-ms";
const OLD_UNTIL: &str = "clawlock.dev/old-until-ms";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Everything that API servers trust.
const BUNDLE: &str = "ca.crt";
const ISSUER: &str = "issuer.crt";
const NEXT: &str = "next.tls.crt";
const NEXT_KEY: &str = "next.tls.key";
const NEXT_ISSUER: &str = "next.issuer.crt";

/// A certificate with its key and its CA, in PEM.
struct Made {
    certificate: String,
    key: Zeroizing<String>,
    issuer: String,
}

fn make(namespace: &str, now_ms: u64) -> Result<Made, PkiError> {
    let (authority, pems) = Authority::generate("clawlock webhook", now_ms, LIFETIME)?;
    let key = KeyPair::generate()?;
    let mut names = Vec::new();
    for name in [format!("{WEBHOOK}.{namespace}.svc"), format!("{WEBHOOK}.{namespace}.svc.cluster.local")] {
        names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    let leaf = LeafParams { names, usages: vec![ExtendedKeyUsagePurpose::ServerAuth], now_ms, lifetime: LIFETIME };
    let certificate = pem(&authority.issue(&key, leaf)?.certificate);
    Ok(Made { certificate, key: Zeroizing::new(key.serialize_pem()), issuer: pems.certificate })
}

fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn first(namespace: &str, asked: Option<&str>, now_ms: u64) -> Result<Secret, PkiError> {
    let Made { certificate, key, issuer } = make(namespace, now_ms)?;
    let data = BTreeMap::from([
        (CERTIFICATE, certificate.into_bytes()),
        (KEY, key.as_bytes().to_vec()),
        (BUNDLE, issuer.clone().into_bytes()),
        (ISSUER, issuer.into_bytes()),
    ]);
    let mut secret = new_secret(WEBHOOK_SECRET, "kubernetes.io/tls", data);
    let marks = secret.metadata.annotations.get_or_insert_default();
    // A webhook may still serve what a Secret that was deleted held.
    marks.insert(OLD_UNTIL.to_owned(), (now_ms + millis(LINGER)).to_string());
    if let Some(asked) = asked {
        marks.insert(ROLLED_FOR.to_owned(), asked.to_owned());
    }
    Ok(secret)
}

/// The next step; `None`: nothing is to be written.
fn step(secret: &Secret, namespace: &str, now_ms: u64) -> Result<Option<Secret>, PkiError> {
    let served = read_certificates(required(secret, CERTIFICATE)?);
    let served = served.map_err(|reason| wrong(secret, CERTIFICATE, reason))?;
    let served = served.first().ok_or_else(|| wrong(secret, CERTIFICATE, "there is no certificate"))?;
    let mut changed = secret.clone();
    let mut marks = changed.metadata.annotations.take().unwrap_or_default();
    let mut data = changed.data.take().unwrap_or_default();
    let number = |marks: &BTreeMap<String, String>, key: &str| marks.get(key).and_then(|text| text.parse::<u64>().ok());
    let issuer = part(secret, ISSUER).or_else(|| part(secret, BUNDLE)).unwrap_or_default().to_vec();
    let old_at = start_ms(served) + (end_ms(served).saturating_sub(start_ms(served))) / 3 * 2;
    let asked = marks.get(ROLL).filter(|asked| marks.get(ROLLED_FOR) != Some(asked)).cloned();
    let names_differ = !names_fit(served, namespace);
    if data.contains_key(NEXT) {
        let since = number(&marks, NEXT_SINCE).unwrap_or(now_ms);
        marks.entry(NEXT_SINCE.to_owned()).or_insert_with(|| now_ms.to_string());
        if now_ms >= since.saturating_add(millis(ANNOUNCE)) {
            for (from, to) in [(NEXT, CERTIFICATE), (NEXT_KEY, KEY), (NEXT_ISSUER, ISSUER)] {
                if let Some(value) = data.remove(from) {
                    data.insert(to.to_owned(), value);
                }
            }
            marks.remove(NEXT_SINCE);
            marks.insert(OLD_UNTIL.to_owned(), (now_ms + millis(LINGER)).to_string());
        }
    } else if let Some(until) = number(&marks, OLD_UNTIL) {
        if now_ms >= until {
            marks.remove(OLD_UNTIL);
            data.insert(BUNDLE.to_owned(), ByteString(issuer));
        }
    } else if asked.is_some() || now_ms >= old_at || names_differ {
        let Made { certificate, key, issuer: next } = make(namespace, now_ms)?;
        let bundle = [issuer.as_slice(), next.as_bytes()].concat();
        data.insert(NEXT.to_owned(), ByteString(certificate.into_bytes()));
        data.insert(NEXT_KEY.to_owned(), ByteString(key.as_bytes().to_vec()));
        data.insert(NEXT_ISSUER.to_owned(), ByteString(next.into_bytes()));
        data.insert(BUNDLE.to_owned(), ByteString(bundle));
        marks.insert(NEXT_SINCE.to_owned(), now_ms.to_string());
        marks.extend(asked.map(|asked| (ROLLED_FOR.to_owned(), asked)));
    }
    changed.metadata.annotations = Some(marks);
    changed.data = Some(data);
    let same = changed.data == secret.data
        && changed.metadata.annotations.as_ref().filter(|marks| !marks.is_empty())
            == secret.metadata.annotations.as_ref().filter(|marks| !marks.is_empty());
    Ok((!same).then_some(changed))
}

/// Whether a certificate is for the webhooks of this namespace.
fn names_fit(certificate: &[u8], namespace: &str) -> bool {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let wanted = format!("{WEBHOOK}.{namespace}.svc");
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let names = parsed.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(dns) if *dns == wanted))
    })
}

/// Keeps the Secret, and the `caBundle` of every webhook of the release.
///
/// # Errors
/// When something could not be read or written.
pub(crate) async fn keep(secrets: &Secrets, writer: &Writer, configuration: &str, now_ms: u64) -> Result<(), PkiError> {
    let namespace = secrets.namespace();
    let secret = match secrets.find(WEBHOOK_SECRET).await? {
        None => writer.create(namespace, &first(namespace, None, now_ms)?).await?,
        Some(secret) => match step(&secret, namespace, now_ms)? {
            Some(changed) => {
                tracing::info!("the webhooks' certificate takes a step of its rotation");
                writer.replace(namespace, &changed).await?
            }
            None => secret,
        },
    };
    let bundle = required(&secret, BUNDLE)?.to_vec();
    let lingers = secret.metadata.annotations.as_ref().is_some_and(|marks| marks.contains_key(OLD_UNTIL));
    for resource in [
        ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
    ] {
        trust(writer, &resource, configuration, &bundle, lingers, now_ms).await?;
    }
    Ok(())
}

/// Writes the `caBundle` of every webhook of a configuration. One that is not there is left alone: the
/// chart makes it.
async fn trust(
    writer: &Writer,
    resource: &ApiResource,
    name: &str,
    bundle: &[u8],
    lingers: bool,
    now_ms: u64,
) -> Result<(), PkiError> {
    let api: Api<DynamicObject> = Api::all_with(writer.client().clone(), resource);
    let found = api.get_opt(name).await;
    let found = found.map_err(|source| PkiError::Read { name: name.to_owned(), source: Box::new(source) })?;
    let Some(found) = found else { return Ok(()) };
    let webhooks = found.data["webhooks"].as_array().cloned().unwrap_or_default();
    let mut wanted = Vec::new();
    let mut differs = false;
    for webhook in &webhooks {
        let old = webhook["clientConfig"]["caBundle"].as_str().and_then(|text| BASE64.decode(text).ok());
        let old = old.unwrap_or_default();
        let bundle = if lingers { union(bundle, &old, now_ms) } else { bundle.to_vec() };
        differs |= old != bundle;
        wanted.push(json!({"name": webhook["name"], "clientConfig": {"caBundle": BASE64.encode(bundle)}}));
    }
    if !differs {
        return Ok(());
    }
    let value = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        "webhooks": wanted,
    });
    writer.apply_cluster(resource, name, &value).await?;
    Ok(())
}

/// A bundle, and the certificates of the one before that have not ended.
fn union(bundle: &[u8], old: &[u8], now_ms: u64) -> Vec<u8> {
    let new: BTreeSet<Vec<u8>> =
        read_certificates(bundle).unwrap_or_default().iter().map(|certificate| certificate.to_vec()).collect();
    let mut all = bundle.to_vec();
    let mut added = BTreeSet::new();
    for certificate in read_certificates(old).unwrap_or_default() {
        let der = certificate.to_vec();
        if !new.contains(&der) && end_ms(&certificate) > now_ms && added.insert(der) {
            all.extend(pem(&certificate).into_bytes());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn bundle(secret: &Secret) -> usize {
        read_certificates(part(secret, BUNDLE).unwrap()).unwrap().len()
    }

    fn go(secret: Secret, now_ms: u64) -> Secret {
        step(&secret, "ns", now_ms).unwrap().unwrap_or(secret)
    }

    #[test]
    fn a_rotation_trusts_both_before_and_after_the_switch() {
        let begun = first("ns", None, NOW).unwrap();
        let settled = go(begun, NOW + millis(LINGER));
        assert_eq!(bundle(&settled), 1);
        assert!(step(&settled, "ns", NOW + millis(LINGER) + 1).unwrap().is_none());

        let mut asked = settled.clone();
        asked.metadata.annotations.get_or_insert_default().insert(ROLL.to_owned(), "1".to_owned());
        let at = NOW + millis(LINGER) * 2;
        let announced = go(asked, at);
        assert_eq!(bundle(&announced), 2);
        assert_eq!(part(&announced, CERTIFICATE), part(&settled, CERTIFICATE));
        assert!(step(&announced, "ns", at + 1).unwrap().is_none());

        let switched = go(announced, at + millis(ANNOUNCE));
        assert_eq!(bundle(&switched), 2);
        assert_ne!(part(&switched, CERTIFICATE), part(&settled, CERTIFICATE));
        assert_ne!(part(&switched, KEY), part(&settled, KEY));

        let done = go(switched.clone(), at + millis(ANNOUNCE) + millis(LINGER));
        assert_eq!(bundle(&done), 1);
        assert_eq!(part(&done, BUNDLE), part(&switched, ISSUER));
        // The same wish is granted once.
        assert!(step(&done, "ns", at + millis(LINGER) * 3).unwrap().is_none());
    }

    #[test]
    fn an_old_certificate_is_renewed_by_itself() {
        let secret = go(first("ns", None, NOW).unwrap(), NOW + millis(LINGER));
        let late = NOW + millis(LIFETIME) / 4 * 3;
        assert_eq!(bundle(&go(secret, late)), 2);
    }

    #[test]
    fn another_namespace_needs_another_certificate() {
        let secret = go(first("ns", None, NOW).unwrap(), NOW + millis(LINGER));
        assert!(step(&secret, "other", NOW + millis(LINGER) + 1).unwrap().is_some());
    }

    #[test]
    fn what_was_trusted_before_a_secret_was_deleted_stays_for_a_while() {
        let (one, two) = (first("ns", None, NOW).unwrap(), first("ns", None, NOW).unwrap());
        let (one, two) = (part(&one, BUNDLE).unwrap(), part(&two, BUNDLE).unwrap());
        assert_eq!(read_certificates(&union(two, one, NOW)).unwrap().len(), 2);
        assert_eq!(union(two, two, NOW), two);
        let later = NOW + 2 * millis(LIFETIME);
        assert_eq!(union(two, one, later), two, "what has ended is not kept");
    }
}
