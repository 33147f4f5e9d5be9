//! The CA's two files: `ca.key`, which only the gate's own user can read, and `ca.crt`, which agents
//! trust. The key is the CA; the certificate can be made anew from it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// Largest file of the two that is read: a key and a certificate have under 2 KiB.
const MAX_FILE: u64 = 64 * 1024;

/// Permission bits of anybody but the owner.
const OTHERS: u32 = 0o077;

/// Why the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error("interception CA: cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else could have read the key, or could replace it.
    #[error(
        "interception CA: {} can be used by others (mode {mode:o}); whoever read its key can pose as any server to \
         the agent: remove the folder so that a new CA is made, and start the agent again", .path.display()
    )]
    Exposed {
        /// The folder or key.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The folder or key belongs to another user.
    #[error(
        "interception CA: {} belongs to user {owner}, not to this process's user {user}: name another folder",
        .path.display()
    )]
    Owner {
        /// The folder or key.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The process's effective user.
        user: u32,
    },
    /// A file does not hold what it should.
    #[error("interception CA: {} {why}: {todo}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
        /// What to do.
        todo: &'static str,
    },
    /// A key or certificate could not be made.
    #[error("interception CA: a key or certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("interception CA: TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The folder of the two files.
pub(super) struct Store {
    pub(super) key: PathBuf,
    pub(super) certificate: PathBuf,
}

impl Store {
    /// Opens the folder, and makes it when it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, CaError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| io_error("make", dir, source))?;
        let metadata = fs::symlink_metadata(dir).map_err(|source| io_error("look at", dir, source))?;
        if !metadata.is_dir() {
            return Err(io_error("use", dir, io::ErrorKind::NotADirectory.into()));
        }
        check_owner(dir, &metadata)?;
        Ok(Self { key: dir.join("ca.key"), certificate: dir.join("ca.crt") })
    }

    /// The key in PEM; `None` when there is none yet.
    pub(super) fn read_key(&self) -> Result<Option<Zeroizing<String>>, CaError> {
        let Some(file) = open(&self.key)? else { return Ok(None) };
        let metadata = file.metadata().map_err(|source| io_error("look at", &self.key, source))?;
        check_owner(&self.key, &metadata)?;
        read(file, &self.key).map(|text| Some(Zeroizing::new(text)))
    }

    /// The certificate in PEM; `None` when there is none.
    pub(super) fn read_certificate(&self) -> Result<Option<String>, CaError> {
        open(&self.certificate)?.map(|file| read(file, &self.certificate)).transpose()
    }

    /// Writes a new key whole or not at all; returns false when another process was first.
    pub(super) fn write_key(&self, pem: &str) -> Result<bool, CaError> {
        let temporary = write_beside(&self.key, pem, 0o600)?;
        // A link, unlike a rename, does not replace: the first of two processes wins.
        let linked = fs::hard_link(&temporary, &self.key);
        fs::remove_file(&temporary).map_err(|source| io_error("remove", &temporary, source))?;
        match linked {
            Ok(()) => self.sync().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(io_error("write", &self.key, source)),
        }
    }

    /// Writes the certificate over the one that is there.
    pub(super) fn write_certificate(&self, pem: &str) -> Result<(), CaError> {
        let temporary = write_beside(&self.certificate, pem, 0o644)?;
        fs::rename(&temporary, &self.certificate).map_err(|source| io_error("write", &self.certificate, source))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), CaError> {
        let dir = self.key.parent().unwrap_or(Path::new("/"));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| io_error("write", dir, source))
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> CaError {
    CaError::Io { doing, path: path.to_owned(), source }
}

fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), CaError> {
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(CaError::Owner { path: path.to_owned(), owner, user });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(CaError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Opens a file, but neither through a link nor a device or pipe that stands in its place.
fn open(path: &Path) -> Result<Option<File>, CaError> {
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
    {
        Ok(descriptor) => {
            let file = File::from(descriptor);
            let metadata = file.metadata().map_err(|source| io_error("look at", path, source))?;
            if !metadata.is_file() {
                return Err(io_error("read", path, io::Error::other("it is not a regular file")));
            }
            Ok(Some(file))
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(io_error("read", path, error.into())),
    }
}

fn read(file: File, path: &Path) -> Result<String, CaError> {
    let mut text = String::new();
    let length = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|source| io_error("read", path, source))?;
    if u64::try_from(length).map_or(true, |length| length > MAX_FILE) {
        return Err(io_error("read", path, io::Error::other("it is larger than 64 KiB")));
    }
    Ok(text)
}

/// Writes a new file of the process's own beside the one that it shall become.
fn write_beside(path: &Path, text: &str, mode: u32) -> Result<PathBuf, CaError> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    // Left over by a process of this id that was killed; the folder is ours alone.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &temporary, error)),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        // The mask of the process may have taken bits away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| io_error("write", &temporary, source))?;
    Ok(temporary)
}
