//! What the generated schemas need beyond what the derives give them.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::bounds::{MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_SELECTOR_TERMS};

/// A DNS label (RFC 1123): names of namespaces, rules and guardrails.
pub const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A DNS subdomain: names of Secrets and ConfigMaps.
pub const DNS_SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A key of a Secret or ConfigMap.
pub const DATA_KEY: &str = "^[-._a-zA-Z0-9]+$";
/// A method, in upper case as all registered ones are.
pub const METHOD: &str = "^[A-Z][A-Z-]*$";
/// A label's key, roughly; the exact form is checked by `clawlock-compile`.
pub const LABEL_KEY: &str = "^[-./_a-zA-Z0-9]+$";
/// A label's value.
pub const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
/// A duration (GEP-2257).
pub const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// An image reference, roughly; the exact form is checked by `clawlock-compile`.
pub const IMAGE: &str = "^[a-zA-Z0-9][-a-zA-Z0-9._:/@]*$";
/// A UID as Kubernetes makes them: it becomes a part of names.
pub const UID: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// `namespace/name` of a policy.
pub const FULL_NAME: &str = "^[-a-z0-9]+/[-.a-z0-9]+$";
/// One line of printable text.
pub const PRINTABLE: &str = "^[^\\x00-\\x1f\\x7f]*$";

/// Keeps unknown fields of an object node: pruning starts again below every node that lacks the mark,
/// and a field that an older definition drops could widen a rule. They are refused when they are read.
pub fn open_object(schema: &mut Schema) {
    schema.remove("additionalProperties");
    schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), Value::Bool(true));
}

/// Schema of `matchLabels`: a map with bounded keys and values. As a map it knows no unknown field.
pub fn match_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": MAX_LABEL_VALUE, "pattern": LABEL_VALUE},
        "maxProperties": MAX_SELECTOR_TERMS,
        "x-kubernetes-validations": [{
            "rule": format!("self.all(key, key.size() <= {MAX_LABEL_KEY})"),
            "message": format!("a label's key has at most {MAX_LABEL_KEY} characters"),
        }],
    })
}
