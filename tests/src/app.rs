//! A real instance of the product around a configuration of the test's own. At its end it asserts
//! that nothing is left half-done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agents::tools::Tool;
use shared::config::Source;
use shared::event::{Event, Live};
use shared::id::{ModelName, TaskId};
use shared::model::scripted::ScriptedModel;
use shared::model::{Message, Model, ModelRequest};
use shared::run::Outcome;
use shared::store::{Accepted, RunState, Step, StepKind};
use shared::task::{Budget, Request, Said, Task};
use supervisor::app::{App, Options};
use supervisor::intake::Submission;

use crate::model::Recorder;
use crate::place::{Kind, Place};
use crate::tool::TestTool;

/// An instance under test, with its folders.
pub struct TestApp {
    /// The instance.
    pub app: Arc<App>,
    setup: Setup,
}

/// What an instance is made of. After [`TestApp::down`] also what it stands on: its folders, and a
/// model and tools that remember.
#[derive(Default)]
pub struct Setup {
    files: BTreeMap<String, String>,
    tools: Vec<Arc<dyn Tool>>,
    built_in: bool,
    script: Option<Arc<ScriptedModel>>,
    model: Option<Arc<Recorder>>,
    kind: Kind,
    place: Option<Place>,
}

impl Setup {
    /// The configuration that the binary carries, with the offline model.
    pub fn built_in() -> Self {
        Self {
            built_in: true,
            ..Self::default()
        }
    }

    /// A configuration with this `majordomo.toml`.
    pub fn settings(text: &str) -> Self {
        Self::default().config("majordomo.toml", &crate::unasked(text))
    }

    /// A model that answers from this script, and `more` settings.
    pub fn scripted(script: &str, more: &str) -> Self {
        let model = "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n";
        let scripted = Arc::new(ScriptedModel::parse(script).expect("a script"));
        let setup = Self::settings(&format!("{model}\n[retry]\nbase_s = 0.001\n\n{more}"))
            .config("script.toml", script)
            .model(scripted.clone());
        Self {
            script: Some(scripted),
            ..setup
        }
    }

    /// One agent, `worker`, that gets every task and has these tools. `replies` are its part of the
    /// script, `more` are settings.
    pub fn worker(replies: &str, tools: &[&Arc<TestTool>], more: &str) -> Self {
        Self::worker_priced("", replies, tools, more)
    }

    /// The same, with a model whose tokens cost something.
    pub fn worker_priced(price: &str, replies: &str, tools: &[&Arc<TestTool>], more: &str) -> Self {
        let script = format!(
            "{price}[[agent]]\nname = \"worker\"\nsystem = \"You are the worker\"\n{replies}"
        );
        let names: Vec<&str> = tools.iter().map(|tool| tool.name()).collect();
        let route = "[[routes]]\nmatches = ''\nagents = [\"worker\"]\n";
        let setup = Self::scripted(&script, &format!("{route}\n{more}"))
            .agent("worker", &format!("tools = {names:?}\n"));
        tools
            .iter()
            .fold(setup, |setup, tool| setup.tool((*tool).clone()))
    }

    /// One more file of the configuration.
    pub fn config(mut self, path: &str, text: &str) -> Self {
        self.files.insert(format!("config/{path}"), text.to_owned());
        self
    }

    /// More text at the end of a file of the configuration.
    pub fn and(mut self, path: &str, text: &str) -> Self {
        let file = self.files.entry(format!("config/{path}")).or_default();
        file.push_str(text);
        self
    }

    /// The configuration without this file.
    pub fn without(mut self, path: &str) -> Self {
        let gone = self.files.remove(&format!("config/{path}"));
        assert!(gone.is_some(), "there is no {path} to take away");
        self
    }

    /// An agent's file.
    pub fn agent(self, name: &str, rest: &str) -> Self {
        let text = format!(
            "name = \"{name}\"\ndescription = \"The {name} of a test, chosen when the test says so.\"\nprompt = \"You are the {name}.\"\n{rest}"
        );
        self.config(&format!("agents/{name}.toml"), &text)
    }

    /// A file of the material.
    pub fn material(mut self, path: &str, text: &str) -> Self {
        self.files
            .insert(format!("material/{path}"), text.to_owned());
        self
    }

    /// One more tool.
    pub fn tool(mut self, tool: Arc<dyn Tool>) -> Self {
        self.tools.push(tool);
        self
    }

    /// This model in place of `default`.
    pub fn model(mut self, model: Arc<dyn Model>) -> Self {
        self.model = Some(Arc::new(Recorder::new(model)));
        self
    }

    /// With its state in a place of this kind.
    pub fn on(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Starts the instance.
    pub async fn start(mut self) -> TestApp {
        let place = match self.place.take() {
            Some(place) => place,
            None => self.kind.place().await,
        };
        let folder = place.path();
        // An earlier start may have left files that are no part of the configuration any more.
        let _ = std::fs::remove_dir_all(folder.join("config"));
        for (path, text) in &self.files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        std::fs::create_dir_all(folder.join("material")).expect("a folder");
        place.configure(&folder.join("config"));
        let source = match self.built_in {
            true => Source::BuiltIn,
            false => Source::Folder(folder.join("config")),
        };
        let model = self.model.clone().map(|model| model as Arc<dyn Model>);
        let app = App::start(Options {
            source,
            data: folder.join("data"),
            read: Some(folder.join("material")),
            tools: self.tools.clone(),
            models: model
                .map(|model| (ModelName::from("default"), model))
                .into_iter()
                .collect(),
        });
        let app = Arc::new(app.await.expect("the instance starts"));
        self.place = Some(place);
        TestApp { app, setup: self }
    }
}

impl TestApp {
    /// A request with these words.
    pub fn request(text: &str) -> Request {
        Request {
            text: text.into(),
            agent: None,
            channel: "cli".into(),
            thread: None,
            metadata: BTreeMap::new(),
            budget: Budget::default(),
            said: Said::default(),
            priority: 0,
            images: Vec::new(),
        }
    }

    /// The folder of the material.
    pub fn material(&self) -> PathBuf {
        self.folder().join("material")
    }

    /// The folder that a task writes to.
    pub fn output(&self, task: TaskId) -> PathBuf {
        self.folder().join("data/files").join(task.to_string())
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Hands in a request.
    pub async fn submit(&self, request: Request) -> TaskId {
        let submission = Submission {
            request,
            principal: "local".into(),
            submitted_by: "local".into(),
            dedupe: None,
            read: None,
            card: None,
            since: None,
            blobs: Vec::new(),
        };
        match self.app.intake.submit(submission).await.expect("taken in") {
            Accepted::New(id) | Accepted::Known(id) | Accepted::Conflict(id) => id,
        }
    }

    /// The task as it stands.
    pub async fn task(&self, id: TaskId) -> Task {
        let task = self.app.store.task(self.app.tenant(), id).await;
        task.expect("the store answers").expect("the task is there")
    }

    /// Waits until the task has ended.
    pub async fn ends(&self, id: TaskId) -> Task {
        self.reaches(id, |task| task.state.is_final()).await
    }

    /// Waits until the task is as wanted.
    pub async fn reaches(&self, id: TaskId, wanted: impl Fn(&Task) -> bool) -> Task {
        let mut feed = self.app.watch();
        let waiting = async {
            loop {
                let task = self.task(id).await;
                if wanted(&task) {
                    return task;
                }
                while let Ok(Live::Delta { .. }) = feed.recv().await {}
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        done.expect("the task gets there within a minute")
    }

    /// Hands in words and waits for the end.
    pub async fn ask(&self, text: &str) -> Task {
        let id = self.submit(Self::request(text)).await;
        self.ends(id).await
    }

    /// What happened, in order.
    pub async fn events(&self, id: TaskId) -> Vec<Event> {
        let events = self
            .app
            .store
            .events(self.app.tenant(), id, 0, 10_000)
            .await;
        let events = events.expect("the store answers");
        events.into_iter().map(|recorded| recorded.event).collect()
    }

    /// All steps of all runs of a task.
    pub async fn steps(&self, id: TaskId) -> Vec<Step> {
        let mut steps = Vec::new();
        let (store, tenant) = (&self.app.store, self.app.tenant());
        let runs = store.runs(tenant, id).await;
        for run in runs.expect("the store answers") {
            let of_run = store.steps(tenant, run.id).await;
            steps.extend(of_run.expect("the store answers"));
        }
        steps
    }

    /// The steps that a user counts: model and tool calls.
    pub async fn counted(&self, id: TaskId) -> Vec<Step> {
        let counts = |step: &Step| matches!(step.kind, StepKind::Think | StepKind::Tool);
        self.steps(id).await.into_iter().filter(counts).collect()
    }

    /// Everything that the model was sent, oldest first.
    pub fn requests(&self) -> Vec<ModelRequest> {
        let model = self.setup.model.as_ref().expect("the test brought a model");
        model.requests()
    }

    /// The tool results that the model was shown in its last request.
    pub fn told(&self) -> Vec<String> {
        let last = self.requests().pop().expect("the model was asked");
        let told = last
            .messages
            .into_iter()
            .filter_map(|message| match message {
                Message::Tool { text, .. } => Some(text),
                _ => None,
            });
        told.collect()
    }

    /// The last words from outside that the model was sent in its last request.
    pub fn said(&self) -> String {
        let last = self.requests().pop().expect("the model was asked");
        let said = last
            .messages
            .into_iter()
            .rev()
            .find_map(|message| match message {
                Message::User { text, .. } => Some(text),
                _ => None,
            });
        said.expect("somebody asked")
    }

    /// Stops the instance and asserts that nothing is left half-done: every task has ended or waits
    /// for a person, every ended run has only ended steps, no run is running; and that every request
    /// that the scripted model got was in order.
    pub async fn stop(self) {
        let tenant = self.app.tenant().clone();
        let setup = self.down(Duration::from_secs(5)).await;
        let place = setup.place.as_ref().expect("it was started");
        let store = place.open().await;
        assert_settled(&*store, &tenant).await;
        store.close().await;
        if let Some(script) = &setup.script {
            assert_eq!(
                script.violations(),
                [""; 0],
                "requests that no provider would take"
            );
        }
    }

    /// Takes the instance down in the middle of whatever it does, once `grace` is over. What comes
    /// back starts it again on the same folder.
    pub async fn down(self, grace: Duration) -> Setup {
        self.app.stop(grace).await;
        self.setup
    }

    /// The folder with everything in it.
    pub fn folder(&self) -> &Path {
        self.place().path()
    }

    /// Where its state is.
    pub fn place(&self) -> &Place {
        self.setup.place.as_ref().expect("it was started")
    }
}

/// Asserts that a store at rest holds nothing half-done.
pub async fn assert_settled(store: &dyn shared::store::Store, tenant: &shared::id::TenantId) {
    let filter = shared::store::TaskFilter {
        limit: 10_000,
        ..Default::default()
    };
    for task in store
        .tasks(tenant, &filter)
        .await
        .expect("the store answers")
    {
        for run in store
            .runs(tenant, task.id)
            .await
            .expect("the store answers")
        {
            assert_ne!(
                run.state,
                RunState::Running,
                "run {} is running at rest",
                run.id
            );
            let over = !matches!(run.state, RunState::Queued | RunState::Waiting);
            assert!(
                over || !task.state.is_final(),
                "task {} is over, its run {} is {:?}",
                task.id,
                run.id,
                run.state
            );
            if matches!(run.state, RunState::Done | RunState::Failed) {
                for step in store
                    .steps(tenant, run.id)
                    .await
                    .expect("the store answers")
                {
                    let outcome = step.recorded.as_ref().map(|recorded| &recorded.outcome);
                    assert!(
                        outcome.is_some(),
                        "step {} of an ended run has no outcome",
                        step.key
                    );
                    let lost = matches!(outcome, Some(Outcome::InDoubt { .. }));
                    let settled = format!("signal/in_doubt/{}", step.key);
                    if lost {
                        let asked = store.step(tenant, run.id, &settled.as_str().into()).await;
                        assert!(
                            asked.expect("the store answers").is_some(),
                            "doubt was settled"
                        );
                    }
                }
            }
        }
    }
}
