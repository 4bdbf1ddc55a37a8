//! A plan: who does what, and what waits for what. Pure. It comes from a rule, from the asker's own
//! choice, or from a model that was given [`schema`]; whatever comes is checked here before anybody
//! acts on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use agents::catalog::Catalog;
use agents::run::PartResult;
use shared::id::AgentName;
use shared::model::OutputSchema;

/// The most steps of one plan: the hops of a task are bounded.
pub const MAX_STEPS: usize = 8;

/// What is to be done, by whom, in which order; or the answer itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// The answer, where no agent is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Why this plan.
    pub reason: String,
}

/// One agent's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Who.
    pub agent: AgentName,
    /// What to do; the asker's own words where empty.
    #[serde(default)]
    pub task: String,
    /// The steps (from 0) whose results it needs; the one before it where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<usize>>,
    /// By what the result will be judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
}

impl Plan {
    /// These agents, one after the other, on the asker's own words.
    pub fn chain(agents: impl IntoIterator<Item = AgentName>, reason: impl Into<String>) -> Self {
        let step = |agent| Step {
            agent,
            task: String::new(),
            after: None,
            accept: Vec::new(),
        };
        Self {
            steps: agents.into_iter().map(step).collect(),
            answer: None,
            reason: reason.into(),
        }
    }

    /// Whether the plan can be carried out with these agents. The error is in words for the model
    /// that made it.
    pub fn check(&self, catalog: &Catalog) -> Result<(), String> {
        if self.steps.is_empty() && self.answer.as_deref().is_none_or(|a| a.trim().is_empty()) {
            return Err("the plan has neither steps nor an answer".into());
        }
        if self.steps.len() > MAX_STEPS {
            return Err(format!("the plan has more than {MAX_STEPS} steps"));
        }
        for (index, step) in self.steps.iter().enumerate() {
            if !catalog.agents.contains_key(&step.agent) {
                let names: Vec<&str> = catalog.agents.keys().map(AgentName::as_str).collect();
                let names = names.join(", ");
                return Err(format!(
                    "there is no agent {:?}; there are {names}",
                    step.agent
                ));
            }
            if self.needs(index).iter().any(|needed| *needed >= index) {
                return Err(format!(
                    "step {index} waits for a step that does not come before it"
                ));
            }
        }
        Ok(())
    }

    /// The steps whose results step `index` needs.
    pub fn needs(&self, index: usize) -> Vec<usize> {
        match &self.steps[index].after {
            Some(after) => after.clone(),
            None => index.checked_sub(1).into_iter().collect(),
        }
    }

    /// The steps that can start now: not yet done, and all that they need is.
    pub fn ready(&self, done: &BTreeMap<usize, PartResult>) -> Vec<usize> {
        (0..self.steps.len())
            .filter(|index| !done.contains_key(index))
            .filter(|index| {
                self.needs(*index)
                    .iter()
                    .all(|needed| done.contains_key(needed))
            })
            .collect()
    }

    /// The results that nobody else in the plan used: what the answer is made of.
    pub fn leaves(&self) -> Vec<usize> {
        self.unused_of((0..self.steps.len()).collect())
    }

    /// The results so far that no other step used that is done: what there is to show.
    pub fn unused(&self, done: &BTreeMap<usize, PartResult>) -> Vec<usize> {
        self.unused_of(done.keys().copied().collect())
    }

    fn unused_of(&self, steps: Vec<usize>) -> Vec<usize> {
        let used: Vec<usize> = steps.iter().flat_map(|i| self.needs(*i)).collect();
        let unused = steps.into_iter().filter(|index| !used.contains(index));
        unused.collect()
    }

    /// Lets the agent that a lone agent's file names in `then` go on with its result.
    pub fn continued(mut self, catalog: &Catalog) -> Self {
        let [only] = self.steps.as_slice() else {
            return self;
        };
        let mut seen = vec![only.agent.clone()];
        while let Some(next) = seen
            .last()
            .and_then(|agent| catalog.agents.get(agent))
            .and_then(|spec| spec.then.clone())
            .filter(|next| !seen.contains(next) && seen.len() < MAX_STEPS)
        {
            seen.push(next);
        }
        let rest = Plan::chain(seen.drain(1..), "");
        self.steps.extend(rest.steps);
        self
    }
}

/// The schema that a model's plan must meet.
pub fn schema() -> OutputSchema {
    let schema: Value = json!({
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "one sentence: why this plan"},
            "answer": {"type": ["string", "null"], "description": "the answer itself, only where no agent is needed"},
            "steps": {
                "type": "array",
                "maxItems": MAX_STEPS,
                "items": {
                    "type": "object",
                    "properties": {
                        "agent": {"type": "string", "description": "the agent's name"},
                        "task": {"type": "string", "description": "what this agent is to do, complete in itself"},
                        "after": {"type": ["array", "null"], "items": {"type": "integer"}, "description": "numbers of the steps, from 0, whose results it needs; absent: the step before it"},
                        "accept": {"type": "array", "items": {"type": "string"}, "description": "criteria for the result"}
                    },
                    "required": ["agent", "task"]
                }
            }
        },
        "required": ["steps", "reason"]
    });
    OutputSchema {
        name: "plan".into(),
        schema: Arc::new(schema),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(agent: &str, after: Option<Vec<usize>>) -> Step {
        Step {
            agent: agent.into(),
            task: "t".into(),
            after,
            accept: Vec::new(),
        }
    }

    fn done(indices: &[usize]) -> BTreeMap<usize, PartResult> {
        let part = |index: &usize| {
            let text = String::new();
            let agent = "a".into();
            (*index, PartResult { agent, text })
        };
        indices.iter().map(part).collect()
    }

    #[test]
    fn steps_are_ready_when_what_they_need_is_done() {
        let plan = Plan {
            steps: vec![
                step("a", Some(vec![])),
                step("b", Some(vec![])),
                step("c", Some(vec![0, 1])),
                step("d", None),
            ],
            ..Plan::default()
        };
        assert_eq!(plan.ready(&done(&[])), [0, 1]);
        assert_eq!(plan.ready(&done(&[0])), [1]);
        assert_eq!(plan.ready(&done(&[0, 1])), [2]);
        assert_eq!(plan.ready(&done(&[0, 1, 2])), [3]);
        assert_eq!(plan.leaves(), [3]);
    }

    #[test]
    fn the_schema_is_a_schema_and_the_type_reads_what_it_allows() {
        let value = json!({"steps": [{"agent": "a", "task": "t", "after": null}], "reason": "r"});
        let plan: Plan = serde_json::from_value(value).unwrap();
        assert_eq!(plan.steps[0].after, None);
        shared::model::structured::Schema::compile("plan", &schema().schema).unwrap();
    }
}
