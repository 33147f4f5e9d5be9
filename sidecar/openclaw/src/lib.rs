//! What governs an OpenClaw (2026.9.6), beside the gates: the guard plugin's files, the configuration that keeps the
//! plugin in force, and the variables that keep the configuration.
//!
//! For `clawlock dev` and for pods alike. The merge is pure, [`files`] has what is read and written.

pub mod files;
mod overlay;
mod read;

pub use overlay::{DENIED_TOOLS, Guard, Merged, Override, merge};
pub use read::{ConfigError, MAX_CONFIG, MAX_DEPTH};

/// Id of the plugin in OpenClaw's configuration.
pub const PLUGIN_ID: &str = "clawlock-guard";

/// The plugin's files by name, for a folder of mode 0755 with files of 0644 that belong to root or to OpenClaw's user:
/// OpenClaw skips a plugin in any other, and runs without it.
pub const PLUGIN_FILES: [(&str, &str); 8] = [
    ("calls.js", include_str!("../../openclaw-plugin/calls.js")),
    ("claims.js", include_str!("../../openclaw-plugin/claims.js")),
    ("gate.js", include_str!("../../openclaw-plugin/gate.js")),
    ("guard.js", include_str!("../../openclaw-plugin/guard.js")),
    ("heartbeat.js", include_str!("../../openclaw-plugin/heartbeat.js")),
    ("index.js", include_str!("../../openclaw-plugin/index.js")),
    ("openclaw.plugin.json", include_str!("../../openclaw-plugin/openclaw.plugin.json")),
    ("package.json", include_str!("../../openclaw-plugin/package.json")),
];

/// The variable that names OpenClaw's configuration.
pub const CONFIG_PATH: &str = "OPENCLAW_CONFIG_PATH";

/// Name of OpenClaw's configuration.
pub const CONFIG_FILE: &str = "openclaw.json";

/// The variables that OpenClaw needs beside those of every agent. `config` is the path of the merged configuration.
/// The first keeps every command of OpenClaw from writing it, the last an update from replacing what was tested.
#[must_use]
pub fn variables(config: &str) -> [(&'static str, String); 3] {
    [
        ("OPENCLAW_CONFIG_READONLY", "1".to_owned()),
        (CONFIG_PATH, config.to_owned()),
        ("OPENCLAW_NO_AUTO_UPDATE", "1".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_plugin_is_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../openclaw-plugin");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(there, PLUGIN_FILES.map(|(name, _)| name));
    }

    #[test]
    fn the_manifest_has_the_id() {
        let manifest = PLUGIN_FILES.iter().find(|(name, _)| *name == "openclaw.plugin.json").unwrap().1;
        let manifest: serde_json::Value = serde_json::from_str(manifest).unwrap();
        assert_eq!(manifest["id"], PLUGIN_ID);
    }
}
