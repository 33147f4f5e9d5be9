//! Requests with two readings get none.

use clawlock_proxy::body::GateBody;
use http::{Request, Response};
use tokio::io::AsyncWriteExt;

use crate::client::{get, raw, read_head};
use crate::origin::{Origin, full};
use crate::world::{HOST, TestCa, World, loopback, usual, vendor};

async fn world() -> (World, Origin) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, body| Response::new(full(body))).await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    (world, origin)
}

/// Bytes inside an intercepted tunnel.
async fn inside(world: &World, origin: &Origin, bytes: &str) -> String {
    let stream = world.tunnel(HOST, origin.port(), &[b"http/1.1"]).await;
    raw(stream, bytes.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn class01_bytes_glued_behind_connect_or_upgrade_go_nowhere() {
    let (world, origin) = world().await;
    // Behind a refused CONNECT.
    let glued = "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\nGET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    let answer = world.raw(glued.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains(" 200 "), "{answer}");
    // Behind an accepted one, bytes that are not TLS end the tunnel.
    let authority = format!("{HOST}:{}", origin.port());
    let glued = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\nDELETE /v1/charges/1 HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    );
    let answer = world.raw(glued.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    // Behind an upgrade that the server did not accept, the next request is decided on its own.
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nDELETE /v1/charges/1 HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    );
    let answer = inside(&world, &origin, &upgrade).await;
    assert!(!answer.contains("101 Switching"), "{answer}");
    assert!(origin.requests().iter().all(|seen| seen.method == "GET"), "{:?}", origin.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn class02_ambiguous_framing_never_becomes_a_second_request() {
    let (world, origin) = world().await;
    let host = format!("{HOST}:{}", origin.port());
    let smuggled = "DELETE /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for head in [
        format!("POST /a HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"),
        format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: +5\r\n\r\nhello"),
        format!("POST /a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello"),
        format!("POST /a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("POST /a HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST /a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("POST /a HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\n  Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "POST /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(),
        format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET /a HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n"),
    ] {
        let before = origin.requests().len();
        let answer = inside(&world, &origin, &format!("{head}{smuggled}")).await;
        let arrived = origin.requests().split_off(before);
        // Either the whole is refused, or it is one request and what is behind it is another one, which is
        // decided as such (and refused: it names another host).
        assert!(arrived.len() <= 1, "{head:?}: {arrived:?}");
        for seen in arrived {
            assert!(seen.method == "POST" && seen.uri.ends_with("/a"), "{head:?}: {seen:?}");
            assert!(!seen.headers.contains_key("transfer-encoding") || !seen.headers.contains_key("content-length"));
            assert!(!String::from_utf8_lossy(&seen.body).contains("DELETE"), "{head:?}: {seen:?}");
        }
        assert!(!answer.contains("/smuggled"), "{head:?}");
    }
    assert!(origin.requests().iter().all(|seen| seen.method != "DELETE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn class03_a_refused_connect_does_not_poison_the_connection() {
    let (world, origin) = world().await;
    let mut tcp = tokio::net::TcpStream::connect(world.proxy).await.unwrap();
    tcp.write_all(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n").await.unwrap();
    assert!(read_head(&mut tcp).await.starts_with("HTTP/1.1 403"));
    // Another request, on a connection of its own, is not touched.
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn class07_literals_are_not_patterns() {
    let (world, origin) = world().await;
    for host in ["apixvendor.test", "api-vendor.test", "xapi.vendor.test", "api.vendor.test.evil.test"] {
        assert_eq!(world.connect(&format!("{host}:{}", origin.port())).await.0, 403, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class08_a_fragmented_client_hello_is_still_read() {
    use tokio::io::AsyncReadExt;
    let (world, origin) = world().await;
    // One TLS handshake through a pipe that hands over a byte at a time.
    let (status, tcp) = world.connect(&format!("{HOST}:{}", origin.port())).await;
    assert_eq!(status, 200);
    tcp.set_nodelay(true).unwrap();
    let (near, far) = tokio::io::duplex(16 * 1024);
    let (mut from_client, mut to_client) = tokio::io::split(far);
    let (mut from_proxy, mut to_proxy) = tcp.into_split();
    tokio::spawn(async move {
        let mut byte = [0];
        while from_client.read_exact(&mut byte).await.is_ok() {
            to_proxy.write_all(&byte).await.unwrap();
        }
    });
    tokio::spawn(async move { tokio::io::copy(&mut from_proxy, &mut to_client).await });
    let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
    let connector = tokio_rustls::TlsConnector::from(world.agent_tls(&[b"http/1.1"]));
    let stream = connector.connect(name, near).await.unwrap();
    let mut sender = crate::client::http1_sender(stream).await;
    let mut request = get("/");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn class08_another_server_name_than_connect_s_is_refused() {
    let (world, origin) = world().await;
    let (status, tcp) = world.connect(&format!("{HOST}:{}", origin.port())).await;
    assert_eq!(status, 200);
    let name = rustls::pki_types::ServerName::try_from("evil.test").unwrap();
    let connector = tokio_rustls::TlsConnector::from(world.agent_tls(&[b"http/1.1"]));
    assert!(connector.connect(name, tcp).await.is_err());
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn class11_connection_cannot_remove_what_the_gates_rely_on() {
    let (world, origin) = world().await;
    let host = format!("{HOST}:{}", origin.port());
    for nominated in ["authorization", "host", "content-length", "clawlock-upstream"] {
        let bytes = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close, {nominated}\r\n\r\n");
        let answer = inside(&world, &origin, &bytes).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{nominated}: {answer}");
    }
    assert!(origin.requests().is_empty());
    let bytes = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nX-Drop: 1\r\nConnection: close, x-drop\r\n\r\n");
    assert!(inside(&world, &origin, &bytes).await.starts_with("HTTP/1.1 200"));
    assert!(!origin.requests()[0].headers.contains_key("x-drop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn class12_the_decided_path_is_the_forwarded_path() {
    let (world, origin) = world().await;
    let host = format!("{HOST}:{}", origin.port());
    for path in [
        "//a",
        "/a//b",
        "/a/../b",
        "/a/%2e%2e/b",
        "/a/..;x/b",
        "/a;b",
        "/a/.%2E",
        "/a%5cb",
        "/a%00b",
        "/a%",
        "/a%zz",
        "/%ff",
    ] {
        let answer =
            inside(&world, &origin, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
        let mut sender = world.sender2(HOST, origin.port()).await;
        let uri = format!("https://{host}{path}");
        if let Ok(request) = Request::builder().uri(uri).body(GateBody::empty()) {
            assert_eq!(sender.send_request(request).await.unwrap().status(), 400, "h2 {path}");
        }
    }
    assert!(origin.requests().is_empty());
    for path in ["/a/%41%20b", "/@scope%2fname", "/a/", "/~user/x.y-z_1"] {
        let answer =
            inside(&world, &origin, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        let seen = origin.requests().pop().unwrap();
        assert!(seen.uri.ends_with(path), "{path}: {}", seen.uri);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class14_the_proxy_is_no_server_for_web_pages() {
    let (world, _) = world().await;
    for host in ["127.0.0.1", "localhost", "evil.test"] {
        let answer = world.raw(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{host}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class22_heads_are_bounded() {
    let (world, origin) = world().await;
    let host = format!("{HOST}:{}", origin.port());
    let long = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(200 * 1024));
    assert!(inside(&world, &origin, &long).await.starts_with("HTTP/1.1 431"));
    let many: String = (0..500).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = format!("GET /a HTTP/1.1\r\nHost: {host}\r\n{many}\r\n");
    assert!(inside(&world, &origin, &many).await.starts_with("HTTP/1.1 431"));
    assert!(origin.requests().is_empty());
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200, "others are unharmed");
}
