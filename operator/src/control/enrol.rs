//! `POST /v1/certificates`: a pod's projected token and a signing request for a certificate.
//!
//! Namespace, pod and ServiceAccount come from the token alone; of the signing request only the public key
//! counts, and the proof that its owner asked.

use std::sync::Arc;
use std::time::Duration;

use clawlock_compile::Tenant;
use clawlock_compile::objects::names::{GATEWAY, ROLE_LABEL, Role, TENANT_LABEL};
use clawlock_compile::objects::sidecar::{Standing, standing};
use clawlock_control::{CertificateAnswer, CertificateRequest, Encoded, Problem};
use clawlock_policy::SpiffeId;
use http::StatusCode;
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKey, SanType};
use rustls::pki_types::CertificateSigningRequestDer;

use super::limits::{CERTIFICATES_PER_POD, CERTIFICATES_PER_TENANT, Limiter};
use super::peer::gateway_name;
use super::review::{ReviewError, Reviewer};
use super::token::{Claims, claims};
use crate::clock::now_ms;
use crate::metrics::Enrolled;
use crate::pki::tenant::TenantCa;
use crate::world::pod::Pod;

/// Largest signing request in bytes; one with a P-256 key has some 300.
const MAX_CSR: usize = 8 * 1024;

/// Why there is no certificate.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The status code.
    pub(crate) status: StatusCode,
    /// What the client is told.
    pub(crate) problem: Problem,
    /// What is counted.
    pub(crate) counted: Enrolled,
}

impl Refusal {
    fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let counted = match status {
            StatusCode::TOO_MANY_REQUESTS => Enrolled::Limited,
            StatusCode::SERVICE_UNAVAILABLE => Enrolled::Unavailable,
            _ => Enrolled::Refused,
        };
        Self { status, problem: Problem { code: code.to_owned(), detail: detail.into() }, counted }
    }

    pub(super) fn request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", detail)
    }

    fn token(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "InvalidToken", detail)
    }

    fn pod(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "NotAllowed", detail)
    }

    fn limited(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", detail)
    }
}

/// What is needed to judge a request.
pub(crate) struct Desk<'a> {
    /// The tenant that the server name chose.
    pub(crate) tenant: &'a Tenant,
    /// The tenant that the label of a namespace names.
    pub(crate) labelled: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The tenant's CA.
    pub(crate) ca: &'a Arc<TenantCa>,
    /// The public key that signs policy.
    pub(crate) policy_key: &'a [u8],
    /// Issuer of the cluster's tokens, when it is known.
    pub(crate) issuer: Option<&'a str>,
}

/// Counts requests for certificates.
pub(crate) struct Turnstile {
    tenants: Limiter<String>,
    pods: Limiter<String>,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self { tenants: Limiter::new(CERTIFICATES_PER_TENANT), pods: Limiter::new(CERTIFICATES_PER_POD) }
    }
}

/// Issues a certificate.
///
/// # Errors
/// When there is none for this request.
pub(crate) async fn enrol<R: Reviewer>(
    desk: &Desk<'_>,
    reviewer: &R,
    turnstile: &Turnstile,
    body: &[u8],
) -> Result<CertificateAnswer, Refusal> {
    let request: CertificateRequest = serde_json::from_slice(body)
        .map_err(|error| Refusal::request(format!("the request cannot be read: {}", category(&error))))?;
    let key = public_key(&request.csr.0)?;
    let now = now_ms();
    let claims = claims(&request.token, desk.issuer, now / 1000).map_err(|error| Refusal::token(error.to_string()))?;
    let role = role(desk, &claims)?;
    if !turnstile.tenants.take(desk.tenant.name().to_owned()) {
        return Err(Refusal::limited("too many pods of this tenant ask for certificates at once; try again later"));
    }
    let pod = reviewer.review(&request.token, &claims).await.map_err(|error| match error {
        ReviewError::Unavailable => Refusal::unavailable(error.to_string()),
        ReviewError::Refused(_) | ReviewError::Differs | ReviewError::Gone => Refusal::token(error.to_string()),
    })?;
    check_pod(desk.tenant, &pod, role)?;
    // Only after the token was proven: nobody can use up the share of another pod.
    if !turnstile.pods.take(claims.uid.clone()) {
        return Err(Refusal::limited("this pod asks for certificates too often; try again later"));
    }
    issue(desk, &claims, role, &key, now)
}

/// An error of the parser without the text that it was about, which may be a token.
fn category(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "no JSON",
        serde_json::error::Category::Data => "a field is missing, unknown or of the wrong type",
        serde_json::error::Category::Eof => "it ends too early",
    };
    format!("{what}, at column {}", error.column())
}

fn public_key(csr: &[u8]) -> Result<PublicKey, Refusal> {
    if csr.len() > MAX_CSR {
        return Err(Refusal::request(format!("a signing request of {} bytes; at most {MAX_CSR}", csr.len())));
    }
    let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr.to_vec()));
    let CertificateSigningRequestParams { params: _, public_key } =
        csr.map_err(|error| Refusal::request(format!("the signing request: {error}; send a PKCS#10 one in DER")))?;
    if public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(Refusal::request("the key is none of P-256; make one of P-256"));
    }
    Ok(public_key)
}

/// The role of whoever the token says it is.
fn role(desk: &Desk<'_>, claims: &Claims) -> Result<Role, Refusal> {
    let Claims { namespace, service_account, pod: _, uid: _ } = claims;
    let tenant = desk.tenant;
    if namespace == tenant.platform_namespace() {
        return match service_account == GATEWAY {
            true => Ok(Role::Gateway),
            false => Err(Refusal::pod("only the gateway's ServiceAccount has an identity in the platform namespace")),
        };
    }
    if !tenant.namespaces().any(|listed| listed == namespace) {
        return Err(Refusal::pod(format!(
            "namespace {namespace} is none of tenant {}; ask the platform team to list it",
            tenant.name()
        )));
    }
    if (desk.labelled)(namespace).as_deref() != Some(tenant.name()) {
        return Err(Refusal::pod(format!(
            "namespace {namespace} does not carry the label {TENANT_LABEL}: {}; ask the platform team to set it",
            tenant.name()
        )));
    }
    Ok(Role::Agent)
}

fn check_pod(tenant: &Tenant, pod: &Pod, role: Role) -> Result<(), Refusal> {
    if pod.is_over() {
        return Err(Refusal::pod("the pod has ended"));
    }
    if pod.label(TENANT_LABEL) != Some(tenant.name()) || pod.label(ROLE_LABEL) != Some(role.as_str()) {
        return Err(Refusal::pod("the pod was not injected for this tenant; create it anew"));
    }
    if role == Role::Agent && standing(&pod.view, tenant) != Standing::Governed {
        return Err(Refusal::pod("the pod has no sidecar as its first container; create it anew"));
    }
    Ok(())
}

fn issue(
    desk: &Desk<'_>,
    claims: &Claims,
    role: Role,
    key: &PublicKey,
    now: u64,
) -> Result<CertificateAnswer, Refusal> {
    let Claims { namespace, service_account, pod: _, uid } = claims;
    let tenant = desk.tenant;
    let identity = SpiffeId::of_pod(tenant.trust_domain(), namespace, service_account, uid);
    let identity = identity.map_err(|error| Refusal::pod(format!("the pod can have no identity: {error}")))?;
    let internal = |error: rcgen::Error| Refusal::unavailable(format!("no certificate can be made: {error}"));
    let mut names = vec![SanType::URI(identity.as_str().try_into().map_err(internal)?)];
    let mut usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if role == Role::Gateway {
        names.push(SanType::DnsName(gateway_name(tenant.name()).as_str().try_into().map_err(internal)?));
        usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    let lifetime: Duration = tenant.settings().certificate_ttl;
    let leaf = desk.ca.issue(key, names, usages, now, lifetime).map_err(|error| {
        tracing::error!(tenant = tenant.name(), "no certificate can be issued: {error}");
        Refusal::unavailable("no certificate can be made now; the operator's log says why")
    })?;
    Ok(CertificateAnswer {
        chain: vec![Encoded(leaf.certificate.to_vec())],
        roots: desk.ca.roots().iter().map(|root| Encoded(root.to_vec())).collect(),
        keys: vec![Encoded(desk.policy_key.to_vec())],
        not_after_ms: leaf.not_after_ms,
    })
}
