//! What people are asked, over HTTP: approvals, questions and escalations, three collections over the same
//! handlers. A word goes through [`Desk::decide`](crate::desk::Desk::decide), as from every other door.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};

use shared::ask::Asked;
use shared::id::AskId;
use shared::store::AskFilter;

use super::Door;
use super::input::{self, Query};
use super::problem::{Kind, Problem};
use crate::asks::{self, Collection, Decided, PREFIX, Who};
use crate::auth::{Act, Caller};
use crate::wire::{AskDecision, AskPage, AskView};

/// Asks on a page where nobody says how many.
const PAGE: u32 = 50;
/// The most asks on a page.
const MAX_PAGE: u32 = 200;

/// The three operations on a collection: paths and words are its own, what they do is not.
macro_rules! collection {
    ($name:ident, $which:ident, $all:literal, $one:literal, $list:literal, $get:literal, $decide:literal) => {
        pub(super) mod $name {
            use std::sync::Arc;

            use axum::Json;
            use axum::extract::{Extension, Request, State};

            use super::super::Door;
            use super::super::input::{AskKey, Query};
            use super::super::problem::Problem;
            use crate::asks::Collection;
            use crate::auth::Caller;
            use crate::wire::{AskDecision, AskPage, AskView, ProblemBody};

            /// Lists them, newest first: with the scope `tasks` those of own tasks, with `approve` all.
            #[utoipa::path(get, path = $all, tag = "people", operation_id = $list,
                params(
                    ("state" = Option<String>, Query, description = "`open` (where absent), or `all`"),
                    ("task" = Option<String>, Query, description = "Only of this task"),
                    ("limit" = Option<u32>, Query, description = "On a page, 1 to 200", minimum = 1, maximum = 200),
                    ("before" = Option<String>, Query, description = "`next` of the page before"),
                    ("id" = Option<String>, Query, description = "The beginning of an id, at least 4 characters: those that begin so, open ones where there are any; nothing else may be asked for then")),
                responses(
                    (status = 200, description = "A page of them", body = AskPage),
                    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
            pub(in super::super) async fn list(
                door: State<Arc<Door>>,
                Extension(caller): Extension<Caller>,
                query: Query,
            ) -> Result<Json<AskPage>, Problem> {
                super::list(door, Collection::$which, &caller, query).await
            }

            /// One of them, with all that is needed to decide it.
            #[utoipa::path(get, path = $one, tag = "people", operation_id = $get,
                params(("id" = String, Path, format = "uuid")),
                responses(
                    (status = 200, description = "As it stands", body = AskView),
                    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
            pub(in super::super) async fn show(
                door: State<Arc<Door>>,
                Extension(caller): Extension<Caller>,
                AskKey(id): AskKey,
            ) -> Result<Json<AskView>, Problem> {
                super::show(door, Collection::$which, &caller, id).await
            }

            /// Says what becomes of it. The first word counts, and on 200 it is durable.
            #[utoipa::path(post, path = $one, tag = "people", operation_id = $decide,
                params(("id" = String, Path, format = "uuid")),
                request_body = AskDecision,
                responses(
                    (status = 200, description = "It counts: this is how it stands now", body = AskView),
                    (status = 403, description = "It is for somebody else to decide", body = ProblemBody, content_type = "application/problem+json"),
                    (status = 404, description = "Nothing of this id is asked, as far as the caller may know", body = ProblemBody, content_type = "application/problem+json"),
                    (status = 409, description = "It was decided before, or nobody waits for it any more", body = ProblemBody, content_type = "application/problem+json"),
                    (status = 422, description = "It is no answer to this", body = ProblemBody, content_type = "application/problem+json"),
                    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
            pub(in super::super) async fn decide(
                door: State<Arc<Door>>,
                Extension(caller): Extension<Caller>,
                AskKey(id): AskKey,
                http: Request,
            ) -> Result<Json<AskView>, Problem> {
                super::decide(door, Collection::$which, &caller, (id, http)).await
            }
        }
    };
}

collection!(
    approvals,
    Approvals,
    "/v1/approvals",
    "/v1/approvals/{id}",
    "list_approvals",
    "get_approval",
    "decide_approval"
);
collection!(
    questions,
    Questions,
    "/v1/questions",
    "/v1/questions/{id}",
    "list_questions",
    "get_question",
    "answer_question"
);
collection!(
    escalations,
    Escalations,
    "/v1/escalations",
    "/v1/escalations/{id}",
    "list_escalations",
    "get_escalation",
    "decide_escalation"
);

async fn list(
    State(door): State<Arc<Door>>,
    which: Collection,
    caller: &Caller,
    mut query: Query,
) -> Result<Json<AskPage>, Problem> {
    caller.may(Act::Hear)?;
    let who = Who::from(caller);
    if let Some(part) = query.take("id") {
        query.finish("no others beside `id`")?;
        if part.len() < PREFIX {
            let detail = format!("must have at least {PREFIX} characters");
            return Err(Problem::field("id", detail));
        }
        let found = door.desk().asks_like(&who, which.kinds(), &part).await?;
        let asks = found.into_iter().map(AskView::of).collect();
        return Ok(Json(AskPage { asks, next: None }));
    }
    let mut filter = filter(which, query)?;
    let page = filter.limit as usize;
    // One more tells whether there is another page.
    filter.limit += 1;
    let mut found = door.desk().asks(&who, &filter).await?;
    let more = found.len() > page;
    found.truncate(page);
    let next = found.last().filter(|_| more).map(|asked| asked.id);
    let asks = found.into_iter().map(AskView::of).collect();
    Ok(Json(AskPage { asks, next }))
}

fn filter(which: Collection, mut query: Query) -> Result<AskFilter, Problem> {
    let open = match query.take("state").as_deref() {
        None | Some("open") => true,
        Some("all") => false,
        Some(_) => return Err(Problem::field("state", "must be `open` or `all`")),
    };
    let limit = query.read("limit", "a number")?.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let detail = format!("must be from 1 to {MAX_PAGE}");
        return Err(Problem::field("limit", detail));
    }
    let filter = AskFilter {
        task: query.read("task", "a task's UUID")?,
        kinds: which.kinds().to_vec(),
        open,
        before: query.read("before", "the UUID of what is asked")?,
        limit,
        ..AskFilter::default()
    };
    query.finish("state, task, limit, before, id")?;
    Ok(filter)
}

async fn show(
    State(door): State<Arc<Door>>,
    which: Collection,
    caller: &Caller,
    id: AskId,
) -> Result<Json<AskView>, Problem> {
    caller.may(Act::Hear)?;
    let asked = door.asked(which, caller, id).await?;
    door.in_full(asked).await
}

async fn decide(
    State(door): State<Arc<Door>>,
    which: Collection,
    caller: &Caller,
    (id, http): (AskId, Request),
) -> Result<Json<AskView>, Problem> {
    caller.may(Act::Hear)?;
    door.asked(which, caller, id).await?;
    let (said, _) = input::json::<AskDecision>(http).await?;
    let who = Who::from(caller);
    match door.desk().decide(id, said.into(), &who).await? {
        Decided::Taken(asked) => door.in_full(*asked).await,
        Decided::Before(asked) => Err(Problem::new(Kind::Conflict, asks::too_late(&asked))),
        Decided::Denied(why) => Err(Problem::new(Kind::Others, why)),
        Decided::Unfit(why) => Err(Problem::new(Kind::Unfit, why)),
        Decided::Missing => Err(missing(which)),
    }
}

fn missing(which: Collection) -> Problem {
    let detail = format!("there is no such {}", which.one());
    Problem::new(Kind::NotFound, detail)
}

impl Door {
    /// What is asked under this id in a collection, as far as the caller may know.
    async fn asked(&self, which: Collection, caller: &Caller, id: AskId) -> Result<Asked, Problem> {
        let found = self.desk().asked(&Who::from(caller), id).await?;
        let found = found.filter(|asked| which.kinds().contains(&asked.ask.kind));
        found.ok_or_else(|| missing(which))
    }

    /// An ask with what is known of its task.
    async fn in_full(&self, asked: Asked) -> Result<Json<AskView>, Problem> {
        let task = self.task(asked.task).await?;
        Ok(Json(AskView::of(asked).within(task)))
    }
}
