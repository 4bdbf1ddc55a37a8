//! The fake Slack as a process: prints one JSON line with its addresses, then serves until its
//! standard input ends.
//!
//! `fake-slack [--port N] [--control-port N] [--settings JSON]`

use majordomo_tests::doubles::control;
use majordomo_tests::doubles::slack::{FakeSlack, Settings, commands};

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
