//! A running instance as other processes find it: `instance.json` in the data folder, and the client
//! that speaks to it. The file holds a token that opens everything, so only its owner may read it.
//! Written by `serve`; read by every other command. What is said over HTTP is the door's business.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use shared::config::EgressSettings;
use shared::egress::Gateway;
use shared::run::Timestamp;
use url::Url;

use crate::equip::ModelCard;

const FILE: &str = "instance.json";
/// How long an instance may take to say that it is alive.
const ALIVE: Duration = Duration::from_secs(3);

/// What an instance tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Where it answers on this machine, without a slash at the end.
    pub url: String,
    /// A token that lasts as long as the process.
    pub token: String,
    /// The process.
    pub pid: u32,
    /// When it was started, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// Its models.
    #[serde(default)]
    pub models: Vec<ModelCard>,
    /// The folder of its configuration, without links; none where it is the built-in one.
    #[serde(default)]
    pub config: Option<PathBuf>,
}

/// The file of a running instance: removed when dropped, if it is still this process's.
pub struct Published {
    path: PathBuf,
    instance: Instance,
}

impl Instance {
    /// This process, answering at `url`.
    pub fn here(url: String, token: String, models: Vec<ModelCard>, now: Timestamp) -> Self {
        Self {
            url,
            token,
            pid: std::process::id(),
            started_at_ms: now.0,
            models,
            config: None,
        }
    }

    /// Writes the file, atomically and readable by its owner alone.
    pub fn publish(self, data: &Path) -> io::Result<Published> {
        // With its state in a database nobody else has made it.
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(data)?;
        let path = data.join(FILE);
        let fresh = data.join(format!("{FILE}.{}", self.pid));
        // A file that an earlier process left half-written may have other rights.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = owners_only(&fresh)?;
        file.write_all(serde_json::to_string(&self)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        Ok(Published {
            path,
            instance: self,
        })
    }

    /// What the folder's file says, where there is one that reads. It may be of a process that is
    /// gone: see [`Instance::is_alive`].
    pub fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(data.join(FILE)).ok()?).ok()
    }

    /// Whether the process exists and answers.
    pub async fn is_alive(&self, client: &reqwest::Client) -> bool {
        if !process_exists(self.pid) {
            return false;
        }
        let asked = client.get(format!("{}/healthz", self.url)).timeout(ALIVE);
        asked
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        if Instance::read(folder).as_ref() == Some(&self.instance) {
            // Nothing can be done about it; readers find out that nobody answers.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn owners_only(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Where the system cannot tell, it may exist.
fn process_exists(pid: u32) -> bool {
    let processes = Path::new("/proc/self");
    !processes.exists() || Path::new("/proc").join(pid.to_string()).exists()
}

/// A client for the instance at this address; the address stands in the instance's own file.
pub fn client_for(url: &str) -> anyhow::Result<reqwest::Client> {
    let gateway = Gateway::new(&EgressSettings::default())?;
    Ok(gateway.trusted(&Url::parse(url)?, true)?.client().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(url: &str) -> Instance {
        Instance::here(url.into(), "secret".into(), Vec::new(), Timestamp(7))
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_file_and_the_process_takes_it_along() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "left by another").unwrap();
        let published = here("http://127.0.0.1:1").publish(folder.path()).unwrap();
        let rights = fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions();
        assert_eq!(rights.mode() & 0o777, 0o600);
        assert_eq!(
            Instance::read(folder.path()),
            Some(here("http://127.0.0.1:1"))
        );
        drop(published);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_file_of_a_later_instance_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = here("http://127.0.0.1:1").publish(folder.path()).unwrap();
        let second = here("http://127.0.0.1:2").publish(folder.path()).unwrap();
        drop(first);
        assert_eq!(
            Instance::read(folder.path()),
            Some(here("http://127.0.0.1:2"))
        );
        drop(second);
        assert_eq!(Instance::read(folder.path()), None);
    }

    #[tokio::test]
    async fn stale_files_are_recognised() {
        let app = axum::Router::new().route("/healthz", axum::routing::get(|| async { "ok" }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = here(&format!("http://{}", listener.local_addr().unwrap()));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let client = client_for(&live.url).unwrap();
        assert!(live.is_alive(&client).await);
        let gone = Instance {
            pid: u32::MAX,
            ..live.clone()
        };
        assert!(!gone.is_alive(&client).await, "no such process");
        server.abort();
        assert!(server.await.is_err());
        assert!(
            !live.is_alive(&client_for(&live.url).unwrap()).await,
            "nobody answers"
        );
    }
}
