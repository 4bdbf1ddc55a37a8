//! Tasks made from others: retries, forks, and the dead runs that they are made for.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;

use majordomo_tests::engine::{Act, Bench, Code, World, done, ended, new_task, tenant, tool};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::{Kind, Place};
use shared::event::Event;
use shared::id::{StepKey, TaskId};
use shared::run::{Child, Effect, Failure, FailureKind};
use shared::store::{Again, Renewed, RunState, TaskEnd};
use shared::task::{Origin, TaskState};
use supervisor::engine::Ended;

on_both_stores!(
    a_retry_does_everything_anew_and_leaves_the_old_task_as_it_was,
    a_fork_serves_what_stands_before_its_step_and_does_the_rest_anew,
    what_cannot_be_taken_over_is_refused,
    dead_runs_are_listed_with_why_and_where,
);

const LONG: Duration = Duration::from_secs(60);

/// A root of a step, a child and another step; it fails, as a task's run does.
fn failing() -> Arc<Code> {
    Arc::new(|ctx, run| {
        async move {
            if run.parent.is_some() {
                ctx.act("within".into(), tool(Effect::Once, json!(1)))
                    .await?;
                return Ok(Ended {
                    result: Ok(json!("child")),
                    task: None,
                });
            }
            ctx.act("first".into(), tool(Effect::Once, json!(2)))
                .await?;
            let child = Child {
                agent: "worker".into(),
                input: json!({}),
            };
            ctx.child("part".into(), child).await?;
            ctx.act("last".into(), tool(Effect::Once, json!(3))).await?;
            Ok(Ended {
                result: Err(Failure::new(FailureKind::Permanent, "no luck")),
                task: Some(TaskEnd {
                    state: TaskState::Failed,
                    answer: None,
                    partial: None,
                    error: Some("no luck".into()),
                }),
            })
        }
        .boxed()
    })
}

fn touching(world: &Arc<World>) -> Arc<Act> {
    let world = world.clone();
    Arc::new(move |exec| {
        world.touch(&exec.key);
        async move { Ok(done(json!({ "did": exec.key }))) }.boxed()
    })
}

async fn bench(place: &Place, code: Arc<Code>) -> (Bench, Arc<World>) {
    let world = Arc::<World>::default();
    let bench = Bench::start(place, code, touching(&world), world.clone(), LONG).await;
    (bench, world)
}

fn again(of: TaskId) -> Again {
    Again {
        tenant: tenant(),
        of,
        id: TaskId::fresh(),
        by: "somebody".into(),
    }
}

async fn fork(bench: &Bench, of: TaskId, from: &str) -> Renewed {
    let from = StepKey::from(from);
    bench.store.fork(again(of), &from).await.unwrap()
}

fn new(renewed: Renewed) -> TaskId {
    match renewed {
        Renewed::New(id) => id,
        refused => panic!("{refused:?}"),
    }
}

fn counts(world: &World) -> Vec<(String, u32)> {
    world.done().into_iter().collect()
}

fn times(first: u32, last: u32, within: u32) -> Vec<(String, u32)> {
    [("first", first), ("last", last), ("within", within)]
        .map(|(key, times)| (key.to_owned(), times))
        .to_vec()
}

async fn a_retry_does_everything_anew_and_leaves_the_old_task_as_it_was(kind: Kind) {
    let place = kind.place().await;
    let (bench, world) = bench(&place, failing()).await;
    let mut asked = new_task("go");
    asked.authority.output = Some(format!("/out/{}", asked.id).into());
    let old = asked.id;
    bench.store.accept(asked).await.unwrap();
    bench.ends(old).await;
    let before = bench.store.task(&tenant(), old).await.unwrap().unwrap();
    let id = new(bench.store.retry(again(old)).await.unwrap());
    let run = bench.ends(id).await;
    assert_eq!(counts(&world), times(2, 2, 2));
    let task = bench.store.task(&tenant(), id).await.unwrap().unwrap();
    let origin = Origin {
        task: old,
        step: None,
    };
    assert_eq!((task.origin, task.state), (Some(origin), TaskState::Failed));
    assert_eq!(
        (&task.request, &task.principal),
        (&before.request, &before.principal)
    );
    assert_eq!(task.submitted_by.as_str(), "somebody");
    assert_eq!(run.authority.output, Some(format!("/out/{id}").into()));
    let told = bench.events(id).await;
    assert!(
        matches!(&told[0], Event::State { state: TaskState::Queued, reason, .. } if reason.contains(&old.to_string())),
        "{told:?}"
    );
    let after = bench.store.task(&tenant(), old).await.unwrap().unwrap();
    assert_eq!(after, before);
    bench.stop().await;
}

async fn a_fork_serves_what_stands_before_its_step_and_does_the_rest_anew(kind: Kind) {
    let place = kind.place().await;
    let (bench, world) = bench(&place, failing()).await;
    let old = bench.submit("go").await;
    bench.ends(old).await;
    let id = new(fork(&bench, old, "last").await);
    bench.ends(id).await;
    assert_eq!(counts(&world), times(1, 2, 1));
    let task = bench.store.task(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(
        task.origin,
        Some(Origin {
            task: old,
            step: Some("last".into())
        })
    );
    let runs = bench.store.runs(&tenant(), id).await.unwrap();
    assert_eq!(
        runs.iter().map(|run| run.state).collect::<Vec<_>>(),
        [RunState::Failed, RunState::Done],
        "the child's run came along"
    );
    let within = bench.store.steps(&tenant(), runs[1].id).await.unwrap();
    assert_eq!(within[0].key.as_str(), "within");
    let old_task = bench.store.task(&tenant(), old).await.unwrap().unwrap();
    assert_eq!(task.usage, old_task.usage, "what was taken over counts");

    let id = new(fork(&bench, id, "part").await);
    bench.ends(id).await;
    assert_eq!(
        counts(&world),
        times(1, 3, 2),
        "a fork of a fork, further up"
    );
    let id = new(fork(&bench, id, "first").await);
    bench.ends(id).await;
    assert_eq!(counts(&world), times(2, 4, 3), "from the very first step");
    bench.stop().await;
}

async fn what_cannot_be_taken_over_is_refused(kind: Kind) {
    let place = kind.place().await;
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            let both = ["slow", "quick"]
                .map(|key| (key.into(), tool(Effect::Once, json!({ "key": key }))));
            ctx.all(both.into()).await?;
            Ok(ended(json!("both")))
        }
        .boxed()
    });
    let act: Arc<Act> = Arc::new(|exec| {
        async move {
            if exec.key.as_str() == "slow" {
                futures::future::pending::<()>().await;
            }
            Ok(done(json!(1)))
        }
        .boxed()
    });
    let bench = Bench::start(&place, code, act, Arc::default(), LONG).await;
    let task = bench.submit("go").await;
    let mut feed = bench.store.bell().feed().subscribe();
    while bench
        .store
        .steps(&tenant(), task.into())
        .await
        .unwrap()
        .iter()
        .all(|step| step.recorded.is_none())
    {
        let _ = tokio::time::timeout(Duration::from_millis(50), feed.recv()).await;
    }
    assert_eq!(
        bench.store.retry(again(task)).await.unwrap(),
        Renewed::Unfit(TaskState::Running)
    );
    assert_eq!(
        fork(&bench, task, "quick").await,
        Renewed::Unfit(TaskState::Running)
    );
    bench
        .store
        .cancel(&tenant(), task, "enough", None)
        .await
        .unwrap();
    assert_eq!(
        fork(&bench, task, "quick").await,
        Renewed::Open("slow".into())
    );
    let keys = vec!["slow".into(), "quick".into()];
    assert_eq!(fork(&bench, task, "other").await, Renewed::NoStep(keys));
    let nobody = TaskId::fresh();
    assert_eq!(fork(&bench, nobody, "quick").await, Renewed::Missing);
    let foreign = Again {
        tenant: "another".into(),
        ..again(task)
    };
    assert_eq!(bench.store.retry(foreign).await.unwrap(), Renewed::Missing);
    assert_eq!(bench.store.runs(&tenant(), task).await.unwrap().len(), 1);
    bench.stop().await;
}

async fn dead_runs_are_listed_with_why_and_where(kind: Kind) {
    let place = kind.place().await;
    let code: Arc<Code> = Arc::new(|ctx, _| {
        async move {
            ctx.act("poison".into(), tool(Effect::Once, json!(1)))
                .await?;
            panic!("it burst")
        }
        .boxed()
    });
    let (bench, _) = bench(&place, code).await;
    let task = bench.submit("go").await;
    assert_eq!(bench.ends(task).await.state, RunState::Dead);
    let dead = bench.store.dead(&tenant(), None, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].task), (1, task));
    assert!(dead[0].why.contains("it burst"), "{dead:?}");
    assert_eq!(dead[0].step, Some("poison".into()));
    let of = |name: &str| {
        let name = shared::id::PrincipalId::from(name);
        let store = bench.store.clone();
        async move { store.dead(&tenant(), Some(&name), 10).await.unwrap().len() }
    };
    assert_eq!((of("test").await, of("stranger").await), (1, 0));
    assert_eq!(
        bench.store.dead(&"other".into(), None, 10).await.unwrap(),
        []
    );
    bench.stop().await;
}
