//! Fuzz targets (bolero). Run as ordinary tests they try random inputs; `make fuzz` follows coverage.
//! Each states a property, not only that nothing panics.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "common/fixtures.rs"]
mod fixtures;

use std::sync::LazyLock;

use clawlock_policy::condition::{Condition, Target};
use clawlock_policy::document::Tier;
use clawlock_policy::envelope::{DOCUMENT, Envelope, SigningKey, TrustedKeys};
use clawlock_policy::pattern::{HostPattern, OperationPattern, PathPattern, PathTemplate, ToolPattern};
use clawlock_policy::{HostName, Policy, RequestPath, Verdict, codec, json};
use fixtures::*;
use serde_json::Value;

#[test]
fn codec_decode() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(document) = codec::decode(bytes) {
            assert_eq!(codec::decode(&codec::encode(&document)).unwrap(), document);
        }
        if let Ok(assignment) = codec::decode_assignment(bytes) {
            assert_eq!(codec::decode_assignment(&codec::encode_assignment(&assignment)).unwrap(), assignment);
        }
    });
}

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[1; 32]).unwrap());
static OTHER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[2; 32]).unwrap());

#[test]
fn envelope_decode_and_verify() {
    let trusted = TrustedKeys::new([KEY.public().clone()]);
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(envelope) = Envelope::decode(bytes) {
            assert!(envelope.verify(DOCUMENT, &TrustedKeys::default()).is_err());
            assert_eq!(Envelope::decode(&envelope.encode()).unwrap(), envelope);
        }
        let signed = Envelope::sign(DOCUMENT, bytes, &KEY);
        assert_eq!(signed.verify(DOCUMENT, &trusted).unwrap(), bytes);
        assert!(Envelope::sign(DOCUMENT, bytes, &OTHER).verify(DOCUMENT, &trusted).is_err());
    });
}

#[test]
fn host_parse_and_match() {
    bolero::check!().with_type::<(String, String)>().for_each(|(name, pattern)| {
        let pattern = HostPattern::parse(pattern);
        let Ok(host) = HostName::parse(name) else { return };
        assert_eq!(HostName::parse(host.as_str()).unwrap(), host, "one spelling");
        assert!(host.as_str().parse::<std::net::IpAddr>().is_err());
        let exact = HostPattern::parse(host.as_str()).unwrap();
        assert!(exact.is_exact() && exact.matches(&host));
        if let Ok(pattern) = pattern {
            assert!(!pattern.matches(&host) || pattern.overlaps(&exact));
        }
    });
}

#[test]
fn path_parse_and_match() {
    let everything = PathPattern::parse("/**").unwrap();
    bolero::check!().with_type::<(String, String, String)>().for_each(|(path, pattern, name)| {
        let (pattern, template) = (PathPattern::parse(pattern), PathTemplate::parse(pattern));
        let _ = (ToolPattern::parse(name).map(|tool| tool.matches(path)), OperationPattern::parse(name));
        let Ok(path) = RequestPath::parse(path) else { return };
        let segments: Vec<_> = path.segments().collect();
        assert!(everything.matches(&segments));
        assert!(segments.iter().all(|segment| segment.text != "." && segment.text != ".."));
        if let Ok(pattern) = pattern {
            let _ = pattern.matches(&segments);
        }
        if let Ok(template) = template {
            assert!(PathTemplate::parse(&template.shape().replace("{}", "x")).is_ok());
        }
    });
}

static READS_ARGS: LazyLock<Policy> = LazyLock::new(|| {
    let condition = "args.a == 1 || args.b.exists(x, x.c > args.a) || args.d.matches(\"^a+$\") || args.e + 1 > args.f";
    let rules = vec![when("r", tools(&["t"]), condition, Tier::Block), rule("all", tools(&["t"]), Tier::Auto)];
    build(vec![tenant(vec![]), enforce("acme/p", rules)])
});

/// Equal but for the last digit of a double.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            (one - other).abs() <= f64::EPSILON * one.abs().max(f64::MIN_POSITIVE)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        _ => ours == theirs,
    }
}

#[test]
fn json_and_arguments() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let ours = json::parse(bytes);
        let theirs = serde_json::from_slice::<Value>(bytes);
        if let Ok(value) = &ours {
            let theirs = theirs.expect("what is accepted here is JSON");
            // serde_json reads -0 as a double, forgives duplicate names and may round a double's last digit;
            // nothing else differs.
            if !bytes.windows(2).any(|pair| pair == b"-0") {
                assert!(same(value, &theirs), "{value} differs from {theirs}");
            }
        }
        if let Ok(text) = std::str::from_utf8(bytes) {
            let verdict = call(&READS_ARGS, "t", text);
            assert!(ours.is_ok() || !matches!(verdict, Verdict::Allow(_)), "unreadable arguments are never allowed");
        }
    });
}

/// Pieces from which the generator puts conditions together, so that many of them parse.
const PIECES: [&str; 40] = [
    "args",
    "args.a",
    "args[\"b\"]",
    "args.l",
    "request",
    "request.port",
    "request.path",
    "agent.labels",
    "time.now",
    "x",
    ".x",
    "[0]",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    " && ",
    " || ",
    " == ",
    " < ",
    " + ",
    " - ",
    " / ",
    "!",
    " ? ",
    " : ",
    " in ",
    ".all(x, ",
    ".exists(x, ",
    ".map(x, ",
    "has(",
    ".matches(\"a+\")",
    "size(",
    "\"text\"",
    "1",
    "1.5",
    ", ",
    "true",
];

#[test]
fn condition_parse_and_evaluate() {
    let args = r#"{"a":1,"b":"t","l":[1,2,{"x":3}]}"#;
    bolero::check!().with_type::<(Vec<u8>, String)>().for_each(|(choices, raw)| {
        let text: String = choices
            .iter()
            .take(40)
            .map(|choice| PIECES[usize::from(*choice) % PIECES.len()])
            .chain([raw.as_str()])
            .collect();
        for target in [Target::tools(), Target::http()] {
            let _ = Condition::parse(&text, &target);
        }
        if Condition::parse(&text, &Target::tools()).is_ok() {
            // Whatever the checker lets through gives an answer.
            let _ = outcome(&text, args);
        }
    });
}
