//! What the schema cannot say: names that must exist elsewhere, what one value has to do with
//! another, and what is allowed but unwise. Works on the documents rather than on the deserialized
//! types, so that each problem has its place and a mistake in one file hides none in another.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::approver;
use super::builtin;
use super::chat;
use super::document::{Document, Found};
use super::email;
use super::escalation;
use super::grant;
use super::problem::{Problem, is_secret_name};
use super::suggest;
use super::text::literal_secret_problem;
use super::tools::KnownTools;
use super::types::{EngineSettings, Settings};

/// Shorter descriptions give a router nothing to choose by.
const SHORTEST_DESCRIPTION: usize = 40;

/// The name under which the supervisor's own steps are journaled and shown.
const RESERVED_NAME: &str = "supervisor";

/// The channels that tasks come in by.
const CHANNELS: [&str; 5] = ["cli", "http", "slack", "telegram", "hook"];

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
        problems.extend(lease(settings));
        problems.extend(hooks(settings, &names));
        problems.extend(chat::problems(settings));
        problems.extend(grant::problems(settings));
        problems.extend(approver::problems(settings));
        problems.extend(email::problems(settings));
        problems.extend(escalation::problems(settings));
    }
    for agent in &documents.agents {
        problems.extend(agent_name(agent));
        problems.extend(description(agent));
        problems.extend(agent_model(agent, documents.settings.as_ref()));
        problems.extend(unknown(&agent.document, &["then"], "agent", &names));
        problems.extend(agent_tools(agent, documents.settings.as_ref(), tools));
    }
    problems.extend(duplicates(&documents.agents));
    problems.extend(cycles(&documents.agents));
    problems
}

/// Three beats at least must fit a lease: one that is late must not cost a worker its runs.
fn lease(settings: &Document<'_>) -> Option<Problem> {
    let defaults = EngineSettings::default();
    let seconds = |key: &str| {
        let found = settings.find(&["engine", key]).pop()?;
        let value = found.value.as_ref();
        let text = match value {
            DeValue::Float(number) => number.to_string(),
            DeValue::Integer(number) => number.to_string(),
            _ => return None,
        };
        Some((text.parse::<f64>().ok()?, found.value.span()))
    };
    let (lease, beat) = (seconds("lease_s"), seconds("beat_s"));
    let lease_s = lease.as_ref().map_or(defaults.lease_s, |lease| lease.0);
    let beat_s = beat.as_ref().map_or(defaults.beat_s, |beat| beat.0);
    let span = beat.or(lease)?.1;
    (beat_s * 3.0 > lease_s).then(|| {
        let message = format!("a beat every {beat_s} s is too seldom for a lease of {lease_s} s");
        let help = format!(
            "set `beat_s` to at most {:.1}, or `lease_s` to at least {:.1}",
            lease_s / 3.0 - 0.05,
            beat_s * 3.0
        );
        settings
            .problem(span, "three beats must fit a lease", message)
            .help(help)
    })
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
    known: &BTreeSet<&str>,
) -> Vec<Problem> {
    let complaint = |found: &Found<'_, '_>| {
        let name = found
            .value
            .as_ref()
            .as_str()
            .filter(|name| !known.contains(name))?;
        let (label, message) = (
            format!("no such {what}"),
            format!("unknown {what} `{name}`"),
        );
        let help = suggest::help(name, &format!("{what}s"), known.iter().copied());
        Some(
            document
                .problem(found.value.span(), &label, message)
                .help(help),
        )
    };
    document.find(path).iter().filter_map(complaint).collect()
}

fn models<'d>(settings: &'d Document<'_>) -> BTreeSet<&'d str> {
    let named = settings.find(&["models", "*"]);
    named
        .into_iter()
        .map(|found| found.key)
        .chain(["default"])
        .collect()
}

fn supervisor_model(settings: &Document<'_>) -> Vec<Problem> {
    unknown(
        settings,
        &["supervisor", "model"],
        "model",
        &models(settings),
    )
}

fn agent_model(agent: &AgentDocument<'_>, settings: Option<&Document<'_>>) -> Vec<Problem> {
    match settings {
        Some(settings) => unknown(&agent.document, &["model"], "model", &models(settings)),
        None => Vec::new(),
    }
}

fn routes(settings: &Document<'_>, agents: &BTreeSet<&str>) -> Vec<Problem> {
    let channels = BTreeSet::from(CHANNELS);
    let odd = unknown(settings, &["routes", "*", "channel"], "channel", &channels);
    let mut problems = unknown(settings, &["routes", "*", "agents", "*"], "agent", agents);
    problems.extend(odd.into_iter().map(Problem::warning));
    let rules = settings.find(&["routes", "*"]);
    problems.extend(
        rules
            .iter()
            .filter_map(|rule| boundless_route(settings, rule)),
    );
    let lists = settings.find(&["routes", "*", "agents"]);
    problems.extend(lists.iter().filter_map(|list| empty_route(settings, list)));
    problems
}

/// Says nothing where another key stands in the rule: it is a condition, only misspelt.
fn boundless_route(settings: &Document<'_>, rule: &Found<'_, '_>) -> Option<Problem> {
    let table = rule.value.as_ref().as_table()?;
    let only_agents = table.iter().all(|(key, _)| key.as_ref() == "agents");
    only_agents.then(|| {
        let message = "this route matches every task, so no other way of routing is ever taken";
        settings
            .problem(rule.value.span(), "no condition", message)
            .help(
                "add `matches = 'regular expression'` or `channel = \"http\"`; for one agent that \
             does everything, write `matches = ''`",
            )
    })
}

fn empty_route(settings: &Document<'_>, list: &Found<'_, '_>) -> Option<Problem> {
    let agents = list.value.as_ref().as_array()?;
    (agents.iter().count() == 0).then(|| {
        settings
            .problem(list.value.span(), "empty", "this route names no agent")
            .help("name at least one: `agents = [\"researcher\"]`")
    })
}

fn hooks(settings: &Document<'_>, agents: &BTreeSet<&str>) -> Vec<Problem> {
    let mut problems = unknown(settings, &["hooks", "*", "agent"], "agent", agents);
    let hooks = settings.find(&["hooks", "*"]);
    problems.extend(hooks.iter().filter_map(|hook| hook_name(settings, hook)));
    problems.extend(hooks.iter().filter_map(|hook| hook_header(settings, hook)));
    for key in ["text", "dedupe"] {
        let templates = settings.find(&["hooks", "*", key]);
        problems.extend(templates.iter().filter_map(|text| unclosed(settings, text)));
    }
    problems
}

/// The name stands in a path, and in the names of principals.
fn hook_name(settings: &Document<'_>, hook: &Found<'_, '_>) -> Option<Problem> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let is_name = (1..=64).contains(&hook.key.len()) && hook.key.chars().all(allowed);
    (!is_name).then(|| {
        let message = format!("`{}` cannot be the name of a hook", hook.key);
        settings
            .problem(hook.key_span.clone(), "not a good name", message)
            .help("it stands in the path: 1 to 64 lower-case letters, digits, `-` and `_`")
    })
}

/// A generic signature stands in a header that is named; the others know where theirs stands.
fn hook_header(settings: &Document<'_>, hook: &Found<'_, '_>) -> Option<Problem> {
    let table = hook.value.as_ref().as_table()?;
    let is_generic = table.get("verify")?.as_ref().as_str()? == "hmac";
    let given = ["header", "prefix", "encoding"]
        .into_iter()
        .find_map(|key| Some((key, table.get(key)?)));
    match (is_generic, table.get("header"), given) {
        (true, None, _) => {
            let message = format!("`header` is missing in `hooks.{}`", hook.key);
            let problem =
                settings.problem(hook.key_span.clone(), "where is the signature?", message);
            Some(problem.help("name the header that holds it: `header = \"X-Signature\"`"))
        }
        (true, Some(header), _) => {
            let name = header.as_ref().as_str()?;
            let is_header = reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_ok();
            (!is_header).then(|| {
                let message = format!("`{name}` cannot be the name of a header");
                let problem = settings.problem(header.span(), "not a header", message);
                problem.help("letters, digits and `-`, such as \"X-Signature\"")
            })
        }
        (false, _, Some((key, value))) => {
            let message = format!("`{key}` in `hooks.{}` has no meaning", hook.key);
            let problem = settings.problem(value.span(), "only with verify = \"hmac\"", message);
            Some(problem.help("leave it out; this way of signing says itself where and how"))
        }
        (false, _, None) => None,
    }
}

fn unclosed(settings: &Document<'_>, template: &Found<'_, '_>) -> Option<Problem> {
    let text = template.value.as_ref().as_str()?;
    let is_open = |part: &str| !part.contains("}}");
    let mut parts = text.split("{{").skip(1);
    parts.any(is_open).then(|| {
        let message = format!("a `{{{{` in `{}` is never closed", template.key);
        settings
            .problem(template.value.span(), "unclosed", message)
            .help("a placeholder reads `{{path.to.value}}` or `{{header:NAME}}`")
    })
}

fn headers(settings: &Document<'_>) -> Vec<Problem> {
    let headers = settings.find(&["models", "*", "headers", "*"]);
    headers
        .iter()
        .filter_map(|header| bad_header(settings, header))
        .collect()
}

fn bad_header(settings: &Document<'_>, header: &Found<'_, '_>) -> Option<Problem> {
    let value = header.value.as_ref().as_str()?;
    if reqwest::header::HeaderName::from_bytes(header.key.as_bytes()).is_err() {
        let message = format!("`{}` cannot be the name of a header", header.key);
        let problem = settings.problem(header.key_span.clone(), "not a header", message);
        return Some(problem.help("letters, digits and `-`, such as \"OpenAI-Organization\""));
    }
    let is_literal = is_secret_name(header.key) && !value.contains("${");
    is_literal.then(|| literal_secret_problem(settings, header.value.span(), value, header.key))
}

fn prices(settings: &Document<'_>) -> Vec<Problem> {
    let prices = settings.find(&["prices", "*"]);
    let listed: BTreeSet<&str> = prices.iter().map(|price| price.key).collect();
    let models = settings.find(&["models", "*"]);
    let missing = models
        .iter()
        .filter_map(|model| missing_price(settings, model, &listed));
    let free = prices.iter().filter_map(|price| free(settings, price));
    missing.chain(free).collect()
}

fn missing_price(
    settings: &Document<'_>,
    model: &Found<'_, '_>,
    listed: &BTreeSet<&str>,
) -> Option<Problem> {
    let table = model.value.as_ref().as_table()?;
    let value = |key: &str| table.get(key).map(|value| value.as_ref());
    let name = table.get("model")?;
    let is_openai = value("provider").and_then(DeValue::as_str) == Some("openai");
    let is_local = value("local").and_then(DeValue::as_bool) == Some(true);
    let text = name
        .as_ref()
        .as_str()
        .filter(|text| is_openai && !listed.contains(text))?;
    let missing = Settings::default().price_of(text, is_local).err()?;
    let problem = settings.problem(name.span(), "no price", missing.what());
    Some(problem.help(missing.help()))
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
    let span = agent.document.span(&["name"]);
    if name == RESERVED_NAME {
        let message = format!("no agent can be named `{name}`");
        let problem = agent.document.problem(span, "taken", message);
        return Some(problem.help("the one who routes goes by this name; choose another"));
    }
    (name != agent.stem).then(|| {
        let stem = agent.stem;
        let message = format!("the agent's name `{name}` differs from its file's, `{stem}`");
        let problem = agent.document.problem(span, "another name", message);
        problem.help(format!(
            "write `name = \"{stem}\"`, or rename the file to {name}.toml"
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
    let mut problems = unknown(document, &["tools", "*"], "tool", &known);
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
