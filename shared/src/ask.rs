//! What a run asks people, and what they say to it: the words only. An ask is written in the commit that
//! begins the run's wait for it, so there is none that nobody waits for, and no wait that nobody sees. The
//! answer is the run's signal: the first one wins.
//!
//! | kind | who decides | what may be said |
//! |---|---|---|
//! | approval | approvers | approve, edit, reject, reply (instead of doing it) |
//! | question | whoever the task is for, and approvers | reply |
//! | doubt | approvers | happened, again, give up |
//! | trouble | whoever the task is for, and approvers | again, guide, reply (it becomes the result), give up |
//! | limit | approvers; where an account's limit is to be raised, admins | more, reply (it becomes the result), give up |

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::budget::{Account, Over, Period, Unit, Which};
use crate::hash::Hash;
use crate::id::{
    AgentName, AskId, PermitId, PrincipalId, RunId, SignalName, TaskId, TenantId, ToolName,
};
use crate::money::Usd;
use crate::run::Timestamp;

/// Why people are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskKind {
    /// Whether an action may be done.
    Approval,
    /// Something that an agent wants to know.
    Question,
    /// Whether an effect happened that was begun and has no outcome.
    Doubt,
    /// How work goes on that cannot go on by itself.
    Trouble,
    /// Whether work that has used what it may use gets more.
    Limit,
}

impl AskKind {
    /// All of them.
    pub const ALL: [AskKind; 5] = [
        Self::Approval,
        Self::Question,
        Self::Doubt,
        Self::Trouble,
        Self::Limit,
    ];

    /// The kind's name in the store and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Question => "question",
            Self::Doubt => "doubt",
            Self::Trouble => "trouble",
            Self::Limit => "limit",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether this may be said to an ask of this kind.
    pub fn takes(self, decision: &Decision) -> bool {
        use Decision::*;
        match self {
            Self::Approval => matches!(
                decision,
                Approve { .. } | Edit { .. } | Reject { .. } | Reply { .. }
            ),
            Self::Question => matches!(decision, Reply { .. }),
            Self::Doubt => matches!(decision, Happened { .. } | Again | GiveUp),
            Self::Trouble => matches!(decision, Again | Guide { .. } | Reply { .. } | GiveUp),
            Self::Limit => matches!(decision, More { .. } | Reply { .. } | GiveUp),
        }
    }
}

/// What people are asked: all that they need to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Why they are asked.
    pub kind: AskKind,
    /// What it is about, in one line.
    pub title: String,
    /// The rest of it: what was tried, what is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Answers to choose from; with none, or besides them, any text will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What would be done; of an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// What holds it up, where that may hold up others too: they are one incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What more there would be; of a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
    /// Who alone may decide, by principal; empty: whoever the kind allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<PrincipalId>,
    /// Whether the one for whom the work is done may decide it, too, where the kind wants an approver.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_oneself: bool,
    /// Whether it is known that the run had read nothing untrusted; of an approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

impl Ask {
    /// A question in one line.
    pub fn question(title: impl Into<String>) -> Self {
        Self::new(AskKind::Question, title)
    }

    /// An ask of this kind that has nothing but its title.
    pub fn new(kind: AskKind, title: impl Into<String>) -> Self {
        Self {
            kind,
            title: title.into(),
            text: String::new(),
            agent: None,
            choices: Vec::new(),
            action: None,
            cause: None,
            offer: None,
            approvers: Vec::new(),
            by_oneself: false,
            clean: false,
        }
    }
}

/// What “more” adds where a limit is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Offer {
    /// To what a piece of work may use, as much again; its task's own account grows with it.
    Work {
        /// Dollars.
        usd: Usd,
        /// Tokens sent and received.
        tokens: u64,
    },
    /// To the limit of an account, in the day or the month in which it is said.
    Account(Over),
}

impl Offer {
    /// Which limits of accounts are raised, and by how much, where somebody gives more: so many dollars, or
    /// what is offered. The error says why it cannot be given.
    pub fn raises(&self, task: TaskId, usd: Option<Usd>) -> Result<Vec<(Which, i64)>, String> {
        let of_task = |unit, amount| {
            let which = Which {
                account: Account::Task(task),
                period: Period::Total,
                unit,
            };
            (which, amount)
        };
        let raises = match (self, usd) {
            (Self::Work { usd, tokens }, said) => {
                let tokens = i64::try_from(*tokens).unwrap_or(i64::MAX);
                let usd = said.unwrap_or(*usd).nano();
                vec![of_task(Unit::Usd, usd), of_task(Unit::Tokens, tokens)]
            }
            (Self::Account(over), Some(_)) if over.which.unit == Unit::Tokens => {
                return Err("the limit is of tokens, so no dollars can be added to it".into());
            }
            (Self::Account(_), Some(usd)) if usd <= Usd::ZERO => {
                return Err("that adds nothing".into());
            }
            (Self::Account(over), usd) => {
                vec![(over.which.clone(), usd.map_or(over.more(), Usd::nano))]
            }
        };
        Ok(raises.into_iter().filter(|(_, more)| *more > 0).collect())
    }

    /// How much it is, for people: `$2.00`.
    pub fn in_words(&self) -> String {
        match self {
            Self::Work { usd, .. } => usd.to_string(),
            Self::Account(over) => over.which.unit.show(over.more()),
        }
    }
}

/// What an approval is for, to the last byte. Approved is its hash; an action that differs in anything is
/// another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The tool.
    pub tool: ToolName,
    /// Its version.
    pub version: u32,
    /// The arguments.
    pub args: Value,
    /// What the tool says of it at this moment: whom it reaches, which files with which bytes.
    pub preview: Preview,
    /// Whose data it is about.
    pub tenant: TenantId,
    /// For whom it is done.
    pub principal: PrincipalId,
    /// By which run.
    pub run: RunId,
    /// The policy that asks for the approval.
    pub policy: Hash,
}

impl Action {
    /// By what an approval knows it: SHA-256 over its canonical JSON.
    pub fn hash(&self) -> Hash {
        Hash::of(&serde_json::to_value(self).unwrap_or_default())
    }
}

/// What a call would reach, as the tool sees it before it does anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// Whom or what it reaches, one in a line: addresses, URLs, paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// The files that go out with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileDigest>,
}

/// A file by its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Its name.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: Hash,
    /// How many there are.
    pub bytes: u64,
}

/// What a person says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decision {
    /// Do it, as it stands.
    Approve {
        /// The same action again, in the same run, needs no further word.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        for_task: bool,
    },
    /// Do it with these arguments instead.
    Edit {
        /// All arguments.
        args: Value,
    },
    /// Do not do it.
    Reject {
        /// Why; the agent reads it.
        #[serde(default)]
        reason: String,
    },
    /// An answer; of an approval, instead of doing it; of trouble or a limit, it becomes the result.
    Reply {
        /// The answer.
        text: String,
    },
    /// The effect happened, with this result.
    Happened {
        /// What the tool would have answered.
        #[serde(default)]
        result: Value,
    },
    /// Do it again.
    Again,
    /// Go on, minding this.
    Guide {
        /// What to mind.
        text: String,
    },
    /// Go on with more: what is offered ([`Offer`]).
    More {
        /// So many dollars instead.
        #[serde(default, with = "dollars", skip_serializing_if = "Option::is_none")]
        usd: Option<Usd>,
    },
    /// Leave it.
    GiveUp,
}

/// Dollars as people write them.
mod dollars {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::money::Usd;

    pub fn serialize<S: Serializer>(usd: &Option<Usd>, to: S) -> Result<S::Ok, S::Error> {
        usd.map(Usd::dollars).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Usd>, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.map(Usd::from_dollars))
    }
}

impl Decision {
    /// What was decided, in a word or two for people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Approve { for_task: false } => "approved",
            Self::Approve { for_task: true } => "approved for this task",
            Self::Edit { .. } => "approved with changes",
            Self::Reject { .. } => "rejected",
            Self::Reply { .. } => "answered",
            Self::Happened { .. } => "it happened",
            Self::Again => "do it again",
            Self::Guide { .. } => "go on with guidance",
            Self::More { .. } => "go on with more",
            Self::GiveUp => "left",
        }
    }

    /// What was said besides.
    pub fn text(&self) -> Option<&str> {
        let (Self::Reject { reason: text } | Self::Reply { text } | Self::Guide { text }) = self
        else {
            return None;
        };
        Some(text.as_str()).filter(|text| !text.trim().is_empty())
    }
}

/// A decision, and whose it is: the payload of the signal that a run waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// Who decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<PrincipalId>,
    /// The hash of the action that was shown to the one who decided; of an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Hash>,
    /// The permit of theirs by which it was decided, where they were not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<PermitId>,
}

impl Verdict {
    /// Whose word it is, for people.
    pub fn whose(&self) -> String {
        let by = self.by.as_ref().map_or("somebody", |by| by.as_str());
        match &self.permit {
            Some(permit) => format!("permit {} of {by}", permit.short()),
            None => by.to_owned(),
        }
    }
}

/// What was asked for, and what was said: what an action is done by.
#[derive(Clone, Debug, PartialEq)]
pub struct Approval {
    /// The action that was shown.
    pub asked: Action,
    /// What was said to it.
    pub verdict: Verdict,
}

impl Approval {
    /// Whether this action, as it stands now, is the one that was approved. The error says what is not.
    pub fn lets(&self, now: &Action) -> Result<(), &'static str> {
        if self.verdict.action != Some(self.asked.hash()) {
            return Err("the approval is for something else than what was shown");
        }
        match &self.verdict.decision {
            Decision::Approve { .. } if self.asked == *now => Ok(()),
            Decision::Approve { .. } => Err("it is not any more what was approved"),
            Decision::Edit { args } if self.asked.edited(args, &now.preview) == *now => Ok(()),
            Decision::Edit { .. } => Err("it is not what the approver made of it"),
            _ => Err("it was not approved"),
        }
    }
}

impl Action {
    /// The action with other arguments: whom it reaches follows from those, but it takes no file along
    /// that was not shown.
    fn edited(&self, args: &Value, preview: &Preview) -> Action {
        let shown = |file: &&FileDigest| self.preview.files.contains(file);
        Action {
            args: args.clone(),
            preview: Preview {
                targets: preview.targets.clone(),
                files: preview.files.iter().filter(shown).cloned().collect(),
            },
            ..self.clone()
        }
    }
}

/// Where an ask stands. It follows from the run's wait and its answer, and is never set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskState {
    /// Somebody may decide.
    Open,
    /// Somebody decided.
    Answered,
    /// Nobody did in time.
    Lapsed,
    /// Nobody waits for it any more: its task has ended.
    Void,
}

impl AskState {
    /// The state's name in the store and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Answered => "answered",
            Self::Lapsed => "lapsed",
            Self::Void => "void",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Open, Self::Answered, Self::Lapsed, Self::Void];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

/// An ask, as the store holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Its id: the same wherever it is shown.
    pub id: AskId,
    /// The task.
    pub task: TaskId,
    /// The run that waits.
    pub run: RunId,
    /// The signal that it waits for.
    pub name: SignalName,
    /// What is asked.
    pub ask: Ask,
    /// Since when.
    pub at: Timestamp,
    /// Until when somebody may decide.
    pub until: Option<Timestamp>,
    /// Where it stands.
    pub state: AskState,
    /// What was decided, and when.
    pub verdict: Option<(Verdict, Timestamp)>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn action() -> Action {
        Action {
            tool: "send_email".into(),
            version: 1,
            args: json!({"to": ["a@example.org"], "body": "hello"}),
            preview: Preview {
                targets: vec!["a@example.org".into()],
                files: vec![FileDigest {
                    name: "a.txt".into(),
                    sha256: Hash::of_bytes(b"a"),
                    bytes: 1,
                }],
            },
            tenant: "home".into(),
            principal: "anna".into(),
            run: RunId::fresh(),
            policy: Hash::of_bytes(b"policy"),
        }
    }

    #[test]
    fn an_approval_lets_nothing_but_the_very_action() {
        let asked = action();
        let said = |decision| Approval {
            asked: asked.clone(),
            verdict: Verdict {
                decision,
                by: Some("bert".into()),
                action: Some(asked.hash()),
                permit: None,
            },
        };
        let approved = said(Decision::Approve { for_task: false });
        assert_eq!(approved.lets(&asked), Ok(()));
        type Change = fn(&mut Action);
        let changes: [Change; 8] = [
            |action| action.args["body"] = json!("hello!"),
            |action| action.version = 2,
            |action| action.tool = "send_mail".into(),
            |action| action.preview.targets.push("b@example.org".into()),
            |action| action.preview.files[0].sha256 = Hash::of_bytes(b"b"),
            |action| action.principal = "eve".into(),
            |action| action.run = RunId::fresh(),
            |action| action.policy = Hash::of_bytes(b"another"),
        ];
        for change in changes {
            assert!(approved.lets(&action_like(&asked, change)).is_err());
        }
        let rejected = said(Decision::Reject {
            reason: "no".into(),
        });
        assert!(rejected.lets(&asked).is_err());
        let mut forged = approved.clone();
        forged.asked.args["body"] = json!("another");
        assert!(forged.lets(&forged.asked).is_err(), "not what was shown");

        let args = json!({"to": ["b@example.org"], "body": "hello"});
        let edited = said(Decision::Edit { args: args.clone() });
        let mut now = asked.clone();
        (now.args, now.preview.targets) = (args, vec!["b@example.org".into()]);
        assert_eq!(edited.lets(&now), Ok(()));
        assert!(edited.lets(&asked).is_err(), "as it was before the change");
        now.preview.files[0].sha256 = Hash::of_bytes(b"b");
        assert!(edited.lets(&now).is_err(), "with a file that was not shown");
    }

    fn action_like(action: &Action, change: fn(&mut Action)) -> Action {
        let mut like = action.clone();
        change(&mut like);
        like
    }

    #[test]
    fn what_was_said_before_reads_the_same() {
        let old = json!({"decision": "happened", "result": {"sent": true}});
        let verdict: Verdict = serde_json::from_value(old).unwrap();
        assert_eq!(
            verdict.decision,
            Decision::Happened {
                result: json!({"sent": true})
            }
        );
        let again: Decision = serde_json::from_value(json!({"decision": "again"})).unwrap();
        assert!(AskKind::Doubt.takes(&again) && !AskKind::Approval.takes(&again));
    }
}
