//! What somebody tries who wants a call made that nobody let go: the same press a thousand times, a press
//! from elsewhere or by somebody else, a call that changes behind the approver's back. Each table ends with
//! the one right word, after which the call is made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::StatusCode;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use agents::tools::{Outbound, Tool, ToolCall, ToolInfo};
use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::post::{self, Outgoing};
use majordomo_tests::doubles::slack::sign;
use majordomo_tests::doubles::slack::{FakeSlack, Signing, TEAM};
use majordomo_tests::doubles::telegram::{FakeTelegram, Message, Person, Standing};
use majordomo_tests::engine::done;
use majordomo_tests::on_both_stores;
use majordomo_tests::place::{Kind, Place};
use shared::ask::{AskState, Asked, Decision, FileDigest, Preview};
use shared::hash::Hash;
use shared::id::TaskId;
use shared::money::Usd;
use shared::run::{Effect, Failure, Report};
use shared::store::AskFilter;
use shared::task::TaskState;
use supervisor::asks::{Decided, Who};
use supervisor::auth::LocalToken;
use supervisor::channels::http;

use super::chats::kept;

on_both_stores!(
    a_press_that_comes_a_thousand_times_is_one_word,
    an_interaction_that_comes_a_thousand_times_is_one_word,
    two_approvers_at_the_same_moment_make_one_decision,
    what_changed_after_it_was_shown_is_not_done,
    a_press_counts_only_where_its_card_stands_and_of_whom_it_is_for,
    what_a_chat_does_not_show_in_full_is_not_let_go_there,
);

const ADA: i64 = 7;
const BOSS: i64 = 9;
const EVE: i64 = 11;
const MAL: i64 = 13;
const TEAM_CHAT: i64 = -1005;
const OTHER_CHAT: i64 = -1006;
const PATIENCE: Duration = Duration::from_secs(30);
/// So often comes what comes again.
const TIMES: usize = 1000;
/// Requests that are under way together.
const TOGETHER: usize = 50;
const ASKED: &str = "[approvals]\nwithin_h = 1\n[engine]\npark_after_s = 0.0\n";
const YES: Decision = Decision::Approve { for_task: false };

/// A tool that sends something that cannot be taken back. What a call of it would reach changes when the
/// test says so, and so does its version.
struct Parcels {
    /// As it is, and newer.
    infos: [ToolInfo; 2],
    is_newer: AtomicBool,
    reaches: Mutex<Preview>,
    sent: Mutex<Vec<Value>>,
}

impl Parcels {
    fn new() -> Arc<Self> {
        let info = |version| ToolInfo {
            name: "send_parcel".into(),
            version,
            description: "Sends a parcel. Use it when the test says so; returns that it is sent."
                .into(),
            parameters: json!({
                "type": "object",
                "properties": {"what": {"type": "string", "description": "what to send"}},
                "required": ["what"],
                "additionalProperties": false,
            })
            .into(),
            effect: Effect::Once,
            outbound: Outbound::All,
            timeout_s: 20,
            price: Usd::ZERO,
        };
        Arc::new(Self {
            infos: [info(1), info(2)],
            is_newer: AtomicBool::new(false),
            reaches: Mutex::new(Preview {
                targets: vec!["to bob@example.org".into()],
                files: vec![file("report.md", "all is well")],
            }),
            sent: Mutex::default(),
        })
    }

    fn sent(&self) -> Vec<Value> {
        lock(&self.sent).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file(name: &str, text: &str) -> FileDigest {
    FileDigest {
        name: name.into(),
        sha256: Hash::of_bytes(text.as_bytes()),
        bytes: text.len() as u64,
    }
}

#[async_trait]
impl Tool for Parcels {
    fn info(&self) -> &ToolInfo {
        &self.infos[usize::from(self.is_newer.load(Ordering::SeqCst))]
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        lock(&self.sent).push(call.args["what"].clone());
        done(json!("sent"))
    }

    async fn preview(&self, _: ToolCall<'_>) -> Result<Preview, Failure> {
        Ok(lock(&self.reaches).clone())
    }
}

/// One worker, who sends this.
fn sending(what: &str, parcels: &Arc<Parcels>, more: &str) -> Setup {
    let replies = format!(
        "[[agent.reply]]\ntext = \"I send it.\"\n\
         calls = [{{ tool = \"send_parcel\", args = {{ what = \"{what}\" }} }}]\n\
         [[agent.reply]]\ntext = \"It is settled.\"\n"
    );
    Setup::worker(&replies, &[], &format!("{ASKED}{more}"))
        .agent("worker", "tools = [\"send_parcel\"]\n")
        .tool(parcels.clone())
}

fn boss() -> Who {
    Who {
        principal: "boss".into(),
        approves: true,
        keeps_budgets: false,
    }
}

/// The one approval that a task waits for.
async fn asked(app: &TestApp, task: TaskId) -> Asked {
    app.reaches(task, |task| task.state == TaskState::AwaitingHuman)
        .await;
    let filter = AskFilter {
        task: Some(task),
        limit: 9,
        ..AskFilter::default()
    };
    let mut found = app.app.desk.asks(&boss(), &filter).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Telegram's part of a configuration: ada asks and approves, boss approves, eve is a member.
fn telegram(fake: &FakeTelegram) -> String {
    format!(
        "[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\nroles = [\"member\", \"approver\"]\n\
         [[people]]\nname = \"boss\"\ntelegram = {BOSS}\nroles = [\"member\", \"approver\"]\n\
         [[people]]\nname = \"eve\"\ntelegram = {EVE}\n",
        kept(&fake.token()),
        fake.url()
    )
}

/// The card with buttons that says this.
async fn card(fake: &FakeTelegram, chat: i64, wanted: &str) -> Message {
    let found = |fake: &FakeTelegram| {
        let messages = fake.from_bot(chat).into_iter().rev();
        let mut open = messages.filter(|message| message.keyboard.is_some());
        open.find(|message| message.text.contains(wanted))
    };
    let held = fake.until(PATIENCE, |fake| found(fake).is_some()).await;
    assert!(held, "{wanted}: {:#?}", fake.from_bot(chat));
    found(fake).unwrap()
}

/// The data of a card's first button.
fn first_button(card: &Message) -> String {
    let keyboard = card.keyboard.as_ref().unwrap();
    keyboard[0][0]["callback_data"].as_str().unwrap().to_owned()
}

async fn hears(fake: &FakeTelegram, chat: i64, wanted: &str) {
    let says = |fake: &FakeTelegram| {
        let mut messages = fake.from_bot(chat).into_iter();
        messages.any(|message| message.text.contains(wanted))
    };
    let held = fake.until(PATIENCE, says).await;
    assert!(held, "{wanted}: {:#?}", fake.from_bot(chat));
}

/// Waits until all that came in is dealt with.
async fn dealt_with(fake: &FakeTelegram, app: &TestApp, chat: i64) {
    assert!(fake.until(PATIENCE, |fake| fake.pending().is_empty()).await);
    let chat = chat.to_string();
    majordomo_tests::wait::until("all is dealt with", PATIENCE, async || {
        let mail = app.app.store.mail();
        let open = mail.open_in(app.app.tenant(), "telegram", &chat, 1).await;
        open.unwrap().is_empty()
    })
    .await;
}

async fn a_press_that_comes_a_thousand_times_is_one_word(kind: Kind) {
    let (fake, parcels) = (FakeTelegram::start().await, Parcels::new());
    let setup = sending("a book", &parcels, &telegram(&fake));
    let app = setup.on(kind).start().await;
    app.app.open_channels().unwrap();
    fake.user_says(BOSS, BOSS, "/start");
    hears(&fake, BOSS, "Hello boss").await;
    fake.user_says(ADA, ADA, "Send it");
    let shown = card(&fake, BOSS, "send_parcel").await;
    // The same press under a thousand numbers, all of them there before any is heard.
    let press = fake.press(BOSS, shown.id, BOSS, &first_button(&shown));
    let again = json!({
        "id": press.id, "from": {"id": BOSS, "is_bot": false, "first_name": "Boss"},
        "message": {"message_id": shown.id, "date": 0, "chat": {"id": BOSS, "type": "private", "first_name": "Boss"}},
        "chat_instance": "1", "data": press.data,
    });
    for _ in 1..TIMES {
        fake.raw_update("callback_query", again.clone());
    }
    hears(&fake, ADA, "It is settled.").await;
    dealt_with(&fake, &app, BOSS).await;
    assert_eq!(parcels.sent(), ["a book"]);
    // And once more, one after the other, when another process listens.
    let app = app.down(Duration::ZERO).await.start().await;
    app.app.open_channels().unwrap();
    let update = press.update_id.unwrap();
    for _ in 0..TIMES {
        assert!(fake.redeliver(update));
        assert!(fake.until(PATIENCE, |fake| fake.pending().is_empty()).await);
    }
    fake.raw_update("callback_query", again);
    dealt_with(&fake, &app, BOSS).await;
    assert_eq!(parcels.sent(), ["a book"]);
    assert_eq!(words(&app).await, 1);
    app.stop().await;
}

/// How many asks somebody has decided.
async fn words(app: &TestApp) -> usize {
    let all = AskFilter {
        limit: 100,
        ..AskFilter::default()
    };
    let asked = app.app.desk.asks(&boss(), &all).await.unwrap();
    let decided = asked.iter().filter(|asked| asked.verdict.is_some());
    decided.count()
}

async fn an_interaction_that_comes_a_thousand_times_is_one_word(kind: Kind) {
    let (fake, parcels) = (FakeSlack::start().await, Parcels::new());
    let secrets = fake.settings();
    let slack = format!(
        "[slack]\nbot_token = \"{}\"\nsigning_secret = \"{}\"\napi_url = \"{}\"\n\
         [[people]]\nname = \"boss\"\nslack = \"{TEAM}/U1\"\nroles = [\"approver\"]\n",
        kept(&secrets.bot_token),
        kept(&secrets.signing_secret),
        fake.url()
    );
    let setup = sending("a book", &parcels, &slack);
    let app = setup.on(kind).start().await;
    let (url, closing) = served(&app).await;
    fake.set_target(&url);
    let task = app.submit(TestApp::request("Send it")).await;
    let direct = fake.im("U1");
    let is_card = |message: &majordomo_tests::doubles::slack::Message| {
        let mut blocks = message.blocks.iter().flatten();
        let buttons = blocks.find(|block| block["type"] == "actions")?;
        let action = buttons["elements"][0]["action_id"].as_str()?.to_owned();
        Some((message.ts.clone(), action))
    };
    let shown = |fake: &FakeSlack| fake.from_bot(&direct).iter().find_map(is_card);
    assert!(fake.until(PATIENCE, |fake| shown(fake).is_some()).await);
    let (ts, action) = shown(&fake).unwrap();
    let parcel = fake.press(&direct, &ts, "U1", &action);
    let payload = fake.parcel(parcel).payload.to_string();
    let body = serde_urlencoded::to_string([("payload", payload)]).unwrap();
    let again = |url: &str| {
        let now_s = shared::clock::now().0 / 1000;
        let secret = &secrets.signing_secret;
        let mut headers = sign::headers(Signing::Right, secret, now_s, body.as_bytes());
        headers.push((
            "Content-Type".into(),
            "application/x-www-form-urlencoded".into(),
        ));
        let outgoing = Outgoing {
            url: url.to_owned(),
            headers,
            body: Bytes::from(body.clone()),
        };
        async {
            let answer = post::post(outgoing, PATIENCE).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK);
        }
    };
    let presses = futures::stream::iter(0..TIMES).map(|_| again(&url));
    presses.buffer_unordered(TOGETHER).collect::<Vec<_>>().await;
    app.ends(task).await;
    assert_eq!(parcels.sent(), ["a book"]);
    closing.cancel();
    let app = app.down(Duration::ZERO).await.start().await;
    let (url, closing) = served(&app).await;
    for _ in 0..TIMES {
        again(&url).await;
    }
    let place = format!("{TEAM}/{direct}");
    majordomo_tests::wait::until("all is dealt with", PATIENCE, async || {
        let mail = app.app.store.mail();
        let open = mail.open_in(app.app.tenant(), "slack", &place, 1).await;
        open.unwrap().is_empty()
    })
    .await;
    assert_eq!(parcels.sent(), ["a book"]);
    assert_eq!(words(&app).await, 1);
    closing.cancel();
    app.stop().await;
}

/// Opens an instance's doors; where Slack calls, and what closes them.
async fn served(app: &TestApp) -> (String, CancellationToken) {
    app.app.open_channels().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/slack/events", listener.local_addr().unwrap());
    let (closing, token) = (CancellationToken::new(), LocalToken::fresh().unwrap());
    let serving = http::serve(app.app.clone(), listener, token, closing.clone());
    tokio::spawn(serving);
    (url, closing)
}

async fn two_approvers_at_the_same_moment_make_one_decision(kind: Kind) {
    let parcels = Parcels::new();
    let app = sending("a book", &parcels, "").on(kind).start().await;
    let mut sent = 0;
    for round in 0..20 {
        let task = app.submit(TestApp::request("Send it")).await;
        let found = asked(&app, task).await;
        let no = Decision::Reject {
            reason: "no".into(),
        };
        let word = |name: &str, decision| {
            let who = Who {
                principal: name.into(),
                approves: true,
                keeps_budgets: false,
            };
            let (desk, id) = (app.app.desk.clone(), found.id);
            tokio::spawn(async move { desk.decide(id, decision, &who).await.unwrap() })
        };
        // In turn, so that neither is always first.
        let (first, second) = match round % 2 {
            0 => (word("one", YES), word("two", no)),
            _ => (word("two", no), word("one", YES)),
        };
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        let is_taken = |decided: &Decided| matches!(decided, Decided::Taken(_));
        assert!(
            is_taken(&first) != is_taken(&second),
            "{first:?} {second:?}"
        );
        let verdict = asked_now(&app, &found).await.verdict.unwrap().0;
        app.ends(task).await;
        sent += usize::from(verdict.decision == YES);
        assert_eq!(parcels.sent().len(), sent, "as {verdict:?} says");
    }
    app.stop().await;
}

async fn asked_now(app: &TestApp, asked: &Asked) -> Asked {
    let found = app.app.desk.asked(&boss(), asked.id).await.unwrap();
    found.expect("it is there")
}

/// What is different when the word is given, or when the call is made.
type Change = fn(&Parcels);

async fn what_changed_after_it_was_shown_is_not_done(kind: Kind) {
    let table: [(&str, Change, &str, &str); 8] = [
        (
            "another target",
            |it| lock(&it.reaches).targets = vec!["to mal@example.org".into()],
            "",
            "not any more what was approved",
        ),
        (
            "one target more",
            |it| lock(&it.reaches).targets.push("to mal@example.org".into()),
            "",
            "not any more what was approved",
        ),
        (
            "other bytes of a file",
            |it| lock(&it.reaches).files = vec![file("report.md", "all is lost")],
            "",
            "not any more what was approved",
        ),
        (
            "one file more",
            |it| lock(&it.reaches).files.push(file("keys", "secret")),
            "",
            "not any more what was approved",
        ),
        (
            "another version of the tool",
            |it| it.is_newer.store(true, Ordering::SeqCst),
            "",
            "not any more what the task began with",
        ),
        (
            "other arguments in what people are shown",
            |_| {},
            "a book",
            "",
        ),
        ("the tool of another name", |_| {}, "send_parcel", ""),
        ("nothing", |_| {}, "", ""),
    ];
    for (what, change, shown, told) in table {
        let parcels = Parcels::new();
        let app = sending("a book", &parcels, "").on(kind).start().await;
        let task = app.submit(TestApp::request("Send it")).await;
        let found = asked(&app, task).await;
        change(&parcels);
        // Also what another process finds that goes on with it.
        let app = app.down(Duration::ZERO).await.start().await;
        if !shown.is_empty() {
            tamper(app.place(), shown).await;
        }
        let decided = app.app.desk.decide(found.id, YES, &boss()).await.unwrap();
        assert!(matches!(decided, Decided::Taken(_)), "{what}: {decided:?}");
        app.ends(task).await;
        if what == "nothing" {
            assert_eq!(parcels.sent(), ["a book"]);
        } else {
            assert_eq!(parcels.sent(), [""; 0], "{what}");
            let heard = app.told().join("\n");
            assert!(
                heard.contains("not done") && heard.contains(told),
                "{what}: {heard}"
            );
        }
        app.stop().await;
    }
}

/// Somebody changes a word of what people are shown, in the database itself.
async fn tamper(place: &Place, word: &str) {
    let change = format!("body = replace(cast(body as text), '{word}', 'a bomb')");
    match place.postgres() {
        Some(database) => {
            let change = change.replace("= replace(", "= (replace(") + ")::json";
            database
                .run(&format!("update majordomo.ask set {change}"))
                .await;
        }
        None => {
            let store = rusqlite::Connection::open(place.path().join("data/majordomo.db")).unwrap();
            store.busy_timeout(PATIENCE).unwrap();
            store
                .execute(&format!("update ask set {change}"), [])
                .unwrap();
        }
    }
}

async fn a_press_counts_only_where_its_card_stands_and_of_whom_it_is_for(kind: Kind) {
    let (fake, parcels) = (FakeTelegram::start().await, Parcels::new());
    for chat in [TEAM_CHAT, OTHER_CHAT] {
        fake.add_group(chat, "Team");
        for person in [ADA, BOSS, EVE, MAL] {
            fake.set_standing(chat, person, Standing::Member);
        }
    }
    let named = |id: i64, username: &str| Person {
        username: Some(username.to_owned()),
        ..Person::unknown(id)
    };
    fake.set_person(named(BOSS, "boss"));
    // Each task is on its own.
    let alone = telegram(&fake) + "[conversations]\nturns = 0\n";
    let setup = sending("a book", &parcels, &alone);
    let app = setup.on(kind).start().await;
    app.app.open_channels().unwrap();
    for (person, hello) in [(BOSS, "Hello boss"), (EVE, "Hello eve")] {
        fake.user_says(person, person, "/start");
        hears(&fake, person, hello).await;
    }
    // One that is decided, and one that waits.
    fake.mentions(TEAM_CHAT, ADA, "Send it");
    let former = card(&fake, TEAM_CHAT, "send_parcel").await;
    let spent = first_button(&former);
    let no = spent.replace(":yes:", ":no:");
    fake.press(TEAM_CHAT, former.id, BOSS, &no);
    hears(&fake, TEAM_CHAT, "Rejected by boss").await;
    hears(&fake, TEAM_CHAT, "It is settled.").await;
    fake.mentions(TEAM_CHAT, ADA, "Send it");
    let open = card(&fake, TEAM_CHAT, "send_parcel").await;
    let yes = first_button(&open);
    assert_ne!(spent, yes);
    let id: shared::id::AskId = yes.rsplit(':').next().unwrap().parse().unwrap();
    // The approver's name is somebody else's now.
    fake.set_person(named(BOSS, "the_boss"));
    fake.set_person(named(MAL, "boss"));
    let fresh = shared::id::AskId(uuid::Uuid::now_v7());
    let made_up = format!("a:yes:{fresh}");
    let elsewhere = "This belongs to another conversation.";
    let attempts: [(&str, (i64, i64), &str, &str); 12] = [
        ("by a stranger", (TEAM_CHAT, MAL), &yes, ""),
        ("by a stranger in private", (MAL, MAL), &yes, ""),
        (
            "by a member",
            (TEAM_CHAT, EVE),
            &yes,
            "not for you to decide",
        ),
        ("by a member in private", (EVE, EVE), &yes, elsewhere),
        (
            "by whom it is done for",
            (TEAM_CHAT, ADA),
            &yes,
            "somebody else decides it",
        ),
        (
            "by an approver in another chat",
            (OTHER_CHAT, BOSS),
            &yes,
            elsewhere,
        ),
        (
            "of the one before",
            (TEAM_CHAT, BOSS),
            &spent,
            "Decided before",
        ),
        (
            "of one that nobody asked",
            (TEAM_CHAT, BOSS),
            &made_up,
            elsewhere,
        ),
        (
            "of another kind",
            (TEAM_CHAT, BOSS),
            &yes.replace(":yes:", ":again:"),
            "cannot be taken",
        ),
        (
            "of a choice",
            (TEAM_CHAT, BOSS),
            &yes.replace(":yes:", ":0:"),
            "says nothing to it",
        ),
        ("of half a word", (TEAM_CHAT, BOSS), &yes[..20], ""),
        ("of nothing", (TEAM_CHAT, BOSS), "", ""),
    ];
    for (what, (chat, person), data, told) in attempts {
        let press = fake.press_anyway(chat, open.id, person, data);
        dealt_with(&fake, &app, chat).await;
        let answer = |fake: &FakeTelegram| {
            let mut presses = fake.presses().into_iter();
            presses.find(|it| it.id == press.id)?.answer
        };
        if !told.is_empty() {
            assert!(
                fake.until(PATIENCE, |fake| answer(fake).is_some()).await,
                "{what}"
            );
        }
        let heard = answer(&fake).unwrap_or_default();
        assert!(heard.contains(told), "{what}: {heard}");
        let now = app.app.desk.asked(&boss(), id).await.unwrap().unwrap();
        assert_eq!(now.state, AskState::Open, "{what}: {heard}");
        assert_eq!(parcels.sent(), [""; 0], "{what}");
    }
    fake.press(TEAM_CHAT, open.id, BOSS, &yes);
    hears(&fake, TEAM_CHAT, "Approved by boss").await;
    app.ends(asked_task(&app, id).await).await;
    assert_eq!(parcels.sent(), ["a book"]);
    app.stop().await;
}

async fn asked_task(app: &TestApp, id: shared::id::AskId) -> TaskId {
    app.app.desk.asked(&boss(), id).await.unwrap().unwrap().task
}

async fn what_a_chat_does_not_show_in_full_is_not_let_go_there(kind: Kind) {
    let (fake, parcels) = (FakeTelegram::start().await, Parcels::new());
    let long = "x".repeat(8_000);
    let setup = sending(&long, &parcels, &telegram(&fake));
    let app = setup.on(kind).start().await;
    app.app.open_channels().unwrap();
    fake.user_says(BOSS, BOSS, "/start");
    hears(&fake, BOSS, "Hello boss").await;
    fake.user_says(ADA, ADA, "Send it");
    let shown = card(&fake, BOSS, "too long to be shown here").await;
    let no = first_button(&shown);
    assert!(no.starts_with("a:no:"), "{no}");
    for word in ["yes", "all"] {
        let data = no.replace(":no:", &format!(":{word}:"));
        let press = fake.press_anyway(BOSS, shown.id, BOSS, &data);
        let answered = |fake: &FakeTelegram| {
            let mut presses = fake.presses().into_iter();
            let press = presses.find(|it| it.id == press.id);
            press
                .and_then(|it| it.answer)
                .is_some_and(|answer| answer.contains("not let go from here"))
        };
        assert!(fake.until(PATIENCE, answered).await, "{:?}", fake.presses());
    }
    assert_eq!(parcels.sent(), [""; 0]);
    let id: shared::id::AskId = no.rsplit(':').next().unwrap().parse().unwrap();
    let decided = app.app.desk.decide(id, YES, &boss()).await.unwrap();
    assert!(matches!(decided, Decided::Taken(_)), "where it is shown");
    app.ends(asked_task(&app, id).await).await;
    assert_eq!(parcels.sent(), [json!(long)]);
    app.stop().await;
}
