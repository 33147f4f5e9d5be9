//! The state folder of one watched folder: its lock, the ports of last time, the sockets, the log and the
//! files that an agent's variables name. It is for this user alone and holds no credential of an upstream.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use clawlock_policy::codec::digest;

use crate::args::Loopback;

/// Hex digits of the folder's hash in the name of its state folder: enough to tell folders apart.
const HASH_DIGITS: usize = 16;

/// Names in the state folder.
const LOCK: &str = "lock";
const PORTS: &str = "ports";
const SOCKET: &str = "decide.sock";

/// The state folder, locked for this process.
#[derive(Debug)]
pub(super) struct State {
    dir: PathBuf,
    _lock: File,
}

/// Where this machine keeps state.
pub(super) struct Homes {
    /// `XDG_STATE_HOME`.
    pub(super) state: Option<PathBuf>,
    /// `HOME`.
    pub(super) home: Option<PathBuf>,
}

impl Homes {
    /// The state folder of a watched folder.
    fn state_of(self, folder: &Path) -> Result<PathBuf, String> {
        let Self { state, home } = self;
        // The specification tells to ignore a path that is not absolute.
        let base = state.filter(|path| path.is_absolute()).or_else(|| home.map(|home| home.join(".local/state")));
        let base = base.ok_or("neither XDG_STATE_HOME nor HOME is set; pass --state-dir DIR")?;
        let hash = digest(folder.as_os_str().as_bytes());
        let digits = hash.rsplit(':').next().and_then(|hex| hex.get(..HASH_DIGITS)).unwrap_or_default();
        Ok(base.join("clawlock").join(digits))
    }
}

/// The sockets of the agent's gate.
pub(super) struct Sockets {
    /// The proxy.
    pub(super) proxy: TcpListener,
    /// `/v1/decide` over TCP.
    pub(super) decide: TcpListener,
    /// `/v1/decide` over a Unix socket.
    pub(super) decide_unix: UnixListener,
    /// Health and metrics.
    pub(super) admin: TcpListener,
}

impl State {
    /// Opens and locks the state folder, and makes it when it is not there.
    ///
    /// # Errors
    /// When it is another user's, others can write to it, or another process uses it.
    pub(super) fn open(dir: Option<PathBuf>, homes: Homes, folder: &Path) -> Result<Self, String> {
        let dir = match dir {
            Some(dir) => std::path::absolute(&dir).map_err(|error| format!("{}: {error}", dir.display()))?,
            None => homes.state_of(folder)?,
        };
        let failed = |error: std::io::Error| {
            format!("state folder {} cannot be used: {error}; pass another --state-dir", dir.display())
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let metadata = fs::metadata(&dir).map_err(failed)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(format!(
                "state folder {} must be this user's and writable for nobody else; chmod 700 it, or pass another \
                 --state-dir",
                dir.display()
            ));
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join(LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "another clawlock dev uses state folder {}; end it, or pass another --state-dir",
                dir.display()
            )),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file for this user alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.path(name);
        let beside = self.path(&format!("{name}.new"));
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let written = options
            .open(&beside)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&beside, &path));
        written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        Ok(path)
    }

    /// Opens the sockets: the proxy where the caller wants it, the rest where they were last time, so that
    /// the variables of an agent that still runs stay true; otherwise anywhere on loopback.
    ///
    /// # Errors
    /// When an address that was asked for is taken, or the Unix socket cannot be made.
    pub(super) fn sockets(&self, listen: Option<Loopback>) -> Result<Sockets, String> {
        let [proxy, decide, admin] = self.last_addresses();
        let proxy = match listen {
            Some(Loopback(address)) => TcpListener::bind(address)
                .map_err(|error| format!("--listen {address}: {error}; choose another port, or 0 for a free one"))?,
            None => bind(proxy)?,
        };
        let (decide, admin) = (bind(decide)?, bind(admin)?);
        let decide_unix = self.bind_unix()?;
        let mut ports = String::new();
        for listener in [&proxy, &decide, &admin] {
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            ports.push_str(&format!("{address}\n"));
            listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        }
        decide_unix.set_nonblocking(true).map_err(|error| error.to_string())?;
        self.write(PORTS, &ports)?;
        Ok(Sockets { proxy, decide, decide_unix, admin })
    }

    /// Path of the Unix socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.path(SOCKET)
    }

    fn last_addresses(&self) -> [Option<SocketAddr>; 3] {
        let text = fs::read_to_string(self.path(PORTS)).unwrap_or_default();
        let mut lines =
            text.lines().map(|line| line.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback()));
        // What cannot be read only means that other ports are used.
        [(); 3].map(|()| lines.next().flatten())
    }

    fn bind_unix(&self) -> Result<UnixListener, String> {
        let path = self.socket();
        // The lock is ours, so a socket that is there is left over.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!("{} cannot be replaced: {error}", path.display()));
            }
            _ => {}
        }
        UnixListener::bind(&path).map_err(|error| {
            format!(
                "{} cannot be made: {error}; a socket's path has at most 107 bytes, pass a shorter --state-dir",
                path.display()
            )
        })
    }
}

fn bind(last: Option<SocketAddr>) -> Result<TcpListener, String> {
    if let Some(listener) = last.and_then(|address| TcpListener::bind(address).ok()) {
        return Ok(listener);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("no port on 127.0.0.1 can be opened: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn homes(state: Option<&str>, home: Option<&str>) -> Homes {
        Homes { state: state.map(PathBuf::from), home: home.map(PathBuf::from) }
    }

    fn open(dir: &Path) -> Result<State, String> {
        State::open(Some(dir.to_owned()), homes(None, None), Path::new("/"))
    }

    #[test]
    fn each_folder_has_a_state_folder() {
        let of = |homes: Homes, folder: &str| homes.state_of(Path::new(folder)).unwrap();
        let one = of(homes(Some("/s"), Some("/h")), "/a");
        assert!(one.starts_with("/s/clawlock") && one != of(homes(Some("/s"), None), "/b"));
        assert!(of(homes(Some("relative"), Some("/h")), "/a").starts_with("/h/.local/state/clawlock"));
        assert!(homes(None, None).state_of(Path::new("/a")).unwrap_err().contains("--state-dir"));
    }

    #[test]
    fn it_is_used_once_at_a_time_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let state = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(open(&path).unwrap_err().contains("another clawlock dev"));
        drop(state);
        assert!(open(&path).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(open(&path).unwrap_err().contains("chmod 700"));
    }

    #[test]
    fn ports_stay_from_run_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path()).unwrap();
        let address = |sockets: &Sockets| sockets.proxy.local_addr().unwrap();
        let first = address(&state.sockets(None).unwrap());
        let second = state.sockets(None).unwrap();
        assert_eq!(first, address(&second));
        // Taken: another one is used.
        let third = state.sockets(None).unwrap();
        assert_ne!(first, address(&third));
        let error = state.sockets(Some(Loopback(first))).err().unwrap();
        assert!(error.contains("--listen"), "{error}");
        assert!(state.socket().exists());
    }
}
