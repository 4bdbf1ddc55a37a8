//! A whole instance, as people start it: `serve` with a configuration, its logs in a file, spoken to over
//! raw connections, so that what is said to it need not be HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::Plan;
use crate::place::Place;

/// How long it may take to get ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of an answer is read.
const ANSWER: u64 = 256 * 1024;

/// A running instance. Killed with this value.
pub(super) struct House {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its own token.
    pub token: String,
}

/// What came back: a status, where there was one, and everything as it came.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub status: Option<u16>,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(super) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }
}

/// The command line of this plan's build, on a place's configuration and data; its logs go to a file.
pub(super) fn command(plan: &Plan, place: &Place, log: &Path) -> Command {
    let mut command = Command::new(plan.programs.world.with_file_name("serve"));
    let file = std::fs::File::options().create(true).append(true).open(log);
    command
        .arg("--config")
        .arg(place.path().join("config"))
        .arg("--data")
        .arg(place.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file.expect("a log file"))
        .kill_on_drop(true);
    command
}

impl House {
    /// Starts it; on return it is ready.
    pub(super) async fn start(mut command: Command, place: &Place, log: &Path) -> Self {
        let published = place.path().join("data/instance.json");
        let _ = std::fs::remove_file(&published);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        let child = command.spawn().expect("an instance starts");
        let ready = async {
            loop {
                let text = std::fs::read(&published).unwrap_or_default();
                let here: Value = serde_json::from_slice(&text).unwrap_or_default();
                let url = here["url"].as_str().unwrap_or_default();
                if let Ok(address) = url.trim_start_matches("http://").parse() {
                    let token = here["token"].as_str().unwrap_or_default().to_owned();
                    return (address, token);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ready = tokio::time::timeout(PATIENCE, ready).await;
        let (address, token) = ready.unwrap_or_else(|_| {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            panic!(
                "the instance does not get ready; its log, from the end:\n{}",
                last.join("\n")
            )
        });
        Self {
            child,
            address,
            token,
        }
    }

    /// Its resident memory in KiB.
    pub(super) fn rss_kib(&self) -> u64 {
        let pid = self.child.id().unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let digits = line.and_then(|line| line.split_whitespace().next());
        digits.and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }

    /// A request with its own token, answered.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        ask((self.address, &self.token), (method, path), body).await
    }

    /// Ends it in order.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id() {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        if tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .is_err()
        {
            let _ = self.child.kill().await;
        }
    }
}

/// A request with a token, answered.
pub(super) async fn ask(
    (to, token): (SocketAddr, &str),
    (method, path): (&str, &str),
    body: &Value,
) -> Answer {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    send(to, request.as_bytes(), PATIENCE).await
}

/// Sends these bytes over a connection of their own, and reads what comes until the other side ends it. A
/// side that has said all would end it for both.
pub(super) async fn send(to: SocketAddr, bytes: &[u8], patience: Duration) -> Answer {
    let mut answer = Answer::default();
    let exchange = async {
        let mut stream = TcpStream::connect(to).await?;
        // An answer that comes before everything is sent is one, too.
        let _ = stream.write_all(bytes).await;
        stream.take(ANSWER).read_to_end(&mut answer.bytes).await
    };
    let _ = tokio::time::timeout(patience, exchange).await;
    let head = answer
        .bytes
        .get(9..12)
        .and_then(|status| std::str::from_utf8(status).ok());
    answer.status = head.and_then(|status| status.parse().ok());
    answer
}

/// A secret in a file beside the data folder, as a configuration names it.
pub(super) fn secret(place: &Place, name: &str, value: &str) -> String {
    let folder: PathBuf = place.path().join("secrets");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    std::fs::write(&path, value).expect("a file");
    format!("${{file:{}}}", path.display())
}

/// Writes a file of the configuration.
pub(super) fn write(place: &Place, name: &str, text: &str) {
    let path = place.path().join("config").join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}
