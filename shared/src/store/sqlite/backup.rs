//! Backup of a data folder's database, beside a running instance or without one: a consistent copy as of
//! one moment, on disk on return. It takes no lock of the folder, and the instance goes on writing.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{BUSY, io, make_file};
use crate::store::Error;

/// Copies `majordomo.db` of this folder into a new file, which is all there or not there at all.
/// Fails with [`Error::Io`] where the file exists or the folder holds no database. Blocks. Answers the
/// copy's bytes.
pub fn backup(folder: &Path, into: &Path) -> Result<u64, Error> {
    let database = folder.join("majordomo.db");
    if !database.is_file() {
        return Err(io(&database, ErrorKind::NotFound.into()));
    }
    if into.exists() {
        return Err(io(into, ErrorKind::AlreadyExists.into()));
    }
    let partial = beside(into);
    // Left by a backup that was interrupted.
    let _ = std::fs::remove_file(&partial);
    make_file(&partial)?;
    let copied = copy(&database, &partial).and_then(|()| publish(&partial, into));
    let _ = std::fs::remove_file(&partial);
    copied?;
    std::fs::metadata(into)
        .map(|file| file.len())
        .map_err(|error| io(into, error))
}

/// A name of this process's own, on the same disk.
fn beside(into: &Path) -> PathBuf {
    let mut name = into.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    into.with_file_name(name)
}

fn copy(database: &Path, partial: &Path) -> Result<(), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(database, flags)?;
    conn.busy_timeout(BUSY)?;
    conn.execute("vacuum into ?1", [partial.to_string_lossy()])?;
    Ok(())
}

/// Brings the copy to disk and gives it its name, unless that is taken by now.
fn publish(partial: &Path, into: &Path) -> Result<(), Error> {
    let synced = File::open(partial).and_then(|file| file.sync_all());
    synced.map_err(|error| io(partial, error))?;
    std::fs::hard_link(partial, into).map_err(|error| io(into, error))?;
    let folder = into
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| io(folder, error))
}
