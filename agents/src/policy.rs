//! Which calls of tools people are asked about: `[approvals]`, applied. Pure. The agent's loop asks by it,
//! and the actor that makes the call holds it against what comes in, so neither alone can let a call pass.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::config::{ApprovalRule, ApprovalSettings, Policy};
use shared::id::{AgentName, PrincipalId};
use shared::permit::Covered;
use shared::run::Effect;
use wildmatch::WildMatch;

use crate::tools::{Outbound, ToolInfo};

/// A call, as the policy sees it.
pub struct Wanted<'a> {
    /// Who calls.
    pub agent: &'a AgentName,
    /// What.
    pub tool: &'a ToolInfo,
    /// With which arguments.
    pub args: &'a Value,
    /// Whether the run has read anything untrusted.
    pub tainted: bool,
    /// Whether the run was given the address that the call goes to, word for word.
    pub address_known: bool,
}

/// What is to be done about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is made.
    Allowed,
    /// People are asked.
    Asked {
        /// Why, for them.
        why: String,
        /// Who alone may decide; empty: every approver.
        approvers: Vec<PrincipalId>,
    },
    /// It is not made.
    Refused(String),
}

/// What is to be done about a call by this policy.
pub fn rule(policy: &ApprovalSettings, wanted: &Wanted<'_>) -> Ruling {
    let fitting = policy.rules.iter().position(|rule| fits(rule, wanted));
    let Some(index) = fitting else {
        return default(wanted);
    };
    let (rule, place) = (&policy.rules[index], index + 1);
    match rule.then {
        Policy::Allow => Ruling::Allowed,
        Policy::Refuse => Ruling::Refused(format!(
            "the policy of this installation forbids this call of {} (rule {place})",
            wanted.tool.name
        )),
        Policy::Ask => Ruling::Asked {
            why: format!("rule {place} of [approvals] asks for it"),
            approvers: rule.approvers.clone(),
        },
    }
}

fn default(wanted: &Wanted<'_>) -> Ruling {
    let leaves = match wanted.tool.outbound {
        Outbound::Nothing => false,
        Outbound::Address(_) => !wanted.address_known,
        Outbound::All => true,
    };
    let why = if wanted.tool.effect == Effect::Once {
        "it cannot be taken back, and nothing recognises it if it is done twice"
    } else if leaves && wanted.tainted {
        "something leaves that text from outside may have had a hand in"
    } else {
        return Ruling::Allowed;
    };
    Ruling::Asked {
        why: why.to_owned(),
        approvers: Vec::new(),
    }
}

fn fits(rule: &ApprovalRule, wanted: &Wanted<'_>) -> bool {
    let tool = rule.tool.as_ref();
    let agent = rule.agent.as_ref();
    // What is allowed, all of a list must be; what is asked about or refused, any of it is.
    let whole = rule.then == Policy::Allow;
    tool.is_none_or(|tool| *tool == wanted.tool.name)
        && agent.is_none_or(|agent| agent == wanted.agent)
        && rule
            .effect
            .is_none_or(|effect| effect == wanted.tool.effect)
        && rule.tainted.is_none_or(|tainted| tainted == wanted.tainted)
        && look(wanted.args, &rule.args, whole)
}

/// Whether a permit for these arguments is one for a call with those: of a list, all of it must look so.
pub fn covers(covered: &Covered, args: &Value) -> bool {
    match covered {
        Covered::Exactly(these) => these == args,
        Covered::Like(patterns) => look(args, patterns, true),
    }
}

/// Whether all arguments that are named here are there and look so.
fn look(args: &Value, patterns: &BTreeMap<String, String>, whole: bool) -> bool {
    patterns.iter().all(|(name, pattern)| {
        let value = args.get(name);
        value.is_some_and(|value| looks(value, pattern, whole))
    })
}

/// Whether a value looks as the pattern says, in capitals or not: of a list each element, or any. An empty
/// list has none to look at.
fn looks(value: &Value, pattern: &str, whole: bool) -> bool {
    let like = |text: &str| WildMatch::new_case_insensitive(pattern).matches(text);
    match value {
        Value::Array(items) => {
            let mut items = items.iter().map(|item| looks(item, pattern, whole));
            match whole {
                true => items.len() > 0 && items.all(|looks| looks),
                false => items.any(|looks| looks),
            }
        }
        Value::Number(number) => match (bound(pattern), number.as_f64()) {
            (Some((relation, bound)), Some(number)) => relation(&number, &bound),
            _ => like(&number.to_string()),
        },
        Value::String(text) => like(text),
        Value::Bool(is) => pattern == if *is { "true" } else { "false" },
        Value::Null | Value::Object(_) => false,
    }
}

/// Whether one number stands so to another.
type Relation = fn(&f64, &f64) -> bool;

/// A relation to a number, where the pattern is one.
fn bound(pattern: &str) -> Option<(Relation, f64)> {
    let relations: [(&str, Relation); 4] = [
        (">=", f64::ge),
        ("<=", f64::le),
        (">", f64::gt),
        ("<", f64::lt),
    ];
    relations.into_iter().find_map(|(sign, relation)| {
        let number = pattern.strip_prefix(sign)?.trim().parse().ok()?;
        Some((relation, number))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use shared::money::Usd;

    use super::*;

    fn tool(effect: Effect, outbound: Outbound) -> ToolInfo {
        ToolInfo {
            name: "send".into(),
            version: 1,
            description: "Sends.".into(),
            parameters: Arc::new(json!({})),
            effect,
            outbound,
            timeout_s: 1,
            price: Usd::ZERO,
        }
    }

    fn ruling(rules: Vec<ApprovalRule>, tool: &ToolInfo, args: Value, tainted: bool) -> Ruling {
        let policy = ApprovalSettings {
            rules,
            ..ApprovalSettings::default()
        };
        rule(
            &policy,
            &Wanted {
                agent: &"executor".into(),
                tool,
                args: &args,
                tainted,
                address_known: args["url"] == "https://known.example",
            },
        )
    }

    fn is_asked(ruling: &Ruling) -> bool {
        matches!(ruling, Ruling::Asked { .. })
    }

    #[test]
    fn by_default_people_are_asked_before_what_is_once_and_what_leaves_tainted() {
        let address = || Outbound::Address("url".into());
        let table = [
            (Effect::Once, Outbound::Nothing, false, true),
            (Effect::Verifiable, Outbound::Nothing, true, false),
            (Effect::Idempotent, Outbound::All, false, false),
            (Effect::Idempotent, Outbound::All, true, true),
            (Effect::Pure, address(), true, true),
            (Effect::Pure, address(), false, false),
        ];
        for (effect, outbound, tainted, asked) in table {
            let tool = tool(effect, outbound);
            let found = ruling(Vec::new(), &tool, json!({}), tainted);
            assert_eq!(is_asked(&found), asked, "{tool:?} {tainted}");
        }
        let known = json!({"url": "https://known.example"});
        let found = ruling(Vec::new(), &tool(Effect::Pure, address()), known, true);
        assert_eq!(found, Ruling::Allowed);
    }

    #[test]
    fn one_of_many_is_enough_to_be_refused() {
        let rival = ApprovalRule {
            args: [("to".to_owned(), "*@rival.test".to_owned())].into(),
            then: Policy::Refuse,
            ..ApprovalRule::default()
        };
        let once = tool(Effect::Once, Outbound::All);
        let args = json!({"to": ["a@example.org", "b@Rival.test"]});
        let found = ruling(vec![rival], &once, args, false);
        assert!(matches!(found, Ruling::Refused(_)), "{found:?}");
    }

    #[test]
    fn a_permit_covers_what_looks_so_and_all_of_a_list() {
        let like = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            Covered::Like(
                pairs
                    .map(|(name, pattern)| ((*name).into(), (*pattern).into()))
                    .collect(),
            )
        };
        let home = like(&[("to", "*@example.org"), ("total", "<=100")]);
        let table = [
            (json!({"to": "a@Example.org", "total": 100}), true),
            (
                json!({"to": ["a@example.org", "b@example.org"], "total": 1, "cc": "x"}),
                true,
            ),
            (
                json!({"to": ["a@example.org", "b@evil.test"], "total": 1}),
                false,
            ),
            (json!({"to": [], "total": 1}), false),
            (json!({"to": "a@example.org", "total": 100.5}), false),
            (json!({"to": "a@example.org"}), false),
            (json!({"total": 1}), false),
        ];
        for (args, covered) in table {
            assert_eq!(covers(&home, &args), covered, "{args}");
        }
        assert!(covers(&like(&[]), &json!({"to": "anybody"})));
        let these = json!({"to": "a*", "n": 1});
        assert!(covers(&Covered::Exactly(these.clone()), &these));
        let others = json!({"to": "ab", "n": 1});
        assert!(!covers(&Covered::Exactly(these), &others), "no pattern");
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let args = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            pairs.collect()
        };
        let rules = vec![
            ApprovalRule {
                args: args(&[("total", ">100")]),
                then: Policy::Refuse,
                ..ApprovalRule::default()
            },
            ApprovalRule {
                tool: Some("send".into()),
                args: args(&[("to", "*@example.org")]),
                then: Policy::Allow,
                ..ApprovalRule::default()
            },
        ];
        let once = tool(Effect::Once, Outbound::All);
        let found = |args: Value| ruling(rules.clone(), &once, args, false);
        assert_eq!(
            found(json!({"to": ["a@example.org", "b@example.org"]})),
            Ruling::Allowed
        );
        assert!(is_asked(&found(
            json!({"to": ["a@example.org", "b@evil.test"]})
        )));
        assert!(is_asked(&found(json!({"to": []}))), "nobody is no fit");
        assert_eq!(
            found(json!({"to": "A@EXAMPLE.org"})),
            Ruling::Allowed,
            "capitals are nothing"
        );
        assert!(is_asked(&found(json!({"to": "a@example.org.evil.test"}))));
        assert!(matches!(
            found(json!({"to": "a@example.org", "total": 100.5})),
            Ruling::Refused(_)
        ));
        assert_eq!(
            found(json!({"to": "a@example.org", "total": 100})),
            Ruling::Allowed
        );
    }
}
