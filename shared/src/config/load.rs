//! Reads a whole configuration, or says everything that is wrong with it at once.
//!
//! ```text
//! files → documents (syntax) → shape (schema) → check (between values and files) → types
//! ```
//!
//! The types come last and only where nothing was wrong, so nobody ever sees half a configuration.
//! Called by the binary's composition root, by `majordomo check`, and by tests.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use miette::Severity;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::builtin::{AGENTS, FILES, SETTINGS};
use super::check::{self, AgentDocument, Documents};
use super::document::{Document, File};
use super::problem::{Problem, Report};
use super::tools::KnownTools;
use super::types::{AgentFile, AgentSpec, ModelSettings, Settings};
use super::{schema, shape};

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The files that the binary carries.
    BuiltIn,
    /// A folder with `agents/*.toml` and, where it changes anything, `majordomo.toml`.
    Folder(PathBuf),
}

/// A configuration that holds together.
#[derive(Clone, Debug)]
pub struct Config {
    /// `majordomo.toml`. There is always a model named `default`, and paths are absolute or
    /// relative to where the program runs, no longer to the folder.
    pub settings: Settings,
    /// The agents, by name.
    pub agents: Vec<AgentSpec>,
    /// Where it came from, in words for people.
    pub origin: String,
    /// What is unwise, and what was left out. [`Problem::severity`] tells the two apart.
    pub warnings: Vec<Problem>,
}

/// Reads the configuration. Tools that an agent lists but whose need is not met are left out of it
/// with a word in `warnings`. The report holds all problems of all files.
pub fn load(source: &Source, known: &KnownTools) -> Result<Config, Report> {
    let files = match source {
        Source::BuiltIn => Files::built_in(),
        Source::Folder(folder) => Files::of_folder(folder),
    };
    let mut config = files.load(known)?;
    if let Source::Folder(folder) = source {
        rebase(&mut config.settings, folder);
        config.warnings.extend(missing_material(&config.settings));
    }
    config.origin = source.to_string();
    Ok(config)
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::BuiltIn => f.write_str("built into the program"),
            Source::Folder(folder) => folder.display().fmt(f),
        }
    }
}

/// A configuration's files as bytes, before anything is known about them.
#[derive(Default)]
pub(super) struct Files {
    /// `majordomo.toml`, empty where there is none; absent only where it cannot be read.
    pub settings: Option<File>,
    /// The agents' files.
    pub agents: Vec<File>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// The names of agents whose files could not be read: they exist all the same.
    pub unread: BTreeSet<String>,
    /// Where agents' files are looked for, in words for people.
    pub agents_at: String,
}

impl Files {
    fn built_in() -> Self {
        let file = |(name, text): &(&str, &str)| File {
            name: (*name).to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        Self {
            settings: FILES.first().map(file),
            agents: FILES[1..].iter().map(file).collect(),
            ..Self::default()
        }
    }

    fn of_folder(folder: &Path) -> Self {
        let agents = folder.join(AGENTS);
        let mut files = Self {
            agents_at: agents.display().to_string(),
            ..Self::default()
        };
        if !folder.is_dir() {
            let problem = Problem::new(format!("there is no config folder {}", folder.display()));
            files.problems.push(problem.help(
                "`majordomo init FOLDER` writes a starter configuration; without any folder the \
                 built-in one is used",
            ));
            return files;
        }
        files.settings = files.read_settings(folder.join(SETTINGS));
        for path in files.list(&agents) {
            match files.read(&path) {
                Some(agent) => files.agents.push(agent),
                None => files.unread.extend(stem(&path).map(str::to_owned)),
            }
        }
        files
    }

    fn list(&mut self, agents: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(agents).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        match entries {
            Ok(entries) => {
                let mut paths: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
                paths.retain(|path| is_agent_file(path));
                paths.sort();
                paths
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.problems.push(unreadable(agents, &error));
                Vec::new()
            }
        }
    }

    fn read_settings(&mut self, path: PathBuf) -> Option<File> {
        // A link that points nowhere is not the same as no file.
        let absent = path
            .symlink_metadata()
            .is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        match absent {
            true => Some(File {
                name: SETTINGS.to_owned(),
                bytes: Vec::new(),
            }),
            false => self.read(&path),
        }
    }

    fn read(&mut self, path: &Path) -> Option<File> {
        match std::fs::read(path) {
            Ok(bytes) => Some(File {
                name: path.display().to_string(),
                bytes,
            }),
            Err(error) => {
                self.problems.push(unreadable(path, &error));
                None
            }
        }
    }

    /// A configuration of these files, its paths as written.
    pub fn load(mut self, known: &KnownTools) -> Result<Config, Report> {
        let mut problems = std::mem::take(&mut self.problems);
        if self.agents.is_empty() && problems.is_empty() {
            problems.push(check::nobody(&self.agents_at));
        }
        let documents = self.parse(&mut problems);
        problems.extend(shapes(&documents));
        problems.extend(check::problems(&documents, known));
        let (warnings, errors) = self.sorted(problems);
        if errors.is_empty() {
            typed(&documents, known, warnings)
        } else {
            Err(errors)
        }
        .map_err(|problems| Report { problems })
    }

    fn parse(&self, problems: &mut Vec<Problem>) -> Documents<'_> {
        let mut documents = Documents {
            settings: None,
            agents: Vec::new(),
            unreadable: self.unread.clone(),
        };
        match self.settings.as_ref().map(Document::parse) {
            Some(Ok(document)) => documents.settings = Some(document),
            Some(Err(found)) => problems.extend(found),
            None => {}
        }
        for file in &self.agents {
            let stem = stem(Path::new(&file.name)).unwrap_or(&file.name);
            match Document::parse(file) {
                Ok(document) => documents.agents.push(AgentDocument { stem, document }),
                Err(found) => {
                    problems.extend(found);
                    documents.unreadable.insert(stem.to_owned());
                }
            }
        }
        documents
    }

    /// Warnings and errors, each in the order of the files and of the lines in them.
    fn sorted(&self, mut problems: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
        let files = self.settings.iter().chain(&self.agents);
        let order: Vec<&str> = files.map(|file| file.name.as_str()).collect();
        problems.sort_by_key(|problem| {
            problem.place().map(|(file, line, column)| {
                (order.iter().position(|name| *name == file), line, column)
            })
        });
        problems
            .into_iter()
            .partition(|problem| problem.severity() != Severity::Error)
    }
}

fn is_agent_file(path: &Path) -> bool {
    // Editors leave hidden files beside the one that they have open.
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden
        && path
            .extension()
            .is_some_and(|extension| extension == "toml")
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(format!("cannot read {}: {error}", path.display()))
        .help("check that it is there and that this user may read it")
}

fn stem(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()
}

fn shapes(documents: &Documents<'_>) -> Vec<Problem> {
    static SETTINGS: LazyLock<Value> = LazyLock::new(schema::settings);
    static AGENT: LazyLock<Value> = LazyLock::new(schema::agent);
    let settings = documents.settings.iter();
    let of_settings = settings.flat_map(|document| shape::problems(document, &SETTINGS));
    let agents = documents.agents.iter();
    let of_agents = agents.flat_map(|file| shape::problems(&file.document, &AGENT));
    of_settings.chain(of_agents).collect()
}

/// The types, of documents in which nothing was found wrong.
fn typed(
    documents: &Documents<'_>,
    known: &KnownTools,
    warnings: Vec<Problem>,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    let settings = documents.settings.as_ref().and_then(|document| {
        deserialize::<Settings>(document)
            .map_err(|problem| problems.push(problem))
            .ok()
    });
    let mut agents = Vec::new();
    for file in &documents.agents {
        match deserialize::<AgentFile>(&file.document) {
            Ok(agent) => agents.push(usable(agent.into(), documents, known)),
            Err(problem) => problems.push(problem),
        }
    }
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    let mut settings = match settings {
        Some(settings) if problems.is_empty() => settings,
        _ => return Err(problems),
    };
    settings
        .models
        .entry("default".into())
        .or_insert(ModelSettings::Auto {});
    Ok(Config {
        settings,
        agents,
        origin: String::new(),
        warnings,
    })
}

/// Whatever the walk over the schema let pass, the deserializer does not.
fn deserialize<T: DeserializeOwned>(document: &Document<'_>) -> Result<T, Problem> {
    toml::from_str(document.text).map_err(|error| {
        let span = error.span().unwrap_or_else(|| document.beginning());
        document.problem(span, "here", error.message().trim())
    })
}

fn usable(mut agent: AgentSpec, documents: &Documents<'_>, known: &KnownTools) -> AgentSpec {
    if let Some(settings) = &documents.settings {
        agent
            .tools
            .retain(|tool| known.unmet(tool.as_str(), settings).is_none());
        agent.tool.retain(|tool, _| agent.tools.contains(tool));
    }
    agent
}

fn rebase(settings: &mut Settings, folder: &Path) {
    let scripts = settings
        .models
        .values_mut()
        .filter_map(|model| match model {
            ModelSettings::Scripted { file } => Some(file),
            _ => None,
        });
    let mut roots = settings.email.as_mut().map(|email| &mut email.ca_file);
    let paths = [
        Some(&mut settings.files.read),
        Some(&mut settings.files.write),
        Some(&mut settings.retention.archive),
        roots.take(),
    ];
    for path in scripts.chain(paths.into_iter().flatten().flatten()) {
        *path = folder.join(&*path);
    }
}

fn missing_material(settings: &Settings) -> Option<Problem> {
    let folder = settings
        .files
        .read
        .as_ref()
        .filter(|folder| !folder.is_dir())?;
    Some(
        Problem::new(format!(
            "there is no folder {} to read from",
            folder.display()
        ))
        .help("make it, or change `read` in [files] of majordomo.toml")
        .warning(),
    )
}
