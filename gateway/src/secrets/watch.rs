//! The watch over Secrets: list, then changes, again after every break.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::time::Instant;
use zeroize::Zeroize as _;

use super::store::{Data, Store, Unfit};
use crate::metrics::Figures;
use crate::readiness::Readiness;

/// Pauses after a failure: from the first to the last, doubled each time. The last bounds how old values are once
/// the API server is back.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How often a watch that stays broken is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// What can be no credential, and is large or secret beyond need.
const SELECTOR: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token";

/// Keeps the store at what the namespace holds. Runs until it is dropped.
pub(crate) async fn watch(
    client: Client,
    namespace: String,
    store: Arc<Store>,
    readiness: Arc<Readiness>,
    figures: Figures,
) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let events = watcher(api, watcher::Config::default().fields(SELECTOR));
    let mut events = std::pin::pin!(events);
    let mut pause = FIRST_PAUSE;
    let mut broken: Option<Broken> = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let unfit = take(&store, &readiness, event);
                figures.secrets.set(i64::try_from(store.len()).unwrap_or(i64::MAX));
                for why in unfit {
                    tracing::info!(%namespace, "{why}");
                }
                if let Some(Broken { since, .. }) = broken.take() {
                    tracing::info!(after_s = since.elapsed().as_secs(), "the watch over Secrets goes on");
                }
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                figures.watch_failures.inc();
                let now = Instant::now();
                let known = broken.get_or_insert(Broken { since: now, told: None });
                if known.told.is_none_or(|told| now.duration_since(told) >= TOLD_AGAIN) {
                    known.told = Some(now);
                    let since_s = now.duration_since(known.since).as_secs();
                    tracing::warn!(why = %why(&error), since_s, "no watch over Secrets; their last values stay");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// A watch that does not get through.
struct Broken {
    since: Instant,
    told: Option<Instant>,
}

fn take(store: &Store, readiness: &Readiness, event: Event<Secret>) -> Vec<Unfit> {
    match event {
        Event::Init => store.begin(),
        Event::InitApply(secret) => {
            let (name, data) = parts(secret);
            return store.list(name, data);
        }
        Event::InitDone => {
            store.end();
            readiness.secrets();
        }
        Event::Apply(secret) => {
            let (name, data) = parts(secret);
            return store.apply(name, data);
        }
        Event::Delete(secret) => {
            let (name, mut data) = parts(secret);
            data.values_mut().for_each(|value| value.zeroize());
            store.delete(&name);
        }
    }
    Vec::new()
}

fn parts(secret: Secret) -> (String, Data) {
    let name = secret.metadata.name.unwrap_or_default();
    let data: BTreeMap<_, _> = secret.data.unwrap_or_default();
    (name, data.into_iter().map(|(key, value)| (key, value.0)).collect())
}

/// What broke, in words that cannot hold what a Secret holds: an answer that does not parse is never repeated.
fn why(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => format!("the API server answered {} {}", status.code, status.message),
            kube::Error::HyperError(_) | kube::Error::Service(_) => "the API server cannot be reached".to_owned(),
            kube::Error::ReadEvents(error) => format!("the stream broke off: {error}"),
            _ => "the API server's answer cannot be read".to_owned(),
        },
        watcher::Error::WatchError(status) => format!("the API server answered {} {}", status.code, status.message),
        watcher::Error::NoResourceVersion => "the API server's answer names no version".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_policy::document::SecretKey;
    use clawlock_policy::envelope::TrustedKeys;
    use clawlock_proxy::clock::SystemClock;
    use clawlock_proxy::credentials::Credentials as _;
    use clawlock_proxy::policies::PolicyTable;
    use k8s_openapi::ByteString;

    fn secret(name: &str, value: &str) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        secret.data = Some([("token".to_owned(), ByteString(value.as_bytes().to_vec()))].into());
        secret
    }

    #[test]
    fn events_of_the_watch_change_the_store() {
        let policies = Arc::new(PolicyTable::new(TrustedKeys::new([]), Arc::new(SystemClock)));
        let (store, readiness) = (Store::default(), Readiness::new(policies));
        let has = |name: &str| store.get(&SecretKey { name: name.to_owned(), key: "token".to_owned() }).is_some();
        let send = |event| assert_eq!(take(&store, &readiness, event), []);
        send(Event::Init);
        send(Event::InitApply(secret("a", "value-of-a")));
        assert!(!has("a"), "the list has not ended");
        send(Event::InitDone);
        assert!(has("a"));
        send(Event::Apply(secret("b", "value-of-b")));
        send(Event::Delete(secret("a", "value-of-a")));
        assert!(!has("a") && has("b"));
        send(Event::Apply(Secret::default()));
        assert!(has("b"));
    }

    #[test]
    fn a_broken_answer_is_not_repeated() {
        // Its parser quotes what it read.
        let quoted = serde_json::from_str::<u8>("\"canary-4711\"").unwrap_err();
        assert!(quoted.to_string().contains("canary"));
        let error = watcher::Error::WatchFailed(kube::Error::SerdeError(quoted));
        assert_eq!(why(&error), "the API server's answer cannot be read");
    }
}
