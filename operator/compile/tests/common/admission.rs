//! What the API server does with an object before any webhook: the schema and its CEL rules. As much of
//! it as the definitions use; a keyword that is not known here fails the test.

use cel::{Context, Program, Value as CelValue};
use clawlock_crds::definitions;
use regex::Regex;
use serde_json::Value;

/// Why the definition of its kind refuses an object; `None` when it accepts it.
pub(crate) fn refusal(object: &Value) -> Option<String> {
    let kind = object["kind"].as_str().unwrap();
    let definition = definitions().into_iter().find(|definition| definition.spec.names.kind == kind).unwrap();
    let version = serde_json::to_value(&definition.spec.versions[0]).unwrap();
    let schema = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    check("spec", schema, &object["spec"]).err()
}

fn check(at: &str, schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |keyword: &str| Err(format!("{at}: {keyword}: {value}"));
    for (keyword, bound) in schema.as_object().unwrap() {
        let limit = || usize::try_from(bound.as_u64().unwrap()).unwrap();
        let length = || value.as_str().unwrap().chars().count();
        let holds = match keyword.as_str() {
            "description" | "default" | "properties" | "items" | "additionalProperties" => true,
            "x-kubernetes-preserve-unknown-fields" | "x-kubernetes-list-map-keys" => true,
            "type" => bound.as_str() == Some(type_of(value)),
            "enum" => bound.as_array().unwrap().contains(value),
            "required" => bound.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "minLength" => value.is_string() && length() >= limit(),
            "maxLength" => value.is_string() && length() <= limit(),
            "pattern" => value.as_str().is_some_and(|text| Regex::new(bound.as_str().unwrap()).unwrap().is_match(text)),
            "minItems" => value.as_array().is_some_and(|items| items.len() >= limit()),
            "maxItems" => value.as_array().is_some_and(|items| items.len() <= limit()),
            "maxProperties" => value.as_object().is_some_and(|members| members.len() <= limit()),
            "minimum" => value.as_f64() >= bound.as_f64(),
            "maximum" => value.as_f64() <= bound.as_f64(),
            "format" => bound == "int32",
            "x-kubernetes-list-type" => is_list(bound.as_str().unwrap(), &schema["x-kubernetes-list-map-keys"], value),
            "x-kubernetes-validations" => {
                bound.as_array().unwrap().iter().all(|rule| holds(rule["rule"].as_str().unwrap(), value))
            }
            other => panic!("{at}: {other} is not known to this test"),
        };
        if !holds {
            return wrong(keyword);
        }
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(member) = value.get(name) {
            check(&format!("{at}.{name}"), child, member)?;
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(&format!("{at}[]"), &schema["items"], item)?;
    }
    if schema["additionalProperties"].is_object() {
        for (_, member) in value.as_object().into_iter().flatten() {
            check(&format!("{at}{{}}"), &schema["additionalProperties"], member)?;
        }
    }
    Ok(())
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_list(kind: &str, map_keys: &Value, value: &Value) -> bool {
    let items = value.as_array().unwrap();
    let keys: Vec<&Value> = match kind {
        "atomic" => return true,
        "set" => items.iter().collect(),
        "map" => items.iter().map(|item| &item[map_keys[0].as_str().unwrap()]).collect(),
        other => panic!("{other}"),
    };
    keys.iter().enumerate().all(|(index, key)| !keys[..index].contains(key))
}

fn holds(rule: &str, this: &Value) -> bool {
    // Rules about the old object say nothing on creation.
    if rule.contains("oldSelf") {
        return true;
    }
    let mut context = Context::default();
    context.add_variable("self", this).unwrap();
    matches!(Program::compile(rule).unwrap().execute(&context), Ok(CelValue::Bool(true)))
}
