//! The agent that trials of doors speak to: whatever it is asked, it answers the same at once.

/// What it answers.
pub(super) const ANSWER: &str = "It is done.";
/// Its file.
pub(super) const AGENT: &str = r#"
name = "executor"
description = "Answers what the chaos program asks, with the same words each time."
prompt = "You are the executor."
"#;
/// Its model's script.
pub(super) const SCRIPT: &str = r#"
[[agent]]
name = "executor"
system = "You are the executor."
[[agent.reply]]
text = "It is done."
"#;
