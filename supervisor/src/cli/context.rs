//! Where a command finds its data and its configuration, from options, environment and the
//! platform's habits. Reads of the configuration only what is needed before it is loaded.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::Deserialize;

use agents::tools::Tool;
use shared::config::Source;
use shared::config::secret::SecretRef;
use shared::id::TenantId;

use super::exit::Fault;
use crate::app::Options;
use crate::equip::{self, Equipped};
use crate::instance::Instance;

/// The width of reports where the terminal does not say its own.
const WIDTH: usize = 100;

/// What all commands share.
#[derive(Clone)]
pub struct Context {
    /// The folder that holds all state. Absolute.
    pub data: PathBuf,
    /// Where the configuration comes from.
    pub source: Source,
    /// The folder of the configuration, where an option or a variable names it.
    pub given: Option<PathBuf>,
    /// Tools besides the built-in ones.
    pub tools: Vec<Arc<dyn Tool>>,
}

impl Context {
    /// Decides where data and configuration are. Creates nothing.
    pub fn new(
        data: Option<PathBuf>,
        config: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
        tools: Vec<Arc<dyn Tool>>,
    ) -> anyhow::Result<Self> {
        let set = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let platform = || dirs::data_dir().map(|folder| folder.join("majordomo"));
        let data = data.or_else(|| set("MAJORDOMO_DATA")).or_else(platform);
        let data = data.ok_or_else(|| {
            Fault::usage("there is no home folder to keep data in")
                .help("name a folder with --data DIR or MAJORDOMO_DATA")
        })?;
        let data = std::path::absolute(&data).context("the data folder")?;
        let own = Some(data.join("config")).filter(|folder| folder.is_dir());
        let given = config.or_else(|| set("MAJORDOMO_CONFIG"));
        let source = match given.clone().or(own) {
            Some(folder) => Source::Folder(folder),
            None => Source::BuiltIn,
        };
        Ok(Self {
            data,
            source,
            given,
            tools,
        })
    }

    /// What an instance is started with.
    pub fn options(&self, read: Option<PathBuf>) -> Options {
        Options {
            source: self.source.clone(),
            data: self.data.clone(),
            read,
            tools: self.tools.clone(),
            models: BTreeMap::new(),
        }
    }

    /// Loads the configuration and builds what it asks for.
    pub fn equip(&self) -> anyhow::Result<Equipped> {
        equip::load(&self.source, &self.tools, &BTreeMap::new())
    }

    /// Whose data the installation holds, where the configuration says it; a configuration that
    /// cannot be read is reported by those who load it.
    pub fn tenant(&self) -> TenantId {
        let settings = self.glimpse();
        settings.tenant.as_deref().unwrap_or("default").into()
    }

    /// The database that the configuration names.
    pub fn database_url(&self) -> Option<SecretRef> {
        self.glimpse().database_url
    }

    /// The folder that the configuration gives agents to read.
    pub fn configured_material(&self) -> Option<PathBuf> {
        let Source::Folder(folder) = &self.source else {
            return None;
        };
        self.glimpse().files.read.map(|read| folder.join(read))
    }

    /// Refuses a folder of material in which the data folder lies: agents would read the journal.
    pub fn keep_apart(&self, material: &Path) -> Result<(), Fault> {
        let (data, read) = (real(&self.data), real(material));
        if !data.starts_with(&read) {
            return Ok(());
        }
        let what = format!(
            "agents would read {}, and the data folder {} lies in it",
            read.display(),
            data.display()
        );
        Err(Fault::usage(what).help(
            "choose another folder to read (ask --dir DIR, or files.read in majordomo.toml),\n\
             or another data folder (--data DIR)",
        ))
    }

    /// The folder of the configuration, without links.
    pub fn config_folder(&self) -> Option<PathBuf> {
        match &self.source {
            Source::Folder(folder) => Some(real(folder)),
            Source::BuiltIn => None,
        }
    }

    /// Refuses a configuration that was named for this command, where the running instance works by
    /// another: it would not be used.
    pub fn agree_with(&self, instance: &Instance) -> Result<(), Fault> {
        let Some(given) = self.given.as_deref().map(real) else {
            return Ok(());
        };
        if instance.config.as_ref() == Some(&given) {
            return Ok(());
        }
        let its = instance.config.as_ref();
        let its = its.map_or("the built-in one".into(), |its| its.display().to_string());
        let what = format!(
            "the configuration {} would not be used: an instance runs on this data folder (process {}), \
             and its configuration is {its}",
            given.display(),
            instance.pid
        );
        Err(Fault::usage(what).help(
            "ask without --config and MAJORDOMO_CONFIG; or stop the instance and ask again;\n\
             or keep the two apart with another data folder (--data DIR)",
        ))
    }

    fn glimpse(&self) -> Glimpse {
        let Source::Folder(folder) = &self.source else {
            return Glimpse::default();
        };
        let text = std::fs::read_to_string(folder.join("majordomo.toml")).unwrap_or_default();
        toml::from_str(&text).unwrap_or_default()
    }
}

/// The settings that are needed before, or without, the whole configuration.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Glimpse {
    tenant: Option<String>,
    database_url: Option<SecretRef>,
    files: GlimpseFiles,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GlimpseFiles {
    read: Option<PathBuf>,
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Whether stderr takes colours.
pub fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !unwanted
}

/// How wide reports may be.
pub fn width() -> usize {
    let asked = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    asked.filter(|columns| *columns >= 40).unwrap_or(WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(data: Option<&Path>, config: Option<&str>, set: &[(&str, &str)]) -> Context {
        let variable = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Context::new(
            data.map(Into::into),
            config.map(Into::into),
            variable,
            Vec::new(),
        )
        .unwrap()
    }

    #[test]
    fn options_go_before_variables_and_these_before_habits() {
        let variables = [("MAJORDOMO_DATA", "/var/m"), ("MAJORDOMO_CONFIG", "/etc/m")];
        let both = context(Some(Path::new("/d")), Some("/c"), &variables);
        assert_eq!(
            (both.data.to_str(), both.source),
            (Some("/d"), Source::Folder("/c".into()))
        );
        let set = context(None, None, &variables);
        assert_eq!(
            (set.data.to_str(), set.source),
            (Some("/var/m"), Source::Folder("/etc/m".into()))
        );
        let empty = context(None, None, &[("MAJORDOMO_DATA", "")]);
        assert!(empty.data.ends_with("majordomo"));
        assert!(empty.data.is_absolute());
    }

    #[test]
    fn a_config_folder_beside_the_data_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            context(Some(folder.path()), None, &[]).source,
            Source::BuiltIn
        );
        let config = folder.path().join("config");
        std::fs::create_dir(&config).unwrap();
        let text = "tenant = \"acme\"\n[files]\nread = \"../docs\"\n";
        std::fs::write(config.join("majordomo.toml"), text).unwrap();
        let found = context(Some(folder.path()), None, &[]);
        assert_eq!(found.source, Source::Folder(config.clone()));
        assert_eq!(found.tenant().as_str(), "acme");
        assert_eq!(found.configured_material(), Some(config.join("../docs")));
    }

    #[test]
    fn a_configuration_that_would_not_be_used_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [mine, its] = ["mine", "its"].map(|name| folder.path().join(name));
        std::fs::create_dir(&mine).unwrap();
        let at = shared::run::Timestamp(0);
        let instance = |config: Option<&Path>| Instance {
            config: config.map(real),
            ..Instance::here("http://127.0.0.1:1".into(), String::new(), Vec::new(), at)
        };
        let asked = context(None, mine.to_str(), &[]);
        let same = folder.path().join("its/../mine");
        for (running, agrees) in [
            (Some(&mine), true),
            (Some(&same), false),
            (Some(&its), false),
            (None, false),
        ] {
            let told = asked.agree_with(&instance(running.map(PathBuf::as_path)));
            assert_eq!(told.is_ok(), agrees, "{running:?}");
        }
        std::fs::create_dir(&its).unwrap();
        asked.agree_with(&instance(Some(&same))).unwrap();
        let error = asked.agree_with(&instance(Some(&its))).unwrap_err();
        for word in [mine.to_str().unwrap(), its.to_str().unwrap(), "--data DIR"] {
            assert!(error.to_string().contains(word), "{error}");
        }
        context(None, None, &[])
            .agree_with(&instance(Some(&its)))
            .unwrap();
    }

    #[test]
    fn the_data_folder_is_never_material() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(Some(&folder.path().join("not/yet/there")), None, &[]);
        for inside in [folder.path().to_owned(), folder.path().join("not/../not")] {
            let exists = inside == folder.path();
            assert_eq!(context.keep_apart(&inside).is_err(), exists, "{inside:?}");
        }
        std::fs::create_dir_all(&context.data).unwrap();
        let error = context
            .keep_apart(&folder.path().join("not/../not"))
            .unwrap_err();
        assert!(error.to_string().contains("--dir"), "{error}");
        context.keep_apart(&context.data.join("beside")).unwrap();
        context.keep_apart(&folder.path().join("other")).unwrap();
    }
}
