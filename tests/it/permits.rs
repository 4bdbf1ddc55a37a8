//! An approver's standing word: it lets pass what it is for, as often as it says and no more, and only what
//! its giver could approve at that moment. What else is asked about waits for people as ever.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::telegram::FakeTelegram;
use majordomo_tests::life::{Life, Manner, Programs, Tally};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::{Called, TestTool};
use serde_json::json;
use shared::ask::{AskState, Asked, Decision};
use shared::id::{PermitId, TaskId};
use shared::permit::{Covered, Permit, PermitState, Terms};
use shared::run::Effect;
use shared::store::{AskFilter, NewPermit};
use shared::task::TaskState;
use supervisor::asks::{Decided, Who, outcome};
use supervisor::auth::{Scope, mint};
use supervisor::permits::{Clerk, NotGiven, Wanted};

on_both_stores!(
    a_permit_answers_what_it_is_for_and_says_so,
    one_made_from_an_approval_answers_it_and_what_waits_beside_it,
    what_it_is_not_for_is_asked_about,
    it_ends_by_its_time_its_uses_and_its_giver,
    of_two_hundred_calls_at_once_it_lets_a_hundred_pass,
    whoever_could_not_approve_it_now_does_not_by_a_permit,
    a_tainted_run_takes_one_that_says_so,
    no_card_goes_out_for_what_a_permit_lets_pass,
    odd_permits_are_refused,
    killed_at_every_point_it_is_used_once,
);

const SENDS: &str = "[[agent.reply]]\ntext = \"I send it.\"\n\
    calls = [{ tool = \"send\", args = { n = 5 } }]\n\
    [[agent.reply]]\ntext = \"It is settled.\"\n";
const ASKED: &str = "[approvals]\nwithin_h = 1\n[engine]\npark_after_s = 0.0\n";
const OWN: &str = "[approvals]\nown = true\n";

fn sending() -> Arc<TestTool> {
    let tool = TestTool::new("send", Effect::Once, |called: Called| async move {
        Ok(json!(format!("number {}", called.before)))
    });
    Arc::new(tool)
}

async fn worker(kind: Kind, send: &Arc<TestTool>, settings: &str) -> TestApp {
    Setup::worker(SENDS, &[send], settings)
        .on(kind)
        .start()
        .await
}

fn who(name: &str, approves: bool) -> Who {
    Who {
        principal: name.into(),
        approves,
        keeps_budgets: false,
    }
}

/// Somebody at the machine itself: an approver as long as there is one.
fn local() -> Who {
    who("local", true)
}

/// So many calls of `send` by the worker, with these arguments.
fn wanted(times: u32, pattern: &str) -> Wanted {
    Wanted {
        agent: Some("worker".into()),
        tool: Some("send".into()),
        covered: Some(Covered::Like([("n".into(), pattern.into())].into())),
        times: Some(times),
        ..Wanted::default()
    }
}

async fn give(app: &TestApp, wanted: Wanted, who: &Who) -> Permit {
    app.app.clerk.give(wanted, who).await.unwrap()
}

/// A task of somebody else's, so that its giver may approve it.
async fn submit(app: &TestApp) -> TaskId {
    app.submit(TestApp::request("Send it")).await
}

async fn waits(app: &TestApp, id: TaskId) -> Asked {
    app.reaches(id, |task| task.state == TaskState::AwaitingHuman)
        .await;
    let mut asks = asks(app).await;
    asks.retain(|asked| asked.task == id && asked.state == AskState::Open);
    assert_eq!(asks.len(), 1, "{asks:?}");
    asks.remove(0)
}

async fn asks(app: &TestApp) -> Vec<Asked> {
    let all = AskFilter {
        limit: 1_000,
        ..AskFilter::default()
    };
    app.app.desk.asks(&local(), &all).await.unwrap()
}

async fn stands(app: &TestApp, permit: &Permit) -> Permit {
    let permits = app.app.store.permits();
    let found = permits.one(app.app.tenant(), permit.id).await.unwrap();
    found.unwrap()
}

/// Refuses what waits, so that nothing is left half-done.
async fn refuse(app: &TestApp, asked: &Asked) {
    let no = Decision::Reject {
        reason: "no".into(),
    };
    let decided = app.app.desk.decide(asked.id, no, &who("boss", true)).await;
    assert!(matches!(decided, Ok(Decided::Taken(_))), "{decided:?}");
    app.ends(asked.task).await;
}

async fn a_permit_answers_what_it_is_for_and_says_so(kind: Kind) {
    let send = sending();
    let app = worker(kind, &send, ASKED).await;
    let boss = minted(&app, "boss").await;
    let permit = give(&app, wanted(2, "<=5"), &boss).await;
    assert_eq!((permit.used, permit.left()), (0, Some(2)));
    for n in 1..=2 {
        let id = submit(&app).await;
        let task = app.ends(id).await;
        assert_eq!(task.answer.as_deref(), Some("It is settled."));
        assert_eq!(stands(&app, &permit).await.used, n);
    }
    assert_eq!(send.calls(), [5, 5]);
    for asked in asks(&app).await {
        let (verdict, _) = asked.verdict.as_ref().unwrap();
        assert_eq!(
            (verdict.by.as_ref(), verdict.permit),
            (Some(&boss.principal), Some(permit.id))
        );
        let line = outcome(&asked);
        let whose = format!("approved by permit {} of token:boss", permit.id.short());
        assert!(line.starts_with(&whose), "{line}");
    }
    let view = app.app.desk.permit(permit.id).await.unwrap().unwrap();
    assert_eq!((view.state, view.uses.len()), (PermitState::UsedUp, 2));
    let third = submit(&app).await;
    refuse(&app, &waits(&app, third).await).await;
    assert_eq!(send.calls(), [5, 5]);
    app.stop().await;
}

/// Somebody who approves by a token.
async fn minted(app: &TestApp, name: &str) -> Who {
    let (store, tenant) = (&*app.app.store, app.app.tenant());
    let minted = mint(store, tenant, name, None, &[Scope::Approve]).await;
    let (token, _) = minted.unwrap();
    Who {
        principal: token.principal,
        approves: true,
        keeps_budgets: false,
    }
}

async fn one_made_from_an_approval_answers_it_and_what_waits_beside_it(kind: Kind) {
    let send = sending();
    let app = worker(kind, &send, ASKED).await;
    let boss = minted(&app, "boss").await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let id = submit(&app).await;
        waiting.push(waits(&app, id).await);
    }
    let last = waiting.pop().unwrap();
    let made = Wanted {
        ask: Some(last.id),
        times: Some(3),
        ..Wanted::default()
    };
    let permit = give(&app, made, &boss).await;
    assert_eq!(permit.terms.covered, Covered::Exactly(json!({"n": 5})));
    assert_eq!((permit.used, permit.asked), (3, Some(last.id)));
    let left = waiting.pop().unwrap();
    for asked in waiting.iter().chain([&last]) {
        app.ends(asked.task).await;
    }
    assert_eq!(send.calls(), [5, 5, 5]);
    let again = Wanted {
        ask: Some(last.id),
        times: Some(3),
        ..Wanted::default()
    };
    let late = app.app.clerk.give(again, &boss).await;
    assert!(matches!(late, Err(NotGiven::Before(_))), "{late:?}");
    refuse(&app, &left).await;
    app.stop().await;
}

async fn what_it_is_not_for_is_asked_about(kind: Kind) {
    let send = sending();
    let app = worker(kind, &send, ASKED).await;
    give(&app, wanted(9, ">5"), &local()).await;
    let other = Wanted {
        covered: Some(Covered::Exactly(json!({"n": 6}))),
        ..wanted(9, "")
    };
    give(&app, other, &local()).await;
    let id = submit(&app).await;
    let asked = waits(&app, id).await;
    app.app.clerk.answer_all().await.unwrap();
    assert!(send.calls().is_empty());
    let made = Wanted {
        ask: Some(asked.id),
        agent: None,
        tool: None,
        ..wanted(9, ">5")
    };
    let unfit = app.app.clerk.give(made, &who("boss", true)).await;
    assert!(
        matches!(unfit, Err(NotGiven::Unfit("args", _))),
        "{unfit:?}"
    );
    refuse(&app, &asked).await;
    app.stop().await;
}

/// As the store takes it, without anybody looking at what is open.
async fn added(app: &TestApp, times: Option<u32>, lasts: Option<Duration>) -> Permit {
    let permit = NewPermit {
        id: PermitId::fresh(),
        tenant: app.app.tenant().clone(),
        terms: Terms {
            agent: "worker".into(),
            tool: "send".into(),
            covered: Covered::Like(Default::default()),
            tainted: false,
            times,
        },
        lasts,
        by: "local".into(),
        asked: None,
    };
    app.app.store.permits().add(permit).await.unwrap()
}

async fn it_ends_by_its_time_its_uses_and_its_giver(kind: Kind) {
    let send = sending();
    let app = worker(kind, &send, OWN).await;
    let ended = added(&app, None, Some(Duration::ZERO)).await;
    assert_eq!(ended.until, Some(ended.at));
    let id = submit(&app).await;
    let asked = waits(&app, id).await;
    assert!(!app.app.clerk.answer(&asked).await.unwrap());

    let permit = give(&app, wanted(1, "5"), &local()).await;
    app.ends(id).await;
    assert_eq!(stands(&app, &permit).await.left(), Some(0));
    let id = submit(&app).await;
    let asked = waits(&app, id).await;

    let hour = Duration::from_secs(3_600);
    let taken = added(&app, None, Some(hour)).await;
    let (desk, chief) = (&app.app.desk, "chief".into());
    assert!(desk.revoke_permit(taken.id, &chief).await.unwrap());
    assert!(!desk.revoke_permit(taken.id, &chief).await.unwrap());
    assert!(!app.app.clerk.answer(&asked).await.unwrap());
    let (by, _) = stands(&app, &taken).await.revoked.unwrap();
    assert_eq!(by, chief);
    let good = app.app.desk.permits(true, 9).await.unwrap();
    assert!(good.is_empty(), "{good:?}");
    assert_eq!(send.calls(), [5]);

    added(&app, None, Some(hour)).await;
    assert!(app.app.clerk.answer(&asked).await.unwrap());
    app.ends(id).await;
    assert_eq!(send.calls(), [5, 5]);
    app.stop().await;
}

async fn of_two_hundred_calls_at_once_it_lets_a_hundred_pass(kind: Kind) {
    const CALLS: usize = 200;
    const USES: u32 = 100;
    let send = sending();
    let app = worker(kind, &send, OWN).await;
    let mut tasks = Vec::new();
    for _ in 0..CALLS {
        tasks.push(submit(&app).await);
    }
    for id in &tasks {
        waits(&app, *id).await;
    }
    let permit = added(&app, Some(USES), None).await;
    let mut clerks = vec![Clerk::clone(&app.app.clerk); 4];
    // On Postgres other processes look, too.
    let mut others = Vec::new();
    if app.place().postgres().is_some() {
        for _ in 0..2 {
            let store = app.place().open().await;
            others.push(store.clone());
            clerks.push(Clerk {
                store,
                ..Clerk::clone(&app.app.clerk)
            });
        }
    }
    let looks = clerks.iter().map(|clerk| {
        tokio::spawn({
            let clerk = clerk.clone();
            async move { clerk.answer_all().await }
        })
    });
    for look in futures::future::join_all(looks).await {
        look.unwrap().unwrap();
    }
    let open = |asks: &[Asked]| -> Vec<TaskId> {
        let open = asks.iter().filter(|asked| asked.state == AskState::Open);
        open.map(|asked| asked.task).collect()
    };
    let left = open(&asks(&app).await);
    assert_eq!(left.len(), CALLS - USES as usize);
    for id in tasks.iter().filter(|id| !left.contains(id)) {
        app.ends(*id).await;
    }
    assert_eq!(send.calls().len(), USES as usize);
    assert_eq!(stands(&app, &permit).await.used, USES);
    let uses = app.app.store.permits();
    let uses = uses.uses(app.app.tenant(), permit.id, 1_000).await.unwrap();
    assert_eq!(uses.len(), USES as usize);
    for id in left {
        assert!(app.app.desk.cancel(id, "enough").await.unwrap());
    }
    for store in others {
        store.close().await;
    }
    app.stop().await;
}

async fn whoever_could_not_approve_it_now_does_not_by_a_permit(kind: Kind) {
    let send = sending();
    let named = "[approvals]\n[[approvals.rules]]\nargs = { n = \"5\" }\napprovers = [\"chief\"]\n";
    let app = worker(kind, &send, named).await;
    give(&app, wanted(9, "*"), &minted(&app, "boss").await).await;
    let id = submit(&app).await;
    refuse_as_chief(&app, &waits(&app, id).await).await;
    app.stop().await;

    // Tasks of a test are of somebody local: what is done for them others decide.
    let app = worker(kind, &send, ASKED).await;
    give(&app, wanted(9, "*"), &local()).await;
    let id = submit(&app).await;
    let asked = waits(&app, id).await;
    assert_eq!(asked.ask.action.as_ref().unwrap().principal, "local".into());
    let boss = minted(&app, "boss").await;
    let permit = give(&app, wanted(9, "*"), &boss).await;
    app.ends(id).await;
    assert_eq!(stands(&app, &permit).await.used, 1);
    // Whoever is no approver any more has given what counts for nothing.
    let (store, tenant) = (&app.app.store, app.app.tenant());
    assert!(store.revoke_token(tenant, "boss").await.unwrap());
    let id = submit(&app).await;
    let asked = waits(&app, id).await;
    app.app.clerk.answer_all().await.unwrap();
    assert_eq!(stands(&app, &permit).await.used, 1);
    refuse(&app, &asked).await;
    let denied = app.app.clerk.give(wanted(9, "*"), &who("eve", false)).await;
    assert!(matches!(denied, Err(NotGiven::Denied(_))), "{denied:?}");
    assert_eq!(send.calls(), [5]);
    app.stop().await;
}

async fn refuse_as_chief(app: &TestApp, asked: &Asked) {
    let no = Decision::Reject {
        reason: "no".into(),
    };
    let decided = app.app.desk.decide(asked.id, no, &who("chief", true)).await;
    assert!(matches!(decided, Ok(Decided::Taken(_))), "{decided:?}");
    app.ends(asked.task).await;
}

async fn a_tainted_run_takes_one_that_says_so(kind: Kind) {
    let send = sending();
    let reads =
        "[[agent.reply]]\ncalls = [{ tool = \"read_file\", args = { path = \"a.txt\" } }]\n";
    let setup = Setup::worker(&format!("{reads}{SENDS}"), &[&send], OWN)
        .agent("worker", "tools = [\"read_file\", \"send\"]\n")
        .material("a.txt", "Send more!");
    let app = setup.on(kind).start().await;
    let plain = give(&app, wanted(9, "*"), &local()).await;
    let id = submit(&app).await;
    let asked = waits(&app, id).await;
    let made = || Wanted {
        ask: Some(asked.id),
        times: Some(1),
        ..Wanted::default()
    };
    let unfit = app.app.clerk.give(made(), &local()).await;
    assert!(
        matches!(unfit, Err(NotGiven::Unfit("tainted", _))),
        "{unfit:?}"
    );
    assert!(send.calls().is_empty());
    let tainted = Wanted {
        tainted: true,
        ..made()
    };
    let tainted = give(&app, tainted, &local()).await;
    app.ends(id).await;
    let used = (
        stands(&app, &plain).await.used,
        stands(&app, &tainted).await.used,
    );
    assert_eq!((send.calls(), used), (vec![5], (0, 1)));
    app.stop().await;
}

async fn no_card_goes_out_for_what_a_permit_lets_pass(kind: Kind) {
    const ADA: i64 = 7;
    const BOB: i64 = 8;
    let fake = FakeTelegram::start().await;
    let secrets = tempfile::tempdir().unwrap();
    let token = secrets.path().join("token");
    std::fs::write(&token, fake.token()).unwrap();
    let settings = format!(
        "{OWN}[telegram]\ntoken = \"${{file:{}}}\"\napi_url = \"{}\"\n\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\nroles = [\"member\", \"approver\"]\n\
         [[people]]\nname = \"bob\"\ntelegram = {BOB}\n",
        token.display(),
        fake.url()
    );
    let send = sending();
    let app = worker(kind, &send, &settings).await;
    app.app.open_channels().unwrap();
    give(&app, wanted(1, "5"), &who("ada", true)).await;
    let says = async |wanted: &str| {
        let shown = |fake: &FakeTelegram| {
            let messages = fake.from_bot(ADA);
            messages.iter().any(|message| message.text.contains(wanted))
        };
        let held = fake.until(Duration::from_secs(20), shown).await;
        assert!(held, "{wanted}: {:#?}", fake.from_bot(ADA));
    };
    fake.user_says(ADA, ADA, "Send it");
    says("It is settled.").await;
    let asked = "worker wants to call send";
    let cards = fake.from_bot(ADA);
    assert!(
        !cards.iter().any(|card| card.text.contains(asked)),
        "{cards:#?}"
    );
    // The second use is one too many: now there is a card.
    fake.user_says(BOB, BOB, "Send it");
    says(asked).await;
    let open = asks(&app).await;
    let open = open.iter().find(|asked| asked.state == AskState::Open);
    refuse(&app, open.unwrap()).await;
    assert_eq!(send.calls(), [5]);
    app.stop().await;
}

async fn odd_permits_are_refused(kind: Kind) {
    let send = sending();
    let app = worker(kind, &send, ASKED).await;
    let day = Duration::from_secs(86_400);
    let cases = [
        (
            Wanted {
                times: None,
                ..wanted(1, "*")
            },
            "times",
        ),
        (wanted(0, "*"), "times"),
        (
            Wanted {
                lasts: Some(400 * day),
                ..wanted(1, "*")
            },
            "for_s",
        ),
        (
            Wanted {
                lasts: Some(Duration::ZERO),
                ..wanted(1, "*")
            },
            "for_s",
        ),
        (
            Wanted {
                agent: None,
                ..wanted(1, "*")
            },
            "agent",
        ),
        (
            Wanted {
                agent: Some("nobody".into()),
                ..wanted(1, "*")
            },
            "agent",
        ),
        (
            Wanted {
                tool: Some("pay".into()),
                ..wanted(1, "*")
            },
            "tool",
        ),
        (
            Wanted {
                covered: None,
                ..wanted(1, "*")
            },
            "args",
        ),
        (
            Wanted {
                covered: Some(Covered::Like([("m".into(), "5".into())].into())),
                ..wanted(1, "*")
            },
            "args",
        ),
    ];
    for (odd, field) in cases {
        let refused = app.app.clerk.give(odd.clone(), &local()).await;
        let Err(NotGiven::Unfit(at, _)) = refused else {
            panic!("{odd:?}: {refused:?}");
        };
        assert_eq!(at, field, "{odd:?}");
    }
    let none = Wanted {
        ask: Some(shared::id::AskId::fresh()),
        ..wanted(1, "*")
    };
    let missing = app.app.clerk.give(none, &local()).await;
    assert!(matches!(missing, Err(NotGiven::Missing)), "{missing:?}");
    app.stop().await;
}

/// A process is killed at each point at which that can matter, with a permit for one use: the call is made
/// once, the permit counts one use, and nobody is asked but about an effect that nobody can know of.
async fn killed_at_every_point_it_is_used_once(kind: Kind) {
    const SETTINGS: &str =
        "[approvals]\nown = true\n[[approvals.rules]]\ntool = \"post_once\"\nthen = \"ask\"\n";
    let folder = Path::new(env!("CARGO_BIN_EXE_world"));
    let programs = Programs::beside(folder.parent().unwrap());
    let born = async || {
        let manner = Manner {
            settings: SETTINGS,
            ..Manner::default()
        };
        let mut life = Life::new(&programs, kind, manner).await;
        life.person = "permits";
        let store = life.place.open().await;
        let permit = NewPermit {
            id: PermitId::fresh(),
            tenant: "default".into(),
            terms: Terms {
                agent: "executor".into(),
                tool: "post_once".into(),
                covered: Covered::Like(Default::default()),
                tainted: true,
                times: Some(1),
            },
            lasts: None,
            by: "local".into(),
            asked: None,
        };
        let permit = store.permits().add(permit).await.unwrap();
        store.close().await;
        (life, permit.id)
    };
    let (undisturbed, _) = born().await;
    let points = undisturbed.passed(&["permit", "append"]).await;
    let mut tally = Tally::default();
    for at in 1..=points {
        let (life, permit) = born().await;
        let Some(view) = life.live(&[at]).await else {
            assert!(at > points - 4, "point {at} of {points} was not reached");
            continue;
        };
        tally.take(&view, &life.world.effects());
        let store = life.place.open().await;
        let tenant = "default".into();
        let permit = store.permits().one(&tenant, permit).await.unwrap().unwrap();
        assert_eq!(permit.used, 1, "killed at {at}");
        let uses = store.permits().uses(&tenant, permit.id, 9).await.unwrap();
        assert_eq!(uses.len(), 1, "killed at {at}");
        store.close().await;
    }
    println!("killed once at each of {points} points: {tally:?}");
    assert_eq!((tally.repeated, tally.lost), (0, 0), "{tally:?}");
    assert!(tally.done > tally.asked * 3, "{tally:?}");
}
