//! The files below an allowed folder that a search should read, in a fixed order. Leaves out hidden
//! ones, built and installed things, and links (whose targets are met by themselves or lie
//! outside). Called by `search_files`.

use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use tokio_util::sync::CancellationToken;

use shared::run::Failure;

use super::blocking::cancelled;
use super::folder::{Folder, or_dot};
use super::text::named_binary;

/// Folders of things that a program put there.
const SKIPPED: &[&str] = &["target", "node_modules", "__pycache__"];

/// Folders inside each other; deeper ones are left out.
const MAX_DEPTH: usize = 48;

/// Entries looked at; a tree of more is searched in part.
const MAX_ENTRIES: usize = 200_000;

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path below the allowed folder.
    pub path: PathBuf,
}

/// The files of a tree.
#[derive(Debug, Default)]
pub struct Walk {
    /// Those that may hold text, by path.
    pub files: Vec<Found>,
    /// Files left out because their name says that they hold none.
    pub binary: usize,
    /// Whether the tree has more entries than were looked at.
    pub cut: bool,
    entries: usize,
}

impl Walk {
    /// Walks through what lies below `path`. Folders that cannot be read are left out.
    pub fn below(
        folder: &Folder,
        path: &Path,
        cancel: &CancellationToken,
    ) -> Result<Self, Failure> {
        let dir = folder
            .dir()
            .open_dir(or_dot(path))
            .map_err(|error| folder.explain(path, &error))?;
        let mut walk = Self::default();
        walk.visit(&dir, path, 0, cancel)?;
        walk.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(walk)
    }

    fn visit(
        &mut self,
        dir: &Dir,
        path: &Path,
        depth: usize,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        let Ok(entries) = dir.entries() else {
            return Ok(());
        };
        // Sorted before it is cut, so that the same tree is cut at the same place.
        let mut names: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                Some((
                    entry.file_name().into_string().ok()?,
                    entry.file_type().ok()?,
                ))
            })
            .filter(|(name, _)| !name.starts_with('.'))
            .collect();
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, file_type) in names {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                self.cut = true;
                return Ok(());
            }
            let below = path.join(&name);
            if file_type.is_file() {
                self.add(below);
            } else if file_type.is_dir()
                && depth < MAX_DEPTH
                && !SKIPPED.contains(&name.as_str())
                && let Ok(dir) = dir.open_dir(&name)
            {
                self.visit(&dir, &below, depth + 1, cancel)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf) {
        if named_binary(&path) {
            self.binary += 1;
        } else {
            self.files.push(Found { path });
        }
    }
}
