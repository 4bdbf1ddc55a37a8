//! `majordomo serve`: the instance that others speak to. From start to drain; what is answered over
//! HTTP is the door's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::signals::Signals;
use super::words;
use super::{access, ask, token};
use crate::app::{App, GRACE};
use crate::auth::LocalToken;
use crate::channels::{self, http, slack};
use crate::instance::Instance;
use crate::telemetry;

/// How long a data folder that a short command holds is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Runs the instance that HTTP and the other commands speak to.
///
/// SIGTERM and Ctrl-C let steps in flight end for up to 10 s; a second one ends at once. Either way
/// nothing is lost: unfinished tasks go on at the next start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  majordomo serve --dir /srv/handbook
  majordomo serve --listen 0.0.0.0:7717 --first-token
  majordomo serve --log json --config /etc/majordomo")]
pub struct Serve {
    /// Address and port, instead of the configuration's. Only loopback needs no token.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// The folder that agents may read where the configuration names none.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where there is no token yet, make one named `admin` that may do everything, and print it.
    #[arg(long)]
    first_token: bool,
}

/// Runs the command.
pub async fn run(context: &Context, serve: Serve) -> anyhow::Result<Exit> {
    let material = context.configured_material().or(serve.dir.clone());
    match &material {
        None => tracing::warn!(
            "agents have no folder to read: name one with --dir DIR, or `read` under [files]"
        ),
        Some(folder) if !folder.is_dir() => {
            let what = format!("{} is not a folder that can be read", folder.display());
            return Err(Fault::usage(what)
                .help("name another one with --dir DIR, or `read` under [files]")
                .into());
        }
        Some(folder) => context.keep_apart(folder)?,
    }
    // Before anything runs that a missing secret would end again.
    channels::check(&context.equip()?.config.settings)
        .map_err(|error| Fault::usage(format!("{error:#}")))?;
    raise_open_files();
    let mut signals = Signals::new()?;
    let app = tokio::select! {
        app = start(context, serve.dir.as_deref()) => Arc::new(app?),
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    let observer = tokio::spawn(telemetry::observe(app.store.bell().events().subscribe()));
    let answered = answer(context, &serve, app.clone(), &mut signals).await;
    let drained = tokio::select! {
        () = app.stop(GRACE) => true,
        () = signals.next() => false,
    };
    observer.abort();
    answered?;
    match drained {
        true => tracing::info!("stopped"),
        false => tracing::warn!("stopped at once; unfinished steps are settled at the next start"),
    }
    Ok(if drained {
        Exit::Done
    } else {
        Exit::Interrupted
    })
}

/// Has the system allow as many open files as it would: each connection is one, and the usual limit
/// is low. Where it refuses, the door takes fewer connections.
fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}

/// Starts everything but the door. A command that holds the data folder for a moment is waited for.
async fn start(context: &Context, read: Option<&Path>) -> anyhow::Result<App> {
    let waiting = shared::clock::stopwatch();
    loop {
        let error = match App::start(context.options(read.map(Path::to_owned))).await {
            Err(error) if access::is_locked(&error) => error,
            started => return started,
        };
        if let Some(client) = access::live(context).await {
            let what = format!("an instance runs already, at {}", client.instance.url);
            return Err(Fault::failed(what)
                .help("stop it, or use another data folder (--data DIR)")
                .into());
        }
        if waiting.ms() >= PATIENCE.as_millis() as u64 {
            let help = "an `ask` holds the folder until its task ends: wait for it, or end it";
            return Err(Fault::failed(error.to_string()).help(help).into());
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Opens the door and keeps it open until a signal comes.
async fn answer(
    context: &Context,
    serve: &Serve,
    app: Arc<App>,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let address = serve.listen.unwrap_or(app.config.settings.server.listen);
    if serve.first_token {
        first_token(&app).await?;
    }
    let has_token = app
        .store
        .tokens(app.tenant())
        .await?
        .iter()
        .any(|token| token.revoked_at.is_none());
    http::check_bind(address, has_token).map_err(|error| {
        Fault::usage(error.to_string())
            .help("or let the first start make a token: majordomo serve --first-token")
    })?;
    let listener = bind(address).await?;
    let address = listener.local_addr()?;
    let local = LocalToken::fresh()?;
    let url = format!("http://{}", reachable(address));
    let here = Instance {
        config: context.config_folder(),
        ..Instance::here(
            url.clone(),
            local.expose().to_owned(),
            app.models.clone(),
            shared::clock::now(),
        )
    };
    let _published = here
        .publish(&context.data)
        .context("instance.json in the data folder")?;
    app.open_channels()?;
    report(context, &app, address, &url);
    claim(&app).await?;

    let shutdown = CancellationToken::new();
    let serving = http::serve(app, listener, local, shutdown.clone());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = signals.next() => {}
    }
    tracing::info!(
        grace.s = GRACE.as_secs(),
        "stopping; a second signal ends at once"
    );
    shutdown.cancel();
    tokio::select! {
        ended = tokio::time::timeout(GRACE, serving) => Ok(ended.unwrap_or(Ok(()))?),
        () = signals.next() => Ok(()),
    }
}

/// Where chats are open and nobody is an admin, prints the code by which somebody becomes one, for each chat
/// as it is typed there: to people's eyes, and into no log.
async fn claim(app: &App) -> anyhow::Result<()> {
    let chats = app.board().map(|board| board.channels.iter());
    let mut chats = chats.into_iter().flatten().peekable();
    if chats.peek().is_none() {
        return Ok(());
    }
    if let Some((code, _)) = app.people.offer_claim().await? {
        for chat in chats {
            eprintln!("{}", frame(chat.name(), &code.expose()));
        }
    }
    Ok(())
}

/// What is printed of the first admin's code for a chat.
fn frame(chat: &str, code: &str) -> String {
    let (how, typed) = match chat {
        // A command brings along what its author is called; a message there does not.
        slack::NAME => (
            "In Slack, write this anywhere; nobody else sees it:",
            format!("/majordomo claim {code}"),
        ),
        _ => (
            "In Telegram, write this to your bot, in private:",
            format!("/claim {code}"),
        ),
    };
    let lines = [
        "Nobody is an admin in your chats yet.".to_owned(),
        how.to_owned(),
        String::new(),
        format!("    {typed}"),
        String::new(),
        "It works once, within 10 minutes. The next start makes a new one.".to_owned(),
    ];
    let width = lines.iter().map(String::len).max().unwrap_or_default();
    let rule = "─".repeat(width + 2);
    let lines = lines.map(|line| format!("│ {line:width$} │\n"));
    format!("┌{rule}┐\n{}└{rule}┘", lines.concat())
}

async fn first_token(app: &App) -> anyhow::Result<()> {
    let tokens = app.store.tokens(app.tenant()).await?;
    if tokens.iter().any(|token| token.revoked_at.is_none()) {
        return Ok(());
    }
    let scopes = token::ALL_SCOPES.map(str::to_owned).to_vec();
    let secret = token::mint(&app.desk, "admin", None, scopes).await?;
    words::say(format_args!(
        "token `admin`, shown only this once: {secret}"
    ));
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Fault> {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    TcpListener::bind(address).await.map_err(|error| {
        let help = match error.kind() {
            AddrInUse => {
                "another program listens there: stop it, or choose another port with\n\
                          --listen 127.0.0.1:7718, or server.listen in majordomo.toml"
            }
            AddrNotAvailable => "no network card of this machine has that address",
            PermissionDenied => "ports below 1024 are for the system: choose a higher one",
            _ => "choose another address with --listen, or server.listen in majordomo.toml",
        };
        Fault::failed(format!("cannot listen on {address}: {error}")).help(help)
    })
}

/// The address by which this machine reaches the listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn report(context: &Context, app: &App, address: SocketAddr, url: &str) {
    for line in ask::models(&app.models) {
        tracing::info!("{line}");
    }
    let warnings = app.config.warnings.iter();
    for problem in warnings.filter(|problem| problem.is_warning()) {
        let how = problem.how_to_mend().unwrap_or_default();
        tracing::warn!(config.mend = how, "{}", problem.in_one_line());
    }
    if app.resumed > 0 {
        tracing::info!(runs.resumed = app.resumed, "going on with unfinished runs");
    }
    tracing::info!(
        listen = %address,
        url,
        data = %context.data.display(),
        config = app.config.origin,
        "ready"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_on_all_addresses_is_reached_by_loopback() {
        let reach = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reach("0.0.0.0:7717"), "127.0.0.1:7717");
        assert_eq!(reach("[::]:7717"), "[::1]:7717");
        assert_eq!(reach("10.0.0.7:80"), "10.0.0.7:80");
    }

    #[test]
    fn the_first_admins_code_stands_in_a_frame() {
        let frames = channels::CHATS.map(|chat| frame(chat, "7K3M-Q9XT-2HVN"));
        insta::assert_snapshot!(frames.join("\n"));
    }

    #[tokio::test]
    async fn a_taken_port_is_told_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = bind(taken.local_addr().unwrap())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("--listen"), "{error}");
    }
}
