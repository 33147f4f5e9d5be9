//! A control API for tests, of the real messages over real TLS. What it answers is written by the test, stream by
//! stream; it decides nothing. The tests of the sidecar include this file, too.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clawlock_control::message::{CertificateAnswer, CertificateRequest, Encoded, Problem};
use clawlock_control::{CERTIFICATES, Lines, STREAM, ToClient, ToServer, control_name, encode_line};
use clawlock_policy::document::{Assignment, Document, PodDoc};
use clawlock_policy::envelope::{self, Envelope, SigningKey};
use clawlock_policy::{SpiffeId, codec};
use http::{Request, Response, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, version};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long a test waits for what must happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The tenant of all tests.
pub(crate) const TENANT: &str = "acme";

type Body = BoxBody<Bytes, Infallible>;

/// An authority with its certificate.
pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// A leaf with a key of its own.
    pub(crate) fn leaf(&self, who: &Who) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let der = who.params(DAY).signed_by(&key, &self.issuer).unwrap().der().clone();
        (der, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a certificate says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who {
    pub(crate) names: Vec<String>,
    pub(crate) uris: Vec<String>,
}

impl Who {
    /// A pod by its SPIFFE ID.
    pub(crate) fn agent(identity: &SpiffeId) -> Self {
        Self { names: Vec::new(), uris: vec![identity.to_string()] }
    }

    /// A gateway of [`TENANT`].
    pub(crate) fn gateway(identity: &SpiffeId) -> Self {
        Self { names: vec![format!("gateway.{TENANT}.clawlock.internal")], uris: vec![identity.to_string()] }
    }

    fn params(&self, ttl: Duration) -> CertificateParams {
        let mut params = CertificateParams::default();
        let names = self.names.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap()));
        let uris = self.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
        params.subject_alt_names = names.chain(uris).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !self.names.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.not_after = (SystemTime::now() + ttl).into();
        params
    }
}

/// What the test has said of the certificates.
struct Script {
    tokens: HashMap<String, Who>,
    refusal: Option<(StatusCode, Problem)>,
    stream_refusal: Option<(StatusCode, Problem)>,
    ttl: Duration,
    roots: Vec<CertificateDer<'static>>,
    issued: usize,
}

/// The control API.
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    pub(crate) anchor: Authority,
    pub(crate) tenant: Arc<Authority>,
    pub(crate) key: SigningKey,
    shared: Arc<Shared>,
    streams: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
}

struct Shared {
    tenant: Arc<Authority>,
    public: Vec<u8>,
    script: Mutex<Script>,
    streams: mpsc::Sender<Stream>,
    connections: Mutex<JoinSet<()>>,
}

impl Control {
    /// One that knows no token yet.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, Authority::new(), SigningKey::generate().unwrap())
    }

    /// One on a listener, of an anchor and with a key for policy.
    pub(crate) fn on(listener: TcpListener, anchor: Authority, key: SigningKey) -> Self {
        let address = listener.local_addr().unwrap();
        let tenant = Arc::new(Authority::new());
        let script = Script {
            tokens: HashMap::new(),
            refusal: None,
            stream_refusal: None,
            ttl: DAY,
            roots: vec![tenant.der.clone()],
            issued: 0,
        };
        let (sender, streams) = mpsc::channel(16);
        let shared = Arc::new(Shared {
            tenant: tenant.clone(),
            public: key.public().as_bytes().to_vec(),
            script: Mutex::new(script),
            streams: sender,
            connections: Mutex::default(),
        });
        let acceptor = TlsAcceptor::from(tls(&anchor, &tenant));
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let connection = serve(acceptor.clone(), tcp, serving.clone());
                serving.connections.lock().unwrap().spawn(connection);
            }
        });
        Self { address, anchor, tenant, key, shared, streams: tokio::sync::Mutex::new(streams) }
    }

    /// Issues certificates of `who` for a token from now on.
    pub(crate) fn admit(&self, token: &str, who: Who) {
        self.script(|script| {
            script.tokens.insert(token.to_owned(), who);
        });
    }

    /// Refuses every request for a certificate, or none.
    pub(crate) fn refuse(&self, refusal: Option<(StatusCode, &str)>) {
        self.script(|script| script.refusal = refusal.map(problem));
    }

    /// Refuses every stream, or none.
    pub(crate) fn refuse_streams(&self, refusal: Option<(StatusCode, &str)>) {
        self.script(|script| script.stream_refusal = refusal.map(problem));
    }

    /// Lets certificates live so long.
    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.script(|script| script.ttl = ttl);
    }

    /// Ends every connection that is open now.
    pub(crate) fn hang_up(&self) {
        self.shared.connections.lock().unwrap().abort_all();
    }

    /// How many certificates were issued.
    pub(crate) fn issued(&self) -> usize {
        self.shared.script.lock().unwrap().issued
    }

    fn script(&self, edit: impl FnOnce(&mut Script)) {
        edit(&mut self.shared.script.lock().unwrap());
    }

    /// The next stream that a client opens soon, after its hello.
    pub(crate) async fn stream(&self) -> Stream {
        tokio::time::timeout(SOON, self.accept()).await.expect("a client opens a stream")
    }

    /// The next stream that a client opens.
    pub(crate) async fn accept(&self) -> Stream {
        self.streams.lock().await.recv().await.unwrap()
    }

    /// What every stream begins with: whom to trust.
    pub(crate) fn trust(&self) -> ToClient {
        let roots = self.shared.script.lock().unwrap().roots.clone();
        ToClient::Trust {
            roots: roots.iter().map(|root| Encoded(root.to_vec())).collect(),
            keys: vec![Encoded(self.shared.public.clone())],
        }
    }

    /// Signed documents and the assignment that names them.
    pub(crate) fn policy(
        &self,
        pod: &PodDoc,
        identity: &SpiffeId,
        documents: &[Document],
        generation: u64,
    ) -> Vec<ToClient> {
        policy(&self.key, pod, identity, documents, generation)
    }
}

/// Signed documents and the assignment that names them, valid for an hour.
pub(crate) fn policy(
    key: &SigningKey,
    pod: &PodDoc,
    identity: &SpiffeId,
    documents: &[Document],
    generation: u64,
) -> Vec<ToClient> {
    let encoded: Vec<Vec<u8>> = documents.iter().map(codec::encode).collect();
    let mut digests: Vec<String> = encoded.iter().map(|bytes| codec::digest(bytes)).collect();
    let sign = |kind, payload: &[u8]| Encoded(Envelope::sign(kind, payload, key).encode());
    let mut messages: Vec<ToClient> = encoded
        .iter()
        .zip(&digests)
        .map(|(bytes, digest)| ToClient::Document { digest: digest.clone(), envelope: sign(envelope::DOCUMENT, bytes) })
        .collect();
    digests.sort();
    let now_ms = now_ms();
    let assignment = Assignment {
        tenant: TENANT.to_owned(),
        identity: identity.to_string(),
        pod: pod.clone(),
        plugin_optional: None,
        digests: digests.clone(),
        generation,
        issued_at_ms: now_ms,
        not_after_ms: now_ms + 3_600_000,
    };
    let envelope = sign(envelope::ASSIGNMENT, &codec::encode_assignment(&assignment));
    messages.push(ToClient::Assignment { identity: identity.to_string(), envelope, digests });
    messages
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A pod of namespace `acme` by its uid, and its identity.
pub(crate) fn pod(uid: &str) -> (PodDoc, SpiffeId) {
    let pod = PodDoc {
        namespace: "acme".to_owned(),
        name: format!("agent-{uid}"),
        uid: uid.to_owned(),
        service_account: "default".to_owned(),
        labels: BTreeMap::new(),
    };
    (pod, SpiffeId::of_pod("acme.example", "acme", "default", uid).unwrap())
}

/// A token in a file, as the kubelet projects it.
pub(crate) fn token_file(folder: &Path, token: &str) -> PathBuf {
    let path = folder.join("token");
    std::fs::write(&path, token).unwrap();
    path
}

/// One stream of a client.
pub(crate) struct Stream {
    /// The URIs and names of its certificate.
    pub(crate) who: Vec<String>,
    /// Digests that it has.
    pub(crate) documents: Vec<String>,
    outbox: Option<Sender<Bytes, Infallible>>,
    inbox: mpsc::Receiver<ToServer>,
}

impl Stream {
    /// Says something.
    pub(crate) async fn say(&mut self, messages: &[ToClient]) {
        let bytes: Vec<u8> = messages.iter().flat_map(encode_line).collect();
        self.say_bytes(bytes).await;
    }

    /// Says anything at all.
    pub(crate) async fn say_bytes(&mut self, bytes: Vec<u8>) {
        // A client that has gone away is seen by whoever waits for its next message.
        drop(self.outbox.as_mut().expect("it was not ended").send_data(bytes.into()).await);
    }

    /// What the client says soon.
    pub(crate) async fn hear(&mut self) -> ToServer {
        tokio::time::timeout(SOON, self.listen()).await.expect("the client says something").expect("it is there")
    }

    /// What the client says next; nothing when it has gone.
    pub(crate) async fn listen(&mut self) -> Option<ToServer> {
        self.inbox.recv().await
    }

    /// Completes when the client has gone.
    pub(crate) async fn gone(&mut self) {
        let gone = async { while self.listen().await.is_some() {} };
        tokio::time::timeout(SOON, gone).await.expect("the client goes");
    }

    /// Ends the stream as a server does from time to time.
    pub(crate) fn end(&mut self) {
        self.outbox = None;
    }
}

fn problem((status, code): (StatusCode, &str)) -> (StatusCode, Problem) {
    (status, Problem { code: code.to_owned(), detail: "the test says so".to_owned() })
}

fn tls(anchor: &Authority, tenant: &Authority) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(tenant.der.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let server = Who { names: vec![control_name(TENANT)], uris: Vec::new() };
    let (leaf, key) = anchor.leaf(&server);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn serve(acceptor: TlsAcceptor, tcp: TcpStream, shared: Arc<Shared>) {
    let Ok(stream) = acceptor.accept(tcp).await else { return };
    let client = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, client) = (shared.clone(), client.clone());
        async move {
            let response = match (request.uri().path(), client) {
                (CERTIFICATES, None) => certificate(&shared, request).await,
                (STREAM, Some(client)) => open(&shared, &client, request).await,
                _ => answer(StatusCode::NOT_FOUND, Vec::new()),
            };
            Ok::<_, Infallible>(response)
        }
    });
    drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
}

fn answer(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

fn refused((status, problem): &(StatusCode, Problem)) -> Response<Body> {
    answer(*status, serde_json::to_vec(problem).unwrap())
}

async fn certificate(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let CertificateRequest { token, csr: Encoded(csr) } = serde_json::from_slice(&body).unwrap();
    let mut script = shared.script.lock().unwrap();
    if let Some(refusal) = &script.refusal {
        return refused(refusal);
    }
    let Some(who) = script.tokens.get(&token) else {
        return refused(&problem((StatusCode::UNAUTHORIZED, "TokenRefused")));
    };
    let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).unwrap();
    let leaf = who.params(script.ttl).signed_by(&csr.public_key, &shared.tenant.issuer).unwrap();
    let ttl_ms = u64::try_from(script.ttl.as_millis()).unwrap();
    script.issued += 1;
    let encoded = |der: &CertificateDer<'_>| Encoded(der.to_vec());
    let issued = CertificateAnswer {
        chain: vec![encoded(leaf.der())],
        roots: script.roots.iter().map(encoded).collect(),
        keys: vec![Encoded(shared.public.clone())],
        not_after_ms: now_ms() + ttl_ms,
    };
    answer(StatusCode::OK, serde_json::to_vec(&issued).unwrap())
}

async fn open(shared: &Shared, client: &CertificateDer<'_>, request: Request<Incoming>) -> Response<Body> {
    let refusal = shared.script.lock().unwrap().stream_refusal.clone();
    if let Some(refusal) = refusal {
        return refused(&refusal);
    }
    let (outbox, body) = Channel::<Bytes, Infallible>::new(64);
    let (heard, inbox) = mpsc::channel(64);
    let mut from = request.into_body();
    let (streams, who) = (shared.streams.clone(), names(client));
    tokio::spawn(async move {
        let mut lines = Lines::new();
        let mut waiting = Some((outbox, inbox));
        while let Some(Ok(frame)) = from.frame().await {
            let Ok(piece) = frame.into_data() else { continue };
            lines.push(&piece);
            while let Some(message) = lines.next_message::<ToServer>().unwrap() {
                match (waiting.take(), message) {
                    (Some((outbox, inbox)), ToServer::Hello { version, documents }) => {
                        assert_eq!(version, clawlock_control::VERSION);
                        let stream = Stream { who: who.clone(), documents, outbox: Some(outbox), inbox };
                        drop(streams.send(stream).await);
                    }
                    (None, message) => drop(heard.send(message).await),
                    (Some(_), message) => panic!("{message:?} came before hello"),
                }
            }
        }
    });
    Response::new(body.boxed())
}

fn names(client: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(client).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => (*name).to_owned(),
        other => panic!("{other:?}"),
    };
    names.value.general_names.iter().map(name).collect()
}
