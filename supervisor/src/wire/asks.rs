//! What people are asked, and what they say to it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::ask::{self, AskKind, AskState, Asked};
use utoipa::ToSchema;

use shared::id::{AskId, PermitId, RunId, TaskId};
use shared::money::Usd;
use shared::task::Task;

use crate::view::CostView;

/// What people are asked, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AskPage {
    /// The asks, without what is known of their tasks.
    pub asks: Vec<AskView>,
    /// What `before` must be for the next page; null on the last.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub next: Option<AskId>,
}

/// Something that people are asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Ask)]
pub struct AskView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: AskId,
    /// approval, question, doubt, trouble or limit.
    #[schema(value_type = String)]
    pub kind: AskKind,
    /// open, answered, lapsed (nobody decided in time) or void (its task has ended).
    #[schema(value_type = String)]
    pub state: AskState,
    /// The task.
    #[schema(value_type = String, format = "uuid")]
    pub task: TaskId,
    /// The run that waits.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// The agent that asks.
    pub agent: Option<String>,
    /// What it is about, in one line.
    pub title: String,
    /// The rest of it: why people are asked, what was tried, what is known.
    pub text: String,
    /// Answers to choose from; any other text will do, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What would be done; of an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionView>,
    /// Who alone may decide; absent where every approver may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// The person or token that the task is for. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What they asked for. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the task used so far. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostView>,
    /// Since when it is asked, in milliseconds since 1970.
    pub asked_at_ms: i64,
    /// Until when somebody may decide.
    pub until_ms: Option<i64>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AskDecision>)]
    pub decision: Option<ask::Decision>,
    /// Who decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// The permit of theirs by which it was decided, where they were not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub by_permit: Option<PermitId>,
    /// When they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at_ms: Option<i64>,
}

impl AskView {
    /// An ask without what is known of its task.
    pub fn of(asked: Asked) -> Self {
        let (verdict, decided_at) = asked.verdict.unzip();
        let (decision, decided_by, by_permit) = match verdict {
            Some(verdict) => (Some(verdict.decision), verdict.by, verdict.permit),
            None => (None, None, None),
        };
        Self {
            id: asked.id,
            kind: asked.ask.kind,
            state: asked.state,
            task: asked.task,
            run: asked.run,
            agent: asked.ask.agent.map(|agent| agent.to_string()),
            title: asked.ask.title,
            text: asked.ask.text,
            choices: asked.ask.choices,
            action: asked.ask.action.map(Into::into),
            approvers: asked
                .ask
                .approvers
                .iter()
                .map(ToString::to_string)
                .collect(),
            user: None,
            request: None,
            cost: None,
            asked_at_ms: asked.at.0,
            until_ms: asked.until.map(|at| at.0),
            decision,
            decided_by: decided_by.map(|by| by.to_string()),
            by_permit,
            decided_at_ms: decided_at.map(|at| at.0),
        }
    }

    /// The same with what whoever decides should know of the task.
    pub fn within(self, task: Task) -> Self {
        Self {
            user: Some(task.principal.to_string()),
            request: Some(task.request.text),
            cost: Some(task.usage.into()),
            ..self
        }
    }
}

/// What would be done, to the last byte. An approval is for this and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Action)]
pub struct ActionView {
    /// SHA-256 of all the rest, by which the approval knows it.
    pub sha256: String,
    /// The tool.
    pub tool: String,
    /// Its version.
    pub version: u32,
    /// The arguments.
    #[schema(value_type = Object)]
    pub args: Value,
    /// Whom or what it reaches: addresses, URLs, paths.
    pub targets: Vec<String>,
    /// The files that go out with it.
    pub files: Vec<FileDigestView>,
    /// Whose data it is about.
    pub tenant: String,
    /// For whom it is done.
    pub principal: String,
    /// By which run.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// SHA-256 of the policy that asks for the approval.
    pub policy: String,
}

/// A file by its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FileDigest)]
pub struct FileDigestView {
    /// Its name.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// How many there are.
    pub bytes: u64,
}

impl From<ask::Action> for ActionView {
    fn from(action: ask::Action) -> Self {
        let file = |file: ask::FileDigest| FileDigestView {
            name: file.name,
            sha256: file.sha256.to_string(),
            bytes: file.bytes,
        };
        Self {
            sha256: action.hash().to_string(),
            tool: action.tool.to_string(),
            version: action.version,
            args: action.args,
            targets: action.preview.targets,
            files: action.preview.files.into_iter().map(file).collect(),
            tenant: action.tenant.to_string(),
            principal: action.principal.to_string(),
            run: action.run,
            policy: action.policy.to_string(),
        }
    }
}

/// What somebody says to an ask. Approvals take approve, edit, reject and reply; questions reply; doubts
/// happened, again and give_up; trouble again, guide, reply and give_up; limits more, reply and give_up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
pub enum AskDecision {
    /// Do it, as it stands.
    Approve {
        /// The same action again, in the same run, needs no further word.
        #[serde(default)]
        for_task: bool,
    },
    /// Do it with these arguments instead.
    Edit {
        /// All arguments.
        #[schema(value_type = Object)]
        args: Value,
    },
    /// Do not do it.
    Reject {
        /// Why; the agent reads it.
        #[serde(default)]
        reason: String,
    },
    /// An answer; to an approval, instead of doing it; to trouble or a limit, it becomes the result.
    Reply {
        /// The answer.
        text: String,
    },
    /// The effect happened, with this result.
    Happened {
        /// What the tool would have answered.
        #[serde(default)]
        #[schema(value_type = Object)]
        result: Value,
    },
    /// Do it again.
    Again {},
    /// Go on, minding this.
    Guide {
        /// What to mind.
        text: String,
    },
    /// Go on with more: as much again as there was.
    More {
        /// So many dollars instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usd: Option<f64>,
    },
    /// Leave it.
    GiveUp {},
}

impl From<AskDecision> for ask::Decision {
    fn from(said: AskDecision) -> Self {
        match said {
            AskDecision::Approve { for_task } => Self::Approve { for_task },
            AskDecision::Edit { args } => Self::Edit { args },
            AskDecision::Reject { reason } => Self::Reject { reason },
            AskDecision::Reply { text } => Self::Reply { text },
            AskDecision::Happened { result } => Self::Happened { result },
            AskDecision::Again {} => Self::Again,
            AskDecision::Guide { text } => Self::Guide { text },
            AskDecision::More { usd } => Self::More {
                usd: usd.map(Usd::from_dollars),
            },
            AskDecision::GiveUp {} => Self::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::ask::Decision;

    use super::*;

    /// What one side writes the other reads, whichever of the two shapes it has.
    #[test]
    fn a_decision_is_said_as_it_is_kept() {
        let text = || "x".to_owned();
        let all = [
            Decision::Approve { for_task: false },
            Decision::Approve { for_task: true },
            Decision::Edit {
                args: json!({"a": 1}),
            },
            Decision::Reject { reason: text() },
            Decision::Reply { text: text() },
            Decision::Happened { result: json!(7) },
            Decision::Again,
            Decision::More {
                usd: Some(Usd::from_dollars(2.5)),
            },
            Decision::GiveUp,
            Decision::GiveUp,
        ];
        for decision in all {
            let said = serde_json::to_value(&decision).unwrap();
            let read: AskDecision = serde_json::from_value(said).unwrap();
            let sent = serde_json::to_value(&read).unwrap();
            let kept: Decision = serde_json::from_value(sent).unwrap();
            assert_eq!((Decision::from(read), kept), (decision.clone(), decision));
        }
    }
}
