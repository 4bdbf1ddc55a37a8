//! The watch over runs that use far more than their agent's usual ones: admins hear of each once, while it
//! runs, and so does whoever watches its task. What is usual is the median of finished runs.
//!
//! A step costs one look into a map. What was used before this process saw a run is read from the store,
//! once; what is usual is read again when twice as many runs have ended, and later every ten minutes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use shared::clock::{Stopwatch, stopwatch};
use shared::event::{Event, Live, Recorded};
use shared::id::{AgentName, RunId, TaskId, TenantId};
use shared::money::Usd;
use shared::store::{Error, RunSpend, StepKind, Store};

use crate::channels::admins;
use crate::people::directory::Directory;

/// Finished runs of an agent that it takes to say what is usual.
const ENOUGH: usize = 20;
/// Runs that are looked at for it, of all agents, the last ones.
const SAMPLE: u32 = 2_000;
/// So old, in seconds, what is usual is read again.
const STALE_S: f64 = 600.0;
/// Tasks whose runs are counted at a time. Those of others are read anew when they go on.
const TASKS: usize = 10_000;
/// No run is called unusual with fewer steps, or for fewer dollars, than these.
const FEW_STEPS: u64 = 10;
const LITTLE: Usd = Usd::from_nano(1_000_000);

/// Who looks at runs and tells admins.
pub struct Unusual {
    /// Where runs are.
    pub store: Arc<dyn Store>,
    /// Whose.
    pub tenant: TenantId,
    /// Who the admins are.
    pub people: Arc<Directory>,
    /// The channels in which they can be told.
    pub open: Arc<[&'static str]>,
    /// How many times the usual is unusual.
    pub times: f64,
}

/// What a run has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    steps: u64,
    usd: Usd,
}

/// What each agent's runs usually use.
type Usual = BTreeMap<AgentName, Used>;

/// What this process knows.
#[derive(Default)]
struct Known {
    usual: Usual,
    /// Since when, and of how many runs.
    read: Option<(Stopwatch, usize)>,
    /// Agents' parts that have ended since.
    ended: usize,
    runs: HashMap<TaskId, HashMap<RunId, Counted>>,
}

struct Counted {
    used: Used,
    told: bool,
}

impl Unusual {
    /// Looks at every step that ends, until the end.
    pub async fn work(self, end: CancellationToken) {
        let mut feed = self.store.bell().feed().subscribe();
        let mut known = Known::default();
        loop {
            let next = match end.run_until_cancelled(feed.recv()).await {
                None | Some(Err(RecvError::Closed)) => return,
                Some(next) => next,
            };
            let seen = match next {
                Ok(Live::Event(recorded)) => self.see(&mut known, &recorded).await,
                // What was missed is in the store.
                Err(_) => {
                    known.runs.clear();
                    Ok(())
                }
                Ok(Live::Delta { .. }) => Ok(()),
            };
            if let Err(error) = seen {
                tracing::warn!(%error, "what runs use cannot be looked at now");
                known.runs.clear();
            }
        }
    }

    async fn see(&self, known: &mut Known, recorded: &Recorded) -> Result<(), Error> {
        let (task, run) = (recorded.task, recorded.run);
        if recorded.event.ends_task() {
            let runs = known.runs.remove(&task);
            known.ended += runs.map_or(0, |runs| runs.len());
            return Ok(());
        }
        // The task's own run is nobody's usual one: no two tasks are alike.
        let Event::Ended {
            key, agent, usage, ..
        } = &recorded.event
        else {
            return Ok(());
        };
        if run == task.into() {
            return Ok(());
        }
        self.read_again(known).await?;
        if known.runs.len() >= TASKS && !known.runs.contains_key(&task) {
            known.runs.clear();
        }
        let runs = known.runs.entry(task).or_default();
        let counted = match runs.get_mut(&run) {
            Some(counted) => {
                counted.used.steps += 1;
                counted.used.usd += usage.usd;
                counted
            }
            None => {
                let used = match key.as_str() {
                    "think/1" => Used {
                        steps: 1,
                        usd: usage.usd,
                    },
                    _ => self.used(run).await?,
                };
                runs.entry(run).or_insert(Counted { used, told: false })
            }
        };
        let Some(usual) = known.usual.get(agent).filter(|_| !counted.told) else {
            return Ok(());
        };
        if !is_unusual(counted.used, *usual, self.times) {
            return Ok(());
        }
        counted.told = true;
        // By the journal, and whether it is one of ours at all.
        let used = self.used(run).await?;
        match is_unusual(used, *usual, self.times) {
            true => self.tell((task, run), agent, (used, *usual)).await,
            false => Ok(()),
        }
    }

    /// What a run has used by its journal.
    async fn used(&self, run: RunId) -> Result<Used, Error> {
        let mut used = Used::default();
        for step in self.store.steps(&self.tenant, run).await? {
            if let (StepKind::Think | StepKind::Tool, Some(recorded)) = (step.kind, step.recorded) {
                used.steps += 1;
                used.usd += recorded.usage.usd;
            }
        }
        Ok(used)
    }

    /// Reads what is usual where too little was known, or too long ago.
    async fn read_again(&self, known: &mut Known) -> Result<(), Error> {
        let due = match &known.read {
            None => true,
            Some((since, of)) => {
                let more = *of < SAMPLE as usize && known.ended >= ENOUGH.max(*of);
                more || since.seconds() > STALE_S
            }
        };
        if due {
            let runs = self.store.budgets().finished(&self.tenant, SAMPLE).await?;
            known.read = Some((stopwatch(), runs.len()));
            known.ended = 0;
            known.usual = usual(&runs);
        }
        Ok(())
    }

    async fn tell(
        &self,
        (task, run): (TaskId, RunId),
        agent: &AgentName,
        (used, usual): (Used, Used),
    ) -> Result<(), Error> {
        let text = format!(
            "{agent} has used {} in {} steps in one run of task {task}; usual are {} and {} steps",
            used.usd, used.steps, usual.usd, usual.steps
        );
        tracing::warn!(task.id = %task, run.id = %run, agent.name = %agent, "{text}");
        let key = format!("unusual/{run}");
        let budgets = self.store.budgets();
        budgets
            .alert(&self.tenant, (task, run), (&key, &text))
            .await?;
        let mut told = self.people.admins().await?;
        told.retain(|admin| self.open.contains(&admin.channel.as_str()));
        let text = format!("⚠️ {text}. `majordomo tasks show {task}` shows what it does.");
        admins::tell((&*self.store, &self.tenant), told, (&key, &text)).await
    }
}

/// The median of each agent of which enough runs have finished.
fn usual(runs: &[RunSpend]) -> Usual {
    let mut of: BTreeMap<&AgentName, (Vec<u64>, Vec<Usd>)> = BTreeMap::new();
    for run in runs {
        let (steps, usd) = of.entry(&run.agent).or_default();
        steps.push(run.steps);
        usd.push(run.usd);
    }
    let enough = of
        .into_iter()
        .filter(|(_, (steps, _))| steps.len() >= ENOUGH);
    let median = |(agent, (steps, usd)): (&AgentName, (Vec<u64>, Vec<Usd>))| {
        let used = Used {
            steps: middle(steps),
            usd: middle(usd),
        };
        (agent.clone(), used)
    };
    enough.map(median).collect()
}

/// The median; of an even number the lower one.
fn middle<T: Ord + Copy + Default>(mut all: Vec<T>) -> T {
    let at = all.len().saturating_sub(1) / 2;
    match all.is_empty() {
        true => T::default(),
        false => *all.select_nth_unstable(at).1,
    }
}

fn is_unusual(used: Used, usual: Used, times: f64) -> bool {
    let steps = used.steps >= FEW_STEPS && used.steps as f64 > usual.steps as f64 * times;
    let dear = used.usd >= LITTLE && used.usd.dollars() > usual.usd.dollars() * times;
    steps || (dear && usual.usd > Usd::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(steps: u64, cents: i64) -> Used {
        Used {
            steps,
            usd: Usd::from_nano(cents * 10_000_000),
        }
    }

    #[test]
    fn usual_is_the_median_of_enough_runs() {
        let run = |agent: &str, steps, cents| RunSpend {
            agent: agent.into(),
            steps,
            usd: used(0, cents).usd,
        };
        let mut runs: Vec<RunSpend> = (0..19).map(|n| run("writer", 4 + n % 3, 10)).collect();
        assert_eq!(usual(&runs), Usual::new(), "too few");
        // One that went wild moves nothing.
        runs.push(run("writer", 900, 90_000));
        runs.push(run("researcher", 1, 1));
        let expected = Usual::from([("writer".into(), used(5, 10))]);
        assert_eq!(usual(&runs), expected);
    }

    #[test]
    fn more_than_so_many_times_the_usual_is_unusual() {
        let table = [
            (used(20, 50), used(4, 10), false),
            (used(21, 50), used(4, 10), true),
            (used(3, 51), used(4, 10), true),
            // What costs nothing usually, and few steps, say nothing.
            (used(3, 51), used(4, 0), false),
            (used(6, 0), used(1, 0), false),
            (used(11, 0), used(1, 0), true),
        ];
        for (used, usual, expected) in table {
            assert_eq!(is_unusual(used, usual, 5.0), expected, "{used:?} {usual:?}");
        }
    }
}
