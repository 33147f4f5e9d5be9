//! JSON patch (RFC 6902), as much of it as injection needs: lists and maps of a pod that are replaced as
//! a whole. `add` on a member that is there replaces it.

use serde::Serialize;
use serde_json::Value;

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Sets a member of an object.
    Add {
        /// Where, as a JSON pointer.
        path: &'static str,
        /// What.
        value: Value,
    },
}

/// An operation that does not fit its document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no object above {0}")]
pub struct PatchError(&'static str);

/// What injection may change in a pod.
const PLACES: [&str; 6] = [
    "/metadata/labels",
    "/spec/automountServiceAccountToken",
    "/spec/volumes",
    "/spec/initContainers",
    "/spec/containers",
    "/spec/ephemeralContainers",
];

/// The operations that make `new` of `old`, which differ in [`PLACES`] only and where nothing was removed.
pub(super) fn between(old: &Value, new: &Value) -> Vec<Operation> {
    let changed = PLACES.into_iter().filter(|path| old.pointer(path) != new.pointer(path));
    changed.filter_map(|path| new.pointer(path).map(|value| Operation::Add { path, value: value.clone() })).collect()
}

/// Applies operations to a document.
///
/// # Errors
/// When the object above a path is not there.
pub fn apply(document: &mut Value, operations: &[Operation]) -> Result<(), PatchError> {
    for Operation::Add { path, value } in operations {
        let (above, member) = path.rsplit_once('/').ok_or(PatchError(path))?;
        let object = document.pointer_mut(above).and_then(Value::as_object_mut).ok_or(PatchError(path))?;
        object.insert(member.to_owned(), value.clone());
    }
    Ok(())
}
