//! What a task wrote: files that its journal vouches for, by the evidence of the steps that wrote them.
//! Their bytes are kept under the hashes that stand there; what lies on the disk by now does not count.
//! Pure.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use shared::blob::mime_of_text;
use shared::hash::Hash;
use shared::run::{Outcome, Recorded};
use shared::store::{Run, Step};

/// A file that a task wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskFile {
    /// Its name, with the folders that it lies in below the task's own.
    pub name: String,
    /// What it is, by its name.
    pub mime: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// The SHA-256 of its bytes.
    #[schema(value_type = String)]
    pub hash: Hash,
}

impl TaskFile {
    /// Its name without folders.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// The files of a task, in the order in which they were first written, each as it was written last.
pub fn of(journal: &[(Run, Vec<Step>)]) -> Vec<TaskFile> {
    let steps = journal.iter().flat_map(|(_, steps)| steps);
    let mut written: Vec<&Recorded> = steps
        .filter_map(|step| step.recorded.as_ref())
        .filter(|recorded| matches!(recorded.outcome, Outcome::Done(_)))
        .collect();
    written.sort_by_key(|recorded| recorded.at);
    let mut files: Vec<TaskFile> = Vec::new();
    for file in written.into_iter().filter_map(proven) {
        match files.iter_mut().find(|known| known.name == file.name) {
            Some(known) => *known = file,
            None => files.push(file),
        }
    }
    files
}

/// The file that a step proves to have written.
fn proven(recorded: &Recorded) -> Option<TaskFile> {
    let known = |kind: &str| {
        let evidence = recorded.evidence.iter().find(|known| known.kind == kind)?;
        Some(evidence.value.as_str())
    };
    let name = known("file")?;
    Some(TaskFile {
        name: name.to_owned(),
        mime: mime_of_text(name).into(),
        bytes: known("bytes")?.parse().ok()?,
        hash: known("sha256")?.parse().ok()?,
    })
}
