//! The budget: who pays, what may be spent in which time, and what is admitted under it. Pure.
//!
//! ```text
//!   worst case ──admit──► held ──settle──► spent          spent + held + worst case <= limit
//!                  └─► over: the attempt is not begun
//! ```
//! Every attempt is paid from four accounts at once: its task's, its person's, its agent's and that of
//! everybody together. A child's attempts are paid from the same ones as its parent's. What an attempt
//! used beyond its worst case is spent all the same, and nothing further is admitted then. Sums are kept
//! by the store, in the commits that begin and end attempts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, AskId, PrincipalId, TaskId};
use crate::money::{Usage, Usd};
use crate::run::{Evidence, Timestamp};

/// The part of a limit that is kept back for last summaries: one in so many.
const KEPT_BACK: i64 = 20;

/// Somebody or something that pays. The order is the one in which accounts are locked: who holds that of
/// all, which every attempt is paid from, waits for nobody else's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Everybody together.
    All,
    /// An agent, whoever it works for.
    Agent(AgentName),
    /// One task with all its parts.
    Task(TaskId),
    /// A person or a token.
    User(PrincipalId),
}

impl Account {
    /// Its kind and its name, as the store holds them.
    pub fn as_row(&self) -> (&'static str, String) {
        match self {
            Account::Agent(name) => ("agent", name.to_string()),
            Account::All => ("all", String::new()),
            Account::Task(id) => ("task", id.to_string()),
            Account::User(name) => ("user", name.to_string()),
        }
    }

    /// The account of this kind and name.
    pub fn of_row(scope: &str, subject: &str) -> Option<Self> {
        match (scope, subject) {
            ("all", "") => Some(Account::All),
            (_, "") => None,
            ("agent", name) => Some(Account::Agent(name.into())),
            ("task", id) => id.parse().ok().map(Account::Task),
            ("user", name) => Some(Account::User(name.into())),
            _ => None,
        }
    }

    /// Who it is, for people who are asked about it.
    pub fn in_words(&self) -> String {
        match self {
            Account::All => "everybody together".into(),
            Account::Agent(name) => format!("the agent {name}"),
            Account::Task(_) => "this task".into(),
            Account::User(name) => name.to_string(),
        }
    }
}

impl fmt::Display for Account {
    /// `all`, `user:ada`, `agent:writer`, `task:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_row() {
            ("all", _) => f.write_str("all"),
            (scope, subject) => write!(f, "{scope}:{subject}"),
        }
    }
}

/// A text names no account, or no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No account.
    #[error("{0:?} is no account: write `all`, `user:NAME`, `agent:NAME` or `task:ID`")]
    Account(String),
    /// No amount for a time.
    #[error(
        "{0:?} is no limit: write dollars or tokens and a time, such as `5.00/day`, `100k tokens/month` or, for \
         all time, `2.00`; `none/day` for no limit, `configured/day` for that of majordomo.toml"
    )]
    Limit(String),
}

impl FromStr for Account {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let (scope, subject) = text.split_once(':').unwrap_or((text, ""));
        Account::of_row(scope, subject).ok_or_else(|| Unreadable::Account(text.to_owned()))
    }
}

impl Serialize for Account {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The time that a limit is for. Days and months are those of UTC, by the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A day.
    Day,
    /// A calendar month.
    Month,
    /// All time.
    Total,
}

impl Period {
    /// All periods.
    pub const ALL: [Period; 3] = [Period::Day, Period::Month, Period::Total];

    /// Its name in the store and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Month => "month",
            Period::Total => "total",
        }
    }

    /// What follows an amount for it: `$5.00 a day`.
    pub fn in_words(self) -> &'static str {
        match self {
            Period::Day => "a day",
            Period::Month => "a month",
            Period::Total => "in all",
        }
    }

    /// The one that is now: `$5.00 this day`.
    pub fn now_in_words(self) -> &'static str {
        match self {
            Period::Day => "this day",
            Period::Month => "this month",
            Period::Total => "in all",
        }
    }

    /// The number of the one that a date is in. All time is one.
    pub fn at(self, date: Date) -> i64 {
        match self {
            Period::Day => date.day,
            Period::Month => date.month,
            Period::Total => 0,
        }
    }

    /// The period of this name.
    pub fn parse(name: &str) -> Option<Period> {
        Self::ALL.into_iter().find(|period| period.as_str() == name)
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Dollars; amounts are billionths.
    Usd,
    /// Tokens sent and received.
    Tokens,
}

impl Unit {
    /// Both units.
    pub const ALL: [Unit; 2] = [Unit::Usd, Unit::Tokens];

    /// Its name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Usd => "usd",
            Unit::Tokens => "tokens",
        }
    }

    /// The unit of this name.
    pub fn parse(name: &str) -> Option<Unit> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == name)
    }

    /// An amount of it, for people: `$2.00`, `5000 tokens`.
    pub fn show(self, amount: i64) -> String {
        match self {
            Unit::Usd => Usd::from_nano(amount).to_string(),
            Unit::Tokens => format!("{amount} tokens"),
        }
    }
}

/// Dollars and tokens together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Billionths of a dollar.
    pub usd: i64,
    /// Tokens sent and received.
    pub tokens: i64,
}

impl Sum {
    /// The amount of a unit in it.
    pub fn of(self, unit: Unit) -> i64 {
        match unit {
            Unit::Usd => self.usd,
            Unit::Tokens => self.tokens,
        }
    }

    /// Whether nothing is in it.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl From<Usage> for Sum {
    fn from(usage: Usage) -> Self {
        Self {
            usd: usage.usd.nano(),
            tokens: i64::try_from(usage.tokens()).unwrap_or(i64::MAX),
        }
    }
}

impl std::ops::Add for Sum {
    type Output = Sum;
    fn add(self, other: Sum) -> Sum {
        Sum {
            usd: self.usd.saturating_add(other.usd),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }
}

impl std::ops::Neg for Sum {
    type Output = Sum;
    fn neg(self) -> Sum {
        Sum {
            usd: self.usd.saturating_neg(),
            tokens: self.tokens.saturating_neg(),
        }
    }
}

/// How an account stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Spent today.
    pub day: Sum,
    /// Spent this month.
    pub month: Sum,
    /// Spent since the account began.
    pub total: Sum,
    /// Held for attempts under way.
    pub held: Sum,
}

impl Standing {
    /// What was spent in a period.
    pub fn spent(&self, period: Period) -> Sum {
        match period {
            Period::Day => self.day,
            Period::Month => self.month,
            Period::Total => self.total,
        }
    }

    /// The same with more spent now, and more or less held.
    pub fn moved(&self, spent: Sum, held: Sum) -> Self {
        let held = self.held + held;
        Self {
            day: self.day + spent,
            month: self.month + spent,
            total: self.total + spent,
            // What was begun before accounts were kept is ended without having been held.
            held: Sum {
                usd: held.usd.max(0),
                tokens: held.tokens.max(0),
            },
        }
    }
}

/// Milliseconds of a day: those of UTC are all of one length.
const DAY_MS: i64 = 86_400_000;

/// A day and its month, as numbers that grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Days since 1970.
    pub day: i64,
    /// Months since the year 0.
    pub month: i64,
}

impl Date {
    /// The date of a time, by UTC.
    pub fn of(at: Timestamp) -> Self {
        let date = civil(at);
        Self {
            day: at.0.div_euclid(DAY_MS),
            month: i64::from(date.year()) * 12 + i64::from(date.month()) - 1,
        }
    }

    /// The moment at which a day begins, given in days since 1970.
    pub fn begin(day: i64) -> Timestamp {
        Timestamp(day.saturating_mul(DAY_MS))
    }

    /// The day of its month that a time is in, from one, and how many days of that month there are from
    /// this one on, itself included.
    pub fn in_month(at: Timestamp) -> (i64, i64) {
        let date = civil(at);
        let (day, days) = (i64::from(date.day()), i64::from(date.days_in_month()));
        (day, days - day + 1)
    }
}

fn civil(at: Timestamp) -> jiff::civil::Date {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// Limits of an account in one period; none where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cap {
    /// Dollars.
    pub usd: Option<Usd>,
    /// Tokens sent and received.
    pub tokens: Option<u64>,
}

impl Cap {
    /// The limit of a unit.
    pub fn of(&self, unit: Unit) -> Option<i64> {
        match unit {
            Unit::Usd => self.usd.map(Usd::nano),
            Unit::Tokens => self.tokens.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
        }
    }

    /// The narrower of both.
    pub fn min(self, other: Cap) -> Cap {
        let tokens = [self.tokens, other.tokens].into_iter().flatten().min();
        let usd = [self.usd, other.usd].into_iter().flatten().min();
        Cap { usd, tokens }
    }
}

/// Limits of an account in each period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Caps {
    /// In a day.
    pub day: Cap,
    /// In a month.
    pub month: Cap,
    /// In all.
    pub total: Cap,
}

impl Caps {
    fn of(&self, period: Period) -> &Cap {
        match period {
            Period::Day => &self.day,
            Period::Month => &self.month,
            Period::Total => &self.total,
        }
    }
}

/// The limits that the configuration sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What one task may use; taken down with the task when it comes in.
    pub task: Cap,
    /// What everybody together may use.
    pub all: Caps,
    /// What each person may use.
    pub each_user: Caps,
    /// What each agent may use.
    pub each_agent: Caps,
    /// What single people may use instead.
    pub users: BTreeMap<PrincipalId, Caps>,
    /// What single agents may use instead.
    pub agents: BTreeMap<AgentName, Caps>,
}

impl Plan {
    /// The configured limit of an account. A task's stands with the task.
    pub fn limit(&self, account: &Account, period: Period, unit: Unit) -> Option<i64> {
        let (own, usual) = match account {
            Account::All => (Some(&self.all), None),
            Account::User(name) => (self.users.get(name), Some(&self.each_user)),
            Account::Agent(name) => (self.agents.get(name), Some(&self.each_agent)),
            Account::Task(_) => (None, None),
        };
        let mut caps = own.into_iter().chain(usual);
        caps.find_map(|caps| caps.of(period).of(unit))
    }
}

/// Which limit: an account, a time and a unit have one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Which {
    /// Whose.
    pub account: Account,
    /// In what time.
    pub period: Period,
    /// Of what.
    pub unit: Unit,
}

impl Which {
    /// All limits that an account may have.
    pub fn all_of(account: &Account) -> impl Iterator<Item = Which> {
        let each = Period::ALL
            .into_iter()
            .flat_map(|period| Unit::ALL.map(|unit| (period, unit)));
        each.map(|(period, unit)| Which {
            account: account.clone(),
            period,
            unit,
        })
    }
}

/// A limit that somebody set while the instance ran; it goes before the configured one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Which.
    pub which: Which,
    /// How much; none for no limit at all.
    pub amount: Option<i64>,
    /// Who set it.
    pub by: PrincipalId,
    /// When.
    pub at: Timestamp,
}

/// What somebody added to a limit by their word on an ask. It counts until its day or month is over, or
/// until somebody sets the limit anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    /// To which limit.
    pub which: Which,
    /// How much.
    pub amount: i64,
    /// By which ask.
    pub ask: AskId,
    /// Who said so.
    pub by: PrincipalId,
    /// When.
    pub at: Timestamp,
}

/// What somebody wants a limit to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So much.
    Limit(i64),
    /// No limit at all.
    Unlimited,
    /// The one of the configuration again.
    Configured,
}

/// Reads `5.00/day`, `$5/month`, `200000 tokens/day`, `100k tokens`, `none/day`, `configured tokens/day`:
/// how much of what, in which time.
pub fn read_limit(text: &str) -> Result<(Wanted, Unit, Period), Unreadable> {
    let unreadable = || Unreadable::Limit(text.to_owned());
    let (amount, period) = match text.rsplit_once('/') {
        Some((amount, period)) => (amount, Period::parse(period.trim())),
        None => (text, Some(Period::Total)),
    };
    let period = period.ok_or_else(unreadable)?;
    let amount = amount.trim();
    let (amount, unit) = match amount.strip_suffix("tokens") {
        Some(amount) => (amount.trim(), Unit::Tokens),
        None => (amount.strip_prefix('$').unwrap_or(amount), Unit::Usd),
    };
    let wanted = match amount {
        "none" => Wanted::Unlimited,
        "configured" => Wanted::Configured,
        amount => Wanted::Limit(read_amount(amount, unit).ok_or_else(unreadable)?),
    };
    Ok((wanted, unit, period))
}

fn read_amount(text: &str, unit: Unit) -> Option<i64> {
    let (digits, times) = match (unit, text.strip_suffix('k'), text.strip_suffix('M')) {
        (Unit::Tokens, Some(digits), _) => (digits, 1e3),
        (Unit::Tokens, _, Some(digits)) => (digits, 1e6),
        _ => (text, 1.0),
    };
    let number: f64 = digits.trim().replace('_', "").parse().ok()?;
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    Some(match unit {
        Unit::Usd => Usd::from_dollars(number).nano(),
        Unit::Tokens => (number * times) as i64,
    })
}

/// Why an attempt was not begun: what it would have used at worst does not fit under a limit. It stands
/// as evidence with the step, for whoever may raise the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// Which limit.
    #[serde(flatten)]
    pub which: Which,
    /// The limit.
    pub limit: i64,
    /// What is spent of it.
    pub spent: i64,
    /// What is held of it for other attempts.
    pub held: i64,
    /// What the attempt would have used at worst.
    pub wanted: i64,
}

/// The kind of evidence that an [`Over`] stands under.
pub const OVER: &str = "over_budget";

impl fmt::Display for Over {
    /// `$5.00 a day of user:ada: $4.20 are spent, $0.30 held for what is under way, and this may cost $0.60`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Which {
            account,
            period,
            unit,
        } = &self.which;
        let time = period.in_words();
        let show = |amount| unit.show(amount);
        let (limit, spent, wanted) = (show(self.limit), show(self.spent), show(self.wanted));
        write!(f, "{limit} {time} of {account}: {spent} are spent, ")?;
        if self.held > 0 {
            write!(f, "{} held for what is under way, ", show(self.held))?;
        }
        write!(f, "and this may cost {wanted}")
    }
}

impl Over {
    /// The one that stands with a step, where its attempt was not begun because of one.
    pub fn in_evidence(evidence: &[Evidence]) -> Option<Self> {
        let over = evidence.iter().find(|found| found.kind == OVER)?;
        serde_json::from_str(&over.value).ok()
    }

    /// What holds up all that is paid from the account: one name for all of it.
    pub fn cause(&self) -> String {
        let Which {
            account,
            period,
            unit,
        } = &self.which;
        let unit = match unit {
            Unit::Usd => "",
            Unit::Tokens => "/tokens",
        };
        format!("budget/{account}/{}{unit}", period.as_str())
    }

    /// How much more is offered: as much again, and at least so much that the attempt fits.
    pub fn more(&self) -> i64 {
        let needed = self.spent.saturating_add(self.held);
        let needed = needed.saturating_add(self.wanted);
        let kept_back = needed / (KEPT_BACK - 1) + 1;
        let short = needed.saturating_add(kept_back) - self.limit;
        self.limit.max(short)
    }

    /// What people are asked: `ada has spent $1.93 of $2.00 this day, and the next call may cost $0.1000; add
    /// $2.00?`
    pub fn question(&self) -> String {
        let Which {
            account,
            period,
            unit,
        } = &self.which;
        let show = |amount| unit.show(amount);
        let (spent, limit) = (show(self.spent), show(self.limit));
        let (wanted, more) = (show(self.wanted), show(self.more()));
        let held = match self.held {
            0 => String::new(),
            held => format!("{} more are held for what is under way, ", show(held)),
        };
        format!(
            "{} has spent {spent} of {limit} {}, {held}and the next call may cost {wanted}; add {more}?",
            account.in_words(),
            period.now_in_words()
        )
    }
}

/// Whether an attempt that uses `worst` at worst may begin under one limit of an account that stands so.
/// What is kept back is for the `last` summary alone; an account that nothing was spent from keeps
/// nothing back, because there is nothing to sum up.
pub fn admit(
    (which, limit): (&Which, i64),
    standing: &Standing,
    worst: Sum,
    last: bool,
) -> Result<(), Over> {
    let unit = which.unit;
    let (spent, held) = (
        standing.spent(which.period).of(unit),
        standing.held.of(unit),
    );
    let wanted = worst.of(unit);
    let kept_back = match last || (spent == 0 && held == 0) {
        true => 0,
        false => limit / KEPT_BACK,
    };
    let needed = spent.saturating_add(held).saturating_add(wanted);
    match wanted <= 0 || needed <= limit - kept_back {
        true => Ok(()),
        false => Err(Over {
            which: which.clone(),
            limit,
            spent,
            held,
            wanted,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which() -> Which {
        Which {
            account: Account::User("ada".into()),
            period: Period::Day,
            unit: Unit::Usd,
        }
    }

    fn usd(usd: i64) -> Sum {
        Sum { usd, tokens: 0 }
    }

    #[test]
    fn accounts_and_limits_are_read_as_they_are_shown() {
        for text in ["all", "user:ada", "agent:writer", "user:telegram:7"] {
            assert_eq!(text.parse::<Account>().unwrap().to_string(), text);
        }
        for text in ["", "user:", "all:x", "team:x", "task:7"] {
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
        use Wanted::{Configured, Limit, Unlimited};
        let dollars = |n: f64| Limit(Usd::from_dollars(n).nano());
        let table = [
            ("5.00/day", (dollars(5.0), Unit::Usd, Period::Day)),
            ("$0.5/month", (dollars(0.5), Unit::Usd, Period::Month)),
            ("2", (dollars(2.0), Unit::Usd, Period::Total)),
            (
                "100k tokens/day",
                (Limit(100_000), Unit::Tokens, Period::Day),
            ),
            (
                "200_000tokens",
                (Limit(200_000), Unit::Tokens, Period::Total),
            ),
            ("none/day", (Unlimited, Unit::Usd, Period::Day)),
            (
                "configured tokens/month",
                (Configured, Unit::Tokens, Period::Month),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(read_limit(text), Ok(expected), "{text}");
        }
        for text in ["", "5/week", "-1/day", "five/day", "NaN", "5k/day"] {
            assert!(read_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_narrowest_configured_limit_is_the_own_one() {
        let day = |dollars| Caps {
            day: Cap {
                usd: Some(Usd::from_dollars(dollars)),
                tokens: None,
            },
            ..Caps::default()
        };
        let plan = Plan {
            each_user: day(1.0),
            users: BTreeMap::from([("ada".into(), day(9.0))]),
            ..Plan::default()
        };
        let limit = |name: &str| {
            let account = Account::User(name.into());
            plan.limit(&account, Period::Day, Unit::Usd)
        };
        assert_eq!(limit("ada"), Some(9_000_000_000));
        assert_eq!(limit("bob"), Some(1_000_000_000));
        assert_eq!(plan.limit(&Account::All, Period::Day, Unit::Usd), None);
    }

    #[test]
    fn days_and_months_are_those_of_utc() {
        let of = |text: &str| {
            let at: jiff::Timestamp = text.parse().unwrap();
            Date::of(Timestamp(at.as_millisecond()))
        };
        let (before, after) = (of("2026-11-30T23:59:59Z"), of("2026-12-01T00:00:00Z"));
        assert_eq!((after.day - before.day, after.month - before.month), (1, 1));
        assert_eq!(
            of("2026-12-31T12:00:00Z").month + 1,
            of("2027-01-01T00:00:00Z").month
        );
        assert_eq!(of("1969-12-31T23:59:59Z").day, -1);
        let in_month = |text: &str| {
            let at: jiff::Timestamp = text.parse().unwrap();
            Date::in_month(Timestamp(at.as_millisecond()))
        };
        assert_eq!(in_month("2028-02-01T00:00:00Z"), (1, 29));
        assert_eq!(in_month("2026-11-30T23:59:59Z"), (30, 1));
        let today = Date::of(Timestamp(1_800_000_000_000)).day;
        assert_eq!(Date::of(Date::begin(today)).day, today);
        assert_eq!(Date::of(Timestamp(Date::begin(today).0 - 1)).day, today - 1);
    }

    #[test]
    fn the_last_twentieth_is_for_the_last_summary() {
        let spent = Standing::default().moved(usd(90), usd(0));
        let limit = |last, worst| admit((&which(), 100), &spent, usd(worst), last).is_ok();
        assert!(limit(false, 5) && !limit(false, 6));
        assert!(limit(true, 10) && !limit(true, 11));
        let fresh = Standing::default();
        assert!(admit((&which(), 100), &fresh, usd(100), false).is_ok());
        assert!(admit((&which(), 100), &fresh, usd(101), true).is_err());
        // What costs nothing is no matter of dollars.
        assert!(admit((&which(), 0), &spent, usd(0), false).is_ok());
    }

    #[test]
    fn a_refusal_says_all_that_is_needed_to_decide() {
        let standing = Standing::default().moved(usd(4_200_000_000), usd(300_000_000));
        let over = admit(
            (&which(), 5_000_000_000),
            &standing,
            usd(600_000_000),
            false,
        )
        .unwrap_err();
        insta::assert_snapshot!(over, @"$5.00 a day of user:ada: $4.20 are spent, $0.3000 held for what is under way, and this may cost $0.6000");
        let read: Over = serde_json::from_value(serde_json::json!(over)).unwrap();
        assert_eq!(read, over);
        insta::assert_snapshot!(over.question(), @"ada has spent $4.20 of $5.00 this day, $0.3000 more are held for what is under way, and the next call may cost $0.6000; add $5.00?");
        assert_eq!(over.cause(), "budget/user:ada/day");
    }

    /// However an account stands: with what is offered the refused attempt fits.
    #[test]
    fn what_is_offered_is_enough_to_go_on() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let limit = random.i64(0..1_000);
            let standing =
                Standing::default().moved(usd(random.i64(0..3_000)), usd(random.i64(0..100)));
            let worst = usd(random.i64(1..2_000));
            let Err(over) = admit((&which(), limit), &standing, worst, false) else {
                continue;
            };
            assert!(over.more() >= limit, "at least as much again");
            let raised = limit + over.more();
            assert_eq!(admit((&which(), raised), &standing, worst, false), Ok(()));
        }
    }

    /// Whatever is begun and ended in whatever order: what is spent beyond a limit is at most what those
    /// attempts used beyond their worst case that were under way when the last one was admitted.
    #[test]
    fn overspend_is_at_most_the_overrun_of_what_is_under_way() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let honest = seed % 2 == 0;
            let limit = random.i64(1..2_000);
            let mut standing = Standing::default();
            let mut under_way: Vec<(i64, i64)> = Vec::new();
            let mut overrun = 0;
            for _ in 0..200 {
                if random.bool() {
                    let worst = random.i64(1..100);
                    let last = random.bool();
                    if admit((&which(), limit), &standing, usd(worst), last).is_err() {
                        continue;
                    }
                    assert!(
                        standing.day.usd < limit,
                        "seed {seed}: admitted beyond the limit"
                    );
                    let used = random.i64(0..=if honest { worst } else { 300 });
                    under_way.push((worst, used));
                    standing = standing.moved(Sum::default(), usd(worst));
                    let beyond = |(worst, used): &(i64, i64)| (used - worst).max(0);
                    overrun = under_way.iter().map(beyond).sum();
                } else if !under_way.is_empty() {
                    let (worst, used) = under_way.swap_remove(random.usize(..under_way.len()));
                    standing = standing.moved(usd(used), usd(-worst));
                }
            }
            for (worst, used) in under_way {
                standing = standing.moved(usd(used), usd(-worst));
            }
            assert_eq!(standing.held, Sum::default());
            assert!(!honest || overrun == 0);
            assert!(standing.day.usd <= limit + overrun, "seed {seed}");
        }
    }
}
