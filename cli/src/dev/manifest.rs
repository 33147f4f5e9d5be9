//! The agent's manifest, `--manifest FILE`: the laptop's stand-in for the ConfigMap that a pod names.

use std::collections::BTreeMap;
use std::path::Path;

use clawlock_compile::Pod;
use clawlock_compile::manifest::{self, Form};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::folder;

/// Name of the stand-in. There is one manifest per process.
const NAME: &str = "clawlock-dev";

/// Reads the file, and lets the pod name it.
///
/// # Errors
/// When it cannot be read, is no manifest, or says something that nobody enforces: nothing is started then.
pub(super) fn read(file: &Path, pod: &mut Pod) -> Result<ConfigMap, String> {
    let text = folder::read_text(file).map_err(|problem| problem.to_string())?;
    let form = Form::of(file);
    let wrong = |error: String| format!("--manifest {}: {error}", file.display());
    let manifest = manifest::parse(&text, form).map_err(|mistake| wrong(mistake.to_string()))?;
    let name = format!("{}/{NAME}", pod.namespace);
    manifest.document(name).map_err(|unsupported| wrong(format!("{unsupported}; remove it to run without")))?;
    pod.manifest = Some(NAME.to_owned());
    let metadata =
        ObjectMeta { namespace: Some(pod.namespace.clone()), name: Some(NAME.to_owned()), ..ObjectMeta::default() };
    Ok(ConfigMap { metadata, data: Some(BTreeMap::from([(form.key().to_owned(), text)])), ..ConfigMap::default() })
}
