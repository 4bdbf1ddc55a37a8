//! What is unwise about the approvers that `[approvals]` names: whoever is named alone decides, so a name
//! that nobody bears leaves a call undecided until its time is over. People may be known by codes, too, of
//! which the configuration knows nothing, so this forbids no start.

use std::collections::BTreeSet;

use super::document::{Document, Found};
use super::problem::Problem;
use super::suggest;

/// The roles that let somebody decide.
const DECIDE: [&str; 2] = ["approver", "admin"];

/// Everything that is unwise about approvers.
pub(super) fn problems(settings: &Document<'_>) -> Vec<Problem> {
    let people = settings.find(&["people", "*"]);
    let named = settings.find(&["approvals", "rules", "*", "approvers", "*"]);
    named
        .iter()
        .filter_map(|approver| problem(settings, &people, approver))
        .collect()
}

fn problem(
    settings: &Document<'_>,
    people: &[Found<'_, '_>],
    approver: &Found<'_, '_>,
) -> Option<Problem> {
    let name = approver.value.as_ref().as_str()?;
    let names: BTreeSet<&str> = people.iter().filter_map(name_of).collect();
    let span = approver.value.span();
    let found = people.iter().find(|person| name_of(person) == Some(name));
    let problem = match found {
        Some(person) if decides(person) => return None,
        Some(_) => {
            let message = format!("`{name}` is named to decide, and is no approver");
            let problem = settings.problem(span, "may not decide", message);
            problem.help(format!(
                "give `{name}` the role `approver` under [[people]]"
            ))
        }
        // Where the configuration names nobody, all are known by codes; tokens and members of groups
        // are nobody's entry either.
        None if names.is_empty() || name == "local" || name.contains(':') => return None,
        None => {
            let message = format!("`{name}` is named to decide, and nobody here is called so");
            let problem = settings.problem(span, "not under [[people]]", message);
            let choice = suggest::help(name, "people", names);
            problem.help(format!(
                "{choice}; whoever is known by a code may be called so: \
                 `majordomo people` lists them"
            ))
        }
    };
    Some(problem.warning())
}

fn name_of<'d>(person: &'d Found<'_, '_>) -> Option<&'d str> {
    let table = person.value.as_ref().as_table()?;
    let (_, name) = table.iter().find(|(key, _)| key.as_ref() == "name")?;
    name.as_ref().as_str()
}

fn decides(person: &Found<'_, '_>) -> bool {
    let roles = person.value.as_ref().as_table();
    let roles = roles.and_then(|table| table.iter().find(|(key, _)| key.as_ref() == "roles"));
    let roles = roles.and_then(|(_, roles)| roles.as_ref().as_array());
    roles.is_some_and(|roles| {
        let mut roles = roles.iter().filter_map(|role| role.as_ref().as_str());
        roles.any(|role| DECIDE.contains(&role))
    })
}
