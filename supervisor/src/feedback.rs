//! What people think of answers: taking it, the buttons that take it in chats, and what is noticed without
//! words: that a call's arguments were changed before it was approved, that nobody answered what was asked,
//! that somebody stopped what was done for them, or asked for nearly the same again.

use std::time::Duration;

use shared::feedback::{Feedback, Source, is_alike};
use shared::id::{PrincipalId, TaskId, TenantId};
use shared::store::{Error, NewFeedback, Store, TaskFilter};
use shared::task::{Request, Task, TaskState};

use crate::channels::Button;
use crate::desk::{Desk, to_the_end};

/// The longest text that goes with an opinion, in characters.
pub const MAX_TEXT: usize = 2_000;
/// What is asked again so soon after its answer was asked for before.
const SOON: Duration = Duration::from_secs(10 * 60);
/// What begins the data of buttons that take opinions.
const DATA: &str = "f";

/// Why an opinion was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// There is no answer yet.
    #[error("the task has not ended: there is nothing yet to think of")]
    Early,
    /// The text is too long.
    #[error("a text has at most {MAX_TEXT} characters")]
    Long,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Desk {
    /// Takes what somebody thinks of a task's answer, in the place of what they thought before. On return it is
    /// durable, and its card will show it. Who may is the door's matter.
    pub async fn rate(
        &self,
        task: &Task,
        who: &PrincipalId,
        (good, text): (bool, &str),
    ) -> Result<(), NotTaken> {
        if !task.state.is_final() {
            return Err(NotTaken::Early);
        }
        let text = text.trim();
        if text.chars().count() > MAX_TEXT {
            return Err(NotTaken::Long);
        }
        let new = NewFeedback {
            tenant: self.tenant.clone(),
            task: task.id,
            who: who.clone(),
            source: Source::Said,
            good,
            text: text.to_owned(),
        };
        let (store, id, tenant) = (self.store.clone(), task.id, self.tenant.clone());
        let noted = to_the_end(async move {
            store.feedback().note(new).await?;
            // Where it is not sent yet, whoever sends it sees what was noted.
            match store.mail().card(&tenant, id).await? {
                Some((card, _)) => store.mail().reopen(&tenant, card.seq).await,
                None => Ok(()),
            }
        });
        Ok(noted.await?)
    }

    /// Ends a task at somebody's word. Where it is done for them, that says something of it.
    pub async fn cancel_by(
        &self,
        task: TaskId,
        reason: &str,
        by: &PrincipalId,
    ) -> Result<bool, Error> {
        let cancelled = self.cancel(task, reason).await?;
        let found = self.task(task).await?.filter(|task| task.principal == *by);
        if cancelled && found.is_some() {
            notice(&*self.store, &self.tenant, (task, by), Source::Cancelled).await;
        }
        Ok(cancelled)
    }
}

/// Keeps what is known without words. Nobody waits for it, and nothing fails with it.
pub(crate) async fn notice(
    store: &dyn Store,
    tenant: &TenantId,
    (task, who): (TaskId, &PrincipalId),
    source: Source,
) {
    let new = NewFeedback {
        tenant: tenant.clone(),
        task,
        who: who.clone(),
        source,
        good: false,
        text: String::new(),
    };
    if let Err(error) = store.feedback().note(new).await {
        tracing::warn!(%error, task.id = %task, "what was noticed of a task is not kept");
    }
}

/// Whether a request asks for nearly the same as the last one of its conversation, of the same person.
pub(crate) fn repeats(request: &Request, who: &PrincipalId) -> bool {
    let last = request.said.turns.last();
    last.is_some_and(|last| last.who == *who && is_alike(&last.asked, &request.text))
}

/// Notices that a task asks again for what another one was to answer shortly before.
pub(crate) async fn notice_repeat(store: &dyn Store, tenant: &TenantId, new: TaskId) {
    let looked = async {
        let Some(task) = store.task(tenant, new).await? else {
            return Ok(None);
        };
        let filter = TaskFilter {
            principals: Some(vec![task.principal.clone()]),
            thread: task.request.thread.clone(),
            state: Some(TaskState::Done),
            before: Some(new),
            limit: 1,
            ..TaskFilter::default()
        };
        let before = store.tasks(tenant, &filter).await?.pop();
        let before = before.filter(|before| {
            task.created_at.since(before.updated_at) <= SOON
                && is_alike(&before.request.text, &task.request.text)
        });
        Ok::<_, Error>(before)
    };
    match looked.await {
        Ok(Some(before)) => {
            let theirs = (before.id, &before.principal);
            notice(store, tenant, theirs, Source::Rephrased).await;
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, task.id = %new, "nobody looked what it repeats"),
    }
}

/// The buttons below an answer, with how many people pressed each.
pub fn buttons(task: TaskId, said: &[Feedback]) -> Vec<Vec<Button>> {
    let button = |mark: &str, word: &str, good: bool| {
        let said = said.iter().filter(|one| one.source == Source::Said);
        let label = match said.filter(|one| one.good == good).count() {
            0 => mark.to_owned(),
            count => format!("{mark} {count}"),
        };
        Button {
            label,
            data: format!("{DATA}:{word}:{task}"),
        }
    };
    vec![vec![button("👍", "good", true), button("👎", "bad", false)]]
}

/// The task that a button is below, and whether it says that its answer is good.
pub fn pressed(data: &str) -> Option<(TaskId, bool)> {
    let rest = data.strip_prefix(DATA)?.strip_prefix(':')?;
    let (word, task) = rest.split_once(':')?;
    let good = match word {
        "good" => true,
        "bad" => false,
        _ => return None,
    };
    Some((task.parse().ok()?, good))
}

#[cfg(test)]
mod tests {
    use shared::run::Timestamp;

    use super::*;

    #[test]
    fn buttons_say_how_many_pressed_them_and_mean_their_task() {
        let task = TaskId::fresh();
        let said = |who: &str, source, good| Feedback {
            task,
            who: who.into(),
            source,
            good,
            text: String::new(),
            at: Timestamp(1),
        };
        let all = [
            said("ada", Source::Said, true),
            said("bob", Source::Said, true),
            said("ada", Source::Edited, false),
        ];
        let row = buttons(task, &all).remove(0);
        let labels: Vec<&str> = row.iter().map(|button| button.label.as_str()).collect();
        assert_eq!(labels, ["👍 2", "👎"]);
        assert!(row.iter().all(|button| button.data.len() <= 64));
        assert_eq!(pressed(&row[0].data), Some((task, true)));
        assert_eq!(pressed(&row[1].data), Some((task, false)));
        for other in ["f:good:x", "f:fine:x", "a:yes:x", "run:k"] {
            assert_eq!(pressed(other), None, "{other}");
        }
    }
}
