//! The folder that agents read: the interception CA's certificate, wget's configuration, the decision socket.
//! Files are replaced whole, so that no agent ever reads a half of one. No secret comes here.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The interception CA, for everything that an agent's variables point to it.
const CA: &str = "ca.crt";
/// wget reads its CA from its configuration only.
const WGETRC: &str = "wgetrc";
/// The decision socket.
pub(crate) const SOCKET: &str = "decide.sock";

/// Everybody in the pod may read it.
const READABLE: u32 = 0o644;
/// Connecting a socket takes the right to write.
const CONNECTABLE: u32 = 0o666;

/// Writes the files, and opens the socket in place of the one before.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn prepare(folder: &Path, ca: &str) -> Result<UnixListener, String> {
    let wgetrc = format!("ca_certificate = {}\n", folder.join(CA).display());
    for (name, text) in [(CA, ca), (WGETRC, wgetrc.as_str())] {
        let path = folder.join(name);
        write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    let path = folder.join(SOCKET);
    listen(&path).map_err(|error| failed(&path, &error))
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be made: {error}; the pod must be injected again, with its volumes", path.display())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = vacant(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(READABLE).open(&beside)?;
    // The mask of the process may have taken bits away.
    file.set_permissions(Permissions::from_mode(READABLE))?;
    file.write_all(text.as_bytes())?;
    fs::rename(beside, path)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let beside = vacant(path)?;
    let listener = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, Permissions::from_mode(CONNECTABLE))?;
    listener.set_nonblocking(true)?;
    // A socket keeps working under its new name, and nobody is left with the one of a process that has ended.
    fs::rename(beside, path)?;
    Ok(listener)
}

/// A path beside another at which nothing is.
fn vacant(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(beside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn every_user_of_the_pod_can_read_the_files_and_connect_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let _listener = prepare(path, "PEM\n").unwrap();
        assert_eq!(fs::read_to_string(path.join("ca.crt")).unwrap(), "PEM\n");
        let wgetrc = format!("ca_certificate = {}/ca.crt\n", path.display());
        assert_eq!(fs::read_to_string(path.join("wgetrc")).unwrap(), wgetrc);
        assert_eq!([mode(&path.join("ca.crt")), mode(&path.join("wgetrc"))], [0o644, 0o644]);
        assert_eq!(mode(&path.join("decide.sock")), 0o666);
        assert!(UnixStream::connect(path.join("decide.sock")).is_ok());
    }

    #[test]
    fn what_a_process_before_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        drop(prepare(path, "old\n").unwrap());
        fs::write(path.join("ca.crt.new"), "half").unwrap();
        assert!(UnixStream::connect(path.join("decide.sock")).is_err(), "nobody listens");
        let _listener = prepare(path, "new\n").unwrap();
        assert_eq!(fs::read_to_string(path.join("ca.crt")).unwrap(), "new\n");
        assert!(UnixStream::connect(path.join("decide.sock")).is_ok());
        assert_eq!(fs::read_dir(path).unwrap().count(), 3, "nothing is left over");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = prepare(Path::new("/nowhere/agent"), "").unwrap_err();
        assert!(error.starts_with("/nowhere/agent/ca.crt "), "{error}");
    }
}
