//! Looking after an installation: duties, retention, the checkup, and backups.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};

use majordomo_tests::engine::{Act, Bench, Code, World, done, ended, new_task, tenant, tool};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::{Kind, Place};
use majordomo_tests::wait;
use shared::ask::Ask;
use shared::config::RetentionSettings;
use shared::id::{TaskId, WorkerId};
use shared::run::{Child, Effect};
use shared::store::{Again, Delivered, Duty, NewSignal, Renewed, RunState, duty, kind};
use supervisor::engine::Ended;
use supervisor::program::Programs;
use supervisor::retention::Retention;

on_both_stores!(
    a_duty_is_one_workers_until_that_one_is_gone,
    old_journals_go_and_nothing_that_lives,
    a_parent_goes_on_without_its_childrens_journals,
    a_checkup_finds_what_is_there,
);

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(60);
const NOW: Duration = Duration::ZERO;
const DAY: Duration = Duration::from_secs(86_400);
/// A body that no row holds.
const LENGTH: usize = 20_000;

async fn a_duty_is_one_workers_until_that_one_is_gone(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let (old, new) = (WorkerId::fresh(), WorkerId::fresh());
    let hold = |worker| store.hold(duty::RETENTION, worker);
    assert_eq!(
        hold(old).await.unwrap(),
        None,
        "nobody who is not registered"
    );
    store.register(old, None).await.unwrap();
    let first = hold(old).await.unwrap().unwrap();
    assert_eq!(
        hold(old).await.unwrap().as_ref(),
        Some(&first),
        "it is kept"
    );
    if kind == Kind::Database {
        store.register(new, None).await.unwrap();
        assert_eq!(hold(new).await.unwrap(), None, "its holder lives");
        place.lapse().await;
    }
    let new = WorkerId::fresh();
    store.register(new, None).await.unwrap();
    let second = hold(new).await.unwrap().unwrap();
    assert_eq!((first.epoch, second.epoch), (1, 2));
    assert_eq!(hold(old).await.unwrap(), None);
    let prune = async |held: &Duty| store.prune(held, &[TaskId::fresh()]).await.unwrap();
    assert_eq!(prune(&first).await, None, "a lost duty does nothing");
    let stale = Duty {
        epoch: 1,
        ..second.clone()
    };
    assert_eq!(prune(&stale).await, None);
    assert_eq!(prune(&second).await, Some(0));
    store.close().await;
}

/// A root of a child and a signal that it waits for; `text` says whether it waits. The child's and
/// the last step's results are long.
fn waiting() -> Arc<Code> {
    Arc::new(|ctx, run| {
        async move {
            if run.parent.is_some() {
                let long = ctx.act("long".into(), tool(Effect::Once, json!(1))).await?;
                return Ok(Ended {
                    result: Ok(json!(format!("{:?}", long.outcome))),
                    task: None,
                });
            }
            let child = Child {
                agent: "worker".into(),
                input: json!({}),
            };
            let part = ctx.child("part".into(), child).await?;
            let asked = run.input["text"].as_str().unwrap_or_default();
            if asked == "wait" {
                ctx.ask("word".into(), LONG, Ask::question("a word?"))
                    .await?;
            }
            let length = format!("{:?}", part.outcome).len();
            Ok(ended(json!(length > LENGTH)))
        }
        .boxed()
    })
}

fn touching(world: &Arc<World>) -> Arc<Act> {
    let world = world.clone();
    Arc::new(move |exec| {
        world.touch(&exec.key);
        async move { Ok(done(json!("x".repeat(LENGTH)))) }.boxed()
    })
}

async fn bench(place: &Place, world: &Arc<World>) -> Bench {
    Bench::start(place, waiting(), touching(world), world.clone(), SHORT).await
}

async fn answer(bench: &Bench, task: TaskId) {
    let signal = NewSignal {
        tenant: tenant(),
        run: task.into(),
        name: "word".into(),
        payload: json!(1),
        by: "test".into(),
    };
    assert_eq!(bench.store.deliver(signal).await.unwrap(), Delivered::First);
}

fn retention(bench: &Bench, archive: Option<&std::path::Path>, age: Duration) -> Retention {
    let settings = RetentionSettings {
        journal_days: Some(1),
        archive: archive.map(Into::into),
    };
    let programs = Arc::new(Programs::new(bench.store.clone()));
    Retention::new(&settings, bench.store.clone(), programs).older_than(age)
}

/// How many steps and events a task has.
async fn journal(bench: &Bench, task: TaskId) -> (usize, usize) {
    let mut steps = 0;
    for run in bench.store.runs(&tenant(), task).await.unwrap() {
        steps += bench.store.steps(&tenant(), run.id).await.unwrap().len();
    }
    let events = bench.store.events(&tenant(), task, 0, 99).await.unwrap();
    (steps, events.len())
}

async fn old_journals_go_and_nothing_that_lives(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::<World>::default();
    let bench = bench(&place, &world).await;
    let over = bench.submit("go").await;
    assert_eq!(bench.ends(over).await.state, RunState::Done);
    // Its long results are the very same bodies.
    let live = bench.submit("wait").await;
    bench.reaches(live, &[RunState::Waiting]).await;
    let before = bench.store.task(&tenant(), over).await.unwrap().unwrap();
    let lives = journal(&bench, live).await;
    let worker = bench.engine.worker();
    let archive = place.path().join("archive");

    let young = retention(&bench, Some(&archive), DAY);
    assert_eq!(young.once(worker).await.unwrap(), 0, "it is not a day old");
    let old = retention(&bench, Some(&archive), NOW);
    let stranger = WorkerId::fresh();
    assert_eq!(old.once(stranger).await.unwrap(), 0, "not its duty");
    assert!(!archive.exists());
    assert_eq!(old.once(worker).await.unwrap(), 1);
    assert_eq!(old.once(worker).await.unwrap(), 0, "once is enough");

    assert_eq!(journal(&bench, over).await, (0, 0));
    let after = bench.store.task(&tenant(), over).await.unwrap().unwrap();
    assert_eq!((&after.answer, after.usage), (&before.answer, before.usage));
    assert!(after.pruned_at.is_some());
    let line = std::fs::read_to_string(archive.join(format!("{over}.jsonl"))).unwrap();
    assert_eq!(line.lines().count(), 1);
    let story: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(story["story"]["task"]["id"], json!(over));
    assert_eq!(story["story"]["task"]["steps"].as_array().unwrap().len(), 2);
    assert!(story["events"].as_array().unwrap().len() > 3);

    let again = Again {
        tenant: tenant(),
        of: over,
        id: TaskId::fresh(),
        by: "test".into(),
    };
    let forked = bench.store.fork(again, &"part".into()).await.unwrap();
    assert_eq!(forked, Renewed::Pruned(over.into()));

    assert_eq!(
        journal(&bench, live).await,
        lives,
        "a live task is not touched"
    );
    answer(&bench, live).await;
    assert_eq!(bench.ends(live).await.state, RunState::Done);
    let live = bench.store.task(&tenant(), live).await.unwrap().unwrap();
    assert_eq!(
        live.answer.as_deref(),
        Some("true"),
        "the body that both had is there"
    );
    assert_eq!(old.once(worker).await.unwrap(), 1);
    if kind == Kind::Folder {
        let db = place.path().join("data/majordomo.db");
        let conn = rusqlite::Connection::open(db).unwrap();
        let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(
            count("select count(*) from content"),
            0,
            "and goes with the last"
        );
        assert_eq!(count("pragma freelist_count"), 0, "its space is given back");
    }
    bench.stop().await;
}

async fn a_parent_goes_on_without_its_childrens_journals(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::<World>::default();
    let first = bench(&place, &world).await;
    let task = first.submit("wait").await;
    // On a slow machine it waits out of memory for its child, too.
    let asks = async || {
        let steps = first.store.steps(&tenant(), task.into()).await.unwrap();
        steps.iter().any(|step| step.key.as_str() == "signal/word")
    };
    wait::until("it asks", Duration::from_secs(30), asks).await;
    first.reaches(task, &[RunState::Waiting]).await;
    first.stop().await;
    let gone = "delete from step where run in (select id from run where parent is not null)";
    match place.postgres() {
        Some(database) => {
            database
                .run(&format!("set search_path to majordomo; {gone}"))
                .await
        }
        None => {
            let db = place.path().join("data/majordomo.db");
            let conn = rusqlite::Connection::open(db).unwrap();
            assert_eq!(conn.execute(gone, []).unwrap(), 1);
        }
    }
    let second = bench(&place, &world).await;
    answer(&second, task).await;
    assert_eq!(second.ends(task).await.state, RunState::Done);
    assert_eq!(
        world.done()["long"],
        1,
        "the child's outcome is in its parent's step"
    );
    second.stop().await;
}

async fn a_checkup_finds_what_is_there(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    for _ in 0..3 {
        store.accept(new_task("x")).await.unwrap();
    }
    store.claim(worker, 1).await.unwrap();
    let found = store.checkup().await.unwrap();
    assert_eq!((found.live, found.lapsed, found.queued), (1, 0, 2));
    assert_eq!(found.orphans, []);
    assert_eq!(found.kinds[kind::TASK], 3);
    assert_eq!(found.migration.0, found.migration.1);
    assert!(found.bytes > 0 && found.tables.iter().any(|(name, _)| name == "task"));
    assert!(found.now.since(shared::clock::now()) < Duration::from_secs(60));
    let census = store.census().await.unwrap();
    assert_eq!((census.workers, census.dead, census.in_doubt), (1, 0, 0));
    place.lapse().await;
    if kind == Kind::Database {
        let found = store.checkup().await.unwrap();
        assert_eq!((found.live, found.lapsed, found.orphans.len()), (0, 1, 1));
        assert_eq!(store.census().await.unwrap().workers, 0);
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_restored_and_every_task_goes_on() {
    let place = Place::folder();
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            for step in 0..8 {
                let key = format!("step/{step}");
                ctx.act(key.into(), tool(Effect::Idempotent, json!(step)))
                    .await?;
            }
            Ok(ended(json!("done")))
        }
        .boxed()
    });
    let act: Arc<Act> = Arc::new(|_| {
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(done(json!("x".repeat(500))))
        }
        .boxed()
    });
    let start = async |place: &Place| {
        Bench::start(place, code.clone(), act.clone(), Arc::default(), LONG).await
    };
    let bench = start(&place).await;
    let mut before = Vec::new();
    for _ in 0..60 {
        before.push(bench.submit("go").await);
    }
    let (data, copy) = (place.path().join("data"), place.path().join("copy.db"));
    let into = copy.clone();
    let copying = tokio::task::spawn_blocking(move || {
        let made = shared::store::sqlite::backup(&data, &into);
        (made, shared::store::sqlite::backup(&data, &into))
    });
    let mut after = Vec::new();
    while !copying.is_finished() {
        after.push(bench.submit("go").await);
    }
    let (made, again) = copying.await.unwrap();
    assert!(made.unwrap() > 0);
    assert!(
        again.unwrap_err().to_string().contains("copy.db"),
        "no overwriting"
    );
    let left = std::fs::read_dir(place.path()).unwrap();
    let left = left.filter(|file| {
        file.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("partial")
    });
    assert_eq!(left.count(), 0);
    for task in before.iter().chain(&after) {
        assert_eq!(bench.ends(*task).await.state, RunState::Done);
    }
    bench.stop().await;

    let restored = Place::folder();
    std::fs::create_dir(restored.path().join("data")).unwrap();
    std::fs::copy(&copy, restored.path().join("data/majordomo.db")).unwrap();
    let bench = start(&restored).await;
    assert!(bench.resumed > 0, "it was taken in the middle of work");
    for task in before {
        assert_eq!(bench.ends(task).await.state, RunState::Done);
    }
    bench.stop().await;
}
