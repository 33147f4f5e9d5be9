//! Ways around the gates that were tried when they were reviewed, and what stops each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clawlock_policy::document::{Document, Mode, PolicyDoc, RuleDoc, TenantDoc, Tier, UpstreamDoc};
use clawlock_proxy::body::GateBody;
use clawlock_proxy::tls::{Leaf, gateway_name, hop_client};
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::client::{Answer, get};
use crate::origin::{Origin, OriginBody, full, pieces, websocket};
use crate::world::{CANARY, HOST, TestCa, World, http_rule, loopback, policy, tenant, usual, vendor};

const DEADLINE: Duration = Duration::from_secs(20);
const HOUR_MS: u64 = 3_600_000;

pub(crate) async fn start(documents: impl Fn(UpstreamDoc) -> Vec<Document>) -> (World, Origin, TestCa) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, body| Response::new(full(body))).await;
    let world = World::start(documents(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    (world, origin, ca)
}

/// A server of one endless response.
async fn streaming(
    documents: impl Fn(UpstreamDoc) -> Vec<Document>,
) -> (World, Origin, UpstreamDoc, Response<Incoming>) {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let body = Mutex::new(Some((sender, body)));
    let origin = Origin::tls(&ca, HOST, move |_, _| match body.lock().unwrap().take() {
        Some((sender, body)) => {
            sender.send(Bytes::from_static(b"one")).unwrap();
            std::mem::forget(sender);
            Response::new(body)
        }
        None => Response::new(full("ok")),
    })
    .await;
    let upstream = vendor(origin.port(), &ca.pem);
    let world = World::start(documents(upstream.clone())).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = get("/events");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let mut response = http.send_request(request).await.unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    (world, origin, upstream, response)
}

async fn assert_ends(mut response: Response<Incoming>) {
    let end = tokio::time::timeout(DEADLINE, response.frame()).await.expect("the stream must end");
    assert!(end.is_none_or(|frame| frame.is_err()));
}

pub(crate) async fn hop<B>(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> (SendRequest<B>, tokio::task::JoinHandle<hyper::Result<()>>)
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let tcp = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(tls).connect(gateway_name("acme").unwrap(), tcp).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

pub(crate) fn own(world: &World) -> Arc<ClientConfig> {
    hop_client(std::slice::from_ref(&world.hop_ca.der), world.hop_ca.client(world.identity.as_str())).unwrap()
}

pub(crate) fn hop_request<B>(origin: &Origin, method: &str, path: &str, body: B) -> Request<B> {
    Request::builder()
        .method(method)
        .uri(format!("https://{HOST}:{}{path}", origin.port()))
        .header("clawlock-upstream", "vendor")
        .header("clawlock-request-id", "r-1")
        .header("clawlock-agent-gate-us", "7")
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn when(mut rule: RuleDoc, condition: &str) -> RuleDoc {
    rule.when = Some(condition.to_owned());
    rule
}

fn all() -> RuleDoc {
    http_rule("all", "vendor", &[], &[], Tier::Auto)
}

fn in_audit(upstream: UpstreamDoc, mode: Mode, rules: Vec<RuleDoc>, audit_until_ms: u64) -> Vec<Document> {
    vec![
        Document::Tenant(TenantDoc {
            name: "acme".to_owned(),
            guardrails: Vec::new(),
            limits: vec![],
            tool_categories: vec![],
            audit_until_ms: Some(audit_until_ms),
            allowed_modes: vec![Mode::Enforce, Mode::Audit],
        }),
        Document::Policy(PolicyDoc { name: "acme/support".to_owned(), mode, rules, residency: None, limits: vec![] }),
        Document::Upstream(upstream),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_held_back_until_the_policy_changed_does_not_leave() {
    let reads = |upstream| {
        let posts = when(http_rule("posts", "vendor", &["POST"], &[], Tier::Auto), "args.ok == true");
        vec![
            tenant(),
            policy(vec![posts, http_rule("gets", "vendor", &["GET"], &[], Tier::Auto)]),
            Document::Upstream(upstream),
        ]
    };
    let (world, origin, ca) = start(reads).await;
    // A sidecar that has been taken over and holds the bodies of allowed requests back.
    let (mut sidecar, _connection) = hop::<OriginBody>(world.gateway, own(&world)).await;
    let (senders, held): (Vec<_>, Vec<_>) = (0..100)
        .map(|_| {
            let (sender, body) = pieces();
            sender.send(Bytes::from_static(b"{\"ok\":")).unwrap();
            (sender, sidecar.send_request(hop_request(&origin, "POST", "/held", body)))
        })
        .unzip();
    // Later requests are answered, so the gateway has taken up the first; and a connection is kept.
    for _ in 0..20 {
        let later = sidecar.send_request(hop_request(&origin, "GET", "/later", full(""))).await.unwrap();
        assert_eq!(later.status(), 200);
        later.into_body().collect().await.unwrap();
    }
    let blocked = vec![http_rule("none", "vendor", &[], &[], Tier::Block)];
    world.install(vec![tenant(), policy(blocked), Document::Upstream(vendor(origin.port(), &ca.pem))]);
    for sender in senders {
        // A gateway that has refused already reads no more of it.
        drop(sender.send(Bytes::from_static(b"true}")));
    }
    for held in held {
        let answer = Answer::of(held.await.unwrap()).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    assert!(origin.requests().iter().all(|seen| !seen.uri.ends_with("/held")), "{:?}", origin.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_a_credential_ends_when_only_audit_mode_lets_it_pass() {
    let far = u64::MAX / 4;
    let (world, origin, upstream, response) =
        streaming(|upstream| in_audit(upstream, Mode::Enforce, vec![all()], far)).await;
    assert!(origin.requests()[0].headers.contains_key("authorization"));
    let other = http_rule("other", "vendor", &[], &["/other"], Tier::Auto);
    world.install(in_audit(upstream, Mode::Audit, vec![other], far));
    assert_ends(response).await;
    // Anew it is let through, without the credential.
    assert_eq!(world.https(HOST, origin.port(), get("/events")).await.status, 200);
    assert!(!origin.requests()[1].headers.contains_key("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_audit_mode_ends_with_the_time_in_which_that_counts() {
    let until = 1_800_000_000_000 + HOUR_MS;
    let (world, _origin, _upstream, response) =
        streaming(|upstream| in_audit(upstream, Mode::Audit, Vec::new(), until)).await;
    for table in [world.agent_table.clone(), world.gateway_table.clone()] {
        tokio::spawn(async move { table.watch_expiry().await });
    }
    world.clock.wall_ms.fetch_add(HOUR_MS, Ordering::SeqCst);
    assert_ends(response).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_address_or_credential_is_no_longer_the_upstream_s() {
    for edit in [
        (|upstream: &mut UpstreamDoc| upstream.allowed_cidrs.clear()) as fn(&mut UpstreamDoc),
        |upstream| upstream.ca_pem = None,
        |upstream| upstream.credential = clawlock_policy::document::CredentialDoc::None {},
    ] {
        let (world, _origin, mut upstream, response) = streaming(usual).await;
        edit(&mut upstream);
        world.install(usual(upstream));
        assert_ends(response).await;
    }
}

/// A reader that stalls is asked for nothing, so the body on the way is not looked at any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_does_not_keep_a_revoked_stream_open() {
    let ca = TestCa::new();
    let pulled = Arc::new(AtomicUsize::new(0));
    let (alive, gone) = tokio::sync::oneshot::channel::<()>();
    let alive = Mutex::new(Some(alive));
    let counter = pulled.clone();
    let origin = Origin::tls(&ca, HOST, move |_, _| {
        let (counter, alive) = (counter.clone(), alive.lock().unwrap().take());
        let endless = stream::repeat_with(move || {
            let _held = &alive;
            counter.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))
        });
        Response::new(BodyExt::boxed(StreamBody::new(endless)))
    })
    .await;
    let documents = usual(vendor(origin.port(), &ca.pem));
    let world = World::start(documents.clone()).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = get("/events");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let response = http.send_request(request).await.unwrap();
    // Every buffer on the way is full once the server is asked for nothing any more.
    let full = async {
        let mut before = usize::MAX;
        while before != pulled.load(Ordering::SeqCst) {
            before = pulled.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(DEADLINE, full).await.unwrap();
    let blocked = vec![http_rule("none", "vendor", &[], &[], Tier::Block)];
    world.install(vec![tenant(), policy(blocked), documents[2].clone()]);
    assert!(tokio::time::timeout(DEADLINE, gone).await.expect("the upstream's stream must end").is_err());
    drop(response);
}

#[tokio::test(flavor = "multi_thread")]
async fn class12_a_path_that_is_encoded_twice_has_two_readings() {
    let (world, origin, _ca) = start(usual).await;
    for path in ["/a/%252e%252e/b", "/a/%252E./b", "/a%252fb", "/a/..%253bx/b", "/a%255cb", "/a%2500"] {
        assert_eq!(world.https(HOST, origin.port(), get(path)).await.code(), "BadRequest", "{path}");
    }
    assert!(origin.requests().is_empty());
    for path in ["/a/100%25", "/a/%2541", "/v1.2%252e3"] {
        assert_eq!(world.https(HOST, origin.port(), get(path)).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_in_lower_case_is_no_other_method() {
    let (world, origin, _ca) = start(usual).await;
    for method in ["delete", "Delete", "trace", "get"] {
        let request = Request::builder().method(method).uri("/v1/charges/1").body(GateBody::empty()).unwrap();
        let answer = world.https(HOST, origin.port(), request).await;
        assert_eq!(answer.code(), "MethodRefused", "{method}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_in_another_spelling_does_not_slip_past_a_condition() {
    let (world, origin, _ca) = start(|upstream| {
        let condition = "'x-env' in request.headers && request.headers['x-env'] == 'prod'";
        let prod = when(http_rule("prod", "vendor", &[], &[], Tier::Block), condition);
        vec![tenant(), policy(vec![prod, all()]), Document::Upstream(upstream)]
    })
    .await;
    for (name, code) in [("x-env", "TierBlock"), ("x_env", "ConditionError"), ("x.env", "ConditionError")] {
        let request = Request::builder().uri("/").header(name, "prod").body(GateBody::empty()).unwrap();
        assert_eq!(world.https(HOST, origin.port(), request).await.code(), code, "{name}");
    }
    assert!(origin.requests().is_empty());
    let request = Request::builder().uri("/").header("xenv", "prod").body(GateBody::empty()).unwrap();
    assert_eq!(world.https(HOST, origin.port(), request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_s_trailers_carry_nothing() {
    let ca = TestCa::new();
    let Leaf { chain, key } = ca.server(HOST);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let stream = TlsAcceptor::from(Arc::new(tls)).accept(listener.accept().await.unwrap().0).await.unwrap();
        let service = service_fn(|request: Request<Incoming>| async {
            let collected = request.into_body().collect().await.unwrap();
            let trailers = collected.trailers().map(|fields| format!("{fields:?}")).unwrap_or_default();
            let body = String::from_utf8(collected.to_bytes().to_vec()).unwrap();
            Ok::<_, Infallible>(Response::new(full(format!("body {body} trailers {trailers}"))))
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        connection.serve_connection(TokioIo::new(stream), service).await.ok();
    });
    let world = World::start(usual(vendor(port, &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut fields = HeaderMap::new();
    fields.insert("authorization", "Bearer sk-foreign".parse().unwrap());
    fields.insert("clawlock-upstream", "sk-foreign".parse().unwrap());
    let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(fields)];
    let body = StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Infallible>)));
    let stream = world.tunnel(HOST, port, &[b"h2"]).await;
    let (mut agent, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method("POST").uri(format!("https://{HOST}:{port}/")).body(body).unwrap();
    let answer = Answer::of(agent.send_request(request).await.unwrap()).await;
    assert_eq!(answer.text(), "body hello trailers ");
}

/// The end of a body that could begin a credential is held back until it is over, trailers included.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_response_pass_behind_an_end_that_was_held_back() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| {
        let mut fields = HeaderMap::new();
        fields.insert("grpc-status", "7".parse().unwrap());
        fields.insert("x-echo", CANARY.parse().unwrap());
        fields.insert("set-cookie", "session=1".parse().unwrap());
        let begun = Bytes::copy_from_slice(&CANARY.as_bytes()[..5]);
        let frames = [Frame::data(begun), Frame::trailers(fields)];
        Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Infallible>)))))
    })
    .await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let request = get(&format!("https://{HOST}:{}/", origin.port()));
    let response = world.sender2(HOST, origin.port()).await.send_request(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    assert_eq!(collected.to_bytes(), &CANARY.as_bytes()[..5]);
    assert_eq!(trailers["grpc-status"], "7");
    assert!(!format!("{trailers:?}").contains(CANARY) && !trailers.contains_key("set-cookie"), "{trailers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_many_pieces_is_read_and_forwarded_whole() {
    let (world, origin, _ca) = start(|upstream| {
        let posts = when(http_rule("posts", "vendor", &["POST"], &[], Tier::Auto), "args.ok == true");
        vec![tenant(), policy(vec![posts]), Document::Upstream(upstream)]
    })
    .await;
    let json = format!("{{\"ok\":true,\"text\":\"{}\"}}", "x".repeat(5000));
    let (sender, body) = pieces();
    for byte in json.bytes() {
        sender.send(Bytes::from(vec![byte])).unwrap();
    }
    drop(sender);
    let stream = world.tunnel(HOST, origin.port(), &[b"h2"]).await;
    let (mut agent, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method("POST").uri(format!("https://{HOST}:{}/", origin.port()));
    let request = request.header("content-type", "application/json").body(body).unwrap();
    assert_eq!(Answer::of(agent.send_request(request).await.unwrap()).await.text(), json);
    assert_eq!(origin.requests()[0].body, json);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_anything_but_a_plain_websocket_is_refused() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |request, _| {
        let bare = Response::builder().status(101).header("connection", "upgrade");
        let builder = match request.uri().path() {
            "/h2c" => bare.header("upgrade", "h2c"),
            "/none" => bare,
            "/unproven" => bare.header("upgrade", "websocket"),
            "/echo" => {
                bare.header("upgrade", "websocket").header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            }
            _ => websocket(&request).header("sec-websocket-extensions", "permessage-deflate"),
        };
        builder.body(full("")).unwrap()
    })
    .await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    for path in ["/h2c", "/none", "/unproven", "/echo", "/deflate"] {
        let mut request = get(path);
        for (name, value) in
            [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]
        {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(world.https(HOST, origin.port(), request).await.code(), "UpstreamResponse", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class15_credentials_in_an_authority_or_query_stay_out_of_the_log() {
    let (world, origin, _ca) = start(usual).await;
    assert_eq!(world.connect("agent:sk-foreign@api.vendor.test:443").await.0, 400);
    world.raw(b"GET http://agent:sk-foreign@api.vendor.test/ HTTP/1.1\r\nHost: api.vendor.test\r\nConnection: close\r\n\r\n").await;
    world.raw(b"GET https://agent:sk-foreign@api.vendor.test/ HTTP/1.1\r\nHost: api.vendor.test\r\nConnection: close\r\n\r\n").await;
    let (mut sidecar, _connection) = hop::<OriginBody>(world.gateway, own(&world)).await;
    let mut request = hop_request(&origin, "GET", "/v1?token=sk-foreign", full(""));
    request.headers_mut().remove("clawlock-upstream");
    assert_eq!(sidecar.send_request(request).await.unwrap().status(), 400);
    assert_eq!(world.log.records().len(), 4);
    assert!(!world.log.text().contains("sk-foreign"), "{}", world.log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_does_not_learn_where_the_gateway_is() {
    let (world, origin, _ca) = start(usual).await;
    world.stop_gateway().await;
    let answer = world.https(HOST, origin.port(), get("/")).await;
    assert_eq!(answer.code(), "GatewayUnavailable");
    assert!(!answer.text().contains(&world.gateway.port().to_string()), "{}", answer.text());
}
