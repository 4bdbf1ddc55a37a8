//! What a chat shows of an ask: all that somebody needs to decide, with buttons, and afterwards what became
//! of it. Pure.

use shared::ask::{Action, AskKind, AskState, Asked, Decision};
use shared::clock;
use shared::disguise;
use shared::id::AskId;
use shared::money::Usd;
use shared::task::Task;

use super::Outcome;
use crate::channels::Button;
use crate::channels::text::in_one_line;

/// Characters of what somebody asked for that stand above an ask.
const REQUEST: usize = 300;
/// Characters of an action that a chat shows. A longer one is not let go from there: nobody would read it.
const ACTION: usize = 6_000;
/// Characters of a choice on its button.
const CHOICE: usize = 40;

/// What begins the data of buttons that decide asks.
const DATA: &str = "a";
/// What a button says that lets somebody change an action before it is done.
pub const CHANGE: &str = "change";

/// What a card shows.
pub struct Shown {
    /// Markdown.
    pub text: String,
    /// Rows of buttons; none once it is decided.
    pub buttons: Vec<Vec<Button>>,
}

impl Shown {
    /// The same for a chat in which nothing can be opened to write in.
    pub fn without_windows(mut self) -> Self {
        let opens = format!("{DATA}:{CHANGE}:");
        for row in &mut self.buttons {
            row.retain(|button| !button.data.starts_with(&opens));
        }
        self
    }
}

/// The card of an ask, as it stands; and how many others wait for the same as this one that stands for all.
pub fn show(asked: &Asked, task: &Task, others: usize) -> Shown {
    match asked.state {
        AskState::Open => Shown {
            text: format!("{}\n\n{}", question(asked, task, others), how(asked)),
            buttons: buttons(asked, others),
        },
        _ => Shown {
            text: format!("{}\n\n{}", head(asked), became(asked)),
            buttons: Vec::new(),
        },
    }
}

/// The subject of a letter that tells of an ask.
pub fn subject(asked: &Asked) -> String {
    format!("Majordomo: {}", in_one_line(&asked.ask.title))
}

/// A letter that tells of an ask, in Markdown. It cannot be answered.
pub fn letter(asked: &Asked, task: &Task) -> String {
    format!(
        "{}\n\nTask {}. `majordomo escalations show {}` says how it is decided; nobody reads answers \
         to this letter.",
        question(asked, task, 0),
        task.id,
        asked.id
    )
}

fn head(asked: &Asked) -> String {
    let mark = match asked.ask.kind {
        AskKind::Approval => "🔐",
        AskKind::Question => "❓",
        AskKind::Doubt | AskKind::Trouble => "⚠️",
        AskKind::Limit => "💰",
    };
    format!("{mark} **{}**", in_one_line(&asked.ask.title))
}

fn question(asked: &Asked, task: &Task, others: usize) -> String {
    let mut text = head(asked);
    let mut add = |part: String| {
        text.push_str("\n\n");
        text.push_str(&part);
    };
    if let Some(action) = &asked.ask.action {
        add(match in_full(action) {
            Some(full) => full,
            None => format!(
                "It is too long to be shown here in full, and is not let go unread: \
                 `majordomo approvals show {}`",
                asked.id
            ),
        });
    }
    if !asked.ask.text.trim().is_empty() {
        add(quoted(&asked.ask.text));
    }
    let request: String = in_one_line(&task.request.text)
        .chars()
        .take(REQUEST)
        .collect();
    add(format!(
        "Asked by {} for: {request}\nSpent so far: {}",
        task.principal, task.usage.usd
    ));
    match others {
        0 => {}
        1 => add("One more task waits for the same.".into()),
        _ => add(format!("{others} more tasks wait for the same.")),
    }
    if let Some(until) = asked.until {
        add(format!("Until {}.", clock::utc(until)));
    }
    for (choice, number) in asked.ask.choices.iter().zip(1..) {
        add(format!("{number}. {}", in_one_line(choice)));
    }
    text
}

/// What can be said to an ask by a reply.
fn how(asked: &Asked) -> &'static str {
    match asked.ask.kind {
        AskKind::Question => "Reply to this message to answer.",
        AskKind::Approval => {
            "A reply to this message is handed to the agent instead of doing it; one that is JSON \
             changes the arguments."
        }
        AskKind::Trouble => {
            "A reply to this message is guidance: it goes on with that in mind. One that begins with \
             “result:” becomes the result."
        }
        AskKind::Limit => {
            "A reply like “$5” adds so many dollars instead. One that begins with “result:” becomes \
             the result."
        }
        AskKind::Doubt => "Nothing is done twice until somebody says what happened.",
    }
}

/// An action to the last character, where a chat can show it.
fn in_full(action: &Action) -> Option<String> {
    let args = serde_json::to_string_pretty(&action.args).unwrap_or_default();
    let args = spelled(&args);
    let fence = "`".repeat(longest_ticks(&args).max(2) + 1);
    let mut full = format!("{fence}json\n{args}\n{fence}");
    for target in &action.preview.targets {
        full.push_str(&format!("\n- reaches {}", in_one_line(target)));
    }
    for file in &action.preview.files {
        full.push_str(&format!(
            "\n- with {} ({} bytes, SHA-256 {})",
            in_one_line(&file.name),
            file.bytes,
            file.sha256
        ));
    }
    full.push_str(&format!("\n- {} version {}", action.tool, action.version));
    full.push_str(&format!("\n- SHA-256 of all this {}", action.hash()));
    (full.chars().count() <= ACTION).then_some(full)
}

/// Whether a decision may come from a chat: nothing is let go that it does not show.
pub fn is_fit(asked: &Asked, decision: &Decision) -> bool {
    let lets = matches!(decision, Decision::Approve { .. } | Decision::Edit { .. });
    !(lets && is_unread(asked))
}

/// Whether an action is to be done that a chat cannot show in full.
fn is_unread(asked: &Asked) -> bool {
    let action = asked.ask.action.as_ref();
    action.is_some_and(|action| in_full(action).is_none())
}

/// What others wrote, kept apart from what we say line by line.
fn quoted(text: &str) -> String {
    let lines = text.trim().lines();
    let lines = lines.map(|line| format!("> {}", in_one_line(line)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A text with what disguises it by number.
fn spelled(text: &str) -> String {
    let spell = |c: char| match c {
        '\n' => "\n".to_owned(),
        c if disguise::in_name(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(spell).collect()
}

fn longest_ticks(text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// What became of an ask, in a line of Markdown with a mark before it.
pub fn became(asked: &Asked) -> String {
    let decision = asked.verdict.as_ref().map(|(verdict, _)| &verdict.decision);
    let mark = match (decision, asked.state) {
        (Some(Decision::Reject { .. } | Decision::GiveUp), _) => "⛔",
        (Some(_), _) | (None, AskState::Answered) => "✅",
        (None, AskState::Lapsed) => "⌛",
        (None, AskState::Void) => "⏹",
        (None, AskState::Open) => "⏳",
    };
    format!("{mark} {}", capital(&Outcome::of(asked).tell(in_one_line)))
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

fn buttons(asked: &Asked, others: usize) -> Vec<Vec<Button>> {
    // What is decided by one word for all says so.
    let all = match others {
        0 => String::new(),
        _ => format!(" ({})", others + 1),
    };
    let button = |label: &str, word: &str| Button {
        label: label.to_owned(),
        data: format!("{DATA}:{word}:{}", asked.id),
    };
    match asked.ask.kind {
        AskKind::Approval if is_unread(asked) => vec![vec![button("Reject", "no")]],
        AskKind::Approval => vec![
            vec![button("Approve", "yes"), button("Reject", "no")],
            vec![
                button("Approve this for the whole task", "all"),
                button("Change it …", CHANGE),
            ],
        ],
        AskKind::Doubt => vec![vec![
            button("It happened", "happened"),
            button("Do it again", "again"),
            button("Leave it", "leave"),
        ]],
        AskKind::Trouble => vec![vec![
            button(&format!("Try again{all}"), "again"),
            button(&format!("Give up{all}"), "leave"),
        ]],
        AskKind::Limit => vec![vec![
            button(&format!("{}{all}", more(asked)), "more"),
            button("That is enough", "leave"),
        ]],
        AskKind::Question => {
            let choices = asked.ask.choices.iter().enumerate();
            choices
                .map(|(index, choice)| {
                    let plain = choice.chars().filter(|c| !disguise::in_name(*c));
                    let label: String = plain.take(CHOICE).collect();
                    vec![button(&label, &index.to_string())]
                })
                .collect()
        }
    }
}

/// What the button says that adds what is offered.
fn more(asked: &Asked) -> String {
    let offer = asked.ask.offer.as_ref();
    offer.map_or_else(
        || "More".into(),
        |offer| format!("Add {}", offer.in_words()),
    )
}

/// The ask that a button belongs to, and what it says.
pub fn pressed(data: &str) -> Option<(AskId, &str)> {
    let rest = data.strip_prefix(DATA)?.strip_prefix(':')?;
    let (word, id) = rest.split_once(':')?;
    Some((id.parse().ok()?, word))
}

/// What a button says to an ask; none where it says nothing to this one.
pub fn decision(asked: &Asked, word: &str) -> Option<Decision> {
    Some(match word {
        "yes" => Decision::Approve { for_task: false },
        "all" => Decision::Approve { for_task: true },
        "no" => Decision::Reject {
            reason: String::new(),
        },
        "happened" => Decision::Happened {
            result: serde_json::Value::Null,
        },
        "again" => Decision::Again,
        "more" => Decision::More { usd: None },
        "leave" => Decision::GiveUp,
        index => Decision::Reply {
            text: asked.ask.choices.get(index.parse::<usize>().ok()?)?.clone(),
        },
    })
}

/// What somebody gives as the result, so that no agent need go on.
fn result_in(text: &str) -> Option<&str> {
    let (word, result) = text.split_once(':')?;
    let given = word.trim().eq_ignore_ascii_case("result") && !result.trim().is_empty();
    given.then(|| result.trim())
}

/// What a reply to a card says to its ask.
pub fn replied(asked: &Asked, text: &str) -> Decision {
    let text = text.trim();
    match asked.ask.kind {
        AskKind::Trouble | AskKind::Limit if result_in(text).is_some() => Decision::Reply {
            text: result_in(text).unwrap_or_default().into(),
        },
        AskKind::Trouble => Decision::Guide { text: text.into() },
        AskKind::Limit => match text
            .strip_prefix('$')
            .and_then(|usd| usd.trim().parse().ok())
        {
            Some(usd) => Decision::More {
                usd: Some(Usd::from_dollars(usd)),
            },
            // Nothing that this takes: whoever wrote it is told what it does.
            None => Decision::Guide { text: text.into() },
        },
        AskKind::Approval if text.starts_with('{') => match serde_json::from_str(text) {
            Ok(args) => Decision::Edit { args },
            Err(_) => Decision::Reply { text: text.into() },
        },
        _ => Decision::Reply { text: text.into() },
    }
}
