//! Writes the starter configuration that `majordomo init` puts into a folder: the shipped files,
//! and their schemas beside them so that an editor completes and checks while one writes.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{builtin, schema};

/// Why no starter configuration was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files that would have been overwritten. Nothing was written.
    #[error("already there: {}; nothing was written: choose another folder, or move these away", list(.0))]
    Exists(Vec<PathBuf>),
    /// A file or folder that could not be made. What was written before it is complete.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}

/// Writes all files of the starter configuration into `folder`, which is made where it is missing.
/// Returns their paths. Overwrites nothing: where one of them exists, none is written.
pub fn write(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let files: Vec<(PathBuf, String)> = contents()
        .into_iter()
        .map(|(path, text)| (folder.join(path), text))
        .collect();
    let taken: Vec<PathBuf> = files
        .iter()
        .map(|(path, _)| path.clone())
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    if !taken.is_empty() {
        return Err(Error::Exists(taken));
    }
    for (path, text) in &files {
        let written = write_new(path, text);
        written.map_err(|error| Error::Write {
            path: path.clone(),
            error,
        })?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(path)?.write_all(text.as_bytes())
}

fn contents() -> Vec<(String, String)> {
    let shipped = builtin::FILES.iter().map(|(path, text)| {
        let schema = match path.strip_prefix(builtin::AGENTS) {
            Some(_) => "../schema/agent.json",
            None => "./schema/majordomo.json",
        };
        ((*path).to_owned(), format!("#:schema {schema}\n{text}"))
    });
    let schemas = [
        (
            "schema/majordomo.json".to_owned(),
            format!("{:#}\n", schema::settings()),
        ),
        (
            "schema/agent.json".to_owned(),
            format!("{:#}\n", schema::agent()),
        ),
    ];
    shipped.chain(schemas).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{KnownTools, Need, Source, load};
    use super::*;

    #[test]
    fn what_is_written_is_a_good_configuration_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("deep/config");
        let written = write(&target).unwrap();
        assert_eq!(written.len(), builtin::FILES.len() + 2);
        let tools =
            KnownTools::from_iter(["search_files", "read_file", "fetch_page", "write_file"])
                .with_needing("web_search", Need::Search);
        let config = load(&Source::Folder(target.clone()), &tools).unwrap();
        assert_eq!(config.agents.len(), 3);

        fs::remove_file(&written[0]).unwrap();
        let error = write(&target).unwrap_err().to_string();
        assert!(error.contains("executor.toml"), "{error}");
        assert!(!error.contains("majordomo.toml,"), "{error}");
        assert!(!written[0].exists(), "a refusal writes nothing");
    }

    #[test]
    fn the_schema_that_a_file_points_to_is_written_beside_it() {
        let files = contents();
        for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".toml")) {
            let hint = text
                .lines()
                .next()
                .unwrap()
                .strip_prefix("#:schema ")
                .unwrap();
            let schema = hint.trim_start_matches("../").trim_start_matches("./");
            assert!(
                files.iter().any(|(path, _)| path == schema),
                "{path}: {hint}"
            );
        }
    }
}
