//! A folder that cannot be left: every path that a model gives is opened below it by `cap-std`,
//! which resolves names step by step without following a link or a `..` that leads outside, also
//! when somebody changes the folder meanwhile. Refusals tell the model how to mend the call.
//!
//! It reads regular files only: pipes, sockets and devices are refused before they are opened, and
//! opened without blocking should one be put in a file's place in between. What is in a file is
//! not its matter. Used by all file tools.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, FileType, OpenOptions};

use shared::run::{Failure, FailureKind};

/// No file system takes longer paths than this (`PATH_MAX` on Linux).
const MAX_PATH_BYTES: usize = 4096;

/// Names offered when the one asked for does not exist.
const NEAR_NAMES: usize = 5;

/// The same letters in half of a name make it a near one.
const NEARNESS: f64 = 0.6;

/// A folder and the way below it.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
    root: PathBuf,
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of this size.
    File(u64),
    /// A folder.
    Folder,
}

/// The beginning of a file, or all of it.
#[derive(Debug)]
pub struct Content {
    /// The bytes read.
    pub bytes: Vec<u8>,
    /// The whole file's size.
    pub size: u64,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; not exact where that is not UTF-8.
    pub name: String,
    /// What it is; `None` for links, pipes, devices and names that are not UTF-8.
    pub kind: Option<Kind>,
}

impl Folder {
    /// The folder at `root`, which must exist.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let dir = Dir::open_ambient_dir(root, ambient_authority())
            .map_err(|error| cannot_open(root, &error))?;
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Ok(Self { dir, root })
    }

    /// The folder at `root`, made with its parents where it does not exist.
    pub fn create(root: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(root).map_err(|error| cannot_open(root, &error))?;
        Self::open(root)
    }

    /// The open directory, for work that this type does not do.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Where the folder is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Understands a path as a model gives it: relative, `/` between names, `.` for the folder
    /// itself. Refuses absolute paths, `..`, NUL and overlong paths.
    pub fn relative(&self, given: &str) -> Result<PathBuf, Failure> {
        if given.contains('\0') {
            return Err(refused(format!(
                "path {given:?} holds a NUL character; leave it out"
            )));
        }
        if given.len() > MAX_PATH_BYTES {
            let bytes = given.len();
            return Err(refused(format!(
                "a path of {bytes} bytes is too long; the most is {MAX_PATH_BYTES}"
            )));
        }
        let mut path = PathBuf::new();
        for part in Path::new(given.trim()).components() {
            match part {
                Component::Normal(name) => path.push(name),
                Component::CurDir => {}
                Component::ParentDir => {
                    return Err(refused(format!(
                        "path {given:?} leaves the folder by `..`; only paths below the folder can be used, such as \"docs/notes.md\""
                    )));
                }
                Component::RootDir | Component::Prefix(_) => {
                    return Err(self.absolute_refused(given));
                }
            }
        }
        Ok(path)
    }

    fn absolute_refused(&self, given: &str) -> Failure {
        let inside = Path::new(given).strip_prefix(&self.root).ok();
        let mend = match inside.and_then(Path::to_str) {
            Some("") => "write \".\"".to_owned(),
            Some(inside) => format!("write {inside:?}"),
            None => "write the path relative to the folder, such as \"docs/notes.md\", or \".\" for the folder itself".into(),
        };
        refused(format!("path {given:?} is absolute; {mend}"))
    }

    /// What stands at `path`. Anything but a file or folder is refused.
    pub fn kind(&self, path: &Path) -> Result<Kind, Failure> {
        let metadata = self
            .dir
            .metadata(or_dot(path))
            .map_err(|error| self.explain(path, &error))?;
        kind_of(metadata.file_type(), metadata.len()).ok_or_else(|| {
            refused(format!(
                "{path:?} is neither a file nor a folder and is not opened"
            ))
        })
    }

    /// Reads at most `max` bytes from the beginning of the file at `path`.
    pub fn read(&self, path: &Path, max: usize) -> Result<Content, Failure> {
        if self.kind(path)? == Kind::Folder {
            return Err(refused(format!("{path:?} is a folder, not a file")));
        }
        let mut options = OpenOptions::new();
        options.read(true).nonblock(true);
        let explain = |error: io::Error| self.explain(path, &error);
        let file = self.dir.open_with(path, &options).map_err(explain)?;
        let metadata = file.metadata().map_err(explain)?;
        if !metadata.is_file() {
            return Err(refused(format!("{path:?} is no regular file any more")));
        }
        let size = metadata.len();
        Ok(Content {
            bytes: read_at_most(&file, max, size).map_err(explain)?,
            size,
        })
    }

    /// The entries of the folder at `path`, by name.
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>, Failure> {
        let explain = |error: io::Error| self.explain(path, &error);
        let mut entries = Vec::new();
        for entry in self.dir.read_dir(or_dot(path)).map_err(explain)? {
            let entry = entry.map_err(explain)?;
            let exact = entry.file_name().into_string();
            let utf8 = exact.is_ok();
            let name = exact.unwrap_or_else(|name| name.to_string_lossy().into_owned());
            let metadata = entry.metadata().ok().filter(|_| utf8);
            let kind = metadata.and_then(|metadata| kind_of(metadata.file_type(), metadata.len()));
            entries.push(Entry { name, kind });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Says to a model what went wrong at `path` and what it can do.
    pub fn explain(&self, path: &Path, error: &io::Error) -> Failure {
        use io::ErrorKind as E;
        match error.kind() {
            E::NotFound => refused(format!(
                "there is no {path:?} in the folder{}",
                self.near(path)
            )),
            // cap-std's own refusal carries no code of the operating system.
            E::PermissionDenied if error.raw_os_error().is_none() => refused(format!(
                "{path:?} leads outside the folder by a link; only what lies inside it can be used"
            )),
            E::PermissionDenied if matches!(path.to_str(), Some("" | ".")) => Failure::new(
                FailureKind::Permanent,
                "no permission to read the folder of this task; say so",
            ),
            E::PermissionDenied => refused(format!("no permission for {path:?}; use another file")),
            E::NotADirectory => refused(format!("a part of {path:?} is a file, not a folder")),
            E::IsADirectory => refused(format!("{path:?} is a folder, not a file")),
            E::InvalidFilename => refused(format!("a name in {path:?} is too long or not allowed")),
            E::StorageFull | E::QuotaExceeded => Failure::new(
                FailureKind::Permanent,
                format!(
                    "{path:?}: no space left in {}; free some and run the task again",
                    self.root.display()
                ),
            ),
            E::ReadOnlyFilesystem => Failure::new(
                FailureKind::Permanent,
                format!(
                    "{path:?}: {} is on a read-only file system",
                    self.root.display()
                ),
            ),
            E::Interrupted | E::WouldBlock => {
                Failure::new(FailureKind::Transient, format!("{path:?}: {error}"))
            }
            _ if error.raw_os_error() == Some(ELOOP) => {
                refused(format!("{path:?} is a link that leads in a circle"))
            }
            _ => Failure::new(FailureKind::Permanent, format!("{path:?}: {error}")),
        }
    }

    /// Names like the missing one, in the deepest part of its path that exists.
    fn near(&self, path: &Path) -> String {
        let mut parent = path.parent();
        let mut wanted = path.file_name();
        while let Some(folder) = parent {
            let names = self.list(folder).unwrap_or_default();
            if names.is_empty() {
                wanted = folder.file_name();
                parent = folder.parent();
                continue;
            }
            let wanted = wanted
                .map(|name| name.to_string_lossy())
                .unwrap_or_default();
            return near_names(folder, &wanted, names);
        }
        ". The folder is empty".into()
    }
}

/// `ELOOP` of Linux, which the standard library does not yet name on the stable channel.
const ELOOP: i32 = 40;

fn near_names(folder: &Path, wanted: &str, names: Vec<Entry>) -> String {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<_> = names
        .into_iter()
        .filter(|entry| entry.kind.is_some())
        .map(|entry| {
            (
                strsim::jaro_winkler(&wanted, &entry.name.to_lowercase()),
                entry.name,
            )
        })
        .filter(|(score, _)| *score >= NEARNESS)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let near: Vec<_> = scored
        .into_iter()
        .take(NEAR_NAMES)
        .map(|(_, name)| format!("{:?}", folder.join(name)))
        .collect();
    if near.is_empty() {
        "; read_file lists a folder when its path is given, and \".\" is the whole".into()
    } else {
        format!("; near names are {}", near.join(", "))
    }
}

fn kind_of(file_type: FileType, size: u64) -> Option<Kind> {
    if file_type.is_file() {
        Some(Kind::File(size))
    } else {
        file_type.is_dir().then_some(Kind::Folder)
    }
}

fn read_at_most(file: &File, max: usize, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity((size as usize).min(max));
    file.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The folder itself has no name of its own below itself.
pub fn or_dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

fn refused(message: String) -> Failure {
    Failure::new(FailureKind::Refused, message)
}

fn cannot_open(root: &Path, error: &io::Error) -> Failure {
    let message = format!("the folder {} cannot be used: {error}", root.display());
    Failure::new(FailureKind::Permanent, message)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Folder) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir_all(inner.join("docs")).unwrap();
        fs::write(outer.path().join("secret"), "canary").unwrap();
        fs::write(inner.join("README.md"), "hello").unwrap();
        fs::write(inner.join("docs/guide.md"), "guide").unwrap();
        let folder = Folder::open(&inner).unwrap();
        (outer, folder)
    }

    fn try_read(folder: &Folder, path: &str) -> Result<Vec<u8>, Failure> {
        let path = folder.relative(path)?;
        folder.read(&path, 100).map(|content| content.bytes)
    }

    #[test]
    fn files_below_are_read_in_every_usual_spelling() {
        let (_outer, folder) = tree();
        symlink("docs/guide.md", folder.root().join("link.md")).unwrap();
        symlink("docs", folder.root().join("linked")).unwrap();
        for path in [
            "docs/guide.md",
            "./docs/guide.md",
            "docs//guide.md",
            " docs/./guide.md ",
            "link.md",
            "linked/guide.md",
        ] {
            assert_eq!(try_read(&folder, path).unwrap(), b"guide", "{path}");
        }
    }

    #[test]
    fn there_is_no_way_out() {
        let (outer, folder) = tree();
        let inside = |name: &str| folder.root().join(name);
        symlink("../secret", inside("out")).unwrap();
        symlink(outer.path().join("secret"), inside("absolute")).unwrap();
        symlink(outer.path(), inside("up")).unwrap();
        symlink("..", inside("parent")).unwrap();
        symlink("chain2", inside("chain1")).unwrap();
        symlink("chain3", inside("chain2")).unwrap();
        symlink("docs/../../secret", inside("chain3")).unwrap();
        symlink("circle", inside("circle")).unwrap();
        symlink("/proc/self/root/etc/passwd", inside("magic")).unwrap();
        let secret = outer.path().join("secret");
        let long = "a/".repeat(3000);
        let wide = "x".repeat(300);
        for path in [
            "../secret",
            "docs/../../secret",
            "docs/../README.md",
            "..",
            "/etc/passwd",
            "//etc/passwd",
            secret.to_str().unwrap(),
            "out",
            "absolute",
            "up/secret",
            "parent/secret",
            "parent/inner/README.md",
            "chain1",
            "circle",
            "magic",
            "README.md\0",
            "\0",
            "README.md/x",
            "~/.ssh/id_rsa",
            &long,
            &wide,
            "docs\\..\\..\\secret",
            "%2e%2e/secret",
            "docs",
            "",
            ".",
        ] {
            let failure = try_read(&folder, path).expect_err(path);
            assert_eq!(failure.kind, FailureKind::Refused, "{path}: {failure}");
            assert!(!failure.message.contains("canary"));
        }
    }

    #[test]
    fn the_control_without_the_folder_does_get_out() {
        let (outer, folder) = tree();
        symlink(outer.path().join("secret"), folder.root().join("absolute")).unwrap();
        assert_eq!(fs::read(folder.root().join("absolute")).unwrap(), b"canary");
        assert_eq!(
            fs::read(folder.root().join("../secret")).unwrap(),
            b"canary"
        );
    }

    #[test]
    fn refusals_say_how_to_mend_the_call() {
        let (_outer, folder) = tree();
        let message = |path: &str| try_read(&folder, path).unwrap_err().message;
        assert!(
            message("readme.md").contains("\"README.md\""),
            "{}",
            message("readme.md")
        );
        assert!(message("docs/giude.md").contains("\"docs/guide.md\""));
        assert!(
            message("doc/guide.md").contains("\"docs\""),
            "{}",
            message("doc/guide.md")
        );
        assert!(message("zzz").contains("lists a folder"));
        let absolute = folder.root().join("docs/guide.md");
        assert!(message(absolute.to_str().unwrap()).ends_with("write \"docs/guide.md\""));
    }

    #[test]
    fn pipes_sockets_and_devices_are_refused_without_waiting() {
        let (_outer, folder) = tree();
        nix::unistd::mkfifo(&folder.root().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.root().join("socket")).unwrap();
        for path in ["pipe", "socket"] {
            let failure = try_read(&folder, path).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Refused, "{path}: {failure}");
        }
        let devices = Folder::open(Path::new("/dev")).unwrap();
        for path in ["null", "zero", "tty"] {
            assert!(try_read(&devices, path).is_err(), "{path}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_listed_but_not_opened() {
        let (_outer, folder) = tree();
        fs::write(folder.root().join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
        let entries = folder.list(Path::new("")).unwrap();
        let kinds: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                ("README.md", Some(Kind::File(5))),
                ("bad\u{fffd}", None),
                ("docs", Some(Kind::Folder))
            ]
        );
    }

    #[test]
    fn a_missing_folder_is_named() {
        let failure = Folder::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(failure.message.contains("/nowhere/at/all"), "{failure}");
    }
}
