//! Deciding at the terminal where `ask` watches its task: what a line that somebody types says, and the
//! keyboard that it comes from. Who watches meanwhile for words from elsewhere is the caller.

use std::io::IsTerminal;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::mpsc;

use shared::ask::{AskKind, Decision};
use shared::money::Usd;

use crate::cli::words;
use crate::wire::AskView;

/// What can be typed.
pub fn prompt(ask: &AskView) -> &'static str {
    match (ask.kind, ask.choices.is_empty()) {
        (AskKind::Approval, _) => {
            "[a]pprove, [t] for the whole task, [r]eject REASON, other arguments as JSON, or text for the \
             agent instead (Ctrl-D: later) > "
        }
        (AskKind::Question, true) => "your answer (Ctrl-D: later) > ",
        (AskKind::Question, false) => "a number, or your own answer (Ctrl-D: later) > ",
        (AskKind::Doubt, _) => "[h]appened, [a]gain, [g]ive up (Ctrl-D: later) > ",
        (AskKind::Trouble, _) => {
            "[a]gain, [g]ive up, or text that is minded when it goes on (Ctrl-D: later) > "
        }
        (AskKind::Limit, _) => {
            "[m]ore, $ and an amount for so many dollars more, [g]ive up (Ctrl-D: later) > "
        }
    }
}

/// What a line says; nothing where it is empty, or cannot be meant for this. Whatever is not clearly a yes
/// lets nothing be done.
pub fn decision(ask: &AskView, line: &str) -> Option<Decision> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let text = || Some(line.to_owned()).filter(|line| !line.is_empty());
    match (ask.kind, word.to_ascii_lowercase().as_str()) {
        (AskKind::Approval, "a" | "approve" | "y" | "yes") if rest.is_empty() => {
            Some(Decision::Approve { for_task: false })
        }
        (AskKind::Approval, "t" | "task") if rest.is_empty() => {
            Some(Decision::Approve { for_task: true })
        }
        (AskKind::Approval, "r" | "reject" | "n" | "no") => Some(Decision::Reject {
            reason: rest.trim().to_owned(),
        }),
        (AskKind::Approval, _) if line.starts_with('{') => {
            let args = serde_json::from_str(line).ok()?;
            Some(Decision::Edit { args })
        }
        (AskKind::Question, number) if rest.is_empty() && chosen(ask, number).is_some() => {
            let text = chosen(ask, number)?.to_owned();
            Some(Decision::Reply { text })
        }
        (AskKind::Approval | AskKind::Question, _) => text().map(|text| Decision::Reply { text }),
        (AskKind::Doubt, "h" | "happened") if rest.is_empty() => Some(Decision::Happened {
            result: serde_json::Value::Null,
        }),
        (AskKind::Doubt | AskKind::Trouble, "a" | "again") if rest.is_empty() => {
            Some(Decision::Again)
        }
        (AskKind::Doubt | AskKind::Trouble | AskKind::Limit, "g" | "give")
            if matches!(rest.trim(), "" | "up") =>
        {
            Some(Decision::GiveUp)
        }
        (AskKind::Limit, "m" | "more") if rest.is_empty() => Some(Decision::More { usd: None }),
        (AskKind::Limit, _) => match words::dollars(line.strip_prefix('$')?) {
            Ok(usd) => Some(Decision::More {
                usd: Some(Usd::from_dollars(usd)),
            }),
            Err(_) => None,
        },
        (AskKind::Doubt, _) => None,
        (AskKind::Trouble, _) => text().map(|text| Decision::Guide { text }),
    }
}

/// The choice of this number, as they are counted for people.
fn chosen<'a>(ask: &'a AskView, number: &str) -> Option<&'a str> {
    let index = number.parse::<usize>().ok()?.checked_sub(1)?;
    ask.choices.get(index).map(String::as_str)
}

/// Lines that somebody types. A thread waits for them, one at a time and only when one is wanted; it ends
/// with the process.
pub struct Keyboard {
    wanted: SyncSender<()>,
    typed: mpsc::Receiver<Option<String>>,
    reading: bool,
}

impl Keyboard {
    /// The keyboard of the terminal, where there is one that somebody looks at.
    pub fn find() -> Option<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        let (wanted, wants) = sync_channel(1);
        let (tell, typed) = mpsc::channel(1);
        std::thread::spawn(move || {
            while wants.recv().is_ok() {
                let mut line = String::new();
                let read = std::io::stdin().read_line(&mut line);
                let line = matches!(read, Ok(1..)).then_some(line);
                if tell.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Some(Self {
            wanted,
            typed,
            reading: false,
        })
    }

    /// Forgets what was typed before anything was asked.
    pub fn forget(&mut self) {
        if self.typed.try_recv().is_ok() {
            self.reading = false;
        }
        #[cfg(unix)]
        {
            use rustix::termios::{QueueSelector, tcflush};
            // Where it cannot be done, the line is taken for an answer or for none.
            let _ = tcflush(std::io::stdin(), QueueSelector::IFlush);
        }
    }

    /// The next line; none where there will be no more. A call that is given up loses nothing.
    pub async fn line(&mut self) -> Option<String> {
        if !self.reading {
            self.wanted.send(()).ok()?;
            self.reading = true;
        }
        let line = self.typed.recv().await;
        self.reading = false;
        line.flatten()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::text::tests::{approval, question};
    use super::*;

    #[test]
    fn only_a_clear_yes_lets_an_action_be_done() {
        let ask = approval();
        let said = |line: &str| decision(&ask, line);
        let approve = |for_task| Some(Decision::Approve { for_task });
        for yes in ["a", " A\n", "y", "yes", "approve"] {
            assert_eq!(said(yes), approve(false), "{yes}");
        }
        assert_eq!(said("t"), approve(true));
        let reject = |reason: &str| {
            let reason = reason.into();
            Some(Decision::Reject { reason })
        };
        assert_eq!(said("r"), reject(""));
        assert_eq!(said("no  not today "), reject("not today"));
        let args = json!({"to": []});
        assert_eq!(said("{\"to\": []}"), Some(Decision::Edit { args }));
        for none in ["", "  \n", "{to"] {
            assert_eq!(said(none), None, "{none}");
        }
        for text in ["yess", "a mail is better", "task is wrong", "ok"] {
            let text = text.to_owned();
            assert_eq!(said(&text.clone()), Some(Decision::Reply { text }));
        }
    }

    #[test]
    fn questions_take_numbers_and_words() {
        let ask = question();
        let reply = |text: &str| Some(Decision::Reply { text: text.into() });
        assert_eq!(decision(&ask, "2\n"), reply("April"));
        for own in ["3", "0", "the 2", "2 of them"] {
            assert_eq!(decision(&ask, own), reply(own));
        }
        assert_eq!(decision(&ask, " "), None);
    }

    #[test]
    fn doubts_take_one_of_three_words() {
        let ask = AskView {
            kind: AskKind::Doubt,
            ..question()
        };
        assert!(matches!(
            decision(&ask, "h"),
            Some(Decision::Happened { .. })
        ));
        assert_eq!(decision(&ask, "again"), Some(Decision::Again));
        assert_eq!(decision(&ask, "give up"), Some(Decision::GiveUp));
        for unclear in ["", "y", "happened not", "give it"] {
            assert_eq!(decision(&ask, unclear), None, "{unclear}");
        }
        let trouble = AskView {
            kind: AskKind::Trouble,
            ..question()
        };
        let text = "give it time".to_owned();
        assert_eq!(
            decision(&trouble, "give it time"),
            Some(Decision::Guide { text })
        );
    }
}
