use super::*;
use proptest::prelude::*;

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn names(fields: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn fields_of_one_connection_and_the_nominated_go() {
    let mut request = fields(&[
        ("connection", "close, X-Mine"),
        ("connection", "keep-alive, te"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eDp5"),
        ("te", "gzip;q=0.5, Trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("x-mine", "1"),
        ("accept", "*/*"),
    ]);
    strip_hop_by_hop(&mut request).unwrap();
    assert_eq!(request, fields(&[("te", "trailers"), ("accept", "*/*")]));
    let mut request = fields(&[("te", "gzip")]);
    strip_hop_by_hop(&mut request).unwrap();
    assert!(request.is_empty());
}

#[test]
fn class11_connection_cannot_name_what_policy_or_upstream_rely_on() {
    for name in [
        "Host",
        "Authorization",
        "Content-Length",
        "content_type",
        "Cookie",
        "clawlock-upstream",
        "Clawlock_Upstream",
        "X-Api-Key",
        "X-Forwarded-For",
        "Sec-WebSocket-Key",
        "If-Match",
    ] {
        let mut request = fields(&[("connection", &format!("close, {name}"))]);
        let error = strip_hop_by_hop(&mut request).unwrap_err();
        assert_eq!(error, HeaderError::Nominated(name.to_ascii_lowercase()));
    }
    for malformed in ["close, a b", "\"close\"", "x;y", "a\u{e9}"] {
        let mut request = HeaderMap::new();
        request.insert(header::CONNECTION, HeaderValue::from_bytes(malformed.as_bytes()).unwrap());
        assert_eq!(strip_hop_by_hop(&mut request), Err(HeaderError::Connection), "{malformed}");
    }
}

#[test]
fn class11_internal_names_go_in_every_spelling() {
    let mut request = fields(&[
        ("clawlock-upstream", "stripe"),
        ("Clawlock_Upstream", "stripe"),
        ("CLAWLOCK.upstream", "stripe"),
        ("clawlock", "1"),
        ("x_clawlock_agent", "1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x_forwarded_host", "evil.example"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x-remote-user", "admin"),
        ("x-original-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("via", "1.1 x"),
        ("x-clawlocked", "no"),
        ("user-agent", "clawlock"),
    ]);
    strip_internal(&mut request);
    assert_eq!(names(&request), ["user-agent", "via", "x-clawlocked"]);
}

/// Names of headers and parameters by which known services take credentials.
const CARRIERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-authorization",
    "cookie",
    "cookie2",
    "x-api-key",
    "api-key",
    "apikey",
    "xapikey",
    "x_api_key",
    "x.api.key",
    "x-goog-api-key",
    "x-auth-token",
    "x-auth",
    "private-token",
    "job-token",
    "x-vault-token",
    "dd-application-key",
    "x-shopify-access-token",
    "ocp-apim-subscription-key",
    "x-trackertoken",
    "x-csrf-token",
    "x-amz-security-token",
    "x-hub-signature-256",
    "signature",
    "signature-input",
    "dpop",
    "x-functions-key",
    "x-client-secret",
    "x-access-key-id",
    "sec-token-binding",
    "x-session-token",
    "key",
    "api_key",
    "apiKey",
    "access_token",
    "accessToken",
    "accesstoken",
    "authtoken",
    "auth_key",
    "sig",
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Goog-Signature",
    "X-Goog-Credential",
    "AWSAccessKeyId",
    "Key-Pair-Id",
    "client_secret",
    "client_assertion",
    "oauth_token",
    "oauth_consumer_key",
    "oauth2",
    "password",
    "passWord",
    "user[password]",
    "pwd",
    "jwt",
    "id_token",
    "otp",
    "jsessionid",
    "connect.sid",
    "subscription-key",
    "api key",
    "$token",
];

/// Names that pass although they look alike.
const HARMLESS: &[&str] = &[
    "accept",
    "accept-encoding",
    "content-type",
    "content-length",
    "host",
    "user-agent",
    "idempotency-key",
    "Idempotency_Key",
    "x-idempotency-key",
    "sec-websocket-key",
    "surrogate-key",
    "x-request-id",
    "mcp-session-id",
    "session_id",
    "anthropic-version",
    "anthropic-beta",
    "openai-organization",
    "x-stainless-lang",
    "x-goog-api-client",
    "x-amz-date",
    "x-amz-content-sha256",
    "traceparent",
    "page_token",
    "pageToken",
    "next_token",
    "continuation-token",
    "max_tokens",
    "maxTokens",
    "max_completion_tokens",
    "$skipToken",
    "syncToken",
    "keyword",
    "keywords",
    "author",
    "authority",
    "monkey",
    "compass",
    "design",
    "assignee",
    "tokenizer",
    "start_key",
    "startkey",
    "sort-key",
    "secure",
    "hotpot",
    "significant",
    "code",
    "",
    "-",
];

#[test]
fn carriers_are_known_by_name() {
    for name in CARRIERS {
        assert!(is_carrier(name), "{name:?} must be a carrier");
    }
    for name in HARMLESS {
        assert!(!is_carrier(name), "{name:?} must not be a carrier");
    }
}

#[test]
fn foreign_credentials_and_the_gateways_own_header_are_stripped() {
    let own = HeaderName::from_static("x-vendor");
    let mut request = fields(&[
        ("authorization", "Bearer evil"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("x-vendor", "evil"),
        ("x_vendor", "evil"),
        ("x-api-key", "evil"),
        ("idempotency-key", "1"),
        ("accept", "*/*"),
    ]);
    assert_eq!(strip_carriers(&mut request, Some(&own)), 5);
    assert_eq!(request, fields(&[("idempotency-key", "1"), ("accept", "*/*")]));
}

#[test]
fn credentials_among_subprotocols_are_stripped() {
    for (sent, kept) in [
        (
            "realtime, openai-insecure-api-key.sk-evil, openai-beta.realtime-v1",
            Some("realtime, openai-beta.realtime-v1"),
        ),
        ("base64url.bearer.authorization.k8s.io.ZXZpbA, v4.channel.k8s.io", Some("v4.channel.k8s.io")),
        ("bearer, sk-evil", None),
        ("access_token, sk-evil, graphql-ws", Some("graphql-ws")),
        ("eyJhbGciOi.e30.x, chat", Some("chat")),
        ("graphql-transport-ws", Some("graphql-transport-ws")),
    ] {
        let mut request = fields(&[("sec-websocket-protocol", sent)]);
        strip_carriers(&mut request, None);
        assert_eq!(request.get("sec-websocket-protocol").map(|v| v.to_str().unwrap()), kept, "{sent}");
    }
    let long = "x".repeat(100);
    let mut request = fields(&[("sec-websocket-protocol", "bearer"), ("sec-websocket-protocol", "evil, chat")]);
    request.append("sec-websocket-protocol", long.parse().unwrap());
    assert_eq!(strip_carriers(&mut request, None), 3);
    assert_eq!(request, fields(&[("sec-websocket-protocol", "chat")]));
}

#[test]
fn carriers_in_the_query_go_and_the_rest_stays_byte_for_byte() {
    let none = |_: &str| false;
    for (query, kept) in [
        ("a=1&api_key=evil&b=%7e+%2B", "a=1&b=%7e+%2B"),
        ("key=evil", ""),
        ("key=evil&a", "a"),
        ("a&key", "a"),
        ("%61pi%5Fkey=evil&a=1", "a=1"),
        ("a=1;access_token=evil;b=2&c", "a=1;b=2&c"),
        ("X-Amz-Signature=1&X-Amz-Credential=2&x-amz-security-token=3&X-Amz-Date=4", "X-Amz-Date=4"),
        ("page_token=5&max_tokens=6", "page_token=5&max_tokens=6"),
        ("&&a=&=b&", "&&a=&=b&"),
        ("user%5Bpassword%5D=x&q=key", "q=key"),
        ("api+key=x", ""),
        ("%ff=1&%zz", "%ff=1&%zz"),
    ] {
        assert_eq!(strip_query_carriers(query, &none), kept, "{query}");
    }
    assert!(matches!(strip_query_carriers("a=1&b=2", &none), Cow::Borrowed(_)));
}

#[test]
fn a_declared_argument_stays_by_its_decoded_name() {
    assert_eq!(strip_query_carriers("%6bey=a&token=b", &|name| name == "key"), "%6bey=a");
}

#[test]
fn class11_policy_relevant_fields_stand_once() {
    assert_eq!(check_single(&fields(&[("accept", "a"), ("accept", "b"), ("host", "x")])), Ok(()));
    for name in ["host", "content-length", "content-type", "origin", "content-encoding"] {
        let twice = fields(&[(name, "a"), (name, "a")]);
        assert_eq!(check_single(&twice), Err(HeaderError::Repeated(name.parse().unwrap())), "{name}");
    }
    assert_eq!(
        check_single(&fields(&[("content_type", "a")])),
        Err(HeaderError::Repeated(header::CONTENT_TYPE)),
        "another spelling is a second reading"
    );
}

proptest! {
    #[test]
    fn the_reading_of_a_name_does_not_depend_on_case_or_separator(
        name in "[a-z]{1,8}(-[a-z]{1,8}){0,3}", separator in prop::sample::select(vec!['-', '_', '.', ' ']),
    ) {
        let carrier = is_carrier(&name);
        let spelled = name.replace('-', &separator.to_string());
        prop_assert_eq!(is_carrier(&spelled), carrier);
        prop_assert_eq!(is_carrier(&spelled.to_ascii_uppercase()), carrier);
    }

    #[test]
    fn a_carrier_stays_one_with_more_words(
        nth in 0..CARRIERS.len(), before in "[bfgm]{0,4}", after in "[bfgm]{0,4}",
    ) {
        let name = format!("{before}-{}-{after}", CARRIERS[nth]);
        // `x-session-id` and the like are known as wholes; words of their own carry anywhere.
        prop_assume!(CARRIERS[nth] != "connect.sid");
        prop_assert!(is_carrier(&name), "{}", name);
    }

    #[test]
    fn no_carrier_is_left_in_a_query_and_nothing_else_is_lost(
        query in "([a-z]{0,3}|key|%6bey|token|a_key|sig|page_token)(=[a-z%&;=+]{0,4})?([&;]([a-z]{0,2}|Key|api_key)(=[a-z]{0,2})?){0,5}",
    ) {
        let stripped = strip_query_carriers(&query, &|_| false);
        prop_assert_eq!(strip_query_carriers(&stripped, &|_| false), &*stripped, "idempotent");
        let kept = |text: &str| -> Vec<String> {
            let name = |p: &str| {
                let name = p.split('=').next().unwrap_or_default().replace('+', " ");
                percent_decode_str(&name).decode_utf8_lossy().into_owned()
            };
            text.split(['&', ';']).filter(|p| !is_carrier(&name(p))).map(str::to_owned).collect()
        };
        let left: Vec<String> = if stripped.is_empty() { vec![] } else { stripped.split(['&', ';']).map(str::to_owned).collect() };
        let mut expected = kept(&query);
        if expected == [""] {
            expected.clear();
        }
        prop_assert_eq!(left, expected);
        prop_assert_eq!(strip_query_carriers(&query, &|_| true), &*query);
    }

    #[test]
    fn no_internal_name_or_carrier_survives(
        lines in proptest::collection::vec(("[a-zA-Z_.-]{1,12}|[Cc]lawlock[-_.][a-z]{1,4}|x[-_]api[-_]key|cookie", "[a-z]{0,4}"), 0..8),
    ) {
        let mut request = HeaderMap::new();
        for (name, value) in &lines {
            request.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        strip_internal(&mut request);
        strip_carriers(&mut request, None);
        for name in request.keys() {
            prop_assert!(!canonical(name.as_str()).starts_with("clawlock-") && !is_carrier(name.as_str()), "{}", name);
        }
    }
}
