//! What is in force, as it is stored in the release namespace: signed, so that whoever can write a
//! ConfigMap there cannot write policy, and whole, so that it survives a restart of everything.
//!
//! Objects are immutable ConfigMaps named by their digest. The state of a tenant lists the digests of its
//! objects with a generation; beside it stands what the leader must remember of the tenant. A list is read
//! as a whole or not at all: a Block that is missing would widen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clawlock_compile::objects::names::{MANAGED_BY, MANAGED_BY_LABEL, TENANT_LABEL, object, tenant_state};
use clawlock_compile::state::{Accepted, MAX_OBJECT, OBJECT_TYPE, STATE_TYPE, TenantState};
use clawlock_policy::codec::digest;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pki::signing::Signer;

/// Payload type of [`Memory`].
const MEMORY_TYPE: &str = "application/vnd.clawlock.memory.v1+json";

/// What a stored ConfigMap holds.
pub(crate) const STORED_LABEL: &str = "clawlock.dev/stored";
/// One object.
const OBJECT: &str = "object";
/// A tenant's state.
const STATE: &str = "state";

/// The key of an object's, or a state's, envelope.
const ENVELOPE: &str = "envelope";
/// The key of the memory's envelope.
const MEMORY: &str = "memory";

/// What the leader must remember of a tenant, beside its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Memory {
    /// The tenant.
    pub(crate) tenant: String,
    /// The address of its gateway's Service: sidecars carry it, so a Service that is made again gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_ip: Option<IpAddr>,
    /// Pods whose labels changed, by UID, and the digest of the labels that the generation holds for: a
    /// generation names one content of an assignment, and two replicas may see a change at two times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) relabelled: BTreeMap<String, String>,
    /// The pods and labels that the leader has seen, so that the next leader knows what changed in between.
    #[serde(default, skip_serializing_if = "Seen::is_empty")]
    pub(crate) seen: Seen,
}

/// Pods with their labels, as short hashes: ten thousand of them must fit beside a tenant's list. A hash that
/// another pod has by chance costs nothing but a change of labels during an election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(BTreeSet<[u8; HASH]>);

/// Bytes of a hash of [`Seen`].
const HASH: usize = 8;

impl Seen {
    /// Those of pods: the digest of the labels of each, by UID.
    pub(crate) fn of(pods: &BTreeMap<String, String>) -> Self {
        Self(pods.iter().map(|(uid, labels)| Self::hash(uid, labels)).collect())
    }

    /// Whether a pod was seen with these labels.
    pub(crate) fn has(&self, uid: &str, labels: &str) -> bool {
        self.0.contains(&Self::hash(uid, labels))
    }

    fn hash(uid: &str, labels: &str) -> [u8; HASH] {
        let whole = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{uid}\n{labels}").as_bytes());
        let mut hash = [0; HASH];
        hash.iter_mut().zip(whole.as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flatten().copied().collect();
        serializer.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes.chunks_exact(HASH).filter_map(|hash| hash.try_into().ok()).collect()))
    }
}

/// The digest of what of a pod decides which documents hold for it. Without a manifest it is that of the labels alone,
/// as it was before there were manifests: a new release of the operator needs no new generation.
pub(crate) fn marks_digest(labels: &BTreeMap<String, String>, manifest: Option<&str>) -> String {
    let encoded = match manifest {
        None => serde_json::to_vec(labels),
        Some(manifest) => serde_json::to_vec(&(labels, manifest)),
    };
    digest(&encoded.unwrap_or_default())
}

/// A tenant as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredTenant {
    /// Its state.
    pub(crate) state: TenantState,
    /// What is remembered of it.
    pub(crate) memory: Memory,
    /// The version of the ConfigMap.
    pub(crate) version: Option<String>,
}

impl StoredTenant {
    /// Reads a tenant's ConfigMap; `None` when it is none.
    pub(crate) fn read(map: &ConfigMap, signer: &Signer) -> Option<Result<Self, String>> {
        let labels = map.metadata.labels.as_ref()?;
        (labels.get(STORED_LABEL).map(String::as_str) == Some(STATE)).then(|| Self::open(map, signer))
    }

    fn open(map: &ConfigMap, signer: &Signer) -> Result<Self, String> {
        let name = map.metadata.name.as_deref().unwrap_or_default();
        let wrong = |error: String| format!("ConfigMap {name}: {error}");
        let state = signer.open(STATE_TYPE, text(map, ENVELOPE).map_err(wrong)?.as_bytes()).map_err(wrong)?;
        let state = TenantState::decode(&state).map_err(|error| wrong(error.to_string()))?;
        if tenant_state(&state.tenant) != name {
            return Err(wrong(format!("it holds the state of tenant {}", state.tenant)));
        }
        let memory = signer.open(MEMORY_TYPE, text(map, MEMORY).map_err(wrong)?.as_bytes()).map_err(wrong)?;
        let memory: Memory = serde_json::from_slice(&memory).map_err(|error| wrong(error.to_string()))?;
        if memory.tenant != state.tenant {
            return Err(wrong(format!("it holds the memory of tenant {}", memory.tenant)));
        }
        Ok(Self { state, memory, version: map.metadata.resource_version.clone() })
    }

    /// The tenant's ConfigMap.
    pub(crate) fn write(&self, signer: &Signer) -> ConfigMap {
        let Self { state, memory, version } = self;
        let envelope = |kind, payload: &[u8]| String::from_utf8(signer.sign(kind, payload)).unwrap_or_default();
        let memory_text = serde_json::to_vec(memory).unwrap_or_default();
        let data = [
            (ENVELOPE.to_owned(), envelope(STATE_TYPE, &state.encode())),
            (MEMORY.to_owned(), envelope(MEMORY_TYPE, &memory_text)),
        ];
        let mut metadata = metadata(&tenant_state(&state.tenant), STATE);
        metadata.labels.get_or_insert_default().insert(TENANT_LABEL.to_owned(), state.tenant.clone());
        metadata.resource_version = version.clone();
        ConfigMap { metadata, data: Some(data.into()), ..ConfigMap::default() }
    }
}

fn text<'a>(map: &'a ConfigMap, key: &str) -> Result<&'a str, String> {
    let data = map.data.as_ref().and_then(|data| data.get(key));
    data.map(String::as_str).ok_or_else(|| format!("there is no key {key}"))
}

fn metadata(name: &str, stored: &str) -> ObjectMeta {
    let labels = [(MANAGED_BY_LABEL, MANAGED_BY), (STORED_LABEL, stored)];
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        ..ObjectMeta::default()
    }
}

/// Whether a ConfigMap holds an object.
pub(crate) fn is_object(map: &ConfigMap) -> bool {
    map.metadata.labels.as_ref().and_then(|labels| labels.get(STORED_LABEL)).is_some_and(|kind| kind == OBJECT)
}

/// The ConfigMap of an object.
///
/// # Errors
/// When the object is larger than [`MAX_OBJECT`].
pub(crate) fn write_object(accepted: &Accepted, signer: &Signer) -> Result<ConfigMap, String> {
    let payload = accepted.encode();
    if payload.len() > MAX_OBJECT {
        return Err(format!(
            "{} bytes, more than the {MAX_OBJECT} that can be stored; split the object",
            payload.len()
        ));
    }
    let name = object(&digest(&payload)).ok_or("its digest makes no name")?;
    let envelope = String::from_utf8(signer.sign(OBJECT_TYPE, &payload)).map_err(|error| error.to_string())?;
    Ok(ConfigMap {
        metadata: metadata(&name, OBJECT),
        data: Some([(ENVELOPE.to_owned(), envelope)].into()),
        immutable: Some(true),
        ..ConfigMap::default()
    })
}

/// Objects that were read once: they are named by their content, so they never change.
#[derive(Default)]
pub(crate) struct Library {
    objects: HashMap<String, Arc<Accepted>>,
}

impl Library {
    /// The objects of a list; all or none.
    ///
    /// # Errors
    /// When one of them is not there or cannot be read.
    pub(crate) fn objects(
        &mut self,
        digests: &[String],
        find: impl Fn(&str) -> Option<Arc<ConfigMap>>,
        signer: &Signer,
    ) -> Result<Vec<Arc<Accepted>>, String> {
        digests.iter().map(|digest| self.object(digest, &find, signer)).collect()
    }

    fn object(
        &mut self,
        wanted: &str,
        find: impl Fn(&str) -> Option<Arc<ConfigMap>>,
        signer: &Signer,
    ) -> Result<Arc<Accepted>, String> {
        if let Some(known) = self.objects.get(wanted) {
            return Ok(known.clone());
        }
        let name = object(wanted).ok_or_else(|| format!("{wanted} is no digest"))?;
        let map = find(&name).ok_or_else(|| format!("ConfigMap {name} is not there"))?;
        let wrong = |error: String| format!("ConfigMap {name}: {error}");
        let payload = signer.open(OBJECT_TYPE, text(&map, ENVELOPE).map_err(wrong)?.as_bytes()).map_err(wrong)?;
        if digest(&payload) != wanted {
            return Err(wrong("it holds another object".to_owned()));
        }
        let accepted = Arc::new(Accepted::decode(&payload).map_err(|error| wrong(error.to_string()))?);
        self.objects.insert(wanted.to_owned(), accepted.clone());
        Ok(accepted)
    }

    /// Takes an object in that was made here.
    pub(crate) fn insert(&mut self, digest: String, accepted: Arc<Accepted>) {
        self.objects.insert(digest, accepted);
    }

    /// Keeps only what somebody lists.
    pub(crate) fn retain(&mut self, listed: impl Fn(&str) -> bool) {
        self.objects.retain(|digest, _| listed(digest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_crds::{AgentHalt, AgentHaltSpec, AgentSelector};
    use clawlock_policy::envelope::SigningKey;

    fn signer() -> Signer {
        Signer::of(SigningKey::generate().unwrap())
    }

    fn halt(reason: &str) -> Accepted {
        let spec = AgentHaltSpec {
            agent_selector: AgentSelector::default(),
            reason: reason.to_owned(),
            pod_uid: None,
            cause: None,
        };
        let mut halt = AgentHalt::new("stop", spec);
        halt.metadata.namespace = Some("acme".to_owned());
        Accepted::AgentHalt(Box::new(halt))
    }

    fn stored() -> StoredTenant {
        let state = TenantState { tenant: "acme".to_owned(), generation: 7, objects: vec![halt("x").digest()] };
        let memory = Memory {
            tenant: "acme".to_owned(),
            cluster_ip: Some("10.96.0.9".parse().unwrap()),
            relabelled: [("uid".to_owned(), "sha256:x".to_owned())].into(),
            seen: Seen::of(&BTreeMap::from([("uid".to_owned(), "sha256:x".to_owned())])),
        };
        StoredTenant { state, memory, version: None }
    }

    #[test]
    fn a_state_survives_being_stored() {
        let signer = signer();
        let stored = stored();
        let map = stored.write(&signer);
        assert_eq!(map.metadata.name.as_deref(), Some("clawlock-tenant-acme"));
        assert_eq!(StoredTenant::read(&map, &signer).unwrap().unwrap(), stored);
    }

    #[test]
    fn ten_thousand_pods_fit_beside_a_list() {
        let pods = (0..10_000).map(|n| (format!("uid-{n}"), "labels".to_owned())).collect();
        let seen = Seen::of(&pods);
        assert!(seen.has("uid-9", "labels") && !seen.has("uid-9", "others"));
        assert!(serde_json::to_vec(&seen).unwrap().len() < 120_000);
    }

    #[test]
    fn class_a_state_that_someone_else_wrote_is_refused() {
        let map = stored().write(&signer());
        assert!(StoredTenant::read(&map, &signer()).unwrap().is_err());
    }

    #[test]
    fn a_state_under_another_tenants_name_is_refused() {
        let signer = signer();
        let mut map = stored().write(&signer);
        map.metadata.name = Some("clawlock-tenant-other".to_owned());
        assert!(StoredTenant::read(&map, &signer).unwrap().is_err());
    }

    #[test]
    fn a_list_is_read_as_a_whole_or_not_at_all() {
        let signer = signer();
        let (one, two) = (halt("one"), halt("two"));
        let map = Arc::new(write_object(&one, &signer).unwrap());
        let name = map.metadata.name.clone().unwrap();
        let find = |asked: &str| (asked == name).then(|| map.clone());
        let mut library = Library::default();
        assert_eq!(library.objects(&[one.digest()], find, &signer).unwrap().len(), 1);
        let error = library.objects(&[one.digest(), two.digest()], find, &signer).unwrap_err();
        assert!(error.ends_with("is not there"), "{error}");
        // What was read once does not depend on its ConfigMap any more.
        assert!(library.objects(&[one.digest()], |_| None, &signer).is_ok());
        library.retain(|_| false);
        assert!(library.objects(&[one.digest()], |_| None, &signer).is_err());
    }

    #[test]
    fn an_object_under_the_name_of_another_is_refused() {
        let signer = signer();
        let map = Arc::new(write_object(&halt("one"), &signer).unwrap());
        let error = Library::default().objects(&[halt("two").digest()], |_| Some(map.clone()), &signer).unwrap_err();
        assert!(error.ends_with("it holds another object"), "{error}");
    }

    #[test]
    fn an_object_that_is_too_large_says_so() {
        let error = write_object(&halt(&"x".repeat(MAX_OBJECT)), &signer()).unwrap_err();
        assert!(error.contains("split the object"), "{error}");
    }
}
