//! OpenClaw under the gates: puts the guard plugin and a configuration that keeps it in force into the state folder.
//!
//! What they say is decided in `clawlock-openclaw`. The agent is this user and could change the files; then the plugin
//! falls silent, and upstreams of protocol LLM are out of reach.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clawlock_openclaw::files::{author_config, read_config, write_plugin};
use clawlock_openclaw::{CONFIG_FILE, Guard, Merged, Override, merge, variables};

use super::state::State;

/// How long an answer of the gate may take before the plugin blocks: the plugin's default.
const TIMEOUT_MS: u16 = 500;

/// The plugin's folder in the state folder.
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
    let author = author_config(|name| std::env::var_os(name).map(PathBuf::from));
    let text = author.as_deref().map_or(Ok(None), read_config)?.unwrap_or_default();
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
    let path = state.write(CONFIG_FILE, &config)?;
    let notices = overrides
        .into_iter()
        .map(|Override { path, message }| format!("OpenClaw's configuration, {path}: {message}"))
        .collect();
    Ok(Guarded { variables: variables(&utf8(&path)?).into(), notices })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
