//! `--secret`: where credentials come from under `clawlock dev`, and the store that the gateway asks.
//!
//! Values are read into memory that is wiped, handed to [`clawlock_proxy::credentials::Secret`], and
//! never printed: messages name the place, not what was there.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clawlock_policy::codec::digest;
use clawlock_policy::document::SecretKey;
use clawlock_proxy::credentials::{Credentials, Secret};
use clawlock_proxy::limits::MAX_SECRET;
use zeroize::Zeroizing;

/// A `--secret` as it was typed. It is parsed after the command line, whose parser repeats what it
/// refuses: a person who types the value itself must not find it in a log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretText(Zeroizing<String>);

impl FromStr for SecretText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

impl SecretText {
    /// Parses it.
    ///
    /// # Errors
    /// When it has another form; the error does not repeat it.
    pub(crate) fn parse(&self) -> Result<SecretArg, String> {
        self.0.parse()
    }
}

/// One `--secret NAME/KEY=env:VAR|file:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretArg {
    /// Which credential it is.
    pub(crate) key: SecretKey,
    /// Where its value is.
    pub(crate) source: SecretSource,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// In a variable of our own environment.
    Env(String),
    /// In a file.
    File(PathBuf),
}

impl FromStr for SecretArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "--secret: write NAME/KEY=env:VAR or NAME/KEY=file:PATH, for example stripe/token=env:STRIPE_KEY";
        let (key, source) = text.split_once('=').ok_or(wrong)?;
        let (name, key) = key.split_once('/').ok_or(wrong)?;
        if name.is_empty() || key.is_empty() || key.contains('/') {
            return Err(wrong.to_owned());
        }
        let source = match source.split_once(':') {
            Some(("env", variable)) if is_variable(variable) => SecretSource::Env(variable.to_owned()),
            Some(("file", path)) if !path.is_empty() => SecretSource::File(path.into()),
            _ => return Err(wrong.to_owned()),
        };
        Ok(Self { key: SecretKey { name: name.to_owned(), key: key.to_owned() }, source })
    }
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for SecretArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SecretKey { name, key } = &self.key;
        match &self.source {
            SecretSource::Env(variable) => write!(f, "--secret {name}/{key}=env:{variable}"),
            SecretSource::File(path) => write!(f, "--secret {name}/{key}=file:{}", path.display()),
        }
    }
}

/// Reads a variable of our environment; a parameter so that tests have environments of their own.
pub(crate) type ReadVariable = fn(&str) -> Option<OsString>;

struct Held {
    digest: String,
    secret: Arc<Secret>,
}

/// The credentials of this run.
pub(crate) struct Secrets {
    arguments: Vec<SecretArg>,
    variable: ReadVariable,
    current: ArcSwap<HashMap<SecretKey, Held>>,
}

impl Secrets {
    /// Reads all credentials.
    ///
    /// # Errors
    /// When one is named twice, is not there, or is not fit for a header.
    pub(crate) fn load(arguments: Vec<SecretArg>, variable: ReadVariable) -> Result<Self, String> {
        for (index, argument) in arguments.iter().enumerate() {
            if arguments.iter().take(index).any(|earlier| earlier.key == argument.key) {
                return Err(format!("{argument}: this credential is named twice; name it once"));
            }
        }
        let secrets = Self { arguments, variable, current: ArcSwap::default() };
        match secrets.reload().into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(secrets),
        }
    }

    /// Reads all credentials again; answers what is wrong. A credential that is gone or unfit is no longer
    /// there, which denies; one that has not changed stays the same object.
    pub(crate) fn reload(&self) -> Vec<String> {
        let before = self.current.load();
        let mut problems = Vec::new();
        let mut after = HashMap::new();
        for argument in &self.arguments {
            let read = read(&argument.source, self.variable).and_then(|value| {
                let digest = digest(&value);
                let secret = match before.get(&argument.key) {
                    Some(held) if held.digest == digest => held.secret.clone(),
                    // The bytes move into the secret, which wipes them too.
                    _ => Arc::new(Secret::new(value.to_vec()).map_err(|error| error.to_string())?),
                };
                Ok(Held { digest, secret })
            });
            match read {
                Ok(held) => {
                    after.insert(argument.key.clone(), held);
                }
                Err(reason) => problems.push(format!("{argument}: {reason}")),
            }
        }
        self.current.store(Arc::new(after));
        problems
    }

    /// Whether a credential was named on the command line.
    pub(crate) fn names(&self, key: &SecretKey) -> bool {
        self.arguments.iter().any(|argument| argument.key == *key)
    }

    /// The variables that hold credentials: the agent must not get them.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().filter_map(|argument| match &argument.source {
            SecretSource::Env(variable) => Some(variable.as_str()),
            SecretSource::File(_) => None,
        })
    }

    /// The files that hold credentials.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.arguments.iter().filter_map(|argument| match &argument.source {
            SecretSource::File(path) => Some(path.as_path()),
            SecretSource::Env(_) => None,
        })
    }
}

impl Credentials for Secrets {
    fn get(&self, key: &SecretKey) -> Option<Arc<Secret>> {
        self.current.load().get(key).map(|held| held.secret.clone())
    }
}

fn read(source: &SecretSource, variable: ReadVariable) -> Result<Zeroizing<Vec<u8>>, String> {
    match source {
        SecretSource::Env(name) => match variable(name) {
            Some(value) => Ok(Zeroizing::new(value.into_vec())),
            None => Err(format!("the variable {name} is not set; export it before clawlock starts")),
        },
        SecretSource::File(path) => {
            let failed = |error: std::io::Error| format!("cannot be read: {error}; check the path");
            // Room for the line break, and for one byte more to notice what is too long. Reserved at once,
            // so that growing leaves no copy behind.
            let most = MAX_SECRET + 3;
            let mut value = Zeroizing::new(Vec::with_capacity(most + 1));
            if !std::fs::metadata(path).map_err(failed)?.is_file() {
                return Err("is not a regular file; name a file".to_owned());
            }
            let file = File::open(path).map_err(failed)?;
            let bound = u64::try_from(most).unwrap_or(u64::MAX);
            file.take(bound).read_to_end(&mut value).map_err(failed)?;
            Ok(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<OsString> {
        (name == "TOKEN").then(|| OsString::from("canary-4711-value"))
    }

    fn key(name: &str) -> SecretKey {
        SecretKey { name: name.to_owned(), key: "token".to_owned() }
    }

    #[test]
    fn class15_a_wrong_argument_does_not_repeat_itself() {
        for text in
            ["sk-canary-4711", "a/b=sk-canary-4711", "a/b=env:sk-canary-4711", "a/b=file:", "a=env:X", "a/b/c=env:X"]
        {
            let error = text.parse::<SecretArg>().unwrap_err();
            assert!(!error.contains("canary"), "{error}");
            assert!(error.contains("NAME/KEY=env:VAR"), "{error}");
        }
    }

    #[test]
    fn variables_are_read_and_named() {
        let argument: SecretArg = "stripe/token=env:TOKEN".parse().unwrap();
        let secrets = Secrets::load(vec![argument], environment).unwrap();
        assert!(secrets.get(&key("stripe")).is_some());
        assert!(secrets.get(&key("other")).is_none());
        assert_eq!(secrets.variables().collect::<Vec<_>>(), ["TOKEN"]);
        let missing = Secrets::load(vec!["a/b=env:ABSENT".parse().unwrap()], environment).err().unwrap();
        assert!(missing.contains("ABSENT") && missing.contains("export"), "{missing}");
        let twice = ["a/b=env:TOKEN", "a/b=file:x"].map(|text| text.parse().unwrap()).to_vec();
        assert!(Secrets::load(twice, environment).err().unwrap().contains("twice"));
    }

    #[test]
    fn a_file_is_read_again_and_an_unchanged_value_is_the_same_object() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "first-value\n").unwrap();
        let argument: SecretArg = format!("stripe/token=file:{}", path.display()).parse().unwrap();
        let secrets = Secrets::load(vec![argument], environment).unwrap();
        let first = secrets.get(&key("stripe")).unwrap();
        assert_eq!(secrets.reload(), Vec::<String>::new());
        assert!(Arc::ptr_eq(&first, &secrets.get(&key("stripe")).unwrap()));
        std::fs::write(&path, "second-value\n").unwrap();
        assert_eq!(secrets.reload(), Vec::<String>::new());
        assert!(!Arc::ptr_eq(&first, &secrets.get(&key("stripe")).unwrap()));
        std::fs::remove_file(&path).unwrap();
        let problems = secrets.reload();
        assert!(problems[0].contains("cannot be read"), "{problems:?}");
        assert!(secrets.get(&key("stripe")).is_none(), "a credential that is gone denies");
    }

    #[test]
    fn class15_values_that_do_not_fit_are_refused_without_being_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for value in [b"canary\r\nx-evil: 1".to_vec(), b"short".to_vec(), vec![b'c'; MAX_SECRET + 10], Vec::new()] {
            std::fs::write(&path, &value).unwrap();
            let argument: SecretArg = format!("a/b=file:{}", path.display()).parse().unwrap();
            let error = Secrets::load(vec![argument], environment).err().unwrap();
            assert!(!error.contains("canary") && !error.contains("short ") && !error.contains("evil"), "{error}");
        }
        let device: SecretArg = "a/b=file:/dev/zero".parse().unwrap();
        assert!(Secrets::load(vec![device], environment).err().unwrap().contains("regular"));
    }
}
