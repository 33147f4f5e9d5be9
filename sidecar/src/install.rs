//! `install-openclaw`: the init container that puts OpenClaw under its guard. It runs as OpenClaw's own user with
//! OpenClaw's volumes, and ends.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clawlock_openclaw::files::{author_config, read_config, write_plugin};
use clawlock_openclaw::{CONFIG_FILE, CONFIG_PATH, Guard, Merged, merge};

/// How long an answer of the gate may take before the plugin blocks: the plugin's default.
const TIMEOUT_MS: u16 = 500;

/// The plugin's folder. The volume's own is open to everybody, and OpenClaw takes no plugin from such a one.
const PLUGIN: &str = "plugin";

/// OpenClaw's home in its own image.
const HOME: &str = "/home/node";

/// Where the kubelet takes a container's last words from, for `kubectl describe`; the API server's default.
pub(crate) const LAST_WORDS: &str = "/dev/termination-log";

/// The most that the kubelet takes, in bytes.
const MAX_LAST_WORDS: usize = 4096;

/// Writes plugin and configuration into `folder`; the plugin asks at `socket`. Answers what of the author's
/// configuration does not hold.
///
/// # Errors
/// When the configuration cannot be found or read, or a file not be written.
pub(crate) fn install(
    folder: &Path,
    socket: &Path,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Vec<String>, String> {
    let named = variable(CONFIG_PATH).is_some_and(|path| !path.as_os_str().is_empty());
    let path = author_config(&variable).unwrap_or_else(|| Path::new(HOME).join(".openclaw").join(CONFIG_FILE));
    let author = match read_config(&path)? {
        None if named => {
            return Err(format!(
                "OpenClaw's configuration {}, which {CONFIG_PATH} names, is on none of the volumes of OpenClaw's \
                 container. What is in its image cannot be read here: mount it from a ConfigMap, a Secret or another \
                 volume",
                path.display()
            ));
        }
        found => found.unwrap_or_default(),
    };
    let plugin = folder.join(PLUGIN);
    write_plugin(&plugin).map_err(|error| format!("the guard plugin in {}: {error}", plugin.display()))?;
    let guard =
        Guard { folder: plugin.display().to_string(), socket: socket.display().to_string(), timeout_ms: TIMEOUT_MS };
    let Merged { config, overrides } =
        merge(&author, &guard).map_err(|error| format!("{}: {error}", path.display()))?;
    let target = folder.join(CONFIG_FILE);
    write(&target, &config).map_err(|error| format!("{}: {error}", target.display()))?;
    Ok(overrides.into_iter().map(|one| format!("{}: {}", one.path, one.message)).collect())
}

/// Writes the configuration, which has its author's secrets, anew.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Leaves lines as the container's last words. They are for people; nothing depends on them.
pub(crate) fn leave(lines: &[String], path: &Path) {
    let mut text = lines.join("\n");
    if text.len() > MAX_LAST_WORDS {
        let end = (0..=MAX_LAST_WORDS).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    if let Err(error) = fs::write(path, text) {
        tracing::warn!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    use serde_json::Value;

    /// Installs with these variables; answers the configuration, and what was told.
    fn installed(folder: &Path, set: &[(&str, &Path)]) -> Result<(Value, Vec<String>), String> {
        let told = install(folder, Path::new("/s/decide.sock"), |name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, path)| path.to_path_buf())
        })?;
        Ok((serde_json::from_slice(&fs::read(folder.join("openclaw.json")).unwrap()).unwrap(), told))
    }

    #[test]
    fn the_author_s_configuration_stays_and_the_guard_is_in_it() {
        let (folder, author) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = author.path().join("openclaw.json");
        fs::write(&path, "{gateway: {mode: 'local'}, plugins: {enabled: false}} // JSON5").unwrap();
        // Twice: an init container may run again.
        for _ in 0..2 {
            let (config, told) = installed(folder.path(), &[("OPENCLAW_CONFIG_PATH", &path)]).unwrap();
            assert_eq!(config["gateway"]["mode"], "local");
            let plugin = folder.path().join("plugin");
            assert_eq!(config["plugins"]["load"]["paths"][0], plugin.to_str().unwrap());
            assert_eq!(config["plugins"]["entries"]["clawlock-guard"]["config"]["socket"], "/s/decide.sock");
            assert_eq!(told, ["plugins.enabled: true: the guard is a plugin"]);
            assert!(plugin.join("index.js").exists());
            assert_eq!(fs::metadata(folder.path().join("openclaw.json")).unwrap().mode() & 0o077, 0);
        }
        let (config, _) = installed(folder.path(), &[("OPENCLAW_STATE_DIR", author.path())]).unwrap();
        assert_eq!(config["gateway"]["mode"], "local");
    }

    #[test]
    fn a_configuration_that_is_named_must_be_there_and_be_one() {
        let (folder, author) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = author.path().join("openclaw.json");
        let told = installed(folder.path(), &[("OPENCLAW_CONFIG_PATH", &path)]).unwrap_err();
        assert!(told.contains("openclaw.json, which OPENCLAW_CONFIG_PATH names, is on none of the volumes"), "{told}");
        // A state that OpenClaw has not begun yet has none.
        installed(folder.path(), &[("OPENCLAW_STATE_DIR", author.path())]).unwrap();
        fs::write(&path, "{$include: '/etc/other.json'}").unwrap();
        let told = installed(folder.path(), &[("OPENCLAW_CONFIG_PATH", &path)]).unwrap_err();
        assert!(told.contains("$include"), "{told}");
    }

    #[test]
    fn last_words_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        leave(&["é".repeat(4000), "more".to_owned()], &path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "é".repeat(2048));
        leave(&["one".to_owned(), "two".to_owned()], &path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo");
    }
}
