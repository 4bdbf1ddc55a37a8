//! Where the machine waits for people: whether a call may be made, what they know, and what became of an
//! effect in doubt. What is asked follows from the catalog and from recorded outcomes, as all else does.

use std::time::Duration;

use serde_json::Value;

use shared::ask::{Action, Ask, AskKind, Decision, Verdict};
use shared::event::Note;
use shared::id::{PrincipalId, SignalName, StepKey};
use shared::model::Message;
use shared::money::Usage;
use shared::retry::RetryPolicy;
use shared::run::{Effect, Op, OpKind, Outcome, Recorded, Ruled};

use super::{AgentRun, Assignment, Ending, Pending, Wanted, text_of};
use crate::context;
use crate::policy::{self, Ruling};
use crate::tools::Outbound;
use crate::tools::ask_human::Question;

/// How long a person may take to answer, or to say whether an effect happened: thirty days.
const LONG: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a tool may take to say what a call would reach.
const PREVIEW: Duration = Duration::from_secs(30);
/// Characters of what the agent said last that stand below an approval as its reason.
const REASON: usize = 600;

/// What the machine waits for.
pub(super) enum Waits {
    /// Somebody's word on an effect in doubt.
    Doubt(Pending),
    /// Somebody's leave to make a call.
    Leave(Pending, Box<Gated>, Box<Action>),
    /// An answer.
    Answer(Pending, Question),
    /// Help with work that would end so.
    Help(Ending),
}

/// A call that people are asked about.
#[derive(Clone)]
pub(super) struct Gated {
    /// What is to be done.
    pub op: Op,
    /// Why they are asked.
    why: String,
    /// Who alone may decide.
    approvers: Vec<PrincipalId>,
}

/// The name of the signal by which a person settles a step in doubt.
pub fn doubt_signal(key: &StepKey) -> SignalName {
    SignalName::from(format!("in_doubt/{key}"))
}

/// Leave that was given for the whole task.
pub(super) struct Leave {
    /// By whose answer.
    by: SignalName,
    /// Who alone could decide then.
    approvers: Vec<PrincipalId>,
}

impl AgentRun<'_> {
    /// What an operation comes to by the policy, with what the run has read so far.
    pub(super) fn ruled(&self, mut op: Op) -> Wanted {
        match self.ruling(&mut op) {
            None | Some(Ruling::Allowed) => Wanted::Op(Box::new(op)),
            Some(Ruling::Refused(why)) => Wanted::Refused(why),
            Some(Ruling::Asked { why, approvers }) => {
                let before = self.approved.get(&op.hash_of_call());
                match before.filter(|leave| leave.approvers == approvers) {
                    Some(leave) => {
                        op.approval = Some(leave.by.clone());
                        Wanted::Op(Box::new(op))
                    }
                    None => Wanted::Gated(Box::new(Gated { op, why, approvers })),
                }
            }
        }
    }

    /// The policy's word on a call of a tool, where there is a policy; the operation says what it was held
    /// against.
    fn ruling(&self, op: &mut Op) -> Option<Ruling> {
        let policy = self.catalog.approvals.as_ref()?;
        let OpKind::Tool { tool, args, .. } = &op.kind else {
            return None;
        };
        let info = self.catalog.tools.get(tool)?;
        let tainted = self.taint.is_tainted();
        let ruling = policy::rule(
            policy,
            &policy::Wanted {
                agent: &self.spec.name,
                tool: info,
                args,
                tainted,
                address_known: self.knows_address(&info.outbound, args),
            },
        );
        op.ruled = Some(Ruled {
            policy: policy.version(),
            tainted,
        });
        Some(ruling)
    }

    /// Whether the address that a call goes to was given to the run, word for word.
    fn knows_address(&self, outbound: &Outbound, args: &Value) -> bool {
        let Outbound::Address(name) = outbound else {
            return false;
        };
        let address = args.get(name).and_then(Value::as_str).unwrap_or_default();
        !address.is_empty() && self.given.iter().any(|text| gave(text, address))
    }

    /// The work is over, or about to be: nobody is asked for leave or an answer that nothing comes of. What
    /// became of an effect is asked all the same.
    pub(super) fn ask_no_more(&mut self) {
        match self.waits.take() {
            Some(waits @ (Waits::Doubt(_) | Waits::Help(_))) => self.waits = Some(waits),
            Some(Waits::Leave(pending, ..) | Waits::Answer(pending, _)) => {
                self.messages.push(Message::Tool {
                    call: pending.call.id,
                    text: "not called: the work ends here".into(),
                });
            }
            None => {}
        }
    }

    /// The operation that says what a call would reach.
    pub(super) fn preview(&self, gated: &Gated) -> Option<Op> {
        let OpKind::Tool {
            tool,
            version,
            args,
        } = &gated.op.kind
        else {
            return None;
        };
        Some(Op {
            agent: gated.op.agent.clone(),
            kind: OpKind::Preview {
                tool: tool.clone(),
                version: *version,
                args: args.clone(),
                policy: self.catalog.approvals.as_ref()?.version(),
            },
            effect: Effect::Pure,
            timeout: PREVIEW,
            retry: RetryPolicy::default(),
            worst_case: Usage::default(),
            approval: None,
            ruled: None,
            last: false,
        })
    }

    /// Takes note of what a call would reach: people are asked about that.
    pub(super) fn previewed(&mut self, pending: Pending, gated: Box<Gated>, recorded: &Recorded) {
        self.heard(recorded);
        let action = match &recorded.outcome {
            Outcome::Done(value) => serde_json::from_value(value.clone()),
            Outcome::Failed(failure) => return self.answer(&pending.call, Err(&failure.message)),
            Outcome::InDoubt { .. } => {
                return self.answer(&pending.call, Err("the preview was lost"));
            }
        };
        match action {
            Ok(action) => self.waits = Some(Waits::Leave(pending, gated, Box::new(action))),
            Err(error) => self.answer(&pending.call, Err(&format!("the preview is odd: {error}"))),
        }
    }

    /// What people are asked now: under which name, for how long, and what.
    pub(super) fn asked(&self, waits: &Waits) -> (SignalName, Duration, Ask) {
        let agent = Some(self.spec.name.clone());
        match waits {
            Waits::Doubt(pending) => {
                let what = &pending.call.name;
                let ask = Ask {
                    text:
                        "It broke off, and nobody but a person can tell whether it happened. Look \
                           there, and say so: until then this waits, and nothing is done twice."
                            .into(),
                    agent,
                    ..Ask::new(
                        AskKind::Doubt,
                        format!(
                            "{what} of step {} may or may not have happened",
                            pending.key
                        ),
                    )
                };
                (doubt_signal(&pending.key), LONG, ask)
            }
            Waits::Leave(pending, gated, action) => {
                let policy = self.catalog.approvals.clone().unwrap_or_default();
                let reason = self.said.replace('\0', " ");
                let reason = context::head_and_tail(reason.trim(), REASON);
                let said = match reason.is_empty() {
                    true => String::new(),
                    false => format!("\n\n{} says: {reason}", self.spec.name),
                };
                let title = format!("{} wants to call {}", self.spec.name, action.tool);
                let ruled = gated.op.ruled;
                let tainted = self.taint.is_tainted() || ruled.is_none_or(|ruled| ruled.tainted);
                let ask = Ask {
                    text: format!("You are asked because {}.{said}", gated.why),
                    agent,
                    action: Some(Action::clone(action)),
                    approvers: gated.approvers.clone(),
                    by_oneself: policy.own,
                    clean: !tainted,
                    ..Ask::new(AskKind::Approval, title)
                };
                let within = Duration::from_secs_f64(policy.within_h.clamp(0.0, 8760.0) * 3600.0);
                (leave_signal(&pending.key), within, ask)
            }
            Waits::Answer(pending, question) => {
                let ask = Ask {
                    text: question.context.clone(),
                    agent,
                    choices: question.choices.clone(),
                    ..Ask::question(question.question.clone())
                };
                (SignalName::from(format!("ask/{}", pending.key)), LONG, ask)
            }
            Waits::Help(ending) => self.cry(ending),
        }
    }

    /// Takes note of what a person said, or of their silence.
    pub fn resolved(&mut self, answer: Option<Value>) {
        let Some(waits) = self.waits.take() else {
            return;
        };
        let verdict = answer.map(serde_json::from_value::<Verdict>).transpose();
        match (waits, verdict) {
            (Waits::Doubt(pending), verdict) => self.settled(pending, verdict),
            (Waits::Help(ending), verdict) => self.help_came(ending, verdict.ok().flatten()),
            (Waits::Leave(pending, ..) | Waits::Answer(pending, _), Err(error)) => {
                let text = format!("not done: what a person said does not read ({error})");
                self.answer(&pending.call, Err(&text));
            }
            (Waits::Leave(pending, gated, _), Ok(verdict)) => {
                self.given_leave(pending, gated, verdict);
            }
            (Waits::Answer(pending, _), Ok(Some(verdict))) => {
                let text = verdict.decision.text().unwrap_or_default();
                self.answer(&pending.call, Ok(text));
            }
            (Waits::Answer(pending, _), Ok(None)) => {
                let text = "nobody answered in time; go on without, and say what you assumed";
                self.answer(&pending.call, Ok(text));
            }
        }
    }

    /// What follows from a person's word on a step in doubt.
    fn settled(
        &mut self,
        mut pending: Pending,
        verdict: Result<Option<Verdict>, serde_json::Error>,
    ) {
        let left = match verdict.map(|verdict| verdict.map(|verdict| verdict.decision)) {
            Ok(Some(Decision::Happened { result })) => {
                return self.answer(&pending.call, Ok(&text_of(&result)));
            }
            Ok(Some(Decision::Again)) => {
                pending.key = StepKey::from(format!("{}+", pending.key));
                // Leave was given for once.
                if let Wanted::Op(op) = &mut pending.wanted {
                    op.approval = None;
                }
                return self.pending.push_front(pending);
            }
            Ok(Some(_)) => "a person decided to leave it".to_owned(),
            Ok(None) => "no person decided in time".to_owned(),
            Err(error) => format!("a person's decision could not be read ({error})"),
        };
        let text = format!("nobody knows whether this happened; {left}; it was not done again");
        self.answer(&pending.call, Err(&text));
    }

    /// What follows from a person's word on a call. A refusal is no failure of the tool's.
    fn given_leave(&mut self, mut pending: Pending, gated: Box<Gated>, verdict: Option<Verdict>) {
        let name = leave_signal(&pending.key);
        let decider = verdict.as_ref().and_then(|verdict| verdict.by.clone());
        let by = verdict.as_ref().filter(|verdict| verdict.by.is_some());
        let by = by.map_or_else(|| "a person".to_owned(), Verdict::whose);
        let mut op = gated.op;
        let said = match verdict.map(|verdict| verdict.decision) {
            Some(Decision::Approve { for_task }) => {
                if for_task {
                    let leave = Leave {
                        by: name.clone(),
                        approvers: gated.approvers.clone(),
                    };
                    self.approved.insert(op.hash_of_call(), leave);
                }
                Ok(format!("{by} approved it"))
            }
            Some(Decision::Edit { args: changed }) => {
                match self
                    .gate
                    .check(pending.call.name.as_str(), &changed.to_string())
                {
                    // What the gate mends is not what was approved.
                    Ok(checked) if checked == changed => {
                        if let OpKind::Tool { args, .. } = &mut op.kind {
                            *args = changed;
                        }
                        match self.ruling(&mut op) {
                            Some(Ruling::Refused(why)) => Err(format!("not done: {why}")),
                            Some(Ruling::Asked { approvers, .. })
                                if !approvers.is_empty()
                                    && !decider
                                        .as_ref()
                                        .is_some_and(|by| approvers.contains(by)) =>
                            {
                                Err(format!(
                                    "not done: with the changes that {by} made others decide about it"
                                ))
                            }
                            _ => Ok(format!("{by} approved it with changes")),
                        }
                    }
                    Ok(_) => Err(format!("not done: the arguments that {by} gave do not fit")),
                    Err(refusal) => Err(format!(
                        "not done: the arguments that {by} gave do not fit: {refusal}"
                    )),
                }
            }
            Some(Decision::Reject { reason }) => Err(match reason.trim() {
                "" => format!("not done: {by} rejected it; do not try it again"),
                reason => format!("not done: {by} rejected it: {reason}"),
            }),
            Some(Decision::Reply { text }) => {
                Err(format!("not done; instead {by} says: {}", text.trim()))
            }
            Some(_) => Err("not done: what a person said is no answer to this".into()),
            None => Err("not done: nobody approved it in time".into()),
        };
        match said {
            Ok(reason) => {
                self.notes.push(Note::Decided {
                    what: format!("{} calls {}", self.spec.name, pending.call.name),
                    reason,
                });
                op.approval = Some(name);
                pending.wanted = Wanted::Op(Box::new(op));
                self.pending.push_front(pending);
            }
            Err(why) => {
                self.notes.push(Note::Decided {
                    what: format!("{} does not call {}", self.spec.name, pending.call.name),
                    reason: why.clone(),
                });
                self.answer(&pending.call, Ok(&why));
            }
        }
    }
}

/// What the person said: now, and before in the conversation. Not what agents made of it.
pub(super) fn said(assignment: &Assignment) -> Vec<String> {
    let turns = assignment.said.turns.iter();
    let before = turns.map(|turn| turn.asked.clone());
    before.chain([assignment.task.clone()]).collect()
}

/// Whether this address stands in a text, and not as a piece of another one.
fn gave(text: &str, address: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || "/?#&=%+-_~:@".contains(c);
    text.match_indices(address).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + address.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The name of the signal by which a call may be made.
fn leave_signal(key: &StepKey) -> SignalName {
    SignalName::from(format!("approve/{key}"))
}
