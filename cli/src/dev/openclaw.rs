//! OpenClaw under the gates: puts the guard plugin and a configuration that keeps it in force into the state folder.
//!
//! What they say is decided in `clawlock-openclaw`; here are the files. The agent is this user and could change them;
//! then the plugin falls silent, and upstreams of protocol LLM are out of reach.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clawlock_openclaw::{CONFIG_PATH, Guard, MAX_CONFIG, Merged, Override, PLUGIN_FILES, merge, variables};

use super::state::State;

/// How long an answer of the gate may take before the plugin blocks: the plugin's default.
const TIMEOUT_MS: u16 = 500;

/// Names in the state folder.
const CONFIG: &str = "openclaw.json";
const PLUGIN: &str = "openclaw-plugin";

/// What is in place for an OpenClaw.
pub(super) struct Guarded {
    /// Variables that it needs.
    pub(super) variables: Vec<(&'static str, String)>,
    /// What of the author's configuration does not hold.
    pub(super) notices: Vec<String>,
}

/// Whether a command starts OpenClaw: by its name, or a Node that runs it.
pub(super) fn is_openclaw(command: &[OsString]) -> bool {
    let named = |word: &OsString, names: &[&str]| {
        let name = Path::new(word).file_name();
        name.is_some_and(|name| names.iter().any(|wanted| name == *wanted))
    };
    let mut words = command.iter();
    let Some(program) = words.next() else { return false };
    if named(program, &["openclaw", "openclaw.mjs"]) {
        return true;
    }
    let script = words.find(|word| !word.to_string_lossy().starts_with('-'));
    named(program, &["node", "nodejs", "npx"]) && script.is_some_and(|word| named(word, &["openclaw", "openclaw.mjs"]))
}

/// Writes the plugin and the configuration.
///
/// # Errors
/// When the author's configuration cannot be read, or a file not be written.
pub(super) fn prepare(state: &State) -> Result<Guarded, String> {
    let author = author_path(|name| std::env::var_os(name).map(PathBuf::from));
    let text = author.as_deref().map_or(Ok(String::new()), read)?;
    let folder = state.path(PLUGIN);
    write_plugin(&folder).map_err(|error| format!("the guard plugin in {}: {error}", folder.display()))?;
    let utf8 = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("{} is no UTF-8; pass another --state-dir", path.display()))
    };
    let guard = Guard { folder: utf8(&folder)?, socket: utf8(&state.socket())?, timeout_ms: TIMEOUT_MS };
    let Merged { config, overrides } = merge(&text, &guard).map_err(|error| match &author {
        Some(path) => format!("{}: {error}", path.display()),
        None => error.to_string(),
    })?;
    let path = state.write(CONFIG, &config)?;
    let notices = overrides
        .into_iter()
        .map(|Override { path, message }| format!("OpenClaw's configuration, {path}: {message}"))
        .collect();
    Ok(Guarded { variables: variables(&utf8(&path)?).into(), notices })
}

/// Where OpenClaw would read its configuration.
fn author_path(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    set(CONFIG_PATH)
        .or_else(|| set("OPENCLAW_STATE_DIR").map(|folder| folder.join(CONFIG)))
        .or_else(|| set("HOME").map(|home| home.join(".openclaw").join(CONFIG)))
}

/// A configuration that is not there is an empty one.
fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("OpenClaw's configuration {}: {error}", path.display());
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.map_err(failed)?,
    };
    let mut text = String::new();
    // One byte more than is read: the merge says that it is too large.
    let bound = u64::try_from(MAX_CONFIG).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Writes the plugin anew: what an earlier version or somebody else left there is gone.
fn write_plugin(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o755).create(folder)?;
    for (name, text) in PLUGIN_FILES {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(folder.join(name))?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn command(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn openclaw_is_known_by_its_name() {
        for words in [
            "openclaw",
            "openclaw gateway run",
            "/opt/x/openclaw.mjs gateway",
            "node openclaw.mjs",
            "node --disable-sigusr1 /a/openclaw.mjs gateway run",
            "/a/node /b/openclaw",
            "npx --yes openclaw agent",
        ] {
            assert!(is_openclaw(&command(words)), "{words}");
        }
        for words in ["", "node server.mjs openclaw", "sh -c openclaw", "openclawd", "my-openclaw", "python3 openclaw"]
        {
            assert!(!is_openclaw(&command(words)), "{words}");
        }
    }

    #[test]
    fn the_author_s_file_is_where_openclaw_looks() {
        let path = |set: &[(&str, &str)]| {
            author_path(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value)))
        };
        assert_eq!(path(&[("HOME", "/h")]), Some("/h/.openclaw/openclaw.json".into()));
        assert_eq!(path(&[("HOME", "/h"), ("OPENCLAW_STATE_DIR", "/s")]), Some("/s/openclaw.json".into()));
        assert_eq!(path(&[("OPENCLAW_STATE_DIR", "/s"), ("OPENCLAW_CONFIG_PATH", "/c.json")]), Some("/c.json".into()));
        assert_eq!(path(&[("OPENCLAW_CONFIG_PATH", ""), ("HOME", "/h")]), Some("/h/.openclaw/openclaw.json".into()));
        assert_eq!(path(&[]), None);
    }

    #[test]
    fn the_plugin_s_folder_is_one_that_openclaw_takes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(PLUGIN);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("left-over.js"), "").unwrap();
        write_plugin(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o022, 0);
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, PLUGIN_FILES.map(|(name, _)| OsString::from(name)));
        for (name, text) in PLUGIN_FILES {
            let file = folder.join(name);
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o133, 0, "{name}");
            assert_eq!(fs::read_to_string(file).unwrap(), text);
        }
    }

    #[test]
    fn a_missing_configuration_is_empty_and_a_large_one_is_refused_later() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("none.json")).unwrap(), "");
        let large = dir.path().join("large.json");
        fs::write(&large, " ".repeat(MAX_CONFIG + 10)).unwrap();
        assert_eq!(read(&large).unwrap().len(), MAX_CONFIG + 1);
        assert!(read(dir.path()).is_err());
    }
}
