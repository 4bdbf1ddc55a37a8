//! What tests of chats share: secrets in files, what an agent answers, and what a bot said.

use majordomo_tests::doubles::{slack, telegram};

/// A secret in a file of its own, as the configuration names it.
pub fn kept(secret: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (_, path) = file.keep().unwrap();
    std::fs::write(&path, secret).unwrap();
    format!("${{file:{}}}", path.display())
}

/// A script's reply of these words.
pub fn reply(text: &str) -> String {
    format!("[[agent.reply]]\ntext = \"{text}\"\n")
}

/// A message of a chat.
pub trait Said {
    /// What it says.
    fn text(&self) -> &str;
}

impl Said for telegram::Message {
    fn text(&self) -> &str {
        &self.text
    }
}

impl Said for slack::Message {
    fn text(&self) -> &str {
        &self.text
    }
}

/// What messages say.
pub fn texts<M: Said>(messages: &[M]) -> Vec<&str> {
    messages.iter().map(Said::text).collect()
}

/// Whether a message says this among other things.
pub fn says<M: Said>(wanted: &'static str) -> impl Fn(&[M]) -> bool {
    move |messages| {
        messages
            .iter()
            .any(|message| message.text().contains(wanted))
    }
}
