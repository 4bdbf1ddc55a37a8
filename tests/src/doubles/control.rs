//! The control port of a double that runs as a process: scripting and oracle as JSON over HTTP.
//!
//! `POST /control/<command>` with a JSON object answers `{"ok":true,"result":...}` or 400 with
//! `{"ok":false,"error":"..."}`. Each double has its commands as an enum whose variant names, in
//! snake case, are the paths. The port is another than the service's, so that it answers while the
//! service is down.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::any;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::doubles::front::Front;

/// What a command comes to.
pub type Outcome = Result<Value, String>;

/// Runs the commands of type `C`.
pub type Runner<C> = Arc<dyn Fn(C) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Serves a control port.
pub async fn serve<C>(port: u16, runner: Runner<C>) -> io::Result<Front>
where
    C: DeserializeOwned + Send + 'static,
{
    let router = Router::new()
        .route(
            "/control/{command}",
            any(move |Path(name): Path<String>, body: Bytes| {
                let runner = Arc::clone(&runner);
                answer(runner, name, body)
            }),
        )
        .layer(DefaultBodyLimit::max(64 << 20));
    Front::open(router, port).await
}

async fn answer<C: DeserializeOwned>(
    runner: Runner<C>,
    name: String,
    body: Bytes,
) -> impl IntoResponse {
    let outcome = match command(&name, &body) {
        Ok(command) => runner(command).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(result) => (StatusCode::OK, Json(json!({"ok": true, "result": result}))),
        Err(error) => (
            StatusCode::BAD_REQUEST,
            Json(json!({"ok": false, "error": error})),
        ),
    }
}

fn command<C: DeserializeOwned>(name: &str, body: &[u8]) -> Result<C, String> {
    let mut args = match body {
        [] => json!({}),
        body => serde_json::from_slice(body).map_err(|e| e.to_string())?,
    };
    let Value::Object(object) = &mut args else {
        return Err("the body must be a JSON object".to_owned());
    };
    object.insert("do".to_owned(), name.into());
    serde_json::from_value(args).map_err(|e| e.to_string())
}

/// Resolves when standard input ends: a double started by a test ends with it.
pub async fn parent_gone() {
    let mut stdin = tokio::io::stdin();
    let mut sink = [0; 256];
    while matches!(stdin.read(&mut sink).await, Ok(n) if n > 0) {}
}

/// What `--help` says, where it is asked for: what the double `is`, its defaults, and an example.
pub fn help(name: &str, is: &str, defaults: &Value, example: &str) -> Option<String> {
    let asked = std::env::args()
        .skip(1)
        .any(|arg| arg == "--help" || arg == "-h");
    asked.then(|| {
        format!(
            "{is} Listens on 127.0.0.1, prints one JSON line with its addresses and secrets, and serves \
             until its\nstandard input ends.\n\n\
             Usage: {name} [--port N] [--control-port N] [--settings JSON]\n\n\
             \x20 --port N           of the service; a free one where absent\n\
             \x20 --control-port N   of what people there say and see; a free one where absent\n\
             \x20 --settings JSON    what is to differ from the defaults below\n\n\
             People speak and look by POST to CONTROL/COMMAND with a JSON object; an unknown command is \
             answered\nwith the names of all.\n\n\
             Example:\n{example}\n\n\
             Defaults:\n{defaults:#}"
        )
    })
}

/// What the binaries take from their command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// Of the service; 0 is a free one.
    pub service: u16,
    /// Of the control interface; 0 is a free one.
    pub control: u16,
}

/// Splits `--port N` and `--control-port N` off; the rest is `--name value` pairs.
pub fn arguments(
    mut args: impl Iterator<Item = String>,
) -> Result<(Ports, Vec<(String, String)>), String> {
    let mut ports = Ports::default();
    let mut rest = Vec::new();
    while let Some(name) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| format!("{name}: value missing"))?;
        let port = || value.parse().map_err(|e| format!("{name} {value}: {e}"));
        match name.as_str() {
            "--port" => ports.service = port()?,
            "--control-port" => ports.control = port()?,
            _ => rest.push((name, value)),
        }
    }
    Ok((ports, rest))
}
