//! What a chat shows of a task: its card. One message that says what is going on and, at the end,
//! becomes the answer. Pure.

use shared::event::{Event, Recorded};
use shared::task::{Phase, Task, TaskState};

/// What stands where an answer will stand, before anything is known.
pub const PLACEHOLDER: &str = "⏳ One moment…";

/// A card while its task goes on.
#[derive(Default)]
pub struct Card {
    doing: Option<String>,
    steps: u32,
    waits: Option<&'static str>,
}

impl Card {
    /// Takes in what happened.
    pub fn hear(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::State {
                state, agent: None, ..
            } => {
                self.waits = match state {
                    TaskState::AwaitingHuman => Some("waits for a person"),
                    TaskState::Paused => Some("is paused"),
                    _ => None,
                };
            }
            Event::Phase { phase } => {
                self.doing = Some(match phase {
                    Phase::Routing => "finding out who can do this".into(),
                    Phase::Planning => "laying out the steps".into(),
                    Phase::Executing => "at work".into(),
                    Phase::Validating => "putting the answer together".into(),
                });
            }
            Event::Begun {
                agent,
                what,
                detail,
                ..
            } => {
                self.doing = Some(match (what.as_str(), detail.as_str()) {
                    ("think", _) => format!("{agent} is thinking"),
                    (tool, "") => format!("{agent}: {tool}"),
                    (tool, detail) => format!("{agent}: {tool} `{}`", detail.replace('`', "'")),
                });
            }
            Event::Retrying { agent, what, .. } => {
                self.doing = Some(format!("{agent}: {what} failed, trying again"));
            }
            Event::Ended { .. } => self.steps += 1,
            _ => {}
        }
    }

    /// Whether somebody is at work.
    pub fn works(&self) -> bool {
        self.waits.is_none() && self.doing.is_some()
    }

    /// What it shows now; none while there is nothing to tell.
    pub fn text(&self) -> Option<String> {
        let doing = match (&self.waits, &self.doing) {
            (Some(waits), _) => return Some(format!("⏸ This {waits}.")),
            (None, Some(doing)) => doing,
            (None, None) => return None,
        };
        Some(match self.steps {
            0 => format!("⏳ {doing}"),
            1 => format!("⏳ {doing} · 1 step done"),
            steps => format!("⏳ {doing} · {steps} steps done"),
        })
    }
}

/// What a card shows for good; none while its task goes on.
pub fn last(task: &Task) -> Option<String> {
    let reached = |what: String| match task.partial.as_deref().map(str::trim) {
        Some(partial) if !partial.is_empty() => {
            format!("{what}\n\nWhat there is so far:\n\n{partial}")
        }
        _ => what,
    };
    Some(match task.state {
        TaskState::Done => match task.answer.as_deref().map(str::trim) {
            Some(answer) if !answer.is_empty() => answer.to_owned(),
            _ => "✅ Done; there is nothing to say about it.".into(),
        },
        TaskState::Failed => {
            let why = task.error.as_deref().unwrap_or("nobody knows why");
            let retry = format!("`majordomo tasks retry {}` tries it again.", task.id);
            reached(format!("❌ **This did not work out.** {why}\n\n{retry}"))
        }
        TaskState::Cancelled => reached("⏹ **Stopped.**".into()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::id::TaskId;
    use shared::run::Timestamp;

    fn heard(event: Event) -> Recorded {
        let task = TaskId::fresh();
        Recorded {
            seq: 1,
            task,
            run: task.into(),
            at: Timestamp(1),
            event,
        }
    }

    #[test]
    fn a_card_says_what_goes_on_and_that_it_waits() {
        let mut card = Card::default();
        assert_eq!(card.text(), None);
        card.hear(&heard(Event::Begun {
            key: "tool/1.0".into(),
            agent: "researcher".into(),
            what: "fetch_page".into(),
            detail: "example.com".into(),
            attempt: 1,
        }));
        let doing = "⏳ researcher: fetch_page `example.com`";
        assert_eq!(card.text().as_deref(), Some(doing));
        let state = |state| Event::State {
            state,
            reason: "in doubt".into(),
            agent: None,
        };
        card.hear(&heard(state(TaskState::AwaitingHuman)));
        assert_eq!(card.text().as_deref(), Some("⏸ This waits for a person."));
        card.hear(&heard(state(TaskState::Running)));
        assert_eq!(card.text().as_deref(), Some(doing));
    }
}
