//! What people say to the house itself, rather than to an agent. Pure.

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
    /// Who there is.
    Agents,
    /// Who is to speak in this conversation; none for whoever fits.
    Agent(Option<String>),
    /// One that does not exist.
    Unknown(String),
}

/// Commands with what the far side's menu says about them.
pub const MENU: [(&str, &str); 6] = [
    ("help", "What I can do, and how"),
    ("new", "Begin a new conversation"),
    ("status", "What I am working on here"),
    ("stop", "Stop what I am working on here"),
    ("agents", "Who works here"),
    ("agent", "Choose who answers here: /agent NAME"),
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
            "stop" => Command::Stop,
            "agents" => Command::Agents,
            "agent" => Command::Agent((!argument.is_empty()).then(|| argument.to_owned())),
            other => Command::Unknown(other.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_words() {
        let parse = Command::parse;
        assert_eq!(parse("/start"), Some(Command::Help));
        assert_eq!(parse(" /Stop@our_bot now"), Some(Command::Stop));
        assert_eq!(
            parse("/agent  writer "),
            Some(Command::Agent(Some("writer".into())))
        );
        assert_eq!(parse("/agent"), Some(Command::Agent(None)));
        assert_eq!(parse("/fly"), Some(Command::Unknown("fly".into())));
        for words in ["hello", "/", "/etc/passwd says", "// a comment", "a /stop"] {
            assert_eq!(parse(words), None, "{words}");
        }
    }
}
