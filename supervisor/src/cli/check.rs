//! `majordomo check`: whether the configuration holds together, and what would run by it. Starts
//! nothing and sends nothing.

use std::fmt::Write;

use clap::Args;

use shared::config::{Close, SearchSettings};

use super::context::{Context, colours, width};
use super::exit::Exit;
use super::words;
use crate::channels;
use crate::equip::Equipped;

/// Validates the configuration and prints what would run.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 2 where anything is wrong, 0 where there are warnings alone.")]
pub struct Check {}

/// Runs the command.
pub fn run(context: &Context, _: Check) -> anyhow::Result<Exit> {
    let equipped = match context.equip() {
        Ok(equipped) => equipped,
        Err(error) => {
            super::complain(&error);
            return Ok(Exit::Usage);
        }
    };
    if let Err(error) = channels::check(&equipped.config.settings) {
        super::complain(&error);
        return Ok(Exit::Usage);
    }
    words::say(format_args!("{}", plan(&equipped, context).trim_end()));
    let warnings = &equipped.config.warnings;
    for problem in warnings {
        eprintln!("{}", problem.render(colours(), width()));
    }
    let of_tools = lint(&equipped);
    for warning in &of_tools {
        eprintln!("warning: {warning}");
    }
    match warnings.len() + of_tools.len() {
        0 => eprintln!("the configuration is good"),
        count => eprintln!(
            "the configuration works, with {}",
            words::count(count as u64, "remark")
        ),
    }
    if let Some(material) = context.configured_material() {
        context.keep_apart(&material)?;
    }
    Ok(Exit::Done)
}

/// What is unwise about the tools' descriptions.
fn lint(equipped: &Equipped) -> Vec<String> {
    let warnings = agents::tools::lint::check(equipped.catalog.tools.values());
    warnings.iter().map(ToString::to_string).collect()
}

/// What would run.
fn plan(equipped: &Equipped, context: &Context) -> String {
    let (config, catalog) = (&equipped.config, &equipped.catalog);
    let settings = &config.settings;
    let mut text = String::new();
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    field("config", config.origin.clone());
    field("data", context.data.display().to_string());
    let store = match settings.database_url {
        Some(_) => "Postgres, at the address in database_url",
        None => "SQLite, in the data folder",
    };
    field("store", store.into());
    let folder = |path: &Option<std::path::PathBuf>, without: &str| {
        path.as_ref()
            .map_or(without.to_owned(), |path| path.display().to_string())
    };
    field(
        "reads",
        folder(
            &settings.files.read,
            "the current folder with `ask`, nothing with `serve`",
        ),
    );
    let written = context.data.join("files").display().to_string();
    field("writes", folder(&settings.files.write, &written));
    field("listens", settings.server.listen.to_string());
    let limits = &catalog.limits;
    field(
        "limits",
        format!(
            "{}, {} s, {} tokens, {} per task",
            words::count(limits.steps.into(), "step"),
            limits.wall_s,
            words::number(limits.tokens),
            words::usd(limits.usd)
        ),
    );
    let retry = &catalog.retry;
    field(
        "attempts",
        format!(
            "{} per call, pauses of {} s doubling up to {} s",
            retry.attempts, retry.base_s, retry.cap_s
        ),
    );
    if let Some(SearchSettings::Tavily { base_url, .. }) = &settings.search {
        field("search", format!("tavily at {base_url}"));
    }
    if let Some(email) = &settings.email {
        let allowed = match email.allow.is_empty() {
            true => "nobody".into(),
            false => email.allow.join(", "),
        };
        let server = format!("{}:{}", email.host, email.port());
        field("email", format!("{} by {server}, to {allowed}", email.from));
    }

    text.push_str("\nmodels\n");
    for card in &equipped.models {
        let _ = writeln!(text, "  {}: {}", card.name, card.description);
        let Some(model) = catalog.models.get(&card.name) else {
            continue;
        };
        let _ = writeln!(
            text,
            "    ${} in, ${} out per million tokens; {} tokens of context; {} s per call",
            model.price.input,
            model.price.output,
            words::number(model.context_tokens.into()),
            model.timeout_s
        );
    }

    let close = match catalog.supervisor.close {
        Close::Always => "always",
        Close::WhenNeeded => "where several results have to become one",
    };
    let _ = writeln!(
        text,
        "\nsupervisor\n  routes with {}, closes {close}",
        catalog.supervisor.model
    );
    for route in &catalog.routes {
        let rule = route
            .matches
            .as_deref()
            .map(|pattern| format!(" /{pattern}/"));
        let channel = route
            .channel
            .as_deref()
            .map(|channel| format!(" from {channel}"));
        let agents: Vec<&str> = route.agents.iter().map(|agent| agent.as_str()).collect();
        let _ = writeln!(
            text,
            "  route{}{} -> {}",
            rule.unwrap_or_default(),
            channel.unwrap_or_default(),
            agents.join(", ")
        );
    }

    text.push_str("\nagents\n");
    for agent in catalog.agents.values() {
        let _ = writeln!(
            text,
            "  {} ({}): {}",
            agent.name,
            agent.model,
            words::line(&agent.description)
        );
        for tool in catalog.tools_of(agent) {
            let renamed = match tool.shown_name() == &tool.info.name {
                true => String::new(),
                false => format!(" as {}", tool.shown_name()),
            };
            let _ = writeln!(
                text,
                "    {}{renamed}: {}, {} s per call",
                tool.info.name,
                tool.info.effect.as_str(),
                tool.timeout_s()
            );
        }
        if let Some(then) = &agent.then {
            let _ = writeln!(text, "    then {then}");
        }
    }
    text
}
