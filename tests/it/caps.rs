//! Accounts at their limits: what people are asked then, who may raise a limit, for how long, and how the
//! work goes on.

use std::sync::Arc;
use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::TestTool;
use majordomo_tests::wait::within;
use serde_json::json;
use shared::ask::{AskKind, Asked, Decision};
use shared::budget::{Account, Period, Raise, Unit, Which};
use shared::config::Settings;
use shared::event::Event;
use shared::id::TaskId;
use shared::money::Usd;
use shared::run::{Effect, Outcome};
use shared::store::{AskFilter, Delivered, NewSignal, Raising};
use shared::task::TaskState;
use supervisor::asks::{Decided, Who};
use supervisor::budget;
use supervisor::people::directory::Directory;
use supervisor::unusual::Unusual;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

on_both_stores!(
    an_account_at_its_limit_is_asked_about_and_raised_for_the_day,
    one_word_lets_all_go_on_who_pay_from_the_same_account,
    a_raise_comes_with_its_answer_once_and_ends_with_its_day,
    a_limit_that_is_set_anew_is_what_it_says,
    more_for_a_piece_of_work_is_more_for_its_task,
    a_call_of_a_tool_that_an_account_refuses_is_made_once_there_is_more,
    who_is_not_given_more_hands_over_what_there_is,
    a_run_that_uses_far_more_than_usual_is_told_of_while_it_runs,
);

const HELPED: &str = "[escalation]\nwithin_h = 1\n[engine]\npark_after_s = 0.0\n";
const PRICE: &str = "price = { input = 1000.0, output = 1000.0 }\n";
/// A call that uses nearly all of $9.80, what sums it up, and how it ends once there is more.
const LOOKS: &str = "[[agent.reply]]\nuser = \"Stop here\"\ntimes = 1\ntext = \"So far: a trace.\"\n\
    [[agent.reply]]\ntimes = 1\ncalls = [{ tool = \"look\", args = { n = 1 } }]\n\
    usage = { tokens_in = 8000, tokens_out = 300 }\n\
    [[agent.reply]]\nuser = \"You may call tools again\"\ntext = \"All of it.\"\n";
const PATIENCE: Duration = Duration::from_secs(20);

fn who(approves: bool, keeps_budgets: bool) -> Who {
    Who {
        principal: "boss".into(),
        approves,
        keeps_budgets,
    }
}

/// What waits for people, once it is so many asks.
async fn waiting(app: &TestApp, count: usize) -> Vec<Asked> {
    let filter = AskFilter {
        open: true,
        limit: 99,
        ..AskFilter::default()
    };
    let all = within(PATIENCE, async || {
        let found = app.app.desk.asks(&who(true, true), &filter).await.unwrap();
        (found.len() == count).then_some(found)
    });
    all.await.unwrap_or_else(|| panic!("{count} asks are open"))
}

async fn decide(app: &TestApp, asked: &Asked, decision: Decision, who: &Who) -> Decided {
    let decided = app.app.desk.decide(asked.id, decision, who).await;
    decided.unwrap()
}

const MORE: Decision = Decision::More { usd: None };

fn more(usd: f64) -> Decision {
    Decision::More {
        usd: Some(Usd::from_dollars(usd)),
    }
}

async fn raises(app: &TestApp) -> Vec<Raise> {
    let budgets = app.app.store.budgets();
    budgets.raises(app.app.tenant()).await.unwrap()
}

/// The limit of a user's dollars in a day, as people see it.
async fn limit(app: &TestApp) -> i64 {
    let lines = budget::lines(&*app.app.store, app.app.tenant()).await;
    let line = lines.unwrap().into_iter();
    let mut line = line.filter(|line| line.which == daily());
    line.next().unwrap().limit.unwrap()
}

fn daily() -> Which {
    Which {
        account: Account::User("local".into()),
        period: Period::Day,
        unit: Unit::Usd,
    }
}

fn dollars(usd: f64) -> i64 {
    Usd::from_dollars(usd).nano()
}

/// An agent that looks once, and comes to the limit of $9.80 a day with its second call.
fn looking() -> (Setup, Arc<TestTool>) {
    let look = TestTool::reads("look");
    let settings =
        format!("[limits]\nusd = 50.0\n[budget.each_user]\nday = {{ usd = 9.8 }}\n{HELPED}");
    let setup = Setup::worker_priced(PRICE, LOOKS, &[&look], &settings)
        .and("agents/worker.toml", "[limits]\nmax_tokens = 1000\n");
    (setup, look)
}

async fn at_its_limit(app: &TestApp) -> (TaskId, Asked) {
    let id = app.submit(TestApp::request("Look")).await;
    let found = waiting(app, 1).await.remove(0);
    (id, found)
}

/// Waits until a task has done all of it.
async fn done(app: &TestApp, id: TaskId) {
    let ended = within(PATIENCE, async || {
        let task = app.task(id).await;
        task.state.is_final().then_some(task)
    });
    let Some(task) = ended.await else {
        panic!("it does not end: {:#?}", app.events(id).await)
    };
    assert_eq!(
        (task.state, task.answer.as_deref()),
        (TaskState::Done, Some("All of it.")),
        "{task:?}"
    );
}

async fn an_account_at_its_limit_is_asked_about_and_raised_for_the_day(kind: Kind) {
    let (setup, look) = looking();
    let app = setup.on(kind).start().await;
    let (id, found) = at_its_limit(&app).await;
    assert_eq!(found.ask.kind, AskKind::Limit);
    let (title, text) = (&found.ask.title, &found.ask.text);
    assert!(
        title.contains("local has spent $8.") && title.contains(" of $9.80 this day"),
        "{title}"
    );
    assert!(title.ends_with("add $9.80?"), "{title}");
    assert!(
        text.contains("Here is what I have:\nSo far: a trace."),
        "{text}"
    );
    assert_eq!(found.ask.cause.as_deref(), Some("budget/user:local/day"));

    let denied = decide(&app, &found, MORE, &who(true, false)).await;
    let Decided::Denied(why) = denied else {
        panic!("an approver is no admin: {denied:?}")
    };
    assert!(why.contains("an admin decides it"), "{why}");
    assert_eq!(raises(&app).await, []);
    let unfit = decide(&app, &found, more(0.0), &who(true, true)).await;
    assert!(matches!(unfit, Decided::Unfit(_)), "{unfit:?}");

    let taken = decide(&app, &found, MORE, &who(true, true)).await;
    assert!(matches!(taken, Decided::Taken(_)), "{taken:?}");
    let again = decide(&app, &found, MORE, &who(true, true)).await;
    assert!(matches!(again, Decided::Before(_)), "{again:?}");
    done(&app, id).await;
    assert_eq!(look.calls(), vec![1]);

    let raised = raises(&app).await;
    assert_eq!(raised.len(), 1, "{raised:?}");
    let raise = &raised[0];
    assert_eq!((&raise.which, raise.amount), (&daily(), dollars(9.8)));
    assert_eq!((raise.by.as_str(), raise.ask), ("boss", found.id));
    assert_eq!(limit(&app).await, dollars(19.6));
    let told = app.events(id).await;
    let tells = |event: &Event| {
        matches!(event, Event::Decided { what, reason }
            if what.contains("$9.80 a day of user:local is raised") && reason.contains("boss added $9.80"))
    };
    assert!(told.iter().any(tells), "{told:#?}");

    // The refused call, the summary, and the call again.
    let thinks = app.counted(id).await.into_iter();
    let thinks = thinks.filter(|step| step.key.as_str().starts_with("think/"));
    let went = thinks.map(|step| {
        let outcome = step.recorded.unwrap().outcome;
        (step.key.to_string(), matches!(outcome, Outcome::Done(_)))
    });
    let expected = [
        ("think/1", true),
        ("think/2", false),
        ("think/3", true),
        ("think/4", true),
    ];
    let expected = expected.map(|(key, is_done)| (key.to_owned(), is_done));
    assert_eq!(went.collect::<Vec<_>>(), expected);
    app.stop().await;
}

async fn one_word_lets_all_go_on_who_pay_from_the_same_account(kind: Kind) {
    const ALL: usize = 50;
    let script = "[[agent.reply]]\ntext = \"All of it.\"\n";
    let settings =
        format!("[limits]\nusd = 50.0\n[budget.each_user]\nday = {{ usd = 0.0 }}\n{HELPED}");
    let app = Setup::worker_priced(PRICE, script, &[], &settings)
        .and("agents/worker.toml", "[limits]\nmax_tokens = 1000\n")
        .on(kind)
        .start()
        .await;
    let mut tasks = Vec::new();
    for n in 0..ALL {
        tasks.push(app.submit(TestApp::request(&format!("Look {n}"))).await);
    }
    let asks = waiting(&app, ALL).await;
    let same = |asked: &Asked| asked.ask.cause.as_deref() == Some("budget/user:local/day");
    assert!(asks.iter().all(same), "{asks:#?}");
    let taken = decide(&app, &asks[7], more(500.0), &who(true, true)).await;
    assert!(matches!(taken, Decided::Taken(_)), "{taken:?}");
    for id in tasks {
        done(&app, id).await;
    }
    assert_eq!(raises(&app).await.len(), 1);
    assert_eq!(limit(&app).await, dollars(500.0));
    app.stop().await;
}

async fn a_raise_comes_with_its_answer_once_and_ends_with_its_day(kind: Kind) {
    let (setup, _) = looking();
    let app = setup.on(kind).start().await;
    let (id, found) = at_its_limit(&app).await;
    let budgets = app.app.store.budgets();
    let word = |name: &str| {
        let signal = NewSignal {
            tenant: app.app.tenant().clone(),
            run: found.run,
            name: name.into(),
            payload: json!({"decision": "more", "by": "boss"}),
            by: "boss".into(),
        };
        let raising = Raising {
            limits: vec![(daily(), dollars(20.0))],
            cause: None,
        };
        budgets.raise(signal, raising)
    };
    // For nobody who waits nothing is raised.
    assert_eq!(word("help/7").await.unwrap(), Delivered::Unwanted);
    assert_eq!(raises(&app).await, []);
    let name = found.name.as_str();
    assert_eq!(word(name).await.unwrap(), Delivered::First);
    assert_eq!(word(name).await.unwrap(), Delivered::Answered);
    assert_eq!(raises(&app).await.len(), 1);
    done(&app, id).await;
    assert_eq!(limit(&app).await, dollars(29.8));

    app.place().change("extra set time = time - 1").await;
    assert_eq!(raises(&app).await, []);
    assert_eq!(limit(&app).await, dollars(9.8));
    // What was spent is more than the limit is now, for the store that admits calls, too.
    let next = app.submit(TestApp::request("Look")).await;
    waiting(&app, 1).await;
    assert_eq!(app.task(next).await.state, TaskState::AwaitingHuman);
    app.stop().await;
}

async fn a_limit_that_is_set_anew_is_what_it_says(kind: Kind) {
    let (setup, _) = looking();
    let app = setup.on(kind).start().await;
    let (id, found) = at_its_limit(&app).await;
    decide(&app, &found, more(20.0), &who(true, true)).await;
    done(&app, id).await;
    assert_eq!(limit(&app).await, dollars(29.8));
    let set = async |text: &str| {
        let (store, tenant) = (&*app.app.store, app.app.tenant());
        let set = budget::set(store, tenant, ("user:local", text), &"ops".into()).await;
        set.unwrap();
    };
    set("7/day").await;
    assert_eq!(
        (limit(&app).await, raises(&app).await),
        (dollars(7.0), vec![])
    );
    set("configured/day").await;
    assert_eq!(limit(&app).await, dollars(9.8));
    app.stop().await;
}

/// The task's own account stands at what the work was given at first: it grows in the same commit.
async fn more_for_a_piece_of_work_is_more_for_its_task(kind: Kind) {
    let look = TestTool::reads("look");
    let settings = format!("[limits]\nusd = 11.0\n{HELPED}");
    let app = Setup::worker_priced(PRICE, LOOKS, &[&look], &settings)
        .and("agents/worker.toml", "[limits]\nmax_tokens = 1500\n")
        .on(kind)
        .start()
        .await;
    let (id, found) = at_its_limit(&app).await;
    let (title, text) = (&found.ask.title, &found.ask.text);
    assert!(title.contains("limit of $11.00: spent $8."), "{title}");
    assert!(title.contains("add $11.00 and "), "{title}");
    assert!(text.contains("So far: a trace."), "{text}");
    assert_eq!(found.ask.cause, None, "it holds up nobody else");
    // It is no account that others pay from.
    let taken = decide(&app, &found, MORE, &who(true, false)).await;
    assert!(matches!(taken, Decided::Taken(_)), "{taken:?}");
    done(&app, id).await;
    assert_eq!(waiting(&app, 0).await, []);
    app.stop().await;
}

async fn a_call_of_a_tool_that_an_account_refuses_is_made_once_there_is_more(kind: Kind) {
    let dear = TestTool::new("dear", Effect::Pure, |_| async { Ok("found".into()) });
    let dear = Arc::new(dear.price(4.0));
    let script = "[[agent.reply]]\ntimes = 1\n\
        calls = [{ tool = \"dear\", args = { n = 1 } }, { tool = \"dear\", args = { n = 2 } }]\n\
        [[agent.reply]]\ntext = \"All of it.\"\n";
    let settings =
        format!("[limits]\nusd = 50.0\n[budget.each_user]\nday = {{ usd = 6.0 }}\n{HELPED}");
    let app = Setup::worker(script, &[&dear], &settings)
        .on(kind)
        .start()
        .await;
    let (id, found) = at_its_limit(&app).await;
    assert!(found.ask.title.contains("this day"), "{}", found.ask.title);
    assert_eq!(dear.calls().len(), 1, "the other one did not fit");
    let taken = decide(&app, &found, MORE, &who(true, true)).await;
    assert!(matches!(taken, Decided::Taken(_)), "{taken:?}");
    done(&app, id).await;
    let mut calls = dear.calls();
    calls.sort_unstable();
    assert_eq!(calls, vec![1, 2], "each once");
    assert_eq!(app.told(), ["found", "found"]);
    app.stop().await;
}

async fn who_is_not_given_more_hands_over_what_there_is(kind: Kind) {
    let (setup, _) = looking();
    let app = setup.on(kind).start().await;
    let (id, found) = at_its_limit(&app).await;
    decide(&app, &found, Decision::GiveUp, &who(true, true)).await;
    let task = app.ends(id).await;
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(task.partial.as_deref(), Some("So far: a trace."));
    let error = task.error.unwrap();
    assert!(error.contains("$9.80 a day of user:local"), "{error}");
    assert!(task.usage.usd <= Usd::from_dollars(9.8));
    assert_eq!(raises(&app).await, []);
    app.stop().await;
}

async fn a_run_that_uses_far_more_than_usual_is_told_of_while_it_runs(kind: Kind) {
    let (open, gate) = watch::channel(false);
    let look = TestTool::new("look", Effect::Pure, move |called| {
        let mut gate = gate.clone();
        async move {
            if called.n == 9 {
                let _ = gate.wait_for(|open| *open).await;
            }
            Ok(json!(format!("{} it is", called.n)))
        }
    });
    let look = Arc::new(look);
    let looks =
        |n| format!("[[agent.reply]]\ncalls = [{{ tool = \"look\", args = {{ n = {n} }} }}]\n");
    let script = format!(
        "[[agent.reply]]\nuser = \"Quick\"\ntext = \"All of it.\"\n{}\
         [[agent.reply]]\ntext = \"All of it.\"\n",
        (1..=12).map(looks).collect::<String>()
    );
    let app = Setup::worker(&script, &[&look], "[limits]\nsteps = 60\n")
        .on(kind)
        .start()
        .await;
    let people: Settings = serde_json::from_value(json!({
        "people": [{ "name": "ada", "telegram": 7, "roles": ["admin"] }],
    }))
    .unwrap();
    let store = app.app.store.clone();
    let end = CancellationToken::new();
    let watching = || {
        let unusual = Unusual {
            store: store.clone(),
            tenant: app.app.tenant().clone(),
            people: Arc::new(Directory::new(&people, store.clone())),
            open: Arc::from(["telegram"]),
            times: 5.0,
        };
        tokio::spawn(unusual.work(end.clone()))
    };
    // Two processes say it once.
    let watchers = [watching(), watching()];
    for _ in 0..20 {
        let task = app.ask("Quick").await;
        assert_eq!(task.state, TaskState::Done);
    }
    let id = app.submit(TestApp::request("Look for long")).await;
    let alerts = async || {
        let events = app.events(id).await.into_iter();
        let texts = events.filter_map(|event| match event {
            Event::Alert { text, .. } => Some(text),
            _ => None,
        });
        texts.collect::<Vec<String>>()
    };
    let told = within(PATIENCE, async || alerts().await.pop()).await;
    let told = told.expect("it is told while it runs");
    assert!(told.contains("worker has used"), "{told}");
    assert!(told.contains("usual are $0.00 and 1 steps"), "{told}");
    open.send_replace(true);
    done(&app, id).await;
    assert_eq!(alerts().await.len(), 1, "once");
    let owed = within(PATIENCE, async || {
        let owed = store.mail().owed(app.app.tenant(), "telegram", 0, 9).await;
        Some(owed.unwrap()).filter(|owed| !owed.is_empty())
    });
    let owed = owed.await.expect("an admin is told");
    assert_eq!(owed.len(), 1, "{owed:?}");
    assert_eq!(owed[0].conversation, "7");
    end.cancel();
    for watcher in watchers {
        watcher.await.unwrap();
    }
    app.stop().await;
}
