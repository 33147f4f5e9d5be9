//! The canary credential is seen only at its upstream.

use bytes::Bytes;
use clawlock_policy::document::{CredentialDoc, Document, Scheme, SecretKey, Tier};
use clawlock_proxy::body::GateBody;
use clawlock_proxy::credentials::Secret;
use http::{Request, Response};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::client::{Answer, get};
use crate::origin::{Origin, full, pieces};
use crate::world::{CANARY, HOST, TestCa, World, http_rule, loopback, policy, tenant, usual, vendor};

async fn start(ca: &TestCa, origin: &Origin) -> World {
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    world
}

/// What the agent, the log and the metrics show must not hold the canary in any form.
fn assert_unseen(world: &World, answer: &Answer) {
    let shown = format!("{:?} {} {} {}", answer.headers, answer.text(), world.log.text(), world.metrics.text());
    for form in forms() {
        // The last characters of base64 depend on what follows.
        let certain = &form[..form.len() - 2];
        assert!(!shown.contains(certain), "{certain} in {shown}");
    }
}

fn forms() -> Vec<String> {
    use base64::Engine as _;
    let standard = base64::engine::general_purpose::STANDARD_NO_PAD.encode(CANARY);
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(CANARY);
    let percent: String = CANARY.bytes().map(|b| format!("%{b:02X}")).collect();
    vec![CANARY.to_owned(), standard, url, percent]
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_credentials_are_stripped_from_every_carrier() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = start(&ca, &origin).await;
    let request = Request::builder()
        .uri("/v1/charges?limit=3&api_key=sk-foreign&access_token=sk-foreign&X-Amz-Signature=sk-foreign")
        .header("authorization", "Bearer sk-foreign")
        .header("x-api-key", "sk-foreign")
        .header("api_key", "sk-foreign")
        .header("cookie", "session=sk-foreign")
        .header("proxy-authorization", "Basic sk-foreign")
        .header("x-vendor-token", "sk-foreign")
        .header("clawlock-upstream", "sk-foreign")
        .header("clawlock_request_id", "sk-foreign")
        .header("idempotency-key", "kept")
        .body(GateBody::empty())
        .unwrap();
    assert_eq!(world.https(HOST, origin.port(), request).await.status, 200);
    let seen = origin.requests();
    assert!(!format!("{:?}", seen[0]).contains("sk-foreign"), "{:?}", seen[0]);
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {CANARY}"));
    assert_eq!(seen[0].headers["idempotency-key"], "kept");
    assert!(seen[0].uri.ends_with("/v1/charges?limit=3"), "{}", seen[0].uri);
}

#[tokio::test(flavor = "multi_thread")]
async fn class15_an_echo_is_redacted_in_every_form() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |request, _| {
        let seen = format!("{:?} {}", request.headers(), forms().join(" | "));
        Response::builder()
            .header("x-echo", request.headers()["authorization"].to_str().unwrap())
            .header("set-cookie", format!("s={CANARY}"))
            .body(full(seen))
            .unwrap()
    })
    .await;
    let world = start(&ca, &origin).await;
    let request = Request::builder()
        .uri("/echo")
        .header("accept-encoding", "gzip, zstd")
        .header("range", "bytes=10-20")
        .header("if-range", "\"x\"")
        .body(GateBody::empty())
        .unwrap();
    let answer = world.https(HOST, origin.port(), request).await;
    assert_eq!(answer.status, 200);
    assert_unseen(&world, &answer);
    assert!(!answer.headers.contains_key("set-cookie"));
    let seen = origin.requests();
    assert_eq!(seen[0].headers["accept-encoding"], "identity");
    assert!(!seen[0].headers.contains_key("range") && !seen[0].headers.contains_key("if-range"));
}

#[tokio::test(flavor = "multi_thread")]
async fn class15_an_echo_cut_into_pieces_is_redacted() {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let origin = Origin::once(&ca, HOST, Response::new(body)).await;
    let world = start(&ca, &origin).await;
    for byte in format!("before {CANARY} after").bytes() {
        sender.send(Bytes::from(vec![byte])).unwrap();
    }
    drop(sender);
    let answer = world.https(HOST, origin.port(), get("/")).await;
    assert_unseen(&world, &answer);
    assert!(answer.text().starts_with("before ") && answer.text().ends_with(" after"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coded_response_is_refused_where_a_credential_was_injected() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| {
        Response::builder().header("content-encoding", "gzip").body(full("\x1f\u{8b}")).unwrap()
    })
    .await;
    let world = start(&ca, &origin).await;
    let answer = world.https(HOST, origin.port(), get("/")).await;
    assert_eq!(answer.code(), "UpstreamResponse");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_plaintext_credential_another_scheme_port_or_host_gets_nothing() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let elsewhere = Origin::plain(|_, _| Response::new(full("elsewhere"))).await;
    let world = start(&ca, &origin).await;
    let mut in_clear = get(&format!("http://{HOST}:{}/v1", origin.port()));
    in_clear.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    assert_eq!(world.absolute(in_clear).await.code(), "UnknownUpstream");
    assert_eq!(world.connect(&format!("{HOST}:{}", elsewhere.port())).await.0, 403);
    // In the tunnel to the vendor, HTTP in clear is not the vendor's scheme.
    let (status, tcp) = world.connect(&format!("{HOST}:{}", origin.port())).await;
    assert_eq!(status, 200);
    let answer = crate::client::raw(tcp, format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(origin.requests().is_empty() && elsewhere.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_does_not_carry_the_credential() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| {
        Response::builder().status(302).header("location", "https://evil.test/steal").body(full("")).unwrap()
    })
    .await;
    let world = start(&ca, &origin).await;
    let answer = world.https(HOST, origin.port(), get("/")).await;
    // The gateway does not follow; the agent may, and is decided there.
    assert_eq!(
        (answer.status.as_u16(), answer.headers["location"].to_str().unwrap()),
        (302, "https://evil.test/steal")
    );
    assert_eq!(world.connect("evil.test:443").await.0, 403);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn class05_only_the_address_that_was_checked_is_dialled() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("internal"))).await;
    let mut doc = vendor(origin.port(), &ca.pem);
    doc.allowed_cidrs = Vec::new();
    let world = World::start(usual(doc)).await;
    let metadata = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
    for answers in [vec![vec![loopback()]], vec![vec![metadata]], vec![vec![metadata, loopback()]]] {
        world.names.set(HOST, answers);
        let answer = world.https(HOST, origin.port(), get("/")).await;
        assert_eq!(answer.code(), "AddressRefused", "{}", answer.text());
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn class05_an_allowed_answer_first_and_a_forbidden_one_next() {
    let ca = TestCa::new();
    let origin =
        Origin::tls(&ca, HOST, |_, _| Response::builder().header("connection", "close").body(full("ok")).unwrap())
            .await;
    let mut doc = vendor(origin.port(), &ca.pem);
    // 127.0.0.2 stands for the allowed address; every address of 127/8 reaches the same server here.
    doc.allowed_cidrs = vec!["127.0.0.2/32".to_owned()];
    let world = World::start(usual(doc)).await;
    let allowed = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    // The server listens on 127.0.0.1 only, so the allowed address refuses the connection: what matters
    // is that the second answer is not dialled in its stead.
    world.names.set(HOST, vec![vec![allowed], vec![loopback()]]);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "UpstreamUnavailable");
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "AddressRefused");
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_or_name_gets_no_credential() {
    let ca = TestCa::new();
    let wrong_name = Origin::tls(&ca, "other.vendor.test", |_, _| Response::new(full("no"))).await;
    let world = start(&ca, &wrong_name).await;
    assert_eq!(world.https(HOST, wrong_name.port(), get("/")).await.code(), "UpstreamUntrusted");
    let wrong_ca = Origin::tls(&TestCa::new(), HOST, |_, _| Response::new(full("no"))).await;
    world.install(usual(vendor(wrong_ca.port(), &ca.pem)));
    assert_eq!(world.https(HOST, wrong_ca.port(), get("/")).await.code(), "UpstreamUntrusted");
    assert!(wrong_name.requests().is_empty() && wrong_ca.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_used_by_the_next_request_and_a_missing_one_denies() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = start(&ca, &origin).await;
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    let rotated = Arc::new(Secret::new(b"rotated-credential".to_vec()).unwrap());
    world.secrets.0.lock().unwrap().insert("vendor".to_owned(), rotated);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    assert_eq!(origin.requests()[1].headers["authorization"], "Bearer rotated-credential");
    world.secrets.0.lock().unwrap().clear();
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "CredentialUnavailable", "class09");
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_and_basic_credentials_are_injected_and_redacted() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |request, _| {
        let echo = format!("{:?}", request.headers());
        Response::new(full(echo))
    })
    .await;
    let secret = SecretKey { name: "vendor".to_owned(), key: "token".to_owned() };
    let mut doc = vendor(origin.port(), &ca.pem);
    doc.credential = CredentialDoc::Header { name: "x-vendor-key".to_owned(), secret: secret.clone() };
    let world = World::start(usual(doc.clone())).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let answer = world.https(HOST, origin.port(), get("/")).await;
    assert_eq!(origin.requests()[0].headers["x-vendor-key"], CANARY);
    assert_unseen(&world, &answer);
    doc.credential = CredentialDoc::Basic { username: "bot".to_owned(), secret };
    world.install(usual(doc));
    let answer = world.https(HOST, origin.port(), get("/")).await;
    let basic = origin.requests()[1].headers["authorization"].to_str().unwrap().to_owned();
    assert!(basic.starts_with("Basic "));
    assert!(!answer.text().contains(&basic["Basic ".len()..]), "{}", answer.text());
    assert_unseen(&world, &answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_is_never_forwarded() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = start(&ca, &origin).await;
    let request = Request::builder().method("TRACE").uri("/").body(GateBody::empty()).unwrap();
    assert_eq!(world.https(HOST, origin.port(), request).await.code(), "MethodRefused");
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_upstreams_never_see_each_other_s_credential() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let public = Origin::tls(&ca, "public.test", |_, _| Response::new(full("public"))).await;
    let mut open = vendor(public.port(), &ca.pem);
    open.name = "public".to_owned();
    open.hosts = vec!["public.test".to_owned()];
    open.scheme = Scheme::Https;
    open.credential = CredentialDoc::None {};
    let rules =
        vec![http_rule("all", "vendor", &[], &[], Tier::Auto), http_rule("open", "public", &[], &[], Tier::Auto)];
    let documents =
        vec![tenant(), policy(rules), Document::Upstream(vendor(origin.port(), &ca.pem)), Document::Upstream(open)];
    let world = World::start(documents).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    world.names.set("public.test", vec![vec![loopback()]]);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    assert_eq!(world.https("public.test", public.port(), get("/")).await.text(), "public");
    assert!(!format!("{:?}", public.requests()).contains(CANARY));
}
