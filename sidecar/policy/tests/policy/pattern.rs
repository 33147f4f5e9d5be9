//! Patterns and templates: what parses, what matches, and that matching agrees with an obvious matcher.

use clawlock_policy::pattern::{HostPattern, OperationPattern, PathPattern, PathTemplate, ToolPattern};
use clawlock_policy::{HostName, RequestPath};
use proptest::prelude::*;

use crate::fixtures::cases;

fn path(pattern: &str, path: &str) -> bool {
    let path = RequestPath::parse(path).unwrap();
    PathPattern::parse(pattern).unwrap().matches(&path.segments().collect::<Vec<_>>())
}

#[test]
fn stars_in_paths() {
    for (pattern, matching, others) in [
        ("/", &["/"][..], &["/a", "/a/"][..]),
        ("/a", &["/a"], &["/", "/a/", "/a/b", "/ab"]),
        ("/a/", &["/a/"], &["/a", "/a/b"]),
        ("/a/*", &["/a/b", "/a/"], &["/a", "/a/b/c", "/a/b/"]),
        ("/a/b*c", &["/a/bc", "/a/bxxc"], &["/a/b/c", "/a/bcx"]),
        ("/a/**", &["/a", "/a/", "/a/b", "/a/b/c/d"], &["/", "/ab", "/b/a"]),
        ("/**", &["/", "/a", "/a/b/"], &[]),
        ("/**/z", &["/z", "/a/z", "/a/b/z"], &["/", "/z/a", "/az"]),
        ("/a/**/m/**/z", &["/a/m/z", "/a/x/m/y/y/z", "/a/m/m/z"], &["/a/z", "/a/m", "/m/z"]),
        ("/a/**/**/z", &["/a/z", "/a/b/z"], &["/a"]),
        ("/a b/ä", &["/a%20b/%C3%A4"], &["/a"]),
    ] {
        for text in matching {
            assert!(path(pattern, text), "{pattern} {text}");
        }
        for text in others {
            assert!(!path(pattern, text), "{pattern} {text}");
        }
    }
}

#[test]
fn patterns_that_could_match_nothing_are_refused() {
    for pattern in [
        "",
        "a",
        "/a//b",
        "//",
        "/./a",
        "/a/..",
        "/a;b",
        "/a?b",
        "/a#b",
        "/a\\b",
        "/a%20b",
        "/a\nb",
        "/a/***",
        "/a/x**",
        "/**/a/**/b/**/c/**/d/**",
        "/a*b*c*d*e*f*g*h*i*j",
    ] {
        assert!(PathPattern::parse(pattern).is_err(), "{pattern}");
    }
    assert!(PathPattern::parse(&"/a".repeat(65)).is_err());
    assert!(PathPattern::parse(&format!("/{}", "a".repeat(1024))).is_err());
    for template in
        ["", "v1", "/{id", "/{}", "/a{id}", "/{id}x", "/{a b}", "/{id}/{id}", "/a*", "/{id}//", "/..", "/{a}/%41"]
    {
        assert!(PathTemplate::parse(template).is_err(), "{template}");
    }
    for pattern in ["", "a b", "a\n", "*********"] {
        assert!(ToolPattern::parse(pattern).is_err(), "{pattern}");
    }
    assert!(ToolPattern::parse(&"a".repeat(257)).is_err());
    for pattern in ["", "stripe", "stripe.", ".x", "a..b", "a. b", "*********.a"] {
        assert!(OperationPattern::parse(pattern).is_err(), "{pattern}");
    }
    for pattern in
        ["", "*", "a.*", "*.co*", "a..b", "127.0.0.1", "a b.com", "*.example.com.", "-*.com", "*********.a.com"]
    {
        assert!(HostPattern::parse(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn templates_have_variables_and_a_shape() {
    let template = PathTemplate::parse("/v1/{customer}/cards/{card_id}").unwrap();
    assert_eq!(template.variables().collect::<Vec<_>>(), ["customer", "card_id"]);
    assert_eq!(template.shape(), "/v1/{}/cards/{}");
    assert_eq!(template.shape(), PathTemplate::parse("/v1/{a}/cards/{b}").unwrap().shape());
    assert_ne!(template.shape(), PathTemplate::parse("/v1/{a}/cards/x").unwrap().shape());
}

#[test]
fn overlaps_of_hosts() {
    let overlap = |one: &str, two: &str| {
        let (one, two) = (HostPattern::parse(one).unwrap(), HostPattern::parse(two).unwrap());
        assert_eq!(one.overlaps(&two), two.overlaps(&one));
        one.overlaps(&two)
    };
    assert!(overlap("a.example.com", "*.example.com"));
    assert!(overlap("a*.example.com", "*b.example.com"));
    assert!(overlap("a*c.example.com", "ab*.example.com"));
    assert!(!overlap("a*.example.com", "b*.example.com"));
    assert!(!overlap("*.example.com", "*.b.example.com"));
    assert!(!overlap("*a.example.com", "*b.example.com"));
    assert!(overlap("x.example.com", "X.example.com"));
    assert!(!overlap("x.example.com", "y.example.com"));
}

#[test]
fn names_show_whether_they_are_exact() {
    let host = HostPattern::parse("API.Example.com").unwrap();
    assert!(host.is_exact());
    assert_eq!(host.as_str(), "api.example.com");
    assert!(!HostPattern::parse("*.example.com").unwrap().is_exact());
}

/// The obvious matcher: try every length for every star.
fn obvious(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|cut| obvious(rest, &text[cut..])),
        Some((first, rest)) => text.first() == Some(first) && obvious(rest, &text[1..]),
    }
}

fn obvious_path(pattern: &[&str], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|cut| obvious_path(rest, &path[cut..])),
        Some((first, rest)) => {
            path.first().is_some_and(|segment| obvious(first.as_bytes(), segment.as_bytes()))
                && obvious_path(rest, &path[1..])
        }
    }
}

/// All texts of 1 to `longest` letters.
fn texts(letters: &[char], longest: usize) -> Vec<String> {
    let mut all: Vec<String> = vec![String::new()];
    let mut from = 0;
    for _ in 0..longest {
        let to = all.len();
        let longer: Vec<String> =
            all[from..to].iter().flat_map(|text| letters.iter().map(move |letter| format!("{text}{letter}"))).collect();
        all.extend(longer);
        from = to;
    }
    all.split_off(1)
}

#[test]
fn hosts_overlap_when_there_is_one_that_both_match() {
    // Two patterns of three characters that share a name share one of at most six letters.
    let names = texts(&['a', 'b'], 6);
    let patterns: Vec<(HostPattern, Vec<bool>)> = texts(&['a', 'b', '*'], 3)
        .iter()
        .map(|pattern| {
            let matching = names.iter().map(|name| obvious(pattern.as_bytes(), name.as_bytes())).collect();
            (HostPattern::parse(&format!("{pattern}.x")).unwrap(), matching)
        })
        .collect();
    for (one, by_one) in &patterns {
        for (two, by_two) in &patterns {
            let shared = by_one.iter().zip(by_two).any(|(one, two)| *one && *two);
            assert_eq!(one.overlaps(two), shared, "{one:?} {two:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(20_000)))]

    #[test]
    fn a_glob_matches_as_the_obvious_matcher_does(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
        let parsed = ToolPattern::parse(&pattern).unwrap();
        prop_assert_eq!(parsed.matches(&text), obvious(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn a_path_matches_as_the_obvious_matcher_does(
        pattern in prop::collection::vec(prop_oneof![Just("**"), Just("*"), Just("a"), Just("b"), Just("a*")], 1..6),
        text in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("ab")], 1..7),
    ) {
        prop_assume!(pattern.iter().filter(|part| **part == "**").count() <= 4);
        let whole = format!("/{}", pattern.join("/"));
        prop_assert_eq!(path(&whole, &format!("/{}", text.join("/"))), obvious_path(&pattern, &text));
    }

    #[test]
    fn hosts_that_both_match_overlap(one in "[ab*]{1,4}", two in "[ab*]{1,4}", name in "[ab]{1,4}") {
        let (one, two) = (format!("{one}.x"), format!("{two}.x"));
        let (one, two) = (HostPattern::parse(&one).unwrap(), HostPattern::parse(&two).unwrap());
        let host = HostName::parse(&format!("{name}.x")).unwrap();
        if one.matches(&host) && two.matches(&host) {
            prop_assert!(one.overlaps(&two));
        }
    }
}
