//! Several processes on one Postgres: leases, the reaper, wakes across processes, and how they start.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use tokio::sync::broadcast::error::TryRecvError;

use majordomo_tests::engine::{
    Bench, Code, World, done, ended, new_task, next_event, tenant, tool,
};
use majordomo_tests::place::Database;
use majordomo_tests::wait;
use shared::ask::Ask;
use shared::event::Event;
use shared::id::{TaskId, WorkerId};
use shared::run::Effect;
use shared::store::postgres::PostgresStore;
use shared::store::{
    Accepted, Appended, Change, Delivered, Entry, Error, Fence, NewSignal, Run, RunState, Store,
};
use shared::task::TaskState;

const TTL: Duration = Duration::from_secs(60);
/// A lease that ends while a test waits for it.
const BRIEF: Duration = Duration::from_millis(150);
const SOON: Duration = Duration::from_secs(10);

/// A queued task, claimed by this worker.
async fn claimed(store: &PostgresStore, worker: WorkerId) -> Run {
    store.accept(new_task("x")).await.unwrap();
    store.claim(worker, 1).await.unwrap().runs.remove(0)
}

fn release(run: &Run, worker: WorkerId) -> (Fence, Entry) {
    let fence = Fence {
        worker,
        run: run.id,
        epoch: run.epoch,
    };
    let entry = Entry {
        task: run.task,
        tenant: tenant(),
        principal: "test".into(),
        last: false,
        ended: Vec::new(),
        change: Change::Release,
        events: Vec::new(),
        blobs: Vec::new(),
        survived: false,
    };
    (fence, entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_never_comes_back_and_its_runs_go_to_others() {
    let database = Database::create().await;
    let (brief, other) = (database.open(BRIEF).await, database.open(TTL).await);
    let (lapsing, steady) = (WorkerId::fresh(), WorkerId::fresh());
    brief.register(lapsing, None).await.unwrap();
    let run = claimed(&brief, lapsing).await;
    assert!(brief.beat(lapsing).await.unwrap());
    assert_eq!(
        other.register(steady, None).await.unwrap(),
        0,
        "a live worker keeps its runs"
    );
    assert_eq!(other.reap(WorkerId::fresh(), &[]).await.unwrap(), 0);

    tokio::time::sleep(BRIEF * 2).await;
    // Nobody has reaped it yet, and still it writes nothing.
    let (fence, entry) = release(&run, lapsing);
    assert_eq!(brief.append(fence, entry).await.unwrap(), Appended::Refused);
    assert!(!brief.beat(lapsing).await.unwrap());
    let reaped = tokio::join!(
        other.reap(WorkerId::fresh(), &[]),
        brief.reap(WorkerId::fresh(), &[])
    );
    assert_eq!(
        reaped.0.unwrap() + reaped.1.unwrap(),
        1,
        "once, by one of two"
    );
    assert!(!brief.beat(lapsing).await.unwrap(), "gone for ever");
    let taken = other.claim(steady, 9).await.unwrap().runs.remove(0);
    assert_eq!((taken.id, taken.epoch), (run.id, run.epoch + 1));
    brief.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_its_first_beat_is_reaped() {
    let database = Database::create().await;
    let store = database.open(BRIEF).await;
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    claimed(&store, worker).await;
    tokio::time::sleep(BRIEF * 2).await;
    assert_eq!(store.reap(WorkerId::fresh(), &[]).await.unwrap(), 1);
    store.close().await;
}

/// A process that lost its lease while the database was away did not die, nor did what it ran.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_lost_is_no_death_of_what_ran_under_it() {
    let database = Database::create().await;
    let (brief, other) = (database.open(BRIEF).await, database.open(TTL).await);
    let (lapsing, dying, judge) = (WorkerId::fresh(), WorkerId::fresh(), WorkerId::fresh());
    brief.register(lapsing, None).await.unwrap();
    let lives = claimed(&brief, lapsing).await;
    brief.register(dying, None).await.unwrap();
    let dies = claimed(&brief, dying).await;
    tokio::time::sleep(BRIEF * 2).await;
    assert_eq!(other.register(judge, None).await.unwrap(), 2);
    let back = WorkerId::fresh();
    brief.register(back, Some(lapsing)).await.unwrap();
    let claimed = other.claim(judge, 9).await.unwrap().runs;
    let deaths = |of: &Run| claimed.iter().find(|run| run.id == of.id).unwrap().deaths;
    assert_eq!((deaths(&lives), deaths(&dies)), (0, 1));
    brief.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_end_gives_runs_back_at_once() {
    let database = Database::create().await;
    let (first, second) = (database.open(TTL).await, database.open(TTL).await);
    let (gone, next) = (WorkerId::fresh(), WorkerId::fresh());
    first.register(gone, None).await.unwrap();
    second.register(next, None).await.unwrap();
    let run = claimed(&first, gone).await;
    first.close().await;
    // Heard over the wire, not looked for.
    let rung = tokio::time::timeout(SOON, second.bell().queue()).await;
    rung.expect("the queue is rung");
    let taken = second.claim(next, 9).await.unwrap().runs.remove(0);
    assert_eq!(taken.id, run.id);
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_start_at_once_on_an_empty_database_all_start() {
    let database = Database::create().await;
    let starts = (0..8).map(|_| PostgresStore::open(database.url(), TTL));
    for started in futures::future::join_all(starts).await {
        let store = started.unwrap_or_else(|error| panic!("{error}"));
        store.close().await;
    }
}

/// Many claim at once: each run has one owner.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_claimed_once() {
    let database = Database::create().await;
    let stores = [
        Arc::new(database.open(TTL).await),
        Arc::new(database.open(TTL).await),
        Arc::new(database.open(TTL).await),
    ];
    let accepts = (0..60).map(|_| stores[0].accept(new_task("x")));
    for accepted in futures::future::join_all(accepts).await {
        accepted.unwrap();
    }
    let claims = stores.iter().map(|store| {
        let store = store.clone();
        tokio::spawn(async move {
            let worker = WorkerId::fresh();
            store.register(worker, None).await.unwrap();
            let mut ids = Vec::new();
            for _ in 0..20 {
                let claimed = store.claim(worker, 5).await.unwrap();
                ids.extend(claimed.runs.into_iter().map(|run| run.id));
            }
            ids
        })
    });
    let mut ids = Vec::new();
    for claimed in futures::future::join_all(claims).await {
        ids.extend(claimed.unwrap());
    }
    assert_eq!(ids.len(), 60);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 60);
    for store in stores {
        store.close().await;
    }
}

fn asks_then_acts() -> Arc<Code> {
    Arc::new(|ctx, _| {
        async move {
            let answer = ctx
                .ask(
                    "word".into(),
                    Duration::from_secs(3600),
                    Ask::question("a word?"),
                )
                .await?;
            ctx.act("a".into(), tool(Effect::Once, json!({}))).await?;
            Ok(ended(json!({ "answer": answer })))
        }
        .boxed()
    })
}

fn word(task: TaskId) -> NewSignal {
    NewSignal {
        tenant: tenant(),
        run: task.into(),
        name: "word".into(),
        payload: json!("yes"),
        by: "someone".into(),
    }
}

async fn bench(database: &Database, park_after: Duration) -> Bench {
    let world = Arc::<World>::default();
    let act = Arc::new(|_| async { Ok(done(json!("ok"))) }.boxed());
    let store = Arc::new(database.open(TTL).await);
    Bench::on(store, asks_then_acts(), act, world, park_after).await
}

/// An answer given to one process wakes a run in another's memory, and one that waits out of memory.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_wakes_a_run_wherever_it_waits() {
    for (park_after, state) in [
        (Duration::from_secs(60), RunState::Running),
        (Duration::ZERO, RunState::Waiting),
    ] {
        let database = Database::create().await;
        let here = bench(&database, park_after).await;
        let elsewhere = database.open(TTL).await;
        let task = here.submit("go").await;
        here.reaches(task, &[state]).await;
        wait::until("it waits for a word", TTL, async || {
            let word = "signal/word".into();
            let step = elsewhere.step(&tenant(), task.into(), &word).await;
            step.unwrap().is_some()
        })
        .await;
        let watch = shared::clock::stopwatch();
        let delivered = elsewhere.deliver(word(task)).await.unwrap();
        assert_eq!(delivered, Delivered::First);
        assert_eq!(here.ends(task).await.state, RunState::Done);
        assert!(watch.ms() < 1000, "woken, not found");
        here.stop().await;
        elsewhere.close().await;
    }
}

/// Cancelling in one process ends the work in another's hands.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_process_that_runs_it() {
    let database = Database::create().await;
    let (here, elsewhere) = (database.open(TTL).await, database.open(TTL).await);
    let worker = WorkerId::fresh();
    here.register(worker, None).await.unwrap();
    let run = claimed(&here, worker).await;
    let (fence, _) = release(&run, worker);
    let seat = here
        .bell()
        .join(fence, &run, &tokio_util::sync::CancellationToken::new());
    assert!(
        elsewhere
            .cancel(&tenant(), run.task, "enough", None)
            .await
            .unwrap()
    );
    let told = tokio::time::timeout(SOON, seat.ended.cancelled()).await;
    told.expect("the run is told");
    here.close().await;
    elsewhere.close().await;
}

/// Watchers hear each event once, whichever process commits it; what counts events counts its own.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_heard_once_in_every_process() {
    let database = Database::create().await;
    let (here, elsewhere) = (database.open(TTL).await, database.open(TTL).await);
    let mut feeds = [
        here.bell().feed().subscribe(),
        elsewhere.bell().feed().subscribe(),
    ];
    let (mut own, mut foreign) = (
        here.bell().events().subscribe(),
        elsewhere.bell().events().subscribe(),
    );
    let Accepted::New(task) = here.accept(new_task("x")).await.unwrap() else {
        panic!("new")
    };
    here.cancel(&tenant(), task, "enough", None).await.unwrap();
    for feed in &mut feeds {
        for wanted in [TaskState::Queued, TaskState::Cancelled] {
            let event = tokio::time::timeout(SOON, next_event(feed)).await.unwrap();
            assert!(matches!(event, Event::State { state, .. } if state == wanted));
        }
    }
    // A second task's event comes after all of the first one's.
    here.accept(new_task("y")).await.unwrap();
    for feed in &mut feeds {
        let event = tokio::time::timeout(SOON, next_event(feed)).await.unwrap();
        let queued = matches!(
            &event,
            Event::State {
                state: TaskState::Queued,
                ..
            }
        );
        assert!(queued, "heard twice: {event:?}");
    }
    assert_eq!(own.recv().await.unwrap().seq, 1);
    assert!(matches!(foreign.try_recv(), Err(TryRecvError::Empty)));
    here.close().await;
    elsewhere.close().await;
}

/// A listener whose connection was cut comes back and makes up for what it missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_costs_time_and_nothing_else() {
    let database = Database::create().await;
    let (here, elsewhere) = (database.open(TTL).await, database.open(TTL).await);
    let mut feed = elsewhere.bell().feed().subscribe();
    database
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
    // Pools find out at their next use; one call may fail.
    let mut accepted = here.accept(new_task("x")).await;
    for _ in 0..20 {
        if accepted.is_ok() {
            break;
        }
        assert!(
            matches!(accepted, Err(Error::Unreachable(_))),
            "{accepted:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
        accepted = here.accept(new_task("x")).await;
    }
    accepted.unwrap();
    let event = tokio::time::timeout(SOON, next_event(&mut feed)).await;
    assert!(matches!(event.unwrap(), Event::State { .. }));
    here.close().await;
    elsewhere.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_with_the_address_and_without_the_password() {
    let url = "postgres://me:hidden@127.0.0.1:1/books?connect_timeout=2";
    let error = PostgresStore::open(url, TTL)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("127.0.0.1:1, database books"), "{error}");
    assert!(error.contains("database_url"), "what to do: {error}");
    for bad in [
        "mysql://me:hidden@x/y",
        "postgres://me:hidden@/y",
        "postgres://me:hidden@x:y/z",
    ] {
        let error = PostgresStore::open(bad, TTL).await.err().unwrap();
        assert!(matches!(error, Error::Url(_)), "{bad}: {error:?}");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}

/// A login without rights is told what an administrator must run; that done, it works.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_rights_is_told_what_mends_it() {
    let database = Database::create().await;
    let login = format!("mj_login_{}", uuid::Uuid::now_v7().simple());
    database
        .run(&format!("create role {login} login password 'hidden'"))
        .await;
    let url = database.url_as(&login, "hidden");
    let refused = PostgresStore::open(&url, TTL).await.err().unwrap();
    let Error::Rights { sql, .. } = &refused else {
        panic!("{refused}")
    };
    assert!(!refused.to_string().contains("hidden"), "{refused}");
    // Roles belong to the server: they are there, made by another test or by this.
    let missing = |line: &&str| !line.starts_with("create role") && !line.starts_with('\\');
    let sql: Vec<&str> = sql.lines().filter(missing).collect();
    database.open(TTL).await.close().await;
    let mend = sql.join("\n");
    let mend = mend.replace("create schema", "create schema if not exists");
    database.run(&mend).await;
    let store = PostgresStore::open(&url, TTL).await;
    let store = store.unwrap_or_else(|error| panic!("{error}"));
    store.accept(new_task("x")).await.unwrap();
    store.close().await;
    database
        .run(&format!("drop owned by {login}; drop role {login}"))
        .await;
}
