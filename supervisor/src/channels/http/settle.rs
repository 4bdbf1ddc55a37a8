//! Settling a step in doubt: a person says whether its effect happened, and the run that waits for
//! that word goes on.

use std::sync::Arc;

use agents::run::{Resolution, doubt_signal};
use axum::Json;
use axum::extract::{Extension, Request, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use shared::id::{RunId, StepKey, TaskId};
use shared::run::Outcome;
use shared::store::{Delivered, NewSignal};

use super::Door;
use super::input::{self, Id, check_short};
use super::problem::{Kind, Problem, ProblemBody};
use super::tasks::TaskRef;
use crate::auth::{Act, Caller};

/// What a person says about a step in doubt.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// The step's key, as the task's steps show it.
    pub step: String,
    /// Its run; needed where several runs of the task have such a step in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub run: Option<RunId>,
    /// What became of the effect.
    pub decision: Decision,
    /// What the tool would have answered; only with `happened`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub result: Option<Value>,
}

/// What became of an effect in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It happened.
    Happened,
    /// It did not: do it again.
    Again,
    /// Leave it, whatever it was.
    GiveUp,
}

/// Settles a step in doubt. Its run goes on.
#[utoipa::path(post, path = "/v1/tasks/{id}/resolve", tag = "tasks", operation_id = "resolve_step",
    params(("id" = String, Path, format = "uuid")),
    request_body = Settlement,
    responses(
        (status = 200, description = "It is settled", body = TaskRef),
        (status = 404, description = "Nothing waits for this", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It was settled before", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn settle(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    http: Request,
) -> Result<Json<TaskRef>, Problem> {
    let task = door.task(id).await?;
    caller.may(Act::Settle(&task))?;
    let (said, _) = input::json::<Settlement>(http).await?;
    check_short("step", &said.step)?;
    let step = StepKey::from(&said.step);
    let payload = payload(&said)?;
    let signal = NewSignal {
        run: door.in_doubt(id, &step, said.run).await?,
        name: doubt_signal(&step),
        payload,
        by: caller.principal,
    };
    match door.inside.store().deliver(signal).await? {
        Delivered::First => {}
        Delivered::Answered => return Err(settled(&step)),
        Delivered::Unwanted => return Err(unwanted(&step)),
    }
    let state = door.task(id).await?.state.as_str().into();
    Ok(Json(TaskRef { id, state }))
}

fn payload(said: &Settlement) -> Result<Value, Problem> {
    if said.result.is_some() && said.decision != Decision::Happened {
        return Err(Problem::field(
            "result",
            "belongs to the decision `happened` only",
        ));
    }
    let resolution = match said.decision {
        Decision::Happened => Resolution::Happened {
            result: said.result.clone().unwrap_or_default(),
        },
        Decision::Again => Resolution::Again,
        Decision::GiveUp => Resolution::GiveUp,
    };
    serde_json::to_value(resolution).map_err(|error| Problem::internal(&error))
}

fn unwanted(step: &StepKey) -> Problem {
    let detail = format!("no step {step} of this task waits for a person's word");
    Problem::new(Kind::NotFound, detail).at("step")
}

fn settled(step: &StepKey) -> Problem {
    Problem::new(Kind::Conflict, format!("step {step} was settled before")).at("step")
}

impl Door {
    /// The run of this task in which the step is in doubt and not settled yet.
    async fn in_doubt(
        &self,
        task: TaskId,
        step: &StepKey,
        run: Option<RunId>,
    ) -> Result<RunId, Problem> {
        let store = self.inside.store();
        let (mut open, mut answered) = (Vec::new(), false);
        for candidate in store.runs(task).await? {
            if run.is_some_and(|run| run != candidate.id) {
                continue;
            }
            let found = store
                .step(candidate.id, step)
                .await?
                .and_then(|step| step.recorded);
            if !found.is_some_and(|recorded| matches!(recorded.outcome, Outcome::InDoubt { .. })) {
                continue;
            }
            match store.signal(candidate.id, &doubt_signal(step)).await? {
                Some(_) => answered = true,
                None => open.push(candidate.id),
            }
        }
        match open.as_slice() {
            [run] => Ok(*run),
            [] if answered => Err(settled(step)),
            [] => Err(unwanted(step)),
            many => {
                let runs: Vec<String> = many.iter().map(ToString::to_string).collect();
                let detail = format!("the step is in doubt in several runs: {}", runs.join(", "));
                Err(Problem::field("run", detail))
            }
        }
    }
}
