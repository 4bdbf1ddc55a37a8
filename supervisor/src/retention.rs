//! Retention: the journals of tasks that ended long ago are archived, if wanted, and deleted; so is mail
//! that was dealt with as long ago. One worker of an installation does it at a time.
//!
//! ```text
//!   hold duty ─► tasks that are due ─► each to a file, synced ─► prune under the duty's fence ─► again
//! ```
//! What is due the store decides by its own clock. A worker that lost the duty deletes nothing: another
//! one may be at it. Left out: what agents wrote to folders, which is people's own.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use shared::config::RetentionSettings;
use shared::id::{TaskId, TenantId, WorkerId};
use shared::store::{Store, duty};

use crate::engine::Engine;
use crate::program::Programs;
use crate::transcript;

/// How long after a start it begins: a start has other things to do.
const FIRST: Duration = Duration::from_secs(60);
/// How often it looks for journals that have become too old.
const EVERY: Duration = Duration::from_secs(3_600);
/// Tasks that are pruned in one transaction.
const BATCH: u32 = 16;
/// Mail is kept so long at least: chats repeat what they sent for a day.
const MAIL: Duration = Duration::from_secs(3 * 86_400);
/// And so long where journals are kept for ever: what strangers write is nothing to keep.
const MAIL_AT_MOST: Duration = Duration::from_secs(90 * 86_400);
/// Messages that are deleted in one transaction, each way.
const MAIL_BATCH: u32 = 512;
/// Between two batches others get their turn at the store.
const REST: Duration = Duration::from_millis(50);
/// Events that are read at once.
const PAGE: u32 = 1_000;

/// The keeper of journals.
pub struct Retention {
    store: Arc<dyn Store>,
    programs: Arc<Programs>,
    /// How old journals get; for ever where absent.
    age: Option<Duration>,
    archive: Option<PathBuf>,
}

impl Retention {
    /// As the configuration wants it.
    pub fn new(
        settings: &RetentionSettings,
        store: Arc<dyn Store>,
        programs: Arc<Programs>,
    ) -> Self {
        let days = |days| Duration::from_secs(u64::from(days) * 86_400);
        Self {
            store,
            programs,
            age: settings.journal_days.map(days),
            archive: settings.archive.clone(),
        }
    }

    /// The same for journals of another age.
    pub fn older_than(self, age: Duration) -> Self {
        Self {
            age: Some(age),
            ..self
        }
    }

    /// Prunes, from time to time, until it is told to end.
    pub async fn work(self, engine: Arc<Engine>, end: CancellationToken) {
        let mut pause = FIRST;
        while end
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
        {
            pause = EVERY;
            match end.run_until_cancelled(self.once(engine.worker())).await {
                None | Some(Ok(0)) => {}
                Some(Ok(tasks)) => tracing::info!(tasks, "journals of ended tasks were pruned"),
                Some(Err(error)) => {
                    tracing::error!(error = format!("{error:#}"), "journals cannot be pruned");
                }
            }
        }
    }

    /// Prunes all that is due, if this worker has the duty. Answers how many tasks. Safe to repeat and
    /// to break off.
    pub async fn once(&self, worker: WorkerId) -> anyhow::Result<u64> {
        let mut pruned = 0;
        while let Some(age) = self.age {
            let Some(held) = self.store.hold(duty::RETENTION, worker).await? else {
                return Ok(pruned);
            };
            let due = self.store.prunable(age, BATCH).await?;
            if due.is_empty() {
                break;
            }
            for (tenant, task) in &due {
                self.keep(tenant, *task).await?;
            }
            let tasks: Vec<TaskId> = due.into_iter().map(|(_, task)| task).collect();
            match self.store.prune(&held, &tasks).await? {
                Some(0) | None => return Ok(pruned),
                Some(more) => pruned += more,
            }
            tokio::time::sleep(REST).await;
        }
        let forgotten = self.forget_mail(worker).await?;
        while pruned + forgotten > 0 && self.store.compact().await? > 0 {
            tokio::time::sleep(REST).await;
        }
        Ok(pruned)
    }

    /// Deletes old mail. Answers how much.
    async fn forget_mail(&self, worker: WorkerId) -> anyhow::Result<u64> {
        let age = self.age.map_or(MAIL_AT_MOST, |age| age.max(MAIL));
        let mut forgotten = 0;
        loop {
            let Some(held) = self.store.hold(duty::RETENTION, worker).await? else {
                return Ok(forgotten);
            };
            let mail = self.store.mail().forget_mail(&held, age, MAIL_BATCH);
            match mail.await? {
                Some(0) | None => return Ok(forgotten),
                Some(more) => forgotten += more,
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Writes a task's story to the archive, where there is one. On disk on return.
    async fn keep(&self, tenant: &TenantId, id: TaskId) -> anyhow::Result<()> {
        let (Some(archive), Some(task)) = (&self.archive, self.store.task(tenant, id).await?)
        else {
            return Ok(());
        };
        let told = transcript::of(&*self.store, &*self.programs, task).await?;
        let mut events = Vec::new();
        loop {
            let after = events
                .last()
                .map_or(0, |event: &shared::event::Recorded| event.seq);
            let page = self.store.events(tenant, id, after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            events.extend(page);
        }
        let line = json!({"tenant": tenant, "story": told, "events": events}).to_string();
        let file = archive.join(format!("{id}.jsonl"));
        let written = tokio::task::spawn_blocking(move || {
            write(&file, &line).with_context(|| format!("{}", file.display()))
        });
        written.await?.context("retention.archive")
    }
}

/// Writes a file so that it is all there or not at all, whatever happens meanwhile.
fn write(path: &Path, line: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_private(folder)?;
    let fresh = path.with_extension("jsonl.partial");
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh)?;
    file.write_all(line.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

/// Makes the folder where it is missing: what was asked and answered is its owner's alone.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
