//! The engine on a real store: what is journaled, what is done again, what wakes whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};

use majordomo_tests::engine::{Act, Bench, Code, World, done, ended, next_event, tenant, tool};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::{Kind, Place};
use majordomo_tests::wait;
use shared::ask::Ask;
use shared::event::{Event, Note};
use shared::id::StepKey;
use shared::run::{Child, Effect, Failure, FailureKind, NotDone, Outcome, Report};
use shared::store::{Delivered, NewSignal, RunState};
use shared::task::{Phase, TaskState};

on_both_stores!(
    a_run_does_each_step_once_and_tells_of_it,
    failed_attempts_are_repeated_journaled_and_paid,
    a_lost_reply_is_handled_by_effect_class,
    undelivered_operations_are_asked_again_and_never_journaled_as_failed,
    children_run_at_the_same_time_and_their_ends_reach_the_parent,
    parents_and_children_get_by_with_one_slot,
    a_stop_ends_although_more_is_queued_than_fits,
    a_waiting_run_leaves_memory_and_the_first_answer_wakes_it,
    an_answer_that_nobody_waits_for_changes_nothing,
    a_wait_ends_with_its_time_also_out_of_memory,
    a_stop_puts_runs_back_and_the_next_start_goes_on,
    cancelling_ends_the_whole_tree_and_the_work_in_hand,
    a_paused_task_ends_what_is_in_hand_and_goes_on_when_resumed,
    other_code_than_the_journals_is_a_named_error,
    a_panic_in_a_run_ends_that_run_alone,
    long_results_come_back_whole,
    what_is_left_of_a_task_ends_with_a_root_that_cannot_go_on,
    one_answer_of_two_leaves_the_task_waiting,
    a_parent_goes_on_when_nothing_is_left_of_its_children,
);

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(60);

fn touching(world: &Arc<World>) -> Arc<Act> {
    let world = world.clone();
    Arc::new(move |exec| {
        let world = world.clone();
        async move {
            world.touch(&exec.key);
            Ok(done(json!({ "did": exec.key })))
        }
        .boxed()
    })
}

/// A run of one step of each effect class.
fn four_steps() -> Arc<Code> {
    Arc::new(|ctx, _| {
        async move {
            ctx.note(Note::Phase(Phase::Executing));
            for (key, effect) in [
                ("a", Effect::Pure),
                ("b", Effect::Idempotent),
                ("c", Effect::Verifiable),
                ("d", Effect::Once),
            ] {
                ctx.act(key.into(), tool(effect, json!({ "key": key })))
                    .await?;
            }
            Ok(ended(json!("all four")))
        }
        .boxed()
    })
}

async fn bench(place: &Place, code: Arc<Code>, park_after: Duration) -> (Bench, Arc<World>) {
    let world = Arc::<World>::default();
    let act = touching(&world);
    let bench = Bench::start(place, code, act, world.clone(), park_after).await;
    (bench, world)
}

async fn a_run_does_each_step_once_and_tells_of_it(kind: Kind) {
    let place = kind.place().await;
    let (bench, world) = bench(&place, four_steps(), LONG).await;
    let task = bench.submit("go").await;
    assert_eq!(bench.ends(task).await.state, RunState::Done);
    assert!(world.done().values().all(|times| *times == 1));
    let stored = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(stored.state, TaskState::Done);
    assert_eq!(stored.answer.as_deref(), Some("\"all four\""));
    let events = bench.events(task).await;
    let begun = events
        .iter()
        .filter(|event| matches!(event, Event::Begun { .. }))
        .count();
    let ended = events
        .iter()
        .filter(|event| matches!(event, Event::Ended { .. }))
        .count();
    assert_eq!(
        (begun, ended),
        (3, 4),
        "a pure step has no begin: {events:?}"
    );
    bench.stop().await;
}

async fn failed_attempts_are_repeated_journaled_and_paid(kind: Kind) {
    let place = kind.place().await;
    let calls = Arc::new(AtomicU32::new(0));
    let act: Arc<Act> = {
        let calls = calls.clone();
        Arc::new(move |_| {
            let n = calls.fetch_add(1, Ordering::SeqCst);
            async move {
                Ok(match n {
                    0 | 1 => Report {
                        usage: None,
                        ..Report::failed(Failure::new(FailureKind::Transient, "503"))
                    },
                    _ => done(json!("third time")),
                })
            }
            .boxed()
        })
    };
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            let recorded = ctx
                .act("x".into(), tool(Effect::Idempotent, json!({})))
                .await?;
            assert_eq!(recorded.attempts.len(), 3);
            assert_eq!(
                recorded.usage.usd.nano(),
                14,
                "unknown usage costs the reservation"
            );
            Ok(ended(json!("ok")))
        }
        .boxed()
    });
    let bench = Bench::start(&place, code, act, Arc::default(), LONG).await;
    let task = bench.submit("go").await;
    assert_eq!(bench.ends(task).await.state, RunState::Done);
    let retries = bench.events(task).await;
    let retries = retries
        .iter()
        .filter(|event| matches!(event, Event::Retrying { .. }));
    assert_eq!(retries.count(), 2);
    let stored = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(stored.usage.usd.nano(), 14);
    bench.stop().await;
}

/// Somebody took the operation, did it, and died before replying.
async fn a_lost_reply_is_handled_by_effect_class(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::<World>::default();
    let act: Arc<Act> = {
        let world = world.clone();
        Arc::new(move |exec| {
            let first = !world.done().contains_key(exec.key.as_str());
            world.touch(&exec.key);
            async move {
                match first {
                    true => Err(NotDone::NoReply("died".into())),
                    false => Ok(done(json!("again"))),
                }
            }
            .boxed()
        })
    };
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            let mut outcomes = Vec::new();
            for effect in [
                Effect::Pure,
                Effect::Idempotent,
                Effect::Verifiable,
                Effect::Once,
            ] {
                let key = StepKey::from(effect.as_str());
                let recorded = ctx.act(key, tool(effect, json!({}))).await?;
                outcomes.push(match recorded.outcome {
                    Outcome::Done(value) => value,
                    Outcome::Failed(failure) => json!(failure.message),
                    Outcome::InDoubt { .. } => json!("in doubt"),
                });
            }
            Ok(ended(json!(outcomes)))
        }
        .boxed()
    });
    let bench = Bench::start(&place, code, act, world.clone(), LONG).await;
    let task = bench.submit("go").await;
    bench.ends(task).await;
    let stored = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    let answer: Value = serde_json::from_str(&stored.answer.unwrap()).unwrap();
    assert_eq!(answer, json!(["again", "again", "probed", "in doubt"]));
    let done = world.done();
    assert_eq!(
        (
            done["pure"],
            done["idempotent"],
            done["verifiable"],
            done["once"]
        ),
        (2, 2, 1, 1)
    );
    bench.stop().await;
}

/// An actor that is away for a while costs time and nothing else.
async fn undelivered_operations_are_asked_again_and_never_journaled_as_failed(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::<World>::default();
    let refusals = Arc::new(AtomicU32::new(0));
    let act: Arc<Act> = {
        let (world, refusals) = (world.clone(), refusals.clone());
        Arc::new(move |exec| {
            let away = refusals.fetch_add(1, Ordering::SeqCst) < 3;
            if !away {
                world.touch(&exec.key);
            }
            async move {
                match away {
                    true => Err(NotDone::NotDelivered("restarting".into())),
                    false => Ok(done(json!("ok"))),
                }
            }
            .boxed()
        })
    };
    let bench = Bench::start(&place, four_steps(), act, world.clone(), LONG).await;
    let task = bench.submit("go").await;
    assert_eq!(bench.ends(task).await.state, RunState::Done);
    assert!(world.done().values().all(|times| *times == 1));
    for step in bench.store.steps(&tenant(), task.into()).await.unwrap() {
        assert_eq!(step.attempt, 1);
    }
    bench.stop().await;
}

fn parent_and_children() -> Arc<Code> {
    Arc::new(|ctx, run| {
        async move {
            if run.parent.is_some() {
                let op = tool(Effect::Once, run.input.clone());
                ctx.act("work".into(), op).await?;
                return Ok(ended(json!({ "child of": run.input })));
            }
            let child = |n: u32| {
                let child = Child {
                    agent: "researcher".into(),
                    input: json!(n),
                };
                ctx.child(StepKey::from(format!("step/{n}")), child)
            };
            let both = futures::future::try_join(child(1), child(2)).await?;
            let Outcome::Done(first) = both.0.outcome else {
                panic!("the child did not end well")
            };
            Ok(ended(first))
        }
        .boxed()
    })
}

async fn children_run_at_the_same_time_and_their_ends_reach_the_parent(kind: Kind) {
    let place = kind.place().await;
    for park_after in [LONG, Duration::ZERO] {
        let (bench, _) = bench(&place, parent_and_children(), park_after).await;
        let task = bench.submit("go").await;
        assert_eq!(bench.ends(task).await.state, RunState::Done);
        let runs = bench.store.runs(&tenant(), task).await.unwrap();
        assert_eq!(runs.len(), 3);
        assert!(runs.iter().all(|run| run.state == RunState::Done));
        bench.stop().await;
    }
}

/// Runs that wait hold no slot, however many things they wait for.
async fn parents_and_children_get_by_with_one_slot(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::<World>::default();
    let (store, act) = (place.open().await, touching(&world));
    let code = parent_and_children();
    let bench = Bench::with_slots(store, code, act, world, (1, LONG)).await;
    let tasks = [bench.submit("one").await, bench.submit("two").await];
    for task in tasks {
        assert_eq!(bench.ends(task).await.state, RunState::Done);
    }
    bench.stop().await;
}

async fn a_stop_ends_although_more_is_queued_than_fits(kind: Kind) {
    let place = kind.place().await;
    let (seen, act) = (Arc::new(tokio::sync::Notify::new()), {
        move |seen: Arc<tokio::sync::Notify>| -> Arc<Act> {
            Arc::new(move |_| {
                seen.notify_one();
                futures::future::pending().boxed()
            })
        }
    });
    let store = place.open().await;
    let act = act(seen.clone());
    let bench = Bench::with_slots(store, four_steps(), act, Arc::default(), (2, LONG)).await;
    for _ in 0..50 {
        bench.submit("go").await;
    }
    seen.notified().await;
    let stopped = bench.engine.freeze(Duration::from_millis(50));
    let stopped = tokio::time::timeout(Duration::from_secs(20), stopped).await;
    assert!(stopped.is_ok(), "the engine lets go");
    let census = bench.store.census().await.unwrap();
    assert_eq!(census.runs.get("running"), None, "{census:?}");
    bench.store.close().await;
}

fn asks_and_waits() -> Arc<Code> {
    Arc::new(|ctx, _| {
        async move {
            let answer = ctx
                .ask(
                    "word".into(),
                    Duration::from_secs(3600),
                    Ask::question("a word?"),
                )
                .await?;
            Ok(ended(json!({ "answer": answer })))
        }
        .boxed()
    })
}

fn word(task: shared::id::TaskId, payload: Value) -> NewSignal {
    NewSignal {
        tenant: tenant(),
        run: task.into(),
        name: "word".into(),
        payload,
        by: "someone".into(),
    }
}

async fn a_waiting_run_leaves_memory_and_the_first_answer_wakes_it(kind: Kind) {
    let place = kind.place().await;
    let (bench, _) = bench(&place, asks_and_waits(), SHORT).await;
    let task = bench.submit("go").await;
    let parked = bench.reaches(task, &[RunState::Waiting]).await;
    assert_eq!(parked.state, RunState::Waiting);
    let first = bench.store.deliver(word(task, json!("yes"))).await.unwrap();
    let second = bench.store.deliver(word(task, json!("no"))).await.unwrap();
    assert_eq!((first, second), (Delivered::First, Delivered::Answered));
    bench.ends(task).await;
    let stored = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(stored.answer.as_deref(), Some(r#"{"answer":"yes"}"#));
    let late = bench
        .store
        .deliver(word(task, json!("late")))
        .await
        .unwrap();
    assert_eq!(late, Delivered::Answered);
    bench.stop().await;
}

async fn an_answer_that_nobody_waits_for_changes_nothing(kind: Kind) {
    let place = kind.place().await;
    let (bench, _) = bench(&place, four_steps(), LONG).await;
    let task = bench.submit("go").await;
    bench.ends(task).await;
    let unwanted = bench.store.deliver(word(task, json!("x"))).await.unwrap();
    assert_eq!(unwanted, Delivered::Unwanted);
    bench.stop().await;
}

async fn a_wait_ends_with_its_time_also_out_of_memory(kind: Kind) {
    let place = kind.place().await;
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            let answer = ctx
                .ask(
                    "word".into(),
                    Duration::from_millis(200),
                    Ask::question("a word?"),
                )
                .await?;
            ctx.sleep("nap".into(), Duration::from_millis(100)).await?;
            Ok(ended(json!({ "answer": answer })))
        }
        .boxed()
    });
    let (bench, _) = bench(&place, code, SHORT).await;
    let task = bench.submit("go").await;
    bench.ends(task).await;
    let stored = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(stored.answer.as_deref(), Some(r#"{"answer":null}"#));
    bench.stop().await;
}

async fn a_stop_puts_runs_back_and_the_next_start_goes_on(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::<World>::default();
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            ctx.act("a".into(), tool(Effect::Once, json!({}))).await?;
            ctx.ask(
                "word".into(),
                Duration::from_secs(3600),
                Ask::question("a word?"),
            )
            .await?;
            ctx.act("b".into(), tool(Effect::Once, json!({}))).await?;
            Ok(ended(json!("end")))
        }
        .boxed()
    });
    let act = touching(&world);
    let first = Bench::start(&place, code.clone(), act.clone(), world.clone(), LONG).await;
    let task = first.submit("go").await;
    wait::until("it waits for a word", LONG, async || {
        let word = "signal/word".into();
        let step = first.store.step(&tenant(), task.into(), &word).await;
        step.unwrap().is_some()
    })
    .await;
    first.stop().await;
    let second = Bench::start(&place, code, act, world.clone(), LONG).await;
    assert_eq!(second.resumed, 0, "an ordered stop leaves nothing running");
    second
        .store
        .deliver(word(task, json!("go on")))
        .await
        .unwrap();
    assert_eq!(second.ends(task).await.state, RunState::Done);
    let done = world.done();
    assert_eq!((done["a"], done["b"]), (1, 1));
    second.stop().await;
}

async fn cancelling_ends_the_whole_tree_and_the_work_in_hand(kind: Kind) {
    let place = kind.place().await;
    let (seen, cancelled) = (
        Arc::new(tokio::sync::Notify::new()),
        Arc::new(AtomicU32::new(0)),
    );
    let act: Arc<Act> = {
        let (seen, cancelled) = (seen.clone(), cancelled.clone());
        Arc::new(move |exec| {
            let (seen, cancelled) = (seen.clone(), cancelled.clone());
            async move {
                tokio::spawn(async move {
                    exec.cancel.cancelled().await;
                    cancelled.fetch_add(1, Ordering::SeqCst);
                });
                seen.notify_one();
                futures::future::pending().await
            }
            .boxed()
        })
    };
    let bench = Bench::start(&place, parent_and_children(), act, Arc::default(), LONG).await;
    let task = bench.submit("go").await;
    seen.notified().await;
    assert!(
        bench
            .store
            .cancel(&tenant(), task, "a person said so", None)
            .await
            .unwrap()
    );
    let again = bench.store.cancel(&tenant(), task, "again", None).await;
    assert!(!again.unwrap());
    for run in bench.store.runs(&tenant(), task).await.unwrap() {
        assert_eq!(run.state, RunState::Cancelled);
    }
    bench.stop().await;
    assert!(
        cancelled.load(Ordering::SeqCst) >= 1,
        "the operation's token was cancelled"
    );
}

async fn other_code_than_the_journals_is_a_named_error(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::<World>::default();
    let code = |args: Value| -> Arc<Code> {
        Arc::new(move |ctx, _| {
            let args = args.clone();
            async move {
                ctx.act("a".into(), tool(Effect::Pure, args)).await?;
                ctx.ask(
                    "word".into(),
                    Duration::from_secs(3600),
                    Ask::question("a word?"),
                )
                .await?;
                Ok(ended(json!("end")))
            }
            .boxed()
        })
    };
    let act = touching(&world);
    let first = code(json!({"v": 1}));
    let first = Bench::start(&place, first, act.clone(), world.clone(), SHORT).await;
    let task = first.submit("go").await;
    first.reaches(task, &[RunState::Waiting]).await;
    first.stop().await;
    let second = code(json!({"v": 2}));
    let second = Bench::start(&place, second, act, world, SHORT).await;
    second.store.deliver(word(task, json!(1))).await.unwrap();
    assert_eq!(second.ends(task).await.state, RunState::Dead);
    let stored = second.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(stored.state, TaskState::Failed);
    assert!(stored.error.unwrap().contains("journal mismatch at step a"));
    second.stop().await;
}

async fn a_panic_in_a_run_ends_that_run_alone(kind: Kind) {
    let place = kind.place().await;
    let code: Arc<Code> = Arc::new(|_, run| {
        async move {
            assert!(run.input["text"] != "boom", "told to");
            Ok(ended(json!("fine")))
        }
        .boxed()
    });
    let (bench, _) = bench(&place, code, LONG).await;
    let (bad, good) = (bench.submit("boom").await, bench.submit("calm").await);
    assert_eq!(bench.ends(bad).await.state, RunState::Dead);
    assert_eq!(bench.ends(good).await.state, RunState::Done);
    bench.stop().await;
}

async fn long_results_come_back_whole(kind: Kind) {
    let place = kind.place().await;
    let long = "ä".repeat(50_000);
    let act: Arc<Act> = {
        let long = long.clone();
        Arc::new(move |_| {
            let long = long.clone();
            async move { Ok(done(json!(long))) }.boxed()
        })
    };
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            let recorded = ctx.act("a".into(), tool(Effect::Pure, json!({}))).await?;
            let Outcome::Done(value) = recorded.outcome else {
                panic!("done")
            };
            ctx.ask(
                "word".into(),
                Duration::from_secs(3600),
                Ask::question("a word?"),
            )
            .await?;
            Ok(ended(json!(value.as_str().map(str::len))))
        }
        .boxed()
    });
    let bench = Bench::start(&place, code, act, Arc::default(), SHORT).await;
    let task = bench.submit("go").await;
    bench.reaches(task, &[RunState::Waiting]).await;
    bench.store.deliver(word(task, json!(1))).await.unwrap();
    bench.ends(task).await;
    let stored = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(stored.answer.unwrap(), long.len().to_string());
    bench.stop().await;
}

/// A paused task ends what is in hand, records it, and begins nothing until it is resumed; children
/// and what comes while it is paused included.
async fn a_paused_task_ends_what_is_in_hand_and_goes_on_when_resumed(kind: Kind) {
    let place = kind.place().await;
    let world = Arc::new(World::default());
    let gate = Arc::new(tokio::sync::Notify::new());
    let act: Arc<Act> = {
        let (world, gate) = (world.clone(), gate.clone());
        Arc::new(move |exec| {
            let (world, gate) = (world.clone(), gate.clone());
            async move {
                if exec.key.as_str() == "b" {
                    gate.notified().await;
                }
                world.touch(&exec.key);
                Ok(done(json!({ "did": exec.key })))
            }
            .boxed()
        })
    };
    let bench = Bench::start(&place, four_steps(), act, world.clone(), LONG).await;
    let mut feed = bench.store.bell().feed().subscribe();
    let task = bench.submit("go").await;
    let at_b = |event: &Event| matches!(event, Event::Begun { key, .. } if key.as_str() == "b");
    while !at_b(&next_event(&mut feed).await) {}
    let pause = async |why| bench.store.pause(&tenant(), task, why).await.unwrap();
    assert!(pause("lunch").await);
    assert!(!pause("again").await, "it is paused already");
    gate.notify_one();
    let run = bench.reaches(task, &[RunState::Queued]).await;
    assert_eq!(run.epoch, 1);
    assert_eq!(world.done()["b"], 1, "what was in hand was ended");
    assert!(!world.done().contains_key("c"), "nothing new was begun");
    let stands = async || {
        bench
            .store
            .task(&tenant(), task)
            .await
            .unwrap()
            .unwrap()
            .state
    };
    assert_eq!(stands().await, TaskState::Paused);
    let resume = async |why| bench.store.resume(&tenant(), task, why).await.unwrap();
    assert!(resume("back").await);
    assert!(!resume("again").await, "it is not paused any more");
    assert_eq!(bench.ends(task).await.state, RunState::Done);
    assert_eq!(world.done()["b"], 1, "and not repeated");
    assert!(!pause("too late").await);
    bench.stop().await;
}

/// A root run that panics while its part has a call in hand: the part ends with it, and is paid.
async fn what_is_left_of_a_task_ends_with_a_root_that_cannot_go_on(kind: Kind) {
    let place = kind.place().await;
    let begun = Arc::new(tokio::sync::Notify::new());
    let act: Arc<Act> = {
        let begun = begun.clone();
        Arc::new(move |_| {
            begun.notify_one();
            std::future::pending().boxed()
        })
    };
    let code: Arc<Code> = Arc::new(move |ctx, run| {
        let begun = begun.clone();
        async move {
            if run.parent.is_some() {
                let send = tool(Effect::Idempotent, json!({}));
                ctx.act("send".into(), send).await?;
            }
            let part = Child {
                agent: "worker".into(),
                input: json!({}),
            };
            tokio::select! {
                recorded = ctx.child("part".into(), part) => drop(recorded?),
                () = begun.notified() => panic!("the code has a fault"),
            }
            Ok(ended(json!("never")))
        }
        .boxed()
    });
    let bench = Bench::start(&place, code, act, Arc::default(), LONG).await;
    let task = bench.submit("go").await;
    assert_eq!(bench.ends(task).await.state, RunState::Dead);
    let runs = bench.store.runs(&tenant(), task).await.unwrap();
    let states: Vec<RunState> = runs.iter().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Dead, RunState::Cancelled]);
    let stored = bench.store.task(&tenant(), task).await.unwrap().unwrap();
    assert_eq!(stored.state, TaskState::Failed);
    assert_eq!(stored.usage.usd.nano(), 7, "the call in hand is paid");
    // A stop would wait for a part that went on.
    bench.stop().await;
}

/// Two parts of a task wait for a person; one answer is not both.
async fn one_answer_of_two_leaves_the_task_waiting(kind: Kind) {
    let place = kind.place().await;
    let code: Arc<Code> = Arc::new(|ctx, run| {
        async move {
            let note = |state| Note::State {
                state,
                reason: "test".into(),
            };
            if run.parent.is_some() {
                ctx.note(note(TaskState::AwaitingHuman));
                ctx.ask("in_doubt/send".into(), LONG, Ask::question("a word?"))
                    .await?;
                ctx.note(note(TaskState::Running));
                ctx.act("after".into(), tool(Effect::Once, json!({})))
                    .await?;
                return Ok(ended(json!("part")));
            }
            let part = |key: &'static str| {
                let child = Child {
                    agent: key.into(),
                    input: json!({}),
                };
                ctx.child(key.into(), child)
            };
            futures::try_join!(part("one"), part("two"))?;
            Ok(ended(json!("both")))
        }
        .boxed()
    });
    let (bench, _) = bench(&place, code, LONG).await;
    let mut feed = bench.store.bell().feed().subscribe();
    let task = bench.submit("go").await;
    let until = |wanted: TaskState, times: usize| async move {
        let mut seen = 0;
        while seen < times {
            let event = next_event(&mut feed).await;
            seen += usize::from(matches!(event, Event::State { state, .. } if state == wanted));
        }
        feed
    };
    feed = until(TaskState::AwaitingHuman, 2).await;
    let state = || async {
        let stored = bench.store.task(&tenant(), task).await.unwrap().unwrap();
        let census = bench.store.census().await.unwrap();
        (stored.state, census.in_doubt)
    };
    assert_eq!(state().await, (TaskState::AwaitingHuman, 2));
    let mut parts = bench.store.runs(&tenant(), task).await.unwrap();
    parts.retain(|run| run.parent.is_some());
    let answer = |run: &shared::store::Run| NewSignal {
        tenant: tenant(),
        run: run.id,
        name: "in_doubt/send".into(),
        payload: json!(true),
        by: "ada".into(),
    };
    let deliver = |run| bench.store.deliver(answer(run));
    assert_eq!(deliver(&parts[0]).await.unwrap(), Delivered::First);
    loop {
        let event = next_event(&mut feed).await;
        if matches!(event, Event::Ended { .. }) {
            break;
        }
    }
    assert_eq!(state().await, (TaskState::AwaitingHuman, 1));
    assert_eq!(deliver(&parts[1]).await.unwrap(), Delivered::First);
    assert_eq!(bench.ends(task).await.state, RunState::Done);
    assert_eq!(state().await, (TaskState::Done, 0));
    bench.stop().await;
}

/// What a child came to stands in its parent's own journal: the child's may be gone.
async fn a_parent_goes_on_when_nothing_is_left_of_its_children(kind: Kind) {
    let code: Arc<Code> = Arc::new(|ctx, run| {
        async move {
            if run.parent.is_some() {
                ctx.act("a".into(), tool(Effect::Idempotent, json!({})))
                    .await?;
                return Ok(ended(json!("part")));
            }
            let part = Child {
                agent: "worker".into(),
                input: json!({}),
            };
            let recorded = ctx.child("part".into(), part).await?;
            ctx.ask("word".into(), LONG, Ask::question("a word?"))
                .await?;
            Ok(ended(json!(format!("{:?}", recorded.outcome))))
        }
        .boxed()
    });
    let place = kind.place().await;
    let (first, world) = bench(&place, code.clone(), Duration::ZERO).await;
    let task = first.submit("go").await;
    first.reaches(task, &[RunState::Waiting]).await;
    while first
        .store
        .step(&tenant(), task.into(), &"signal/word".into())
        .await
        .unwrap()
        .is_none()
    {
        tokio::task::yield_now().await;
    }
    first.stop().await;
    match place.postgres() {
        Some(database) => {
            let gone = "delete from majordomo.step s using majordomo.run r
                        where r.id = s.run and r.parent is not null;
                        delete from majordomo.run where parent is not null";
            database.run(gone).await;
        }
        None => {
            let file = place.path().join("data").join("majordomo.db");
            let database = rusqlite::Connection::open(file).unwrap();
            let gone =
                "delete from step where run in (select id from run where parent is not null);
                        delete from run where parent is not null";
            database.execute_batch(gone).unwrap();
        }
    }
    place.lapse().await;
    let (next, again) = bench(&place, code, Duration::ZERO).await;
    assert_eq!(next.store.runs(&tenant(), task).await.unwrap().len(), 1);
    next.store
        .deliver(word(task, json!("go on")))
        .await
        .unwrap();
    assert_eq!(next.ends(task).await.state, RunState::Done);
    let stored = next.store.task(&tenant(), task).await.unwrap().unwrap();
    assert!(stored.answer.unwrap().contains("part"));
    assert_eq!(
        (world.done().len(), again.done().len()),
        (1, 0),
        "nothing is done again"
    );
    next.stop().await;
}
