//! `majordomo slack`: what Slack must be told about the app.

use clap::{Args, Subcommand};
use url::Url;

use super::exit::Exit;
use super::words;
use crate::channels::slack::{GRANT_SCOPES, SCOPES};

/// What Slack must be told about the app.
#[derive(Debug, Subcommand)]
pub enum Slack {
    Manifest(Manifest),
}

/// Prints the manifest to make a Slack app from.
///
/// Paste it at api.slack.com/apps under "Create New App", "From a manifest".
#[derive(Debug, Args)]
pub struct Manifest {
    /// Where this instance is reached from outside, for events over HTTP; else the app uses Socket
    /// Mode, which needs no public address.
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// What the app is called.
    #[arg(long, default_value = "Majordomo", value_name = "NAME")]
    name: String,
}

/// Runs the command.
pub fn run(slack: Slack) -> anyhow::Result<Exit> {
    let Slack::Manifest(wanted) = slack;
    words::say(format_args!("{}", manifest(&wanted).trim_end()));
    Ok(Exit::Done)
}

fn manifest(wanted: &Manifest) -> String {
    // JSON is YAML: whatever stands in it.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let name = quoted(&wanted.name);
    let url = wanted.url.as_ref().map(|url| {
        let base = url.as_str().trim_end_matches('/');
        quoted(&format!("{base}/v1/slack/events"))
    });
    let line = |key: &str, indent: usize| match &url {
        Some(url) => format!("{:indent$}{key}: {url}\n", ""),
        None => String::new(),
    };
    let (command_url, request_url) = (line("url", 6), line("request_url", 4));
    let socket = url.is_none();
    let mut scopes: Vec<&str> = SCOPES.into_iter().chain(GRANT_SCOPES).collect();
    scopes.sort_unstable();
    let scopes = scopes.iter().map(|scope| format!("      - {scope}\n"));
    let scopes: String = scopes.collect();
    format!(
        "display_information:
  name: {name}
  description: A supervisor for teams of agents
features:
  app_home:
    home_tab_enabled: false
    messages_tab_enabled: true
    messages_tab_read_only_enabled: false
  bot_user:
    display_name: {name}
    always_online: true
  slash_commands:
    - command: /majordomo
{command_url}      description: Speak to the house itself
      usage_hint: help | status | stop | agents | pair
      should_escape: true
    - command: /ask
{command_url}      description: Have something done
      usage_hint: what you want to have done or to know
      should_escape: true
oauth_config:
  scopes:
    bot:
{scopes}settings:
  event_subscriptions:
{request_url}    bot_events:
      - app_mention
      - message.channels
      - message.groups
      - message.im
  interactivity:
    is_enabled: true
{request_url}  org_deploy_enabled: false
  socket_mode_enabled: {socket}
  token_rotation_enabled: false
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(url: Option<&str>) -> String {
        manifest(&Manifest {
            url: url.map(|url| url.parse().unwrap()),
            name: "Majordomo".into(),
        })
    }

    #[test]
    fn manifests_read_well() {
        insta::assert_snapshot!("manifest_for_a_socket", wanted(None));
        insta::assert_snapshot!("manifest_for_http", wanted(Some("https://m.example.com/")));
    }
}
