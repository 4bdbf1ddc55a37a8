//! Who does it: rules first, a model only where no rule speaks. Pure; the call itself is made by
//! [`crate::supervise`].

use agents::catalog::Catalog;
use regex::Regex;
use shared::id::AgentName;
use shared::model::structured::Schema;
use shared::task::Request;

use crate::plan::{self, Plan};

/// The plan that needs no model: the asker's own choice, or the first rule that matches.
pub fn by_rule(catalog: &Catalog, request: &Request) -> Option<Plan> {
    if let Some(agent) = &request.agent {
        return Some(Plan::chain([agent.clone()], "chosen by the asker"));
    }
    catalog
        .routes
        .iter()
        .enumerate()
        .filter(|(_, rule)| sees(catalog, request, &rule.agents))
        .find(|(_, rule)| {
            let channel = rule.channel.as_ref();
            let text = rule.matches.as_deref();
            channel.is_none_or(|channel| *channel == request.channel)
                && text.is_none_or(|pattern| matches(pattern, &request.text))
        })
        .map(|(index, rule)| {
            Plan::chain(
                rule.agents.iter().cloned(),
                format!("route rule {}", index + 1),
            )
        })
}

/// The configuration was checked before it became a catalog; a pattern that does not compile all the
/// same matches nothing.
fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

/// Whether one of these agents can be shown the pictures that came with a request, where any did. The
/// others go on with what that one found.
fn sees<'a>(
    catalog: &Catalog,
    request: &Request,
    agents: impl IntoIterator<Item = &'a AgentName>,
) -> bool {
    request.images.is_empty() || agents.into_iter().any(|agent| catalog.sees(agent))
}

/// What the router is asked. It is told of pictures, and shown none.
pub fn question(request: &Request) -> String {
    let names: Vec<&str> = request
        .images
        .iter()
        .map(|image| image.name.as_str())
        .collect();
    match names.is_empty() {
        true => request.text.clone(),
        false => format!(
            "{}\n\n[with pictures, which the agents see and you do not: {}]",
            request.text,
            names.join(", ")
        ),
    }
}

/// The agents as the router's system prompt lists them: with pictures, only those who see.
pub fn roster(catalog: &Catalog, request: &Request) -> String {
    let line = |(name, spec): (&AgentName, &shared::config::AgentSpec)| {
        format!("- {name}: {}", spec.description.trim().replace('\n', " "))
    };
    let agents = catalog.agents.iter();
    let able = agents.filter(|(name, _)| sees(catalog, request, [*name]));
    let lines: Vec<String> = able.map(line).collect();
    lines.join("\n")
}

/// Reads a router's reply: JSON of [`plan::schema`], or, from servers that know no structured
/// output, a line `ROUTE: agent`. The error is in words for the model.
pub fn read(catalog: &Catalog, request: &Request, reply: &str) -> Result<Plan, String> {
    if let Some(plan) = route_line(reply) {
        return checked(catalog, request, plan);
    }
    let schema = plan::schema();
    let schema =
        Schema::compile(&schema.name, &schema.schema).map_err(|error| error.to_string())?;
    let value = schema.read(reply).map_err(|unmet| unmet.to_string())?;
    let plan: Plan = serde_json::from_value(value).map_err(|error| error.to_string())?;
    checked(catalog, request, plan)
}

fn checked(catalog: &Catalog, request: &Request, plan: Plan) -> Result<Plan, String> {
    let plan = plan.continued(catalog);
    plan.check(catalog)?;
    match sees(catalog, request, plan.steps.iter().map(|step| &step.agent)) {
        true => Ok(plan),
        false => Err("it came with pictures, and no step is for an agent who sees them".into()),
    }
}

fn route_line(reply: &str) -> Option<Plan> {
    let agents = reply
        .lines()
        .find_map(|line| line.trim().strip_prefix("ROUTE:"))?;
    let names = agents.split(',').map(|name| name.trim().into());
    Some(Plan::chain(names, "named by the router"))
}
