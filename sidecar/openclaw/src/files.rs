//! The files: where OpenClaw's author keeps the configuration, and where the plugin goes. Whoever starts an OpenClaw does
//! the same, on a laptop and in a pod.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{CONFIG_FILE, CONFIG_PATH, MAX_CONFIG, PLUGIN_FILES};

/// The folder of OpenClaw's state, which has the configuration where [`CONFIG_PATH`] is not set.
const STATE_DIR: &str = "OPENCLAW_STATE_DIR";

/// Where OpenClaw would read its configuration. `variable` answers the variables of its environment.
pub fn author_config(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    set(CONFIG_PATH)
        .or_else(|| set(STATE_DIR).map(|folder| folder.join(CONFIG_FILE)))
        .or_else(|| set("HOME").map(|home| home.join(".openclaw").join(CONFIG_FILE)))
}

/// Reads a configuration, and no more of it than shows that it is too large. Nothing where there is no file.
///
/// # Errors
/// When it cannot be read.
pub fn read_config(path: &Path) -> Result<Option<String>, String> {
    let failed = |error: std::io::Error| format!("OpenClaw's configuration {}: {error}", path.display());
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut text = String::new();
    // One byte more than is read: the merge says that it is too large.
    let bound = u64::try_from(MAX_CONFIG).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes the plugin anew: what an earlier version or somebody else left there is gone.
///
/// # Errors
/// When a file cannot be written.
pub fn write_plugin(folder: &Path) -> std::io::Result<()> {
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
    use std::ffi::OsString;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_author_s_file_is_where_openclaw_looks() {
        let path = |set: &[(&str, &str)]| {
            author_config(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value)))
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
        let folder = dir.path().join("plugin");
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
    fn a_missing_configuration_is_none_and_a_large_one_is_refused_later() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_config(&dir.path().join("none.json")).unwrap(), None);
        let large = dir.path().join("large.json");
        fs::write(&large, " ".repeat(MAX_CONFIG + 10)).unwrap();
        assert_eq!(read_config(&large).unwrap().unwrap().len(), MAX_CONFIG + 1);
        assert!(read_config(dir.path()).is_err());
    }
}
