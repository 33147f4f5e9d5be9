//! Values that conditions see: JSON objects, and tables of texts.
//!
//! A lookup distinguishes three cases where CEL's own maps know two: the name is there; it is not; or
//! only a name that differs in case is there. Some receivers would take that one (Go's `encoding/json`
//! matches names without regard to case), so it is an error, also for `has` and `in`.

use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator as ValIterator, Sizer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelNull, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use serde_json::Value;

use super::cost::Size;
use crate::json::shown;

/// The "function" of an error that says that a name is ambiguous.
pub(super) const AMBIGUOUS: &str = "clawlock.name";

/// Up to this many names are compared pairwise; beyond, by hashing.
const FEW_NAMES: usize = 8;

/// A JSON object. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Object(Arc<Members>);

#[derive(Debug)]
struct Members {
    /// Sorted by name.
    all: Vec<Member>,
    /// The folded names, where there are too many to compare one by one.
    folded: Option<HashSet<String>>,
}

type Member = (CelString<'static>, Box<dyn Val>);

impl Object {
    /// Makes an object of members with different names.
    ///
    /// # Errors
    /// When two names are equal but for their case.
    pub(super) fn new(mut members: Vec<Member>) -> Result<Self, String> {
        members.sort_by(|one, two| one.0.inner().cmp(two.0.inner()));
        let mut folded = (members.len() > FEW_NAMES).then(|| HashSet::with_capacity(members.len()));
        for (place, (name, _)) in members.iter().enumerate() {
            let name = name.inner();
            let repeated = match &mut folded {
                Some(folded) => !folded.insert(fold(name)),
                None => members.iter().take(place).any(|(earlier, _)| same_but_case(earlier.inner(), name)),
            };
            if repeated {
                return Err(format!("the argument {} appears twice, maybe in different case", shown(name)));
            }
        }
        Ok(Self(Arc::new(Members { all: members, folded })))
    }

    fn find(&self, key: &dyn Val) -> Result<Option<&(dyn Val + 'static)>, ExecutionError> {
        let Some(key) = key.downcast_ref::<CelString<'_>>() else {
            return Ok(None);
        };
        let Members { all, folded } = &*self.0;
        if let Ok(at) = all.binary_search_by(|(name, _)| name.inner().cmp(key.inner())) {
            return Ok(all.get(at).map(|(_, value)| value.as_ref()));
        }
        let similar = match folded {
            Some(folded) => folded.contains(&fold(key.inner())),
            None => all.iter().any(|(name, _)| same_but_case(name.inner(), key.inner())),
        };
        if similar { Err(ambiguous(key.inner())) } else { Ok(None) }
    }
}

/// The name is absent, but one is there that differs from it only in case.
fn ambiguous(key: &str) -> ExecutionError {
    let message = format!("a name is there that differs from {} only in case", shown(key));
    ExecutionError::FunctionError { function: AMBIGUOUS.into(), message }
}

/// A name without regard to case, at least as coarse as Unicode's simple case folding.
fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

fn same_but_case(one: &str, two: &str) -> bool {
    match one.is_ascii() && two.is_ascii() {
        true => one.eq_ignore_ascii_case(two),
        false => fold(one) == fold(two),
    }
}

/// Converts JSON, and measures it.
///
/// # Errors
/// When an integer does not fit `i64`, or two names of an object are equal but for their case.
pub(super) fn from_json(value: Value, size: &mut Size) -> Result<Box<dyn Val>, String> {
    size.values = size.values.saturating_add(1);
    Ok(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(truth)),
        Value::Number(number) => match (number.as_i64(), number.is_f64(), number.as_f64()) {
            (Some(integer), ..) => Box::new(CelInt::from(integer)),
            (None, true, Some(double)) => Box::new(CelDouble::from(double)),
            _ => return Err(format!("the integer {number} does not fit 64 bits with a sign")),
        },
        Value::String(text) => text_value(text, size),
        Value::Array(items) => {
            let items: Result<Vec<Box<dyn Val>>, String> =
                items.into_iter().map(|item| from_json(item, size)).collect();
            Box::new(CelList::from(items?))
        }
        Value::Object(members) => {
            let members: Result<Vec<Member>, String> =
                members.into_iter().map(|(name, value)| Ok((CelString::from(name), from_json(value, size)?))).collect();
            Box::new(Object::new(members?)?)
        }
    })
}

pub(super) fn text_value(text: String, size: &mut Size) -> Box<dyn Val> {
    size.longest = size.longest.max(u64::try_from(text.len()).unwrap_or(u64::MAX));
    Box::new(CelString::from(text))
}

impl Val for Object {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| {
            self.0.all.len() == other.0.all.len()
                && self
                    .0
                    .all
                    .iter()
                    .zip(other.0.all.iter())
                    .all(|(one, two)| one.0.inner() == two.0.inner() && one.1.equals(two.1.as_ref()))
        })
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Object {}

impl Container for Object {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.find(key)?.is_some())
    }
}

impl Indexer for Object {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.find(key)?.map(CowVal::Borrowed).ok_or_else(|| no_such_key(key))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.find(key)?.map(Val::clone_as_boxed).ok_or_else(|| no_such_key(key))
    }
}

impl Iterable for Object {
    fn iter<'b, 'v>(&'b self) -> Box<dyn ValIterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Names(self.0.all.iter()))
    }
}

impl Sizer for Object {
    fn size(&self) -> CelInt {
        i64::try_from(self.0.all.len()).unwrap_or(i64::MAX).into()
    }
}

/// The names of an object, one after the other.
struct Names<'b>(std::slice::Iter<'b, Member>);

impl<'b, 'v> ValIterator<'b, 'v> for Names<'b> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        let (name, _) = self.0.next()?;
        Some(name)
    }
}

fn no_such_key(key: &dyn Val) -> ExecutionError {
    ExecutionError::no_such_key(key.downcast_ref::<CelString<'_>>().map_or("such member", |key| key.inner()))
}

/// Texts by name, for lookups only: the checker sees to it that nothing else is done with them.
#[derive(Clone, Debug)]
pub(super) enum Table<'a> {
    /// A request's headers. A header that is sent twice, or is no text, has no one value.
    Headers(&'a http::HeaderMap),
    /// A request's query.
    Query(&'a BTreeMap<Cow<'a, str>, Cow<'a, str>>),
    /// A pod's labels.
    Labels(&'a BTreeMap<String, String>),
}

impl<'a> Table<'a> {
    fn find(&self, key: &dyn Val) -> Result<Option<&'a str>, ExecutionError> {
        let Some(key) = key.downcast_ref::<CelString<'_>>().map(|key| key.inner()) else {
            return Ok(None);
        };
        match self {
            Self::Headers(headers) => header(headers, key),
            Self::Query(query) => match query.get(key) {
                Some(value) => Ok(Some(value)),
                None if query.keys().any(|name| same_but_case(name, key)) => Err(ambiguous(key)),
                None => Ok(None),
            },
            Self::Labels(labels) => Ok(labels.get(key).map(String::as_str)),
        }
    }
}

fn header<'a>(headers: &'a http::HeaderMap, name: &str) -> Result<Option<&'a str>, ExecutionError> {
    let no_one_value = |what: &str| ExecutionError::FunctionError {
        function: AMBIGUOUS.into(),
        message: format!("the header {} {what}", shown(name)),
    };
    // Servers with a CGI-like interface take `x_env` for `x-env`.
    let alike = |other: &str| {
        let same = |one: u8, two: u8| {
            one.eq_ignore_ascii_case(&two) || !(one.is_ascii_alphanumeric() || two.is_ascii_alphanumeric())
        };
        other.len() == name.len() && other.bytes().zip(name.bytes()).all(|(one, two)| same(one, two))
    };
    if headers.keys().any(|other| !other.as_str().eq_ignore_ascii_case(name) && alike(other.as_str())) {
        return Err(no_one_value("is also sent with other separators in its name"));
    }
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(no_one_value("is sent twice"));
    }
    value.to_str().map(Some).map_err(|_| no_one_value("is not visible ASCII"))
}

impl Val for Table<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

impl Container for Table<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.find(key)?.is_some())
    }
}

impl Indexer for Table<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.find(key)?.map(|text| CowVal::owned(CelString::from(text))).ok_or_else(|| no_such_key(key))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match self.find(key)? {
            Some(text) => Ok(Box::new(CelString::from(text))),
            None => Err(no_such_key(key)),
        }
    }
}
