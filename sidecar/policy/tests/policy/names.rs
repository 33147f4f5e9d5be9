//! Names of hosts, pods and paths: one accepted spelling each, and words that tell why another is refused.

use clawlock_policy::pattern::{OperationPattern, PathTemplate, ToolPattern, check_operation_name};
use clawlock_policy::{HostName, RequestPath, SpiffeId};

fn words<T, E: ToString>(result: Result<T, E>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_host_that_is_refused_is_told_why() {
    let labels = "a label of a host name has 1 to 63 characters, and there is no trailing dot";
    let letters = "a host name has only letters, digits, '-' and '_'";
    let ends = "a label of a host name neither starts nor ends with '-'";
    let address = "an IP address is not a host name";
    for (host, reason) in [
        ("", "a host name has 1 to 253 characters"),
        ("a..com", labels),
        ("a.com.", labels),
        (".com", labels),
        ("a b.com", letters),
        ("a%2ecom", letters),
        ("ä.com", letters),
        ("-a.com", ends),
        ("a-.com", ends),
        ("a.com-", ends),
        ("-", ends),
        ("a.0", address),
        ("1", address),
        ("10.0.0.1", address),
        ("a.0x", address),
        ("a.0X1f", address),
        ("a.0xg", address),
    ] {
        assert_eq!(words(HostName::parse(host)), reason, "{host}");
    }
    for host in ["a", "a-b.c_d", "_dmarc.example.com", "1a.com", "xn--nxasmq6b", "0.com", "a.x0", "a.1x", "a.0a"] {
        assert_eq!(HostName::parse(host).unwrap().as_str(), host);
    }
}

#[test]
fn names_are_shown_as_they_are() {
    let host = HostName::parse("API.example.com").unwrap();
    assert_eq!((host.to_string(), format!("{host:?}")), ("api.example.com".into(), "HostName(api.example.com)".into()));
    let path = RequestPath::parse("/a%20b").unwrap();
    assert_eq!((path.to_string(), format!("{path:?}")), ("/a%20b".into(), "RequestPath(/a%20b)".into()));
    let pod = SpiffeId::of_pod("acme.example", "ns-1", "default", "0b5e").unwrap();
    let text = "spiffe://acme.example/ns/ns-1/sa/default/pod/0b5e";
    assert_eq!((pod.to_string(), format!("{pod:?}")), (text.into(), format!("SpiffeId({text})")));
    assert_eq!((pod.as_str(), &*pod.shared()), (text, text));
    assert_eq!(SpiffeId::parse(text).unwrap(), pod);
}

#[test]
fn an_identity_that_is_refused_is_told_why() {
    let shape = "a pod's SPIFFE ID is spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT/pod/UID";
    let domain = "a trust domain has 1 to 255 lower-case letters, digits, '.', '-' and '_'";
    let part = "a path segment of a SPIFFE ID has letters, digits, '.', '-' and '_'";
    for (id, reason) in [
        ("", "a SPIFFE ID starts with spiffe://"),
        ("https://d/ns/n/sa/s/pod/u", "a SPIFFE ID starts with spiffe://"),
        ("spiffe://d", shape),
        ("spiffe://d/ns/n/sa/s", shape),
        ("spiffe://d/ns/n/sa/s/pod/u/", shape),
        ("spiffe://d/ns/n/sa/s/pods/u", shape),
        ("spiffe://d/namespace/n/sa/s/pod/u", shape),
        ("spiffe:///ns/n/sa/s/pod/u", domain),
        ("spiffe://D/ns/n/sa/s/pod/u", domain),
        ("spiffe://d:1/ns/n/sa/s/pod/u", domain),
        ("spiffe://u@d/ns/n/sa/s/pod/u", domain),
        ("spiffe://d/ns//sa/s/pod/u", part),
        ("spiffe://d/ns/./sa/s/pod/u", part),
        ("spiffe://d/ns/n/sa/../pod/u", part),
        ("spiffe://d/ns/n/sa/s/pod/..", part),
        ("spiffe://d/ns/n/sa/s/pod/%2e", part),
        ("spiffe://d/ns/n/sa/s/pod/u?x", part),
        ("spiffe://d/ns/n m/sa/s/pod/u", part),
        ("spiffe://d/ns/n/sa/ä/pod/u", part),
    ] {
        assert_eq!(words(SpiffeId::parse(id)), reason, "{id}");
    }
    for id in ["spiffe://a-b_c.d0/ns/N-n_.0/sa/S/pod/u", "spiffe://0/ns/.../sa/.a/pod/..a"] {
        assert_eq!(SpiffeId::parse(id).unwrap().as_str(), id);
    }
    assert_eq!(words(SpiffeId::of_pod("d", "n", "", "u")), part);
    assert_eq!(words(SpiffeId::of_pod("d", "n/sa/x", "s", "u")), shape);
}

#[test]
fn a_path_that_is_refused_is_told_why() {
    let escape = "the path has a broken percent-escape";
    let allowed = "the path has a character that RFC 3986 does not allow there, or ';'";
    let ascii = "the path has a control, space or non-ASCII character";
    let decoded = "the path has ';', '\\' or a control character";
    let dots = "the path has a dot segment or an encoded empty segment";
    let twice = "the path has a separator or dot segment that is encoded twice";
    for (path, reason) in [
        ("a", "the path does not start with '/'"),
        ("/a//b", "the path has an empty segment ('//')"),
        ("//", "the path has an empty segment ('//')"),
        ("/%", escape),
        ("/%4", escape),
        ("/%4g", escape),
        ("/%g4", escape),
        ("/a%41%", escape),
        ("/%41%4", escape),
        ("/aaaa%41;", allowed),
        ("/aaaa%41%42 ", ascii),
        ("/a\u{7f}", ascii),
        ("/a ", ascii),
        ("/a|b", allowed),
        ("/%3b", decoded),
        ("/a%5C", decoded),
        ("/a%09b", decoded),
        ("/a%7f", decoded),
        ("/.", dots),
        ("/..", dots),
        ("/a/%2e", dots),
        ("/a/.%2E/b", dots),
        ("/a%2f", dots),
        ("/%2Fa", dots),
        ("/a%2f%2fb", dots),
        ("/a%2f.", dots),
        ("/a%2f..%2fb", dots),
        ("/%ff", "the path does not decode to UTF-8"),
        ("/%252e", twice),
        ("/%252e%252E", twice),
        ("/.%252e", twice),
        ("/a%252fb", twice),
        ("/a%255cb", twice),
        ("/a%253bb", twice),
        ("/a%2500b", twice),
        ("/a%250ab", twice),
    ] {
        assert_eq!(words(RequestPath::parse(path)), reason, "{path:?}");
    }
    for path in [
        "/",
        "/a/",
        "/%2541",
        "/100%25",
        "/a%252eb",
        "/%252e%252e.",
        "/a%2Fb",
        "/..a",
        "/a..",
        "/%2e.%2e",
        "/!~",
        "/aaaa%41%42c",
    ] {
        assert_eq!(RequestPath::parse(path).unwrap().as_str(), path);
    }
    let segments = |path: &str| {
        let path = RequestPath::parse(path).unwrap();
        path.segments().map(|segment| (segment.text.into_owned(), segment.has_slash)).collect::<Vec<_>>()
    };
    assert_eq!(segments("/"), [(String::new(), false)]);
    assert_eq!(segments("/%61b/c%2Fd/"), [("ab".to_owned(), false), ("c/d".to_owned(), true), (String::new(), false)]);
}

#[test]
fn the_name_of_an_operation_can_be_named_by_patterns() {
    for name in ["get", "v2.get", "a-b_c"] {
        assert_eq!(words(check_operation_name(name)), "", "{name}");
        assert!(OperationPattern::parse(&format!("u.{name}")).unwrap().matches("u", name));
    }
    for name in ["", "a b", "a\u{1}", "a*", "*", ".a", "a.", "a..b"] {
        assert!(check_operation_name(name).is_err(), "{name:?}");
    }
    for name in ["a b", "a\u{a0}b", "a\u{1}b", "a\tb"] {
        assert!(ToolPattern::parse(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_template_has_variables_where_whole_segments_are_in_braces() {
    for (template, variables) in
        [("/", &[][..]), ("/v1/", &[]), ("/{a}", &["a"]), ("/{a.b-c_D0}/x/{e}", &["a.b-c_D0", "e"]), ("/x/x", &[])]
    {
        assert_eq!(PathTemplate::parse(template).unwrap().variables().collect::<Vec<_>>(), variables, "{template}");
    }
    for template in ["/{}", "/{a b}", "/{ä}", "/{a", "/a}", "/{a}{b}", "/x{a}", "/*", "/{a}/{b}/{a}"] {
        assert!(PathTemplate::parse(template).is_err(), "{template}");
    }
}
