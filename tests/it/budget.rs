//! Budgets: what is admitted under a limit, what is held and settled, and what is left of it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};

use majordomo_tests::engine::{Act, Bench, Code, World, done, ended, tenant, tool};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use shared::budget::{Account, Cap, Caps, OVER, Over, Period, Plan, Standing, Sum, Unit};
use shared::event::Event;
use shared::id::StepKey;
use shared::money::{Usage, Usd};
use shared::run::{Effect, Exec, FailureKind, Op, Outcome, Report};
use shared::store::{RunState, Store};

on_both_stores!(what_does_not_fit_into_the_day_is_not_begun);

const LONG: Duration = Duration::from_secs(60);

/// So many cents.
fn cents(cents: i64) -> Usage {
    Usage {
        usd: Usd::from_nano(cents * 10_000_000),
        tokens_in: cents as u64,
        ..Usage::default()
    }
}

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
