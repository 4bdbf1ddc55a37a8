//! What a task cost, explained: every step, then the sums by agent and by model. The parts always
//! add up to the task's own figure; what no ended step accounts for stands in a line of its own.

use std::collections::BTreeMap;

use shared::id::RunId;

use super::words;
use crate::transcript::{Entry, Transcript};
use crate::view::{CostView, StepView};

/// Amounts that add up exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    nano: i64,
    tokens_in: i64,
    tokens_out: i64,
}

impl Amount {
    fn of(cost: &CostView) -> Self {
        Self {
            nano: words::nano(cost.usd),
            tokens_in: cost.tokens_in as i64,
            tokens_out: cost.tokens_out as i64,
        }
    }

    fn plus(self, other: Amount) -> Self {
        Self {
            nano: self.nano + other.nano,
            tokens_in: self.tokens_in + other.tokens_in,
            tokens_out: self.tokens_out + other.tokens_out,
        }
    }

    fn minus(self, other: Amount) -> Self {
        Self {
            nano: self.nano - other.nano,
            tokens_in: self.tokens_in - other.tokens_in,
            tokens_out: self.tokens_out - other.tokens_out,
        }
    }

    fn cells(self) -> [String; 3] {
        let tokens = |count: i64| words::number(count.unsigned_abs());
        let usd = shared::money::Usd::from_nano(self.nano).to_string();
        [tokens(self.tokens_in), tokens(self.tokens_out), usd]
    }
}

/// The bill of a task.
pub fn of(transcript: &Transcript) -> String {
    let models = models(&transcript.entries);
    // A child's step repeats what the child's own steps used.
    let steps: Vec<&StepView> = transcript
        .task
        .steps
        .iter()
        .flatten()
        .filter(|step| step.kind == "think" || step.kind == "tool")
        .collect();
    let mut rows = Vec::new();
    let (mut by_agent, mut by_model) = (BTreeMap::new(), BTreeMap::new());
    let mut sum = Amount::default();
    for step in &steps {
        let amount = Amount::of(&step.cost);
        let agent = step.agent.clone().unwrap_or_default();
        let model = model_of(&models, step);
        sum = sum.plus(amount);
        add(&mut by_agent, &agent, amount);
        add(&mut by_model, &model, amount);
        let mut row = vec![
            agent,
            step.key.clone(),
            step.what.clone(),
            model,
            step.attempts.to_string(),
        ];
        row.extend(amount.cells());
        rows.push(row);
    }
    let task = Amount::of(&transcript.task.cost);
    let rest = task.minus(sum);
    if rest != Amount::default() {
        rows.push(total("not in an ended step", rest));
    }
    rows.push(total("task", task));
    let head = [
        "agent",
        "step",
        "what",
        "model",
        "attempts",
        "tokens in",
        "tokens out",
        "cost",
    ];
    let mut text = words::table(&head, &rows, &[4, 5, 6, 7]);
    text.push_str(&sums("agent", &by_agent));
    text.push_str(&sums("model", &by_model));
    text
}

fn total(name: &str, amount: Amount) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend(std::iter::repeat_n(String::new(), 4));
    row.extend(amount.cells());
    row
}

fn add(sums: &mut BTreeMap<String, (u64, Amount)>, name: &str, amount: Amount) {
    let sum = sums.entry(name.to_owned()).or_default();
    *sum = (sum.0 + 1, sum.1.plus(amount));
}

fn sums(name: &str, sums: &BTreeMap<String, (u64, Amount)>) -> String {
    let row = |(name, (steps, amount)): (&String, &(u64, Amount))| {
        let mut row = vec![name.clone(), steps.to_string()];
        row.extend(amount.cells());
        row
    };
    let rows: Vec<Vec<String>> = sums.iter().map(row).collect();
    let head = [
        &format!("by {name}"),
        "steps",
        "tokens in",
        "tokens out",
        "cost",
    ];
    format!("\n{}", words::table(&head, &rows, &[1, 2, 3, 4]))
}

/// Which model answered at each step, as the provider names it.
fn models(entries: &[Entry]) -> BTreeMap<(RunId, &str), &str> {
    let model = |entry: &'_ Entry| {
        entry.output["model"]
            .as_str()
            .is_some_and(|name| !name.is_empty())
    };
    let named = entries.iter().filter(|entry| model(entry));
    named
        .map(|entry| {
            (
                (entry.run, entry.key.as_str()),
                entry.output["model"].as_str().unwrap_or_default(),
            )
        })
        .collect()
}

fn model_of(models: &BTreeMap<(RunId, &str), &str>, step: &StepView) -> String {
    let known = models.get(&(step.run, step.key.as_str()));
    match (step.kind.as_str(), known) {
        ("tool", _) => "(tools)".into(),
        (_, Some(name)) => (*name).to_owned(),
        (_, None) => "(no answer)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::transcript;
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_task() {
        insta::assert_snapshot!(of(&transcript()));
    }

    #[test]
    fn what_no_step_accounts_for_is_shown() {
        let mut transcript = transcript();
        transcript.task.cost.usd += 0.5;
        let bill = of(&transcript);
        let line = bill
            .lines()
            .find(|line| line.starts_with("not in an ended step"))
            .unwrap();
        assert!(line.ends_with("$0.5000"), "{line}");
    }
}
