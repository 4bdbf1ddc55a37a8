//! What people say to the house itself, rather than to an agent. Pure.

use crate::people::code::Code;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Who is here, and what to do.
    Help,
    /// The conversation begins anew.
    New,
    /// What is being worked on.
    Status,
    /// End it.
    Stop,
    /// Stop everything, everywhere, for this reason.
    StopAll(String),
    /// Let everything go on.
    ResumeAll,
    /// How limits stand; or who is to have which, as `ACCOUNT LIMIT`.
    Budget(Option<(String, String)>),
    /// Who there is.
    Agents,
    /// Who is to speak in this conversation; none for whoever fits.
    Agent(Option<String>),
    /// One that does not exist.
    Unknown(String),
}

/// What people say to become known, or to be known elsewhere, too.
#[derive(Clone, PartialEq, Eq)]
pub enum Linking {
    /// A code is wanted, for another identity.
    Ask,
    /// A code is shown.
    Pair(String),
    /// The first admin's code is shown.
    Claim(String),
}

impl Linking {
    /// The linking that a text is, where it is one: `/pair`, `/pair CODE`, `/claim CODE`. Without the
    /// stroke, which not every channel lets through, where a whole code follows.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (name, shown) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let (is_command, name) = match name.strip_prefix('/') {
            Some(name) => (true, name.split('@').next().unwrap_or_default()),
            None => (false, name),
        };
        if !is_command && Code::parse(shown).is_none() {
            return None;
        }
        match (name.to_ascii_lowercase().as_str(), shown.trim()) {
            ("pair", "") => Some(Self::Ask),
            ("pair", code) => Some(Self::Pair(code.to_owned())),
            ("claim", code) => Some(Self::Claim(code.to_owned())),
            _ => None,
        }
    }
}

/// Commands with what the far side's menu says about them.
pub const MENU: [(&str, &str); 8] = [
    ("help", "What I can do, and how"),
    ("new", "Begin a new conversation"),
    ("status", "What I am working on here"),
    ("stop", "Stop what I am working on here"),
    ("budget", "What may be spent, and what is"),
    ("agents", "Who works here"),
    ("agent", "Choose who answers here: /agent NAME"),
    ("pair", "Have me know you in another chat, too"),
];

impl Command {
    /// The command that a text is, where it is one: `/name`, `/name@bot`, `/name words`.
    pub fn parse(text: &str) -> Option<Command> {
        let rest = text.trim().strip_prefix('/')?;
        let (name, argument) = match rest.split_once(char::is_whitespace) {
            Some((name, argument)) => (name, argument.trim()),
            None => (rest, ""),
        };
        let name = name.split('@').next().unwrap_or_default();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            // A path, or a comment: words.
            return None;
        }
        Some(match name.to_ascii_lowercase().as_str() {
            "start" | "help" => Command::Help,
            "new" => Command::New,
            "status" => Command::Status,
            "stop" => match whole(argument) {
                Some(reason) => Command::StopAll(reason.to_owned()),
                None => Command::Stop,
            },
            "resume" if whole(argument) == Some("") => Command::ResumeAll,
            "budget" => Command::Budget(budget(argument)),
            "agents" => Command::Agents,
            "agent" => Command::Agent((!argument.is_empty()).then(|| argument.to_owned())),
            other => Command::Unknown(other.to_owned()),
        })
    }
}

/// The account and its new limit, where an argument says `set ACCOUNT LIMIT`. An account may be written in
/// two words, too: `set user ada 5/day`.
fn budget(argument: &str) -> Option<(String, String)> {
    let rest = argument.strip_prefix("set")?;
    let rest = rest.strip_prefix(char::is_whitespace)?;
    let (account, limit) = first_word(rest);
    let (account, limit) = match account {
        "user" | "agent" | "task" => {
            let (name, limit) = first_word(limit);
            (format!("{account}:{name}"), limit)
        }
        account => (account.to_owned(), limit),
    };
    Some((account, limit.to_owned()))
}

/// A text's first word, and the rest.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (first, rest.trim())
}

/// What follows the word `all`, where an argument begins with it.
fn whole(argument: &str) -> Option<&str> {
    let (first, rest) = first_word(argument);
    first.eq_ignore_ascii_case("all").then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_shown_with_a_stroke_or_whole() {
        let parse = Linking::parse;
        let code = "7K3M-Q9XT-2HVN".to_owned();
        assert!(parse("/pair") == Some(Linking::Ask));
        assert!(parse("/pair@our_bot 7K3M-Q9XT-2HVN") == Some(Linking::Pair(code.clone())));
        assert!(parse("Pair 7K3M-Q9XT-2HVN ") == Some(Linking::Pair(code.clone())));
        assert!(parse("claim 7K3M-Q9XT-2HVN") == Some(Linking::Claim(code)));
        assert!(parse("/pair me") == Some(Linking::Pair("me".into())));
        for words in ["pair", "pair these two", "claim it", "/status", "/pairs 1"] {
            assert!(parse(words).is_none(), "{words}");
        }
    }

    #[test]
    fn commands_are_told_from_words() {
        let parse = Command::parse;
        assert_eq!(parse("/start"), Some(Command::Help));
        assert_eq!(parse(" /Stop@our_bot now"), Some(Command::Stop));
        assert_eq!(
            parse("/stop All  it posts nonsense"),
            Some(Command::StopAll("it posts nonsense".into()))
        );
        assert_eq!(parse("/stop all"), Some(Command::StopAll(String::new())));
        assert_eq!(parse("/stop allegro"), Some(Command::Stop));
        assert_eq!(parse("/resume all"), Some(Command::ResumeAll));
        assert_eq!(parse("/resume"), Some(Command::Unknown("resume".into())));
        assert_eq!(
            parse("/agent  writer "),
            Some(Command::Agent(Some("writer".into())))
        );
        assert_eq!(parse("/agent"), Some(Command::Agent(None)));
        assert_eq!(parse("/budget"), Some(Command::Budget(None)));
        let set = ("user:ada".to_owned(), "5.00/day".to_owned());
        for words in [
            "/budget set user:ada  5.00/day",
            "/budget set  user ada 5.00/day",
        ] {
            assert_eq!(parse(words), Some(Command::Budget(Some(set.clone()))));
        }
        assert_eq!(parse("/fly"), Some(Command::Unknown("fly".into())));
        for words in ["hello", "/", "/etc/passwd says", "// a comment", "a /stop"] {
            assert_eq!(parse(words), None, "{words}");
        }
    }
}
