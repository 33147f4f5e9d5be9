//! Finds and reads the files of a folder, within bounds. Owns every limit on what is read; looks into
//! no file's meaning.
//!
//! Names that begin with a dot are skipped: editors and mounted ConfigMaps keep their own there.
//! Symbolic links are followed, because a mounted ConfigMap consists of them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Largest file in bytes. An object of etcd has at most 1.5 MiB; a file may hold a few small ones.
pub(crate) const MAX_FILE: u64 = 2 * 1024 * 1024;

/// Most bytes of all files together: bounds memory.
pub(crate) const MAX_TOTAL: u64 = 32 * 1024 * 1024;

/// Most files: a policy each for more agents than a tenant has. More is another folder than the one that was meant.
pub(crate) const MAX_FILES: usize = 5_000;

/// Deepest subfolder: bounds a tree of links.
pub(crate) const MAX_DEPTH: usize = 8;

/// Most entries that are looked at while searching: bounds the time for a folder such as `/`.
const MAX_ENTRIES: usize = 100_000;

/// Something that could not be read, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Where.
    pub(crate) path: PathBuf,
    /// Why, and what to do.
    pub(crate) reason: String,
}

/// Files in the order of their names, and what could not be listed.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// What could not be listed.
    pub(crate) unreadable: Vec<Unreadable>,
}

/// How the names of files of test cases end. They are no objects, and stand beside them.
const CASES: [&[u8]; 2] = [b".test.yaml", b".test.yml"];

/// Searches paths: folders for `*.yaml` and `*.yml` but those of test cases, files as they are.
pub(crate) fn find(paths: &[PathBuf]) -> Found {
    search(paths, Search::default())
}

/// Searches paths: folders for `*.test.yaml` and `*.test.yml`, files as they are.
pub(crate) fn find_cases(paths: &[PathBuf]) -> Found {
    search(paths, Search { cases: true, ..Search::default() })
}

fn search(paths: &[PathBuf], mut search: Search) -> Found {
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => search.folder(path, MAX_DEPTH),
            Ok(_) => search.found.files.push(path.clone()),
            Err(error) => search.refuse(path, describe(&error)),
        }
    }
    let mut found = search.found;
    found.files.sort();
    found.files.dedup();
    if found.files.len() > MAX_FILES {
        let path = found.files.swap_remove(MAX_FILES);
        found.files.truncate(MAX_FILES);
        let reason = format!("more than {MAX_FILES} YAML files; name the folder that holds the policies");
        found.unreadable.push(Unreadable { path, reason });
    }
    found
}

#[derive(Default)]
struct Search {
    found: Found,
    folders: HashSet<(u64, u64)>,
    entries: usize,
    /// Whether test cases are searched for.
    cases: bool,
}

impl Search {
    fn refuse(&mut self, path: &Path, reason: String) {
        self.found.unreadable.push(Unreadable { path: path.to_owned(), reason });
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        let (entries, metadata) = match fs::read_dir(folder).and_then(|entries| Ok((entries, fs::metadata(folder)?))) {
            Ok(both) => both,
            Err(error) => return self.refuse(folder, describe(&error)),
        };
        // A link back to a folder that was already read is no error, only nothing new.
        if !self.folders.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        for entry in entries {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return self
                    .refuse(folder, format!("more than {MAX_ENTRIES} entries; name the folder of the policies"));
            }
            match entry {
                Ok(entry) => self.entry(&entry.path(), depth),
                Err(error) => self.refuse(folder, describe(&error)),
            }
        }
    }

    fn entry(&mut self, path: &Path, depth: usize) {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b".") {
            return;
        }
        if CASES.iter().any(|end| name.ends_with(end)) != self.cases && !path.is_dir() {
            return;
        }
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                if depth == 0 {
                    self.refuse(path, format!("deeper than {MAX_DEPTH} folders; move it up"));
                } else {
                    self.folder(path, depth - 1);
                }
            }
            Ok(_) if yaml => self.found.files.push(path.to_owned()),
            // A dangling link to something that is not YAML is none of our business.
            Err(error) if yaml => self.refuse(path, describe(&error)),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Reads a file as text. `left` is what remains of [`MAX_TOTAL`].
pub(crate) fn read(path: &Path, left: &mut u64) -> Result<String, String> {
    // A pipe or device would block or never end.
    if !fs::metadata(path).map_err(|error| describe(&error))?.is_file() {
        return Err("not a regular file; name a file or a folder".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| describe(&error))?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| describe(&error))?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes; split it into smaller files"));
    }
    *left = left.checked_sub(size).ok_or_else(|| {
        format!("the files together are larger than {MAX_TOTAL} bytes; keep only policies in the folder")
    })?;
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}; save the file as UTF-8", error.utf8_error().valid_up_to()))
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not found; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied; make it readable for this user".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(found: &Found, root: &Path) -> Vec<String> {
        found.files.iter().map(|file| file.strip_prefix(root).unwrap().display().to_string()).collect()
    }

    #[test]
    fn finds_yaml_in_order_and_skips_hidden_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        for name in ["z.yaml", "a.yml", "b/c/d.yaml", "notes.txt", ".git/e.yaml", ".swap.yaml", "b/a.test.yaml"] {
            fs::write(root.join(name), "").unwrap();
        }
        let found = find(&[root.to_owned()]);
        assert_eq!(names(&found, root), ["a.yml", "b/c/d.yaml", "z.yaml"]);
        assert_eq!(names(&find_cases(&[root.to_owned()]), root), ["b/a.test.yaml"]);
        assert_eq!(found.unreadable, []);
    }

    #[test]
    fn follows_the_links_of_a_mounted_config_map_and_no_circle() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("..2026_01_01/sub")).unwrap();
        fs::write(root.join("..2026_01_01/policy.yaml"), "").unwrap();
        symlink("..2026_01_01", root.join("..data")).unwrap();
        symlink("..data/policy.yaml", root.join("policy.yaml")).unwrap();
        symlink("..data/sub", root.join("sub")).unwrap();
        symlink(root, root.join("..2026_01_01/sub/again")).unwrap();
        let found = find(&[root.to_owned()]);
        assert_eq!(names(&found, root), ["policy.yaml"]);
        assert_eq!(found.unreadable, []);
    }

    #[test]
    fn bounds_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = dir.path().to_owned();
        for _ in 0..=MAX_DEPTH {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        let found = find(&[dir.path().to_owned()]);
        assert!(found.unreadable[0].reason.contains("deeper"), "{found:?}");

        let path = dir.path().join("big.yaml");
        fs::write(&path, vec![b'#'; usize::try_from(MAX_FILE).unwrap() + 1]).unwrap();
        assert!(read(&path, &mut MAX_TOTAL.clone()).unwrap_err().contains("larger than 2097152 bytes"));
        fs::write(&path, "abc").unwrap();
        assert!(read(&path, &mut 2).unwrap_err().contains("together"));
        assert_eq!(read(&path, &mut 3).unwrap(), "abc");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let found = find(&[dir.path().join("absent")]);
        assert!(found.unreadable[0].reason.contains("not found"));
        symlink("nowhere", dir.path().join("dangling.yaml")).unwrap();
        assert!(find(&[dir.path().to_owned()]).unreadable[0].reason.contains("not found"));
        assert!(read(Path::new("/dev/zero"), &mut MAX_TOTAL.clone()).unwrap_err().contains("regular"));
        let path = dir.path().join("latin1.yaml");
        fs::write(&path, b"name: caf\xe9").unwrap();
        assert!(read(&path, &mut MAX_TOTAL.clone()).unwrap_err().contains("byte 9"));
    }
}
