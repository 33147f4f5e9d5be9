//! The generated files: committed, complete, and drift is found.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

use std::path::Path;
use std::process::{Command, Output};

fn crdgen(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crdgen")).args(arguments).arg(folder).output().unwrap()
}

fn committed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml")
}

#[test]
fn committed_files_are_current() {
    let output = crdgen(&["--check"], &committed());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn writing_twice_gives_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&one, &two] {
        assert!(crdgen(&[], folder.path()).status.success());
    }
    let mut count = 0;
    for entry in std::fs::read_dir(one.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
        assert_eq!(read(one.path()), read(two.path()));
        count += 1;
    }
    assert_eq!(count, clawlock_crds::definitions().len());
}

#[test]
fn drift_fails_and_says_where_and_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    assert!(crdgen(&[], folder.path()).status.success());
    let file = folder.path().join("clawlock.dev_upstreams.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("maximum: 65535", "maximum: 99999")).unwrap();
    let output = crdgen(&["--check"], folder.path());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("clawlock.dev_upstreams.yaml:"), "{message}");
    assert!(message.contains("maximum: 99999") && message.contains("maximum: 65535"), "{message}");
    assert!(message.contains("cargo run -p clawlock-crds --bin crdgen"), "{message}");
}

#[test]
fn a_missing_and_a_foreign_file_are_drift() {
    let folder = tempfile::tempdir().unwrap();
    assert!(crdgen(&[], folder.path()).status.success());
    std::fs::write(folder.path().join("clawlock.dev_others.yaml"), "").unwrap();
    assert_eq!(crdgen(&["--check"], folder.path()).status.code(), Some(1));
    std::fs::remove_file(folder.path().join("clawlock.dev_others.yaml")).unwrap();
    assert!(crdgen(&["--check"], folder.path()).status.success());
    std::fs::remove_file(folder.path().join("clawlock.dev_agenthalts.yaml")).unwrap();
    assert_eq!(crdgen(&["--check"], folder.path()).status.code(), Some(1));
}

#[test]
fn the_files_read_as_the_definitions() {
    for definition in clawlock_crds::definitions() {
        let name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
        let text = std::fs::read_to_string(committed().join(name)).unwrap();
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(value, serde_json::to_value(&definition).unwrap());
    }
}

#[test]
fn an_unknown_argument_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_crdgen")).arg("--chekc").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage"));
}
