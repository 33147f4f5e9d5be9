//! Secrets of the release namespace: read, and made once by whoever is first.

use std::collections::BTreeMap;

use clawlock_compile::objects::names::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use super::PkiError;
use crate::cluster::{WriteError, Writer, status_code};

/// The Secrets of the release namespace.
#[derive(Clone)]
pub(crate) struct Secrets {
    api: Api<Secret>,
    namespace: String,
}

impl Secrets {
    /// Those of a namespace.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.to_owned() }
    }

    /// The namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Reads a Secret.
    ///
    /// # Errors
    /// When the API server could not be asked.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Secret>, PkiError> {
        let found = self.api.get_opt(name).await;
        found.map_err(|source| PkiError::Read { name: name.to_owned(), source: Box::new(source) })
    }

    /// Reads a Secret, or makes it. Two replicas that do so at once agree: only one of them creates.
    /// This is the one write that needs no Lease, because it never changes what is there.
    ///
    /// # Errors
    /// When it is neither there nor could be made.
    pub(crate) async fn find_or_create(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<BTreeMap<&'static str, Vec<u8>>, PkiError>,
    ) -> Result<Secret, PkiError> {
        if let Some(found) = self.find(name).await? {
            return Ok(found);
        }
        let secret = new_secret(name, "Opaque", make()?);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.api.create(&params, &secret).await {
            Ok(made) => {
                tracing::info!(secret = name, "made a new key");
                Ok(made)
            }
            Err(error) if status_code(&error) == Some(409) => {
                let found = self.api.get(name).await;
                found.map_err(|source| PkiError::Read { name: name.to_owned(), source: Box::new(source) })
            }
            Err(source) => {
                let what = format!("create Secret {}/{name}", self.namespace);
                Err(WriteError::Api { what, source: Box::new(source) }.into())
            }
        }
    }
}

/// Writes a Secret again that somebody deleted: what is in use must be there for the operator that starts next, or it
/// would make another key, which no pod that runs trusts.
///
/// # Errors
/// When it could not be looked for or written.
pub(crate) async fn put_back(secrets: &Secrets, writer: &Writer, kept: &Secret) -> Result<(), PkiError> {
    let name = kept.metadata.name.as_deref().unwrap_or_default();
    if secrets.find(name).await?.is_none() {
        writer.create(secrets.namespace(), &as_new(kept)).await?;
        tracing::warn!(secret = name, "this key was deleted and is in use; it is written again");
    }
    Ok(())
}

/// A Secret as it was when it was made.
fn as_new(secret: &Secret) -> Secret {
    let Secret { metadata, type_, data, immutable: _, string_data: _ } = secret.clone();
    let ObjectMeta { name, labels, annotations, .. } = metadata;
    Secret {
        metadata: ObjectMeta { name, labels, annotations, ..ObjectMeta::default() },
        type_,
        data,
        ..Secret::default()
    }
}

/// A Secret that is not there yet.
pub(crate) fn new_secret(name: &str, kind: &str, data: BTreeMap<&'static str, Vec<u8>>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())].into()),
            ..ObjectMeta::default()
        },
        type_: Some(kind.to_owned()),
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value))).collect()),
        ..Secret::default()
    }
}

/// The bytes under a key of a Secret.
pub(crate) fn part<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|ByteString(bytes)| bytes.as_slice())
}

/// The bytes under a key that must be there.
///
/// # Errors
/// When it is not.
pub(crate) fn required<'a>(secret: &'a Secret, key: &'static str) -> Result<&'a [u8], PkiError> {
    part(secret, key).ok_or_else(|| wrong(secret, key, "there is no such key"))
}

/// An error about a key of a Secret.
pub(crate) fn wrong(secret: &Secret, key: &'static str, reason: impl Into<String>) -> PkiError {
    PkiError::Secret { name: secret.metadata.name.clone().unwrap_or_default(), key, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_put_back_as_it_was_made() {
        let made = new_secret("key", "Opaque", BTreeMap::from([("seed", vec![7])]));
        let mut stored = made.clone();
        stored.metadata.uid = Some("uid".to_owned());
        stored.metadata.resource_version = Some("5".to_owned());
        assert_eq!(as_new(&stored), made);
    }
}
