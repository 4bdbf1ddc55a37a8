//! The world: a process of its own that keeps an append-only ledger of what was done to it. It is the
//! oracle of crash tests, because it outlives those that die. It listens for effects on a socket, and
//! watches a folder for files that appear in it.
//!
//! One line of the ledger is one effect and when it came, in milliseconds: `post NAME KEY MS`, or
//! `file NAME INODE MS`. A keyed effect that comes again with the same key is recognised and not done again,
//! as an API with idempotency keys does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use agents::tools::{Outbound, Tool, ToolCall, ToolInfo};
use shared::label::Taint;
use shared::money::{Usage, Usd};
use shared::run::{Effect, Failure, FailureKind, Report, Timestamp};

/// A running world.
pub struct World {
    process: Child,
    /// Where it listens.
    pub address: SocketAddr,
    ledger: PathBuf,
}

impl World {
    /// Starts a world that watches `folder`. `program` is the path of the `world` binary.
    pub fn start(program: &str, ledger: PathBuf, folder: &Path) -> Self {
        let mut process = Command::new(program)
            .arg(&ledger)
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the world starts");
        let stdout = process.stdout.take().expect("its output is piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the world says where it listens");
        let address = line.trim().parse().expect("an address");
        Self {
            process,
            address,
            ledger,
        }
    }

    /// How often each effect happened: files by their name, posts by theirs.
    pub fn effects(&self) -> BTreeMap<String, u32> {
        let mut effects = BTreeMap::new();
        for (name, _) in self.ledger() {
            *effects.entry(name).or_default() += 1;
        }
        effects
    }

    /// All effects in the order in which they came, and when that was.
    pub fn ledger(&self) -> Vec<(String, Timestamp)> {
        tell(self.address, "sync -").expect("the world answers");
        let ledger = std::fs::read_to_string(&self.ledger).unwrap_or_default();
        let read = |line: &str| {
            // What is being written is not there yet.
            let words: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
            let (kind, name, ms) = (words.first()?, words.get(1)?, words.last()?);
            Some((format!("{kind} {name}"), Timestamp(ms.parse().ok()?)))
        };
        ledger.split_inclusive('\n').filter_map(read).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tells the world something and waits for its answer.
pub fn tell(address: SocketAddr, what: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    writeln!(stream, "{what}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// A tool that does something to the world.
pub struct Post {
    info: ToolInfo,
    address: SocketAddr,
    /// Tells each effect by its key, and takes so long before and after it.
    each: Option<Duration>,
}

impl Post {
    /// A tool of this name and class.
    pub fn tool(name: &str, effect: Effect, address: SocketAddr) -> Arc<dyn Tool> {
        Arc::new(Self::new(name, effect, address, None))
    }

    /// One whose effects the ledger tells apart by their keys, as `NAME/KEY`. It `takes` so long before
    /// and once more after its effect.
    pub fn each(name: &str, effect: Effect, address: SocketAddr, takes: Duration) -> Arc<dyn Tool> {
        Arc::new(Self::new(name, effect, address, Some(takes)))
    }

    fn new(name: &str, effect: Effect, address: SocketAddr, each: Option<Duration>) -> Self {
        let info = ToolInfo {
            name: name.into(),
            version: 1,
            description: "Use it to tell the world something. Returns what the world said.".into(),
            parameters: Arc::new(json!({
                "type": "object",
                "properties": {"what": {"type": "string", "description": "what to tell"}},
                "required": ["what"],
                "additionalProperties": false
            })),
            effect,
            outbound: Outbound::default(),
            timeout_s: 10,
            price: Usd::ZERO,
        };
        Self {
            info,
            address,
            each,
        }
    }
}

#[async_trait]
impl Tool for Post {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        let verb = match self.info.effect {
            Effect::Idempotent => "keyed",
            _ => "post",
        };
        let name = match self.each {
            Some(_) => format!("{}/{}", self.info.name, call.effect_key),
            None => self.info.name.to_string(),
        };
        let (address, takes) = (self.address, self.each.unwrap_or_default());
        let line = format!("{verb} {name} {}", call.effect_key);
        tokio::time::sleep(takes).await;
        shared::crash_point!("world.before");
        let told = tokio::task::spawn_blocking(move || tell(address, &line)).await;
        shared::crash_point!("world.after");
        tokio::time::sleep(takes).await;
        match told {
            Ok(Ok(_)) => Report {
                result: Ok(json!({"told": call.args["what"]})),
                usage: Some(Usage::default()),
                taint: Taint::NONE,
                evidence: Vec::new(),
                blobs: Vec::new(),
            },
            other => {
                let failure = Failure::new(FailureKind::Transient, format!("{other:?}"));
                Report::failed(failure.may_have_happened())
            }
        }
    }
}
