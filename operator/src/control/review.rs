//! Whether a token is a pod's, by asking the API server: it checks the signature, and knows whether the
//! pod is still there.

use std::time::Duration;

use clawlock_compile::objects::names::AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;

use super::limits::{REVIEW_TIMEOUT, REVIEWS};
use super::token::Claims;
use crate::cluster::Brief;
use crate::world::pod::Pod;

/// The names under which the API server says which pod a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReviewError {
    /// The API server says so.
    #[error("the API server refuses the token: {0}")]
    Refused(String),
    /// The API server says something else than the token.
    #[error("the API server does not confirm what the token says of its pod")]
    Differs,
    /// The pod is gone.
    #[error("the token's pod is gone")]
    Gone,
    /// The API server cannot be asked now.
    #[error("the API server cannot be asked now; try again")]
    Unavailable,
}

/// Who is asked about tokens.
pub(crate) trait Reviewer: Send + Sync + 'static {
    /// The pod whose token it is.
    fn review(&self, token: &str, claims: &Claims) -> impl Future<Output = Result<Pod, ReviewError>> + Send;
}

/// Asks the API server.
pub(crate) struct ApiServer {
    client: Client,
    turns: Semaphore,
}

impl ApiServer {
    /// The API server of a client.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, turns: Semaphore::new(REVIEWS) }
    }

    async fn ask(&self, token: &str, claims: &Claims) -> Result<Pod, ReviewError> {
        let _turn = self.turns.acquire().await.map_err(|_| ReviewError::Unavailable)?;
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| {
            // The error may hold the request, and so the token.
            tracing::warn!(code = crate::cluster::status_code(&error), "a token could not be reviewed");
            ReviewError::Unavailable
        })?;
        confirm(&answer.status.unwrap_or_default(), claims)?;
        let pods: Api<v1::Pod> = Api::namespaced(self.client.clone(), &claims.namespace);
        let pod = pods.get_opt(&claims.pod).await.map_err(|error| {
            tracing::warn!("a token's pod could not be read: {}", Brief(&error));
            ReviewError::Unavailable
        })?;
        pod.map(|pod| Pod::of(&pod)).filter(|pod| pod.uid == claims.uid).ok_or(ReviewError::Gone)
    }
}

impl Reviewer for ApiServer {
    async fn review(&self, token: &str, claims: &Claims) -> Result<Pod, ReviewError> {
        within(REVIEW_TIMEOUT, self.ask(token, claims)).await
    }
}

async fn within<T>(time: Duration, ask: impl Future<Output = Result<T, ReviewError>>) -> Result<T, ReviewError> {
    tokio::time::timeout(time, ask).await.unwrap_or(Err(ReviewError::Unavailable))
}

/// Compares the API server's answer with what the token says.
fn confirm(status: &TokenReviewStatus, claims: &Claims) -> Result<(), ReviewError> {
    if status.authenticated != Some(true) {
        let reason = status.error.clone().unwrap_or_else(|| "it is not valid".to_owned());
        return Err(ReviewError::Refused(reason.chars().filter(|c| !c.is_control()).take(200).collect()));
    }
    if !status.audiences.as_deref().unwrap_or_default().iter().any(|audience| audience == AUDIENCE) {
        return Err(ReviewError::Differs);
    }
    let user = status.user.as_ref().ok_or(ReviewError::Differs)?;
    let name = format!("system:serviceaccount:{}:{}", claims.namespace, claims.service_account);
    let extra = |key: &str| {
        let values = user.extra.as_ref().and_then(|extra| extra.get(key));
        values.map(Vec::as_slice).unwrap_or_default()
    };
    let same = user.username.as_ref() == Some(&name)
        && extra(POD_NAME) == std::slice::from_ref(&claims.pod)
        && extra(POD_UID) == std::slice::from_ref(&claims.uid);
    if same { Ok(()) } else { Err(ReviewError::Differs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;

    fn claims() -> Claims {
        let text = str::to_owned;
        Claims { namespace: text("acme"), service_account: text("bot"), pod: text("bot-0"), uid: text("uid-1") }
    }

    fn status() -> TokenReviewStatus {
        let extra = [(POD_NAME.to_owned(), vec!["bot-0".to_owned()]), (POD_UID.to_owned(), vec!["uid-1".to_owned()])];
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.to_owned()]),
            user: Some(UserInfo {
                username: Some("system:serviceaccount:acme:bot".to_owned()),
                extra: Some(extra.into()),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    #[test]
    fn what_the_api_server_confirms_counts() {
        assert_eq!(confirm(&status(), &claims()), Ok(()));
    }

    #[test]
    fn class02_everything_must_be_confirmed() {
        let changed = |change: fn(&mut TokenReviewStatus)| {
            let mut status = status();
            change(&mut status);
            confirm(&status, &claims())
        };
        assert!(matches!(changed(|s| s.authenticated = Some(false)), Err(ReviewError::Refused(_))));
        assert!(matches!(changed(|s| s.authenticated = None), Err(ReviewError::Refused(_))));
        for change in [
            (|s: &mut TokenReviewStatus| s.audiences = None) as fn(&mut TokenReviewStatus),
            |s| s.audiences = Some(vec!["https://kubernetes".to_owned()]),
            |s| s.user = None,
            |s| s.user.as_mut().unwrap().username = Some("system:serviceaccount:acme:other".to_owned()),
            |s| s.user.as_mut().unwrap().extra = None,
            |s| s.user.as_mut().unwrap().extra.as_mut().unwrap().get_mut(POD_UID).unwrap()[0] = "uid-9".to_owned(),
            |s| s.user.as_mut().unwrap().extra.as_mut().unwrap().get_mut(POD_NAME).unwrap().push("x".to_owned()),
        ] {
            assert_eq!(changed(change), Err(ReviewError::Differs));
        }
    }
}
