//! What a chat shows of a task: its card. One message that says what is going on and, at the end,
//! becomes the answer. Pure.

use shared::event::{Event, Recorded};
use shared::hash::Hash;
use shared::id::{RunId, StepKey};
use shared::task::{Phase, Task, TaskState};

use super::Button;
use super::text::in_one_line;

/// What stands where an answer will stand, before anything is known.
pub const PLACEHOLDER: &str = "⏳ One moment…";

/// A card while its task goes on.
#[derive(Default)]
pub struct Card {
    doing: Option<String>,
    steps: u32,
    waits: Option<&'static str>,
    doubt: Option<Doubt>,
}

/// An effect that only a person can say of whether it happened.
struct Doubt {
    /// What was done.
    what: String,
    /// By what the task and the step are known, within a button.
    step: String,
}

/// What a person may say of it: what begins the data of a button, and what the button says.
pub const WORDS: [(&str, &str); 3] = [
    ("happened", "It happened"),
    ("again", "Do it again"),
    ("give_up", "Leave it"),
];

/// By what a step in doubt is known within a button, which has room for 64 bytes.
pub fn short(run: RunId, key: &StepKey) -> String {
    let hash = Hash::of_bytes(format!("{run}/{key}").as_bytes()).to_string();
    hash[..8].to_owned()
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
                if *state != TaskState::AwaitingHuman {
                    self.doubt = None;
                }
            }
            Event::InDoubt { key, what, .. } => {
                self.doubt = Some(Doubt {
                    what: what.clone(),
                    step: format!("{}:{}", recorded.task, short(recorded.run, key)),
                });
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

    /// The buttons below it.
    pub fn buttons(&self) -> Vec<Vec<Button>> {
        let (Some(doubt), Some(_)) = (&self.doubt, &self.waits) else {
            return Vec::new();
        };
        let button = |(word, label): (&str, &str)| Button {
            label: label.into(),
            data: format!("{word}:{}", doubt.step),
        };
        vec![WORDS.map(button).into()]
    }

    /// What it shows now; none while there is nothing to tell.
    pub fn text(&self) -> Option<String> {
        if let (Some(doubt), Some(_)) = (&self.doubt, &self.waits) {
            return Some(format!(
                "⚠️ **{}** broke off, and nobody but a person can tell whether it happened. Look there, and \
                 say so: until then this waits, and nothing is done twice.",
                in_one_line(&doubt.what)
            ));
        }
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
        card.hear(&heard(Event::InDoubt {
            key: "tool/1.0".into(),
            agent: "executor".into(),
            what: "send".into(),
            evidence: Vec::new(),
        }));
        assert!(card.buttons().is_empty(), "it does not wait yet");
        card.hear(&heard(state(TaskState::AwaitingHuman)));
        assert!(card.text().unwrap().contains("**send** broke off"));
        let buttons = &card.buttons()[0];
        assert!(buttons.len() == 3 && buttons.iter().all(|button| button.data.len() <= 64));
        card.hear(&heard(state(TaskState::Running)));
        assert!(card.buttons().is_empty());
    }
}
