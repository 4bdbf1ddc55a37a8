//! The operator's brake: what stands still, at once and everywhere, and goes on as if after a crash.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::engine::{Act, Bench, Code, World, done, ended, new_task, tenant, tool};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::{Kind, Place};
use majordomo_tests::tool::TestTool;
use majordomo_tests::wait::until;
use shared::id::{TaskId, WorkerId};
use shared::run::{Child, Effect, OpKind};
use shared::store::{Accepted, Halted, NewHalt, RunState, Store};
use shared::task::TaskState;
use supervisor::halt::Target;
use supervisor::intake::{Refused, Submission};

on_both_stores!(
    a_stop_of_everything_cuts_off_what_is_in_hand_and_a_resume_repeats_nothing,
    a_stopped_agent_waits_and_all_others_go_on,
    nothing_is_taken_in_while_everything_stands_still,
    a_file_stops_the_process_of_its_folder,
    a_stopped_tenant_is_the_only_one,
    what_stands_still_is_not_claimed,
);

const LONG: Duration = Duration::from_secs(60);
/// By then nothing of what was stopped goes on.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Time for something to go on that must not.
const A_WHILE: Duration = Duration::from_millis(1_500);

/// Calls that last until the gate is open, whoever makes them.
#[derive(Default)]
struct Calls {
    begun: AtomicUsize,
    in_hand: AtomicUsize,
    open: CancellationToken,
}

impl Calls {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::SeqCst)
    }
}

/// One of them; over when it is dropped, too.
struct InHand(Arc<Calls>);

impl InHand {
    fn begin(calls: &Arc<Calls>) -> Self {
        calls.begun.fetch_add(1, Ordering::SeqCst);
        calls.in_hand.fetch_add(1, Ordering::SeqCst);
        Self(calls.clone())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A model call and a tool call of a part, in the hands of the agent that the task's text names first. The
/// last word says which of them is slow.
fn parts() -> Arc<Code> {
    Arc::new(|ctx, run| {
        async move {
            let text = run.input["text"].as_str().unwrap_or_default().to_owned();
            if run.parent.is_none() {
                let part = Child {
                    agent: text.split(' ').next().unwrap_or_default().into(),
                    input: json!({ "text": text }),
                };
                ctx.child("part".into(), part).await?;
                return Ok(ended(json!("whole")));
            }
            let slow = text.split(' ').next_back().unwrap_or_default().to_owned();
            for (what, effect) in [("model", Effect::Idempotent), ("tool", Effect::Verifiable)] {
                let key = format!("{what}/{}", run.id);
                let op = tool(effect, json!({ "slow": slow == what }));
                ctx.act(key.as_str().into(), op).await?;
            }
            Ok(ended(json!("part")))
        }
        .boxed()
    })
}

fn slowly(calls: &Arc<Calls>, world: &Arc<World>) -> Arc<Act> {
    let (calls, world) = (calls.clone(), world.clone());
    Arc::new(move |exec| {
        let (calls, world) = (calls.clone(), world.clone());
        async move {
            let _in_hand = InHand::begin(&calls);
            if let OpKind::Tool { args, .. } = &exec.op.kind
                && args["slow"] == true
            {
                calls.open.cancelled().await;
            }
            world.touch(&exec.key);
            Ok(done(json!("ok")))
        }
        .boxed()
    })
}

/// Engines on one store: two on a database, one on a folder.
async fn replicas(place: &Place, calls: &Arc<Calls>, world: &Arc<World>) -> Vec<Bench> {
    let mut benches = Vec::new();
    for _ in 0..1 + usize::from(place.postgres().is_some()) {
        let act = slowly(calls, world);
        benches.push(Bench::start(place, parts(), act, world.clone(), LONG).await);
    }
    benches
}

async fn begin(bench: &Bench, text: &str) -> TaskId {
    match bench.engine.accept(new_task(text)).await.unwrap() {
        Accepted::New(id) => id,
        other => panic!("{other:?}"),
    }
}

async fn halt(store: &dyn Store, what: Halted) {
    let halt = NewHalt {
        tenant: tenant(),
        what,
        reason: "it posts nonsense".into(),
        by: "ada".into(),
    };
    assert!(store.halts().set(halt.clone()).await.unwrap());
    assert!(!store.halts().set(halt).await.unwrap(), "it stands already");
}

async fn running(store: &dyn Store) -> i64 {
    let census = store.census().await.unwrap();
    census.runs.get("running").copied().unwrap_or_default()
}

async fn a_stop_of_everything_cuts_off_what_is_in_hand_and_a_resume_repeats_nothing(kind: Kind) {
    let place = kind.place().await;
    let (calls, world) = (Arc::<Calls>::default(), Arc::<World>::default());
    let benches = replicas(&place, &calls, &world).await;
    let mut tasks = Vec::new();
    for bench in &benches {
        for text in ["a model", "b model", "c tool", "d tool"] {
            tasks.push(begin(bench, text).await);
        }
    }
    until("all are in hand", LONG, async || {
        calls.in_hand() == tasks.len()
    })
    .await;

    let store = benches[0].store.clone();
    halt(&*store, Halted::All).await;
    until("calls are cut off", AT_ONCE, async || calls.in_hand() == 0).await;
    until("runs have left", AT_ONCE, async || {
        running(&*store).await == 0
    })
    .await;
    let begun = calls.begun();
    let Accepted::New(late) = store.accept(new_task("late x")).await.unwrap() else {
        panic!("new")
    };
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(calls.begun(), begun, "something was begun all the same");
    assert_eq!(running(&*store).await, 0);
    drop(store);

    // A restart changes nothing about it.
    for bench in benches {
        bench.stop().await;
    }
    let benches = replicas(&place, &calls, &world).await;
    calls.open.cancel();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(calls.begun(), begun, "a restart let it go on");
    let stands = benches[0].store.halts().of(&tenant()).await.unwrap();
    assert_eq!(stands.len(), 1);
    assert_eq!(
        (stands[0].by.as_str(), &*stands[0].reason),
        ("ada", "it posts nonsense")
    );

    let last = &benches[benches.len() - 1];
    let lift = async || {
        last.store
            .halts()
            .lift(&tenant(), &Halted::All)
            .await
            .unwrap()
    };
    assert!(lift().await && !lift().await);
    for task in &tasks {
        assert_eq!(benches[0].ends(*task).await.state, RunState::Done);
        let task = benches[0]
            .store
            .task(&tenant(), *task)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            task.usage.usd.nano(),
            7,
            "what was cut off is charged, once"
        );
    }
    assert_eq!(benches[0].ends(late).await.state, RunState::Done);
    let effects = world.done();
    assert_eq!(effects.len(), 2 * (tasks.len() + 1));
    assert!(effects.values().all(|times| *times == 1), "{effects:?}");
    for bench in benches {
        bench.stop().await;
    }
}

async fn a_stopped_agent_waits_and_all_others_go_on(kind: Kind) {
    let place = kind.place().await;
    let (calls, world) = (Arc::<Calls>::default(), Arc::<World>::default());
    let benches = replicas(&place, &calls, &world).await;
    let writes = begin(&benches[0], "writer model").await;
    let reads = begin(&benches[0], "reader model").await;
    until("both are in hand", LONG, async || calls.in_hand() == 2).await;
    let other = &benches[benches.len() - 1];
    let writer = Halted::Agent("writer".into());
    halt(&*other.store, writer.clone()).await;
    until("the writer's is cut off", AT_ONCE, async || {
        calls.in_hand() == 1
    })
    .await;
    // One that is begun while its agent stands still waits from the start.
    let later = begin(&benches[0], "writer tool").await;
    calls.open.cancel();
    assert_eq!(benches[0].ends(reads).await.state, RunState::Done);
    let begun = calls.begun();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(calls.begun(), begun);
    for task in [writes, later] {
        let root = benches[0].store.run(&tenant(), task.into()).await.unwrap();
        assert_eq!(
            root.unwrap().state,
            RunState::Running,
            "it waits for its part"
        );
    }
    assert!(other.store.halts().lift(&tenant(), &writer).await.unwrap());
    for task in [writes, later] {
        assert_eq!(benches[0].ends(task).await.state, RunState::Done);
    }
    assert!(world.done().values().all(|times| *times == 1));
    for bench in benches {
        bench.stop().await;
    }
}

/// The row itself keeps runs from being claimed, whatever a process has heard.
async fn what_stands_still_is_not_claimed(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    store.accept(new_task("x")).await.unwrap();
    let claim = async || store.claim(worker, 9).await.unwrap().runs.len();
    halt(&*store, Halted::Agent("writer".into())).await;
    halt(&*store, Halted::All).await;
    assert_eq!(claim().await, 0);
    assert!(store.halts().lift(&tenant(), &Halted::All).await.unwrap());
    assert_eq!(claim().await, 1, "it is no run of the writer's");
    store.close().await;
}

/// A process that missed the word looks for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_nobody_passed_on_is_found_in_time() {
    let place = Place::database().await;
    let (calls, world) = (Arc::<Calls>::default(), Arc::<World>::default());
    let benches = replicas(&place, &calls, &world).await;
    let tasks = [
        begin(&benches[0], "a model").await,
        begin(&benches[1], "b tool").await,
    ];
    until("both are in hand", LONG, async || calls.in_hand() == 2).await;
    let database = place.postgres().unwrap();
    let insert = "insert into majordomo.halt (tenant, what, name, reason, by, at)
                  values ('default', 'all', '', '', 'ada', 0)";
    database.run(insert).await;
    until("calls are cut off", AT_ONCE, async || calls.in_hand() == 0).await;
    calls.open.cancel();
    database.run("delete from majordomo.halt").await;
    for task in tasks {
        assert_eq!(benches[0].ends(task).await.state, RunState::Done);
    }
    for bench in benches {
        bench.stop().await;
    }
}

async fn a_stopped_tenant_is_the_only_one(kind: Kind) {
    let place = kind.place().await;
    let (calls, world) = (Arc::<Calls>::default(), Arc::<World>::default());
    calls.open.cancel();
    let benches = replicas(&place, &calls, &world).await;
    let halt = NewHalt {
        tenant: "other".into(),
        what: Halted::All,
        reason: String::new(),
        by: "eve".into(),
    };
    assert!(benches[0].store.halts().set(halt).await.unwrap());
    assert!(
        benches[0]
            .store
            .halts()
            .of(&tenant())
            .await
            .unwrap()
            .is_empty()
    );
    let ours = begin(&benches[0], "reader x").await;
    assert_eq!(benches[0].ends(ours).await.state, RunState::Done);
    let mut theirs = new_task("reader x");
    theirs.authority.tenant = "other".into();
    let theirs = {
        benches[0].store.accept(theirs.clone()).await.unwrap();
        theirs.id
    };
    tokio::time::sleep(A_WHILE).await;
    let run = benches[0].store.run(&"other".into(), theirs.into()).await;
    assert_eq!(run.unwrap().unwrap().state, RunState::Queued);
    for bench in benches {
        bench.stop().await;
    }
}

fn submission(text: &str) -> Submission {
    Submission {
        request: TestApp::request(text),
        principal: "local".into(),
        submitted_by: "local".into(),
        dedupe: None,
        read: None,
        card: None,
        since: None,
        blobs: Vec::new(),
    }
}

async fn refused(app: &TestApp) -> String {
    match app.app.intake.submit(submission("More")).await {
        Err(refused @ Refused::Halted(_)) => refused.to_string(),
        other => panic!("{other:?}"),
    }
}

const SENDS: &str =
    "[[agent.reply]]\ncalls = [{ tool = \"send\" }]\n[[agent.reply]]\ntext = \"sent\"\n";

/// Also a tool that does not heed its token is cut off.
async fn nothing_is_taken_in_while_everything_stands_still(kind: Kind) {
    let calls = Arc::<Calls>::default();
    let counted = calls.clone();
    let send = TestTool::new("send", Effect::Idempotent, move |called| {
        let in_hand = InHand::begin(&counted);
        async move {
            let _in_hand = in_hand;
            match called.before {
                0 => std::future::pending().await,
                _ => Ok(json!("sent")),
            }
        }
    });
    let send = Arc::new(send);
    let app = Setup::worker(SENDS, &[&send], "").on(kind).start().await;
    let task = app.submit(TestApp::request("Send it")).await;
    until("it is in hand", LONG, async || calls.in_hand() == 1).await;
    let (all, ada) = (Target::Work(Halted::All), "ada".into());
    let desk = &app.app.desk;
    assert!(desk.stop(&all, "it posts nonsense", &ada).await.unwrap());
    until("it is cut off", AT_ONCE, async || calls.in_hand() == 0).await;
    let why = refused(&app).await;
    assert!(
        why.starts_with("everything was stopped by ada at 2"),
        "{why}"
    );
    assert!(
        why.ends_with("it posts nonsense; `majordomo resume --all` lets it go on"),
        "{why}"
    );
    assert!(matches!(
        desk.retry(task, ada.clone()).await,
        Err(Refused::Halted(_))
    ));

    let setup = app.down(Duration::from_secs(5)).await;
    let app = setup.start().await;
    assert_eq!(refused(&app).await, why);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(send.calls().len(), 1);
    assert!(app.app.desk.go_on(&all, &ada).await.unwrap());
    let task = app.ends(task).await;
    assert_eq!(
        (task.state, task.answer.as_deref()),
        (TaskState::Done, Some("sent"))
    );
    assert_eq!(send.calls().len(), 2, "once more, under the same key");
    app.ask("Another").await;
    app.stop().await;
}

/// The file appears while a task is under way: nothing more is begun until it is gone.
async fn a_file_stops_the_process_of_its_folder(kind: Kind) {
    let file = Arc::<OnceLock<PathBuf>>::default();
    let there = file.clone();
    let send = TestTool::new("send", Effect::Once, move |_| {
        let there = there.clone();
        async move {
            let file = there.get().unwrap();
            // Where the state is in a database, nobody has made the folder yet.
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "out of hand\n").unwrap();
            Ok(json!("sent"))
        }
    });
    let app = Setup::worker(SENDS, &[&Arc::new(send)], "")
        .on(kind)
        .start()
        .await;
    let file = file.get_or_init(|| app.data().join("STOP"));
    let task = app.submit(TestApp::request("Send it")).await;
    until("the file is there", LONG, async || file.exists()).await;
    let store = app.app.store.clone();
    until("runs have left", AT_ONCE, async || {
        running(&*store).await == 0
    })
    .await;
    let asked = app.requests().len();
    let why = refused(&app).await;
    assert!(why.contains("out of hand; remove the file STOP"), "{why}");
    assert!(
        !app.app
            .desk
            .go_on(&Target::Work(Halted::All), &"ada".into())
            .await
            .unwrap()
    );
    assert_eq!(
        app.app.desk.halts().await.unwrap().len(),
        1,
        "a word does not remove it"
    );
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        app.requests().len(),
        asked,
        "the model was asked all the same"
    );
    std::fs::remove_file(file).unwrap();
    assert_eq!(app.ends(task).await.answer.as_deref(), Some("sent"));
    drop(store);
    app.stop().await;
}
