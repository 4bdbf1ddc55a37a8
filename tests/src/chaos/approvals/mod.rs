//! Approvals, harmed at every stage and kept waiting by the thousand: [`stages`] kills the process from
//! before the ask is written until its card is closed, [`waiting`] restarts and redeploys while approvals
//! wait, and measures how soon the effect follows the word. What was decided is written into the same ledger
//! as the effects, so its order says whether a decision came first.

mod stages;
mod waiting;

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use tokio::process::Command;

use shared::id::{AskId, SignalName, TaskId};
use shared::run::EffectKey;
use shared::store::{StepKind, Store, TaskFilter};
use supervisor::auth::{Scope, mint};

use super::fleet::Fleet;
use super::house;
use super::{Finding, Plan};
use crate::place::Kind;

/// What all configurations begin with; what an approval is asked for follows.
const SETTINGS: &str = "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n\
    [retry]\nbase_s = 0.01\n\
    [[routes]]\nchannel = \"cli\"\nagents = [\"executor\"]\n";
/// Everything is asked about.
const ASKING: &str = "[[approvals.rules]]\nthen = \"ask\"\n";
/// Asks on a page.
const PAGE: usize = 100;

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let (folder, database) = futures::join!(
        stages::run(plan, Kind::Folder),
        stages::run(plan, Kind::Database)
    );
    let mut findings = vec![folder, database];
    // One after the other: beside each other they would measure each other.
    for kind in [Kind::Folder, Kind::Database] {
        findings.extend(waiting::run(plan, kind).await);
    }
    findings
}

/// Writes `majordomo.toml`: what all have, and `more`.
fn configure(fleet: &Fleet, more: &str) {
    fleet.write("majordomo.toml", &format!("{SETTINGS}{more}"));
    fleet.place.configure(&fleet.place.path().join("config"));
}

/// The script of an agent that makes one call and is done.
fn script(tool: &str) -> String {
    format!(
        "[[agent]]\nname = \"executor\"\nsystem = \"You are the executor.\"\n\
         [[agent.reply]]\ncalls = [{{ tool = \"{tool}\", args = {{ what = \"mail\" }} }}]\n\
         [[agent.reply]]\ntext = \"It is settled.\"\n"
    )
}

/// An approver at the HTTP door.
#[derive(Clone)]
struct Approver {
    token: String,
}

impl Approver {
    /// With a token of their own. No process runs on the store meanwhile.
    async fn new(fleet: &Fleet) -> Self {
        let store = fleet.place.open().await;
        let minted = mint(&*store, &"default".into(), "chief", None, &[Scope::Approve]).await;
        store.close().await;
        let (_, secret) = minted.expect("a token");
        Self {
            token: secret.expose().to_owned(),
        }
    }

    /// The open asks of a collection, newest first, as far as a page goes.
    async fn page(&self, at: SocketAddr, collection: &str, before: &str) -> Option<Value> {
        let path = format!("/v1/{collection}?limit={PAGE}{before}");
        let answer = house::ask((at, &self.token), ("GET", &path), &Value::Null).await;
        (answer.status == Some(200)).then(|| answer.json())
    }

    /// All open asks of a collection, newest first; none where the door is closed.
    async fn asks(&self, at: SocketAddr, collection: &str) -> Vec<Value> {
        let (mut asks, mut before) = (Vec::new(), String::new());
        while let Some(mut page) = self.page(at, collection, &before).await {
            if let Value::Array(more) = page["asks"].take() {
                asks.extend(more);
            }
            let Some(next) = page["next"].as_str() else {
                break;
            };
            before = format!("&before={next}");
        }
        asks
    }

    /// Decides; the answer's status, where there is an answer.
    async fn decide(&self, at: SocketAddr, path: &str, decision: &Value) -> Option<u16> {
        let path = format!("/v1/{path}");
        let answer = house::ask((at, &self.token), ("POST", &path), decision).await;
        answer.status
    }
}

fn yes() -> Value {
    json!({"decision": "approve"})
}

/// Has the next process open its HTTP door, and answers where.
fn listen(process: &mut Command) -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = free.local_addr().expect("it is bound");
    process.env("MAJORDOMO_TEST_LISTEN", address.to_string());
    address
}

/// A call of a tool, as the journal has it.
struct Call {
    task: TaskId,
    /// What people were asked about it, if they were.
    ask: AskId,
    /// Its effect in the ledger, if it came to one.
    effect: String,
}

/// All calls of tools.
async fn calls(store: &dyn Store) -> Vec<Call> {
    let tenant = "default".into();
    let all = TaskFilter {
        limit: 100_000,
        ..TaskFilter::default()
    };
    let mut calls = Vec::new();
    for task in store.tasks(&tenant, &all).await.expect("it reads") {
        let journal = store.journal(&tenant, task.id).await.expect("it reads");
        for (run, steps) in journal {
            for step in steps.iter().filter(|step| step.kind == StepKind::Tool) {
                let name = SignalName::from(format!("approve/{}", step.key));
                let key = EffectKey::new(run.id, &step.key, step.op_hash);
                calls.push(Call {
                    task: task.id,
                    ask: AskId::of(run.id, &name),
                    effect: format!("post {}/{key}", step.what),
                });
            }
        }
    }
    calls
}
