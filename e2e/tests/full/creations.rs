//! Pods that are created while something is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use clawlock_e2e::{Kubectl, Result, agent};
use serde_json::Value;

/// Asks the API server again and again to create an agent. It is asked not to keep the pod: admission is the same, and
/// the nodes have less to do.
pub(crate) struct Creations {
    stop: Arc<AtomicBool>,
    made: JoinHandle<Made>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Pods that were taken with the sidecar.
    pub(crate) taken: u32,
    /// Why the others were not.
    pub(crate) refused: Vec<String>,
}

impl Creations {
    /// Starts to ask.
    pub(crate) fn start(namespace: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, pod) = (stop.clone(), agent::manifest(namespace, "never", "app: agent"));
        let made = std::thread::spawn(move || {
            let mut made = Made::default();
            while !ended.load(Ordering::Relaxed) {
                match create(&pod) {
                    Ok(()) => made.taken += 1,
                    Err(why) => made.refused.push(why),
                }
            }
            made
        });
        Self { stop, made }
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<Made> {
        self.stop.store(true, Ordering::Relaxed);
        self.made.join().map_err(|_| "the thread that creates pods has panicked".to_owned())
    }
}

fn create(pod: &str) -> Result<()> {
    let answer = Kubectl::admin().run_with(&["create", "--dry-run=server", "-o", "json", "-f", "-"], pod)?;
    let pod: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
    match pod["spec"]["initContainers"][0]["name"] == "clawlock" {
        true => Ok(()),
        false => Err(format!("taken without a sidecar: {}", pod["spec"])),
    }
}
