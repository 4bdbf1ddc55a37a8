//! Intake: the one way in, whatever door a task came by. It checks what is asked, decides which
//! folders the work may touch, and makes the task durable. On return of [`Intake::submit`] nothing
//! can lose it any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agents::catalog::Catalog;
use shared::blob::Blob;
use shared::hash::Hash;
use shared::id::{AgentName, PrincipalId, TaskId, TenantId};
use shared::label::Authority;
use shared::run::Timestamp;
use shared::store::{Accepted, Halt, NewOut, NewTask, Store};
use shared::task::Request;

use crate::engine::Engine;
use crate::feedback;
use crate::halt;
use crate::session::{self, Recall};

/// The longest text of a task in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// The most pictures of one task.
const MAX_IMAGES: usize = 10;

/// What a door hands in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What is asked.
    pub request: Request,
    /// For whom the work is done.
    pub principal: PrincipalId,
    /// Who handed it in.
    pub submitted_by: PrincipalId,
    /// The sender's own key and the hash of what came with it: the same key is the same task.
    pub dedupe: Option<(String, Hash)>,
    /// A folder to read instead of the configured one. Doors allow it to local people only.
    pub read: Option<PathBuf>,
    /// The card that the task's channel is owed.
    pub card: Option<NewOut>,
    /// Turns of the thread since then are part of the task, whoever took them: the people of a chat
    /// hear each other. Where absent, the principal's own turns are.
    pub since: Option<Timestamp>,
    /// The bytes of the pictures that the request names.
    pub blobs: Vec<Blob>,
}

/// Why a task was not taken in. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A field is wrong.
    #[error("{field}: {why}")]
    Field {
        /// The field, as the HTTP door names it.
        field: &'static str,
        /// What is wrong, and how to mend it.
        why: String,
    },
    /// An operator has stopped everything.
    #[error("{}", halt::in_words(.0))]
    Halted(Halt),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] shared::store::Error),
}

/// The way in.
pub struct Intake {
    store: Arc<dyn Store>,
    tenant: TenantId,
    catalog: Hash,
    agents: Vec<AgentName>,
    /// Those of them who can be shown pictures.
    seeing: Vec<AgentName>,
    read: Option<PathBuf>,
    write: PathBuf,
    private: PathBuf,
    engine: Option<Arc<Engine>>,
    turns: u32,
}

/// The folders that an instance works with.
#[derive(Clone, Debug)]
pub struct Folders {
    /// What tasks read that name no folder.
    pub read: Option<PathBuf>,
    /// Below which each task gets one of its own to write to.
    pub write: PathBuf,
    /// The instance's own: no task may read it.
    pub private: PathBuf,
}

impl Intake {
    /// Keeps the catalog in the store; tasks taken in from now on work by it.
    pub async fn open(
        store: Arc<dyn Store>,
        tenant: TenantId,
        catalog: &Catalog,
        folders: Folders,
    ) -> Result<Self, shared::store::Error> {
        let (hash, body) = catalog.to_content();
        if store.content(&tenant, hash).await?.is_none() {
            store.keep(&tenant, hash, &body).await?;
        }
        Ok(Self {
            store,
            tenant,
            catalog: hash,
            agents: catalog.agents.keys().cloned().collect(),
            seeing: seeing(catalog),
            read: folders.read,
            write: folders.write,
            private: folders.private,
            engine: None,
            turns: 0,
        })
    }

    /// The same, with so many of the last turns of its thread as part of a task.
    pub fn recalling(self, turns: u32) -> Self {
        Self { turns, ..self }
    }

    /// The same, with an engine that runs at once what it has room for. Without one all tasks are
    /// queued.
    pub fn run_by(self, engine: Arc<Engine>) -> Self {
        Self {
            engine: Some(engine),
            ..self
        }
    }

    /// The agents that there are.
    pub fn agents(&self) -> &[AgentName] {
        &self.agents
    }

    /// What keeps tasks from being taken in.
    pub fn halted(&self) -> Option<Halt> {
        if let Some(engine) = &self.engine {
            engine.mind_file();
        }
        self.store.bell().halted(&self.tenant, None)
    }

    /// Takes a task in. Safe to repeat with the same `dedupe`.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, Refused> {
        if let Some(halt) = self.halted() {
            return Err(Refused::Halted(halt));
        }
        let mut request = submission.request;
        self.check(&request)?;
        if let Some(thread) = &request.thread {
            let recall = Recall {
                since: submission.since.unwrap_or_default(),
                only: submission
                    .since
                    .is_none()
                    .then(|| submission.principal.clone()),
                keep: self.turns,
            };
            request.said = session::recall(&*self.store, &self.tenant, thread, &recall).await?;
        }
        let id = TaskId::fresh();
        let repeats = feedback::repeats(&request, &submission.principal);
        let read = match submission.read {
            Some(folder) => Some(self.readable(&folder)?),
            None => self.read.clone(),
        };
        let task = NewTask {
            id,
            submitted_by: submission.submitted_by,
            request,
            authority: Authority {
                tenant: self.tenant.clone(),
                principal: submission.principal,
                material: read,
                output: Some(self.write.join(id.to_string())),
            },
            catalog: self.catalog,
            dedupe: submission.dedupe,
            worker: None,
            card: submission.card,
            blobs: submission.blobs,
        };
        let accepted = match &self.engine {
            Some(engine) => engine.accept(task).await?,
            None => self.store.accept(task).await?,
        };
        if repeats && accepted == Accepted::New(id) {
            feedback::notice_repeat(&*self.store, &self.tenant, id).await;
        }
        Ok(accepted)
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let refused = |field, why: String| Err(Refused::Field { field, why });
        if request.text.trim().is_empty() {
            return refused("text", "is empty; say what is to be done".into());
        }
        if request.text.len() > MAX_TEXT {
            let why = format!(
                "has {} bytes, at most {MAX_TEXT} are taken",
                request.text.len()
            );
            return refused("text", why);
        }
        match &request.agent {
            Some(agent) if !self.agents.contains(agent) => {
                let names: Vec<&str> = self.agents.iter().map(AgentName::as_str).collect();
                let why = format!(
                    "there is no agent {agent:?}; there are {}",
                    names.join(", ")
                );
                refused("agent", why)
            }
            _ => self.check_images(request),
        }
    }

    /// Pictures are for those who see; where nobody does, it is said at once.
    fn check_images(&self, request: &Request) -> Result<(), Refused> {
        let Some(first) = request.images.first() else {
            return Ok(());
        };
        let why = match &request.agent {
            _ if request.images.len() > MAX_IMAGES => format!(
                "there are {} pictures, at most {MAX_IMAGES} are taken",
                request.images.len()
            ),
            Some(agent) if self.seeing.contains(agent) => return Ok(()),
            Some(agent) => format!(
                "{:?} is a picture, and the model of agent {agent} is not set up to see; it is where \
                 [models.NAME] says vision = true",
                first.name
            ),
            None if !self.seeing.is_empty() => return Ok(()),
            None => format!(
                "{:?} is a picture, and no agent's model here is set up to see; one is where \
                 [models.NAME] says vision = true",
                first.name
            ),
        };
        Err(Refused::Field {
            field: "files",
            why,
        })
    }
}

fn seeing(catalog: &Catalog) -> Vec<AgentName> {
    let agents = catalog.agents.keys();
    agents
        .filter(|agent| catalog.sees(agent))
        .cloned()
        .collect()
}

impl Intake {
    /// The folder as it really is. The instance's own is nobody's to read: its token lies there.
    fn readable(&self, folder: &Path) -> Result<PathBuf, Refused> {
        let refused = |why: String| Refused::Field { field: "dir", why };
        let shown = folder.display();
        if !folder.is_absolute() {
            return Err(refused(format!("{shown} is not an absolute path")));
        }
        let found = folder.canonicalize();
        let found = found.map_err(|error| refused(format!("{shown}: {error}")))?;
        if !found.is_dir() {
            return Err(refused(format!("{shown} is not a folder")));
        }
        let private = self.private.canonicalize();
        let private = private.unwrap_or_else(|_| self.private.clone());
        if private.starts_with(&found) || found.starts_with(&private) {
            let why = format!("{shown} holds the data folder, or lies in it; name another one");
            return Err(refused(why));
        }
        Ok(found)
    }
}
