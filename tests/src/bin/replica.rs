//! One process of many on the same store, built with crash points: `replica CONFIG DATA WORLD SCRIPT
//! MODEL_MS TOOL_MS`. It works until its input ends, and does what it is told there, line by line:
//! `submit KEY` hands in a task, under that key; `call KEY URL` one whose end is to be told there;
//! `settle` says of everything in doubt that it happened; `census` and `peak` tell of tasks by state and
//! of the most model calls at once, `who` of the worker that it is; `arm NAME:N` has it die at that crash
//! point, counted from then. Answers are lines, too. SIGTERM ends it in order, as the end of its input does. Where
//! `MAJORDOMO_TEST_LISTEN` names an address, the HTTP door is open there. Where `MAJORDOMO_TEST_SLOW_MS` is set, the model takes so long
//! for what is to be done slowly. The chaos program drives it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, BufReader};

use majordomo_tests::app::TestApp;
use majordomo_tests::world::Post;
use shared::ask::Decision;
use shared::config::Source;
use shared::egress::Gateway;
use shared::hash::Hash;
use shared::model::scripted::ScriptedModel;
use shared::model::{Call, Message, Model, ModelReply, ModelRequest};
use shared::money::{Price, Usage};
use shared::run::{Effect, Failure, Outcome};
use shared::store::{Accepted, NewOut, TaskFilter};
use shared::task::TaskState;
use supervisor::app::{App, Options};
use supervisor::auth::LocalToken;
use supervisor::channels::callback::address;
use supervisor::channels::http;
use supervisor::channels::papers::child;
use supervisor::intake::Submission;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A model that takes its time and knows how many ask it at once.
struct Slow {
    model: ScriptedModel,
    takes: Duration,
    /// For what is to be done slowly.
    takes_slowly: Duration,
    now: AtomicU32,
    peak: AtomicU32,
    calls: AtomicU32,
}

#[async_trait]
impl Model for Slow {
    async fn ask(&self, call: Call<'_>) -> (Result<ModelReply, Failure>, Option<Usage>) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        let takes = match is_slow(call.request) {
            true => self.takes_slowly,
            false => self.takes,
        };
        tokio::time::sleep(takes).await;
        let answer = self.model.ask(call).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    fn price(&self) -> Price {
        self.model.price()
    }

    fn context_tokens(&self) -> u32 {
        self.model.context_tokens()
    }

    fn sees(&self) -> bool {
        self.model.sees()
    }

    fn describe(&self) -> String {
        self.model.describe()
    }
}

/// Whether the person asks for it to be done slowly.
fn is_slow(request: &ModelRequest) -> bool {
    let said = request
        .messages
        .iter()
        .rev()
        .find_map(|message| match message {
            Message::User { text, .. } => Some(text),
            _ => None,
        });
    said.is_some_and(|text| text.contains("slowly"))
}

fn main() -> anyhow::Result<ExitCode> {
    // It is its own reader of documents, as the product is.
    match child::job_of(std::env::args()) {
        Some(job) => Ok(child::child_main(&job)),
        None => work().map(|()| ExitCode::SUCCESS),
    }
}

#[tokio::main]
async fn work() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, data, world, script, model_ms, tool_ms] = args.as_slice() else {
        anyhow::bail!("usage: replica CONFIG DATA WORLD SCRIPT MODEL_MS TOOL_MS");
    };
    let (world, takes) = (world.parse()?, Duration::from_millis(tool_ms.parse()?));
    let slow_ms = std::env::var("MAJORDOMO_TEST_SLOW_MS");
    let slow_ms = slow_ms.as_deref().unwrap_or(model_ms).parse()?;
    let slow = Arc::new(Slow {
        model: ScriptedModel::parse(&std::fs::read_to_string(script)?)?,
        takes: Duration::from_millis(model_ms.parse()?),
        takes_slowly: Duration::from_millis(slow_ms),
        now: AtomicU32::new(0),
        peak: AtomicU32::new(0),
        calls: AtomicU32::new(0),
    });
    let model: Arc<dyn Model> = slow.clone();
    let app = App::start(Options {
        source: Source::Folder(PathBuf::from(config)),
        data: PathBuf::from(data),
        read: None,
        tools: vec![
            Post::each("post_once", Effect::Once, world, takes),
            Post::each("post_keyed", Effect::Idempotent, world, takes),
        ],
        models: BTreeMap::from([("default".into(), model)]),
    });
    let app = Arc::new(app.await?);
    app.open_channels()?;
    let closing = CancellationToken::new();
    if let Ok(address) = std::env::var("MAJORDOMO_TEST_LISTEN") {
        let listener = TcpListener::bind(address).await?;
        let serving = http::serve(app.clone(), listener, LocalToken::fresh()?, closing.clone());
        tokio::spawn(serving);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    println!("ready {}", app.resumed);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            _ = terminate.recv() => None,
        };
        let Some(line) = line else { break };
        match line.split_once(' ') {
            Some(("submit", key)) => {
                let (app, key) = (app.clone(), key.to_owned());
                tokio::spawn(async move { println!("{}", submit(&app, &key, None).await) });
            }
            Some(("call", order)) => {
                let (key, url) = order.split_once(' ').unwrap_or((order, ""));
                let gateway = Gateway::new(&app.config.settings.egress)?;
                let card = address::card(&gateway, url)?;
                let (app, key) = (app.clone(), key.to_owned());
                tokio::spawn(async move { println!("{}", submit(&app, &key, Some(card)).await) });
            }
            _ if line == "census" => match app.store.census().await {
                Ok(census) => println!("census {}", serde_json::to_string(&census.tasks)?),
                Err(error) => println!("census! {error}"),
            },
            Some(("arm", point)) => {
                shared::crash::arm(point);
                println!("armed");
            }
            _ if line == "settle" => settle(&app).await?,
            _ if line == "who" => println!("worker {}", app.worker()),
            _ => println!(
                "peak {} {}",
                slow.peak.load(Ordering::SeqCst),
                slow.calls.load(Ordering::SeqCst)
            ),
        }
    }
    closing.cancel();
    app.stop(Duration::from_secs(5)).await;
    Ok(())
}

/// Says, as a person would, that what is in doubt did happen.
async fn settle(app: &App) -> anyhow::Result<()> {
    let waiting = TaskFilter {
        state: Some(TaskState::AwaitingHuman),
        limit: 10_000,
        ..TaskFilter::default()
    };
    let happened = Decision::Happened {
        result: "the world said so".into(),
    };
    for task in app.desk.tasks(&waiting).await? {
        for (_, steps) in app.store.journal(app.tenant(), task.id).await? {
            let doubtful = steps.iter().filter(|step| {
                let recorded = step.recorded.as_ref();
                recorded.is_some_and(|it| matches!(it.outcome, Outcome::InDoubt { .. }))
            });
            for step in doubtful {
                let by = "ada".into();
                let said = app.desk.resolve(task.id, step.key.as_str(), &happened, by);
                println!("settled {:?}", said.await?);
            }
        }
    }
    Ok(())
}

async fn submit(app: &App, key: &str, card: Option<NewOut>) -> String {
    let submission = Submission {
        request: TestApp::request("do it"),
        principal: "local".into(),
        submitted_by: "local".into(),
        dedupe: Some((key.into(), Hash::of_bytes(b"do it"))),
        read: None,
        card,
        since: None,
        blobs: Vec::new(),
    };
    match app.intake.submit(submission).await {
        Ok(Accepted::New(id) | Accepted::Known(id) | Accepted::Conflict(id)) => {
            format!("taken {key} {id}")
        }
        Err(error) => format!("refused {key} {error}"),
    }
}
