//! What the Secrets hold, by name and key. A value that stays the same stays the same object, since injectors are
//! derived from it; one that is no credential is not there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use clawlock_policy::document::SecretKey;
use clawlock_proxy::credentials::{Credentials, Secret, SecretError};

/// Most Secrets whose values are kept. A tenant has as many upstreams at most; each Secret has at most 1 MiB.
pub(crate) const SECRETS: usize = 1024;

/// Values by key of one Secret.
type Values = HashMap<String, Arc<Secret>>;

/// A Secret as the API server has it.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// The credentials in force.
#[derive(Default)]
pub(crate) struct Store {
    current: ArcSwap<HashMap<String, Arc<Values>>>,
    // While all of them are listed: what has come so far. Serialises writers too.
    listed: Mutex<HashMap<String, Arc<Values>>>,
}

/// Something that is no credential. Says nothing about its value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// A value.
    #[error("key {key} of Secret {name} is not usable as a credential: {why}")]
    Value {
        /// The Secret.
        name: String,
        /// Its key.
        key: String,
        /// Why.
        why: SecretError,
    },
    /// The whole Secret: there are too many.
    #[error("Secret {name} is passed over: the namespace has more than {SECRETS}")]
    TooMany {
        /// The Secret.
        name: String,
    },
}

impl Store {
    /// A list of all Secrets begins. Until it has ended, what was there stays.
    pub(crate) fn begin(&self) {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A Secret of the list.
    pub(crate) fn list(&self, name: String, data: Data) -> Vec<Unfit> {
        let before = self.current.load().get(&name).cloned();
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        put(&mut listed, before.as_deref(), name, data)
    }

    /// The list has ended: what it did not name is gone.
    pub(crate) fn end(&self) {
        let listed = std::mem::take(&mut *self.listed.lock().unwrap_or_else(PoisonError::into_inner));
        self.current.store(Arc::new(listed));
    }

    /// A Secret was made or changed.
    pub(crate) fn apply(&self, name: String, data: Data) -> Vec<Unfit> {
        let _one_writer = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = HashMap::clone(&self.current.load());
        let before = current.get(&name).cloned();
        let unfit = put(&mut current, before.as_deref(), name, data);
        self.current.store(Arc::new(current));
        unfit
    }

    /// A Secret was deleted.
    pub(crate) fn delete(&self, name: &str) {
        let _one_writer = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = HashMap::clone(&self.current.load());
        current.remove(name);
        self.current.store(Arc::new(current));
    }

    /// How many Secrets are known.
    pub(crate) fn len(&self) -> usize {
        self.current.load().len()
    }
}

fn put(all: &mut HashMap<String, Arc<Values>>, before: Option<&Values>, name: String, data: Data) -> Vec<Unfit> {
    if all.len() >= SECRETS && !all.contains_key(&name) {
        return vec![Unfit::TooMany { name }];
    }
    let mut unfit = Vec::new();
    let mut values = Values::new();
    for (key, value) in data {
        match Secret::new(value) {
            Ok(secret) => {
                let known = before.and_then(|before| before.get(&key)).filter(|known| known.is_same(&secret));
                let secret = known.cloned().unwrap_or_else(|| Arc::new(secret));
                values.insert(key, secret);
            }
            Err(why) => unfit.push(Unfit::Value { name: name.clone(), key, why }),
        }
    }
    all.insert(name, Arc::new(values));
    unfit
}

impl Credentials for Store {
    fn get(&self, key: &SecretKey) -> Option<Arc<Secret>> {
        self.current.load().get(&key.name)?.get(&key.key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(values: &[(&str, &str)]) -> Data {
        values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn key(name: &str, key: &str) -> SecretKey {
        SecretKey { name: name.to_owned(), key: key.to_owned() }
    }

    fn value(text: &str) -> Secret {
        Secret::new(text.into()).unwrap()
    }

    #[test]
    fn a_rotated_value_is_another_object_and_an_unchanged_one_the_same() {
        let store = Store::default();
        assert_eq!(store.apply("stripe".into(), data(&[("token", "first-value"), ("other", "stays-here")])), []);
        let (token, other) = (key("stripe", "token"), key("stripe", "other"));
        let (first, stays) = (store.get(&token).unwrap(), store.get(&other).unwrap());
        store.apply("stripe".into(), data(&[("token", "second-value"), ("other", "stays-here")]));
        let second = store.get(&token).unwrap();
        assert!(!Arc::ptr_eq(&first, &second) && second.is_same(&value("second-value")));
        assert!(Arc::ptr_eq(&stays, &store.get(&other).unwrap()));
        // An annotation changed, say: the values did not.
        store.apply("stripe".into(), data(&[("token", "second-value"), ("other", "stays-here")]));
        assert!(Arc::ptr_eq(&second, &store.get(&token).unwrap()));
    }

    #[test]
    fn what_is_deleted_or_loses_its_key_is_gone() {
        let store = Store::default();
        store.apply("a".into(), data(&[("one", "value-of-one"), ("two", "value-of-two")]));
        store.apply("a".into(), data(&[("one", "value-of-one")]));
        assert!(store.get(&key("a", "one")).is_some() && store.get(&key("a", "two")).is_none());
        store.delete("a");
        assert!(store.get(&key("a", "one")).is_none());
        store.delete("a");
    }

    #[test]
    fn a_list_replaces_everything_when_it_has_ended_and_keeps_what_is_the_same() {
        let store = Store::default();
        store.apply("stays".into(), data(&[("k", "value-that-stays")]));
        store.apply("vanished".into(), data(&[("k", "value-that-goes")]));
        let before = store.get(&key("stays", "k")).unwrap();
        store.begin();
        store.list("stays".into(), data(&[("k", "value-that-stays")]));
        store.list("new".into(), data(&[("k", "value-that-is-new")]));
        assert!(store.get(&key("vanished", "k")).is_some(), "the list has not ended");
        assert!(store.get(&key("new", "k")).is_none());
        store.end();
        assert!(store.get(&key("vanished", "k")).is_none() && store.get(&key("new", "k")).is_some());
        assert!(Arc::ptr_eq(&before, &store.get(&key("stays", "k")).unwrap()));
        // One that broke off leaves nothing behind.
        store.begin();
        store.list("half".into(), data(&[("k", "value-of-the-half")]));
        store.begin();
        store.end();
        assert!(store.get(&key("half", "k")).is_none() && store.len() == 0);
    }

    #[test]
    fn what_is_no_credential_is_not_there_and_its_value_not_told() {
        let store = Store::default();
        let unfit =
            store.apply("a".into(), data(&[("short", "hush"), ("lines", "two\nlines-here"), ("good", "good-value")]));
        assert_eq!(unfit.len(), 2);
        assert!(!unfit.iter().any(|why| why.to_string().contains("hush") || why.to_string().contains("lines-here")));
        assert!(store.get(&key("a", "short")).is_none() && store.get(&key("a", "lines")).is_none());
        assert!(store.get(&key("a", "good")).is_some());
        // A value that was good and no longer is must not live on.
        store.apply("a".into(), data(&[("good", "bad")]));
        assert!(store.get(&key("a", "good")).is_none());
    }

    #[test]
    fn the_number_of_secrets_is_bounded() {
        let store = Store::default();
        for n in 0..SECRETS {
            assert_eq!(store.apply(n.to_string(), data(&[("k", "value-of-many")])), []);
        }
        assert_eq!(store.apply("more".into(), data(&[])), [Unfit::TooMany { name: "more".into() }]);
        assert_eq!(store.apply("0".into(), data(&[("k", "value-that-is-new")])), []);
        store.delete("1");
        assert_eq!(store.apply("more".into(), data(&[("k", "value-of-many")])), []);
    }
}
