//! What this machine can do at most: durable commits of SQLite, synced writes of the disk under the
//! data folder, and round trips on loopback. Without them the other figures say little.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rusqlite::Connection;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::Client;

/// One figure.
pub struct Limit {
    pub what: String,
    pub per_s: f64,
}

/// Measures all, each for `each` long; `dir` is on the disk that the data will be on.
pub async fn measure(dir: &Path, llm: &str, each: Duration) -> Result<Vec<Limit>> {
    let mut limits = vec![
        synced_writes(dir, each)?,
        sqlite_commits(dir, "NORMAL", 1, each)?,
        sqlite_commits(dir, "FULL", 1, each)?,
        sqlite_commits(dir, "FULL", 100, each)?,
    ];
    for connections in [1, 16, 128] {
        limits.push(model_calls(llm, connections, each).await?);
    }
    Ok(limits)
}

fn synced_writes(dir: &Path, each: Duration) -> Result<Limit> {
    let path = dir.join("limits.bin");
    let mut file = File::create(&path)?;
    let per_s = rate(each, || {
        file.write_all(&[1; 4096])?;
        Ok(file.sync_data()?)
    })?;
    std::fs::remove_file(path)?;
    Ok(Limit {
        what: "appends of 4 KiB with fdatasync".into(),
        per_s,
    })
}

fn sqlite_commits(dir: &Path, synchronous: &str, rows: u32, each: Duration) -> Result<Limit> {
    let dir = tempfile::tempdir_in(dir)?;
    let mut connection = Connection::open(dir.path().join("limits.db"))?;
    connection.execute_batch(&format!(
        "pragma journal_mode = wal; pragma synchronous = {synchronous};
         create table journal (id integer primary key, task text, body blob)"
    ))?;
    let body = [7_u8; 300];
    let per_s = rate(each, || {
        let transaction = connection.transaction()?;
        for _ in 0..rows {
            transaction
                .prepare_cached("insert into journal (task, body) values (?1, ?2)")?
                .execute(("task-1", body))?;
        }
        Ok(transaction.commit()?)
    })?;
    Ok(Limit {
        what: format!("SQLite WAL commits, synchronous={synchronous}, {rows} row(s) each"),
        per_s,
    })
}

fn rate(each: Duration, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < each {
        work()?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

async fn model_calls(llm: &str, connections: usize, each: Duration) -> Result<Limit> {
    let body = Rc::new(json!({"model": "fake", "messages": [
        {"role": "system", "content": "ROLE=writer You write."},
        {"role": "user", "content": "TASK-limits Write a short brief on a topic."},
    ]}));
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let (mut client, body) = (Client::new(llm, None), Rc::clone(&body));
        workers.spawn_local(async move {
            let mut count = 0_u32;
            while started.elapsed() < each {
                let (status, reply) = client.post("/v1/chat/completions", &body).await?;
                if status != 200 {
                    bail!("fakellm answered {status}: {reply}");
                }
                count += 1;
            }
            Ok(count)
        });
    }
    let mut count = 0.0;
    while let Some(worker) = workers.join_next().await {
        count += f64::from(worker??);
    }
    Ok(Limit {
        what: format!("calls of the fake model, {connections} connection(s)"),
        per_s: count / started.elapsed().as_secs_f64(),
    })
}
