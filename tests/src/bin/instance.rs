//! An instance of the product, built with crash points: `instance CONFIG DATA WORLD PERSON`. It hands
//! in one task under a fixed key, as a client that tries again does, goes on until that task is over or
//! waits for a person, and prints the task as JSON. Crash tests kill it at every point. `PERSON` is what
//! a person does about a task that waits: `nothing`, `again` (do the step in doubt again), `cancel`, or
//! `permits` (nothing as long as nothing is in doubt: a permit was given before).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use majordomo_tests::app::TestApp;
use majordomo_tests::world::Post;
use shared::ask::Decision;
use shared::config::Source;
use shared::event::Live;
use shared::hash::Hash;
use shared::id::TaskId;
use shared::run::Effect;
use shared::store::Accepted;
use shared::task::TaskState;
use supervisor::app::{App, Options};
use supervisor::intake::Submission;
use supervisor::view::TaskView;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, data, world, person] = args.as_slice() else {
        anyhow::bail!("usage: instance CONFIG DATA WORLD PERSON");
    };
    let world = world.parse()?;
    let app = App::start(Options {
        source: Source::Folder(PathBuf::from(config)),
        data: PathBuf::from(data),
        read: None,
        tools: vec![
            Post::tool("post_once", Effect::Once, world),
            Post::tool("post_keyed", Effect::Idempotent, world),
        ],
        models: BTreeMap::new(),
    })
    .await?;
    let mut feed = app.watch();
    let accepted = app
        .intake
        .submit(Submission {
            request: TestApp::request("do it"),
            principal: "local".into(),
            submitted_by: "local".into(),
            dedupe: Some(("crash".into(), Hash::of_bytes(b"do it"))),
            read: None,
            card: None,
            since: None,
            blobs: Vec::new(),
        })
        .await?;
    let (Accepted::New(id) | Accepted::Known(id) | Accepted::Conflict(id)) = accepted;
    let task = loop {
        let task = app.store.task(app.tenant(), id).await?;
        let task = task.ok_or_else(|| anyhow::anyhow!("the task is gone"))?;
        let waits = task.state == TaskState::AwaitingHuman;
        if task.state.is_final() || waits && !decides(&app, id, person).await? {
            break task;
        }
        while let Ok(Live::Delta { .. }) = feed.recv().await {}
    };
    let view = TaskView::with_steps(&*app.store, task).await?;
    app.stop(Duration::from_secs(5)).await;
    println!("{}", serde_json::to_string(&view)?);
    Ok(())
}

/// Does what the person does about a task that waits. False where that is nothing.
async fn decides(app: &App, id: TaskId, person: &str) -> anyhow::Result<bool> {
    match person {
        "cancel" => drop(app.desk.cancel(id, "a person said so").await?),
        "again" => {
            for run in app.store.runs(app.tenant(), id).await? {
                for step in app.store.steps(app.tenant(), run.id).await? {
                    let name = format!("{}/{}", run.id, step.key);
                    // Those that are in doubt no more are told so.
                    let said = app.desk.resolve(id, &name, &Decision::Again, "test".into());
                    drop(said.await?);
                }
            }
        }
        "permits" => return Ok(app.desk.in_doubt(id).await?.is_empty()),
        _ => return Ok(false),
    }
    Ok(true)
}
