//! Budgets as people see and change them, and what was used: the same at every door. What is admitted the
//! store decides.

use std::collections::BTreeMap;

use shared::budget::{
    Account, Date, Period, Plan, Raise, Set, Standing, Unit, Unreadable, Wanted, Which, read_limit,
};
use shared::clock;
use shared::feedback::Regard;
use shared::id::{PrincipalId, TenantId};
use shared::money::Usage;
use shared::run::Timestamp;
use shared::store::{AccountRow, Error, SpendRow, Store};

/// Days whose average a forecast goes by.
const RECENT: i64 = 7;

/// A limit, and how its account stands under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub which: Which,
    /// How much, with what was added to it for now; none for no limit.
    pub limit: Option<i64>,
    /// What is spent.
    pub spent: i64,
    /// What is held for attempts under way.
    pub held: i64,
    /// Who set it, and when, where it is not the configured one.
    pub set: Option<(PrincipalId, Timestamp)>,
    /// What people added to it by their word on an ask, in this day or month, the first first.
    pub raises: Vec<Raise>,
}

impl Line {
    /// The percentage that is spent, rounded down.
    pub fn percent(&self) -> Option<i64> {
        match self.limit? {
            0 => Some(100),
            limit => Some((i128::from(self.spent) * 100 / i128::from(limit)) as i64),
        }
    }
}

/// All limits with how they stand, and what everybody together has spent where that is not limited.
pub async fn lines(store: &dyn Store, tenant: &TenantId) -> Result<Vec<Line>, Error> {
    let budgets = store.budgets();
    let accounts = budgets.accounts(tenant).await?;
    let said = (
        budgets.set_limits(tenant).await?,
        budgets.raises(tenant).await?,
    );
    let (set, raises) = (said.0.as_slice(), said.1.as_slice());
    Ok(lines_of(&accounts, (set, raises), &budgets.planned()))
}

/// The limits of one account, and how it stands under them; also where nothing was spent from it yet.
pub async fn lines_of_one(
    store: &dyn Store,
    tenant: &TenantId,
    account: &Account,
) -> Result<Vec<Line>, Error> {
    let mut lines = lines(store, tenant).await?;
    lines.retain(|line| line.which.account == *account);
    if lines.is_empty() {
        let fresh = AccountRow {
            account: account.clone(),
            standing: Standing::default(),
        };
        lines = lines_of(&[fresh], (&[], &[]), &store.budgets().planned());
        lines.retain(|line| line.which.account == *account);
    }
    Ok(lines)
}

/// What people said of limits while instances ran: what they set, and what they added for now.
type Said<'a> = (&'a [Set], &'a [Raise]);

fn lines_of(accounts: &[AccountRow], said: Said<'_>, plan: &Plan) -> Vec<Line> {
    let (set, raises) = said;
    let mut standings: BTreeMap<Account, Standing> =
        BTreeMap::from([(Account::All, Standing::default())]);
    let named = plan.users.keys().cloned().map(Account::User);
    let named = named.chain(plan.agents.keys().cloned().map(Account::Agent));
    let named = named.chain(set.iter().map(|set| set.which.account.clone()));
    let named = named.chain(raises.iter().map(|raise| raise.which.account.clone()));
    standings.extend(named.map(|account| (account, Standing::default())));
    standings.extend(
        accounts
            .iter()
            .map(|row| (row.account.clone(), row.standing)),
    );
    let mut lines = Vec::new();
    for (account, standing) in &standings {
        lines.extend(Which::all_of(account).filter_map(|which| line(which, standing, said, plan)));
    }
    lines
}

/// Lines without a limit are shown for everybody's dollars alone.
fn line(which: Which, standing: &Standing, said: Said<'_>, plan: &Plan) -> Option<Line> {
    let (set, raises) = said;
    let own = set.iter().find(|set| set.which == which);
    let raises = raises.iter().filter(|raise| raise.which == which);
    let raises: Vec<Raise> = raises.cloned().collect();
    let limit = match own {
        Some(set) => set.amount,
        None => plan.limit(&which.account, which.period, which.unit),
    };
    let more = raises.iter().map(|raise| raise.amount);
    let limit = limit.map(|limit| more.fold(limit, i64::saturating_add));
    let always = which.account == Account::All && which.unit == Unit::Usd;
    (limit.is_some() || own.is_some() || always).then(|| Line {
        limit,
        spent: standing.spent(which.period).of(which.unit),
        held: standing.held.of(which.unit),
        set: own.map(|set| (set.by.clone(), set.at)),
        raises,
        which,
    })
}

/// Why a limit was not changed.
#[derive(Debug, thiserror::Error)]
pub enum NotSet {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A task has one limit, for all its time, and none in the configuration to go back to.
    #[error("a task's limit is for all its time: write it without a time, such as `2.00`")]
    OfTask,
    /// There is no such task.
    #[error("there is no such task")]
    NoTask,
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Changes a limit by what somebody wrote: `user:ada`, `5.00/day`.
pub async fn set(
    store: &dyn Store,
    tenant: &TenantId,
    (account, limit): (&str, &str),
    by: &PrincipalId,
) -> Result<Which, NotSet> {
    let account: Account = account.trim().parse()?;
    let (wanted, unit, period) = read_limit(limit.trim())?;
    let of_task = matches!(account, Account::Task(_));
    if of_task && (period != Period::Total || wanted == Wanted::Configured) {
        return Err(NotSet::OfTask);
    }
    let which = Which {
        account,
        period,
        unit,
    };
    let amount = match wanted {
        Wanted::Limit(amount) => Some(amount),
        Wanted::Unlimited => None,
        Wanted::Configured => {
            store.budgets().unset_limit(tenant, &which).await?;
            return Ok(which);
        }
    };
    let new = Set {
        which: which.clone(),
        amount,
        by: by.clone(),
        at: store.now(),
    };
    match store.budgets().set_limit(tenant, new).await? {
        true => Ok(which),
        false => Err(NotSet::NoTask),
    }
}

/// By what usage is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Conversations.
    Thread,
    /// People and tokens.
    User,
    /// Agents.
    Agent,
    /// Tools that cost something.
    Tool,
    /// Models.
    Model,
    /// Days.
    Day,
}

impl By {
    /// All of them.
    pub const ALL: [By; 6] = [
        By::Thread,
        By::User,
        By::Agent,
        By::Tool,
        By::Model,
        By::Day,
    ];

    /// Its name on the command line and over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Thread => "thread",
            By::User => "user",
            By::Agent => "agent",
            By::Tool => "tool",
            By::Model => "model",
            By::Day => "day",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<By> {
        Self::ALL.into_iter().find(|by| by.as_str() == name)
    }

    /// What a row counts for; none where it does not count.
    fn of(self, row: &SpendRow) -> Option<String> {
        let is_tool = row.model.is_empty();
        match self {
            By::User => Some(row.principal.to_string()),
            By::Agent => Some(row.agent.to_string()),
            By::Tool => is_tool.then(|| row.what.clone()),
            By::Model => (!is_tool).then(|| row.model.clone()),
            By::Day => Some(clock::date(Date::begin(row.day))),
            By::Thread => None,
        }
    }
}

/// What somebody or something used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    /// Who or what; empty for tasks without a conversation.
    pub name: String,
    /// In how many attempts; of conversations, in how many tasks.
    pub count: u64,
    /// How much.
    pub usage: Usage,
    /// What is thought of it; of agents alone.
    pub regard: Option<Regard>,
}

/// What was used in the last days, today included: days in their order, all else the dearest first.
pub async fn usage(
    store: &dyn Store,
    tenant: &TenantId,
    by: By,
    days: u32,
) -> Result<Vec<Used>, Error> {
    let since = Date::of(store.now()).day - i64::from(days) + 1;
    if by == By::Thread {
        return store
            .budgets()
            .spent_by_thread(tenant, Date::begin(since))
            .await
            .map(|rows| {
                let row = |(name, count, usage)| Used {
                    name,
                    count,
                    usage,
                    regard: None,
                };
                dearest(rows.into_iter().map(row).collect())
            });
    }
    let rows = store.budgets().spent_since(tenant, since).await?;
    let sums = sums(&rows, by);
    match by {
        By::Agent => {
            let regards = store
                .feedback()
                .by_agent(tenant, Date::begin(since))
                .await?;
            Ok(with(sums, regards))
        }
        _ => Ok(sums),
    }
}

/// Sums of agents with what is thought of their work; those of whom nothing else is known come last.
fn with(mut sums: Vec<Used>, regards: Vec<Regard>) -> Vec<Used> {
    for regard in regards {
        let name = regard.agent.to_string();
        match sums.iter_mut().find(|sum| sum.name == name) {
            Some(sum) => sum.regard = Some(regard),
            None => sums.push(Used {
                name,
                regard: Some(regard),
                ..Used::default()
            }),
        }
    }
    sums
}

fn sums(rows: &[SpendRow], by: By) -> Vec<Used> {
    let mut sums: BTreeMap<String, Used> = BTreeMap::new();
    for row in rows {
        let Some(name) = by.of(row) else { continue };
        let sum = sums.entry(name.clone()).or_default();
        sum.name = name;
        sum.count += row.attempts;
        sum.usage += row.usage;
    }
    let sums = sums.into_values().collect();
    match by {
        By::Day => sums,
        _ => dearest(sums),
    }
}

fn dearest(mut used: Vec<Used>) -> Vec<Used> {
    used.sort_by_key(|used| std::cmp::Reverse((used.usage.usd, used.usage.tokens())));
    used
}

/// What this month will have cost by its end, if it goes on as in the last week.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Dollars of this month so far.
    pub so_far: f64,
    /// Dollars of a day, on the average of the last seven.
    pub a_day: f64,
    /// Dollars of the whole month.
    pub month: f64,
}

/// A forecast of this month, by UTC.
pub async fn forecast(store: &dyn Store, tenant: &TenantId) -> Result<Forecast, Error> {
    let now = store.now();
    let (today, (of_month, left)) = (Date::of(now).day, Date::in_month(now));
    let rows = store
        .budgets()
        .spent_since(tenant, today - of_month.max(RECENT) + 1)
        .await?;
    Ok(foresee(&rows, today, (of_month, left)))
}

/// `of_month` is the day of the month that today is, `left` the days of it from today on.
fn foresee(rows: &[SpendRow], today: i64, (of_month, left): (i64, i64)) -> Forecast {
    let dollars = |since: i64| -> f64 {
        let rows = rows.iter().filter(|row| row.day >= since);
        rows.map(|row| row.usage.usd.dollars()).sum()
    };
    let (so_far, a_day) = (
        dollars(today - of_month + 1),
        dollars(today - RECENT + 1) / RECENT as f64,
    );
    Forecast {
        so_far,
        a_day,
        month: so_far + a_day * (left - 1).max(0) as f64,
    }
}

#[cfg(test)]
mod tests {
    use shared::money::Usd;

    use super::*;

    fn row(day: i64, agent: &str, what: &str, model: &str, cents: i64) -> SpendRow {
        SpendRow {
            day,
            principal: "ada".into(),
            agent: agent.into(),
            what: what.into(),
            model: model.into(),
            attempts: 2,
            usage: Usage {
                usd: Usd::from_nano(cents * 10_000_000),
                ..Usage::default()
            },
        }
    }

    #[test]
    fn usage_is_summed_up_by_what_is_asked_for() {
        let rows = [
            row(20_001, "writer", "think", "default", 5),
            row(20_000, "writer", "think", "default", 7),
            row(20_000, "researcher", "web_search", "", 30),
        ];
        let names = |by| -> Vec<(String, i64)> {
            let sums = sums(&rows, by).into_iter();
            sums.map(|used| (used.name, used.usage.usd.nano() / 10_000_000))
                .collect()
        };
        let pair = |name: &str, cents| (name.to_owned(), cents);
        assert_eq!(names(By::User), [pair("ada", 42)]);
        assert_eq!(
            names(By::Agent),
            [pair("researcher", 30), pair("writer", 12)]
        );
        assert_eq!(names(By::Tool), [pair("web_search", 30)]);
        assert_eq!(names(By::Model), [pair("default", 12)]);
        assert_eq!(
            names(By::Day),
            [pair("2024-10-04", 37), pair("2024-10-05", 5)]
        );
    }

    #[test]
    fn a_forecast_goes_on_as_the_last_week_went() {
        let rows: Vec<SpendRow> = (0..10)
            .map(|n| row(20_000 + n, "a", "think", "m", 100))
            .collect();
        let forecast = foresee(&rows, 20_009, (3, 11));
        assert_eq!((forecast.so_far, forecast.a_day), (3.0, 1.0));
        assert!((forecast.month - 13.0).abs() < 1e-9, "{forecast:?}");
    }

    #[test]
    fn a_line_says_which_limit_holds() {
        let which = |period| Which {
            account: Account::All,
            period,
            unit: Unit::Usd,
        };
        let plan = Plan {
            all: shared::budget::Caps {
                day: shared::budget::Cap {
                    usd: Some(Usd::from_nano(100)),
                    tokens: None,
                },
                ..Default::default()
            },
            ..Plan::default()
        };
        let set = Set {
            which: which(Period::Day),
            amount: Some(200),
            by: "ops".into(),
            at: Timestamp(7),
        };
        let limits = |set: &[Set]| -> Vec<Option<i64>> {
            lines_of(&[], (set, &[]), &plan)
                .iter()
                .map(|line| line.limit)
                .collect()
        };
        assert_eq!(limits(&[]), [Some(100), None, None]);
        assert_eq!(limits(std::slice::from_ref(&set)), [Some(200), None, None]);
        let line = Line {
            which: which(Period::Day),
            limit: Some(200),
            spent: 159,
            held: 0,
            set: None,
            raises: Vec::new(),
        };
        assert_eq!(line.percent(), Some(79));
        let raise = |amount| Raise {
            which: which(Period::Day),
            amount,
            ask: shared::id::AskId::of(shared::id::RunId::fresh(), &"help/1".into()),
            by: "ops".into(),
            at: Timestamp(8),
        };
        let raised = lines_of(&[], (&[], &[raise(50), raise(7)]), &plan);
        assert_eq!((raised[0].limit, raised[0].raises.len()), (Some(157), 2));
    }
}
