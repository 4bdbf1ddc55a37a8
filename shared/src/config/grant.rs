//! What is wrong with `[[grants]]` that the schema cannot say: each names one group, in the form that its
//! channel has, of a chat that is open, and makes nobody an admin.

use super::document::{Document, Found};
use super::problem::Problem;

/// The groups that a grant may name, with the form of each; none where it is a number.
const GROUPS: [(&str, Option<&str>); 4] = [
    ("telegram_group", None),
    ("slack_workspace", Some("TEAM")),
    ("slack_user_group", Some("TEAM/GROUP")),
    ("slack_channel", Some("TEAM/CHANNEL")),
];

/// Everything that is wrong with the grants.
pub(super) fn problems(settings: &Document<'_>) -> Vec<Problem> {
    let grants = settings.find(&["grants", "*"]);
    let mut problems: Vec<Problem> = grants
        .iter()
        .filter_map(|grant| number(settings, grant))
        .collect();
    for (key, form) in GROUPS {
        let Some(form) = form else { continue };
        let found = settings.find(&["grants", "*", key]);
        problems.extend(
            found
                .iter()
                .filter_map(|found| malformed(settings, key, form, found)),
        );
    }
    for (key, _) in GROUPS {
        let found = settings.find(&["grants", "*", key]);
        problems.extend(found.iter().filter_map(|found| closed(settings, found)));
    }
    let roles = settings.find(&["grants", "*", "roles", "*"]);
    problems.extend(roles.iter().filter_map(|role| admin(settings, role)));
    problems
}

fn number(settings: &Document<'_>, grant: &Found<'_, '_>) -> Option<Problem> {
    let table = grant.value.as_ref().as_table()?;
    let named = GROUPS
        .iter()
        .filter(|(key, _)| table.iter().any(|(name, _)| name.as_ref() == *key))
        .count();
    let message = match named {
        1 => return None,
        0 => "a grant names no group",
        _ => "a grant names several groups",
    };
    let problem = settings.problem(grant.value.span(), "one group each", message);
    let keys = GROUPS.map(|(key, _)| format!("`{key}`")).join(", ");
    Some(problem.help(format!("give it exactly one of {keys}")))
}

fn malformed(
    settings: &Document<'_>,
    key: &str,
    form: &str,
    found: &Found<'_, '_>,
) -> Option<Problem> {
    let text = found.value.as_ref().as_str()?;
    let parts: Vec<&str> = text.split('/').collect();
    let is_id = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    if parts.len() == form.split('/').count() && parts.iter().all(is_id) {
        return None;
    }
    let message = format!("{text:?} is no `{key}`");
    let problem = settings.problem(found.value.span(), "not an id", message);
    Some(problem.help(format!(
        "write it as \"{form}\", with Slack's ids, not names: docs/people.md says where they are found"
    )))
}

/// A group of a chat that nothing opens. It may be closed for a while, so this forbids no start.
fn closed(settings: &Document<'_>, found: &Found<'_, '_>) -> Option<Problem> {
    let (chat, _) = found.key.split_once('_')?;
    settings.find(&[chat]).is_empty().then(|| {
        let message = format!("this grant lets nobody in: there is no `[{chat}]`");
        let problem = settings.problem(found.value.span(), "a chat that is closed", message);
        let help =
            format!("open the chat by `[{chat}]`, docs/{chat}.md says how; or take the grant out");
        problem.help(help).warning()
    })
}

fn admin(settings: &Document<'_>, role: &Found<'_, '_>) -> Option<Problem> {
    (role.value.as_ref().as_str()? == "admin").then(|| {
        let message = "a group makes nobody an admin";
        let problem = settings.problem(role.value.span(), "not for a group", message);
        problem.help(
            "name admins one by one, under [[people]] or by `majordomo pair NAME --roles admin`",
        )
    })
}
