//! Notices an agent that goes round in circles. Pure: it is told of every call with its result, and
//! says when the model should be warned and when it must stop.
//!
//! A call is the same as another when tool, arguments **and result** are the same: asking again and
//! getting something new is progress (a legitimate poll), asking again and getting the same is not.
//! Failing calls count like all others.

use std::collections::VecDeque;

use shared::hash::Hash;
use shared::id::ToolName;

/// How many calls back a repetition is looked for before the first warning.
const WINDOW: usize = 3;
/// How often the same call may come back with the same result: at this count the agent is stopped.
const SAME_STOPS: usize = 3;
/// How far back the third repetition is looked for: alternating calls repeat at every other place.
const MEMORY: usize = 8;
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

/// The last calls of one run.
#[derive(Clone, Debug, Default)]
pub struct LoopGuard {
    calls: VecDeque<(ToolName, Hash)>,
    in_a_row: usize,
}

impl LoopGuard {
    /// Takes note of a call (its arguments and result as one hash) and judges it.
    pub fn observe(&mut self, tool: &ToolName, call_and_result: Hash) -> Verdict {
        let repeats_tool = self.calls.back().is_some_and(|(last, _)| last == tool);
        self.in_a_row = if repeats_tool { self.in_a_row + 1 } else { 1 };
        let same = |(name, hash): &&(ToolName, Hash)| name == tool && *hash == call_and_result;
        let seen = 1 + self.calls.iter().filter(same).count();
        let recently = self
            .calls
            .iter()
            .rev()
            .take(WINDOW - 1)
            .any(|call| same(&call));
        self.calls.push_back((tool.clone(), call_and_result));
        if self.calls.len() > MEMORY {
            self.calls.pop_front();
        }
        if seen >= SAME_STOPS {
            return Verdict::Stop(format!(
                "called {tool} {seen} times with the same arguments and the same result"
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
            match guard.observe(&tool.into(), Hash::of_bytes(rest.as_bytes())) {
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
    fn polling_that_sees_progress_is_left_alone() {
        let verdicts = judge("poll:1:10% other:1:x poll:1:40% other:2:x poll:1:90%");
        assert!(verdicts.iter().all(|verdict| *verdict == "fine"));
    }
}
