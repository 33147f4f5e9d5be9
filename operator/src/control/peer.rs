//! Who is at the other end, by its verified client certificate.

use clawlock_compile::Tenant;
use clawlock_compile::objects::names::{GATEWAY, Role};
use clawlock_policy::SpiffeId;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A pod with an identity of the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Agent or gateway.
    pub(crate) role: Role,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its ServiceAccount.
    pub(crate) service_account: String,
    /// Its UID.
    pub(crate) uid: String,
    /// Its SPIFFE ID.
    pub(crate) identity: String,
    /// The end of its certificate, in milliseconds since the Unix epoch.
    pub(crate) not_after_ms: u64,
}

/// The DNS name of a tenant's gateway.
pub(crate) fn gateway_name(tenant: &str) -> String {
    format!("gateway.{tenant}.clawlock.internal")
}

/// Reads a certificate that the tenant's CA signed.
///
/// # Errors
/// When it is not one that this operator issues.
pub(crate) fn peer(certificate: &CertificateDer<'_>, tenant: &Tenant) -> Result<Peer, &'static str> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| "the certificate cannot be parsed")?;
    let names = parsed.subject_alternative_name().map_err(|_| "the certificate has two lists of names")?;
    let names = names.ok_or("the certificate has no names")?;
    let gateway = gateway_name(tenant.name());
    let mut uri = None;
    let mut is_gateway = false;
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(text) if uri.is_none() => uri = Some(*text),
            GeneralName::DNSName(dns) if !is_gateway && *dns == gateway => is_gateway = true,
            _ => return Err("the certificate has a name that this operator does not issue"),
        }
    }
    let identity = SpiffeId::parse(uri.ok_or("the certificate names no pod")?);
    let identity = identity.map_err(|_| "the certificate does not name a pod by a SPIFFE ID")?;
    let rest = identity.as_str().strip_prefix("spiffe://").unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').collect();
    let &[domain, _, namespace, _, service_account, _, uid] = parts.as_slice() else {
        return Err("the certificate does not name a pod by a SPIFFE ID");
    };
    if domain != tenant.trust_domain() {
        return Err("the certificate is of another trust domain");
    }
    let role = match is_gateway {
        true if namespace == tenant.platform_namespace() && service_account == GATEWAY => Role::Gateway,
        false if tenant.namespaces().any(|listed| listed == namespace) => Role::Agent,
        _ => return Err("the certificate's namespace has another role in this tenant"),
    };
    let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    Ok(Peer {
        role,
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        uid: uid.to_owned(),
        identity: identity.as_str().to_owned(),
        not_after_ms: end.saturating_mul(1000),
    })
}
