//! The fake Telegram as a process: prints one JSON line with its addresses, then serves until its
//! standard input ends.
//!
//! `fake-telegram [--port N] [--control-port N] [--settings JSON]`

use majordomo_tests::doubles::control;
use majordomo_tests::doubles::telegram::{FakeTelegram, Settings, commands};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
