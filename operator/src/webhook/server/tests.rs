//! The server as the API server, and as anyone else who reaches the port, sees it.

use std::net::SocketAddr;

use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::webhook::certificate::{Certificate, tests::secret, tls};
use crate::webhook::fixtures::{pod, policy, review, tenants};

const NAME: &str = "clawlock-webhook.test";
const PODS: [&str; 3] = ["", "v1", "pods"];

struct Running {
    address: SocketAddr,
    certificate: Arc<Certificate>,
    root: CertificateDer<'static>,
    tenants: watch::Sender<Option<Arc<Tenants>>>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

async fn start() -> Running {
    let certificate = Arc::new(Certificate::default());
    let (made, root) = secret(NAME);
    certificate.replace(&made).unwrap();
    let (sender, receiver) = watch::channel(Some(Arc::new(tenants())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Arc::new(App::new(receiver, Arc::new(Metrics::new())));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, tls(certificate.clone()).unwrap(), app, async {
        let _ = stopped.await;
    }));
    Running { address, certificate, root, tenants: sender, stop, served }
}

impl Running {
    async fn connect(&self, root: &CertificateDer<'static>, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tcp = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), tcp).await
    }

    async fn send<B>(&self, request: Request<B>) -> (StatusCode, Bytes)
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let tls = self.connect(&self.root, "http/1.1").await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
        self.send(post(path, body)).await
    }
}

fn post(path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let builder = Request::post(path).header("host", NAME).header(CONTENT_TYPE, "application/json; charset=utf-8");
    builder.body(Full::new(Bytes::from(body))).unwrap()
}

fn pod_review() -> Vec<u8> {
    review("CREATE", PODS, "", &Value::Null, &pod())
}

#[tokio::test]
async fn a_pod_is_injected_over_http_1_and_2() {
    let running = start().await;
    let (status, body) = running.post("/mutate/pods?timeout=5s", pod_review()).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"]["patchType"], "JSONPatch");

    let tls = running.connect(&running.root, "h2").await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let mut request = post("/mutate/pods", pod_review());
    *request.uri_mut() = format!("https://{NAME}/mutate/pods").parse().unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
}

#[tokio::test]
async fn each_kind_has_its_path() {
    let running = start().await;
    let resource = ["clawlock.dev", "v1alpha1", "agentpolicies"];
    let body = review("CREATE", resource, "", &Value::Null, &policy("stripe"));
    let (status, answer) = running.post("/validate/agentpolicies", body.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap()["response"]["allowed"], true);
    for path in ["/validate/upstreams", "/validate/agenthalts", "/validate/tenantgateways", "/mutate/pods"] {
        assert_eq!(running.post(path, body.clone()).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_and_the_server_goes_on() {
    let running = start().await;
    for (path, body, expected) in [
        ("/", pod_review(), StatusCode::NOT_FOUND),
        ("/metrics", Vec::new(), StatusCode::NOT_FOUND),
        ("/mutate/pods/", pod_review(), StatusCode::NOT_FOUND),
        ("/mutate/pods", Vec::new(), StatusCode::BAD_REQUEST),
        ("/mutate/pods", b"{\"kind\":".to_vec(), StatusCode::BAD_REQUEST),
        ("/mutate/pods", vec![b'['; 1_000_000], StatusCode::BAD_REQUEST),
        ("/mutate/pods", vec![0xff; 64], StatusCode::BAD_REQUEST),
        ("/mutate/pods", json!({ "kind": "Pod" }).to_string().into_bytes(), StatusCode::BAD_REQUEST),
        ("/mutate/pods", review("DELETE", PODS, "", &pod(), &Value::Null), StatusCode::BAD_REQUEST),
        ("/mutate/pods", vec![b' '; MAX_BODY + 1], StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let (status, text) = running.post(path, body).await;
        assert_eq!(status, expected, "{path}");
        assert!(text.starts_with(b"clawlock-webhook: ") && text.len() < 1024, "{text:?}");
    }
    let get = Request::get("/mutate/pods").header("host", NAME).body(Full::new(Bytes::new())).unwrap();
    assert_eq!(running.send(get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let mut form = post("/mutate/pods", pod_review());
    form.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    assert_eq!(running.send(form).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(running.post("/mutate/pods", pod_review()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let running = start().await;
    let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 64 * 1024])));
    let chunks = futures_util::stream::iter((0..=MAX_BODY / (64 * 1024)).map(move |_| chunk()));
    let builder = Request::post("/mutate/pods").header("host", NAME).header(CONTENT_TYPE, "application/json");
    let (status, _) = running.send(builder.body(StreamBody::new(chunks)).unwrap()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn before_the_tenants_are_known_nothing_is_allowed() {
    let running = start().await;
    running.tenants.send_replace(None);
    let (status, text) = running.post("/mutate/pods", pod_review()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.starts_with(b"clawlock-webhook: not ready"));
}

#[tokio::test]
async fn a_new_certificate_is_used_from_the_next_connection_on() {
    let running = start().await;
    let (made, root) = secret(NAME);
    assert!(running.connect(&root, "h2").await.is_err());
    running.certificate.replace(&made).unwrap();
    assert!(running.connect(&root, "h2").await.is_ok());
    assert!(running.connect(&running.root, "h2").await.is_err());
}

#[tokio::test]
async fn without_a_certificate_no_handshake_succeeds() {
    let mut running = start().await;
    running.certificate = Arc::new(Certificate::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    running.address = listener.local_addr().unwrap();
    let app = Arc::new(App::new(running.tenants.subscribe(), Arc::new(Metrics::new())));
    tokio::spawn(serve(listener, tls(running.certificate.clone()).unwrap(), app, std::future::pending()));
    assert!(running.connect(&running.root, "h2").await.is_err());
}

#[tokio::test]
async fn when_it_stops_open_requests_finish_and_nobody_connects_any_more() {
    let running = start().await;
    let tls = running.connect(&running.root, "http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
    let connection = tokio::spawn(connection);
    // A request whose body is not all there yet.
    let (pieces, body) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(2);
    let body = futures_util::stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) });
    let builder = Request::post("/mutate/pods").header("host", NAME).header(CONTENT_TYPE, "application/json");
    let review = pod_review();
    let (first, second) = review.split_at(20);
    pieces.send(Ok(Frame::data(Bytes::copy_from_slice(first)))).await.unwrap();
    let answer = tokio::spawn(sender.send_request(builder.body(StreamBody::new(body)).unwrap()));
    running.stop.send(()).unwrap();
    pieces.send(Ok(Frame::data(Bytes::copy_from_slice(second)))).await.unwrap();
    drop(pieces);
    assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
    running.served.await.unwrap();
    connection.await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[test]
fn one_address_has_a_share_of_the_connections() {
    let places = Places::default();
    let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let mut held: Vec<Place> = (0..CONNECTIONS_PER_PEER).map(|_| places.take(one).unwrap()).collect();
    assert!(places.take(one).is_none());
    assert!(places.take(other).is_some());
    held.pop();
    assert!(places.take(one).is_some());
    held.clear();
    assert!(places.0.lock().unwrap().is_empty(), "what is given back leaves nothing behind");
}
