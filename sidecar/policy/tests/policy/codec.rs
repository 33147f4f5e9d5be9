//! The codec: what was written is read, and nothing else is.

use clawlock_policy::codec::{
    MAX_ASSIGNMENT, MAX_DOCUMENT, decode, decode_assignment, digest, encode, encode_assignment,
};
use clawlock_policy::document::{
    Assignment, Category, CauseDoc, CredentialDoc, Day, Document, FileAccess, HaltDoc, HostDoc, LimitDoc, LimitScope,
    ManifestDoc, MatchDoc, Mode, OnDeny, PolicyDoc, Protocol, RoleDoc, RuleDoc, ScheduleDoc, SecretKey, TenantDoc,
    Tier, ToolCategoryDoc, UpstreamDoc, WindowDoc,
};
use serde_json::{Value, json};

use crate::fixtures::*;

fn documents() -> Vec<Document> {
    let secret = || SecretKey { name: "s".into(), key: "k".into() };
    let header = CredentialDoc::Header { name: "x-api-key".into(), secret: secret() };
    let basic = CredentialDoc::Basic { username: "u".into(), secret: secret() };
    vec![
        tenant(vec![when("g", tools(&["*"]), "args.x == 1", Tier::Ask)]),
        auditing_tenant(vec![]),
        stripe(),
        Document::Upstream(UpstreamDoc {
            credential: header,
            ca_pem: Some("pem".into()),
            ..upstream_doc("a", "a.example")
        }),
        Document::Upstream(UpstreamDoc { credential: basic, ..upstream_doc("b", "b.example") }),
        Document::Upstream(UpstreamDoc { credential: CredentialDoc::None {}, ..upstream_doc("c", "c.example") }),
        Document::Upstream(UpstreamDoc { protocol: Protocol::Llm, ..upstream_doc("d", "d.example") }),
        policy("acme/p", Mode::Audit, vec![rule("r", http(&["a"], &["GET"], &["/**"]), Tier::Auto)]),
        policy("acme/q", Mode::Enforce, vec![rule("r", operations(&["a.b"]), Tier::Block)]),
        Document::Halt(HaltDoc { name: "acme/h".into(), reason: "\"quoted\"\n".into(), cause: None }),
        halted_by_gate(),
        full_policy(),
        Document::Manifest(full_manifest()),
        Document::Manifest(ManifestDoc { roles: vec![], ..full_manifest() }),
        Document::Tenant(TenantDoc {
            name: "acme".into(),
            guardrails: vec![],
            limits: vec![],
            tool_categories: vec![ToolCategoryDoc { tools: strings(&["shop__*"]), category: Category::Money }],
            audit_until_ms: None,
            allowed_modes: vec![],
        }),
    ]
}

fn halted_by_gate() -> Document {
    let cause = CauseDoc::Denial { policy: "acme/p".into(), rule: "r".into() };
    Document::Halt(HaltDoc { name: "acme/pod-1".into(), reason: "why".into(), cause: Some(cause) })
}

/// A manifest with every field.
fn full_manifest() -> ManifestDoc {
    ManifestDoc {
        name: "acme/m".into(),
        tools: strings(&["exec"]),
        hosts: vec![HostDoc { host: "a.example".into(), port: 8443 }],
        files: FileAccess::Read,
        programs: true,
        roles: vec![RoleDoc { name: "viewer".into(), tools: strings(&["ls"]) }],
    }
}

/// A policy with every field.
fn full_policy() -> Document {
    let window = WindowDoc { days: vec![Day::Fri, Day::Sat], from: "22:00".into(), to: "06:00".into() };
    let schedule = ScheduleDoc {
        time_zone: "Europe/Berlin".into(),
        windows: vec![window],
        excluded_dates: strings(&["2026-12-25"]),
    };
    let night =
        RuleDoc { schedule: Some(schedule), ..when("night", MatchDoc::Category(Category::Read), "true", Tier::Auto) };
    let limit = LimitDoc {
        name: "l".into(),
        scope: LimitScope::Agent,
        matches: Some(tools(&["exec"])),
        requests: 2,
        interval_ms: 1000,
        burst: 3,
    };
    Document::Policy(PolicyDoc {
        name: "acme/full".into(),
        mode: Mode::Enforce,
        rules: vec![night, RuleDoc { on_deny: OnDeny::Halt, ..rule("never", tools(&["rm"]), Tier::Block) }],
        residency: Some(strings(&["eu"])),
        limits: vec![limit],
    })
}

/// What says nothing new is written as it always was: its digest stays, and programs that know nothing new read it.
#[test]
fn documents_without_new_fields_are_written_as_before() {
    let written = |document: &Document| String::from_utf8(encode(document)).unwrap();
    assert_eq!(
        written(&policy("acme/p", Mode::Enforce, vec![when("r", tools(&["exec"]), "true", Tier::Auto)])),
        r#"{"version":1,"kind":"Policy","name":"acme/p","mode":"Enforce","rules":[{"name":"r","matches":{"tools":["exec"]},"when":"true","tier":"Auto"}]}"#
    );
    assert_eq!(
        written(&tenant(vec![])),
        r#"{"version":1,"kind":"Tenant","name":"acme","guardrails":[],"auditUntilMs":null,"allowedModes":["Enforce"]}"#
    );
    let upstream = UpstreamDoc {
        credential: CredentialDoc::None {},
        operations: vec![operation("o", "GET", "/a", &[])],
        ..upstream_doc("c", "c.example")
    };
    assert_eq!(
        written(&Document::Upstream(upstream)),
        r#"{"version":1,"kind":"Upstream","name":"c","scheme":"https","hosts":["c.example"],"port":443,"allowedCidrs":[],"credential":{"type":"None"},"operations":[{"name":"o","method":"GET","path":"/a","arguments":[]}]}"#
    );
}

#[test]
fn what_was_written_is_read() {
    for document in documents() {
        let bytes = encode(&document);
        assert_eq!(decode(&bytes).unwrap(), document);
        assert_eq!(encode(&decode(&bytes).unwrap()), bytes, "one value has one encoding");
    }
    let assignment = assignment(&documents());
    assert_eq!(decode_assignment(&encode_assignment(&assignment)).unwrap(), assignment);
}

/// A field that was added later is not written where it says what was meant before: digests stay, and whoever does
/// not know it refuses only what it cannot express.
#[test]
fn fields_that_were_added_are_written_only_when_they_say_something() {
    let text = |document: &Document| String::from_utf8(encode(document)).unwrap();
    assert!(!text(&stripe()).contains("protocol"));
    let model = Document::Upstream(UpstreamDoc { protocol: Protocol::Llm, ..upstream_doc("d", "d.example") });
    assert!(text(&model).contains(r#""protocol":"LLM""#));
    assert!(changed(&model, |value| value["protocol"] = json!("MCP")).is_err());
    let plain = Document::Halt(HaltDoc { name: "acme/h".into(), reason: "why".into(), cause: None });
    assert_eq!(text(&plain), r#"{"version":1,"kind":"Halt","name":"acme/h","reason":"why"}"#);
    assert!(text(&halted_by_gate()).contains(r#""cause":{"type":"Denial","policy":"acme/p","rule":"r"}"#));
    assert!(changed(&halted_by_gate(), |value| value["cause"]["more"] = json!(1)).is_err());
    assert_eq!(text(&full_policy()).matches("onDeny").count(), 1, "only where it halts");
    let required = assignment(&documents());
    let encoded = |assignment: &Assignment| String::from_utf8(encode_assignment(assignment)).unwrap();
    assert!(!encoded(&required).contains("plugin"));
    let optional = Assignment { plugin_optional: Some("python".into()), ..required };
    assert!(encoded(&optional).contains(r#""pluginOptional":"python""#));
    assert_eq!(decode_assignment(encoded(&optional).as_bytes()).unwrap(), optional);
}

#[test]
fn every_byte_that_is_cut_or_added_is_noticed() {
    let bytes = encode(&stripe());
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "{end}");
    }
    assert!(decode(&[bytes.as_slice(), b"x"].concat()).is_err());
    assert!(decode(&[bytes.as_slice(), b"\0"].concat()).is_err());
    assert!(decode(&[bytes.as_slice(), bytes.as_slice()].concat()).is_err());
}

/// Changes an encoding as JSON and tries to read it.
fn changed(document: &Document, change: impl FnOnce(&mut Value)) -> Result<Document, String> {
    let mut value: Value = serde_json::from_slice(&encode(document)).unwrap();
    change(&mut value);
    decode(&serde_json::to_vec(&value).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn versions_that_are_not_known_are_refused() {
    let error = changed(&stripe(), |value| value["version"] = json!(2)).unwrap_err();
    assert_eq!(error, "document: version 2 is not known here, only 1; update this program");
    for version in [json!(0), json!("1"), json!(1.0), json!(null), json!(-1)] {
        let error = changed(&stripe(), |value| value["version"] = version.clone()).unwrap_err();
        let known = version.is_u64();
        assert_eq!(error == "document: no version", !known, "{version}: {error}");
    }
    let missing = changed(&stripe(), |value| drop(value.as_object_mut().unwrap().remove("version")));
    assert_eq!(missing.unwrap_err(), "document: no version");
}

#[test]
fn unknown_missing_and_wrong_fields_are_refused_at_every_level() {
    for document in documents() {
        let mut value: Value = serde_json::from_slice(&encode(&document)).unwrap();
        let mut paths = Vec::new();
        objects(&value, String::new(), &mut paths);
        for path in paths {
            let object = value.pointer_mut(&path).unwrap().as_object_mut().unwrap();
            object.insert("unknownField".into(), json!(1));
            let bytes = serde_json::to_vec(&value).unwrap();
            assert!(decode(&bytes).is_err(), "{path} of {document:?}");
            value.pointer_mut(&path).unwrap().as_object_mut().unwrap().remove("unknownField");
        }
    }
    for field in ["name", "scheme", "hosts", "port", "credential", "kind"] {
        let missing = changed(&stripe(), |value| drop(value.as_object_mut().unwrap().remove(field)));
        assert!(missing.is_err(), "{field}");
    }
    for port in [json!(65536), json!(-1), json!("443"), json!(443.0), json!(null)] {
        assert!(changed(&stripe(), |value| value["port"] = port.clone()).is_err(), "{port}");
    }
    assert!(changed(&stripe(), |value| value["kind"] = json!("upstream")).is_err());
    assert!(changed(&stripe(), |value| value["credential"]["type"] = json!("OAuth2")).is_err());
}

fn objects(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.push(path.clone());
            for (name, member) in members {
                objects(member, format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn duplicates_and_size_are_refused() {
    let text = String::from_utf8(encode(&stripe())).unwrap();
    let twice = text.replacen('{', "{\"version\":1,", 1);
    assert!(decode(twice.as_bytes()).unwrap_err().to_string().contains("\"version\" appears twice"));
    let error = decode(&vec![b' '; MAX_DOCUMENT + 1]).unwrap_err();
    assert!(error.to_string().starts_with("document: 8388609 bytes"), "{error}");
    assert!(decode_assignment(&vec![b' '; MAX_ASSIGNMENT + 1]).is_err());
    for text in ["", "[]", "null", "{}", "1", "\"x\""] {
        assert!(decode(text.as_bytes()).is_err(), "{text}");
        assert!(decode_assignment(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn one_kind_is_not_another() {
    let assignment = encode_assignment(&assignment(&documents()));
    assert!(decode(&assignment).is_err());
    assert!(decode_assignment(&encode(&stripe())).is_err());
}

#[test]
fn the_digest_is_sha256() {
    assert_eq!(digest(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(digest(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
