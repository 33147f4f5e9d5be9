//! Classes of attack that broke systems like this one, as far as they concern the engine.

use clawlock_policy::document::{Document, Scheme, Tier, UpstreamDoc};
use clawlock_policy::pattern::{HostPattern, OperationPattern, PathPattern, ToolPattern};
use clawlock_policy::{HostName, RequestPath, json};

use crate::fixtures::*;

#[test]
fn class04_host_spellings() {
    let host = |text: &str| HostName::parse(text).map(|host| host.as_str().to_owned()).ok();
    assert_eq!(host("API.Stripe.Com").as_deref(), Some("api.stripe.com"), "case is folded");
    for spelling in [
        "api.stripe.com.",
        "[api.stripe.com]",
        "api%2estripe.com",
        "api.stripe%00.com",
        "api。stripe。com",
        "api．stripe.com",
        "user@api.stripe.com",
        "api.stripe.com:443",
        "api.stripe.com/",
        "api..stripe.com",
        ".api.stripe.com",
        " api.stripe.com",
        "api.stripe.com\n",
        "-api.stripe.com",
        "127.0.0.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "127.1",
        "1.2.3.0x4",
        "[::1]",
        "::1",
        "[::ffff:127.0.0.1]",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "",
        "a.0x",
    ] {
        assert_eq!(host(spelling), None, "{spelling}");
    }
    assert_eq!(host(&format!("{}.com", "a".repeat(64))), None);
    assert_eq!(host("a.".repeat(127).trim_end_matches('.')).map(|h| h.len()), Some(253));
    assert_eq!(host(&format!("{}a", "a.".repeat(127))), None);
}

#[test]
fn class04_an_upstream_is_found_by_its_exact_triple_only() {
    let policy = build(vec![tenant(vec![]), stripe()]);
    let name = |scheme, host: &str, port| {
        policy.upstream(scheme, &HostName::parse(host).unwrap(), port).map(|upstream| upstream.name.to_string())
    };
    assert_eq!(name(Scheme::Https, "API.STRIPE.COM", 443).as_deref(), Some("stripe"));
    assert_eq!(name(Scheme::Http, "api.stripe.com", 443), None);
    assert_eq!(name(Scheme::Https, "api.stripe.com", 80), None);
    assert_eq!(name(Scheme::Https, "api.stripe.com.evil.example", 443), None);
    assert_eq!(name(Scheme::Https, "xapi.stripe.com", 443), None);
    assert_eq!(name(Scheme::Https, "stripe.com", 443), None);
}

#[test]
fn class07_literals_are_literal() {
    let host =
        |pattern: &str, name: &str| HostPattern::parse(pattern).unwrap().matches(&HostName::parse(name).unwrap());
    assert!(host("api.stripe.com", "api.stripe.com"));
    assert!(!host("api.stripe.com", "apixstripe.com"));
    assert!(!host("api.stripe.com", "apixstripexcom.com"));
    assert!(host("*.example.com", "a.example.com"));
    assert!(!host("*.example.com", "a.b.example.com"), "a star is one label");
    assert!(!host("*.example.com", "example.com"));
    assert!(!host("*.example.com", "aexample.com"));
    assert!(host("a*.example.com", "api.example.com"));
    let tool = |pattern: &str, name: &str| ToolPattern::parse(pattern).unwrap().matches(name);
    assert!(tool("a.c", "a.c") && !tool("a.c", "abc"));
    assert!(tool("a[bc]", "a[bc]") && !tool("a[bc]", "ab"));
    assert!(tool("(x|y)+", "(x|y)+") && !tool("(x|y)+", "x"));
    assert!(tool("a?", "a?") && !tool("a?", "ab"));
    assert!(!tool("exec", "EXEC") && !tool("exec", "exec ") && !tool("exec", "exec\0"));
    let operation =
        |pattern: &str, upstream: &str, name: &str| OperationPattern::parse(pattern).unwrap().matches(upstream, name);
    assert!(operation("stripe.list_*", "stripe", "list_customers"));
    assert!(!operation("stripe.list_*", "stripe", "list.customers"), "a star stays in its segment");
    assert!(!operation("stripe.list_*", "stripexlist_", "a"));
    assert!(!operation("*.get", "stripe", "v2.get"));
    assert!(operation("*.*", "stripe", "get") && !operation("*.*", "stripe", "a.b"));
    let path = |pattern: &str, path: &str| {
        let path = RequestPath::parse(path).unwrap();
        PathPattern::parse(pattern).unwrap().matches(&path.segments().collect::<Vec<_>>())
    };
    assert!(path("/v1.0/x", "/v1.0/x") && !path("/v1.0/x", "/v1a0/x"));
    assert!(!path("/a", "/A"));
}

#[test]
fn class07_wildcards_need_an_upstream_without_a_credential() {
    let doc = UpstreamDoc { hosts: strings(&["*.stripe.com"]), ..upstream_doc("stripe", "x") };
    let error = try_build(vec![tenant(vec![]), Document::Upstream(doc)]).unwrap_err();
    assert!(error.to_string().contains("no wildcard host such as *.stripe.com"), "{error}");
}

#[test]
fn class12_path_spellings_have_one_reading_or_none() {
    for path in [
        "v1/refunds",
        "",
        "//v1",
        "/v1//refunds",
        "/v1/../admin",
        "/v1/..",
        "/./v1",
        "/v1/..;x/admin",
        "/v1;x/refunds",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/.%2e",
        "/v1/a%2f..%2fadmin",
        "/v1/%2f",
        "/v1/a%2f",
        "/v1#x",
        "/v1?x",
        "/v1\\admin",
        "/v1/%5cadmin",
        "/v1/%3badmin",
        "/v1/%00",
        "/v1/%0a",
        "/v1/%",
        "/v1/%4",
        "/v1/%zz",
        "/v1/%ff",
        "/v1/ä",
        "/v1/a b",
        "/v1/\t",
        "/v1/a\n",
        "/v1/%c0%ae",
        "/v1/\"",
        "/v1/{id}",
        "*",
        "http://x/",
    ] {
        assert!(RequestPath::parse(path).is_err(), "{path:?}");
    }
    for path in
        ["/", "/v1/", "/v1/a%2Fb", "/v1/%61", "/v1/a%20b", "/v1/...", "/v1/a.b", "/v1/~x", "/v1/a:b@c!$&'()*+,="]
    {
        assert_eq!(RequestPath::parse(path).unwrap().as_str(), path, "what is decided on is what is forwarded");
    }
}

#[test]
fn class12_a_block_cannot_be_spelled_around() {
    let rules = vec![
        rule("no-admin", http(&["stripe"], &[], &["/admin/**", "/v1/keys"]), Tier::Block),
        rule("rest", http(&["stripe"], &[], &["/**"]), Tier::Auto),
    ];
    let policy = build(vec![tenant(vec![]), stripe(), enforce("acme/p", rules)]);
    for path in ["/admin", "/admin/", "/admin/x", "/%61dmin/x", "/%61%64%6d%69%6e", "/v1/keys", "/v1/%6beys"] {
        assert_eq!(short(&request("GET", path).decide(&policy)), "deny TierBlock", "{path}");
    }
    for path in ["/adminx", "/", "/v1/keys/x", "/Admin", "/v1/keys%2Fx"] {
        assert_eq!(short(&request("GET", path).decide(&policy)), "allow", "{path}");
    }
}

#[test]
fn class12_an_encoded_slash_matches_double_stars_only() {
    let matches = |pattern: &str, path: &str| {
        let path = RequestPath::parse(path).unwrap();
        PathPattern::parse(pattern).unwrap().matches(&path.segments().collect::<Vec<_>>())
    };
    assert!(matches("/v1/*", "/v1/ab"));
    assert!(!matches("/v1/*", "/v1/a%2Fb"));
    assert!(matches("/v1/**", "/v1/a%2Fb"));
    assert!(!matches("/v1/*/c", "/v1/a%2Fb/c"));
    assert!(!matches("/v1/a/b", "/v1/a%2Fb"));
    assert!(matches("/**/c", "/v1/a%2Fb/c"));
}

#[test]
fn class13_one_reading_of_json_or_none() {
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"x":{"a":1,"a":1}}"#,
        r#"[{"a":1,"b":2,"a":3}]"#,
        "{} {}",
        "{}x",
        "{}\0",
        "[1]]",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "NaN",
        "Infinity",
        "-",
        "01",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x10",
        "1e400",
        "18446744073709551616",
        "tru",
        "\"\u{1}\"",
        "\"a\nb\"",
        r#""\x41""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\u12""#,
        "\"open",
        "// comment\n1",
        "\u{feff}{}",
        "",
        " ",
    ] {
        assert!(json::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(json::parse(b"\"\xff\"").is_err());
    for text in [
        "{}",
        " [1, 2.5e-3, -1, true, null] ",
        r#"{"a":{"a":{"A":1}}}"#,
        r#""\ud83d\ude00\n\/""#,
        "-9223372036854775808",
    ] {
        let ours = json::parse(text.as_bytes()).unwrap();
        assert_eq!(ours, serde_json::from_str::<serde_json::Value>(text).unwrap(), "{text}");
    }
}

#[test]
fn class13_many_names_are_checked_too() {
    let members: Vec<String> = (0..500).map(|n| format!("\"n{n}\":{n}")).collect();
    let object = |extra: &str| format!("{{{}{extra}}}", members.join(","));
    assert!(json::parse(object("").as_bytes()).is_ok());
    let error = json::parse(object(",\"n3\":1").as_bytes()).unwrap_err();
    assert_eq!(error.reason, "the member \"n3\" appears twice");
    assert!(json::parse(object(",\"n499\":1").as_bytes()).is_err());
    assert!(outcome("has(args.n1)", &object(",\"N3\":1")).is_err(), "case");
    assert_eq!(outcome("args.n1 == 1", &object("")), Ok(true));
}

#[test]
fn class13_depth_and_size_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(json::parse(nested(json::MAX_DEPTH).as_bytes()).is_ok());
    assert!(json::parse(nested(json::MAX_DEPTH + 1).as_bytes()).is_err());
    assert!(json::parse("[".repeat(1_000_000).as_bytes()).is_err());
    assert!(json::parse("{\"a\":".repeat(1_000_000).as_bytes()).is_err());
    let large = format!("\"{}\"", "a".repeat(json::MAX_JSON));
    assert!(json::parse(large.as_bytes()).is_err());
}

#[test]
fn class13_an_error_has_its_place() {
    let error = json::parse(b"{\n  \"a\": 1,\n  \"a\": 2\n}").unwrap_err();
    assert_eq!(error.to_string(), "the member \"a\" appears twice at line 3 column 3");
    let error = json::parse(b"{} x").unwrap_err();
    assert_eq!((error.line, error.column), (1, 4));
}

#[test]
fn class13_wrong_case_names_cannot_hide() {
    // A receiver that ignores case (Go) would read 5000 in each of these.
    for args in [r#"{"Amount":5000}"#, r#"{"AMOUNT":5000}"#, r#"{"amount":1,"Amount":5000}"#, r#"{"\u0041mount":5000}"#]
    {
        assert!(outcome("has(args.amount) && args.amount > 1000", args).is_err(), "{args}");
        assert!(outcome("\"amount\" in args", args).is_err(), "{args}");
    }
    assert!(outcome("has(args.kelvin)", "{\"\u{212a}elvin\":1}").is_err(), "KELVIN SIGN folds to k");
    assert!(outcome("has(args.style)", "{\"\u{17f}tyle\":1}").is_err(), "LONG S folds to s");
    assert!(outcome("has(args.o.amount)", r#"{"o":{"Amount":1}}"#).is_err(), "at any depth");
    assert_eq!(outcome("has(args.amount)", r#"{"total":1}"#), Ok(false));
}

#[test]
fn class13_one_value_per_name_over_all_places() {
    let refund = || operations(&["stripe.create_refund"]);
    let get = || operations(&["stripe.get_customer"]);
    let large = "args.amount > 1000";
    let post = || request("POST", "/v1/refunds");
    assert_eq!(http_outcome(refund(), large, &post().json(r#"{"amount":1}"#)), Ok(false));
    for sent in [
        post().query("amount=5000").json(r#"{"amount":1}"#),
        post().query("amount=1").json(r#"{"amount":5000}"#),
        post().query("Amount=5000").json(r#"{"amount":1}"#),
        post().query("amount=1&amount=5000"),
        post().query("amount=1;amount=5000"),
        post().query("amount=1&%61mount=5000"),
        post().form("amount=1&amount=5000"),
        post().query("amount=1").form("amount=5000"),
        post().json(r#"{"amount":1,"amount":5000}"#),
        post().json(r#"{"amount":1}{"amount":5000}"#),
        post().json(r#"[{"amount":1}]"#),
    ] {
        assert!(http_outcome(refund(), large, &sent).is_err(), "{sent:?}");
    }
    let customer = request("GET", "/v1/customers/cus_1");
    assert_eq!(http_outcome(get(), "args.id == \"cus_1\"", &customer), Ok(true));
    assert!(http_outcome(get(), "args.id == \"cus_1\"", &customer.query("id=cus_2")).is_err());
}
