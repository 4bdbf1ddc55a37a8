//! Work that costs money and goes wrong in all the ways in which it can, and a far side that counts what
//! was really used: the ledger is held against it, attempt by attempt. Used by tests and by chaos.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;

use shared::budget::{Account, Sum};
use shared::id::{StepKey, TaskId};
use shared::money::{Usage, Usd};
use shared::run::{Attempt, Effect, Exec, Failure, FailureKind, NotDone, Op, Report};
use shared::store::RunState;

use crate::engine::{Act, Bench, Code, World, done, ended, tenant, tool};
use crate::place::Place;

/// What an attempt costs at worst, in cents.
const WORST: i64 = 10;
/// How long a process lives.
const LIFE: Duration = Duration::from_millis(400);

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Tasks.
    pub tasks: u32,
    /// Operations of each.
    pub operations: u32,
    /// Processes that end in the middle, at most.
    pub deaths: u32,
}

impl Scale {
    /// Enough to notice.
    pub const SHORT: Scale = Scale {
        tasks: 60,
        operations: 6,
        deaths: 4,
    };
    /// More than ten thousand calls.
    pub const FULL: Scale = Scale {
        tasks: 1_800,
        operations: 6,
        deaths: 60,
    };
}

/// What the far side counted of one attempt, in cents, and whether it said so.
#[derive(Clone, Copy, Debug)]
struct Counted {
    cents: i64,
    said: bool,
}

type Key = (TaskId, StepKey);
type Provider = Arc<Mutex<BTreeMap<Key, Vec<Counted>>>>;

/// So many cents.
pub fn cents(cents: i64) -> Usage {
    Usage {
        usd: Usd::from_nano(cents * 10_000_000),
        tokens_in: cents as u64,
        ..Usage::default()
    }
}

/// What came of it.
pub struct Tally {
    /// Attempts in the journals.
    pub attempts: u64,
    /// Attempts of which the far side did not say what they used.
    pub unsaid: u64,
    /// Attempts that were lost.
    pub lost: u64,
    /// Tasks that were cancelled in the middle.
    pub cancelled: u64,
    /// Billionths of a dollar that were paid beyond what the far side counted.
    pub beyond: i64,
    steps: BTreeMap<Key, Vec<Attempt>>,
    counted: BTreeMap<Key, Vec<Counted>>,
    before: Option<BTreeMap<Key, Vec<Counted>>>,
    sums: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} attempts, {} whose usage nobody said, {} lost, {} tasks cancelled, {} paid beyond what \
             was counted, {} differences",
            self.attempts,
            self.unsaid,
            self.lost,
            self.cancelled,
            Usd::from_nano(self.beyond),
            self.wrong().len()
        )
    }
}

impl Tally {
    /// What is not as it must be: steps whose attempts the ledger has not all, that paid less than was
    /// counted, or that paid anything else than was counted although it was said and heard; and sums that
    /// are not the sums of their parts.
    pub fn wrong(&self) -> Vec<String> {
        let steps = self.counted.keys().filter_map(|key| self.differs(key));
        steps.chain(self.sums.iter().cloned()).collect()
    }

    fn differs(&self, key: &Key) -> Option<String> {
        let (made, counted) = (self.steps.get(key)?, self.counted.get(key)?);
        let paid: i64 = made.iter().map(|attempt| attempt.usage.usd.nano()).sum();
        let owed: i64 = counted.iter().map(|one| cents(one.cents).usd.nano()).sum();
        let heard = counted.iter().all(|one| one.said) && !made.iter().any(is_lost);
        let right = match heard {
            true => paid == owed && made.len() == counted.len(),
            false => paid >= owed && made.len() >= counted.len(),
        };
        (!right).then(|| format!("{} {}: {made:?} for {counted:?}", key.0, key.1))
    }

    /// For a control: the far side counts a call of which nobody else has heard.
    pub fn count_one_more(&mut self) {
        self.tamper(|counted| {
            counted.push(Counted {
                cents: 1,
                said: true,
            })
        });
    }

    /// For a control: the far side counts a cent more of a call.
    pub fn count_a_cent_more(&mut self) {
        self.tamper(|counted| counted[0].cents += 1);
    }

    /// Takes the last change back.
    pub fn undo(&mut self) {
        if let Some(before) = self.before.take() {
            self.counted = before;
        }
    }

    /// Changes the count of a step that went well.
    fn tamper(&mut self, change: impl FnOnce(&mut Vec<Counted>)) {
        self.before = Some(self.counted.clone());
        let steps = &self.steps;
        let well = self.counted.iter_mut().find(|(key, counted)| {
            let made = steps.get(*key).map(Vec::as_slice).unwrap_or_default();
            counted.iter().all(|one| one.said) && !made.iter().any(is_lost)
        });
        change(well.expect("something went well").1);
    }
}

fn is_lost(attempt: &Attempt) -> bool {
    let failure = attempt.failure.as_ref();
    failure.is_some_and(|failure| failure.kind == FailureKind::Lost)
}

/// Does it, with processes that end in the middle, and cancels what hangs at the end.
pub async fn work(place: &Place, scale: Scale) -> Tally {
    let provider = Provider::default();
    let start = async || {
        let (code, act) = (operations(scale.operations), unreliable(provider.clone()));
        let park = Duration::from_secs(60);
        Bench::start(place, code, act, Arc::<World>::default(), park).await
    };
    let mut bench = start().await;
    let mut tasks = Vec::new();
    for _ in 0..scale.tasks {
        tasks.push(bench.submit("work that costs").await);
    }
    let mut cancelled = 0;
    for death in 0..scale.deaths {
        tokio::time::sleep(LIFE).await;
        let open = open(&bench, &tasks).await;
        if open.is_empty() {
            break;
        }
        if death == 0 {
            // With calls in hand.
            cancelled += cancel(&bench, open.iter().step_by(2)).await;
        }
        // Calls under way are cut off; what became of them nobody recorded.
        bench.engine.freeze(Duration::ZERO).await;
        bench.store.close().await;
        place.lapse().await;
        bench = start().await;
    }
    tokio::time::sleep(LIFE).await;
    cancelled += cancel(&bench, open(&bench, &tasks).await.iter()).await;
    let counted = provider
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut tally = Tally {
        attempts: 0,
        unsaid: counted.values().flatten().filter(|one| !one.said).count() as u64,
        lost: 0,
        cancelled,
        beyond: 0,
        steps: BTreeMap::new(),
        counted,
        before: None,
        sums: Vec::new(),
    };
    add_up(&bench, &tasks, &mut tally).await;
    bench.stop().await;
    tally
}

/// Reads the journals, and compares the sums of tasks, accounts and days with theirs.
async fn add_up(bench: &Bench, tasks: &[TaskId], tally: &mut Tally) {
    let store = &bench.store;
    let mut all = Usage::default();
    for task in tasks {
        let mut used = Usage::default();
        for step in store.steps(&tenant(), (*task).into()).await.expect("steps") {
            let recorded = step.recorded.map(|recorded| recorded.attempts);
            let made = recorded.unwrap_or(step.attempts);
            used += made.iter().map(|attempt| attempt.usage).sum();
            tally.attempts += made.len() as u64;
            tally.lost += made.iter().filter(|attempt| is_lost(attempt)).count() as u64;
            tally.steps.insert((*task, step.key), made);
        }
        let stored = store.task(&tenant(), *task).await.expect("a task");
        let theirs = stored.expect("it is there").usage;
        if (theirs.usd, theirs.tokens_in) != (used.usd, used.tokens_in) {
            tally
                .sums
                .push(format!("task {task}: {theirs:?}, its attempts {used:?}"));
        }
        all += used;
    }
    let counted = tally
        .counted
        .values()
        .flatten()
        .map(|one| cents(one.cents).usd.nano());
    tally.beyond = all.usd.nano() - counted.sum::<i64>();
    let accounts = store.budgets().accounts(&tenant()).await.expect("accounts");
    for row in &accounts {
        let stands = (row.standing.total, row.standing.held);
        if stands != (all.into(), Sum::default()) {
            tally
                .sums
                .push(format!("{}: {stands:?}, all attempts {all:?}", row.account));
        }
    }
    let expected = [
        Account::All,
        Account::Agent("executor".into()),
        Account::User("test".into()),
    ];
    let there: Vec<&Account> = accounts.iter().map(|row| &row.account).collect();
    if !expected.iter().all(|account| there.contains(&account)) {
        tally.sums.push(format!("there are only {there:?}"));
    }
    let days = store
        .budgets()
        .spent_since(&tenant(), 0)
        .await
        .expect("days");
    let days: Usage = days.iter().map(|row| row.usage).sum();
    if days.usd != all.usd {
        tally
            .sums
            .push(format!("days: {days:?}, all attempts {all:?}"));
    }
}

async fn cancel(bench: &Bench, tasks: impl Iterator<Item = &TaskId>) -> u64 {
    let mut cancelled = 0;
    for task in tasks {
        let ended = bench.store.cancel(&tenant(), *task, "enough", None).await;
        cancelled += u64::from(ended.expect("the store answers"));
    }
    cancelled
}

async fn open(bench: &Bench, tasks: &[TaskId]) -> Vec<TaskId> {
    let mut open = Vec::new();
    for task in tasks {
        let run = bench
            .store
            .run(&tenant(), (*task).into())
            .await
            .expect("a run");
        let state = run.map(|run| run.state);
        if matches!(
            state,
            Some(RunState::Queued | RunState::Running | RunState::Waiting)
        ) {
            open.push(*task);
        }
    }
    open
}

fn operations(count: u32) -> Arc<Code> {
    Arc::new(move |ctx, _| {
        async move {
            for n in 0..count {
                let op = Op {
                    worst_case: cents(WORST),
                    ..tool(Effect::Idempotent, json!({ "n": n }))
                };
                ctx.act(StepKey::from(format!("op/{n}")), op).await?;
            }
            Ok(ended(json!("done")))
        }
        .boxed()
    })
}

/// What happens to an attempt follows from its effect key and its number alone.
fn unreliable(provider: Provider) -> Arc<Act> {
    Arc::new(move |exec: Exec| {
        let key = exec.effect_key.0.to_string();
        let seed = key.bytes().fold(u64::from(exec.attempt), |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let mut random = fastrand::Rng::with_seed(seed);
        let (way, used, ms) = (random.u32(0..50), random.i64(0..=WORST), random.u64(0..5));
        let provider = provider.clone();
        async move {
            let count = |said| {
                let mut all = provider.lock().unwrap_or_else(PoisonError::into_inner);
                let counted = all.entry((exec.task, exec.key.clone())).or_default();
                counted.push(Counted { cents: used, said });
            };
            match way {
                // Cut off in the middle: by a cancel, or by the process's end.
                0 => {
                    count(false);
                    std::future::pending().await
                }
                1..=4 => {
                    count(false);
                    Err(NotDone::NoReply("the actor died".into()))
                }
                5..=9 => {
                    count(false);
                    Ok(fails(None))
                }
                10..=19 => {
                    count(true);
                    Ok(fails(Some(used)))
                }
                _ => {
                    count(true);
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok(Report {
                        usage: Some(cents(used)),
                        ..done(json!("ok"))
                    })
                }
            }
        }
        .boxed()
    })
}

/// A failure that may pass, with what it cost, where that is known.
pub fn fails(used: Option<i64>) -> Report {
    Report {
        usage: used.map(cents),
        ..Report::failed(Failure::new(FailureKind::Transient, "busy"))
    }
}
