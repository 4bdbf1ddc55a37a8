//! Who does it: rules first, a model only where no rule speaks. Pure; the call itself is made by
//! [`crate::supervise`].

use agents::catalog::Catalog;
use regex::Regex;
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

/// The agents as the router's system prompt lists them.
pub fn roster(catalog: &Catalog) -> String {
    let line = |(name, spec): (&shared::id::AgentName, &shared::config::AgentSpec)| {
        format!("- {name}: {}", spec.description.trim().replace('\n', " "))
    };
    let lines: Vec<String> = catalog.agents.iter().map(line).collect();
    lines.join("\n")
}

/// Reads a router's reply: JSON of [`plan::schema`], or, from servers that know no structured
/// output, a line `ROUTE: agent`. The error is in words for the model.
pub fn read(catalog: &Catalog, reply: &str) -> Result<Plan, String> {
    if let Some(plan) = route_line(reply) {
        let plan = plan.continued(catalog);
        return plan.check(catalog).map(|()| plan);
    }
    let schema = plan::schema();
    let schema =
        Schema::compile(&schema.name, &schema.schema).map_err(|error| error.to_string())?;
    let value = schema.read(reply).map_err(|unmet| unmet.to_string())?;
    let plan: Plan = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let plan = plan.continued(catalog);
    plan.check(catalog).map(|()| plan)
}

fn route_line(reply: &str) -> Option<Plan> {
    let agents = reply
        .lines()
        .find_map(|line| line.trim().strip_prefix("ROUTE:"))?;
    let names = agents.split(',').map(|name| name.trim().into());
    Some(Plan::chain(names, "named by the router"))
}
