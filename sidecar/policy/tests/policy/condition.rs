//! Conditions: what the checker refuses, and what an evaluation answers.

use clawlock_policy::condition::{Condition, MAX_CONDITION, MAX_REGEX, Target};
use clawlock_policy::document::{ArgumentDoc, ArgumentType};

use crate::fixtures::*;

fn refusal(condition: &str, target: &Target) -> String {
    match Condition::parse(condition, target) {
        Ok(_) => panic!("{condition} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn declared() -> Target {
    let argument = |name: &str, kind| ArgumentDoc { name: name.into(), kind };
    Target::operations([[
        argument("amount", ArgumentType::Integer),
        argument("rate", ArgumentType::Number),
        argument("currency", ArgumentType::String),
        argument("live", ArgumentType::Boolean),
    ]
    .as_slice()])
}

#[test]
fn what_does_not_exist_is_refused_and_named() {
    for (condition, part) in [
        ("user.name == \"x\"", "\"user\" is not known"),
        ("amount > 5", "\"amount\" is not known"),
        ("request.metod == \"GET\"", "request has no \"metod\""),
        ("request[\"method\"] == \"GET\"", "write one of request.method"),
        ("request == 1", "write one of request.method"),
        ("agent == 1", "write one of agent.namespace"),
        ("agent.name == \"x\"", "agent has no \"name\""),
        ("time.later > time.now", "time has no \"later\""),
        ("time == time", "write time.now"),
        ("has(request.method)", "is always there"),
        ("args.x.lower() == \"x\"", "\"lower\" is no function"),
        ("type(args.x) == int", "\"type\" is no function"),
        ("dyn(args.x) == 1", "\"dyn\" is no function"),
        ("optional.of(args.x).hasValue()", "no function"),
        (".args.x == 1", "is not known"),
        ("google.protobuf.Timestamp{} == time.now", "messages are not available"),
        ("args.?x == 1", "not a CEL expression"),
        ("request.headers[\"X-Upper\"] == \"1\"", "is no header name in lower case"),
        ("request.headers[\"a b\"] == \"1\"", "is no header name in lower case"),
    ] {
        let error = refusal(condition, &declared());
        assert!(error.contains(part), "{condition}: {error}");
    }
}

#[test]
fn a_text_is_no_list_of_its_parts() {
    let error = refusal("\"a\" in request.host", &declared());
    assert!(error.contains("a string cannot be in a string; write text.contains(part)"), "{error}");
    let error = refusal("\"a\" in request.port", &declared());
    assert!(error.contains("a string cannot be in a int (line"), "{error}");
}

#[test]
fn a_rule_about_tools_has_no_request() {
    let error = refusal("request.method == \"GET\"", &Target::tools());
    assert!(error.contains("a rule about tools has no request"), "{error}");
    Condition::parse("agent.pod == \"x\" && args.path.startsWith(\"/w/\")", &Target::tools()).unwrap();
}

#[test]
fn types_that_cannot_meet_are_refused() {
    for condition in [
        "request.port == \"443\"",
        "request.port > \"443\"",
        "request.method + 1 == \"x\"",
        "args.amount == \"5\"",
        "args.currency > 5",
        "args.amount > 1.5 + 1",
        "args.amount + 1.5 > 2.0",
        "args.live == 1",
        "!args.amount",
        "args.amount && args.live",
        "args.live ? 1 : 2",
        "request.port",
        "\"true\"",
        "time.now > 5",
        "time.now + time.now == time.now",
        "args.rate % 2.0 == 0.0",
        "args.currency.contains(5)",
        "size(args.amount) == 1",
        "request.method in request.host",
        "request.port in [\"443\"]",
        "args.amount.currency == 1",
        "args.currency[0] == \"u\"",
        "args == {}",
        "{\"a\": 1} == args.x",
        "[{\"a\": 1}] == args.x",
        "request.query == request.query",
        "agent.labels.all(l, true)",
        "request.headers.exists(h, h == \"x\")",
        "size(agent.labels) == 1",
        "-args.currency == 1",
        "int(true) == 1",
        "{time.now: 1}[time.now] == 1",
        "time.now.getHours(5) == 1",
        "has(args.amount.x)",
        "null > 1",
        "args.amount == null",
    ] {
        assert!(Condition::parse(condition, &declared()).is_err(), "{condition} was accepted");
    }
}

#[test]
fn what_makes_sense_is_accepted() {
    for condition in [
        "args.amount > 1000 && args.currency == \"usd\"",
        "args.rate >= 1 && args.amount < 2.5",
        "args.live || !has(args.live)",
        "has(args.undeclared) && args.undeclared.deep[0].x == \"y\"",
        "\"x\" in args",
        "args[\"odd name\"] == 1",
        "size(args) < 5 && args.all(name, name in [\"amount\", \"currency\"])",
        "request.method in [\"GET\", \"HEAD\"] && request.port == 443",
        "request.headers[\"x-tenant\"].startsWith(\"a\")",
        "request.query.limit == \"5\" && !(\"cursor\" in request.query)",
        "agent.labels.app == \"support\" || agent.labels[\"example.com/team\"] == \"x\"",
        "has(agent.labels.app)",
        "time.now < timestamp(\"2030-01-01T00:00:00Z\") - duration(\"24h\")",
        "time.now.getDayOfWeek(\"America/New_York\") in [1, 2, 3, 4, 5]",
        "args.currency.matches(\"^[a-z]{3}$\") && !matches(args.note, \"(?i)secret\")",
        "args.items.exists(i, i.price > 100) || args.items.all(i, i.tags.exists_one(t, t == \"x\"))",
        "args.items.filter(i, i > 1).size() > 2 && args.items.map(i, i * 2)[0] == 2",
        "{\"usd\": 1000, \"eur\": 900}[args.currency] >= args.amount",
        "string(args.amount) + \"x\" == \"5x\" && int(args.rate) == 5 && double(args.amount) > 1.5",
        "args.undeclared == null",
        "args.live",
        "true",
    ] {
        if let Err(error) = Condition::parse(condition, &declared()) {
            panic!("{condition}: {error}");
        }
    }
}

#[test]
fn an_error_has_its_place() {
    let error = Condition::parse("request.port == 443 &&\n  agent.nme == \"x\"", &declared()).unwrap_err();
    assert_eq!((error.line, error.column), (2, 8), "{error}");
    let error = Condition::parse("\"äöü\" == \"x\" && nope == 1", &declared()).unwrap_err();
    assert_eq!((error.line, error.column), (1, 17), "{error}");
    let error = Condition::parse("args.live &&\n  args.amount >", &declared()).unwrap_err();
    assert_eq!(error.line, 2, "{error}");
    let said = error.reason.strip_prefix("not a CEL expression: ").unwrap();
    assert!(said.contains("<EOF>") && !said.contains(char::is_control), "{error}");
    let condition = Condition::parse("args.live", &declared()).unwrap();
    assert_eq!((format!("{condition:?}"), &**condition.text()), ("Condition(\"args.live\")".into(), "args.live"));
}

#[test]
fn a_type_is_known_when_all_operations_agree() {
    let argument = |kind| [ArgumentDoc { name: "amount".into(), kind }];
    let (integer, text) = (argument(ArgumentType::Integer), argument(ArgumentType::String));
    let same = Target::operations([integer.as_slice(), integer.as_slice()]);
    assert!(Condition::parse("args.amount == \"5\"", &same).is_err());
    for target in [
        Target::operations([integer.as_slice(), text.as_slice()]),
        Target::operations([integer.as_slice(), [].as_slice()]),
        Target::operations([]),
        Target::http(),
    ] {
        Condition::parse("args.amount == \"5\"", &target).unwrap();
    }
}

#[test]
fn bounds_hold() {
    let refused = |condition: String| {
        let error = refusal(&condition, &Target::tools());
        assert!(error.len() < 400, "{error}");
    };
    refused(format!("args.x == \"{}\"", "a".repeat(MAX_CONDITION)));
    refused(format!("{}true{}", "(".repeat(200), ")".repeat(200)));
    refused("!".repeat(300) + "true");
    refused("- ".repeat(300) + "1 == 1");
    refused(format!("args.x == 1{}", " && args.x == 1".repeat(260)));
    refused(format!("args.{} == 1", "x.".repeat(150) + "x"));
    refused(format!("{}true{}", "true ? ".repeat(150), " : true".repeat(150)));
    refused(String::new());
    refused(" \n ".into());
    refused("args.x == \"\0\"".into());
    refused("args.a.all(x, args.b.all(y, args.c.all(z, args.d.all(u, true))))".into());
    refused("args.a.all(x, args.b.all(y, args.c.all(z, x == args.y)))".into());
    refused(format!("[{}1].all(a, [{}1].all(b, true))", "1,".repeat(400), "1,".repeat(400)));
    refused(format!("args.x.matches(\"{}\")", "a".repeat(MAX_REGEX + 1)));
    refused("args.x.matches(\"(a{1000}){1000}\")".into());
    refused("args.x.matches(\"(\")".into());
    refused("args.x.matches(args.pattern)".into());
    refused("args.x.matches(\"a\" + \"b\")".into());
    refused("args.a.all(args, true)".into());
}

#[test]
fn long_and_deep_conditions_end_in_an_answer() {
    // Each fills a condition with one construct; the parser, the checker and the evaluation recurse.
    let shapes = [
        ("1", "+1", " == 1"),
        ("1", "<1", ""),
        ("1", "==1", ""),
        ("1", " in 1", ""),
        ("true", "&&true", ""),
        ("true", "||true", ""),
        ("true", "&&true||true", ""),
        ("args", ".x", " == 1"),
        ("args", "[0]", " == 1"),
        ("args.x", ".size()", " == 1"),
        ("true", "?true:true", ""),
        ("", "true?true:", "true"),
        ("", "(", ""),
        ("", ")", ""),
        ("", "{1:", ""),
        ("", "!", "true"),
        ("", "- ", "1 == 1"),
        ("", "a?", ""),
        ("", "args.all(x,", ""),
        ("", "\"", ""),
        ("", "`", ""),
        ("", "//\n", ""),
        ("", "9", ""),
        ("args in [", "1,", "1]"),
    ];
    let mut accepted = 0;
    for (start, part, end) in shapes {
        for count in [1, 30, 60, 120, (MAX_CONDITION - start.len() - end.len()) / part.len()] {
            let text = format!("{start}{}{end}", part.repeat(count));
            if Condition::parse(&text, &Target::tools()).is_ok() {
                accepted += 1;
                let _ = outcome(&text, r#"{"x":1}"#);
            }
        }
    }
    assert!(accepted > 20, "only {accepted} of the shapes were evaluated");
}

#[test]
fn a_call_that_always_fails_is_refused() {
    for condition in [
        "time.now > timestamp(\"tomorrow\")",
        "time.now - timestamp(\"2026-01-01T00:00:00Z\") > duration(\"a day\")",
        "time.now.getHours(\"Mars/Olympus\") > 1",
        "int(\"x\") == 1",
    ] {
        let error = refusal(condition, &Target::tools());
        assert!(error.contains("always fails"), "{condition}: {error}");
    }
}

#[test]
fn integers_and_doubles_compare_by_value() {
    for (args, expected) in [
        (r#"{"amount":1001}"#, true),
        (r#"{"amount":1000}"#, false),
        (r#"{"amount":1000.5}"#, true),
        (r#"{"amount":999.5}"#, false),
        (r#"{"amount":1e3}"#, false),
        (r#"{"amount":-5}"#, false),
    ] {
        assert_eq!(outcome("args.amount > 1000", args), Ok(expected), "{args}");
    }
    assert_eq!(outcome("args.amount == 5", r#"{"amount":5.0}"#), Ok(true));
    assert_eq!(outcome("args.amount > 1.5", r#"{"amount":2}"#), Ok(true));
}

#[test]
fn numbers_that_do_not_fit_are_errors() {
    for args in [
        r#"{"amount":9223372036854775808}"#,
        r#"{"amount":18446744073709551616}"#,
        r#"{"amount":-9223372036854775809}"#,
        r#"{"amount":1e400}"#,
        r#"{"other":99999999999999999999,"amount":1}"#,
    ] {
        assert!(outcome("args.amount > 1000", args).is_err(), "{args}");
    }
    assert_eq!(outcome("args.amount > 1000", r#"{"amount":9223372036854775807}"#), Ok(true));
    assert!(outcome("args.amount + 1 > 0", r#"{"amount":9223372036854775807}"#).is_err());
    assert!(outcome("-args.amount > 0", r#"{"amount":-9223372036854775808}"#).is_err());
    assert!(outcome("args.amount / -1 > 0", r#"{"amount":-9223372036854775808}"#).is_err());
    assert!(outcome("args.amount % -1 == 0", r#"{"amount":-9223372036854775808}"#).is_err());
    assert!(outcome("1 / args.amount == 0", r#"{"amount":0}"#).is_err());
}

#[test]
fn values_of_every_kind_are_seen() {
    let args = r#"{"s":"a\u0062","t":true,"n":null,"l":[1,"x",{"y":2}],"o":{"p":{"q":"deep"}}}"#;
    for condition in [
        "args.s == \"ab\"",
        "args.t",
        "args.n == null",
        "args.l[0] == 1 && args.l[1] == \"x\" && args.l[2].y == 2",
        "args.l.exists(x, x == \"x\")",
        "size(args.l) == 3 && size(args.o) == 1 && size(args) == 5",
        "args.o.p.q == \"deep\" && args[\"o\"][\"p\"][\"q\"].endsWith(\"ep\")",
        "\"p\" in args.o && !(\"q\" in args.o) && has(args.o.p.q) && !has(args.o.r)",
        "args.all(name, size(name) == 1) && !args.all(name, name == \"s\")",
        "args.exists(name, name == \"o\") && args.o.map(name, name) == [\"p\"] && !args.exists(name, name == \"p\")",
        "args.o == args.o && args.l == args.l && !(args.o == args.l)",
        "args.l == args.l && 1 in args.l",
        "args.s.matches(\"^a.$\") && matches(args.s, \"b\") && !args.s.matches(\"c\")",
        "args.l.map(x, string(x) == \"x\" ? \"y\" : \"z\").exists(x, x == \"y\") || true",
    ] {
        assert_eq!(outcome(condition, args), Ok(true), "{condition}");
    }
    for condition in
        ["args.missing == 1", "args.o.missing == 1", "args.l[7] == 1", "args.s", "args.s.x == 1", "args.l.x == 1"]
    {
        assert!(outcome(condition, args).is_err(), "{condition}");
    }
}

#[test]
fn the_arguments_must_be_an_object() {
    for args in ["[]", "1", "", "null", "{", "{}x", "{'a':1}"] {
        assert!(outcome("has(args.x)", args).is_err(), "{args}");
    }
}

#[test]
fn an_evaluation_is_bounded_whatever_the_arguments() {
    let items = |count: usize| format!("{{\"l\":[{}1]}}", "1,".repeat(count));
    let once = "args.l.all(x, x > 0)";
    let nested = "args.l.all(x, args.l.all(y, x + y > 0))";
    assert_eq!(outcome(once, &items(10_000)), Ok(true));
    assert!(outcome(once, &items(1_000_000)).is_err());
    assert_eq!(outcome(nested, &items(30)), Ok(true));
    assert!(outcome(nested, &items(2_000)).is_err());
    assert_eq!(outcome("args.l[0] == 1", &items(1_000_000)), Ok(true), "without a loop size is no matter");
    for quadratic in [
        "args.l.all(x, x in args.l)",
        "args.l.all(x, args.l == args.l)",
        "size(args.l.map(x, args.l)) > 1",
        "args.l.all(x, size(args.l + args.l) > 1)",
    ] {
        assert_eq!(outcome(quadratic, &items(100)), Ok(true), "{quadratic}");
        assert!(outcome(quadratic, &items(5_000)).is_err(), "{quadratic}");
    }
    let long = format!("{{\"t\":\"{}\",\"l\":[{}1]}}", "a".repeat(1_000_000), "1,".repeat(1_000));
    assert!(outcome("args.l.all(x, !args.t.contains(\"b\"))", &long).is_err());
}

#[test]
fn requests_have_their_facts() {
    let any = || http(&["stripe"], &[], &[]);
    let get = request("GET", "/v1/%61dmin").query("limit=5&q=a+b%21").header("x-a", "1").header("x-two", "1");
    let get = get.header("x-two", "2");
    for condition in [
        "request.method == \"GET\" && request.host == \"api.stripe.com\" && request.port == 443",
        "request.path == \"/v1/admin\"",
        "request.query.limit == \"5\" && request.query[\"q\"] == \"a b!\"",
        "request.headers[\"x-a\"] == \"1\" && !(\"x-b\" in request.headers)",
        "agent.namespace == \"acme\" && agent.serviceAccount == \"support\" && agent.pod == \"support-0\"",
        "agent.labels.app == \"support-agent\" && !has(agent.labels.nope)",
        "args.limit == \"5\" && args.q == \"a b!\"",
    ] {
        assert_eq!(http_outcome(any(), condition, &get), Ok(true), "{condition}");
    }
    for condition in [
        "request.headers[\"x-two\"] == \"1\"",
        "\"x-two\" in request.headers",
        "request.headers[\"x-b\"] == \"1\"",
        "agent.labels.nope == \"x\"",
    ] {
        assert!(http_outcome(any(), condition, &get).is_err(), "{condition}");
    }
    let slash = request("GET", "/v1/a%2Fb");
    assert!(http_outcome(any(), "request.path == \"/v1/a/b\"", &slash).is_err());
}

#[test]
fn declared_arguments_are_parsed_from_every_place() {
    let customers = || operations(&["stripe.list_customers"]);
    for (query, expected) in [
        ("limit=100", Some(true)),
        ("limit=5", Some(false)),
        ("limit=-3", Some(false)),
        ("limit=+5", None),
        ("limit=05", None),
        ("limit=5.0", None),
        ("limit=five", None),
        ("limit=", None),
        ("limit=9223372036854775808", None),
        ("", None),
    ] {
        let list = request("GET", "/v1/customers").query(query);
        assert_eq!(http_outcome(customers(), "args.limit > 10", &list).ok(), expected, "{query}");
    }
    let search = |query: &str| request("GET", "/v1/customers/search").query(query);
    let exact = |query: &str| http_outcome(operations(&["stripe.search"]), "args.exact", &search(query)).ok();
    assert_eq!(exact("exact=true"), Some(true));
    assert_eq!(exact("exact=false"), Some(false));
    assert_eq!(exact("exact=True"), None);
    let refund = |body: &str| {
        http_outcome(
            operations(&["stripe.create_refund"]),
            "args.amount > 10",
            &request("POST", "/v1/refunds").json(body),
        )
        .ok()
    };
    assert_eq!(refund(r#"{"amount":11}"#), Some(true));
    assert_eq!(refund(r#"{"amount":11.0}"#), None);
    assert_eq!(refund(r#"{"amount":"11"}"#), None);
    assert_eq!(refund(r#"{"amount":null}"#), None);
    let form = request("POST", "/v1/refunds").form("amount=11&note=x");
    assert_eq!(http_outcome(operations(&["stripe.create_refund"]), "args.amount > 10", &form), Ok(true));
    let rate = |body: &str| {
        let put = request("PUT", "/v1/rates/usd").json(body);
        http_outcome(operations(&["stripe.set_rate"]), "args.rate > 1.5 && args.currency == \"usd\"", &put).ok()
    };
    assert_eq!(rate(r#"{"rate":2}"#), Some(true));
    assert_eq!(rate(r#"{"rate":1.75}"#), Some(true));
    assert_eq!(rate(r#"{"rate":9007199254740993}"#), None, "no double holds it");
    assert_eq!(rate(r#"{"rate":"2"}"#), None);
}

#[test]
fn bodies_without_arguments_are_errors() {
    let refund = || operations(&["stripe.create_refund"]);
    let post = |content_type: &str, body: &str| {
        let post = request("POST", "/v1/refunds").body(Sent::Full(content_type.into(), body.into()));
        http_outcome(refund(), "has(args.amount)", &post).ok()
    };
    assert_eq!(post("application/json", r#"{"amount":1}"#), Some(true));
    assert_eq!(post("application/json; charset=utf-8", r#"{"amount":1}"#), Some(true));
    assert_eq!(post("application/merge-patch+json", r#"{"amount":1}"#), Some(true));
    assert_eq!(post("Application/JSON", r#"{"amount":1}"#), Some(true));
    assert_eq!(post("text/plain", ""), Some(false), "an empty body has no arguments");
    for (content_type, body) in [
        ("", r#"{"amount":1}"#),
        ("text/plain", r#"{"amount":1}"#),
        ("multipart/form-data; boundary=x", "--x--"),
        ("application/json; charset=utf-16", r#"{"amount":1}"#),
        ("application/json; charset", r#"{"amount":1}"#),
        ("application/json, text/plain", r#"{"amount":1}"#),
        ("application/json", "[1]"),
        ("application/x-www-form-urlencoded", "amount=1&amount=2"),
        ("application/x-www-form-urlencoded", "amount=%zz"),
        ("application/x-www-form-urlencoded", "amount=%ff"),
    ] {
        assert_eq!(post(content_type, body), None, "{content_type} {body}");
    }
}

#[test]
fn errors_name_no_values() {
    let error = outcome("args.secret > 5", r#"{"secret":"hunter2"}"#).unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
    let error = outcome("int(args.secret) > 5", r#"{"secret":"hunter2"}"#).unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
    let error = outcome("args.secret + 5 > 5", r#"{"secret":"hunter2"}"#).unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn alternatives_survive_the_failure_of_the_other_side() {
    assert_eq!(outcome("args.missing > 5 || args.x == 1", r#"{"x":1}"#), Ok(true));
    assert_eq!(outcome("args.missing > 5 && args.x == 2", r#"{"x":1}"#), Ok(false));
    assert!(outcome("args.missing > 5 || args.x == 2", r#"{"x":1}"#).is_err());
}
