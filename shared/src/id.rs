//! Names and ids: one newtype for each thing that is named, so that none can stand for another.
//! Names are cheap to clone (`Arc<str>`); ids are UUIDs, version 7 where they are made fresh.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        #[schemars(transparent)]
        pub struct $type(#[schemars(with = "String")] Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl<T: AsRef<str>> From<T> for $type {
            fn from(text: T) -> Self {
                Self(Arc::from(text.as_ref()))
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// An agent's name, as its file under `config/agents/` gives it.
    AgentName
);
name!(
    /// A tool's name, as the model sees it and as an agent's file lists it.
    ToolName
);
name!(
    /// A model's name in the config (`[models.NAME]`), not the provider's.
    ModelName
);
name!(
    /// The key of a step inside its run, for example `think/3` or `tool/2.0`.
    StepKey
);
name!(
    /// The name of a signal inside its run: what a waiting run waits for.
    SignalName
);
name!(
    /// Whose data a row is. One installation serves one tenant unless it is told otherwise.
    TenantId
);
name!(
    /// Who acts: a person or a token, by an identifier that is never given to anybody else.
    PrincipalId
);

macro_rules! id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub Uuid);

        impl $type {
            /// A fresh id, ordered by the time of its making.
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl std::str::FromStr for $type {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// A task: what a person asked for. Its root run carries the same UUID.
    TaskId
);
id!(
    /// A run: the durable execution of a task, or of one agent's part of it.
    RunId
);
id!(
    /// One start of one process. Never used a second time, not even by the same process.
    WorkerId
);

id!(
    /// Something that people are asked.
    AskId
);

id!(
    /// An approver's standing word on calls of one kind.
    PermitId
);

impl PermitId {
    /// As people type it: its last characters, the first are its time.
    pub fn short(&self) -> String {
        let id = self.0.simple().to_string();
        id[id.len() - 8..].to_owned()
    }
}

impl AskId {
    /// The id of what `run` asks under this name: the same at every replay.
    pub fn of(run: RunId, name: &SignalName) -> Self {
        Self(Uuid::new_v5(&run.0, name.as_str().as_bytes()))
    }
}

impl From<TaskId> for RunId {
    fn from(task: TaskId) -> Self {
        Self(task.0)
    }
}

impl RunId {
    /// The id of the child that this run starts at `key`: the same at every replay. It begins with
    /// the parent's time, so that the rows of a task lie side by side.
    pub fn child(&self, key: &StepKey) -> RunId {
        let mut bytes = *Uuid::new_v5(&self.0, key.as_str().as_bytes()).as_bytes();
        bytes[..6].copy_from_slice(&self.0.as_bytes()[..6]);
        RunId(Uuid::new_v8(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_keeps_its_id_over_replays_and_differs_by_key() {
        let run = RunId::fresh();
        assert_eq!(run.child(&"step/1".into()), run.child(&"step/1".into()));
        assert_ne!(run.child(&"step/1".into()), run.child(&"step/2".into()));
    }
}
