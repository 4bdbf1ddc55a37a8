//! Progress for people: each event of a task as a line, or as nothing. Pure; what is said depends on
//! the events alone. `ask` prints it.

use shared::event::{Event, Recorded};
use shared::money::Usage;
use shared::run::Timestamp;
use shared::task::TaskState;

use super::words;

/// What has been told of a task so far.
#[derive(Default)]
pub struct Progress {
    began: Option<Timestamp>,
    used: Usage,
    steps: u32,
    doing: String,
}

/// Where a task came to rest, as far as its watcher is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest(pub TaskState);

impl Progress {
    /// The line that tells of an event, where there is anything to tell.
    pub fn line(&mut self, recorded: &Recorded) -> Option<String> {
        let began = *self.began.get_or_insert(recorded.at);
        let told = self.told(&recorded.event)?;
        let seconds = recorded.at.since(began).as_secs_f64();
        Some(format!("{seconds:>6.1}s  {told}"))
    }

    /// Whether this event ends the watching: the task is over, or waits for a person.
    pub fn rest(event: &Event) -> Option<Rest> {
        match event {
            Event::State {
                state, agent: None, ..
            } if event.ends_task()
                || matches!(state, TaskState::AwaitingHuman | TaskState::Paused) =>
            {
                Some(Rest(*state))
            }
            _ => None,
        }
    }

    /// What goes on now, and what it has come to.
    pub fn now(&self) -> String {
        let doing = match self.doing.as_str() {
            "" => "waiting for a worker",
            doing => doing,
        };
        format!(
            "{doing} · {} · {}",
            words::count(self.steps.into(), "step"),
            self.used.usd
        )
    }

    fn told(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::State {
                state,
                reason,
                agent: Some(agent),
            } => {
                self.doing = format!("{agent} works");
                part(agent.as_str(), *state, reason)
            }
            Event::State {
                state,
                reason,
                agent: None,
            } => whole(*state, reason),
            Event::Phase { phase } => {
                self.doing = phase.as_str().to_owned();
                None
            }
            Event::Begun {
                agent,
                what,
                detail,
                attempt,
                ..
            } => {
                self.doing = format!("{agent} {}", action(what, detail));
                (*attempt > 1).then(|| {
                    row(
                        agent.as_str(),
                        &format!("{} (attempt {attempt})", action(what, detail)),
                    )
                })
            }
            Event::Retrying {
                agent,
                what,
                error,
                pause_ms,
                ..
            } => {
                let pause = words::ms(*pause_ms);
                let error = words::line(error);
                Some(row(
                    agent.as_str(),
                    &format!("{} failed, again in {pause}: {error}", action(what, "")),
                ))
            }
            Event::Ended {
                agent,
                what,
                detail,
                error,
                usage,
                ms,
                ..
            } => {
                self.used += *usage;
                self.steps += 1;
                let action = action(what, detail);
                Some(row(
                    agent.as_str(),
                    &match error {
                        Some(error) => format!("{action} failed: {}", words::line(error)),
                        None => format!("{action} · {}{}", words::ms(*ms), cost(usage)),
                    },
                ))
            }
            Event::InDoubt {
                agent,
                what,
                evidence,
                ..
            } => {
                let why = evidence.iter().find(|known| known.kind == "why");
                let why = why.map(|known| format!(": {}", words::line(&known.value)));
                let why = why.unwrap_or_default();
                Some(row(
                    agent.as_str(),
                    &format!("{what} is in doubt, it may or may not have happened{why}"),
                ))
            }
            Event::Asked { kind, title, .. } => Some(row(
                "?",
                &format!("{}: {}", kind.as_str(), words::line(title)),
            )),
            Event::Alert { text, .. } => Some(row("!", &words::line(text))),
            Event::Decided { what, reason } if reason.is_empty() => Some(row("·", what)),
            Event::Decided { what, reason } => {
                Some(row("·", &format!("{what} ({})", words::line(reason))))
            }
        }
    }
}

fn part(agent: &str, state: TaskState, reason: &str) -> Option<String> {
    match state {
        TaskState::Running => Some(row(agent, "begins")),
        TaskState::Done => Some(row(agent, "is done")),
        state => Some(row(
            agent,
            &format!("{}: {}", words::state(state), words::line(reason)),
        )),
    }
}

/// The task's own ends are told by whoever shows its result.
fn whole(state: TaskState, reason: &str) -> Option<String> {
    match state {
        TaskState::AwaitingHuman | TaskState::Paused => Some(row(
            "·",
            &format!("{}: {}", words::state(state), words::line(reason)),
        )),
        _ => None,
    }
}

fn action(what: &str, detail: &str) -> String {
    match (what, detail) {
        ("think", _) => "model call".into(),
        (what, "") => what.into(),
        (what, detail) => format!("{what} {:?}", words::line(detail)),
    }
}

fn cost(usage: &Usage) -> String {
    match usage.tokens() {
        0 if usage.usd == shared::money::Usd::ZERO => String::new(),
        tokens => format!(" · {} tokens · {}", words::number(tokens), usage.usd),
    }
}

fn row(who: &str, what: &str) -> String {
    format!("{who:<12} {what}")
}

#[cfg(test)]
pub(crate) mod tests {
    use shared::id::{RunId, TaskId};
    use shared::money::Usd;
    use shared::run::Evidence;
    use shared::task::Phase;

    use super::*;

    pub(crate) fn scripted() -> Vec<Event> {
        let usage = Usage {
            tokens_in: 1200,
            tokens_out: 34,
            usd: Usd::from_dollars(0.0123),
            ..Usage::default()
        };
        let key = || "think/1".into();
        let state = |state, reason: &str, agent: Option<&str>| Event::State {
            state,
            reason: reason.into(),
            agent: agent.map(Into::into),
        };
        let ended =
            |agent: &str, what: &str, detail: &str, error: Option<&str>, usage| Event::Ended {
                key: key(),
                agent: agent.into(),
                what: what.into(),
                detail: detail.into(),
                error: error.map(Into::into),
                usage,
                ms: 1234,
            };
        vec![
            state(TaskState::Queued, "accepted", None),
            state(TaskState::Running, "a worker took it", None),
            Event::Phase {
                phase: Phase::Routing,
            },
            ended("supervisor", "think", "", None, usage),
            Event::Decided {
                what: "plan: researcher → writer".into(),
                reason: "it asks for\nfacts".into(),
            },
            state(TaskState::Running, "step step/0", Some("researcher")),
            Event::Begun {
                key: key(),
                agent: "researcher".into(),
                what: "think".into(),
                detail: String::new(),
                attempt: 1,
            },
            Event::Retrying {
                key: key(),
                agent: "researcher".into(),
                what: "think".into(),
                error: "429 Too Many Requests".into(),
                pause_ms: 1500,
            },
            Event::Begun {
                key: key(),
                agent: "researcher".into(),
                what: "think".into(),
                detail: String::new(),
                attempt: 2,
            },
            ended("researcher", "think", "", None, usage),
            ended(
                "researcher",
                "search_files",
                "crash \"recovery\"",
                None,
                Usage::default(),
            ),
            ended(
                "researcher",
                "read_file",
                "no.md",
                Some("no.md: not found"),
                Usage::default(),
            ),
            state(TaskState::Done, "", Some("researcher")),
            Event::InDoubt {
                key: key(),
                agent: "executor".into(),
                what: "send_mail".into(),
                evidence: vec![Evidence {
                    kind: "why".into(),
                    value: "the process died over it".into(),
                }],
            },
            state(
                TaskState::AwaitingHuman,
                "send_mail of step tool/1.0 may have happened",
                None,
            ),
            state(TaskState::Done, "", None),
        ]
    }

    pub(crate) fn recorded(events: Vec<Event>) -> Vec<Recorded> {
        let number = |(index, event)| Recorded {
            seq: index as i64 + 1,
            task: TaskId(uuid::Uuid::nil()),
            run: RunId(uuid::Uuid::nil()),
            at: Timestamp(1_000 + 250 * index as i64),
            event,
        };
        events.into_iter().enumerate().map(number).collect()
    }

    #[test]
    fn progress_reads_well() {
        let mut progress = Progress::default();
        let mut told = Vec::new();
        for event in recorded(scripted()) {
            told.extend(progress.line(&event));
            if let Some(rest) = Progress::rest(&event.event) {
                told.push(format!("-> {}", rest.0.as_str()));
            }
        }
        told.push(format!("-- {}", progress.now()));
        insta::assert_snapshot!(told.join("\n"));
    }
}
