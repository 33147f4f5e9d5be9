use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConnection};

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn trusting(
    certificate: &CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

/// What came of a handshake, seen from the client.
#[derive(Debug, PartialEq)]
struct Shaken {
    version: ProtocolVersion,
    kind: HandshakeKind,
    alpn: Vec<u8>,
}

fn handshake(client: &Arc<ClientConfig>, name: &str, server: Arc<ServerConfig>) -> Result<Shaken, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut wire = Vec::new();
    while client.wants_write() || server.wants_write() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut read = wire.as_slice();
        while !read.is_empty() {
            server.read_tls(&mut read).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut read = wire.as_slice();
        while !read.is_empty() {
            client.read_tls(&mut read).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(Shaken {
        version: client.protocol_version().unwrap(),
        kind: client.handshake_kind().unwrap(),
        alpn: client.alpn_protocol().unwrap().to_vec(),
    })
}

#[test]
fn a_client_that_trusts_only_the_ca_is_served_by_name_in_both_versions() {
    let ca = InterceptionCa::in_memory().unwrap();
    for (client, version) in [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let client = Arc::new(trusting(ca.certificate(), &[client]));
        let full = handshake(&client, "api.stripe.com", ca.server_config(&host("api.stripe.com")).unwrap()).unwrap();
        assert_eq!(full, Shaken { version, kind: HandshakeKind::Full, alpn: b"h2".to_vec() });
        let again = handshake(&client, "API.stripe.com", ca.server_config(&host("api.stripe.com")).unwrap()).unwrap();
        assert_eq!(again.kind, HandshakeKind::Resumed, "{version:?}");
    }
    let stranger = InterceptionCa::in_memory().unwrap();
    let client = Arc::new(trusting(stranger.certificate(), &[&version::TLS13]));
    assert!(handshake(&client, "api.stripe.com", ca.server_config(&host("api.stripe.com")).unwrap()).is_err());
}

#[test]
fn class04_another_server_name_or_none_is_refused_with_and_without_a_ticket() {
    let ca = InterceptionCa::in_memory().unwrap();
    let stripe = ca.server_config(&host("api.stripe.com")).unwrap();
    let client = Arc::new(trusting(ca.certificate(), rustls::ALL_VERSIONS));
    assert!(handshake(&client, "evil.example", stripe.clone()).is_err());
    assert!(handshake(&client, "127.0.0.1", stripe.clone()).is_err(), "an address is no server name");
    assert!(handshake(&client, "stripe.com", stripe.clone()).is_err());
    let mut silent = trusting(ca.certificate(), rustls::ALL_VERSIONS);
    silent.enable_sni = false;
    assert!(handshake(&Arc::new(silent), "api.stripe.com", stripe.clone()).is_err());
    // A ticket of one host opens no session at another, though both know its key.
    handshake(&client, "api.stripe.com", stripe).unwrap();
    let github = ca.server_config(&host("api.github.com")).unwrap();
    assert!(handshake(&client, "api.stripe.com", github).is_err());
}

#[test]
fn configurations_are_kept_until_their_leaf_is_old_or_the_clock_went_back() {
    let ca = InterceptionCa::in_memory().unwrap();
    let (now, tick) = (SystemTime::now(), Instant::now());
    let first = ca.config_at(&host("a.example"), now, tick).unwrap();
    assert!(Arc::ptr_eq(&first, &ca.config_at(&host("A.example"), now, tick).unwrap()));
    let later = now + LEAF_VALIDITY - LEAF_RENEWAL;
    assert!(!Arc::ptr_eq(&first, &ca.config_at(&host("a.example"), later, tick).unwrap()));
    let back = now - 2 * issue::BACKDATE;
    let again = ca.config_at(&host("a.example"), back, tick).unwrap();
    assert!(Arc::ptr_eq(&again, &ca.config_at(&host("a.example"), back, tick).unwrap()));
}

#[test]
fn class22_new_hosts_are_bounded_in_number_and_in_time() {
    let ca = InterceptionCa::in_memory().unwrap();
    let (now, tick) = (SystemTime::now(), Instant::now());
    let name = |n: u32| host(&format!("h{n}.example"));
    for n in 0..MINTED_AT_ONCE {
        ca.config_at(&name(n), now, tick).unwrap();
    }
    let more = ca.config_at(&name(MINTED_AT_ONCE), now, tick).unwrap_err();
    assert!(matches!(more, MintError::TooMany), "{more}");
    assert!(ca.config_at(&name(0), now, tick).is_ok(), "known hosts need no budget");
    let second = tick + Duration::from_secs(1);
    for n in 0..MINTED_PER_SECOND {
        ca.config_at(&name(MINTED_AT_ONCE + n), now, second).unwrap();
    }
    assert!(ca.config_at(&host("one.more.example"), now, second).is_err());
    let hour = tick + Duration::from_secs(3600);
    for n in 0..MINTED_AT_ONCE {
        ca.config_at(&host(&format!("later{n}.example")), now, hour).unwrap();
    }
    assert!(ca.config_at(&host("two.more.example"), now, hour).is_err(), "an idle hour saves up no more");
    assert_eq!(ca.state.lock().unwrap().hosts.cap(), HOSTS);
    assert!(ca.state.lock().unwrap().hosts.len() <= HOSTS.get());
}

#[test]
fn a_restart_keeps_the_ca_and_what_was_trusted() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/ca");
    let first = InterceptionCa::load_or_create(&dir).unwrap();
    let client = Arc::new(trusting(first.certificate(), rustls::ALL_VERSIONS));
    let second = InterceptionCa::load_or_create(&dir).unwrap();
    assert_eq!(first.bundle_pem(), second.bundle_pem());
    assert_eq!(fs::read_to_string(dir.join("ca.crt")).unwrap(), second.bundle_pem());
    let served = second.server_config(&host("a.example")).unwrap();
    assert!(handshake(&client, "a.example", served).is_ok());
    // The certificate is made anew from the key; what trusted the old one trusts the new.
    fs::remove_file(dir.join("ca.crt")).unwrap();
    let third = InterceptionCa::load_or_create(&dir).unwrap();
    assert_ne!(first.bundle_pem(), third.bundle_pem());
    assert!(handshake(&client, "a.example", third.server_config(&host("a.example")).unwrap()).is_ok());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_key_is_for_its_owner_only_and_no_temporary_file_stays() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ca");
    InterceptionCa::load_or_create(&dir).unwrap();
    assert_eq!((mode(&dir), mode(&dir.join("ca.key")), mode(&dir.join("ca.crt"))), (0o700, 0o600, 0o644));
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["ca.crt", "ca.key"]);
}

#[test]
fn a_key_that_others_can_use_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ca");
    InterceptionCa::load_or_create(&dir).unwrap();
    for (path, bad, good) in
        [(dir.join("ca.key"), 0o640, 0o600), (dir.join("ca.key"), 0o602, 0o600), (dir.clone(), 0o755, 0o700)]
    {
        chmod(&path, bad);
        let error = InterceptionCa::load_or_create(&dir).unwrap_err();
        assert!(matches!(&error, CaError::Exposed { path: named, mode } if *named == path && *mode == bad), "{error}");
        assert!(error.to_string().contains("remove the folder"), "{error}");
        chmod(&path, good);
    }
    assert!(InterceptionCa::load_or_create(&dir).is_ok());
}

#[test]
fn links_folders_and_garbage_in_place_of_the_files_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let fresh = |name: &str| {
        let dir = parent.path().join(name);
        InterceptionCa::load_or_create(&dir).unwrap();
        dir
    };
    let linked = fresh("linked");
    fs::rename(linked.join("ca.key"), linked.join("real.key")).unwrap();
    symlink("real.key", linked.join("ca.key")).unwrap();
    assert!(matches!(InterceptionCa::load_or_create(&linked).unwrap_err(), CaError::Io { .. }));

    let folder = fresh("folder");
    fs::remove_file(folder.join("ca.key")).unwrap();
    fs::create_dir(folder.join("ca.key")).unwrap();
    assert!(matches!(InterceptionCa::load_or_create(&folder).unwrap_err(), CaError::Io { .. }));

    let (one, other) = (fresh("one"), fresh("other"));
    fs::copy(other.join("ca.crt"), one.join("ca.crt")).unwrap();
    let error = InterceptionCa::load_or_create(&one).unwrap_err();
    assert!(error.to_string().contains("is not the certificate of ca.key"), "{error}");
    for garbage in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(one.join("ca.crt"), garbage).unwrap();
        let error = InterceptionCa::load_or_create(&one).unwrap_err();
        assert!(matches!(error, CaError::Content { .. }), "{error}");
    }
    fs::write(other.join("ca.key"), "x".repeat(100_000)).unwrap();
    assert!(InterceptionCa::load_or_create(&other).unwrap_err().to_string().contains("larger than 64 KiB"));
    fs::write(other.join("ca.key"), "garbage").unwrap();
    assert!(InterceptionCa::load_or_create(&other).unwrap_err().to_string().contains("is not a P-256 key"));

    let link = parent.path().join("link");
    symlink(&one, &link).unwrap();
    assert!(InterceptionCa::load_or_create(&link).is_err());
}

#[test]
fn an_old_certificate_is_made_anew_over_the_same_key() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ca");
    InterceptionCa::load_or_create(&dir).unwrap();
    let store = Store::open(&dir).unwrap();
    let key = load_key(&store).unwrap();
    let long_ago = SystemTime::now() - CA_VALIDITY + CA_RENEWAL;
    let old = issue::ca(&key, long_ago).unwrap();
    store.write_certificate(&old.pem()).unwrap();
    let renewed = InterceptionCa::load_or_create(&dir).unwrap();
    assert_ne!(renewed.bundle_pem(), old.pem());
    let client = Arc::new(trusting(old.der(), rustls::ALL_VERSIONS));
    assert!(handshake(&client, "a.example", renewed.server_config(&host("a.example")).unwrap()).is_ok());
}

#[test]
fn processes_that_start_at_once_share_one_key() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ca");
    let store = Store::open(&dir).unwrap();
    let first = KeyPair::generate().unwrap();
    assert!(store.write_key(&first.serialize_pem()).unwrap());
    assert!(!store.write_key(&KeyPair::generate().unwrap().serialize_pem()).unwrap());
    assert_eq!(load_key(&store).unwrap().public_key_raw(), first.public_key_raw());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
}

#[test]
fn class15_the_key_is_never_printed() {
    assert_eq!(format!("{:?}", InterceptionCa::in_memory().unwrap()), "InterceptionCa(..)");
}
