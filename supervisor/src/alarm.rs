//! The alarm: admins hear of limits of which half, four fifths and all is spent, once in each period. It is
//! woken by what ends; nothing is written in anybody's way.
//!
//! What was said is known by its key in the outbox, so that it is said once, whichever process says it and
//! however often it starts.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use shared::budget::{Account, Date};
use shared::event::{Event, Live, Recorded};
use shared::id::{RunId, TaskId, TenantId};
use shared::store::{Error, Store};

use crate::budget::{self, Line};
use crate::channels::admins;
use crate::people::directory::Directory;

/// The percentages that are told of.
const LEVELS: [i64; 3] = [50, 80, 100];
/// Steps that are remembered as what may have led to it, the last ones.
const SPENDERS: usize = 64;
/// What ends so soon after something else is looked at together with it.
const TOGETHER: Duration = Duration::from_secs(1);

/// Who looks at limits and tells admins.
pub struct Alarm {
    /// Where accounts are.
    pub store: Arc<dyn Store>,
    /// Whose.
    pub tenant: TenantId,
    /// Who the admins are.
    pub people: Arc<Directory>,
    /// The channels in which they can be told.
    pub open: Arc<[&'static str]>,
}

impl Alarm {
    /// Looks whenever something that cost money has ended, until the end.
    pub async fn work(self, end: CancellationToken) {
        let mut feed = self.store.bell().feed().subscribe();
        let (mut told, mut spenders) = (BTreeSet::new(), VecDeque::new());
        loop {
            if let Err(error) = self.look(&mut told, &spenders).await {
                tracing::warn!(%error, "limits cannot be looked at now");
            }
            let next = async {
                loop {
                    match feed.recv().await {
                        Ok(Live::Event(recorded)) if costs(&recorded.event) => {
                            spenders.truncate(SPENDERS - 1);
                            spenders.push_front(recorded);
                            return true;
                        }
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => return true,
                        Err(RecvError::Closed) => return false,
                    }
                }
            };
            let paused = async {
                let goes_on = next.await;
                tokio::time::sleep(TOGETHER).await;
                goes_on
            };
            if end.run_until_cancelled(paused).await != Some(true) {
                return;
            }
        }
    }

    /// Tells of every limit of which so much is spent that it was not told of yet. `told` is what this
    /// process has told; what others have, the outbox knows. The task that spent last from the account, of
    /// those that did so lately, the last first, is told, too.
    pub async fn look(
        &self,
        told: &mut BTreeSet<String>,
        spenders: &VecDeque<Recorded>,
    ) -> Result<(), Error> {
        let now = Date::of(self.store.now());
        for line in budget::lines(&*self.store, &self.tenant).await? {
            let Some(level) = level(&line) else { continue };
            let key = key(&line, level, now);
            if told.contains(&key) {
                continue;
            }
            tracing::warn!("{}", in_words(&line, level));
            if let Some(of) = self.last_of(&line.which.account, spenders).await? {
                let alert = (key.as_str(), &*in_words(&line, level));
                let budgets = self.store.budgets();
                budgets.alert(&self.tenant, of, alert).await?;
            }
            self.tell(&key, in_words(&line, level)).await?;
            told.insert(key);
        }
        Ok(())
    }

    /// The task and the run that spent last from an account.
    async fn last_of(
        &self,
        account: &Account,
        spenders: &VecDeque<Recorded>,
    ) -> Result<Option<(TaskId, RunId)>, Error> {
        for spender in spenders {
            let Some(task) = self.store.task(&self.tenant, spender.task).await? else {
                continue;
            };
            let pays = match (account, &spender.event) {
                (Account::All, _) => true,
                (Account::User(name), _) => *name == task.principal,
                (Account::Agent(name), Event::Ended { agent, .. }) => name == agent,
                _ => false,
            };
            if pays {
                return Ok(Some((spender.task, spender.run)));
            }
        }
        Ok(None)
    }

    async fn tell(&self, key: &str, text: String) -> Result<(), Error> {
        let mut told = self.people.admins().await?;
        told.retain(|admin| self.open.contains(&admin.channel.as_str()));
        let text = format!("⚠️ {text}.");
        admins::tell((&*self.store, &self.tenant), told, (key, &text)).await
    }
}

/// Whether an account may stand otherwise after it.
fn costs(event: &Event) -> bool {
    match event {
        Event::Ended { usage, error, .. } => {
            usage.tokens() > 0 || usage.usd.nano() > 0 || error.is_some()
        }
        Event::Retrying { .. } => true,
        event => event.ends_task(),
    }
}

/// The highest percentage told of that is reached.
fn level(line: &Line) -> Option<i64> {
    let percent = line.percent()?;
    LEVELS.into_iter().rev().find(|level| percent >= *level)
}

/// Names a level of a limit in its period: a limit that is changed has levels of its own.
fn key(line: &Line, level: i64, now: Date) -> String {
    let which = &line.which;
    let (period, unit) = (which.period.as_str(), which.unit.as_str());
    let at = which.period.at(now);
    let limit = line.limit.unwrap_or_default();
    format!(
        "budget/{}/{period}/{unit}/{at}/{limit}/{level}",
        which.account
    )
}

fn in_words(line: &Line, level: i64) -> String {
    let which = &line.which;
    let time = which.period.in_words();
    let show = |amount| which.unit.show(amount);
    let (limit, spent) = (show(line.limit.unwrap_or_default()), show(line.spent));
    let rest = match level {
        100 => "nothing more is begun under it",
        _ => "`majordomo budget` shows all limits",
    };
    format!(
        "{spent} of {limit} {time} of {} are spent: {rest}",
        which.account
    )
}

#[cfg(test)]
mod tests {
    use shared::budget::{Period, Unit, Which};

    use super::*;

    #[test]
    fn each_level_of_a_period_has_its_own_word() {
        let mut line = Line {
            which: Which {
                account: Account::User("ada".into()),
                period: Period::Day,
                unit: Unit::Usd,
            },
            limit: Some(5_000_000_000),
            spent: 2_490_000_000,
            held: 0,
            set: None,
            raises: Vec::new(),
        };
        assert_eq!(level(&line), None);
        let mut told = Vec::new();
        for spent in [2_500_000_000, 4_100_000_000, 6_000_000_000] {
            line.spent = spent;
            told.push(in_words(&line, level(&line).unwrap()));
        }
        insta::assert_snapshot!(told.join("\n"), @r"
        $2.50 of $5.00 a day of user:ada are spent: `majordomo budget` shows all limits
        $4.10 of $5.00 a day of user:ada are spent: `majordomo budget` shows all limits
        $6.00 of $5.00 a day of user:ada are spent: nothing more is begun under it
        ");
        let (today, tomorrow) = (Date { day: 7, month: 1 }, Date { day: 8, month: 1 });
        assert_ne!(key(&line, 100, today), key(&line, 100, tomorrow));
        assert_eq!(key(&line, 100, today), key(&line, 100, today));
    }
}
