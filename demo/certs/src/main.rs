//! Makes the certificates of the demo's upstreams: `clawlock-demo-certs DIR NAME...`
//!
//! Writes `DIR/ca.crt` and, for each NAME, `DIR/NAME.crt` and `DIR/NAME.key` (PEM). The key of the authority is
//! never written: it signs these leaves and is gone. A fresh machine has no `openssl`, hence this program.
//! It is for tests on loopback only and is no part of the product.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((directory, names)) = arguments.split_first().filter(|(_, names)| !names.is_empty()) else {
        eprintln!("usage: clawlock-demo-certs DIR NAME...");
        return ExitCode::from(2);
    };
    match write_all(Path::new(directory), names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clawlock-demo-certs: cannot make certificates in {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(directory: &Path, names: &[String]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Clawlock demo upstreams");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    fs::write(directory.join("ca.crt"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);

    for name in names {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new(vec![name.clone()])?;
        leaf.distinguished_name.push(DnType::CommonName, name.as_str());
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        fs::write(directory.join(format!("{name}.crt")), leaf.signed_by(&key, &issuer)?.pem())?;
        write_private(&directory.join(format!("{name}.key")), &key.serialize_pem())?;
    }
    Ok(())
}

/// Only the user who runs the demo may read a key, from its first byte on.
fn write_private(path: &Path, contents: &str) -> Result<(), Box<dyn Error>> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(contents.as_bytes())?;
    Ok(())
}
