//! Journals that earlier versions wrote replay: each file of `tests/fixtures/journals` is a task as it
//! stood when it was recorded, its catalog and all its steps, and is walked by the code of today. A
//! change that would leave tasks in flight behind fails here. Journals are never changed; those of a
//! new version are added by `scripts/chaos --record LABEL`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::place::Place;
use majordomo_tests::tool::{Called, TestTool, transient};
use shared::hash::Hash;
use shared::id::{RunId, StepKey, TaskId};
use shared::label::Authority;
use shared::run::{Effect, Outcome, Recorded};
use shared::store::{Run, RunState, Step, StepKind};
use shared::task::TaskState;
use supervisor::engine::Program;
use supervisor::engine::replay::{Replay, Seen};
use supervisor::program::Programs;

/// A task as it was recorded.
#[derive(Serialize, Deserialize)]
struct Journal {
    /// Catalogs by hash.
    catalogs: BTreeMap<String, String>,
    answer: Option<String>,
    runs: Vec<RunRow>,
}

#[derive(Serialize, Deserialize)]
struct RunRow {
    id: RunId,
    task: TaskId,
    parent: Option<(RunId, StepKey)>,
    kind: String,
    agent: Option<String>,
    input: Value,
    catalog: Hash,
    authority: Authority,
    state: RunState,
    steps: Vec<StepRow>,
}

#[derive(Serialize, Deserialize)]
struct StepRow {
    key: StepKey,
    seq: i64,
    kind: StepKind,
    what: String,
    effect: Effect,
    op_hash: Hash,
    recorded: Option<Recorded>,
}

impl RunRow {
    fn run(&self) -> Run {
        Run {
            id: self.id,
            task: self.task,
            parent: self.parent.clone(),
            kind: self.kind.clone(),
            agent: self.agent.as_deref().map(Into::into),
            input: self.input.clone(),
            catalog: self.catalog,
            authority: self.authority.clone(),
            state: self.state,
            epoch: 1,
            wakes: 0,
            deaths: 0,
            created_at: shared::run::Timestamp(0),
        }
    }
}

impl StepRow {
    fn step(&self) -> Step {
        Step {
            key: self.key.clone(),
            seq: self.seq,
            kind: self.kind,
            agent: None,
            what: self.what.clone(),
            model: None,
            effect: self.effect,
            op_hash: self.op_hash,
            attempt: 1,
            attempts: Vec::new(),
            reserved: None,
            deadline: None,
            recorded: self.recorded.clone(),
            taint: shared::label::Taint::NONE,
            begun_at: shared::run::Timestamp(0),
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journals")
}

fn recorded() -> Vec<(String, Journal)> {
    let files = std::fs::read_dir(fixtures()).unwrap();
    let mut journals = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        journals.push((name, serde_json::from_str(&text).unwrap()));
    }
    journals.sort_by(|a, b| a.0.cmp(&b.0));
    journals
}

/// Walks all runs. What does not come to what was recorded, in words.
async fn walk(journal: &Journal) -> Vec<String> {
    let place = Place::folder();
    let store = place.open().await;
    for (hash, body) in &journal.catalogs {
        let hash = hash.parse().unwrap();
        store.keep(&"default".into(), hash, body).await.unwrap();
    }
    let programs = Programs::new(store.clone());
    let mut wrong = Vec::new();
    for row in &journal.runs {
        let run = row.run();
        let replay = Replay::new(&run, row.steps.iter().map(StepRow::step).collect());
        let ended = programs.run(&replay, &run).await;
        let seen = replay.into_seen();
        for seen in &seen {
            if let Seen::Mismatch(key) = seen {
                wrong.push(format!("{}: step {key} asks for something else", run.id));
            }
        }
        let over = matches!(row.state, RunState::Done | RunState::Failed);
        match (ended, over) {
            (Ok(ended), true) => {
                let answer = ended.task.and_then(|task| task.answer);
                if run.parent.is_none() && answer != journal.answer {
                    wrong.push(format!("{}: it answers {answer:?}", run.id));
                }
                let outcome = match ended.result {
                    Ok(value) => Outcome::Done(value),
                    Err(failure) => Outcome::Failed(failure),
                };
                let known = journal.outcome_in_parent(row);
                if known.is_some_and(|known| *known != outcome) {
                    wrong.push(format!("{}: it ends with {outcome:?}", run.id));
                }
            }
            (Err(_), false) => {}
            (Ok(_), false) => wrong.push(format!("{}: it ends, and had not", run.id)),
            (Err(error), true) => wrong.push(format!("{}: it does not end: {error:?}", run.id)),
        }
        let steps = row.steps.iter();
        let asked = steps.filter(|step| matches!(step.kind, StepKind::Think | StepKind::Tool));
        let ops = seen.iter().filter(|seen| matches!(seen, Seen::Op { .. }));
        let (asked, ops) = (asked.count(), ops.count());
        if ops < asked {
            wrong.push(format!(
                "{}: {ops} of {asked} operations are asked for",
                run.id
            ));
        }
    }
    store.close().await;
    wrong
}

impl Journal {
    fn outcome_in_parent(&self, row: &RunRow) -> Option<&Outcome> {
        let (parent, key) = row.parent.as_ref()?;
        let parent = self.runs.iter().find(|run| run.id == *parent)?;
        let step = parent.steps.iter().find(|step| step.key == *key)?;
        step.recorded.as_ref().map(|recorded| &recorded.outcome)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_journal_that_was_ever_recorded_replays() {
    let journals = recorded();
    assert!(journals.len() >= 4, "only {} journals", journals.len());
    for (name, journal) in &journals {
        assert_eq!(walk(journal).await, [""; 0], "{name}");
    }
}

/// The negative control: an agent that is told something else asks for something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_asks_for_something_else_is_found() {
    for (name, mut journal) in recorded() {
        for body in journal.catalogs.values_mut() {
            *body = body.replace("You are the ", "You may be the ");
        }
        assert!(!walk(&journal).await.is_empty(), "{name}");
    }
}

/// Writes the fixtures of a version; does nothing unless `MAJORDOMO_RECORD_JOURNALS` names it.
#[tokio::test(flavor = "multi_thread")]
async fn new_journals_are_recorded_where_one_asks_for_it() {
    let Ok(label) = std::env::var("MAJORDOMO_RECORD_JOURNALS") else {
        return;
    };
    for (name, setup, state) in scenes() {
        let app = setup.start().await;
        let id = app.submit(TestApp::request("Is it so?")).await;
        app.reaches(id, |task| task.state == state).await;
        let path = fixtures().join(format!("{label}-{name}.json"));
        let file = std::fs::File::create_new(&path);
        let file = file.expect("recorded journals are never changed: choose another label");
        serde_json::to_writer_pretty(file, &journal(&app, id).await).unwrap();
        app.down(std::time::Duration::ZERO).await;
    }
}

async fn journal(app: &TestApp, id: TaskId) -> Journal {
    let (store, tenant) = (&app.app.store, app.app.tenant());
    let mut journal = Journal {
        catalogs: BTreeMap::new(),
        answer: app.task(id).await.answer,
        runs: Vec::new(),
    };
    for run in store.runs(tenant, id).await.unwrap() {
        let body = store.content(tenant, run.catalog).await.unwrap();
        journal
            .catalogs
            .insert(run.catalog.to_string(), body.unwrap());
        let steps = store.steps(tenant, run.id).await.unwrap();
        let rows = steps.into_iter().map(|step| StepRow {
            key: step.key,
            seq: step.seq,
            kind: step.kind,
            what: step.what,
            effect: step.effect,
            op_hash: step.op_hash,
            recorded: step.recorded,
        });
        journal.runs.push(RunRow {
            steps: rows.collect(),
            id: run.id,
            task: run.task,
            parent: run.parent,
            kind: run.kind,
            agent: run.agent.map(|agent| agent.to_string()),
            input: run.input,
            catalog: run.catalog,
            authority: run.authority,
            state: run.state,
        });
    }
    journal
}

fn scenes() -> Vec<(&'static str, Setup, TaskState)> {
    let look = || TestTool::reads("look");
    let breaking = |_: Called| async { Err(transient("the line broke").may_have_happened()) };
    let send: Arc<TestTool> = Arc::new(TestTool::new("send", Effect::Once, breaking));
    let routed = Setup::scripted(ROUTED, "")
        .agent("finder", "tools = [\"look\"]\nthen = \"author\"\n")
        .agent("author", "")
        .tool(look());
    let price = "price = { input = 1.0, output = 2.0 }\n";
    let retried = Setup::worker_priced(price, RETRIED, &[&look()], "");
    let looping = Setup::worker(LOOPING, &[&look()], "");
    let doubt = Setup::worker(DOUBT, &[&send], "");
    vec![
        ("routed", routed, TaskState::Done),
        ("retried", retried, TaskState::Done),
        ("looping", looping, TaskState::Failed),
        ("doubt", doubt, TaskState::AwaitingHuman),
    ]
}

/// Two agents, calls side by side, arguments that the schema refuses.
const ROUTED: &str = r#"
[[agent]]
name = "router"
system = "supervisor"
[[agent.reply]]
text = "ROUTE: finder"

[[agent]]
name = "finder"
system = "You are the finder"
[[agent.reply]]
text = "I look."
calls = [{ tool = "look", args = { n = 1 } }, { tool = "look", args = { n = 2 } }, { tool = "look", args = { n = "x" } }]
[[agent.reply]]
text = "Three findings."

[[agent]]
name = "author"
system = "You are the author"
[[agent.reply]]
text = "It is so."
"#;

/// Faults, and a reply that has to be asked for again.
const RETRIED: &str = r#"
[[agent.fault]]
turn = 1
fault = 429
[[agent.reply]]
text = "Let me look."
calls = [{ tool = "look", args = { n = 1 } }, { tool = "lok" }]
[[agent.reply]]
text = ""
turn = 2
times = 1
[[agent.reply]]
text = "One."
turn = 2
"#;

/// The same call again, which the loop guard answers.
const LOOPING: &str = r#"
[[agent.reply]]
calls = [{ tool = "look", args = { n = 1 } }]
[[agent.reply]]
calls = [{ tool = "look", args = { n = 1 } }]
[[agent.reply]]
calls = [{ tool = "look", args = { n = 1 } }]
[[agent.reply]]
text = "Enough."
"#;

const DOUBT: &str = r#"
[[agent.reply]]
text = "I send it."
calls = [{ tool = "send", args = { n = 5 } }]
"#;
