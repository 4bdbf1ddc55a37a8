//! Several engines on one Postgres: what a dead or late one was running goes on elsewhere, and what
//! it still tries is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use majordomo_tests::engine::{Act, Bench, Code, World, done, ended, tool};
use majordomo_tests::faults::Faulty;
use majordomo_tests::place::{Database, Place};
use majordomo_tests::wait;
use shared::run::Effect;
use shared::store::{RunState, Store};

const TTL: Duration = Duration::from_millis(1500);
const LONG: Duration = Duration::from_secs(60);

/// A run of three steps that each change the world once.
fn three_steps() -> Arc<Code> {
    Arc::new(|ctx, _| {
        async move {
            for key in ["a", "b", "c"] {
                ctx.act(key.into(), tool(Effect::Idempotent, json!({ "n": key })))
                    .await?;
            }
            Ok(ended(json!("done")))
        }
        .boxed()
    })
}

/// Does the work, but for step `b`, which waits until it is let go.
fn stuck_at_b(world: &Arc<World>, gate: &Arc<Notify>) -> Arc<Act> {
    let (world, gate) = (world.clone(), gate.clone());
    Arc::new(move |exec| {
        let (world, gate) = (world.clone(), gate.clone());
        async move {
            if exec.key.as_str() == "b" {
                gate.notified().await;
            }
            world.touch(&exec.key);
            Ok(done(Value::Null))
        }
        .boxed()
    })
}

fn working(world: &Arc<World>) -> Arc<Act> {
    let world = world.clone();
    Arc::new(move |exec| {
        let world = world.clone();
        async move {
            world.touch(&exec.key);
            Ok(done(Value::Null))
        }
        .boxed()
    })
}

async fn begun(bench: &Bench, task: shared::id::TaskId, key: &str) {
    let mut feed = bench.store.bell().feed().subscribe();
    let tenant = majordomo_tests::engine::tenant();
    loop {
        let step = bench.store.step(&tenant, task.into(), &key.into()).await;
        if step.unwrap().is_some() {
            return;
        }
        let _ = feed.recv().await;
    }
}

/// Cut off from the database, an engine stops its runs by itself; another one finishes them, and
/// when the first can reach the database again it works under a new worker.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cannot_beat_stops_and_another_goes_on() {
    let database = Database::create().await;
    let (world, gate) = (Arc::new(World::default()), Arc::new(Notify::new()));
    let cut = Arc::new(Faulty::new(Arc::new(database.open(TTL).await)));
    let act = stuck_at_b(&world, &gate);
    let first = Bench::on(cut.clone(), three_steps(), act, world.clone(), LONG).await;
    let task = first.submit("go").await;
    begun(&first, task, "b").await;
    cut.silent.store(true, Ordering::SeqCst);

    let store: Arc<dyn Store> = Arc::new(database.open(TTL).await);
    let act = working(&world);
    let second = Bench::on(store, three_steps(), act, world.clone(), LONG).await;
    let run = second.ends(task).await;
    assert_eq!(run.state, RunState::Done);
    assert_eq!(run.epoch, 2, "taken over once");

    cut.silent.store(false, Ordering::SeqCst);
    gate.notify_waiters();
    let again = first.submit("again").await;
    gate.notify_one();
    assert_eq!(second.ends(again).await.state, RunState::Done);
    let touched = world.done();
    assert_eq!(
        (touched["a"], touched["b"], touched["c"]),
        (2, 2, 2),
        "two tasks, each once"
    );
    first.stop().await;
    second.stop().await;
}

/// A worker whose lease was ended by others is told at its next beat, stops, and comes back as another.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_declared_gone_comes_back_as_another() {
    let place = Place::database().await;
    let world = Arc::new(World::default());
    let gate = Arc::new(Notify::new());
    let act = stuck_at_b(&world, &gate);
    let bench = Bench::start(&place, three_steps(), act, world.clone(), LONG).await;
    let task = bench.submit("go").await;
    begun(&bench, task, "b").await;
    place.lapse().await;
    // It loses the run, takes it again under its new worker, and begins `b` anew.
    wait::until("taken again", Duration::from_secs(20), async || {
        bench.reaches(task, &[RunState::Running]).await.epoch >= 2
    })
    .await;
    let ends = async {
        loop {
            gate.notify_waiters();
            tokio::select! {
                run = bench.ends(task) => return run,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    };
    assert_eq!(ends.await.state, RunState::Done);
    assert_eq!(
        world.done()["b"],
        1,
        "the first worker's call was cancelled"
    );
    bench.stop().await;
}

/// A stop hands runs back at once: nobody waits for a lease to run out.
#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_stop_hands_runs_over_without_waiting_for_the_lease() {
    let place = Place::database().await;
    let world = Arc::new(World::default());
    let (gate, asked) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let act = stuck_at_b(&world, &gate);
    let first = Bench::start(&place, three_steps(), act, world.clone(), LONG).await;
    let task = first.submit("go").await;
    begun(&first, task, "b").await;
    let act = working(&world);
    let second = Bench::start(&place, three_steps(), act, world.clone(), LONG).await;
    asked.store(true, Ordering::SeqCst);
    first.engine.freeze(Duration::ZERO).await;
    // The lease lasts a minute and is not ended here: only the hand-over can let this finish.
    let run = tokio::time::timeout(Duration::from_secs(20), second.ends(task)).await;
    assert_eq!(run.expect("handed over").state, RunState::Done);
    first.store.close().await;
    second.stop().await;
}
