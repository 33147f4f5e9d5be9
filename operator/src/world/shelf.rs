//! What a watch has seen, and a bell that rings when it changed in a way that matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

/// Namespace and name; the namespace of what has none is empty.
pub(crate) type Key = (String, String);

/// Rings when something changed. Listeners see the latest state, not every step to it.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<watch::Sender<u64>>);

impl Bell {
    /// A bell that nobody rang yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::channel(0).0))
    }

    /// Rings.
    pub(crate) fn ring(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Hears every ring from now on.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Something that a watch sees.
pub(crate) trait Item: Send + Sync + 'static {
    /// Whether nothing changed that anybody acts upon.
    fn same(&self, other: &Self) -> bool;
}

/// What a watch has seen, by namespace and name.
pub(crate) struct Shelf<T> {
    contents: RwLock<Contents<T>>,
    bells: Vec<Bell>,
}

struct Contents<T> {
    items: BTreeMap<Key, Arc<T>>,
    /// Scopes whose first list is complete: namespaces, or the empty one for all of them.
    synced: BTreeSet<String>,
}

impl<T: Item> Shelf<T> {
    /// An empty shelf that rings these bells.
    pub(crate) fn new(bells: &[&Bell]) -> Arc<Self> {
        let contents = Contents { items: BTreeMap::new(), synced: BTreeSet::new() };
        Arc::new(Self { contents: RwLock::new(contents), bells: bells.iter().map(|&bell| bell.clone()).collect() })
    }

    /// Whether the first list of a scope is complete.
    pub(crate) fn is_synced(&self, scope: &str) -> bool {
        self.read().synced.contains(scope)
    }

    /// One item.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.read().items.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All items, sorted by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.read().items.values().cloned().collect()
    }

    /// The items of a namespace, sorted by name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let from = (namespace.to_owned(), String::new());
        let contents = self.read();
        contents.items.range(from..).take_while(|((at, _), _)| at == namespace).map(|(_, item)| item.clone()).collect()
    }

    /// Replaces all items of a scope: its list is complete.
    pub(crate) fn replace(&self, scope: &str, items: BTreeMap<Key, Arc<T>>) {
        let mut contents = self.write();
        let mut changed = contents.synced.insert(scope.to_owned());
        let old: Vec<Key> = contents.items.keys().filter(|(at, _)| scope.is_empty() || at == scope).cloned().collect();
        for key in old.into_iter().filter(|key| !items.contains_key(key)) {
            contents.items.remove(&key);
            changed = true;
        }
        for (key, item) in items {
            changed |= contents.items.get(&key).is_none_or(|old| !old.same(&item));
            contents.items.insert(key, item);
        }
        drop(contents);
        self.ring_if(changed);
    }

    /// An item was added or changed.
    pub(crate) fn put(&self, key: Key, item: Arc<T>) {
        let mut contents = self.write();
        let changed = contents.items.get(&key).is_none_or(|old| !old.same(&item));
        contents.items.insert(key, item);
        drop(contents);
        self.ring_if(changed);
    }

    /// An item is gone.
    pub(crate) fn remove(&self, key: &Key) {
        let changed = self.write().items.remove(key).is_some();
        self.ring_if(changed);
    }

    /// A namespace is no longer watched.
    pub(crate) fn forget(&self, namespace: &str) {
        let mut contents = self.write();
        contents.synced.remove(namespace);
        contents.items.retain(|(at, _), _| at != namespace);
        drop(contents);
        self.ring_if(true);
    }

    fn ring_if(&self, changed: bool) {
        if changed {
            self.bells.iter().for_each(Bell::ring);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Contents<T>> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents<T>> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(u8, u8);

    impl Item for Thing {
        fn same(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    #[test]
    fn a_bell_rings_only_for_what_matters() {
        let bell = Bell::new();
        let shelf = Shelf::new(&[&bell]);
        let mut heard = bell.listen();
        shelf.put(key("a", "x"), Arc::new(Thing(1, 1)));
        assert!(heard.has_changed().unwrap());
        heard.mark_unchanged();
        shelf.put(key("a", "x"), Arc::new(Thing(1, 2)));
        assert!(!heard.has_changed().unwrap());
        assert_eq!(shelf.get("a", "x").unwrap().1, 2, "the newest is kept all the same");
        shelf.remove(&key("a", "y"));
        assert!(!heard.has_changed().unwrap());
        shelf.remove(&key("a", "x"));
        assert!(heard.has_changed().unwrap());
    }

    #[test]
    fn a_list_of_one_namespace_leaves_the_others() {
        let shelf = Shelf::new(&[]);
        for namespace in ["a", "a-b", "b"] {
            shelf.put(key(namespace, "x"), Arc::new(Thing(1, 0)));
        }
        shelf.replace("a", BTreeMap::from([(key("a", "y"), Arc::new(Thing(2, 0)))]));
        assert!(shelf.get("a", "x").is_none() && shelf.get("a", "y").is_some());
        assert!(shelf.get("a-b", "x").is_some());
        assert!(shelf.is_synced("a") && !shelf.is_synced("b"));
        assert_eq!(shelf.in_namespace("a").len(), 1);
        shelf.forget("a");
        assert!(!shelf.is_synced("a") && shelf.in_namespace("a").is_empty());
        shelf.replace("", BTreeMap::new());
        assert!(shelf.all().is_empty());
    }
}
