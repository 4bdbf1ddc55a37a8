//! The brake at hand: a file in the data folder that stops this process while it is there, for whoever
//! stands at the machine when nothing else answers. Halts in the store are the store's
//! ([`shared::store::Halts`]); both end up beside the bell, where runs and doors look.
//!
//! The file is looked at at the start, before each step, each claim and each new task, and each second
//! where a lease is kept or the file is there. Nothing waits for it otherwise.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use shared::run::Timestamp;
use shared::store::{Halt, Halted};

use super::Engine;

/// The file's name in the data folder.
pub const STOP: &str = "STOP";
/// How soon a file that is there is looked for again: nobody tells when it has gone.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// Who a file is.
const BY: &str = "file STOP";
/// More of a reason is not read.
const REASON: usize = 500;

/// What the file in this folder says. One that cannot be looked at stops, too.
pub fn in_folder(data: &Path) -> Option<Halt> {
    at(&data.join(STOP))
}

fn at(file: &Path) -> Option<Halt> {
    let found = std::fs::metadata(file);
    if let Err(error) = &found
        && error.kind() == ErrorKind::NotFound
    {
        return None;
    }
    let since = found.and_then(|found| found.modified()).ok();
    let since = since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Some(Halt {
        tenant: None,
        what: Halted::All,
        reason: reason(file),
        by: BY.into(),
        at: Timestamp(since.unwrap_or_default().as_millis() as i64),
    })
}

fn reason(file: &Path) -> String {
    let text = match std::fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes[..bytes.len().min(4 * REASON)]).into_owned(),
        Err(error) => format!("it cannot be read: {error}"),
    };
    text.trim().chars().take(REASON).collect()
}

impl Engine {
    /// Looks at the file. Whether it stops this process.
    pub(crate) fn mind_file(&self) -> bool {
        let Some(file) = &self.stop_file else {
            return false;
        };
        // One look at a local file's name: less than a hand-over to another thread would take.
        let found = at(file);
        let stops = found.is_some();
        self.store.bell().halt_here(found);
        stops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stops_whatever_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(in_folder(folder.path()), None);
        assert_eq!(in_folder(&folder.path().join("not/there")), None);
        let file = folder.path().join(STOP);
        let said = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            in_folder(folder.path()).unwrap().reason
        };
        assert_eq!(said(b""), "");
        assert_eq!(said(b" it posts nonsense\n"), "it posts nonsense");
        assert_eq!(said(&[b'x'; 10_000]).len(), REASON);
        assert_eq!(said(&[0xff]), "\u{fffd}");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let broken = in_folder(folder.path()).unwrap().reason;
        assert!(broken.starts_with("it cannot be read"), "{broken}");
    }
}
