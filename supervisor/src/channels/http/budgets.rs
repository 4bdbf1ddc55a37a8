//! Limits and what was used, over HTTP. For admins.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};

use super::Door;
use super::input::{self, Query, check_short};
use super::problem::{Kind, Problem};
use crate::auth::{Act, Caller};
use crate::budget::{self, By, NotSet};
use crate::wire::{BudgetPage, LimitOrder, ProblemBody, UsagePage};

/// Days that are summed up where nobody says otherwise.
pub const DAYS: u32 = 30;
/// The most days that are summed up.
pub const MAX_DAYS: u32 = 3_660;

/// How accounts stand under their limits. Needs the scope `admin`.
#[utoipa::path(get, path = "/v1/budgets", tag = "budgets", operation_id = "list_budgets",
    responses(
        (status = 200, description = "All limits", body = BudgetPage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<BudgetPage>, Problem> {
    caller.may(Act::KeepBudgets)?;
    door.budgets().await
}

/// Sets a limit in the place of the configured one, from the next call of a model or a tool on. Safe to
/// repeat. Needs the scope `admin`.
#[utoipa::path(put, path = "/v1/budgets", tag = "budgets", operation_id = "set_budget",
    request_body = LimitOrder,
    responses(
        (status = 200, description = "All limits as they are now", body = BudgetPage),
        (status = 404, description = "There is no such task", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn set(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    http: Request,
) -> Result<Json<BudgetPage>, Problem> {
    caller.may(Act::KeepBudgets)?;
    let (order, _) = input::json::<LimitOrder>(http).await?;
    check_short("account", &order.account)?;
    check_short("limit", &order.limit)?;
    let words = (order.account.as_str(), order.limit.as_str());
    let desk = door.desk();
    match budget::set(&*desk.store, &desk.tenant, words, &caller.principal).await {
        Ok(_) => door.budgets().await,
        Err(NotSet::Store(error)) => Err(error.into()),
        Err(error @ NotSet::NoTask) => Err(Problem::new(Kind::NotFound, error.to_string())),
        Err(error) => Err(Problem::field("limit", error.to_string())),
    }
}

/// What was used in the last days, summed up by thread, user, agent, tool, model or day. Needs the scope
/// `admin`.
#[utoipa::path(get, path = "/v1/usage", tag = "budgets", operation_id = "usage",
    params(
        ("by" = Option<String>, Query, description = "thread, user, agent, tool, model or day; agent where absent"),
        ("days" = Option<u32>, Query, description = "So many days, today included; 30 where absent", minimum = 1, maximum = 3660)),
    responses(
        (status = 200, description = "The sums", body = UsagePage),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn usage(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    mut query: Query,
) -> Result<Json<UsagePage>, Problem> {
    caller.may(Act::KeepBudgets)?;
    let by = query
        .take("by")
        .unwrap_or_else(|| By::Agent.as_str().into());
    let by = By::parse(&by).ok_or_else(|| {
        let known = By::ALL.map(By::as_str).join(", ");
        Problem::field("by", format!("must be one of {known}"))
    })?;
    let days = query.read("days", "a number")?.unwrap_or(DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(Problem::field(
            "days",
            format!("must be from 1 to {MAX_DAYS}"),
        ));
    }
    query.finish("by and days")?;
    let desk = door.desk();
    let rows = budget::usage(&*desk.store, &desk.tenant, by, days).await?;
    let forecast = budget::forecast(&*desk.store, &desk.tenant).await?;
    Ok(Json(UsagePage::of(by, rows, forecast)))
}

impl Door {
    async fn budgets(&self) -> Result<Json<BudgetPage>, Problem> {
        let desk = self.desk();
        let lines = budget::lines(&*desk.store, &desk.tenant).await?;
        let budgets = lines.into_iter().map(Into::into).collect();
        Ok(Json(BudgetPage { budgets }))
    }
}
