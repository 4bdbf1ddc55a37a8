//! Notices an agent that goes round in circles. Pure: it is told of every call with its result, and
//! says when the model should be warned and when it must stop.
//!
//! A call is the same as another when tool, arguments **and result** are the same: asking again and
//! getting something new is progress (a legitimate poll), asking again and getting the same is not.
//! Arguments that differ in capitals, spaces and punctuation alone are the same. A tool that only reads
//! and answers the same again and again is no progress either, whatever it is asked. Failing calls count
//! like all others.

use std::collections::VecDeque;

use serde_json::Value;

use shared::hash::Hash;
use shared::id::ToolName;

/// How many calls back a repetition is looked for before the first warning.
const WINDOW: usize = 3;
/// How often the same call may come back with the same result: at this count the agent is stopped.
const SAME_STOPS: usize = 3;
/// How far back the third repetition is looked for: alternating calls repeat at every other place.
const MEMORY: usize = 8;
/// How often a tool that only reads may answer the same, whatever it is asked: at this count the agent is
/// stopped.
const FRUITLESS: usize = 6;
/// So many calls of one tool in a row, whatever its arguments, are worth a warning.
const ONE_TOOL: usize = 4;

/// What the guard says of the last call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing unusual.
    Fine,
    /// Tell the model this.
    Warn(String),
    /// The agent goes round in circles; this is what it repeated.
    Stop(String),
}

/// A call that was made, as far as it can be told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    tool: ToolName,
    call: Hash,
    /// What it answered; of a tool that only reads.
    answer: Option<Hash>,
}

impl Made {
    /// A call with these arguments and this result.
    pub fn new(tool: &ToolName, reads: bool, arguments: &str, result: &str) -> Self {
        let plain = serde_json::from_str(arguments).map(plain);
        let plain = plain.map_or_else(|_| arguments.to_owned(), |plain| plain.to_string());
        Self {
            tool: tool.clone(),
            call: Hash::of_bytes(format!("{plain}\n{result}").as_bytes()),
            answer: reads.then(|| Hash::of_bytes(result.as_bytes())),
        }
    }
}

/// Arguments without what makes no difference to what is asked.
fn plain(value: Value) -> Value {
    match value {
        Value::String(text) => {
            let words = text.split(|c: char| !c.is_alphanumeric());
            let words: Vec<String> = words
                .filter(|word| !word.is_empty())
                .map(str::to_lowercase)
                .collect();
            match words.is_empty() {
                // Nothing but signs: then they are what is asked.
                true => Value::String(text),
                false => Value::String(words.join(" ")),
            }
        }
        Value::Array(all) => all.into_iter().map(plain).collect(),
        Value::Object(all) => all
            .into_iter()
            .map(|(key, value)| (key, plain(value)))
            .collect(),
        other => other,
    }
}

/// The last calls of one run.
#[derive(Clone, Debug, Default)]
pub struct LoopGuard {
    calls: VecDeque<Made>,
    in_a_row: usize,
}

impl LoopGuard {
    /// Takes note of a call and judges it.
    pub fn observe(&mut self, made: Made) -> Verdict {
        let tool = made.tool.clone();
        let repeats_tool = self.calls.back().is_some_and(|last| last.tool == tool);
        self.in_a_row = if repeats_tool { self.in_a_row + 1 } else { 1 };
        let same = |before: &&Made| before.tool == tool && before.call == made.call;
        let fruitless = |before: &&Made| {
            before.tool == tool && made.answer.is_some() && before.answer == made.answer
        };
        let answered = 1 + self.calls.iter().filter(fruitless).count();
        let seen = 1 + self.calls.iter().filter(same).count();
        let recently = self
            .calls
            .iter()
            .rev()
            .take(WINDOW - 1)
            .any(|call| same(&call));
        self.calls.push_back(made);
        if self.calls.len() > MEMORY {
            self.calls.pop_front();
        }
        if seen >= SAME_STOPS {
            return Verdict::Stop(format!(
                "called {tool} {seen} times with the same arguments and the same result"
            ));
        }
        if answered >= FRUITLESS {
            return Verdict::Stop(format!(
                "called {tool} {answered} times with the same result, whatever it asked"
            ));
        }
        if seen == 2 && recently {
            return Verdict::Warn(format!(
                "You have made this same call of {tool} before, with the same result. A third time \
                 ends your work. Use what you have, or try something else."
            ));
        }
        if self.in_a_row == ONE_TOOL {
            return Verdict::Warn(format!(
                "You have called {tool} {ONE_TOOL} times in a row. Unless each call brings \
                 something new, answer with what you have."
            ));
        }
        Verdict::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word for each call of a script: `tool:arguments:result`.
    fn judge(script: &str) -> Vec<&'static str> {
        let mut guard = LoopGuard::default();
        let verdict = |call: &str| {
            let (tool, rest) = call.split_once(':').unwrap();
            let (arguments, result) = rest.split_once(':').unwrap_or((rest, ""));
            let reads = tool != "write";
            match guard.observe(Made::new(&tool.into(), reads, arguments, result)) {
                Verdict::Fine => "fine",
                Verdict::Warn(_) => "warn",
                Verdict::Stop(_) => "stop",
            }
        };
        script.split_whitespace().map(verdict).collect()
    }

    #[test]
    fn the_same_call_is_warned_of_once_and_stopped_at_the_third() {
        assert_eq!(judge("a:1:x a:1:x a:1:x"), ["fine", "warn", "stop"]);
    }

    #[test]
    fn alternating_calls_are_circles_too() {
        let verdicts = judge("a:1:x b:1:x a:1:x b:1:x a:1:x");
        assert_eq!(verdicts, ["fine", "fine", "warn", "warn", "stop"]);
    }

    #[test]
    fn failing_calls_count_like_all_others() {
        assert_eq!(judge("a:1:error a:1:error a:1:error")[2], "stop");
    }

    #[test]
    fn many_calls_of_one_tool_are_warned_of_but_not_stopped() {
        let verdicts = judge("a:1:x a:2:y a:3:z a:4:w a:5:v");
        assert_eq!(verdicts, ["fine", "fine", "fine", "warn", "fine"]);
    }

    #[test]
    fn what_makes_no_difference_is_the_same() {
        let made = |arguments| Made::new(&"look".into(), true, arguments, "found");
        let plain = made(r#"{"for": "the key", "in": 1}"#);
        for same in [
            r#"{"in":1,"for":"The  key!"}"#,
            r#"{ "for" : " the-KEY ", "in" : 1 }"#,
        ] {
            assert_eq!(made(same), plain, "{same}");
        }
        for other in [
            r#"{"for": "the keys", "in": 1}"#,
            r#"{"for": "the key", "in": 2}"#,
            r#"{"for": ["the key"], "in": 1}"#,
        ] {
            assert_ne!(made(other), plain, "{other}");
        }
        assert_ne!(made(r#""?""#), made(r#""!""#));
    }

    #[test]
    fn reading_the_same_whatever_is_asked_is_stopped_and_writing_is_not() {
        let reads = judge("a:1:x a:2:x a:3:x a:4:x a:5:x a:6:x");
        assert_eq!(reads.last(), Some(&"stop"));
        let writes: Vec<String> = (0..12).map(|n| format!("write:{n}:ok")).collect();
        let writes = judge(&writes.join(" "));
        assert!(!writes.contains(&"stop"), "{writes:?}");
    }

    #[test]
    fn polling_that_sees_progress_is_left_alone() {
        let verdicts = judge("poll:1:10% other:1:x poll:1:40% other:2:x poll:1:90%");
        assert!(verdicts.iter().all(|verdict| *verdict == "fine"));
    }
}
