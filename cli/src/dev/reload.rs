//! The thread that keeps the gates at what the folder says: it waits for changes, reads, compiles,
//! installs, and renews the assignment. Nothing of it runs on the data path.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use clawlock_compile::Pod;
use clawlock_policy::document::{CredentialDoc, SecretKey};

use super::events::{Event, Teller};
use super::install::{Installed, Installer, RENEWAL};
use super::last_good::{Applied, LastGood};
use super::watch::{Fingerprint, Stopper, Watch, Woken, fingerprint};
use crate::folder::{self, Folder, Object, Resource};
use crate::problem::Problem;
use crate::secret::Secrets;

/// The thread while it runs.
pub(super) struct Reloading {
    stopper: Stopper,
    thread: JoinHandle<()>,
}

impl Reloading {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(reloader: Reloader, watch: Watch, stopper: Stopper) -> Result<Self, String> {
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(move || reloader.run(watch));
        Ok(Self { stopper, thread: thread.map_err(|error| format!("a thread cannot be started: {error}"))? })
    }

    /// Ends the thread.
    pub(super) fn stop(self) {
        let Self { stopper, thread } = self;
        stopper.stop();
        // A panic of the thread was printed when it happened.
        drop(thread.join());
    }
}

/// Keeps the gates up to date.
pub(super) struct Reloader {
    pub(super) folder: PathBuf,
    /// The files as they were before they were read for the first time.
    pub(super) seen: Fingerprint,
    pub(super) pod: Pod,
    pub(super) good: LastGood,
    pub(super) installer: Installer,
    pub(super) secrets: Arc<Secrets>,
    pub(super) teller: Teller,
    pub(super) told: Told,
}

/// What was told last, so that it is not told again.
#[derive(Default)]
pub(super) struct Told {
    pub(super) problems: Vec<Problem>,
    pub(super) notices: Vec<String>,
}

impl Reloader {
    /// Runs until it is stopped.
    pub(super) fn run(mut self, mut watch: Watch) {
        let mut seen = std::mem::take(&mut self.seen);
        let mut renewed = Instant::now();
        loop {
            let woken = watch.wait();
            // Taken before reading, so that what changes meanwhile is seen by the next look.
            let now = look(&self.folder, &self.secrets);
            match woken {
                Woken::Stop => return,
                Woken::Changed => self.reload(),
                Woken::Poll if now != seen => {
                    watch.renew();
                    self.reload();
                }
                Woken::Poll => {}
            }
            seen = now;
            if renewed.elapsed() >= RENEWAL {
                renewed = Instant::now();
                if let Err(error) = self.installer.renew() {
                    self.teller.tell(Event::Notice { message: format!("the assignment was not renewed: {error}") });
                }
            }
        }
    }

    fn reload(&mut self) {
        let mut notices = self.secrets.reload();
        let state: Folder = folder::read(std::slice::from_ref(&self.folder));
        let Applied { compilation, objects, problems, kept } = self.good.apply(&state, &self.folder);
        match self.installer.install(&compilation) {
            Ok(Installed::Generation(generation)) => {
                let Selected { policies, halts, others: _ } = Selected::of(&objects, &self.pod);
                self.teller.tell(Event::Installed { generation, policies, halts });
            }
            Ok(Installed::Unchanged) => {}
            Err(error) => notices.push(format!("the change is not in force, what was stays: {error}")),
        }
        if problems != self.told.problems {
            self.teller.tell(Event::Problems { problems: problems.clone(), kept });
            self.told.problems = problems;
        }
        notices.extend(missing_credentials(&compilation, self.installer.tenant(), &self.secrets));
        for message in notices.iter().filter(|notice| !self.told.notices.contains(notice)) {
            self.teller.tell(Event::Notice { message: message.clone() });
        }
        self.told.notices = notices;
    }
}

/// What the poll compares: the files of the folder and of the credentials.
pub(super) fn look(folder: &Path, secrets: &Secrets) -> Fingerprint {
    fingerprint(folder::find(folder).into_iter().chain(secrets.files().map(Path::to_owned)))
}

/// The policies and halts of an agent, as `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// Policies that select it.
    pub(super) policies: Vec<String>,
    /// Policies of its namespace that do not.
    pub(super) others: Vec<String>,
    /// Halts that select it.
    pub(super) halts: Vec<String>,
}

impl Selected {
    /// Those of a set of objects.
    pub(super) fn of(objects: &[Object], pod: &Pod) -> Self {
        let mut selected = Self::default();
        for Object { id, resource, source: _ } in objects {
            let name = format!("{}/{}", id.namespace, id.name);
            match resource {
                Resource::Policy(policy) if id.namespace == pod.namespace => {
                    if policy.spec.agent_selector.matches(&pod.labels) {
                        selected.policies.push(name);
                    } else {
                        selected.others.push(name);
                    }
                }
                // A halt of the platform namespace reaches every agent of the tenant.
                Resource::Halt(halt) if halt.spec.agent_selector.matches(&pod.labels) => selected.halts.push(name),
                _ => {}
            }
        }
        selected
    }
}

/// A remark for each credential that an upstream needs and that was not named on the command line.
pub(super) fn missing_credentials(
    compilation: &clawlock_compile::Compilation,
    tenant: &str,
    secrets: &Secrets,
) -> Vec<String> {
    let upstreams = compilation.tenants().filter(|known| known.name() == tenant).flat_map(|known| known.upstreams());
    let mut missing = Vec::new();
    for upstream in upstreams {
        let key = match &upstream.credential {
            CredentialDoc::None {} => continue,
            CredentialDoc::Bearer { secret } => secret,
            CredentialDoc::Header { name: _, secret } => secret,
            CredentialDoc::Basic { username: _, secret } => secret,
        };
        if !secrets.names(key) {
            let SecretKey { name, key } = key;
            missing.push(format!(
                "upstream {} is denied until its credential is there: pass --secret {name}/{key}=env:VAR or file:PATH",
                upstream.name
            ));
        }
    }
    missing
}
