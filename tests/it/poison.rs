//! Runs that kill: what takes its process down again and again at the same place is ended, and only that.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};

use majordomo_tests::engine::{Bench, Code, done, ended, new_task, tenant, tool};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::{Kind, Place};
use shared::hash::Hash;
use shared::id::WorkerId;
use shared::label::Taint;
use shared::money::Usage;
use shared::run::{Effect, Outcome, Recorded, Timestamp};
use shared::store::{
    Accepted, Appended, Change, Entry, Fence, Finish, Run, RunState, Step, StepKind, Store,
};
use supervisor::asks::dead;
use supervisor::people::directory::Directory;

on_both_stores!(
    three_deaths_at_one_place_end_a_run,
    progress_begins_the_count_anew,
    a_run_that_only_waits_dies_of_nothing,
    those_that_died_twice_are_tried_one_by_one,
    admins_hear_of_those_that_were_given_up,
);

/// The worker that held everything dies; a new one takes over.
async fn die(place: &Place, store: &Arc<dyn Store>) -> WorkerId {
    place.lapse().await;
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    worker
}

async fn take(store: &Arc<dyn Store>, worker: WorkerId) -> (Run, Fence) {
    let run = store.claim(worker, 9).await.unwrap().runs.remove(0);
    let fence = Fence {
        worker,
        run: run.id,
        epoch: run.epoch,
    };
    (run, fence)
}

async fn write(
    store: &Arc<dyn Store>,
    run: &Run,
    fence: Fence,
    key: &str,
    kind: StepKind,
    done: bool,
) {
    let recorded = done.then(|| Recorded {
        outcome: Outcome::Done(Value::Null),
        usage: Usage::default(),
        attempts: Vec::new(),
        taint: Taint::NONE,
        evidence: Vec::new(),
        at: Timestamp(1),
    });
    let step = Step {
        key: key.into(),
        seq: 1,
        kind,
        agent: None,
        what: "boil".into(),
        model: None,
        effect: Effect::Pure,
        op_hash: Hash::of_bytes(b"x"),
        attempt: 1,
        attempts: Vec::new(),
        reserved: None,
        deadline: None,
        recorded,
        taint: Taint::NONE,
        begun_at: Timestamp(1),
    };
    let entry = Entry {
        task: run.task,
        tenant: tenant(),
        principal: "test".into(),
        last: false,
        ended: Vec::new(),
        change: Change::step(step),
        events: Vec::new(),
        blobs: Vec::new(),
        survived: done,
    };
    assert_eq!(store.append(fence, entry).await.unwrap(), Appended::Written);
}

/// The run ends, having done nothing more.
async fn end(store: &Arc<dyn Store>, run: &Run, fence: Fence) {
    let entry = Entry {
        task: run.task,
        tenant: tenant(),
        principal: "test".into(),
        last: false,
        ended: Vec::new(),
        change: Change::Finish(Box::new(Finish {
            state: RunState::Dead,
            parent: None,
            task: None,
        })),
        events: Vec::new(),
        blobs: Vec::new(),
        survived: false,
    };
    assert_eq!(store.append(fence, entry).await.unwrap(), Appended::Written);
}

/// The queue is rung for the next suspect.
async fn rings(store: &Arc<dyn Store>) {
    let rung = tokio::time::timeout(Duration::from_secs(10), store.bell().queue());
    rung.await.expect("the queue is rung for the next suspect");
}

/// A task that is taken and dies `times` times with this step begun.
async fn deaths(place: &Place, store: &Arc<dyn Store>, times: u32, kind: StepKind) -> Run {
    held(place, store, times, kind).await.0
}

/// The same, and by what it is held now.
async fn held(place: &Place, store: &Arc<dyn Store>, times: u32, kind: StepKind) -> (Run, Fence) {
    let Accepted::New(_) = store.accept(new_task("x")).await.unwrap() else {
        panic!("new")
    };
    for n in 0..times {
        let worker = die(place, store).await;
        let (run, fence) = take(store, worker).await;
        if n == 0 {
            write(store, &run, fence, "pot", kind, false).await;
        }
    }
    let worker = die(place, store).await;
    take(store, worker).await
}

async fn admins_hear_of_those_that_were_given_up(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let settings = json!({ "people": [
        { "name": "root", "telegram": 7, "roles": ["admin"] },
        { "name": "anna", "telegram": 8 },
    ]});
    let people = Directory::new(&serde_json::from_value(settings).unwrap(), store.clone());
    let told = async || {
        let all = (&*store, &tenant());
        dead::tell(all, &people, &["telegram"]).await.unwrap();
        store
            .mail()
            .owed(&tenant(), "telegram", 0, 9)
            .await
            .unwrap()
    };
    assert!(told().await.is_empty());
    for _ in 0..2 {
        let (run, fence) = held(&place, &store, 3, StepKind::Tool).await;
        end(&store, &run, fence).await;
        // The second died at the same place.
        let owed = told().await;
        assert_eq!(owed.len(), 1, "{owed:?}");
        assert_eq!(owed[0].conversation, "7");
        let text = owed[0].body["text"].as_str().unwrap();
        assert!(
            text.contains("given up at pot") && text.contains("tasks retry"),
            "{text}"
        );
    }
    assert_eq!(told().await.len(), 1, "once");
}

async fn three_deaths_at_one_place_end_a_run(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let run = deaths(&place, &store, 3, StepKind::Tool).await;
    assert_eq!(run.deaths, 3);
    place.lapse().await;
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            ctx.act("pot".into(), tool(Effect::Pure, json!({}))).await?;
            Ok(ended(json!("never")))
        }
        .boxed()
    });
    let act = Arc::new(|_| async { Ok(done(Value::Null)) }.boxed());
    let bench = Bench::on(store, code, act, Arc::default(), Duration::from_secs(60)).await;
    assert_eq!(bench.ends(run.task).await.state, RunState::Dead);
    let task = bench
        .store
        .task(&tenant(), run.task)
        .await
        .unwrap()
        .unwrap();
    let error = task.error.unwrap_or_default();
    assert!(
        error.contains("died 4 times in a row") && error.contains("in step pot (boil)"),
        "{error}"
    );
    bench.stop().await;
}

async fn progress_begins_the_count_anew(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let run = deaths(&place, &store, 2, StepKind::Tool).await;
    assert_eq!(run.deaths, 2);
    let worker = die(&place, &store).await;
    let (run, fence) = take(&store, worker).await;
    assert_eq!(run.deaths, 3);
    write(&store, &run, fence, "pot", StepKind::Tool, true).await;
    let worker = die(&place, &store).await;
    assert_eq!(take(&store, worker).await.0.deaths, 1);
}

async fn a_run_that_only_waits_dies_of_nothing(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let run = deaths(&place, &store, 5, StepKind::Signal).await;
    assert_eq!(run.deaths, 0, "waiting is no place to die at");
}

/// What dies beside a killer is not taken for one: suspects come one at a time, so that the next death
/// says which it was. What is above suspicion is not held up.
async fn those_that_died_twice_are_tried_one_by_one(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    for _ in 0..3 {
        store.accept(new_task("x")).await.unwrap();
    }
    for _ in 0..2 {
        let worker = die(&place, &store).await;
        assert_eq!(store.claim(worker, 9).await.unwrap().runs.len(), 3);
    }
    let worker = die(&place, &store).await;
    let Accepted::New(innocent) = store.accept(new_task("y")).await.unwrap() else {
        panic!("new")
    };
    let claimed = store.claim(worker, 9).await.unwrap().runs;
    let deaths = |task| move |run: &&Run| (run.task == task) == (run.deaths == 0);
    assert!(claimed.iter().all(|run| deaths(innocent)(&run)));
    assert_eq!(claimed.len(), 2, "one suspect, and the one that never died");
    assert!(store.claim(worker, 9).await.unwrap().runs.is_empty());

    let suspect = claimed.iter().find(|run| run.deaths == 2).unwrap();
    let fence = Fence {
        worker,
        run: suspect.id,
        epoch: suspect.epoch,
    };
    write(&store, suspect, fence, "pot", StepKind::Tool, true).await;
    rings(&store).await;
    let (next, fence) = take(&store, worker).await;
    assert_eq!(next.deaths, 2);
    assert!(store.claim(worker, 9).await.unwrap().runs.is_empty());
    // One that ends makes room, too, without a step of its own.
    end(&store, &next, fence).await;
    rings(&store).await;
    let (last, _) = take(&store, worker).await;
    assert_eq!(last.deaths, 2);
    let worker = die(&place, &store).await;
    let claimed = store.claim(worker, 9).await.unwrap().runs;
    let of = |task| claimed.iter().find(|run| run.task == task);
    assert_eq!(of(suspect.task).map(|run| run.deaths), Some(1), "it got on");
}
