//! The documents that assignments name, by digest: each is sent once, however many pods share it.

use std::collections::{HashMap, HashSet};

use crate::message::{Encoded, MAX_KNOWN_DOCUMENTS};

/// Most bytes of documents that are kept: far more than the policy of one tenant has, and less than the memory
/// of a gateway.
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// Documents in force, and which assignment names which.
#[derive(Debug, Default)]
pub(super) struct Store {
    documents: HashMap<String, Vec<u8>>,
    bytes: usize,
    named: HashMap<String, Vec<String>>,
}

impl Store {
    /// Digests of all documents, for `hello`.
    pub(super) fn digests(&self) -> Vec<String> {
        let mut digests: Vec<String> = self.documents.keys().cloned().collect();
        digests.sort_unstable();
        digests
    }

    /// Keeps a document. Which digest it really has is checked where it is put in force. None is dropped as long as
    /// a stream lasts: its server counts on everything that it has sent.
    pub(super) fn insert(&mut self, digest: String, Encoded(envelope): Encoded) -> Result<(), String> {
        let replaced = self.documents.get(&digest);
        let (more, before) = (usize::from(replaced.is_none()), replaced.map_or(0, Vec::len));
        let bytes = self.bytes - before + envelope.len();
        if self.documents.len() + more > MAX_KNOWN_DOCUMENTS || bytes > MAX_BYTES {
            return Err(format!("more than {MAX_KNOWN_DOCUMENTS} documents or {MAX_BYTES} bytes of them were sent"));
        }
        self.bytes = bytes;
        self.documents.insert(digest, envelope);
        Ok(())
    }

    /// The documents of an assignment.
    pub(super) fn find(&self, digests: &[String]) -> Result<Vec<Vec<u8>>, String> {
        let find = |digest: &String| {
            self.documents
                .get(digest)
                .cloned()
                .ok_or_else(|| format!("document {digest} was not sent before it was named"))
        };
        digests.iter().map(find).collect()
    }

    /// Remembers what the assignment of an identity names.
    pub(super) fn name(&mut self, identity: String, digests: Vec<String>) {
        self.named.insert(identity, digests);
    }

    /// Forgets an identity.
    pub(super) fn remove(&mut self, identity: &str) {
        self.named.remove(identity);
    }

    /// Drops documents that nobody names any more. Between two streams only.
    pub(super) fn collect(&mut self) {
        let Self { documents, named, bytes } = self;
        let used: HashSet<&String> = named.values().flatten().collect();
        documents.retain(|digest, _| used.contains(digest));
        *bytes = documents.values().map(Vec::len).sum();
    }

    /// Identities that have an assignment.
    pub(super) fn identities(&self) -> HashSet<String> {
        self.named.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_stay_as_long_as_somebody_names_them() {
        let mut store = Store::default();
        for digest in ["a", "b", "c"] {
            store.insert(digest.into(), Encoded(digest.into())).unwrap();
        }
        store.name("one".into(), vec!["a".into(), "b".into()]);
        store.name("two".into(), vec!["b".into()]);
        store.collect();
        assert_eq!(store.digests(), ["a", "b"]);
        store.remove("one");
        store.collect();
        assert_eq!(store.digests(), ["b"]);
        assert_eq!(store.find(&["b".into()]).unwrap(), [b"b".to_vec()]);
        assert!(store.find(&["a".into()]).unwrap_err().contains("document a"));
    }

    #[test]
    fn number_and_bytes_of_documents_are_bounded() {
        let mut store = Store::default();
        let digests: Vec<String> = (0..MAX_KNOWN_DOCUMENTS).map(|n| n.to_string()).collect();
        for digest in &digests {
            store.insert(digest.clone(), Encoded(Vec::new())).unwrap();
        }
        store.insert("0".into(), Encoded(vec![1])).unwrap();
        assert!(store.insert("more".into(), Encoded(Vec::new())).is_err());
        store.collect();
        assert_eq!((store.documents.len(), store.bytes), (0, 0));
        store.insert("large".into(), Encoded(vec![0; MAX_BYTES])).unwrap();
        assert!(store.insert("more".into(), Encoded(vec![0])).is_err());
        assert!(store.insert("large".into(), Encoded(vec![0; 2])).is_ok(), "it takes the place of the one before");
        assert_eq!(store.bytes, 2);
    }
}
