//! A certificate for a pod: a key made here, a signing request, and the pod's token as proof.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use clawlock_policy::envelope::PublicKey;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::connection::{ConnectError, connect};
use super::{Dial, Identity, Trust};
use crate::message::{CertificateAnswer, CertificateRequest, Encoded, MAX_CERTIFICATE_ANSWER, MAX_TRUSTED, Problem};
use crate::{CERTIFICATES, control_name};

/// How long the operator may take: it asks the API server twice.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No key could be made.
    #[error("no key could be made: {0}")]
    Key(#[from] rcgen::Error),
    /// It broke off.
    #[error("the control API broke off: {0}")]
    Broken(String),
    /// The operator refused.
    #[error("no certificate was issued: {0}")]
    Refused(Problem),
    /// The answer is no answer.
    #[error("the control API's answer cannot be used: {0}")]
    Answer(String),
}

/// Asks for a certificate of the pod that the token is of.
///
/// # Errors
/// When the control API cannot be reached, refuses, or answers something else.
pub async fn enrol(
    dial: &dyn Dial,
    tenant: &str,
    anchor: &CertificateDer<'static>,
    token: &str,
) -> Result<(Identity, Trust), EnrolError> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?;
    let asked = CertificateRequest { token: token.to_owned(), csr: Encoded(csr.der().to_vec()) };
    let body = serde_json::to_vec(&asked).map_err(|error| EnrolError::Answer(error.to_string()))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://{}{CERTIFICATES}", control_name(tenant)))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed())
        .map_err(|error| EnrolError::Answer(error.to_string()))?;
    let mut sender = connect(dial, tenant, anchor, None).await?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| EnrolError::Broken(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_CERTIFICATE_ANSWER).collect().await;
        let body = body.map_err(|error| EnrolError::Broken(error.to_string()))?.to_bytes();
        Ok::<_, EnrolError>((status, body))
    };
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
    let (status, body) = answered.map_err(|_| EnrolError::Broken("no answer in time".to_owned()))??;
    if status != StatusCode::OK {
        let problem = serde_json::from_slice(&body);
        return Err(EnrolError::Refused(problem.unwrap_or_else(|_| Problem {
            code: status.as_str().to_owned(),
            detail: "the answer does not say why".to_owned(),
        })));
    }
    let answer: CertificateAnswer =
        serde_json::from_slice(&body).map_err(|error| EnrolError::Answer(error.to_string()))?;
    let CertificateAnswer { chain, roots, keys, not_after_ms } = answer;
    let trust = trust(&roots, &keys).map_err(EnrolError::Answer)?;
    if chain.is_empty() {
        return Err(EnrolError::Answer("it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((Identity { chain: certificates(&chain), key, not_after_ms }, trust))
}

fn certificates(encoded: &[Encoded]) -> Vec<CertificateDer<'static>> {
    encoded.iter().map(|Encoded(der)| CertificateDer::from(der.clone())).collect()
}

/// Whom a message says to trust. Nobody at all is a mistake, not an answer, and so are many.
pub(super) fn trust(roots: &[Encoded], keys: &[Encoded]) -> Result<Trust, String> {
    if roots.is_empty() || keys.is_empty() {
        return Err("it names no root or no signing key to trust".to_owned());
    }
    if roots.len() > MAX_TRUSTED || keys.len() > MAX_TRUSTED {
        return Err(format!("it names more than {MAX_TRUSTED} roots or signing keys to trust"));
    }
    let keys = keys.iter().map(|Encoded(key)| PublicKey::from_bytes(key)).collect::<Result<Vec<_>, _>>();
    Ok(Trust { roots: certificates(roots), keys: keys.map_err(|error| error.to_string())? })
}
