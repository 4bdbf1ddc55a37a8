//! What the store promises: fences, commits, numbers, sameness.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;

use majordomo_tests::engine::{Bench, Code, World, done, ended, new_task, open, tenant, tool};
use majordomo_tests::faults::Faulty;
use majordomo_tests::on_both_stores;
use majordomo_tests::place::{Kind, Place};
use shared::event::Event;
use shared::hash::Hash;
use shared::id::{TaskId, WorkerId};
use shared::label::Taint;
use shared::money::{Usage, Usd};
use shared::run::{Attempt, Effect, Timestamp};
use shared::store::{Accepted, Appended, Change, Entry, Fence, RunState, Step, StepKind, Store};

on_both_stores!(
    a_worker_that_was_replaced_writes_nothing,
    a_cancelled_task_pays_once_for_what_was_begun,
    a_probe_is_a_write,
    events_are_numbered_without_gaps_whoever_writes,
    the_same_message_is_the_same_task,
    an_operation_costs_as_many_commits_as_its_class_says,
    a_store_that_fails_for_a_while_costs_time_and_nothing_else,
    an_outcome_outlives_a_store_that_fails_for_a_moment,
    people_take_turns_and_priority_orders_ones_own,
);

fn step(key: &str) -> Step {
    Step {
        key: key.into(),
        seq: 1,
        kind: StepKind::Tool,
        agent: None,
        what: "x".into(),
        model: None,
        effect: Effect::Once,
        op_hash: Hash::of_bytes(b"x"),
        attempt: 1,
        attempts: Vec::new(),
        reserved: None,
        deadline: None,
        recorded: None,
        taint: Taint::NONE,
        begun_at: Timestamp(1),
    }
}

fn entry(task: TaskId, key: &str) -> Entry {
    Entry {
        task,
        tenant: "default".into(),
        principal: "test".into(),
        last: false,
        ended: Vec::new(),
        change: Change::step(step(key)),
        events: vec![Event::Decided {
            what: key.into(),
            reason: "test".into(),
        }],
        blobs: Vec::new(),
        survived: false,
    }
}

async fn a_worker_that_was_replaced_writes_nothing(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let (old, new) = (WorkerId::fresh(), WorkerId::fresh());
    store.register(old, None).await.unwrap();
    let Accepted::New(task) = store.accept(new_task("x")).await.unwrap() else {
        panic!("new")
    };
    let stale = store.claim(old, 9).await.unwrap().runs.remove(0);
    let fence = |worker, epoch| Fence {
        worker,
        run: stale.id,
        epoch,
    };
    let write = |fence, key: &'static str| store.append(fence, entry(task, key));
    let ok = write(fence(old, stale.epoch), "a").await.unwrap();
    assert_eq!(ok, Appended::Written);

    place.lapse().await;
    assert_eq!(
        store.register(new, None).await.unwrap(),
        1,
        "its run is queued again"
    );
    let fresh = store.claim(new, 9).await.unwrap().runs.remove(0);
    assert_eq!(fresh.epoch, stale.epoch + 1);
    for (worker, epoch) in [(old, stale.epoch), (old, fresh.epoch), (new, stale.epoch)] {
        let refused = write(fence(worker, epoch), "b").await.unwrap();
        assert_eq!(refused, Appended::Refused, "{worker} {epoch}");
    }
    assert_eq!(store.steps(&tenant(), stale.id).await.unwrap().len(), 1);
    let told = store.events(&tenant(), task, 0, 99).await.unwrap();
    let told = told
        .iter()
        .filter(|event| matches!(event.event, Event::Decided { .. }));
    assert_eq!(told.count(), 1, "a refused entry tells nobody");
    let ok = write(fence(new, fresh.epoch), "b").await.unwrap();
    assert_eq!(ok, Appended::Written);
    store.cancel(&tenant(), task, "enough", None).await.unwrap();
    let ended = write(fence(new, fresh.epoch), "c").await.unwrap();
    assert_eq!(
        ended,
        Appended::Refused,
        "a run that has ended takes nothing"
    );
}

async fn a_cancelled_task_pays_once_for_what_was_begun(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    let Accepted::New(task) = store.accept(new_task("x")).await.unwrap() else {
        panic!("new")
    };
    let run = store.claim(worker, 9).await.unwrap().runs.remove(0);
    let fence = Fence {
        worker,
        run: run.id,
        epoch: run.epoch,
    };
    let usage = |tokens_in| Usage {
        tokens_in,
        tokens_cached: 1,
        tokens_out: 2 * tokens_in,
        usd: Usd::from_nano(tokens_in as i64),
        assumed: false,
    };
    let failed = |tokens| Attempt {
        at: Timestamp(1),
        ms: 1,
        usage: usage(tokens),
        failure: None,
    };
    // In flight after a failed attempt; pausing after a failed one; waiting for a child.
    let open = [
        (vec![failed(1)], 2, Some(usage(10))),
        (vec![failed(100)], 1, Some(usage(1_000))),
        (vec![], 1, None),
    ];
    for (n, (attempts, attempt, reserved)) in open.into_iter().enumerate() {
        let mut entry = entry(task, &format!("s{n}"));
        if let Change::Step { step, .. } = &mut entry.change {
            (step.attempts, step.attempt, step.reserved) = (attempts, attempt, reserved);
        }
        let written = store.append(fence, entry).await.unwrap();
        assert_eq!(written, Appended::Written);
    }
    let reached = Some("half of it");
    assert!(
        store
            .cancel(&tenant(), task, "enough", reached)
            .await
            .unwrap()
    );
    assert!(!store.cancel(&tenant(), task, "again", None).await.unwrap());
    let task = store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(task.partial.as_deref(), reached);
    let (told, paid) = (task.usage, usage(111));
    assert_eq!((told.usd, told.tokens()), (paid.usd, paid.tokens()));
    assert_eq!(told.tokens_cached, 3);
}

async fn a_probe_is_a_write(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    store.probe().await.unwrap();
    store.probe().await.unwrap();
    store.close().await;
    store.probe().await.unwrap_err();
}

async fn events_are_numbered_without_gaps_whoever_writes(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        store.accept(new_task("x")).await.unwrap();
    }
    for run in store.claim(worker, 9).await.unwrap().runs {
        let fence = Fence {
            worker,
            run: run.id,
            epoch: run.epoch,
        };
        tasks.push((run.task, fence));
    }
    let writes = (0..200).map(|n| {
        let (store, (task, fence)) = (store.clone(), tasks[n % 4]);
        async move { store.append(fence, entry(task, &format!("s{n}"))).await }
    });
    for written in futures::future::join_all(writes).await {
        assert_eq!(written.unwrap(), Appended::Written);
    }
    for (task, _) in tasks {
        let events = store.events(&tenant(), task, 0, 999).await.unwrap();
        let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, (1..=52).collect::<Vec<_>>());
    }
}

async fn the_same_message_is_the_same_task(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let keyed = |body: &'static [u8]| {
        let mut task = new_task("x");
        task.dedupe = Some(("key".into(), Hash::of_bytes(body)));
        task
    };
    let posts = (0..100).map(|_| store.accept(keyed(b"one")));
    let accepted = futures::future::join_all(posts).await;
    let new = |accepted: &&Accepted| matches!(accepted, Accepted::New(_));
    let accepted: Vec<Accepted> = accepted.into_iter().map(Result::unwrap).collect();
    assert_eq!(accepted.iter().filter(new).count(), 1);
    let other = store.accept(keyed(b"two")).await.unwrap();
    assert!(matches!(other, Accepted::Conflict(_)));
    let census = store.census().await.unwrap();
    assert_eq!(census.tasks["queued"], 1);
}

#[tokio::test]
async fn only_one_process_has_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path()).await;
    let second = shared::store::sqlite::SqliteStore::open(folder.path()).await;
    assert!(matches!(
        second.err(),
        Some(shared::store::Error::Locked { .. })
    ));
}

/// One act of this class, then the end.
fn one_act(effect: Effect) -> Arc<Code> {
    Arc::new(move |ctx, _| {
        async move {
            ctx.act("a".into(), tool(effect, json!({}))).await?;
            Ok(ended(json!("ok")))
        }
        .boxed()
    })
}

async fn faulty(place: &Place, effect: Effect) -> (Bench, Arc<Faulty>, Arc<World>) {
    let store = Arc::new(Faulty::new(place.open().await));
    let world = Arc::<World>::default();
    let act = {
        let world = world.clone();
        Arc::new(move |exec: shared::run::Exec| {
            world.touch(&exec.key);
            async { Ok(done(json!("ok"))) }.boxed()
        })
    };
    let bench = Bench::on(
        store.clone(),
        one_act(effect),
        act,
        world.clone(),
        Duration::from_secs(60),
    );
    (bench.await, store, world)
}

/// What may be repeated leaves its outcome to the next write, here the end of the run.
async fn an_operation_costs_as_many_commits_as_its_class_says(kind: Kind) {
    let place = kind.place().await;
    for (effect, own, shared) in [
        (Effect::Pure, 0, 1),
        (Effect::Idempotent, 1, 1),
        (Effect::Verifiable, 2, 0),
        (Effect::Once, 2, 0),
    ] {
        let (bench, store, _) = faulty(&place, effect).await;
        let task = bench.submit("x").await;
        bench.ends(task).await;
        let end_of_run = 1;
        let appended = store.appended.load(Ordering::SeqCst);
        assert_eq!(appended, own + end_of_run, "{effect:?}");
        let steps = bench.store.steps(&tenant(), task.into()).await.unwrap();
        assert!(
            steps[0].recorded.is_some(),
            "{effect:?} shares {shared} commit"
        );
        bench.stop().await;
    }
}

/// A store that fails for a while delays a run, and repeats nothing: the run waits, replays and goes
/// on, whether the write was refused or only its reply was lost.
async fn a_store_that_fails_for_a_while_costs_time_and_nothing_else(kind: Kind) {
    let place = kind.place().await;
    for lost_reply in [false, true] {
        let (bench, store, world) = faulty(&place, Effect::Verifiable).await;
        let fault = if lost_reply {
            &store.lose
        } else {
            &store.refuse
        };
        fault.store(2, Ordering::SeqCst);
        let task = bench.submit("x").await;
        assert_eq!(bench.ends(task).await.state, RunState::Done);
        assert_eq!(world.done()["a"], 1, "lost_reply: {lost_reply}");
        bench.stop().await;
    }
}

/// What was done is known here, even while the store cannot take it down: nobody is asked about it.
async fn an_outcome_outlives_a_store_that_fails_for_a_moment(kind: Kind) {
    let place = kind.place().await;
    for lost_reply in [false, true] {
        let store = Arc::new(Faulty::new(place.open().await));
        let world = Arc::<World>::default();
        let act = {
            let (store, world) = (store.clone(), world.clone());
            Arc::new(move |exec: shared::run::Exec| {
                world.touch(&exec.key);
                match lost_reply {
                    true => store.lose.store(1, Ordering::SeqCst),
                    false => store.refuse.store(3, Ordering::SeqCst),
                }
                async { Ok(done(json!("ok"))) }.boxed()
            })
        };
        let code = one_act(Effect::Once);
        let long = Duration::from_secs(60);
        let bench = Bench::on(store, code, act, world.clone(), long).await;
        let task = bench.submit("x").await;
        assert_eq!(bench.ends(task).await.state, RunState::Done);
        assert_eq!(world.done()["a"], 1, "lost_reply: {lost_reply}");
        let asked = |event: &Event| matches!(event, Event::InDoubt { .. });
        assert!(!bench.events(task).await.iter().any(asked));
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_probe_is_a_real_write_that_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let log = folder.path().join("majordomo.db-wal");
    let written = || std::fs::metadata(&log).map_or(0, |file| file.len());
    store.probe().await.unwrap();
    let before = written();
    store.probe().await.unwrap();
    assert!(written() > before, "nothing was written to the disk");
    let nobody = shared::id::TenantId::from("");
    let left = store.content(&nobody, Hash::of_bytes(b"probe")).await;
    assert_eq!(left.unwrap(), None);
    store.close().await;
    assert!(
        store.probe().await.is_err(),
        "a closed store takes no writes"
    );
}

/// One person's thousand tasks do not hold up another's one, and of one's own the highest priority goes
/// first.
async fn people_take_turns_and_priority_orders_ones_own(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    let submit = async |who: &str, priority: i16| {
        let mut task = new_task("x");
        task.authority.principal = who.into();
        task.request.priority = priority;
        let id = task.id;
        store.accept(task).await.unwrap();
        id
    };
    for _ in 0..40 {
        submit("busy", 0).await;
    }
    let (urgent, other) = (submit("busy", 7).await, submit("calm", -7).await);
    let claimed = store.claim(worker, 4).await.unwrap().runs;
    let tasks: Vec<TaskId> = claimed.iter().map(|run| run.task).collect();
    assert_eq!(tasks.len(), 4, "what one leaves, another gets");
    assert!(
        tasks.contains(&urgent) && tasks.contains(&other),
        "{tasks:?}"
    );
    assert_eq!(store.claim(worker, 99).await.unwrap().runs.len(), 38);
}
