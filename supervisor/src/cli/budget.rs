//! `majordomo budget` and `majordomo usage`: limits, and what was used, through a live instance or in the
//! store.

use clap::{Args, Subcommand};

use shared::id::PrincipalId;

use super::access::Access;
use super::context::Context;
use super::exit::{Exit, Fault};
use super::words;
use crate::auth::LOCAL;
use crate::budget::{self, By, NotSet};
use crate::desk::Desk;
use crate::wire::{BudgetView, LimitOrder, RegardView, UsagePage, UsageView};

/// Shows limits with what is spent and held; changes them.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Budget {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set a limit, in the place of the one in majordomo.toml.
    #[command(after_help = "Examples:
  majordomo budget set all 20.00/day
  majordomo budget set user:ada 5.00/day
  majordomo budget set agent:researcher '200k tokens/month'
  majordomo budget set task:TASK_ID 4.00         one task, for all its time
  majordomo budget set user:ada none/day         no limit
  majordomo budget set user:ada configured/day   that of majordomo.toml again")]
    Set {
        /// Who: `all`, `user:NAME`, `agent:NAME` or `task:ID`.
        account: String,
        /// How much, in which time.
        limit: String,
    },
}

/// Shows what was used, and what this month may come to.
#[derive(Debug, Args)]
pub struct Usage {
    /// Sum up by this.
    #[arg(long, value_name = "WHAT", default_value = "agent",
          value_parser = ["thread", "user", "agent", "tool", "model", "day"])]
    by: String,
    /// So many days, today included.
    #[arg(long, value_name = "DAYS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: u32,
    /// Say also what this month comes to if it goes on as in the last week.
    #[arg(long)]
    forecast: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `majordomo budget`.
pub async fn budget(context: &Context, budget: Budget) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let done = match &budget.command {
        None => list(context, &access, budget.json).await,
        Some(Command::Set { account, limit }) => set(context, &access, (account, limit)).await,
    };
    access.close().await;
    done
}

/// The desk of a store in which nothing runs, with the limits of the configuration.
fn planned(context: &Context, desk: Desk) -> anyhow::Result<Desk> {
    let settings = context.equip()?.config.settings;
    let plan = settings.budget.plan(&settings.limits);
    desk.store.budgets().plan(plan);
    Ok(desk)
}

async fn list(context: &Context, access: &Access, json: bool) -> anyhow::Result<Exit> {
    let budgets: Vec<BudgetView> = match access.desk() {
        Err(client) => client.budgets().await?,
        Ok(desk) => {
            let desk = planned(context, desk)?;
            let lines = budget::lines(&*desk.store, &desk.tenant).await?;
            lines.into_iter().map(Into::into).collect()
        }
    };
    match json {
        true => words::say(serde_json::to_string_pretty(&budgets)?),
        false => words::say(table(&budgets).trim_end()),
    }
    Ok(Exit::Done)
}

async fn set(
    context: &Context,
    access: &Access,
    (account, limit): (&str, &str),
) -> anyhow::Result<Exit> {
    let budgets: Vec<BudgetView> = match access.desk() {
        Err(client) => {
            let (account, limit) = (account.to_owned(), limit.to_owned());
            client.set_budget(&LimitOrder { account, limit }).await?
        }
        Ok(desk) => {
            let desk = planned(context, desk)?;
            let by = PrincipalId::from(LOCAL);
            let set = budget::set(&*desk.store, &desk.tenant, (account, limit), &by).await;
            set.map_err(|error| match error {
                NotSet::Store(error) => anyhow::Error::from(error),
                NotSet::NoTask => Fault::failed(error.to_string()).into(),
                error => Fault::usage(error.to_string()).into(),
            })?;
            let lines = budget::lines(&*desk.store, &desk.tenant).await?;
            lines.into_iter().map(Into::into).collect()
        }
    };
    eprintln!("it holds from the next call of a model or a tool on");
    words::say(table(&budgets).trim_end());
    Ok(Exit::Done)
}

fn table(budgets: &[BudgetView]) -> String {
    let row = |budget: &BudgetView| {
        let show = |amount: f64| match budget.unit.as_str() {
            "usd" => words::usd(amount),
            _ => format!("{} tokens", words::number(amount as u64)),
        };
        let by = match (&budget.set_by, budget.limit) {
            (Some(by), _) => words::line(by),
            (None, Some(_)) => "majordomo.toml".into(),
            (None, None) => "nobody".into(),
        };
        let raised = budget.raised.iter().map(|raise| {
            let (more, by) = (show(raise.amount), words::line(&raise.by));
            format!(" + {more} by {by}")
        });
        let by = raised.fold(by, |all, one| all + &one);
        let share = budget.percent.map(|percent| format!("{percent} %"));
        vec![
            words::line(&budget.account),
            budget.period.clone(),
            budget.limit.map_or("none".into(), show),
            show(budget.spent),
            show(budget.held),
            share.unwrap_or_default(),
            by,
        ]
    };
    let rows: Vec<Vec<String>> = budgets.iter().map(row).collect();
    let head = [
        "account", "period", "limit", "spent", "held", "used", "set by",
    ];
    words::table(&head, &rows, &[2, 3, 4, 5])
}

/// Runs `majordomo usage`.
pub async fn usage(context: &Context, usage: Usage) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let done = used(&access, &usage).await;
    access.close().await;
    done
}

async fn used(access: &Access, usage: &Usage) -> anyhow::Result<Exit> {
    let by = By::parse(&usage.by).unwrap_or(By::Agent);
    let page: UsagePage = match access.desk() {
        Err(client) => client.usage(by.as_str(), usage.days).await?,
        Ok(desk) => {
            let rows = budget::usage(&*desk.store, &desk.tenant, by, usage.days).await?;
            UsagePage::of(
                by,
                rows,
                budget::forecast(&*desk.store, &desk.tenant).await?,
            )
        }
    };
    if usage.json {
        words::say(serde_json::to_string_pretty(&page)?);
        return Ok(Exit::Done);
    }
    words::say(sums(&page).trim_end());
    if usage.forecast {
        let forecast = &page.forecast;
        words::say(format!(
            "\nthis month: {} so far, about {} by its end at {} a day, as in the last seven",
            words::usd(forecast.so_far_usd),
            words::usd(forecast.month_usd),
            words::usd(forecast.a_day_usd)
        ));
    }
    Ok(Exit::Done)
}

fn sums(page: &UsagePage) -> String {
    let with_feedback = page.by == "agent";
    let cells = |name: String, row: &UsageView| {
        let mut cells = vec![
            name,
            words::number(row.count),
            words::number(row.tokens_in),
            words::number(row.tokens_cached),
            words::number(row.tokens_out),
            words::usd(row.usd),
        ];
        if with_feedback {
            let count = |of: fn(&RegardView) -> u64| {
                let counted = row.feedback.as_ref().map(of);
                counted.map_or(String::new(), words::number)
            };
            cells.extend([
                count(|it| it.good),
                count(|it| it.bad),
                count(|it| it.signs),
            ]);
        }
        cells
    };
    let row = |row: &UsageView| {
        let name = match row.name.as_str() {
            "" => "(none)".to_owned(),
            name => words::line(name),
        };
        cells(name, row)
    };
    let mut rows: Vec<Vec<String>> = page.usage.iter().map(row).collect();
    rows.push(cells("all".into(), &page.sum()));
    let counted = match page.by.as_str() {
        "thread" => "tasks",
        _ => "attempts",
    };
    let mut head = vec![
        page.by.as_str(),
        counted,
        "tokens in",
        "cached",
        "tokens out",
        "cost",
    ];
    if with_feedback {
        head.extend(["good", "bad", "signs"]);
    }
    words::table(&head, &rows, &[1, 2, 3, 4, 5, 6, 7, 8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RaiseView;

    #[test]
    fn budgets_and_usage_read_well() {
        let view = |account: &str, unit: &str, limit, spent, set_by: Option<&str>| BudgetView {
            account: account.into(),
            period: "day".into(),
            unit: unit.into(),
            limit,
            spent,
            held: 0.0,
            percent: limit.map(|limit| (spent * 100.0 / limit) as i64),
            set_by: set_by.map(Into::into),
            set_at_ms: set_by.map(|_| 1),
            raised: Vec::new(),
        };
        let raise = RaiseView {
            amount: 2.0,
            by: "boss".into(),
            at_ms: 2,
            escalation: String::new(),
        };
        let budgets = [
            view("all", "usd", None, 12.5, None),
            BudgetView {
                raised: vec![raise],
                ..view("user:ada", "usd", Some(7.0), 4.0, Some("ops"))
            },
            view("agent:writer", "tokens", Some(200_000.0), 1_500.0, None),
        ];
        let row = |name: &str, usd| UsageView {
            name: name.into(),
            count: 3,
            usd,
            tokens_in: 1_200,
            tokens_cached: 200,
            tokens_out: 300,
            feedback: None,
        };
        let rated = UsageView {
            feedback: Some(RegardView {
                good: 12,
                bad: 1,
                signs: 3,
            }),
            ..row("writer", 0.5)
        };
        let page = UsagePage {
            by: "agent".into(),
            usage: vec![rated, row("", 0.25)],
            forecast: Default::default(),
        };
        insta::assert_snapshot!(format!("{}\n{}", table(&budgets), sums(&page)));
    }
}
