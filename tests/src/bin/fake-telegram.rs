//! The fake Telegram as a process: prints one JSON line with its addresses, then serves until its
//! standard input ends.
//!
//! `fake-telegram [--port N] [--control-port N] [--settings JSON]`

use majordomo_tests::doubles::control;
use majordomo_tests::doubles::telegram::{FakeTelegram, Settings, commands};

const IS: &str =
    "A Telegram for trying things out: a Bot API server that behaves as the real one does.";
const EXAMPLE: &str = r#"  sleep 3600 | fake-telegram --port 8081 --control-port 8082 &
  export TELEGRAM_API_URL=http://127.0.0.1:8081 TELEGRAM_BOT_TOKEN=...   # from the line that it prints
  majordomo serve --dir ./docs                                         # with [telegram] in its settings
  curl -s http://127.0.0.1:8082/control/user_says -d '{"chat": 7, "user": 7, "text": "Hello"}'
  curl -s http://127.0.0.1:8082/control/chat -d '{"chat": 7}'"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let defaults = serde_json::to_value(Settings::default())?;
    if let Some(help) = control::help("fake-telegram", IS, &defaults, EXAMPLE) {
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
    let server = FakeTelegram::start_with(settings, ports.service).await?;
    let runner = commands::runner(server.clone());
    let control = control::serve(ports.control, runner).await?;
    let about = serde_json::json!({
        "url": server.url(), "control": format!("http://{}/control", control.addr()),
        "token": server.token(), "bot_username": server.bot_username(),
    });
    println!("{about}");
    control::parent_gone().await;
    Ok(())
}
