//! Trying channels out, and having them deliver what they could not.

use std::time::Duration;

use axum::body::Bytes;
use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::post::{self, Outgoing};
use majordomo_tests::doubles::slack::{FakeSlack, TEAM};
use majordomo_tests::doubles::telegram::{Access, FakeTelegram};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::wait;
use supervisor::channels::board::{self, TestError};
use supervisor::doctor::{Finding, Level};
use supervisor::wire::{ChannelState, ChannelView};

use super::chats::kept;

on_both_stores!(
    a_channel_that_works_says_so_and_writes_to_its_admins,
    a_wrong_token_is_told_with_what_to_do,
    a_missing_scope_is_told_by_its_name,
    whoever_else_reads_the_bots_messages_is_told_of,
    a_door_that_is_closed_or_away_is_told_of,
    what_was_not_delivered_is_tried_again,
);

const ADA: i64 = 7;
const PATIENCE: Duration = Duration::from_secs(20);

async fn open(kind: Kind, telegram: Option<&FakeTelegram>, slack: Option<&FakeSlack>) -> TestApp {
    let mut settings = String::new();
    if let Some(fake) = telegram {
        settings += &format!(
            "[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n",
            kept(&fake.token()),
            fake.url()
        );
    }
    if let Some(fake) = slack {
        let secrets = fake.settings();
        settings += &format!(
            "[slack]\nbot_token = \"{}\"\nsigning_secret = \"{}\"\napi_url = \"{}\"\n",
            kept(&secrets.bot_token),
            kept(&secrets.signing_secret),
            fake.url()
        );
    }
    settings += &format!(
        "[[people]]\nname = \"ada\"\ntelegram = {ADA}\nslack = \"{TEAM}/U1\"\nroles = [\"admin\"]\n"
    );
    let replies = "[[agent.reply]]\ntext = \"Done.\"\n";
    let app = Setup::worker(replies, &[], &settings)
        .on(kind)
        .start()
        .await;
    app.app.open_channels().unwrap();
    app
}

async fn test(app: &TestApp, name: &str) -> Vec<Finding> {
    let board = app.app.board().unwrap();
    board.test(name).await.unwrap()
}

/// The one problem of these findings.
fn problem(findings: &[Finding]) -> &Finding {
    let mut ill = findings
        .iter()
        .filter(|finding| finding.level == Level::Problem);
    let problem = ill.next().unwrap_or_else(|| panic!("{findings:#?}"));
    assert!(problem.todo.is_some(), "{problem:?}");
    problem
}

async fn view(app: &TestApp, name: &str) -> ChannelView {
    let all = app.app.board().unwrap().list().await.unwrap();
    all.into_iter().find(|view| view.name == name).unwrap()
}

/// Waits until the board shows the channel so.
async fn until(app: &TestApp, name: &str, holds: impl Fn(&ChannelView) -> bool) -> ChannelView {
    let shown = wait::within(PATIENCE, async || {
        Some(view(app, name).await).filter(|view| holds(view))
    });
    match shown.await {
        Some(view) => view,
        None => panic!("{:?}", view(app, name).await),
    }
}

async fn a_channel_that_works_says_so_and_writes_to_its_admins(kind: Kind) {
    let (telegram, slack) = (FakeTelegram::start().await, FakeSlack::start().await);
    slack.add_user("U1", "ada");
    let app = open(kind, Some(&telegram), Some(&slack)).await;
    telegram.user_says(ADA, ADA, "/status");
    until(&app, "telegram", |view| view.state == ChannelState::Up).await;
    until(&app, "slack", |view| view.state == ChannelState::Up).await;
    for name in ["telegram", "slack"] {
        let findings = test(&app, name).await;
        let well = findings.iter().all(|finding| finding.level == Level::Ok);
        assert!(well, "{findings:#?}");
    }
    let word = "This is a test of this channel";
    let in_telegram = telegram.from_bot(ADA);
    assert!(
        in_telegram
            .iter()
            .any(|message| message.text.contains(word))
    );
    let in_slack = slack.from_bot(&slack.im("U1"));
    assert!(in_slack.iter().any(|message| message.text.contains(word)));
    telegram.set_access(ADA, Access::Blocked);
    let findings = test(&app, "telegram").await;
    assert!(
        problem(&findings).found.contains("blocked"),
        "{findings:#?}"
    );
    app.stop().await;
}

async fn a_wrong_token_is_told_with_what_to_do(kind: Kind) {
    let (telegram, slack) = (FakeTelegram::start().await, FakeSlack::start().await);
    let app = open(kind, Some(&telegram), Some(&slack)).await;
    let right = telegram.token();
    telegram.change_token("1:another");
    slack.configure(|settings| settings.bot_token = "xoxb-another".into());
    for (name, whose) in [("telegram", "BotFather"), ("slack", "xoxb-")] {
        let findings = test(&app, name).await;
        let problem = problem(&findings);
        assert!(problem.found.contains("token is refused"), "{problem:?}");
        assert!(
            problem.todo.as_ref().unwrap().contains(whose),
            "{problem:?}"
        );
        assert!(!format!("{findings:?}").contains(&right));
    }
    app.stop().await;
}

async fn a_missing_scope_is_told_by_its_name(kind: Kind) {
    let slack = FakeSlack::start().await;
    slack.add_user("U1", "ada");
    let app = open(kind, None, Some(&slack)).await;
    let lose = |lost: &'static str| {
        slack.configure(|settings| settings.scopes.retain(|scope| scope != lost));
    };
    lose("users:read");
    let findings = test(&app, "slack").await;
    let warned = findings
        .iter()
        .find(|finding| finding.level == Level::Warning)
        .unwrap();
    assert!(warned.found.contains("users:read"), "{warned:?}");
    lose("chat:write");
    let findings = test(&app, "slack").await;
    assert!(problem(&findings).found.contains("chat:write"));
    app.stop().await;
}

async fn whoever_else_reads_the_bots_messages_is_told_of(kind: Kind) {
    let telegram = FakeTelegram::start().await;
    let app = open(kind, Some(&telegram), None).await;
    telegram.user_says(ADA, ADA, "/status");
    until(&app, "telegram", |view| view.state == ChannelState::Up).await;
    telegram.second_poller(false);
    until(&app, "telegram", |view| view.state == ChannelState::Down).await;
    let findings = test(&app, "telegram").await;
    assert!(
        problem(&findings).found.contains("another program"),
        "{findings:#?}"
    );
    // Without an instance it is found out by reading for a moment.
    let setup = app.down(PATIENCE).await;
    let app = setup.start().await;
    let board = board::Board {
        channels: supervisor::channels::configured(
            &app.app.config.settings,
            &shared::egress::Gateway::new(&app.app.config.settings.egress).unwrap(),
            Vec::new(),
        )
        .unwrap()
        .into(),
        health: None,
        idle: true,
        ladder: Default::default(),
        mailer: None,
        people: app.app.people.clone(),
        desk: app.app.desk.clone(),
    };
    let findings = board.test("telegram").await.unwrap();
    assert!(
        problem(&findings).found.contains("another program"),
        "{findings:#?}"
    );
    telegram.no_second_poller();
    let hook = Outgoing {
        url: format!("{}/bot{}/setWebhook", telegram.url(), telegram.token()),
        headers: vec![("content-type".into(), "application/json".into())],
        body: Bytes::from_static(br#"{"url": "https://hooks.example.com/s3cret"}"#),
    };
    post::post(hook, PATIENCE).await.unwrap();
    let findings = board.test("telegram").await.unwrap();
    let found = &problem(&findings).found;
    assert!(
        found.contains("hooks.example.com") && !found.contains("s3cret"),
        "{found}"
    );
    app.stop().await;
}

async fn a_door_that_is_closed_or_away_is_told_of(kind: Kind) {
    let telegram = FakeTelegram::start().await;
    let app = open(kind, Some(&telegram), None).await;
    let board = app.app.board().unwrap();
    let closed = board.test("slack").await.unwrap_err();
    let told = closed.to_string();
    assert!(
        matches!(closed, TestError::Closed(_)) && told.contains("open are telegram"),
        "{told}"
    );
    let findings = test(&app, "callback").await;
    assert_eq!(findings[0].level, Level::Ok, "{findings:#?}");
    assert!(findings[0].found.contains("callback_url") && findings[0].todo.is_some());
    telegram.down().await;
    let findings = test(&app, "telegram").await;
    assert!(!problem(&findings).found.contains(&telegram.token()));
    telegram.up().await;
    app.stop().await;
}

async fn what_was_not_delivered_is_tried_again(kind: Kind) {
    let telegram = FakeTelegram::start().await;
    let app = open(kind, Some(&telegram), None).await;
    telegram.user_says(ADA, ADA, "/status");
    telegram.until(PATIENCE, |fake| fake.sent(ADA) == 1).await;
    telegram.set_access(ADA, Access::Blocked);
    let mail = app.app.store.mail();
    let word = shared::store::NewOut {
        channel: "telegram".into(),
        key: "hello".into(),
        conversation: ADA.to_string(),
        body: serde_json::json!({ "text": "Hello again" }),
    };
    assert!(mail.say(app.app.tenant(), word).await.unwrap());
    let view = until(&app, "telegram", |view| view.dead == 1).await;
    assert!(view.why.unwrap().contains("blocked"));
    let findings = board::findings(&app.app.board().unwrap().list().await.unwrap());
    assert_eq!(findings[0].level, Level::Warning);
    telegram.set_access(ADA, Access::Open);
    let board = app.app.board().unwrap();
    assert_eq!(board.retry("telegram").await.unwrap(), 1);
    let said = |fake: &FakeTelegram| fake.from_bot(ADA).iter().any(|m| m.text == "Hello again");
    assert!(telegram.until(PATIENCE, said).await);
    let view = until(&app, "telegram", |view| view.owed == 0).await;
    assert_eq!((view.dead, view.why), (0, None));
    assert_eq!(board.retry("telegram").await.unwrap(), 0);
    app.stop().await;
}
