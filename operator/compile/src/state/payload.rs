//! The bytes of objects and lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use clawlock_crds::{API_VERSION, AgentHalt, AgentPolicy, AgentSelector, TenantGateway, Upstream};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Accepted, MAX_OBJECT, MAX_OBJECTS};
use crate::problem::{Kind, ObjectRef};
use crate::{Unreadable, objects::names};

/// Bytes that are no object or list of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// More bytes than an object has.
    #[error("{0} bytes; at most {MAX_OBJECT} are read")]
    Size(usize),
    /// Not what it should be.
    #[error("stored state cannot be read: {0}; was it written by a newer version?")]
    Form(String),
}

/// What is in force for a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantState {
    /// Name of the tenant.
    pub tenant: String,
    /// Grows with every change.
    pub generation: u64,
    /// Digests of the objects.
    pub objects: Vec<String>,
}

impl TenantState {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        bytes(self)
    }

    /// Reads a list.
    ///
    /// # Errors
    /// When the bytes are no list: of another form, too long, or with something that is no digest.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let state: Self = serde_json::from_slice(bounded(bytes)?).map_err(form)?;
        if state.objects.len() > MAX_OBJECTS {
            return Err(StateError::Form(format!("{} objects; at most {MAX_OBJECTS} are read", state.objects.len())));
        }
        match state.objects.iter().find(|digest| names::object(digest).is_none()) {
            None => Ok(state),
            Some(_) => Err(StateError::Form("an object's digest is none".to_owned())),
        }
    }
}

/// One object. Of `spec`, `data` and `unreadable` there is one.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Payload<'a, S> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<Remains>,
}

/// What is known of an object that cannot be read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Remains {
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selector: Option<AgentSelector>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    namespace: String,
    name: String,
}

/// Of a ConfigMap, which is of the core group.
const CORE: &str = "v1";

pub(super) fn encode(object: &Accepted) -> Vec<u8> {
    let kind = object.kind();
    let metadata = Metadata { namespace: object.namespace().to_owned(), name: object.name().to_owned() };
    let own =
        |metadata| Payload::<()> { api_version: API_VERSION, kind, metadata, spec: None, data: None, unreadable: None };
    match object {
        Accepted::TenantGateway(gateway) => with_spec(own(metadata), &gateway.spec),
        Accepted::Upstream(upstream) => with_spec(own(metadata), &upstream.spec),
        Accepted::AgentPolicy(policy) => with_spec(own(metadata), &policy.spec),
        Accepted::AgentHalt(halt) => with_spec(own(metadata), &halt.spec),
        Accepted::ConfigMap(map) => {
            let data = Some(map.data.clone().unwrap_or_default());
            bytes(&Payload { api_version: CORE, data, ..own(metadata) })
        }
        Accepted::Unreadable(unreadable) => {
            let Unreadable { object: _, message, selector } = unreadable.clone();
            bytes(&Payload { unreadable: Some(Remains { message, selector }), ..own(metadata) })
        }
    }
}

fn with_spec<S: Serialize>(payload: Payload<'_, ()>, spec: &S) -> Vec<u8> {
    let Payload { api_version, kind, metadata, spec: _, data, unreadable } = payload;
    bytes(&Payload { api_version, kind, metadata, spec: Some(spec), data, unreadable })
}

fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs, lists and maps by text are JSON")
}

pub(super) fn decode(bytes: &[u8]) -> Result<Accepted, StateError> {
    let payload: Payload<'_, &RawValue> = serde_json::from_slice(bounded(bytes)?).map_err(form)?;
    let Payload { api_version, kind, metadata: Metadata { namespace, name }, spec, data, unreadable } = payload;
    let metadata = ObjectMeta { namespace: Some(namespace.clone()), name: Some(name.clone()), ..ObjectMeta::default() };
    match (api_version, kind, spec, data, unreadable) {
        (API_VERSION, "TenantGateway", Some(spec), None, None) => {
            let spec = serde_json::from_str(spec.get()).map_err(form)?;
            Ok(Accepted::TenantGateway(Box::new(TenantGateway { metadata, spec, status: None })))
        }
        (API_VERSION, "Upstream", Some(spec), None, None) => {
            let spec = serde_json::from_str(spec.get()).map_err(form)?;
            Ok(Accepted::Upstream(Box::new(Upstream { metadata, spec, status: None })))
        }
        (API_VERSION, "AgentPolicy", Some(spec), None, None) => {
            let spec = serde_json::from_str(spec.get()).map_err(form)?;
            Ok(Accepted::AgentPolicy(Arc::new(AgentPolicy { metadata, spec, status: None })))
        }
        (API_VERSION, "AgentHalt", Some(spec), None, None) => {
            let spec = serde_json::from_str(spec.get()).map_err(form)?;
            Ok(Accepted::AgentHalt(Box::new(AgentHalt { metadata, spec, status: None })))
        }
        (CORE, "ConfigMap", None, Some(data), None) => {
            Ok(Accepted::ConfigMap(Box::new(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() })))
        }
        (API_VERSION, kind, None, None, Some(Remains { message, selector })) => {
            let kind = [Kind::TenantGateway, Kind::Upstream, Kind::AgentPolicy, Kind::AgentHalt]
                .into_iter()
                .find(|known| known.as_str() == kind)
                .ok_or_else(|| StateError::Form("an unreadable object of no known kind".to_owned()))?;
            Ok(Accepted::Unreadable(Unreadable { object: ObjectRef { kind, namespace, name }, message, selector }))
        }
        _ => Err(StateError::Form("apiVersion, kind and content do not belong together".to_owned())),
    }
}

fn bounded(bytes: &[u8]) -> Result<&[u8], StateError> {
    if bytes.len() > MAX_OBJECT { Err(StateError::Size(bytes.len())) } else { Ok(bytes) }
}

fn form(error: serde_json::Error) -> StateError {
    StateError::Form(crate::text::quoted(&error.to_string()))
}
