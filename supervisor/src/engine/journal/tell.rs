//! What watchers are told of a run: one event for each thing that its journal takes down.

use serde_json::Value;

use shared::ask::Ask;
use shared::event::Event;
use shared::id::{AgentName, AskId, RunId, SignalName};
use shared::run::{Op, OpKind, Outcome, Recorded};
use shared::store::{Run, Step};

use crate::engine::Ended;

/// An attempt begins.
pub(super) fn begun(step: &Step, op: &Op) -> Event {
    Event::Begun {
        key: step.key.clone(),
        agent: op.agent.clone(),
        what: step.what.clone(),
        detail: detail(op),
        attempt: step.attempt,
    }
}

/// A step has its outcome.
pub(super) fn ended(step: &Step, op: &Op, recorded: &Recorded) -> Event {
    let agent: AgentName = op.agent.clone();
    let error = match &recorded.outcome {
        Outcome::InDoubt { .. } => {
            return Event::InDoubt {
                key: step.key.clone(),
                agent,
                what: step.what.clone(),
                evidence: recorded.evidence.clone(),
            };
        }
        Outcome::Failed(failure) => Some(failure.message.clone()),
        Outcome::Done(_) => None,
    };
    Event::Ended {
        key: step.key.clone(),
        agent,
        what: step.what.clone(),
        detail: detail(op),
        error,
        usage: recorded.usage,
        ms: recorded.attempts.last().map_or(0, |attempt| attempt.ms),
    }
}

/// People are asked something.
pub(super) fn asked(run: RunId, (name, ask): (&SignalName, &Ask)) -> Event {
    Event::Asked {
        ask: AskId::of(run, name),
        kind: ask.kind,
        title: ask.title.clone(),
    }
}

/// How many characters of an argument a person is shown.
const DETAIL_CHARS: usize = 80;

/// A short word about what an operation works on: the first text among a tool's arguments.
fn detail(op: &Op) -> String {
    match &op.kind {
        OpKind::Think(_) => String::new(),
        OpKind::Tool { args, .. } | OpKind::Preview { args, .. } => args
            .as_object()
            .and_then(|args| args.values().find_map(Value::as_str))
            .map(|text| text.chars().take(DETAIL_CHARS).collect())
            .unwrap_or_default(),
    }
}

/// A run ends.
pub(super) fn ending(run: &Run, ended: &Ended) -> Event {
    use shared::task::TaskState::{Done, Failed};
    let (state, reason) = match (&ended.task, &ended.result) {
        (Some(end), _) => (end.state, end.error.clone().unwrap_or_default()),
        (None, Ok(_)) => (Done, String::new()),
        (None, Err(failure)) => (Failed, failure.message.clone()),
    };
    Event::State {
        state,
        reason,
        agent: run.agent.clone(),
    }
}
