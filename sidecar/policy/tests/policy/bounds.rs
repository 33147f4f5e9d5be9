//! Bounds: what is just inside of one is accepted, and one more is refused in words that tell why.

use clawlock_policy::codec::{self, MAX_ASSIGNMENT, MAX_DOCUMENT};
use clawlock_policy::condition::{Condition, MAX_CONDITION, MAX_NESTING, MAX_NODES, MAX_REGEX, Target};
use clawlock_policy::document::{Document, HttpMatchDoc, MatchDoc, RuleDoc, Tier};
use clawlock_policy::envelope::{DOCUMENT, Envelope, MAX_ENVELOPE, MAX_SIGNATURES, SigningKey, TrustedKeys};
use clawlock_policy::host::MAX_HOST;
use clawlock_policy::identity::MAX_SPIFFE_ID;
use clawlock_policy::json::{self, MAX_DEPTH, MAX_JSON};
use clawlock_policy::path::MAX_SEGMENTS;
use clawlock_policy::pattern::{
    HostPattern, MAX_DOUBLE_STARS, MAX_NAME_PATTERN, MAX_PATH_PATTERN, MAX_PATTERN_SEGMENTS, MAX_STARS,
    OperationPattern, PathPattern, PathTemplate, ToolPattern,
};
use clawlock_policy::policy::{MAX_DOCUMENTS, MAX_NAME, MAX_PATTERNS, MAX_RULES};
use clawlock_policy::{HostName, RequestPath, SpiffeId};

use crate::fixtures::*;

/// What is inside is accepted; what is outside is refused with a part of the words.
fn edge<T, E: ToString>(inside: Result<T, E>, outside: Result<T, E>, words: &str) {
    if let Err(error) = inside {
        panic!("what is just inside was refused: {}", error.to_string());
    }
    let Err(error) = outside else { panic!("what is just outside was accepted: {words}") };
    let error = error.to_string();
    assert!(error.contains(words), "{error}");
}

fn condition(text: &str) -> Result<Condition, String> {
    Condition::parse(text, &Target::tools()).map_err(|error| error.to_string())
}

#[test]
fn the_text_of_a_condition() {
    let long = |length: usize| condition(&format!("args.x == \"{}\"", "a".repeat(length - 12)));
    edge(long(MAX_CONDITION), long(MAX_CONDITION + 1), "at most 4096 bytes");
    let brackets = |depth: usize| condition(&format!("{}true{}", "(".repeat(depth), ")".repeat(depth)));
    edge(brackets(MAX_NESTING), brackets(MAX_NESTING + 1), "nested more than 32 deep");
    let chosen = |depth: usize| condition(&format!("{}true{}", "(true ? true : ".repeat(depth), ")".repeat(depth)));
    edge(chosen(MAX_NESTING), chosen(MAX_NESTING + 1), "nested more than 32 deep");
    let lists = |depth: usize| condition(&format!("args.x == {}1{}", "[".repeat(depth), "]".repeat(depth)));
    edge(lists(MAX_NESTING), lists(MAX_NESTING + 1), "nested more than 32 deep");
    for sign in ["!", "! ", "!\n"] {
        let signs = |count: usize| condition(&format!("{}true", sign.repeat(count)));
        edge(signs(MAX_NESTING), signs(MAX_NESTING + 1), "nested more than 32 deep");
    }
    let negated = |count: usize| condition(&format!("{}1 == 1", "- ".repeat(count)));
    edge(negated(MAX_NESTING), negated(MAX_NESTING + 1), "nested more than 32 deep");
}

#[test]
fn what_stands_side_by_side_is_not_nested() {
    condition(&vec!["(true)"; 60].join(" && ")).unwrap();
    condition(&vec!["!true"; 60].join(" || ")).unwrap();
    condition(&format!("args.x == 1{}", " - 1".repeat(60))).unwrap();
}

#[test]
fn the_parts_of_a_condition() {
    // The comparison, size, the list and 0 are four parts.
    let items = usize::try_from(MAX_NODES).unwrap() - 4;
    let list = |items: usize| condition(&format!("size([{}]) > 0", vec!["1"; items].join(",")));
    edge(list(items), list(items + 1), "more than 1024 parts");
    // A lookup by a literal name is three parts: the index, its name and what it looks into.
    let lookups = |count: usize| condition(&format!("args.all(x, size([{}]) > 0)", vec![r#"x[""]"#; count].join(",")));
    edge(lookups(330), lookups(345), "more than 1024 parts");
    let chain = |length: usize| condition(&format!("1{} == 1", "+1".repeat(length)));
    edge(chain(126), chain(127), "nested more than 32 deep");
}

#[test]
fn the_patterns_of_matches() {
    let pattern = |length: usize| condition(&format!("args.x.matches(\"{}\")", "a".repeat(length)));
    edge(pattern(MAX_REGEX), pattern(MAX_REGEX + 1), "at most 512 bytes");
    edge(
        condition(r#"args.x.matches("^[a-z]{1,64}@(alice|bob|mallory)[.]example$")"#),
        condition(r#"args.x.matches("(a{1000}){1000}")"#),
        "too large when compiled",
    );
    edge(condition(r#"args.x.matches("[(]")"#), condition(r#"args.x.matches("(")"#), "no regular expression");
}

#[test]
fn loops_over_arguments_nest_three_deep() {
    let looped = |inner: &str| condition(&format!("args.l.all(a, args.l.all(b, args.l.all(c, {inner})))"));
    edge(looped("true"), looped("args.l.all(d, true)"), "at most 3 deep");
    edge(looped("a in [1, 2]"), looped("a in args.l"), "at most 3 deep");
    edge(looped("[1, 2].all(d, d > 0)"), looped("a == args.x"), "at most 3 deep");
    edge(looped("\"x\" in agent.labels"), looped("size([args.l]) == 1"), "at most 3 deep");
    edge(looped("size([1]) == 1"), looped("size({1: args.l}) == 1"), "at most 3 deep");
}

/// The number of items of `args.l` up to which a condition is evaluated, if that is between two numbers.
fn evaluated(condition: &str, text: usize, fits: usize, too_many: usize) {
    let call = |items: usize| {
        let args = format!("{{\"l\":[{}1],\"t\":\"{}\"}}", "1,".repeat(items - 1), "a".repeat(text));
        outcome(condition, &args)
    };
    assert_eq!(call(fits), Ok(true), "{condition}");
    let error = call(too_many).expect_err(condition);
    assert!(error.contains("too large for this condition"), "{condition}: {error}");
}

#[test]
fn what_an_evaluation_costs_depends_on_what_it_does() {
    evaluated("args.l.all(x, x == 1)", 1, 30_000, 400_000);
    // A table is searched from its beginning to its end, a list and a long text too.
    evaluated("args.l.all(x, agent.labels.app == \"support-agent\")", 1, 5_000, 15_000);
    evaluated("args.l.all(x, agent.labels[\"app\"] == \"support-agent\")", 1, 5_000, 15_000);
    evaluated("args.l.all(x, \"app\" in agent.labels)", 1, 5_000, 15_000);
    evaluated("args.l.all(x, x in [1, 2, 3])", 1, 20_000, 400_000);
    evaluated("args.l.all(x, !args.t.contains(\"b\"))", 25_600, 300, 2_500);
    evaluated("args.l.all(x, args.t >= \"a\")", 25_600, 300, 2_500);
    evaluated("args.l.all(x, args.t != \"a\")", 25_600, 100, 2_500);
    // A pattern costs more than a search.
    evaluated("args.l.all(x, args.t.matches(\"a\"))", 25_600, 100, 500);
    evaluated("args.l.all(x, x + 1 > 1)", 1, 10_000, 400_000);
}

#[test]
fn many_fields_are_counted() {
    let loops = "args.all(a, args.all(b, args.all(c, true)))";
    let fields = |count: usize| (0..count).map(|n| format!("f{n}=x")).collect::<Vec<_>>().join("&");
    let any = || http(&["stripe"], &[], &[]);
    let answer = |count: usize| http_outcome(any(), loops, &request("GET", "/a").query(&fields(count)));
    assert_eq!(answer(5), Ok(true));
    assert!(answer(200).unwrap_err().contains("too large for this condition"));
    let last = |count: usize| http_outcome(any(), "args.f1 == \"x\"", &request("GET", "/a").query(&fields(count)));
    edge(last(256), last(257), "there are more than 256 fields");
}

#[test]
fn the_sizes_of_encodings() {
    let padded = |mut bytes: Vec<u8>, size: usize| {
        bytes.resize(size, b' ');
        bytes
    };
    let document = |size: usize| codec::decode(&padded(codec::encode(&stripe()), size));
    edge(document(MAX_DOCUMENT), document(MAX_DOCUMENT + 1), "8388609 bytes, more than the 8388608");
    let one = assignment(&[stripe()]);
    let read = |size: usize| codec::decode_assignment(&padded(codec::encode_assignment(&one), size));
    edge(read(MAX_ASSIGNMENT), read(MAX_ASSIGNMENT + 1), "1048577 bytes, more than the 1048576");
    let envelope = Envelope::sign(DOCUMENT, b"payload", &SigningKey::from_seed(&[1; 32]).unwrap()).encode();
    let decode = |size: usize| Envelope::decode(&padded(envelope.clone(), size));
    edge(decode(MAX_ENVELOPE), decode(MAX_ENVELOPE + 1), "bytes, more than");
    let text = |size: usize| json::parse(&padded(b"[]".to_vec(), size));
    edge(text(MAX_JSON), text(MAX_JSON + 1), "larger than 16 MiB at line 1 column 1");
}

#[test]
fn the_largest_contents_fit_their_encodings() {
    // An assignment of as many documents as a policy may have.
    let digests = (0..MAX_DOCUMENTS).map(|n| codec::digest(&n.to_be_bytes())).collect();
    let full = clawlock_policy::document::Assignment { digests, ..assignment(&[]) };
    assert_eq!(codec::decode_assignment(&codec::encode_assignment(&full)).unwrap(), full);
    // A document of the largest size in an envelope with as many signatures as one may have.
    let keys: Vec<SigningKey> =
        (0..=MAX_SIGNATURES).map(|n| SigningKey::from_seed(&[u8::try_from(n).unwrap(); 32]).unwrap()).collect();
    let payload = vec![b'x'; MAX_DOCUMENT];
    let first = Envelope::sign(DOCUMENT, &payload, &keys[0]);
    let signed = keys[1..MAX_SIGNATURES].iter().fold(first, |envelope, key| envelope.signed_also_by(key));
    let bytes = signed.encode();
    assert!(bytes.len() <= MAX_ENVELOPE);
    let read = Envelope::decode(&bytes).unwrap();
    assert!(read.verify(DOCUMENT, &TrustedKeys::new([keys[0].public().clone()])).unwrap() == payload);
    let small = Envelope::sign(DOCUMENT, b"payload", &keys[0]);
    let with =
        |count: usize| keys[1..count].iter().fold(small.clone(), |envelope, key| envelope.signed_also_by(key)).encode();
    edge(
        Envelope::decode(&with(MAX_SIGNATURES)),
        Envelope::decode(&with(MAX_SIGNATURES + 1)),
        "an envelope has 1 to 8 signatures",
    );
}

#[test]
fn the_depth_of_json() {
    let nested = |depth: usize| json::parse(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
    edge(nested(MAX_DEPTH), nested(MAX_DEPTH + 1), "nested more than 64 deep at line 1 column 65");
    for outer in 1..=4 {
        let many = "[{}],".repeat(10 * MAX_DEPTH);
        let beside = format!("{}{many}[]{}", "[".repeat(outer), "]".repeat(outer));
        assert!(json::parse(beside.as_bytes()).is_ok(), "what stands side by side is not nested");
    }
}

#[test]
fn names_hosts_and_identities() {
    let label = |length: usize| HostName::parse(&format!("{}.com", "a".repeat(length)));
    edge(label(63), label(64), "a label of a host name has 1 to 63 characters");
    let host = |length: usize| HostName::parse(&format!("{}{}", "a.".repeat(126), "a".repeat(length - 252)));
    edge(host(MAX_HOST), host(MAX_HOST + 1), "a host name has 1 to 253 characters");
    let start = "spiffe://acme.example/ns/acme/sa/support/pod/";
    let identity = |length: usize| SpiffeId::parse(&format!("{start}{}", "a".repeat(length - start.len())));
    edge(identity(MAX_SPIFFE_ID), identity(MAX_SPIFFE_ID + 1), "at most 2048 bytes");
    let domain = |length: usize| SpiffeId::of_pod(&"d".repeat(length), "n", "s", "u");
    edge(domain(255), domain(256), "a trust domain has 1 to 255");
}

#[test]
fn paths_and_patterns() {
    let path = |length: usize| RequestPath::parse(&format!("/{}", "a".repeat(length - 1)));
    edge(path(8192), path(8193), "longer than 8192 bytes");
    let segments = |count: usize| RequestPath::parse(&"/a".repeat(count));
    edge(segments(MAX_SEGMENTS), segments(MAX_SEGMENTS + 1), "more than 256 segments");
    let pattern = |length: usize| PathPattern::parse(&format!("/{}", "a".repeat(length - 1)));
    edge(pattern(MAX_PATH_PATTERN), pattern(MAX_PATH_PATTERN + 1), "longer than 1024 bytes");
    let segments = |count: usize| PathTemplate::parse(&"/a".repeat(count));
    edge(segments(MAX_PATTERN_SEGMENTS), segments(MAX_PATTERN_SEGMENTS + 1), "more than 64 segments");
    let anywhere = |count: usize| PathPattern::parse(&"/**/a".repeat(count));
    edge(anywhere(MAX_DOUBLE_STARS), anywhere(MAX_DOUBLE_STARS + 1), "more than 4 '**'");
    let stars = |count: usize| ToolPattern::parse(&"a*".repeat(count));
    edge(stars(MAX_STARS), stars(MAX_STARS + 1), "more than 8 '*' in one segment");
    let stars = |count: usize| HostPattern::parse(&format!("{}.com", "*".repeat(count)));
    edge(stars(MAX_STARS), stars(MAX_STARS + 1), "more than 8 '*' in one segment");
    let tool = |length: usize| ToolPattern::parse(&"a".repeat(length));
    edge(tool(MAX_NAME_PATTERN), tool(MAX_NAME_PATTERN + 1), "longer than 256 bytes");
    let operation = |length: usize| OperationPattern::parse(&format!("a.{}", "a".repeat(length - 2)));
    edge(operation(MAX_NAME_PATTERN), operation(MAX_NAME_PATTERN + 1), "longer than 256 bytes");
}

fn with_rules(rules: Vec<RuleDoc>) -> Result<clawlock_policy::Policy, clawlock_policy::BuildError> {
    try_build(vec![tenant(vec![]), stripe(), enforce("acme/p", rules)])
}

#[test]
fn the_lists_and_names_of_rules() {
    let names = |prefix: &str, count: usize| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<String>>();
    let one = |matches: MatchDoc| with_rules(vec![rule("r", matches, Tier::Block)]);
    let tools = |count: usize| one(MatchDoc::Tools(names("t", count)));
    edge(tools(MAX_PATTERNS), tools(MAX_PATTERNS + 1), "a list has at most 1024");
    let lists = |upstreams: usize, methods: usize| {
        let (upstreams, methods) = (names("u", upstreams), names("M", methods));
        one(MatchDoc::Http(HttpMatchDoc { upstreams, methods, paths: vec![] }))
    };
    edge(lists(MAX_PATTERNS, 1), lists(MAX_PATTERNS + 1, 1), "a list has at most 1024");
    edge(lists(1, MAX_PATTERNS), lists(1, MAX_PATTERNS + 1), "a list has at most 1024");
    let named = |length: usize| with_rules(vec![rule(&"n".repeat(length), crate::fixtures::tools(&["t"]), Tier::Ask)]);
    edge(named(MAX_NAME), named(MAX_NAME + 1), "a name has 1 to 512 bytes");
}

#[test]
fn the_bounds_of_an_assignment_hold() {
    let documents = |count: usize| {
        let policies = (1..count).map(|n| enforce(&format!("acme/p{n}"), vec![]));
        try_build(policies.chain([tenant(vec![])]).collect())
    };
    edge(documents(MAX_DOCUMENTS), documents(MAX_DOCUMENTS + 1), "more than 4096 documents");
    let rules = |count: usize| {
        let list = |count: usize| (0..count).map(|n| rule(&format!("r{n}"), tools(&["t"]), Tier::Ask)).collect();
        let half = count / 2;
        let guardrails: Vec<Document> = vec![tenant(list(count - half)), enforce("acme/p", list(half))];
        try_build(guardrails)
    };
    edge(rules(MAX_RULES), rules(MAX_RULES + 1), "more than 100000 rules");
}
