//! Buttons: who pressed one, what it is about, and a word back. What a press leads to may be repeated, and
//! one that comes late says so.

use serde_json::Value;
use shared::ask::Decision;
use shared::config::Role;
use shared::id::TaskId;

use super::{Letter, Pending, Reception};
use crate::channels::Sender;
use crate::channels::card::short;
use crate::desk::Resolved;
use crate::people::Known;

impl Reception {
    /// Does what a button says, and tells whoever pressed it.
    pub(super) async fn pressed(
        &self,
        letter: &Letter,
        (known, from): (&Known, &Sender),
        press: &str,
        data: &str,
    ) -> Result<(), Pending> {
        let (what, about) = data.split_once(':').unwrap_or_default();
        let word = match doubt(what) {
            Some(resolution) => self.settle_doubt(letter, known, &resolution, about).await?,
            None => {
                let held = self.settle_held(letter, (known, from), (what, about));
                held.await?
            }
        };
        let told = self.channel.pressed(press, word);
        self.over.run_until_cancelled(told).await;
        Ok(())
    }

    /// Says of a step in doubt what became of it: an approver, or an admin, where its task is shown.
    async fn settle_doubt(
        &self,
        letter: &Letter,
        known: &Known,
        resolution: &Decision,
        about: &str,
    ) -> Result<&'static str, Pending> {
        const LATE: &str = "This was decided before.";
        if !known.may(Role::Approver) {
            return Ok("This is for an approver to decide.");
        }
        let Some((task, step)) = about.split_once(':') else {
            return Ok(LATE);
        };
        let Ok(task) = task.parse::<TaskId>() else {
            return Ok(LATE);
        };
        let desk = &self.house.desk;
        let thread = desk.task(task).await?.and_then(|task| task.request.thread);
        if thread != Some(self.thread(letter)) {
            return Ok("This belongs to another conversation.");
        }
        let doubts = desk.in_doubt(task).await?.into_iter();
        let mut named = doubts.filter(|(run, key)| short(*run, key) == step);
        let Some((run, key)) = named.next() else {
            return Ok(LATE);
        };
        let name = format!("{run}/{key}");
        let resolved = desk.resolve(task, &name, resolution, known.principal.clone());
        Ok(match resolved.await? {
            Resolved::Taken => "So be it: it goes on.",
            Resolved::Answered | Resolved::NotWaiting | Resolved::Several(_) => LATE,
        })
    }
}

/// What a button says of a step in doubt; none where it is about something else.
fn doubt(word: &str) -> Option<Decision> {
    Some(match word {
        "happened" => Decision::Happened {
            result: Value::Null,
        },
        "again" => Decision::Again,
        "give_up" => Decision::GiveUp,
        _ => return None,
    })
}
