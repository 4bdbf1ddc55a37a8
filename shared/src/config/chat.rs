//! What is wrong with chats, and with the people in them, that the schema cannot say: `[telegram]`,
//! `[slack]` and `[[people]]`.
//!
//! A token is looked at where its variable or file can be read now, and is never shown. One that cannot be
//! read is told of where it is needed.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::DeValue;
use url::Url;

use super::document::{Document, Found};
use super::problem::Problem;
use super::secret::{Secret, SecretRef};

/// What tokens of Slack begin with, and what each of them is.
const SLACK_TOKENS: [(&str, &str); 4] = [
    (BOT, "a bot token"),
    ("xoxe.xoxb-", "a bot token"),
    (APP, "an app-level token"),
    ("xoxp-", "a user's token"),
];
const BOT: &str = "xoxb-";
const APP: &str = "xapp-";

/// Shorter ones than this are cut off: BotFather's have 35 characters behind the colon.
const SHORTEST_TOKEN: usize = 20;

/// The ports that Telegram sends updates to.
const WEBHOOK_PORTS: [u16; 4] = [443, 80, 88, 8443];

/// Everything that is wrong with chats and people.
pub(super) fn problems(settings: &Document<'_>) -> Vec<Problem> {
    let mut problems = people(settings);
    problems.extend(telegram_token(settings));
    problems.extend(webhook_url(settings));
    problems.extend(slack(settings));
    problems.extend(slack_token(settings, ("bot_token", BOT, "bot token")));
    problems.extend(slack_token(settings, ("app_token", APP, "app-level token")));
    problems.extend(signing_secret(settings));
    problems
}

/// A secret that can be read now, and where it is named.
fn secret(settings: &Document<'_>, path: &[&str]) -> Option<(Secret, Range<usize>)> {
    let found = settings.find(path).pop()?;
    let reference = found.value.as_ref().as_str()?.parse::<SecretRef>().ok()?;
    let secret = reference
        .is_reference()
        .then(|| reference.resolve().ok())??;
    Some((secret, found.value.span()))
}

fn telegram_token(settings: &Document<'_>) -> Option<Problem> {
    let (secret, span) = secret(settings, &["telegram", "token"])?;
    let is_token = secret.expose().split_once(':').is_some_and(|(bot, rest)| {
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_number = !bot.is_empty() && bot.chars().all(|c| c.is_ascii_digit());
        is_number && rest.len() >= SHORTEST_TOKEN && rest.chars().all(sound)
    });
    (!is_token).then(|| {
        let message = "what `telegram.token` refers to is no token of a bot";
        settings.problem(span, "another shape", message).help(
            "a token is the bot's number, a colon and some 35 letters and digits, without blanks and \
             without `bot` before it: copy it whole from @BotFather (`/mybots`, API Token)",
        )
    })
}

/// Telegram itself sends by TLS and to few ports; a Bot API server of one's own sends anywhere.
fn webhook_url(settings: &Document<'_>) -> Option<Problem> {
    let url = Url::parse(settings.string(&["telegram", "webhook_url"])?).ok()?;
    if settings.string(&["telegram", "api_url"]).is_some() {
        return None;
    }
    let span = settings.span(&["telegram", "webhook_url"]);
    if url.scheme() != "https" {
        let message = "Telegram sends updates to https addresses alone";
        let problem = settings.problem(span, "not https", message);
        return Some(problem.help(
            "write the public address of a proxy that speaks TLS: \"https://majordomo.example.com\"; \
             without `webhook_url` updates are fetched, which needs no public address. A Bot API server \
             of your own, named by `api_url`, may send to any",
        ));
    }
    let port = url
        .port_or_known_default()
        .filter(|port| !WEBHOOK_PORTS.contains(port))?;
    let message = format!("Telegram sends no updates to port {port}");
    let problem = settings.problem(span, "another port", message);
    Some(problem.help("have the proxy listen on 443, 80, 88 or 8443"))
}

/// What Slack's events come in by must be there: a token for the socket, or a secret for signatures.
fn slack(settings: &Document<'_>) -> Option<Problem> {
    let found = settings.find(&["slack"]).pop()?;
    let table = found.value.as_ref().as_table()?;
    let has = |key: &str| table.iter().any(|(name, _)| name.as_ref() == key);
    let mode = settings.string(&["slack", "mode"]);
    let missing = match mode {
        Some("socket") if !has("app_token") => "app_token",
        Some("socket") => return None,
        _ if mode.is_none() && has("app_token") => return None,
        _ if !has("signing_secret") => "signing_secret",
        _ => return None,
    };
    let message = format!("`[slack]` needs `{missing}` for the way that its events come in");
    Some(
        settings
            .problem(found.value.span(), &format!("no `{missing}`"), message)
            .help(
                "set `app_token` (Socket Mode, needs no public address), or `signing_secret` (events \
                 over HTTP); docs/slack.md says where both are found",
            ),
    )
}

fn kind_of(token: &str) -> Option<&'static str> {
    let mut kinds = SLACK_TOKENS.into_iter();
    kinds
        .find(|(begins, _)| token.starts_with(begins))
        .map(|(_, kind)| kind)
}

/// A token must be of the kind that its key is for: the two are easily swapped.
fn slack_token(
    settings: &Document<'_>,
    (key, begins, wanted): (&str, &str, &str),
) -> Option<Problem> {
    let (secret, span) = secret(settings, &["slack", key])?;
    let kind = kind_of(secret.expose());
    if kind.is_some() && kind == kind_of(begins) {
        return None;
    }
    let message = match kind {
        Some(kind) => format!("what `slack.{key}` refers to is {kind}"),
        None => format!("what `slack.{key}` refers to is no {wanted}"),
    };
    let problem = settings.problem(span, &format!("not the {wanted}"), message);
    Some(problem.help(format!(
        "`bot_token` takes what begins with {BOT} (OAuth & Permissions), `app_token` what begins with \
         {APP} (Basic Information): set each variable to its own"
    )))
}

fn signing_secret(settings: &Document<'_>) -> Option<Problem> {
    let (secret, span) = secret(settings, &["slack", "signing_secret"])?;
    let kind = kind_of(secret.expose())?;
    let message = format!("what `slack.signing_secret` refers to is {kind}");
    let problem = settings.problem(span, "a token", message);
    Some(problem.help("the signing secret stands under Basic Information, App Credentials"))
}

/// What a person is known by is theirs alone, and of the form that the channel has.
fn people(settings: &Document<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let people = settings.find(&["people", "*"]);
    problems.extend(people.iter().filter_map(|person| nobody(settings, person)));
    for table in ["people", "grants"] {
        let roles = settings.find(&[table, "*", "roles"]);
        problems.extend(roles.iter().filter_map(|roles| no_role(settings, roles)));
    }
    for key in ["name", "telegram", "slack"] {
        let mut known = BTreeSet::new();
        for found in settings.find(&["people", "*", key]) {
            let (value, span) = (found.value.as_ref(), found.value.span());
            let text = match value {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                _ => continue,
            };
            let is_whole = text.split_once('/').is_some_and(|(team, user)| {
                !team.is_empty() && !user.is_empty() && !user.contains('/')
            });
            if key == "slack" && !is_whole {
                let message = format!("{text:?} is no person in Slack");
                let problem = settings.problem(span.clone(), "no team", message);
                problems.push(
                    problem.help("write it as \"TEAM/USER\"; whoever is not known is told theirs"),
                );
            }
            if !known.insert(text.clone()) {
                let message = format!("two people have the {key} {text:?}");
                let problem = settings.problem(span, "the second", message);
                problems.push(
                    problem.help("give each person an entry of their own, and each entry one"),
                );
            }
        }
    }
    problems
}

/// An entry by which nobody is ever known.
fn nobody(settings: &Document<'_>, person: &Found<'_, '_>) -> Option<Problem> {
    let table = person.value.as_ref().as_table()?;
    let has = |key: &str| table.iter().any(|(name, _)| name.as_ref() == key);
    if has("telegram") || has("slack") {
        return None;
    }
    let name = table.get("name").and_then(|name| name.as_ref().as_str());
    let name = name.unwrap_or("NAME");
    let message = "this person has no id in any chat, so nobody is known by the entry";
    let problem = settings.problem(person.value.span(), "no id", message);
    Some(problem.help(format!(
        "add `telegram = NUMBER` or `slack = \"TEAM/USER\"`, which the bot tells everybody whom it does \
         not know; or take the entry out, and let them link themselves by `majordomo pair {name}`"
    )))
}

/// Roles that are none.
fn no_role(settings: &Document<'_>, roles: &Found<'_, '_>) -> Option<Problem> {
    let list = roles.value.as_ref().as_array()?;
    (list.iter().count() == 0).then(|| {
        let message = "whoever has no role may do nothing";
        let problem = settings.problem(roles.value.span(), "empty", message);
        problem.help("leave `roles` out for [\"member\"], or name some")
    })
}
