//! The fake Slack as a process: prints one JSON line with its addresses, then serves until its
//! standard input ends.
//!
//! `fake-slack [--port N] [--control-port N] [--settings JSON]`

use majordomo_tests::doubles::control;
use majordomo_tests::doubles::slack::{FakeSlack, Settings, commands};

const IS: &str =
    "A Slack for trying things out: Web API, events and Socket Mode as the real one has them.";
const EXAMPLE: &str = r#"  sleep 3600 | fake-slack --port 8083 --control-port 8084 --settings '{"socket_mode": true}' &
  export SLACK_API_URL=http://127.0.0.1:8083/api SLACK_BOT_TOKEN=... SLACK_APP_TOKEN=...   # from its line
  majordomo serve --dir ./docs                                         # with [slack] in its settings
  curl -s http://127.0.0.1:8084/control/add_user -d '{"id": "U1", "name": "ada"}'
  curl -s http://127.0.0.1:8084/control/dm -d '{"user": "U1", "text": "Hello"}'"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let defaults = serde_json::to_value(Settings::default())?;
    if let Some(help) = control::help("fake-slack", IS, &defaults, EXAMPLE) {
        println!("{help}");
        return Ok(());
    }
    let (ports, rest) = control::arguments(std::env::args().skip(1))?;
    let mut settings = Settings::default();
    for (name, value) in rest {
        match name.as_str() {
            "--settings" => settings = serde_json::from_str(&value)?,
            _ => return Err(format!("{name}: unknown").into()),
        }
    }
    let server = FakeSlack::start_with(settings, ports.service).await?;
    let runner = commands::runner(server.clone());
    let control = control::serve(ports.control, runner).await?;
    let settings = server.settings();
    let about = serde_json::json!({
        "url": server.url(), "control": format!("http://{}/control", control.addr()),
        "bot_token": settings.bot_token, "app_token": settings.app_token,
        "signing_secret": settings.signing_secret,
    });
    println!("{about}");
    control::parent_gone().await;
    Ok(())
}
