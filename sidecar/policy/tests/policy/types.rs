//! Types: which operators and functions apply to what, and what type their results have.

use std::collections::BTreeSet;

use clawlock_policy::condition::{Condition, Target};
use clawlock_policy::document::{ArgumentDoc, ArgumentType};

use crate::fixtures::outcome;

fn accepted(condition: &str) -> bool {
    Condition::parse(condition, &Target::http()).is_ok()
}

/// An expression of each type. Maps stand for themselves only, so they are not among them.
const VALUES: [(&str, &str); 11] = [
    ("int", "2"),
    ("uint", "2u"),
    ("double", "1.5"),
    ("string", "request.method"),
    ("bytes", "b\"a\""),
    ("bool", "true"),
    ("timestamp", "time.now"),
    ("duration", "duration(\"1h\")"),
    ("null", "null"),
    ("list", "[1]"),
    ("dyn", "args.x"),
];

/// The pairs of types to which a condition can be made.
fn pairs(condition: impl Fn(&str, &str) -> String) -> BTreeSet<(&'static str, &'static str)> {
    let all = VALUES.iter().flat_map(|one| VALUES.iter().map(move |two| (one, two)));
    all.filter(|(one, two)| accepted(&condition(one.1, two.1))).map(|(one, two)| (one.0, two.0)).collect()
}

/// Pairs of equal types, further pairs, and every type with dyn.
fn expected(same: &[&'static str], more: &[(&'static str, &'static str)]) -> BTreeSet<(&'static str, &'static str)> {
    let same = same.iter().map(|kind| (*kind, *kind));
    same.chain(more.iter().copied()).collect()
}

fn with_dyn(
    mut pairs: BTreeSet<(&'static str, &'static str)>,
    kinds: &[&'static str],
) -> BTreeSet<(&'static str, &'static str)> {
    for kind in kinds.iter().copied().chain(["dyn"]) {
        pairs.extend([(kind, "dyn"), ("dyn", kind)]);
    }
    pairs
}

const ALL: [&str; 10] = ["int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration", "null", "list"];
const NUMBERS: [(&str, &str); 6] =
    [("int", "uint"), ("uint", "int"), ("int", "double"), ("double", "int"), ("uint", "double"), ("double", "uint")];

#[test]
fn what_can_be_equal_can_be_compared() {
    for sign in ["==", "!="] {
        let found = pairs(|one, two| format!("{one} {sign} {two}"));
        assert_eq!(found, with_dyn(expected(&ALL, &NUMBERS), &ALL), "{sign}");
    }
}

#[test]
fn what_has_an_order_can_be_ordered() {
    let ordered = ["int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration"];
    for sign in ["<", "<=", ">", ">="] {
        let found = pairs(|one, two| format!("{one} {sign} {two}"));
        assert_eq!(found, with_dyn(expected(&ordered, &NUMBERS), &ordered), "{sign}");
    }
}

#[test]
fn truth_values_and_numbers_have_their_operators() {
    let truth = ["bool"];
    for sign in ["&&", "||"] {
        let found = pairs(|one, two| format!("{one} {sign} {two}"));
        assert_eq!(found, with_dyn(expected(&truth, &[]), &truth), "{sign}");
    }
    let of = |condition: &dyn Fn(&str) -> String| {
        VALUES.iter().filter(|(_, value)| accepted(&condition(value))).map(|(kind, _)| *kind).collect::<Vec<_>>()
    };
    assert_eq!(of(&|value| format!("!{value}")), ["bool", "dyn"]);
    assert_eq!(of(&|value| format!("{value} ? true : false")), ["bool", "dyn"]);
    assert_eq!(of(&|value| format!("-({value}) == args.y")), ["int", "double", "dyn"]);
    assert_eq!(of(&|value| value.to_owned()), ["bool", "dyn"], "what a condition is");
}

#[test]
fn arithmetic_is_of_equal_types_times_and_durations() {
    let numbers = ["int", "uint", "double"];
    let found = |sign: &str| pairs(|one, two| format!("({one} {sign} {two}) == args.y"));
    let times = [("timestamp", "duration"), ("duration", "timestamp")];
    let added = ["int", "uint", "double", "string", "bytes", "list", "duration"];
    assert_eq!(found("+"), with_dyn(expected(&added, &times), &ALL));
    let taken = ["int", "uint", "double", "duration", "timestamp"];
    assert_eq!(found("-"), with_dyn(expected(&taken, &times[..1]), &ALL));
    assert_eq!(found("*"), with_dyn(expected(&numbers, &[]), &ALL));
    assert_eq!(found("/"), with_dyn(expected(&numbers, &[]), &ALL));
    assert_eq!(found("%"), with_dyn(expected(&numbers[..2], &[]), &ALL));
}

#[test]
fn results_have_types() {
    for (expression, kind) in [
        ("1 + 2", "int"),
        ("2u * 3u", "int"),
        ("1.5 / 2.0", "int"),
        ("7 % 2", "int"),
        ("-(1)", "int"),
        ("\"a\" + \"b\"", "string"),
        ("b\"a\" + b\"b\"", "bytes"),
        ("time.now + duration(\"1h\")", "timestamp"),
        ("duration(\"1h\") + time.now", "timestamp"),
        ("time.now - duration(\"1h\")", "timestamp"),
        ("time.now - time.now", "duration"),
        ("duration(\"1h\") - duration(\"2h\")", "duration"),
        ("duration(\"1h\") + duration(\"2h\")", "duration"),
        ("[1] + [2]", "list"),
        ("([1] + [2])[0]", "int"),
        ("[\"a\", \"b\"][0]", "string"),
        ("{\"a\": true}[\"a\"]", "bool"),
        ("{\"a\": \"b\"}.a", "string"),
        ("true ? 1 : 2", "int"),
        ("args.x.map(y, y)", "list"),
        ("args.x.filter(y, y > 1)", "list"),
        ("args.x.exists(y, y > 1)", "bool"),
        ("has(args.x)", "bool"),
        ("\"a\" in args", "bool"),
        ("size(args.x)", "int"),
        ("args.x.contains(\"a\")", "bool"),
        ("int(args.x)", "int"),
        ("double(args.x)", "int"),
        ("bool(args.x)", "bool"),
        ("string(args.x)", "string"),
        ("timestamp(args.x)", "timestamp"),
        ("duration(args.x)", "duration"),
        ("time.now.getHours()", "int"),
        ("time.now.getMonth()", "int"),
        ("request.port", "int"),
        ("request.host", "string"),
        ("request.query.x", "string"),
        ("agent.pod", "string"),
    ] {
        // A number meets every number, so those stand for one type here.
        let of_type: Vec<&str> = VALUES
            .iter()
            .filter(|(name, _)| !["uint", "double", "dyn"].contains(name))
            .filter(|(_, value)| accepted(&format!("({expression}) == {value}")))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(of_type, [kind], "{expression}");
    }
    for unknown in ["[1, \"a\"][0]", "{\"a\": 1, \"b\": \"c\"}[\"a\"]", "(true ? 1 : \"a\")", "args.x[0]", "args.x.y"] {
        assert!(accepted(&format!("{unknown} == 1 || {unknown} == \"a\"")), "{unknown} is known at the call only");
    }
    assert!(accepted("[[1]] == [[1.5]]") && !accepted("[[1]] == [[\"a\"]]"), "lists are equal when their items are");
    assert!(accepted("1 in [1.5]") && !accepted("\"a\" in [1]") && !accepted("1 in 1") && !accepted("1 in \"a\""));
    assert!(accepted("\"x\" in request.query") && !accepted("1 in request.query") && accepted("1 in args.x"));
    assert!(accepted("[1][args.x] == 1") && accepted("[1][0u] == 1") && !accepted("[1][\"a\" + \"b\"] == 1"));
    assert!(accepted("request.query[args.x] == \"a\"") && !accepted("request.query[1] == \"a\""));
    assert!(accepted("args[args.x] == 1") && accepted("args[1] == 1") && !accepted("1[0] == 1"));
}

#[test]
fn functions_take_what_they_are_for() {
    let of = |condition: &dyn Fn(&str) -> String| {
        VALUES.iter().filter(|(_, value)| accepted(&condition(value))).map(|(kind, _)| *kind).collect::<BTreeSet<_>>()
    };
    let set = |kinds: &[&'static str]| kinds.iter().copied().chain(["dyn"]).collect::<BTreeSet<_>>();
    let text = set(&["string"]);
    assert_eq!(of(&|value| format!("size({value}) == 1")), set(&["string", "bytes", "list"]));
    assert_eq!(of(&|value| format!("({value}).size() == 1")), set(&["string", "bytes", "list"]));
    for function in ["contains", "startsWith", "endsWith"] {
        assert_eq!(of(&|value| format!("({value}).{function}(request.host)")), text, "{function}");
        assert_eq!(of(&|value| format!("request.host.{function}({value})")), text, "{function}");
        assert!(!accepted(&format!("{function}(request.host, request.host)")), "{function} is a member");
    }
    assert_eq!(of(&|value| format!("({value}).matches(\"a\")")), text);
    assert_eq!(of(&|value| format!("matches({value}, \"a\")")), text);
    // What is computed is no literal, so it is not tried out.
    assert_eq!(
        of(&|value| format!("int(true ? {value} : {value}) == 1")),
        set(&["int", "uint", "double", "string", "timestamp"])
    );
    assert_eq!(
        of(&|value| format!("double(true ? {value} : {value}) == 1.0")),
        set(&["int", "uint", "double", "string"])
    );
    assert_eq!(of(&|value| format!("bool(true ? {value} : {value})")), set(&["bool", "string"]));
    assert_eq!(
        of(&|value| format!("string(true ? {value} : {value}) == \"a\"")),
        set(&["int", "uint", "double", "bool", "string", "timestamp", "duration"])
    );
    assert_eq!(
        of(&|value| format!("timestamp(true ? {value} : {value}) == time.now")),
        set(&["string", "int", "timestamp"])
    );
    assert_eq!(of(&|value| format!("duration(true ? {value} : {value}) == args.y")), set(&["string", "duration"]));
    for clock in ["getHours", "getMinutes", "getSeconds", "getMilliseconds"] {
        assert_eq!(of(&|value| format!("({value}).{clock}() == 1")), set(&["timestamp", "duration"]), "{clock}");
        assert_eq!(of(&|value| format!("({value}).{clock}(\"UTC\") == 1")), set(&["timestamp"]), "{clock}");
    }
    for date in ["getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"] {
        assert_eq!(of(&|value| format!("({value}).{date}() == 1")), set(&["timestamp"]), "{date}");
        assert_eq!(of(&|value| format!("time.now.{date}({value}) == 1")), text, "{date}");
    }
    for wrong in [
        "size() == 1",
        "size(args.x, 1) == 1",
        "args.x.int() == 1",
        "args.x.int(\"UTC\") == 1",
        "getHours(time.now) == 1",
        "int() == 1",
    ] {
        assert!(!accepted(wrong), "{wrong}");
    }
}

#[test]
fn declared_arguments_have_their_types() {
    let kinds = [ArgumentType::String, ArgumentType::Integer, ArgumentType::Number, ArgumentType::Boolean];
    for (kind, fits) in kinds.into_iter().zip(["\"a\"", "1", "1.5", "true"]) {
        let target = Target::operations([[ArgumentDoc { name: "a".into(), kind }].as_slice()]);
        let condition = |text: &str| Condition::parse(text, &target).is_ok();
        assert!(condition(&format!("args.a == {fits}")) && condition(&format!("args[\"a\"] == {fits}")), "{kind:?}");
        assert!(!condition("args.a == null") && !condition("args[\"a\"] == null"), "{kind:?}");
        assert!(condition("args.b == null") && condition("has(args.a)") && !condition("has(args.a) == args.a + 1"));
    }
}

#[test]
fn operators_and_functions_compute() {
    let args = r#"{"i":7,"d":2.5,"s":"text","l":[3,1,2],"o":{"k":"v"},"t":"2026-01-02T03:04:05Z","b":true}"#;
    for condition in [
        "args.i + 1 == 8 && args.i - 1 == 6 && args.i * 2 == 14 && args.i / 2 == 3 && args.i % 2 == 1 && -args.i == -7",
        "args.d * 2.0 == 5.0 && args.d > 2 && args.d <= 2.5 && args.d != 2",
        "args.s + \"!\" == \"text!\" && args.s < \"texu\" && args.s.startsWith(\"te\") && args.s.endsWith(\"xt\")",
        "size(args.s) == 4 && args.s.size() == 4 && size(args.l) == 3 && size(args.o) == 1",
        "args.l + [4] == [3, 1, 2, 4] && args.l[1] == 1 && 2 in args.l && !(5 in args.l)",
        "args.l.map(x, x * 2) == [6, 2, 4] && args.l.filter(x, x > 1) == [3, 2] && args.l.exists_one(x, x == 1)",
        "args.o.k == \"v\" && args.o[\"k\"] == \"v\" && args.o.all(k, k == \"k\") && \"k\" in args.o",
        "timestamp(args.t).getFullYear() == 2026 && timestamp(args.t).getHours(\"+01:00\") == 4",
        "timestamp(args.t) + duration(\"1h\") > timestamp(args.t) && timestamp(args.t) < time.now",
        "time.now == timestamp(\"2027-01-15T08:00:00Z\") && time.now - timestamp(args.t) > duration(\"24h\")",
        "(args.b ? \"yes\" : \"no\") == \"yes\" && (!args.b ? 1 : 2) == 2 && string(args.i) == \"7\"",
        "int(\"12\") == 12 && double(args.i) == 7.0 && bool(\"true\") && duration(\"90s\").getSeconds() == 90",
        "{\"text\": 1, \"other\": 2}[args.s] == 1 && {1: \"a\"}[1] == \"a\"",
    ] {
        assert_eq!(outcome(condition, args), Ok(true), "{condition}");
    }
}
