//! Models that never come to an end by themselves: five hundred of them are stopped, at a bounded cost,
//! and a hundred that poll for something and see it come are let alone. The agents' loop alone, without
//! its engine: it decides all of this.

use std::sync::Arc;

use agents::run::{AgentRun, Allowance, Assignment, Ending, Next, Work};
use agents::tools::gate::Gate;
use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::tool::TestTool;
use serde_json::{Value, json};
use shared::label::Taint;
use shared::model::{Finish, ModelReply, ToolCall};
use shared::money::{Usage, Usd};
use shared::run::{Attempt, Effect, Failure, FailureKind, OpKind, Outcome, Recorded, Timestamp};

/// How a model behaves: what it calls in a turn, and what comes of a call.
trait Manner {
    /// The calls of a turn; none: it answers.
    fn calls(&mut self, turn: u32) -> Vec<(&'static str, Value)>;
    /// What comes of a call.
    fn result(&mut self, args: &Value) -> Result<Value, Failure>;
}

/// One who goes wild.
struct Wild {
    kind: u32,
    seed: u32,
    made: u32,
}

const KINDS: u32 = 6;

impl Manner for Wild {
    fn calls(&mut self, turn: u32) -> Vec<(&'static str, Value)> {
        let (turn, seed) = (i64::from(turn), i64::from(self.seed));
        match self.kind {
            // The same call.
            0 => vec![("look", json!({ "n": seed }))],
            // A-B-A-B, of two tools or of one.
            1 if seed % 2 == 0 => vec![(["look", "note"][turn as usize % 2], json!({ "n": 1 }))],
            1 => vec![("look", json!({ "n": turn % 2 }))],
            // Another call that brings nothing else.
            2 => vec![("look", json!({ "n": turn * seed }))],
            // The same error.
            3 => vec![("look", json!({ "n": turn }))],
            // Several calls in a turn, always more.
            4 => (0..=turn % 5)
                .map(|n| ("note", json!({ "n": turn * 10 + n })))
                .collect(),
            // Growing context: everything is new, and long.
            _ => vec![("look", json!({ "n": turn }))],
        }
    }

    fn result(&mut self, args: &Value) -> Result<Value, Failure> {
        self.made += 1;
        match self.kind {
            3 => Err(Failure::new(FailureKind::Permanent, "no such shelf")),
            4 => Ok(json!(format!(
                "noted {} as number {}",
                args["n"], self.made
            ))),
            5 => Ok(json!(format!(
                "{} {}",
                self.made,
                "word ".repeat(200 * self.made as usize)
            ))),
            _ => Ok(json!("nothing")),
        }
    }
}

/// One who polls until it is done.
struct Polls {
    until: u32,
    others: bool,
    seen: u32,
}

impl Manner for Polls {
    fn calls(&mut self, turn: u32) -> Vec<(&'static str, Value)> {
        match turn {
            _ if self.seen >= self.until => Vec::new(),
            turn if self.others && turn % 3 == 0 => vec![("note", json!({ "n": turn }))],
            _ => vec![("look", json!({ "n": 1 }))],
        }
    }

    fn result(&mut self, args: &Value) -> Result<Value, Failure> {
        if args["n"] == 1 {
            self.seen += 1;
            return Ok(json!(format!("{} of {} done", self.seen, self.until)));
        }
        Ok(json!(format!("noted {}", args["n"])))
    }
}

fn recorded(outcome: Outcome, usage: Usage) -> Recorded {
    Recorded {
        outcome,
        usage,
        attempts: vec![Attempt {
            at: Timestamp(0),
            ms: 10,
            usage,
            failure: None,
        }],
        taint: Taint::NONE,
        evidence: Vec::new(),
        at: Timestamp(0),
    }
}

/// Lets a model of this manner work. Answers what came of it, the calls that were made, and the tokens.
fn let_work(app: &TestApp, manner: &mut dyn Manner, allowance: Allowance) -> (Work, u32, u64) {
    let catalog = &app.app.catalog;
    let spec = &catalog.agents["worker"];
    let gate = Gate::new(catalog.tools_of(spec).map(|tool| tool.def())).unwrap();
    let assignment = Assignment {
        task: "Find it".into(),
        results: Vec::new(),
        accept: Vec::new(),
        said: Default::default(),
        images: Vec::new(),
        taint: Taint::NONE,
        allowance,
    };
    let mut run = AgentRun::new(catalog, spec, &gate, assignment);
    let (mut made, mut tokens, mut turn) = (0, 0, 0);
    loop {
        match run.next_step() {
            Next::Think(_, op) => {
                let OpKind::Think(think) = &op.kind else {
                    unreachable!()
                };
                turn += 1;
                // It uses all that was held for it.
                let usage = op.worst_case;
                tokens += usage.tokens();
                let calls = match think.request.tools.is_empty() {
                    true => Vec::new(),
                    false => manner.calls(turn),
                };
                let reply = ModelReply {
                    text: Some(format!("Turn {turn}.")),
                    calls: calls
                        .into_iter()
                        .enumerate()
                        .map(|(index, (tool, args))| ToolCall {
                            id: format!("{turn}/{index}"),
                            name: tool.into(),
                            arguments: args.to_string(),
                        })
                        .collect(),
                    finish: Finish::Stop,
                    model: "wild".into(),
                };
                let done = Outcome::Done(serde_json::to_value(reply).unwrap());
                run.thought(&recorded(done, usage));
            }
            Next::Call(calls) => {
                let results = calls.iter().map(|(_, op)| {
                    made += 1;
                    let OpKind::Tool { args, .. } = &op.kind else {
                        unreachable!()
                    };
                    let outcome = match manner.result(args) {
                        Ok(value) => Outcome::Done(value),
                        Err(failure) => Outcome::Failed(failure),
                    };
                    recorded(outcome, Usage::default())
                });
                let results: Vec<Recorded> = results.collect();
                run.called(results);
            }
            Next::Ask(..) => panic!("nobody is asked"),
            Next::End(work) => return (work, made, tokens),
        }
    }
}

const ALLOWED: Allowance = Allowance {
    steps: 60,
    active_ms: 900_000,
    tokens: 400_000,
    usd: Usd::MAX,
};

async fn house() -> TestApp {
    let look = TestTool::reads("look");
    let note = TestTool::new("note", Effect::Idempotent, |called| async move {
        Ok(json!(called.n))
    });
    let script = "[[agent.reply]]\ntext = \"never\"\n";
    let setup = Setup::worker(script, &[&look, &Arc::new(note)], "");
    setup.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_who_run_away_are_stopped_within_their_bounds() {
    let app = house().await;
    let (mut most_calls, mut most_tokens) = ([0; KINDS as usize], [0; KINDS as usize]);
    for number in 0..500 {
        let (kind, seed) = (number % KINDS, number / KINDS + 1);
        let mut wild = Wild {
            kind,
            seed,
            made: 0,
        };
        let (work, made, tokens) = let_work(&app, &mut wild, ALLOWED);
        let stopped = matches!(
            work.ending,
            Ending::Limit { .. } | Ending::Circles { .. } | Ending::Escalated { .. }
        );
        assert!(stopped, "{number}: {:?}", work.ending);
        // Circles are seen long before a limit; what is new each time ends at one, and never beyond it.
        let bound = match kind {
            0 => 3,
            1 => 5,
            2 => 6,
            3 => 3,
            _ => ALLOWED.steps,
        };
        assert!(made <= bound, "{number}: {made} calls");
        assert!(
            work.steps <= ALLOWED.steps && tokens <= ALLOWED.tokens,
            "{number}: {tokens}"
        );
        let kind = kind as usize;
        most_calls[kind] = most_calls[kind].max(made);
        most_tokens[kind] = most_tokens[kind].max(tokens);
    }
    println!("most calls by kind {most_calls:?}, most tokens {most_tokens:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_who_poll_and_see_it_come_are_let_alone() {
    let app = house().await;
    for number in 0..100 {
        let mut polls = Polls {
            until: 2 + number % 18,
            others: number % 2 == 0,
            seen: 0,
        };
        let (work, ..) = let_work(&app, &mut polls, ALLOWED);
        assert_eq!(work.ending, Ending::Done, "{number}");
        assert_eq!(polls.seen, polls.until);
    }
    app.stop().await;
}
