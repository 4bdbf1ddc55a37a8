//! What the schema cannot say: names that must exist elsewhere, what one value has to do with
//! another, and what is allowed but unwise. Works on the documents rather than on the deserialized
//! types, so that each problem has its place and a mistake in one file hides none in another.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::builtin;
use super::document::{Document, Found};
use super::problem::{Problem, is_secret_name};
use super::shape::literal_secret_problem;
use super::suggest;
use super::tools::KnownTools;
use super::types::Settings;

/// Shorter descriptions give a router nothing to choose by.
const SHORTEST_DESCRIPTION: usize = 40;

/// The channels that tasks come in by.
const CHANNELS: [&str; 2] = ["cli", "http"];

/// All documents of one configuration that are TOML.
pub(super) struct Documents<'a> {
    /// `majordomo.toml`; absent where it is no TOML.
    pub settings: Option<Document<'a>>,
    /// The agents' files.
    pub agents: Vec<AgentDocument<'a>>,
    /// The names of agents whose files are no TOML: they exist, but nothing is known of them.
    pub unreadable: BTreeSet<String>,
}

/// An agent's file.
pub(super) struct AgentDocument<'a> {
    /// The file's name without `.toml`.
    pub stem: &'a str,
    /// What it holds.
    pub document: Document<'a>,
}

impl AgentDocument<'_> {
    fn name(&self) -> &str {
        self.document.string(&["name"]).unwrap_or(self.stem)
    }
}

/// Everything that is wrong or unwise across `documents`.
pub(super) fn problems(documents: &Documents<'_>, tools: &KnownTools) -> Vec<Problem> {
    let names = agents(documents);
    let mut problems = Vec::new();
    if let Some(settings) = &documents.settings {
        problems.extend(routes(settings, &names));
        problems.extend(headers(settings));
        problems.extend(prices(settings));
        problems.extend(private_hosts(settings));
        problems.extend(supervisor_model(settings));
    }
    for agent in &documents.agents {
        problems.extend(agent_name(agent));
        problems.extend(description(agent));
        problems.extend(agent_model(agent, documents.settings.as_ref()));
        problems.extend(unknown(
            &agent.document,
            &["then"],
            "agent",
            "agents",
            &names,
        ));
        problems.extend(agent_tools(agent, documents.settings.as_ref(), tools));
    }
    problems.extend(duplicates(&documents.agents));
    problems.extend(cycles(&documents.agents));
    problems
}

fn agents<'d>(documents: &'d Documents<'_>) -> BTreeSet<&'d str> {
    let named = documents.agents.iter().map(AgentDocument::name);
    named
        .chain(documents.unreadable.iter().map(String::as_str))
        .collect()
}

/// Every string at `path` must be one of `known`.
fn unknown(
    document: &Document<'_>,
    path: &[&str],
    what: &str,
    plural: &str,
    known: &BTreeSet<&str>,
) -> Vec<Problem> {
    let is_unknown = |found: &Found<'_, '_>| {
        let name = found.value.as_ref().as_str()?;
        (!known.contains(name)).then(|| {
            document
                .problem(
                    found.value.span(),
                    &format!("no such {what}"),
                    format!("unknown {what} `{name}`"),
                )
                .help(suggest::help(name, plural, known.iter().copied()))
        })
    };
    document.find(path).iter().filter_map(is_unknown).collect()
}

fn models<'d>(settings: &'d Document<'_>) -> BTreeSet<&'d str> {
    let named = settings
        .find(&["models", "*"])
        .into_iter()
        .map(|found| found.key);
    named.chain(["default"]).collect()
}

fn supervisor_model(settings: &Document<'_>) -> Vec<Problem> {
    unknown(
        settings,
        &["supervisor", "model"],
        "model",
        "models",
        &models(settings),
    )
}

fn agent_model(agent: &AgentDocument<'_>, settings: Option<&Document<'_>>) -> Vec<Problem> {
    match settings {
        Some(settings) => unknown(
            &agent.document,
            &["model"],
            "model",
            "models",
            &models(settings),
        ),
        None => Vec::new(),
    }
}

fn routes(settings: &Document<'_>, agents: &BTreeSet<&str>) -> Vec<Problem> {
    let mut problems = unknown(
        settings,
        &["routes", "*", "agents", "*"],
        "agent",
        "agents",
        agents,
    );
    for rule in settings.find(&["routes", "*"]) {
        let DeValue::Table(table) = rule.value.as_ref() else {
            continue;
        };
        if table.get("matches").is_none() && table.get("channel").is_none() {
            let message = "this route matches every task, so no other way of routing is ever taken";
            let problem = settings.problem(rule.value.span(), "no condition", message);
            problems.push(problem.help(
                "add `matches = 'regular expression'` or `channel = \"http\"`; for one agent that \
                 does everything, write `matches = ''`",
            ));
        }
    }
    for list in settings.find(&["routes", "*", "agents"]) {
        if list
            .value
            .as_ref()
            .as_array()
            .is_some_and(|list| list.iter().next().is_none())
        {
            let problem = settings.problem(list.value.span(), "empty", "this route names no agent");
            problems.push(problem.help("name at least one: `agents = [\"researcher\"]`"));
        }
    }
    let channels = BTreeSet::from(CHANNELS);
    let odd = unknown(
        settings,
        &["routes", "*", "channel"],
        "channel",
        "channels",
        &channels,
    );
    problems.extend(odd.into_iter().map(Problem::warning));
    problems
}

fn headers(settings: &Document<'_>) -> Vec<Problem> {
    let is_literal = |found: &Found<'_, '_>| {
        let value = found.value.as_ref().as_str()?;
        let literal = is_secret_name(found.key) && !value.contains("${");
        literal.then(|| literal_secret_problem(settings, found.value.span(), found.key))
    };
    settings
        .find(&["models", "*", "headers", "*"])
        .iter()
        .filter_map(is_literal)
        .collect()
}

fn prices(settings: &Document<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let listed: BTreeSet<&str> = settings
        .find(&["prices", "*"])
        .into_iter()
        .map(|f| f.key)
        .collect();
    for model in settings.find(&["models", "*"]) {
        let DeValue::Table(table) = model.value.as_ref() else {
            continue;
        };
        let text = |key: &str| table.get(key).and_then(|value| value.as_ref().as_str());
        let local = table
            .get("local")
            .is_some_and(|value| value.as_ref().as_bool() == Some(true));
        let (Some("openai"), Some(name)) = (text("provider"), text("model")) else {
            continue;
        };
        let span = table
            .get("model")
            .map_or(model.value.span(), |value| value.span());
        if listed.contains(name) {
            continue;
        }
        if let Err(missing) = Settings::default().price_of(name, local) {
            let message =
                format!("there is no price for model `{name}`, so its cost could not be limited");
            problems.push(
                settings
                    .problem(span, "no price", message)
                    .help(missing.help()),
            );
        }
    }
    problems.extend(
        settings
            .find(&["prices", "*"])
            .iter()
            .filter_map(|price| free(settings, price)),
    );
    problems
}

/// Zeros are what the lines to paste hold; they would switch the limit in dollars off unseen.
fn free(settings: &Document<'_>, price: &Found<'_, '_>) -> Option<Problem> {
    let DeValue::Table(table) = price.value.as_ref() else {
        return None;
    };
    let is_zero = |key: &str| match table.get(key).map(|value| value.as_ref()) {
        Some(DeValue::Integer(number)) => number.as_str() == "0",
        Some(DeValue::Float(number)) => number.as_str().parse() == Ok(0.0),
        _ => false,
    };
    (is_zero("input") && is_zero("output")).then(|| {
        let message = format!("the price of `{}` is 0: its calls count as free", price.key);
        settings
            .problem(price.key_span.clone(), "free of charge", message)
            .help("right for a free model; otherwise write its price, or the limit in dollars means nothing")
            .warning()
    })
}

fn private_hosts(settings: &Document<'_>) -> Vec<Problem> {
    let is_bad = |found: &Found<'_, '_>| {
        let host = found.value.as_ref().as_str()?;
        let parsed = url::Url::parse(&format!("http://{host}/")).ok();
        let is_host = parsed.is_some_and(|url| {
            url.path() == "/"
                && url.username().is_empty()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        (!is_host || host.contains(['/', '*'])).then(|| {
            settings
                .problem(found.value.span(), "not a host", format!("`{host}` is not a host"))
                .help("write a host or host:port without scheme and path: \"wiki.internal\", \"127.0.0.1:8080\"")
        })
    };
    settings
        .find(&["egress", "allow_private", "*"])
        .iter()
        .filter_map(is_bad)
        .collect()
}

fn agent_name(agent: &AgentDocument<'_>) -> Option<Problem> {
    let name = agent.document.string(&["name"])?;
    (name != agent.stem).then(|| {
        let message = format!(
            "the agent's name `{name}` differs from its file's, `{}`",
            agent.stem
        );
        agent
            .document
            .problem(agent.document.span(&["name"]), "another name", message)
            .help(format!(
                "write `name = \"{}\"`, or rename the file to {name}.toml",
                agent.stem
            ))
    })
}

fn description(agent: &AgentDocument<'_>) -> Option<Problem> {
    let text = agent.document.string(&["description"])?.trim();
    (!text.is_empty() && text.chars().count() < SHORTEST_DESCRIPTION).then(|| {
        agent
            .document
            .problem(
                agent.document.span(&["description"]),
                "too short",
                format!(
                    "the description of `{}` is too short to route by",
                    agent.name()
                ),
            )
            .help("say what the agent does, when to choose it, and when not")
            .warning()
    })
}

fn duplicates(agents: &[AgentDocument<'_>]) -> Vec<Problem> {
    let mut first = BTreeMap::new();
    let mut problems = Vec::new();
    for agent in agents {
        let name = agent.name();
        let earlier = *first.entry(name).or_insert(agent.document.name());
        if earlier != agent.document.name() {
            let message = format!("there are two agents named `{name}`");
            let span = agent.document.span(&["name"]);
            let problem = agent.document.problem(span, "the second one", message);
            problems
                .push(problem.help(format!("the first one is in {earlier}; rename one of them")));
        }
    }
    problems
}

/// Each circle of `then` is told once, at its agent that comes first by name.
fn cycles(agents: &[AgentDocument<'_>]) -> Vec<Problem> {
    let next: BTreeMap<&str, &str> = agents
        .iter()
        .filter_map(|agent| Some((agent.name(), agent.document.string(&["then"])?)))
        .collect();
    let is_first_of_cycle = |agent: &AgentDocument<'_>| {
        let cycle = cycle_from(agent.name(), &next)?;
        (cycle.iter().min() == Some(&agent.name())).then(|| {
            let way = cycle.join(" → ");
            let message = format!("`then` goes in a circle: {way} → {}", agent.name());
            agent
                .document
                .problem(agent.document.span(&["then"]), "never ends", message)
                .help("take `then` out of one of these agents' files")
        })
    };
    agents.iter().filter_map(is_first_of_cycle).collect()
}

/// The agents from `start` back to `start`, where `then` leads back there.
fn cycle_from<'d>(start: &'d str, next: &BTreeMap<&'d str, &'d str>) -> Option<Vec<&'d str>> {
    let mut way = vec![start];
    loop {
        match *next.get(way[way.len() - 1])? {
            to if to == start => return Some(way),
            to if way.contains(&to) => return None,
            to => way.push(to),
        }
    }
}

fn agent_tools(
    agent: &AgentDocument<'_>,
    settings: Option<&Document<'_>>,
    tools: &KnownTools,
) -> Vec<Problem> {
    let document = &agent.document;
    let known: BTreeSet<&str> = tools.names().collect();
    let mut problems = unknown(document, &["tools", "*"], "tool", "tools", &known);
    let mut listed = BTreeSet::new();
    for tool in document.find(&["tools", "*"]) {
        let Some(name) = tool.value.as_ref().as_str() else {
            continue;
        };
        if !listed.insert(name) {
            let message = format!("tool `{name}` is listed twice");
            let problem = document.problem(tool.value.span(), "again", message);
            problems.push(problem.help("name each tool once"));
        } else if let Some(need) = settings.and_then(|settings| tools.unmet(name, settings)) {
            let message = format!(
                "`{}` goes without tool `{name}`: {}",
                agent.name(),
                need.reason()
            );
            let problem = document.problem(tool.value.span(), "left out", message);
            problems.push(problem.help(need.help()).advice());
        }
    }
    problems.extend(unused_tool_settings(document, &listed));
    problems.extend(shown_names(document, &listed));
    problems
}

fn unused_tool_settings(document: &Document<'_>, listed: &BTreeSet<&str>) -> Vec<Problem> {
    let is_unused = |found: &Found<'_, '_>| {
        (!listed.contains(found.key)).then(|| {
            let message = format!(
                "`[tool.{0}]` changes a tool that `tools` does not list",
                found.key
            );
            document
                .problem(found.key_span.clone(), "not in `tools`", message)
                .help(suggest::help(
                    found.key,
                    "listed tools",
                    listed.iter().copied(),
                ))
        })
    };
    document
        .find(&["tool", "*"])
        .iter()
        .filter_map(is_unused)
        .collect()
}

/// Two tools that the model would see under one name.
fn shown_names(document: &Document<'_>, listed: &BTreeSet<&str>) -> Vec<Problem> {
    let mut shown: BTreeMap<&str, &str> = listed.iter().map(|name| (*name, *name)).collect();
    for (tool, _) in renamed(document) {
        shown.remove(tool);
    }
    let mut problems = Vec::new();
    for (tool, found) in renamed(document) {
        let Some(name) = found.value.as_ref().as_str() else {
            continue;
        };
        if let Some(other) = shown.insert(name, tool) {
            let message = format!("tools `{other}` and `{tool}` are both shown as `{name}`");
            let problem = document.problem(found.value.span(), "taken", message);
            problems.push(problem.help("give each tool of an agent a name of its own"));
        }
    }
    problems
}

fn renamed<'d, 'a>(document: &'d Document<'a>) -> Vec<(&'d str, Found<'d, 'a>)> {
    let tools = document
        .find(&["tool", "*"])
        .into_iter()
        .map(|found| found.key);
    tools
        .filter_map(|tool| Some((tool, document.find(&["tool", tool, "name"]).pop()?)))
        .collect()
}

/// A configuration with no agents has nobody to do the work.
pub(super) fn nobody(place: &str) -> Problem {
    Problem::new(format!("there are no agents: no *.toml file in {place}")).help(format!(
        "`majordomo init` writes a starter configuration with {} agents into a folder",
        builtin::FILES.len() - 1
    ))
}
