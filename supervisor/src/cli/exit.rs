//! How a command ends: exit codes that scripts can rely on, and errors that carry one. Printing is
//! the caller's.

use std::fmt;
use std::process::ExitCode;

use shared::task::TaskState;

/// Exit codes. They are part of the interface: none ever changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The task failed, or the command did.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The task waits for a person.
    Awaiting = 3,
    /// The task was cancelled.
    Cancelled = 4,
    /// The instance or server cannot be reached.
    Unreachable = 5,
    /// `doctor` or `channels test` found a problem.
    Unwell = 6,
    /// An operator has stopped everything.
    Halted = 7,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl Exit {
    /// How an `ask` ends whose task is left in this state.
    pub fn of_task(state: TaskState) -> Self {
        match state {
            TaskState::Done => Exit::Done,
            TaskState::AwaitingHuman | TaskState::Paused => Exit::Awaiting,
            TaskState::Cancelled => Exit::Cancelled,
            TaskState::Failed | TaskState::Queued | TaskState::Running => Exit::Failed,
        }
    }

    /// The code that an error asks for.
    pub fn of_error(error: &anyhow::Error) -> Self {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return fault.exit;
        }
        match error.downcast_ref() {
            Some(shared::store::Error::Unreachable(_)) => return Exit::Unreachable,
            Some(shared::store::Error::Url(_)) => return Exit::Usage,
            _ => {}
        }
        let configuration = error.is::<shared::config::Report>()
            || error.is::<shared::config::MissingPrice>()
            || error.is::<shared::config::starter::Error>();
        if configuration {
            Exit::Usage
        } else {
            Exit::Failed
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error that knows its exit code and what to do about it.
#[derive(Debug)]
pub struct Fault {
    exit: Exit,
    what: String,
    help: Option<String>,
}

impl Fault {
    /// The command line is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// The command failed.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// Nobody answers.
    pub fn unreachable(what: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, what)
    }

    /// Nothing is taken in: everything stands still.
    pub fn halted(what: impl Into<String>) -> Self {
        Self::new(Exit::Halted, what)
    }

    fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            help: None,
        }
    }

    /// What to do now.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.help {
            Some(help) => write!(f, "\n  {}", help.replace('\n', "\n  ")),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_never_change() {
        let codes = TaskState::ALL.map(|state| (state.as_str(), Exit::of_task(state) as u8));
        assert_eq!(
            codes,
            [
                ("queued", 1),
                ("running", 1),
                ("awaiting_human", 3),
                ("paused", 3),
                ("done", 0),
                ("failed", 1),
                ("cancelled", 4),
            ]
        );
        let errors = [
            anyhow::Error::from(Fault::usage("x")),
            Fault::unreachable("x").into(),
            anyhow::anyhow!("x"),
            anyhow::Error::from(Fault::usage("x")).context("while y"),
            shared::store::Error::Unreachable("x".into()).into(),
            shared::store::Error::Url("x".into()).into(),
        ];
        assert_eq!(
            errors.map(|error| Exit::of_error(&error) as u8),
            [2, 5, 1, 2, 5, 2]
        );
        let others = [Exit::Unwell, Exit::Halted, Exit::Interrupted];
        assert_eq!(others.map(|exit| exit as u8), [6, 7, 130]);
    }
}
