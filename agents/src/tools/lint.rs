//! Whether tools are described well enough for a model to choose between them: a pure check of
//! descriptions and schemas, for `majordomo check`. It reads words and judges nothing else; its
//! findings are warnings.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use shared::id::ToolName;

use super::ToolInfo;

/// Two descriptions that share this much of their words are mistaken for each other.
const TOO_ALIKE: f64 = 0.7;
/// A description of fewer words says nothing.
const FEWEST_WORDS: usize = 6;

/// Something that a model may stumble over.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// The tool.
    pub tool: ToolName,
    /// What is wrong with it.
    pub kind: WarningKind,
}

/// Kinds of warning.
#[derive(Clone, Debug, PartialEq)]
pub enum WarningKind {
    /// The description does not say when to use the tool.
    SaysNotWhen,
    /// The description does not say what the tool returns.
    SaysNotWhat,
    /// A parameter has no description; its path in the arguments.
    UndescribedParameter(String),
    /// Nearly the same description as another tool has.
    LikeAnother {
        /// The other tool.
        other: ToolName,
        /// How much of their words they share, in percent.
        percent: u8,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tool = &self.tool;
        match &self.kind {
            WarningKind::SaysNotWhen => write!(
                f,
                "tool {tool}: its description does not say when to use it; begin with \"Use this when ...\""
            ),
            WarningKind::SaysNotWhat => write!(
                f,
                "tool {tool}: its description does not say what it returns; add \"Returns ...\""
            ),
            WarningKind::UndescribedParameter(path) => {
                write!(f, "tool {tool}: its parameter {path} has no description")
            }
            WarningKind::LikeAnother { other, percent } => write!(
                f,
                "tool {tool}: its description shares {percent} % of its words with that of {other}; say how they differ"
            ),
        }
    }
}

/// All warnings about these tools, in their order.
pub fn check<'a>(tools: impl IntoIterator<Item = &'a ToolInfo>) -> Vec<Warning> {
    let tools: Vec<_> = tools.into_iter().collect();
    let mut warnings = Vec::new();
    for (at, tool) in tools.iter().enumerate() {
        let kinds = description(&tool.description)
            .into_iter()
            .chain(undescribed(&tool.parameters))
            .chain(tools[..at].iter().filter_map(|other| alike(tool, other)));
        warnings.extend(kinds.map(|kind| Warning {
            tool: tool.name.clone(),
            kind,
        }));
    }
    warnings
}

fn description(text: &str) -> Vec<WarningKind> {
    let lower = text.to_lowercase();
    let words = lower.split_whitespace().count();
    let says = |any: &[&str]| words >= FEWEST_WORDS && any.iter().any(|word| lower.contains(word));
    let when = says(&[
        "use this",
        "use it",
        "use when",
        "when ",
        "call this",
        "before ",
        "after ",
    ]);
    let what = says(&[
        "return",
        "answers with",
        "gives back",
        "result is",
        "yields",
    ]);
    let mut kinds = Vec::new();
    if !when {
        kinds.push(WarningKind::SaysNotWhen);
    }
    if !what {
        kinds.push(WarningKind::SaysNotWhat);
    }
    kinds
}

fn undescribed(schema: &Value) -> Vec<WarningKind> {
    let mut paths = Vec::new();
    visit(schema, "", &mut paths);
    paths
        .into_iter()
        .map(WarningKind::UndescribedParameter)
        .collect()
}

fn visit(schema: &Value, at: &str, paths: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            let path = if at.is_empty() {
                name.clone()
            } else {
                format!("{at}.{name}")
            };
            let described = property["description"]
                .as_str()
                .is_some_and(|text| !text.trim().is_empty());
            if !described {
                paths.push(path.clone());
            }
            visit(property, &path, paths);
        }
    }
    if schema["items"].is_object() {
        visit(&schema["items"], &format!("{at}[]"), paths);
    }
}

fn alike(tool: &ToolInfo, other: &ToolInfo) -> Option<WarningKind> {
    let (a, b) = (words(&tool.description), words(&other.description));
    let shared = a.intersection(&b).count() as f64;
    let all = a.union(&b).count().max(1) as f64;
    let share = shared / all;
    (share >= TOO_ALIKE).then(|| WarningKind::LikeAnother {
        other: other.name.clone(),
        percent: (share * 100.0).round() as u8,
    })
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 2)
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use shared::egress::Gateway;
    use shared::money::Usd;
    use shared::run::Effect;

    use super::*;
    use crate::tools::ToolBox;

    fn tool(name: &str, description: &str, parameters: Value) -> ToolInfo {
        ToolInfo {
            name: name.into(),
            version: 1,
            description: description.into(),
            parameters: Arc::new(parameters),
            effect: Effect::Pure,
            outbound: super::super::Outbound::default(),
            timeout_s: 1,
            price: Usd::ZERO,
        }
    }

    const GOOD: &str =
        "Use this when the weather of a city matters. Returns the temperature in degrees.";

    #[test]
    fn the_built_in_tools_pass() {
        let settings = json!({"search": {"provider": "tavily", "api_key": "${K}"}});
        let settings: shared::config::Settings = serde_json::from_value(settings).unwrap();
        let gateway = Gateway::new(&settings.egress).unwrap();
        let tools = ToolBox::built_in(&settings, &gateway, Some("k".into()), None).unwrap();
        assert_eq!(tools.tools().count(), 6);
        assert_eq!(check(tools.tools().map(|tool| tool.info())), []);
        for tool in tools.tools() {
            assert_eq!(tool.info().parameters["additionalProperties"], false);
        }
    }

    #[test]
    fn bad_descriptions_are_caught() {
        let none = json!({"type": "object", "properties": {}});
        let kinds = |text: &str| {
            check([&tool("t", text, none.clone())])
                .into_iter()
                .map(|w| w.kind)
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(GOOD), []);
        assert_eq!(
            kinds("Weather."),
            [WarningKind::SaysNotWhen, WarningKind::SaysNotWhat]
        );
        assert_eq!(
            kinds("Returns the temperature of a city in degrees."),
            [WarningKind::SaysNotWhen]
        );
        assert_eq!(
            kinds("Use this when the weather of a city matters."),
            [WarningKind::SaysNotWhat]
        );
        assert_eq!(
            kinds(""),
            [WarningKind::SaysNotWhen, WarningKind::SaysNotWhat]
        );
    }

    #[test]
    fn undescribed_parameters_are_named_however_deep() {
        let parameters = json!({"type": "object", "properties": {
            "a": {"type": "string"},
            "b": {"description": "Fine.", "type": "array", "items": {"type": "object", "properties": {"c": {"description": " "}}}},
        }});
        let warnings = check([&tool("t", GOOD, parameters)]);
        let shown: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "tool t: its parameter a has no description",
                "tool t: its parameter b[].c has no description"
            ]
        );
    }

    #[test]
    fn two_tools_with_nearly_the_same_description_are_caught() {
        let nearly = GOOD.replace("temperature", "temperatures");
        let tools = [
            tool("one", GOOD, json!({})),
            tool("two", &nearly, json!({})),
            tool(
                "three",
                "Use this when you want a poem. Returns four lines.",
                json!({}),
            ),
        ];
        let warnings = check(&tools);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            matches!(&warnings[0].kind, WarningKind::LikeAnother { other, .. } if other.as_str() == "one")
        );
    }
}
