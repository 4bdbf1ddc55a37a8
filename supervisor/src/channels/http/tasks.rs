//! Tasks over HTTP: hand in, wait, look, list, cancel, and the full story.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use shared::hash::Hash;
use shared::id::{PrincipalId, TaskId};
use shared::money::Usd;
use shared::store::{Accepted, NewOut, TaskFilter};
use shared::task::{Budget, Request, Said, Task, TaskState};

use super::Door;
use super::input::{self, Id, Query, check_short};
use super::problem::{Kind, Problem};
use crate::auth::{self, Act, Caller};
use crate::channels::CHATS;
use crate::channels::callback::address;
use crate::channels::papers::enclose::Enclosed;
use crate::channels::papers::turns::Owner;
use crate::intake::Submission;
use crate::transcript::Transcript;
use crate::view::TaskView;
use crate::wire::{self, BudgetOrder, ProblemBody, TaskOrder, TaskPage, TaskRef};

/// The longest time in seconds that a request waits for its task to end.
pub const MAX_WAIT_S: f64 = 300.0;
/// The longest `Idempotency-Key`.
pub const MAX_KEY: usize = 255;
/// The most labels of one task.
pub const MAX_LABELS: usize = 64;
/// Tasks on a page where nobody says how many.
const PAGE: u32 = 50;
/// What a priority may be.
const PRIORITIES: std::ops::RangeInclusive<i16> = -100..=100;
/// The most tasks on a page.
const MAX_PAGE: u32 = 200;

/// Hands in a task. On 202 and 200 it is durable. The same Idempotency-Key with the same body is the
/// same task.
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", operation_id = "create_task",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 255 visible ASCII characters; repeat a request with the same key and nothing is done twice")),
    request_body = TaskOrder,
    responses(
        (status = 200, description = "It ended within `wait_s`", body = TaskView),
        (status = 202, description = "It is taken in", body = TaskRef),
        (status = 409, description = "The key was used with another body", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store failed; try again with the same key", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    http: HttpRequest,
) -> Result<Response, Problem> {
    caller.may(Act::Submit)?;
    let key = idempotency_key(http.headers())?;
    let (mut order, body) = input::json::<TaskOrder>(http).await?;
    let wait = wait_of(&order)?;
    let dedupe = key.map(|key| (key, hash_of(&body)));
    let card = door.card(&order)?;
    let files = std::mem::take(&mut order.files);
    let mut submission = Submission {
        card,
        ..submission(&caller, order, dedupe)?
    };
    if !files.is_empty() {
        let text = std::mem::take(&mut submission.request.text);
        if text.trim().is_empty() {
            return Err(Problem::field("text", "is empty; say what is to be done"));
        }
        let owner = Owner {
            tenant: door.desk().tenant.clone(),
            principal: submission.principal.clone(),
        };
        let enclosed = wire::enclose((door.inside.readers(), &owner), text, files).await;
        let Enclosed {
            text,
            images,
            blobs,
        } = enclosed.map_err(|why| Problem::field("files", why))?;
        (submission.request.text, submission.request.images) = (text, images);
        submission.blobs = blobs;
    }
    let (id, fresh) = match door.inside.intake().submit(submission).await? {
        Accepted::New(id) => (id, true),
        Accepted::Known(id) => (id, false),
        Accepted::Conflict(id) => {
            let detail = format!("this key was used with another body, for task {id}");
            return Err(Problem::new(Kind::Conflict, detail).at("Idempotency-Key"));
        }
    };
    let state = match wait {
        Some(wait) => {
            let task = door.ended(id, wait).await?;
            if task.state.is_final() {
                let view = TaskView::with_steps(&*door.desk().store, task).await?;
                return Ok((StatusCode::OK, location(id), Json(view)).into_response());
            }
            task.state
        }
        None if fresh => TaskState::Queued,
        None => door.task(id).await?.state,
    };
    let taken = TaskRef {
        id,
        state: state.as_str().into(),
    };
    Ok((StatusCode::ACCEPTED, location(id), Json(taken)).into_response())
}

pub(super) fn location(id: TaskId) -> [(header::HeaderName, String); 1] {
    [(header::LOCATION, format!("/v1/tasks/{id}"))]
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = input::single(headers, "Idempotency-Key")? else {
        return Ok(None);
    };
    if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail = format!("must have 1 to {MAX_KEY} visible ASCII characters");
        return Err(Problem::field("Idempotency-Key", detail));
    }
    Ok(Some(key.to_owned()))
}

/// What a body is recognised by: its values, not the order and spacing in which they were written.
fn hash_of(body: &[u8]) -> Hash {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => Hash::of(&value),
        Err(_) => Hash::of_bytes(body),
    }
}

fn wait_of(order: &TaskOrder) -> Result<Option<Duration>, Problem> {
    match order.wait_s {
        None => Ok(None),
        Some(seconds) if seconds < 0.0 => Err(Problem::field("wait_s", "must not be negative")),
        Some(seconds) => Ok(Some(Duration::from_secs_f64(seconds.min(MAX_WAIT_S)))),
    }
}

fn submission(
    caller: &Caller,
    order: TaskOrder,
    dedupe: Option<(String, Hash)>,
) -> Result<Submission, Problem> {
    let principal = match &order.user {
        Some(user) => {
            caller
                .may(Act::ActFor)
                .map_err(|denied| Problem::from(denied).at("user"))?;
            check_short("user", user)?;
            auth::user_principal(user)
        }
        None => caller.principal.clone(),
    };
    if order.dir.is_some() {
        caller
            .may(Act::NameFolder)
            .map_err(|denied| Problem::from(denied).at("dir"))?;
    }
    let metadata = order.metadata.unwrap_or_default();
    check_labels(&metadata)?;
    for (field, text) in [("agent", &order.agent), ("thread", &order.thread)] {
        text.as_deref()
            .map_or(Ok(()), |text| check_short(field, text))?;
    }
    check_thread(order.thread.as_deref())?;
    Ok(Submission {
        request: Request {
            text: order.text,
            agent: order.agent.map(Into::into),
            channel: "http".into(),
            thread: order.thread,
            metadata,
            budget: budget_of(order.budget.unwrap_or_default())?,
            said: Said::default(),
            priority: priority_of(order.priority)?,
            images: Vec::new(),
        },
        principal,
        submitted_by: caller.principal.clone(),
        dedupe,
        read: order.dir.map(Into::into),
        card: None,
        since: None,
        blobs: Vec::new(),
    })
}

/// Conversations of chats are those of the people in them: nobody else takes part by naming one.
fn check_thread(thread: Option<&str>) -> Result<(), Problem> {
    let chat = thread.and_then(|thread| thread.split_once('/'));
    match chat {
        Some((chat, _)) if CHATS.contains(&chat) => {
            let detail = format!("must not begin with `{chat}/`: such threads are the chat's own");
            Err(Problem::field("thread", detail))
        }
        _ => Ok(()),
    }
}

fn check_labels(metadata: &BTreeMap<String, String>) -> Result<(), Problem> {
    if metadata.len() > MAX_LABELS {
        let detail = format!(
            "has {} labels, at most {MAX_LABELS} are taken",
            metadata.len()
        );
        return Err(Problem::field("metadata", detail));
    }
    for (key, value) in metadata {
        check_short("metadata", key)?;
        if !value.is_empty() {
            check_short(&format!("metadata.{key}"), value)?;
        }
    }
    Ok(())
}

fn priority_of(order: Option<i16>) -> Result<i16, Problem> {
    let priority = order.unwrap_or_default();
    match PRIORITIES.contains(&priority) {
        true => Ok(priority),
        false => Err(Problem::field("priority", "must be between -100 and 100")),
    }
}

fn budget_of(order: BudgetOrder) -> Result<Budget, Problem> {
    if order.usd.is_some_and(|usd| usd < 0.0) {
        return Err(Problem::field("budget.usd", "must not be negative"));
    }
    Ok(Budget {
        usd: order.usd.map(Usd::from_dollars),
        tokens: order.tokens,
    })
}

/// A task with all its steps.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", operation_id = "get_task",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, description = "The task", body = TaskView),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<TaskView>, Problem> {
    let task = door.task(id).await?;
    caller.may(Act::See(&task))?;
    Ok(Json(TaskView::with_steps(&*door.desk().store, task).await?))
}

/// Tasks that the caller may see, newest first.
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", operation_id = "list_tasks",
    params(
        ("limit" = Option<u32>, Query, description = "Tasks on a page, 1 to 200", minimum = 1, maximum = 200),
        ("before" = Option<String>, Query, description = "`next` of the page before"),
        ("user" = Option<String>, Query, description = "Only of this user"),
        ("thread" = Option<String>, Query, description = "Only of this conversation"),
        ("agent" = Option<String>, Query, description = "Only those handed to this agent"),
        ("state" = Option<String>, Query, description = "Only in this state"),
        ("metadata.KEY" = Option<String>, Query, description = "Only with this label; once for each KEY")),
    responses(
        (status = 200, description = "A page of tasks", body = TaskPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<TaskPage>, Problem> {
    caller.may(Act::List)?;
    let mut filter = filter(query)?;
    filter.visible_to = caller.sees_only();
    let page = filter.limit as usize;
    // One more tells whether there is another page.
    filter.limit += 1;
    let mut tasks = door
        .desk()
        .store
        .tasks(&door.desk().tenant, &filter)
        .await?;
    let more = tasks.len() > page;
    tasks.truncate(page);
    let next = tasks.last().filter(|_| more).map(|task| task.id);
    let tasks = tasks.into_iter().map(TaskView::of).collect();
    Ok(Json(TaskPage { tasks, next }))
}

fn filter(mut query: Query) -> Result<TaskFilter, Problem> {
    let limit = query.read("limit", "a number")?.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::field(
            "limit",
            format!("must be from 1 to {MAX_PAGE}"),
        ));
    }
    let state = query.take("state").map(|name| {
        TaskState::parse(&name).ok_or_else(|| {
            let names = TaskState::ALL.map(TaskState::as_str).join(", ");
            Problem::field("state", format!("must be one of {names}"))
        })
    });
    let filter = TaskFilter {
        principals: query.take("user").map(principals),
        thread: query.take("thread"),
        agent: query.take("agent").map(Into::into),
        state: state.transpose()?,
        metadata: query.take_all("metadata.").into_iter().collect(),
        before: query.read("before", "a task's UUID")?,
        limit,
        visible_to: None,
    };
    query.finish("limit, before, user, thread, agent, state, metadata.KEY")?;
    Ok(filter)
}

/// A user as an order names it, or anybody as a task shows it.
fn principals(user: String) -> Vec<PrincipalId> {
    vec![auth::user_principal(&user), user.into()]
}

/// Ends a task. One that was cancelled before stays so.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks", operation_id = "cancel_task",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, description = "It is cancelled", body = TaskRef),
        (status = 409, description = "It had ended otherwise", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<TaskRef>, Problem> {
    let task = door.task(id).await?;
    caller.may(Act::Cancel(&task))?;
    let reason = format!("cancelled by {}", caller.principal);
    let by = &caller.principal;
    if !door.desk().cancel_by(id, &reason, by).await? {
        let state = door.task(id).await?.state;
        if state != TaskState::Cancelled {
            let detail = format!("the task is {} already", state.as_str());
            return Err(Problem::new(Kind::Conflict, detail));
        }
    }
    Ok(Json(TaskRef {
        id,
        state: TaskState::Cancelled.as_str().into(),
    }))
}

/// Holds a task. What is in hand is ended and recorded, nothing new is begun until it is resumed.
#[utoipa::path(post, path = "/v1/tasks/{id}/pause", tag = "tasks", operation_id = "pause_task",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, description = "It is paused", body = TaskRef),
        (status = 409, description = "It has ended", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn pause(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<TaskRef>, Problem> {
    caller.may(Act::Cancel(&door.task(id).await?))?;
    let reason = format!("paused by {}", caller.principal);
    let paused = door.desk().pause(id, &reason).await?;
    door.stands(id, paused, |state| state == TaskState::Paused)
        .await
}

/// Lets a paused task go on where it stood.
#[utoipa::path(post, path = "/v1/tasks/{id}/resume", tag = "tasks", operation_id = "resume_task",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, description = "It goes on", body = TaskRef),
        (status = 409, description = "It has ended", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn resume(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<TaskRef>, Problem> {
    caller.may(Act::Cancel(&door.task(id).await?))?;
    let reason = format!("resumed by {}", caller.principal);
    let resumed = door.desk().resume(id, &reason).await?;
    door.stands(id, resumed, |state| !state.is_final()).await
}

/// The full story of a task: what each model was sent and said, each tool call, attempt, cost and
/// decision.
#[utoipa::path(get, path = "/v1/tasks/{id}/transcript", tag = "tasks", operation_id = "get_transcript",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, description = "The story", body = Transcript),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn transcript(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Transcript>, Problem> {
    let task = door.task(id).await?;
    caller.may(Act::See(&task))?;
    let told = door.desk().transcript(task).await;
    told.map(Json).map_err(|error| Problem::internal(&error))
}

impl Door {
    /// Where a task stands after somebody's word. A word that changed nothing is a conflict, unless the
    /// task stands as it was meant to.
    async fn stands(
        &self,
        id: TaskId,
        changed: bool,
        meant: impl Fn(TaskState) -> bool,
    ) -> Result<Json<TaskRef>, Problem> {
        let state = self.task(id).await?.state;
        if !changed && !meant(state) {
            let detail = format!("the task is {} already", state.as_str());
            return Err(Problem::new(Kind::Conflict, detail));
        }
        let state = state.as_str().into();
        Ok(Json(TaskRef { id, state }))
    }

    /// The task of this id. Whether the caller may know of it is the handler's next question.
    pub(super) async fn task(&self, id: TaskId) -> Result<Task, Problem> {
        let found = self.desk().store.task(&self.desk().tenant, id).await?;
        found.ok_or_else(|| auth::Denied::Hidden.into())
    }

    /// The call that is owed when the task has ended.
    fn card(&self, order: &TaskOrder) -> Result<Option<NewOut>, Problem> {
        let Some(url) = &order.callback_url else {
            return Ok(None);
        };
        let refused = |why: String| Problem::field("callback_url", why);
        let Some(gateway) = &self.callbacks else {
            let why = "nobody is called back here: [callbacks] secret is not set";
            return Err(refused(why.into()));
        };
        let card = address::card(gateway, url);
        card.map(Some).map_err(|why| refused(why.to_string()))
    }

    /// The task when it has ended, or as it stands when the time is over or the door closes.
    async fn ended(&self, id: TaskId, wait: Duration) -> Result<Task, Problem> {
        // Where too many wait, nobody more does.
        if let Some(_place) = self.place() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.closing.cancelled() => {}
                // One that failed is told by the look at the task.
                _ = self.desk().ended(id) => {}
            }
        }
        self.task(id).await
    }
}
