//! Budgets: what is admitted under a limit, what is held and settled, and what is left of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::engine::{Act, Bench, Code, World, done, ended, tenant, tool};
use majordomo_tests::money::{self, cents, fails};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::TestTool;
use majordomo_tests::wait;
use shared::budget::{
    Account, Cap, Caps, OVER, Over, Period, Plan, Set, Standing, Sum, Unit, Which,
};
use shared::config::Settings;
use shared::event::Event;
use shared::id::{StepKey, TaskId};
use shared::money::Usd;
use shared::run::{Effect, Exec, FailureKind, NotDone, Op, Outcome, Report, Timestamp};
use shared::store::{RunState, Store};
use shared::task::{Request, TaskState};
use supervisor::alarm::Alarm;
use supervisor::people::directory::Directory;
use tokio::sync::watch;

on_both_stores!(
    what_does_not_fit_into_the_day_is_not_begun,
    every_attempt_is_paid_and_unknown_usage_costs_the_reservation,
    what_is_under_way_is_held_and_a_cancelled_task_pays_for_it,
    a_limit_that_is_set_holds_at_once_and_a_task_has_its_own,
    two_hundred_at_once_are_held_to_a_dollar,
    the_ledger_equals_the_providers_count,
);

const LONG: Duration = Duration::from_secs(60);

fn limit(usd: i64) -> Caps {
    Caps {
        day: Cap {
            usd: Some(cents(usd).usd),
            tokens: None,
        },
        ..Caps::default()
    }
}

/// An operation that costs so many cents at worst.
fn op(n: u32, worst: i64) -> Op {
    Op {
        worst_case: cents(worst),
        ..tool(Effect::Idempotent, json!({"n": n}))
    }
}

/// Uses so many cents each time.
fn using(used: i64) -> Arc<Act> {
    Arc::new(move |_: Exec| {
        let report = Report {
            usage: Some(cents(used)),
            ..done(json!("ok"))
        };
        async move { Ok(report) }.boxed()
    })
}

/// Does so many operations one after the other, and ends with how each ended.
fn one_by_one(count: u32, worst: i64) -> Arc<Code> {
    Arc::new(move |ctx, _| {
        async move {
            let mut ends = Vec::new();
            for n in 0..count {
                let key = StepKey::from(format!("op/{n}"));
                let recorded = ctx.act(key, op(n, worst)).await?;
                ends.push(match recorded.outcome {
                    Outcome::Done(_) => Value::Null,
                    Outcome::Failed(failure) => json!(failure.kind),
                    Outcome::InDoubt { .. } => panic!("nothing is in doubt here"),
                });
            }
            Ok(ended(json!(ends)))
        }
        .boxed()
    })
}

async fn standing(store: &dyn Store, account: &Account) -> Standing {
    let all = store.budgets().accounts(&tenant()).await.unwrap();
    let found = all.iter().find(|row| row.account == *account);
    found.map(|row| row.standing).unwrap_or_default()
}

async fn what_does_not_fit_into_the_day_is_not_begun(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::<World>::default();
    let bench = Bench::start(&place, one_by_one(4, 40), using(40), world, LONG).await;
    bench.store.budgets().plan(Plan {
        all: limit(100),
        ..Plan::default()
    });
    let task = bench.submit("x").await;
    assert_eq!(bench.ends(task).await.state, RunState::Done);

    let steps = bench.store.steps(&tenant(), task.into()).await.unwrap();
    let recorded: Vec<_> = steps
        .iter()
        .map(|step| step.recorded.clone().unwrap())
        .collect();
    assert!(matches!(recorded[1].outcome, Outcome::Done(_)));
    for refused in &recorded[2..] {
        let Outcome::Failed(failure) = &refused.outcome else {
            panic!("{refused:?}")
        };
        assert_eq!(failure.kind, FailureKind::Limit);
        assert_eq!(refused.attempts, []);
        let over = refused.evidence.iter().find(|found| found.kind == OVER);
        let over: Over = serde_json::from_str(&over.unwrap().value).unwrap();
        assert_eq!(over.which.account, Account::All);
        assert_eq!(
            (over.which.period, over.which.unit),
            (Period::Day, Unit::Usd)
        );
        assert_eq!(
            (over.limit, over.spent, over.held),
            (1_000_000_000, 800_000_000, 0)
        );
    }
    let told = bench.events(task).await;
    let over = |event: &&Event| matches!(event, Event::Ended { error: Some(error), .. } if error.contains("$1.00 a day of all"));
    assert_eq!(told.iter().filter(over).count(), 2, "{told:?}");
    let begun = |event: &&Event| matches!(event, Event::Begun { .. });
    assert_eq!(told.iter().filter(begun).count(), 2);

    let spent = Sum::from(cents(80));
    for account in [
        Account::All,
        Account::User("test".into()),
        Account::Agent("executor".into()),
    ] {
        let stands = standing(&*bench.store, &account).await;
        assert_eq!(
            (stands.day, stands.month, stands.total),
            (spent, spent, spent)
        );
        assert_eq!(stands.held, Sum::default());
    }
    let used = bench
        .store
        .task(&tenant(), task)
        .await
        .unwrap()
        .unwrap()
        .usage;
    assert_eq!(used.usd, cents(80).usd);
    let spend = bench
        .store
        .budgets()
        .spent_since(&tenant(), 0)
        .await
        .unwrap();
    assert_eq!(spend.len(), 1);
    assert_eq!((spend[0].attempts, spend[0].usage.usd), (2, cents(80).usd));
    bench.stop().await;
}

async fn every_attempt_is_paid_and_unknown_usage_costs_the_reservation(kind: Kind) {
    let place = kind.place().await;
    let tries = AtomicU32::new(0);
    // It costs, then nobody says what it cost, then nobody answers, then it works.
    let act: Arc<Act> = Arc::new(move |_: Exec| {
        let made = match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(fails(Some(10))),
            1 => Ok(fails(None)),
            2 => Err(NotDone::NoReply("gone".into())),
            _ => Ok(Report {
                usage: Some(cents(20)),
                ..done(json!("ok"))
            }),
        };
        async move { made }.boxed()
    });
    let bench = Bench::start(&place, one_by_one(1, 30), act, Arc::default(), LONG).await;
    let task = bench.submit("x").await;
    assert_eq!(bench.ends(task).await.state, RunState::Done);
    let stands = standing(&*bench.store, &Account::All).await;
    assert_eq!(stands.day, Sum::from(cents(10 + 30 + 30 + 20)));
    assert_eq!(stands.held, Sum::default());
    let used = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(used.usage.usd, cents(90).usd);
    let spend = bench
        .store
        .budgets()
        .spent_since(&tenant(), 0)
        .await
        .unwrap();
    assert_eq!((spend[0].attempts, spend[0].usage.usd), (4, cents(90).usd));
    bench.stop().await;
}

/// Waits until this many attempts are under way.
async fn under_way(count: &AtomicU32, expected: u32) {
    let what = format!("{expected} are under way");
    let holds = async || count.load(Ordering::SeqCst) == expected;
    wait::until(&what, Duration::from_secs(30), holds).await;
}

async fn what_is_under_way_is_held_and_a_cancelled_task_pays_for_it(kind: Kind) {
    let place = kind.place().await;
    let begun = Arc::<AtomicU32>::default();
    let act: Arc<Act> = {
        let begun = begun.clone();
        Arc::new(move |_: Exec| {
            begun.fetch_add(1, Ordering::SeqCst);
            std::future::pending().boxed()
        })
    };
    let bench = Bench::start(&place, one_by_one(1, 30), act, Arc::default(), LONG).await;
    let task = bench.submit("x").await;
    under_way(&begun, 1).await;
    let held = standing(&*bench.store, &Account::User("test".into())).await;
    assert_eq!(
        (held.held, held.day),
        (Sum::from(cents(30)), Sum::default())
    );

    assert!(
        bench
            .store
            .cancel(&tenant(), task, "enough", None)
            .await
            .unwrap()
    );
    let paid = standing(&*bench.store, &Account::User("test".into())).await;
    assert_eq!(
        (paid.held, paid.day),
        (Sum::default(), Sum::from(cents(30)))
    );
    let used = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(used.usage.usd, cents(30).usd);
    let steps = bench.store.steps(&tenant(), task.into()).await.unwrap();
    let [lost] = steps[0].attempts.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(lost.failure.as_ref().unwrap().kind, FailureKind::Lost);
    assert_eq!(lost.usage, cents(30));
    bench.stop().await;
}

async fn a_limit_that_is_set_holds_at_once_and_a_task_has_its_own(kind: Kind) {
    let place = kind.place().await;
    let bench = Bench::start(&place, one_by_one(2, 40), using(40), Arc::default(), LONG).await;
    let budgets = bench.store.budgets();
    budgets.plan(Plan {
        each_user: limit(1_000),
        ..Plan::default()
    });
    let which = Which {
        account: Account::User("test".into()),
        period: Period::Day,
        unit: Unit::Usd,
    };
    let set = |account: &Account, amount| Set {
        which: Which {
            account: account.clone(),
            ..which.clone()
        },
        amount,
        by: "ops".into(),
        at: Timestamp(0),
    };
    let ends = async |expected: [bool; 2]| {
        let task = bench.submit("x").await;
        bench.ends(task).await;
        let steps = bench.store.steps(&tenant(), task.into()).await.unwrap();
        let done = steps.iter().map(|step| {
            let recorded = step.recorded.as_ref().unwrap();
            matches!(recorded.outcome, Outcome::Done(_))
        });
        assert_eq!(done.collect::<Vec<_>>(), expected);
    };
    ends([true, true]).await;
    let narrow = set(&which.account, Some(cents(125).usd.nano()));
    assert!(budgets.set_limit(&tenant(), narrow).await.unwrap());
    ends([false, false]).await;
    let told = budgets.set_limits(&tenant()).await.unwrap();
    assert_eq!((told.len(), told[0].by.as_str()), (1, "ops"));
    assert!(told[0].at > Timestamp(0), "the store's clock says when");
    let none = set(&which.account, None);
    assert!(budgets.set_limit(&tenant(), none).await.unwrap());
    ends([true, true]).await;
    assert!(budgets.unset_limit(&tenant(), &which).await.unwrap());
    assert!(!budgets.unset_limit(&tenant(), &which).await.unwrap());
    ends([true, true]).await;

    let gone = set(&Account::Task(TaskId::fresh()), Some(1));
    assert!(!budgets.set_limit(&tenant(), gone).await.unwrap());
    budgets.plan(Plan {
        task: Cap {
            usd: Some(cents(50).usd),
            tokens: None,
        },
        ..Plan::default()
    });
    ends([true, false]).await;
    bench.stop().await;
}

/// None of them returns before each has begun or was refused. What they use then is three times what they
/// said; after it nothing begins any more.
async fn two_hundred_at_once_are_held_to_a_dollar(kind: Kind) {
    const ALL: u32 = 200;
    let place = kind.place().await;
    let begun = Arc::<AtomicU32>::default();
    let (open, gate) = watch::channel(false);
    let act: Arc<Act> = {
        let begun = begun.clone();
        Arc::new(move |_: Exec| {
            begun.fetch_add(1, Ordering::SeqCst);
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                Ok(Report {
                    usage: Some(cents(3)),
                    ..done(json!("ok"))
                })
            }
            .boxed()
        })
    };
    let code: Arc<Code> = Arc::new(move |ctx, _| {
        async move {
            let all = (0..ALL).map(|n| (StepKey::from(format!("op/{n}")), op(n, 1)));
            let recorded = ctx.all(all.collect()).await?;
            let done =
                |recorded: &&shared::run::Recorded| matches!(recorded.outcome, Outcome::Done(_));
            Ok(ended(json!(recorded.iter().filter(done).count())))
        }
        .boxed()
    });
    let bench = Bench::start(&place, code, act, Arc::default(), LONG).await;
    bench.store.budgets().plan(Plan {
        task: Cap {
            usd: Some(cents(100).usd),
            tokens: None,
        },
        all: limit(100),
        ..Plan::default()
    });
    let task = bench.submit("x").await;
    // A twentieth is kept back for a summary.
    under_way(&begun, 95).await;
    let held = standing(&*bench.store, &Account::All).await;
    assert_eq!(held.held.usd, cents(95).usd.nano());
    open.send_replace(true);
    bench.ends(task).await;
    assert_eq!(begun.load(Ordering::SeqCst), 95);
    let spent = standing(&*bench.store, &Account::All).await;
    assert_eq!(
        (spent.day.usd, spent.held),
        (cents(3 * 95).usd.nano(), Sum::default())
    );
    // The overrun of those that were under way, and nothing after it.
    let overrun = 95 * 2;
    assert!(spent.day.usd <= cents(100 + overrun).usd.nano());
    let more = bench.submit("more").await;
    bench.ends(more).await;
    assert_eq!(begun.load(Ordering::SeqCst), 95);
    bench.stop().await;
}

/// Retries, lost attempts, unknown usage, cancels, and processes that end in the middle.
async fn the_ledger_equals_the_providers_count(kind: Kind) {
    let mut tally = money::work(&kind.place().await, money::Scale::SHORT).await;
    assert!(tally.attempts > 300, "{tally}");
    assert!(
        tally.unsaid > 5 && tally.lost > 5 && tally.cancelled > 0,
        "{tally}"
    );
    assert_eq!(tally.wrong(), Vec::<String>::new(), "{tally}");
    // The comparison finds a call of which the ledger has not heard, and a cent that was not booked.
    for tamper in [
        money::Tally::count_one_more,
        money::Tally::count_a_cent_more,
    ] {
        tamper(&mut tally);
        assert_eq!(tally.wrong().len(), 1, "{tally}");
        tally.undo();
    }
}

/// Admins hear of a limit once for each level, however often it is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn admins_are_told_once_of_each_level() {
    let place = Kind::Folder.place().await;
    let bench = Bench::start(&place, one_by_one(1, 30), using(30), Arc::default(), LONG).await;
    bench.store.budgets().plan(Plan {
        all: limit(50),
        ..Plan::default()
    });
    let settings: Settings = serde_json::from_value(json!({
        "people": [{ "name": "ada", "telegram": 7, "roles": ["admin"] }, { "name": "bob", "telegram": 8 }],
    }))
    .unwrap();
    let alarm = || Alarm {
        store: bench.store.clone(),
        tenant: tenant(),
        people: Arc::new(Directory::new(&settings, bench.store.clone())),
        open: Arc::from(["telegram"]),
    };
    let owed = async || {
        bench
            .store
            .mail()
            .owed(&tenant(), "telegram", 0, 99)
            .await
            .unwrap()
    };
    let look = async || {
        for _ in 0..2 {
            let (told, nobody) = (&mut BTreeSet::new(), VecDeque::new());
            alarm().look(told, &nobody).await.unwrap();
        }
    };
    look().await;
    assert_eq!(owed().await, []);
    for told in 1..=2 {
        let task = bench.submit("x").await;
        bench.ends(task).await;
        look().await;
        assert_eq!(
            owed().await.len(),
            told.min(1),
            "the second one does not fit"
        );
    }
    let wide = Set {
        which: Which {
            account: Account::All,
            period: Period::Day,
            unit: Unit::Usd,
        },
        amount: Some(cents(60).usd.nano()),
        by: "ops".into(),
        at: Timestamp(0),
    };
    bench
        .store
        .budgets()
        .set_limit(&tenant(), wide)
        .await
        .unwrap();
    look().await;
    let words = owed().await;
    let texts: Vec<&str> = words
        .iter()
        .map(|out| out.body["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 2);
    assert!(
        texts[0].contains("$0.3000 of $0.5000 a day of all"),
        "{texts:?}"
    );
    assert!(words.iter().all(|out| out.conversation == "7"), "{words:?}");
    bench.stop().await;
}

/// The last call of an agent that is stopped by somebody's limit is paid out of what is kept back for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_to_a_limit_sums_up_out_of_what_is_kept_back() {
    let script = "[[agent.reply]]\nuser = \"Stop here\"\ntext = \"So far: nothing.\"\n[[agent.reply]]\ncalls = [{ tool = \"look\", args = { n = 1 } }]\nusage = { tokens_in = 8000, tokens_out = 300 }\n[[agent.reply]]\ntext = \"never asked for\"\n";
    let price = "price = { input = 1000.0, output = 1000.0 }\n";
    let look = TestTool::reads("look");
    let settings = "[limits]\nusd = 50.0\n[budget.each_user]\nday = { usd = 9.8 }\n";
    let app = Setup::worker_priced(price, script, &[&look], settings)
        .and("agents/worker.toml", "[limits]\nmax_tokens = 1000\n")
        .start()
        .await;
    let task = app.ask("Look").await;
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(task.partial.as_deref(), Some("So far: nothing."));
    let error = task.error.as_deref().unwrap();
    assert!(
        error.contains("stopped at the limit of $9.80 a day of user:"),
        "{error}"
    );
    assert!(task.usage.usd <= Usd::from_dollars(9.8));
    // The next one is refused at its first call, and asks nobody.
    let before = app.requests().len();
    let next = app
        .submit(Request {
            ..TestApp::request("Look")
        })
        .await;
    let next = app.ends(next).await;
    assert_eq!(next.state, TaskState::Failed);
    assert_eq!(app.requests().len(), before);
    app.stop().await;
}
