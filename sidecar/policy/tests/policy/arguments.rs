//! Arguments: one value of its declared type per name, from every place in which a request can carry it.

use clawlock_policy::Policy;
use clawlock_policy::document::{ArgumentType, CredentialDoc, Document, Tier, UpstreamDoc};
use clawlock_policy::{Code, HostName, Verdict};

use crate::fixtures::*;

/// An upstream whose one operation declares an argument of each type, and a rule with a condition about it.
fn typed(condition: &str) -> Policy {
    let arguments = [
        ("text", ArgumentType::String),
        ("whole", ArgumentType::Integer),
        ("number", ArgumentType::Number),
        ("truth", ArgumentType::Boolean),
    ];
    let upstream = UpstreamDoc {
        operations: vec![operation("put", "PUT", "/{key}", &arguments)],
        credential: CredentialDoc::None {},
        ..upstream_doc("u", "u.example")
    };
    let rules = vec![when("r", operations(&["u.put"]), condition, Tier::Block)];
    build(vec![tenant(vec![]), Document::Upstream(upstream), enforce("acme/p", rules)])
}

fn put() -> Request {
    Request { upstream: "u".into(), host: HostName::parse("u.example").unwrap(), ..request("PUT", "/k") }
}

/// True, false, or why the condition could not be evaluated.
fn answer(condition: &str, request: &Request) -> Result<bool, String> {
    match request.decide(&typed(condition)) {
        Verdict::Deny(denial) if denial.code == Code::ConditionError => {
            Err(denial.detail.rsplit_once("could not be evaluated: ").unwrap().1.to_owned())
        }
        verdict => Ok(code(&verdict) == Some(Code::TierBlock)),
    }
}

fn wrong(name: &str, what: &str) -> Result<bool, String> {
    Err(format!("the argument \"{name}\" is declared as, but is not, {what}"))
}

#[test]
fn declared_numbers_of_a_query_have_one_spelling() {
    let whole =
        |text: &str, value: i64| answer(&format!("args.whole == {value}"), &put().query(&format!("whole={text}")));
    for (text, value) in [
        ("0", 0),
        ("7", 7),
        ("-7", -7),
        ("10", 10),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775807", -i64::MAX),
    ] {
        assert_eq!(whole(text, value), Ok(true), "{text}");
    }
    for text in
        ["", "-", "-0", "00", "07", "-07", "--7", "7-", "7.0", "7e0", "%207", "7%20", "%2B7", "0x7", "٧", "seven"]
    {
        assert_eq!(whole(text, 7), wrong("whole", "an integer"), "{text}");
    }
    assert_eq!(whole("9223372036854775808", 7), wrong("whole", "an integer"));
    let number =
        |text: &str, value: &str| answer(&format!("args.number == {value}"), &put().query(&format!("number={text}")));
    for (text, value) in [
        ("2.5", "2.5"),
        ("-2.5", "-2.5"),
        ("2", "2.0"),
        ("2e3", "2000.0"),
        ("9007199254740992", "9007199254740992.0"),
        ("-9007199254740992", "-9007199254740992.0"),
        ("1e300", "1e300"),
    ] {
        assert_eq!(number(text, value), Ok(true), "{text}");
    }
    for text in [
        "",
        "2.",
        ".5",
        "02",
        "%202",
        "2%20",
        "%0A2",
        "NaN",
        "Infinity",
        "0x2",
        "1e999",
        "true",
        "\"2\"",
        "9007199254740993",
        "-9007199254740993",
        "9223372036854775808",
        "18446744073709551615",
    ] {
        assert_eq!(number(text, "2.0"), wrong("number", "a number"), "{text}");
    }
    let truth = |text: &str| answer("args.truth", &put().query(&format!("truth={text}")));
    assert_eq!((truth("true"), truth("false")), (Ok(true), Ok(false)));
    for text in ["", "1", "True", "yes"] {
        assert_eq!(truth(text), wrong("truth", "true or false"), "{text}");
    }
    assert_eq!(answer("args.text == \"5\"", &put().query("text=5")), Ok(true), "a string whatever it looks like");
}

#[test]
fn declared_members_of_a_body_have_their_type() {
    let sent = |condition: &str, body: &str| answer(condition, &put().json(body));
    assert_eq!(sent("args.text == \"5\"", r#"{"text":"5"}"#), Ok(true));
    assert_eq!(sent("args.whole == 5", r#"{"whole":5}"#), Ok(true));
    assert_eq!(sent("args.whole == -5", r#"{"whole":-5}"#), Ok(true));
    assert_eq!(sent("args.truth", r#"{"truth":true}"#), Ok(true));
    assert_eq!(sent("args.truth", r#"{"truth":false}"#), Ok(false));
    for (body, value) in [
        ("2", "2.0"),
        ("2.5", "2.5"),
        ("-9007199254740992", "-9007199254740992.0"),
        ("9007199254740992", "9007199254740992.0"),
        ("1e300", "1e300"),
    ] {
        assert_eq!(sent(&format!("args.number == {value}"), &format!("{{\"number\":{body}}}")), Ok(true), "{body}");
    }
    for body in ["5", "true", "null", "[]", "{}"] {
        assert_eq!(sent("has(args.text)", &format!("{{\"text\":{body}}}")), wrong("text", "a string"), "{body}");
    }
    for body in ["5.0", "5e0", "9223372036854775808", "\"5\"", "null"] {
        let said = sent("has(args.whole)", &format!("{{\"whole\":{body}}}"));
        assert_eq!(said, wrong("whole", "an integer of 64 bits"), "{body}");
    }
    for body in ["9007199254740993", "-9007199254740993", "9223372036854775808", "18446744073709551615"] {
        let said = sent("has(args.number)", &format!("{{\"number\":{body}}}"));
        assert_eq!(said, wrong("number", "a number of 64 bits"), "{body}");
    }
    for body in ["\"5\"", "true", "null", "[5]"] {
        assert_eq!(sent("has(args.number)", &format!("{{\"number\":{body}}}")), wrong("number", "a number"), "{body}");
    }
    for body in ["1", "\"true\"", "null"] {
        assert_eq!(
            sent("has(args.truth)", &format!("{{\"truth\":{body}}}")),
            wrong("truth", "true or false"),
            "{body}"
        );
    }
}

#[test]
fn many_declared_numbers_are_counted() {
    let names: Vec<String> = (0..120).map(|n| format!("n{n}")).collect();
    let arguments: Vec<(&str, ArgumentType)> = names.iter().map(|name| (&**name, ArgumentType::Number)).collect();
    let upstream = UpstreamDoc {
        operations: vec![operation("put", "PUT", "/k", &arguments)],
        credential: CredentialDoc::None {},
        ..upstream_doc("u", "u.example")
    };
    let loops = "args.all(a, args.all(b, args.all(c, true)))";
    let rules = vec![when("r", operations(&["u.put"]), loops, Tier::Block)];
    let policy = build(vec![tenant(vec![]), Document::Upstream(upstream), enforce("acme/p", rules)]);
    let body: Vec<String> = names.iter().map(|name| format!("\"{name}\":1")).collect();
    let Verdict::Deny(denial) = put().json(&format!("{{{}}}", body.join(","))).decide(&policy) else { panic!() };
    assert!(denial.detail.contains("too large for this condition"), "{}", denial.detail);
}

#[test]
fn texts_that_are_copied_are_counted() {
    let sent = |copies: usize, items: usize| {
        let (text, copied) = ("a".repeat(25_600), vec!["args.text"; copies].join(","));
        let condition = format!("args.l.all(x, size([{copied}]) == {copies})");
        answer(&condition, &put().json(&format!("{{\"text\":\"{text}\",\"l\":[{}1]}}", "1,".repeat(items - 1))))
    };
    assert_eq!(sent(8, 200), Ok(true));
    assert_eq!(sent(1, 900), Ok(true));
    assert_eq!(sent(8, 900), Err("the arguments are too large for this condition".into()));
}

#[test]
fn every_place_gives_arguments() {
    assert_eq!(answer("args.key == \"k\" && size(args) == 1", &put()), Ok(true));
    let all = put().query("a=1&whole=2").form("b=x+y&truth=true");
    let condition = "args.key == \"k\" && args.a == \"1\" && args.whole == 2 && args.b == \"x y\" && args.truth";
    assert_eq!(answer(condition, &all), Ok(true));
    assert_eq!(answer("size(args) == 5", &all), Ok(true));
    let all = put().query("a=1").json(r#"{"b":[1,{"c":null}],"whole":2}"#);
    assert_eq!(answer("args.a == \"1\" && args.b[1].c == null && args.whole == 2 && size(args) == 4", &all), Ok(true));
}

#[test]
fn fields_are_split_and_decoded_as_everybody_does() {
    let any = || http(&["stripe"], &[], &[]);
    let field = |query: &str, condition: &str| http_outcome(any(), condition, &request("GET", "/a").query(query)).ok();
    for (query, condition) in [
        ("", "size(args) == 0"),
        ("&&a=1&", "args.a == \"1\" && size(args) == 1"),
        ("a", "args.a == \"\""),
        ("a=", "args.a == \"\""),
        ("=b", "args[\"\"] == \"b\""),
        ("a=b=c", "args.a == \"b=c\""),
        ("a=b+c", "args.a == \"b c\""),
        ("a=b%2Bc", "args.a == \"b+c\""),
        ("a=b+%2b", "args.a == \"b +\""),
        ("%61=%41%42", "args.a == \"AB\""),
        ("a=%C3%A4", "args.a == \"ä\""),
        ("a=x%41%41y%41", "args.a == \"xAAyA\""),
        ("a=%3B", "args.a == \";\""),
    ] {
        assert_eq!(field(query, condition), Some(true), "{query}");
        let condition = condition.replace("args", "request.query");
        if !condition.contains("size") {
            assert_eq!(field(query, &condition), Some(true), "{query}");
        }
    }
    for query in [
        "a=%",
        "a=%4",
        "a=%4g",
        "a=%g4",
        "a=xx%41yy%4",
        "a=%41%",
        "a=x%41%zz",
        "a=%41%4x41",
        "a=%ff",
        "a=+%ff",
        "a=%00",
        "a=1;b",
        "a=1&a=2",
        "a&a",
        "a=1&%61=2",
    ] {
        assert_eq!(field(query, "has(args.a)"), None, "{query}");
        assert_eq!(field(query, "\"a\" in request.query"), None, "{query}");
    }
}

#[test]
fn only_json_and_forms_in_utf8_have_arguments() {
    let sent = |content_type: &str, body: &str| {
        let request = put().body(Sent::Full(content_type.into(), body.into()));
        answer("args.a == \"1\"", &request)
    };
    for content_type in [
        "application/json",
        "application/json;charset=UTF-8",
        "application/json; Charset = \"utf-8\" ; x=y",
        "application/json; boundary=utf-16",
        "application/vnd.api+json",
    ] {
        assert_eq!(sent(content_type, r#"{"a":"1"}"#), Ok(true), "{content_type}");
    }
    for content_type in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=utf-8"] {
        assert_eq!(sent(content_type, "a=1"), Ok(true), "{content_type}");
    }
    for content_type in [
        "text/json",
        "text/vnd.api+json",
        "application/jsonx",
        "application/xml",
        "json",
        "application/json; charset=latin1",
        "application/json; charset",
        "application/x-www-form-urlencoded; charset=latin1",
        "multipart/form-data",
    ] {
        let said = sent(content_type, r#"{"a":"1"}"#);
        assert_eq!(said, Err(format!("bodies of type {content_type:?} have no arguments")), "{content_type}");
    }
    assert_eq!(sent("text/plain", ""), Err("there is no \"a\"".into()), "an empty body of any type has no arguments");
    assert_eq!(sent("application/json", "[]"), Err("the body is no JSON object".into()));
    let broken = sent("application/json", "{");
    assert_eq!(broken.unwrap_err(), "the body: expected a member name in double quotes at line 1 column 2");
    assert_eq!(sent("application/x-www-form-urlencoded", "a=%"), Err("the body: a percent-escape is broken".into()));
    let unread = answer("has(args.a)", &put().body(Sent::Unread));
    assert_eq!(unread, Err("the body was not read".into()));
    let unusable = answer("has(args.a)", &put().body(Sent::Unusable));
    assert_eq!(unusable, Err("the body is not usable: too large".into()));
    let not_utf8 = put().body(Sent::Full("application/x-www-form-urlencoded".into(), b"a=\xff".to_vec()));
    assert_eq!(answer("has(args.a)", &not_utf8), Err("the body is not UTF-8".into()));
}

#[test]
fn a_fact_that_cannot_be_told_fails_only_the_conditions_that_read_it() {
    let any = || http(&["stripe"], &[], &[]);
    let said = |condition: &str, request: &Request| http_outcome(any(), condition, request).ok();
    let slash = request("GET", "/a%2Fb").query("q=%zz");
    assert_eq!(said("request.path == \"/a/b\"", &slash), None);
    assert_eq!(said("request.query.q == \"1\"", &slash), None);
    assert_eq!(said("args.q == \"1\"", &slash), None);
    assert_eq!(said("request.method == \"GET\" && agent.pod == \"support-0\"", &slash), Some(true));
    let unknown = Request { headers: None, ..request("GET", "/%61").query("q=1") };
    assert_eq!(said("request.headers[\"x-a\"] == \"1\"", &unknown), None);
    assert_eq!(said("request.path == \"/a\" && request.query.q == \"1\" && args.q == \"1\"", &unknown), Some(true));
}

#[test]
fn a_header_has_one_value_or_none() {
    let any = || http(&["stripe"], &[], &[]);
    let read = "request.headers[\"x-env\"] == \"1\"";
    let there = "\"x-env\" in request.headers";
    let said = |request: &Request, condition: &str| http_outcome(any(), condition, request);
    let get = || request("GET", "/a");
    assert_eq!(said(&get().header("X-Env", "1"), read), Ok(true));
    assert_eq!(said(&get().header("x-env", "2"), read), Ok(false));
    assert_eq!(said(&get(), there), Ok(false));
    assert!(said(&get(), read).unwrap_err().contains("there is no \"x-env\""));
    for other in ["x-envs", "x-en", "x-emv", "xxenv", "y-env", "env"] {
        assert_eq!(said(&get().header("x-env", "1").header(other, "2"), read), Ok(true), "{other}");
        assert_eq!(said(&get().header(other, "1"), there), Ok(false), "{other}");
    }
    for alike in ["x_env", "x.env", "x~env"] {
        let both = get().header("x-env", "1").header(alike, "1");
        for sent in [both, get().header(alike, "1")] {
            for condition in [read, there] {
                let error = said(&sent, condition).unwrap_err();
                assert!(error.contains("is also sent with other separators in its name"), "{alike}: {error}");
            }
        }
    }
    let twice = get().header("x-env", "1").header("x-env", "1");
    assert!(said(&twice, read).unwrap_err().contains("the header \"x-env\" is sent twice"));
    let mut binary = get();
    let value = ::http::HeaderValue::from_bytes(b"\xe4").unwrap();
    binary.headers.as_mut().unwrap().insert("x-env", value);
    assert!(said(&binary, read).unwrap_err().contains("is not visible ASCII"));
}

#[test]
fn names_of_a_query_do_not_hide_behind_their_case() {
    let any = || http(&["stripe"], &[], &[]);
    let said = |query: &str, condition: &str| http_outcome(any(), condition, &request("GET", "/a").query(query)).ok();
    for condition in ["request.query.limit == \"5\"", "\"limit\" in request.query"] {
        assert_eq!(said("limit=5", condition), Some(true));
        assert_eq!(said("Limit=5", condition), None, "some receivers would read it");
    }
    assert_eq!(said("limits=5&limi=5", "\"limit\" in request.query"), Some(false));
    assert_eq!(said("limit=5&LIMIT=6", "request.query.limit == \"5\""), Some(true), "the exact name is there");
    assert_eq!(said("limit=5&LIMIT=6", "args.limit == \"5\""), None, "but as arguments they are one");
}

#[test]
fn objects_are_equal_when_all_their_members_are() {
    let args =
        r#"{"a":{"x":1,"y":[2]},"b":{"y":[2],"x":1},"c":{"x":1,"y":[3]},"d":{"x":1,"z":[2]},"e":{"x":1},"f":{}}"#;
    assert_eq!(outcome("args.a == args.b && args.a == args.a && args.f == args.f", args), Ok(true));
    for other in ["c", "d", "e", "f"] {
        assert_eq!(outcome(&format!("args.a == args.{other}"), args), Ok(false), "{other}");
        assert_eq!(outcome(&format!("args.a != args.{other} && args.{other} != args.a"), args), Ok(true), "{other}");
    }
    assert_eq!(outcome("args.a == args.l || args.a == 1", r#"{"a":{},"l":[]}"#), Ok(false));
    assert_eq!(
        outcome("args.l == args.m && args.l != args.n", r#"{"l":[{"a":1}],"m":[{"a":1}],"n":[{"a":2}]}"#),
        Ok(true)
    );
}

#[test]
fn names_are_looked_up_exactly_among_few_and_among_many() {
    for count in 1..20 {
        let members: Vec<String> = (0..count).map(|n| format!("\"name{n}\":{n}")).collect();
        let object = |more: &str| format!("{{{}{more}}}", members.join(","));
        for n in 0..count {
            assert_eq!(outcome(&format!("args.name{n} == {n}"), &object("")), Ok(true), "{count}");
            assert!(outcome(&format!("has(args.Name{n})"), &object("")).is_err(), "{count}");
            let error = outcome("has(args.x)", &object(&format!(",\"NAME{n}\":1"))).unwrap_err();
            assert!(error.contains("appears twice, maybe in different case"), "{error}");
        }
        assert_eq!(outcome("has(args.x) || \"x\" in args", &object("")), Ok(false));
        assert_eq!(outcome(&format!("size(args) == {count}"), &object("")), Ok(true));
    }
}
