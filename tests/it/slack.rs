//! The Slack door against a server that behaves as the real one does.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::fault::FailHow;
use majordomo_tests::doubles::post::{self, Answer, Outgoing};
use majordomo_tests::doubles::slack::sign::{self, signature};
use majordomo_tests::doubles::slack::{BOT_USER, FakeSlack, Message, Signing, State, TEAM};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::tool::TestTool;
use majordomo_tests::wait;
use serde_json::json;
use shared::run::Effect;
use shared::store::TaskFilter;
use shared::task::Task;
use supervisor::auth::LocalToken;
use supervisor::channels::http;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::chats::{kept, reply, says, texts};

on_both_stores!(
    a_mention_becomes_a_task_and_its_answer_comes_in_its_thread,
    what_comes_again_changes_nothing,
    what_slack_did_not_sign_is_refused_and_leaves_nothing,
    a_thread_is_a_conversation_and_talk_between_people_is_not,
    direct_messages_strangers_and_commands,
    a_slash_command_is_answered_where_it_was_given,
    limits_are_shown_and_set_by_a_slash_command,
    a_window_opens_to_those_who_may_and_once,
    an_old_message_is_asked_about_by_buttons,
    an_approver_decides_in_private,
    an_approver_changes_an_action_in_a_window,
    a_long_answer_comes_in_several_posts_of_the_thread,
    a_patient_far_side_and_lost_replies_cost_a_placeholder_at_most,
    events_come_over_a_socket_that_is_replaced_when_it_is_to_be,
    a_socket_that_died_in_silence_is_noticed,
);

const GENERAL: &str = "C1";
const ADA: &str = "U1";
const EVE: &str = "U2";
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than it may take until a dead socket is replaced.
const DEAD: Duration = Duration::from_secs(40);

/// An instance with one agent and an open door.
struct Served {
    app: TestApp,
    url: String,
    closing: CancellationToken,
}

impl Served {
    async fn stop(self) {
        self.closing.cancel();
        self.app.stop().await;
    }

    async fn tasks(&self) -> Vec<Task> {
        let all = TaskFilter {
            limit: 9,
            ..TaskFilter::default()
        };
        self.app.app.desk.tasks(&all).await.unwrap()
    }
}

async fn slack() -> FakeSlack {
    let fake = FakeSlack::start().await;
    fake.add_channel(GENERAL, "general", &[ADA, EVE]);
    fake
}

/// Events come over HTTP.
async fn open(fake: &FakeSlack, kind: Kind, replies: &str) -> Served {
    let served = started(fake, kind, replies, "").await;
    fake.set_target(&served.url);
    served
}

/// Events come over a socket.
async fn connect(fake: &FakeSlack, kind: Kind, replies: &str) -> Served {
    fake.configure(|settings| {
        settings.socket_mode = true;
        // What was sent into a socket that is gone comes again soon.
        settings.retry_speed = 60.0;
    });
    let secret = kept(&fake.settings().app_token);
    let served = started(fake, kind, replies, &format!("app_token = \"{secret}\"\n")).await;
    assert!(fake.until(PATIENCE, |fake| fake.sockets() == 1).await);
    served
}

async fn started(fake: &FakeSlack, kind: Kind, replies: &str, more: &str) -> Served {
    started_with(fake, kind, (replies, &[]), more).await
}

async fn started_with(
    fake: &FakeSlack,
    kind: Kind,
    (replies, tools): (&str, &[&Arc<TestTool>]),
    more: &str,
) -> Served {
    let settings = fake.settings();
    let settings = format!(
        "[slack]\nbot_token = \"{}\"\nsigning_secret = \"{}\"\napi_url = \"{}\"\n{more}\n\
         [[people]]\nname = \"ada\"\nslack = \"{TEAM}/{ADA}\"\nroles = [\"admin\"]\n",
        kept(&settings.bot_token),
        kept(&settings.signing_secret),
        fake.url()
    );
    let app = Setup::worker(replies, tools, &settings)
        .on(kind)
        .start()
        .await;
    app.app.open_channels().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/slack/events", listener.local_addr().unwrap());
    let (closing, token) = (CancellationToken::new(), LocalToken::fresh().unwrap());
    let serving = http::serve(app.app.clone(), listener, token, closing.clone());
    tokio::spawn(serving);
    Served { app, url, closing }
}

/// What the bot's messages in a channel say once this holds of them.
async fn until(
    fake: &FakeSlack,
    channel: &str,
    holds: impl Fn(&[Message]) -> bool,
) -> Vec<Message> {
    let held = fake
        .until(PATIENCE, |fake| holds(&fake.from_bot(channel)))
        .await;
    let messages = fake.from_bot(channel);
    assert!(held, "{:#?}", texts(&messages));
    messages
}

/// Waits until somebody was told something in the channel that nobody else sees.
async fn told(fake: &FakeSlack, user: &str, wanted: &str) {
    let told = |fake: &FakeSlack| {
        let told = fake.ephemerals().into_iter();
        let mut told = told.filter(|told| told.user.as_deref() == Some(user));
        told.any(|told| told.channel == GENERAL && told.text.contains(wanted))
    };
    let heard = fake.until(PATIENCE, told).await;
    assert!(heard, "{wanted}: {:#?}", fake.ephemerals());
}

fn count(messages: &[Message], text: &str) -> usize {
    texts(messages).iter().filter(|said| **said == text).count()
}

async fn a_mention_becomes_a_task_and_its_answer_comes_in_its_thread(kind: Kind) {
    let fake = slack().await;
    let served = open(&fake, kind, &reply("It is **42** & more.")).await;
    let (check, challenge) = fake.verify_url();
    assert!(
        fake.until(PATIENCE, |fake| fake.parcel(check).state == State::Acked)
            .await
    );
    assert!(fake.parcel(check).answer.unwrap().contains(&challenge));
    let asked = fake.mention(GENERAL, ADA, "What is it?");
    assert_eq!(asked.events.len(), 2, "told twice");
    let messages = until(&fake, GENERAL, says("It is *42* &amp; more.")).await;
    assert_eq!(messages.len(), 1);
    let answer = &messages[0];
    assert_eq!(answer.thread_ts.as_deref(), Some(&*asked.ts));
    assert!(!answer.broadcast && !answer.history.is_empty());
    let posts = fake.calls_of("chat.postMessage");
    assert!(
        posts
            .iter()
            .all(|post| post.args["unfurl_links"] == false && post.args["unfurl_media"] == false)
    );
    let tasks = served.tasks().await;
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].request.text, "What is it?");
    assert!(fake.ack_latencies().iter().all(|ms| *ms < 3_000));
    served.stop().await;
}

async fn what_comes_again_changes_nothing(kind: Kind) {
    let fake = slack().await;
    let served = open(&fake, kind, &reply("Once.")).await;
    fake.lose_first_attempts(1);
    let asked = fake.mention(GENERAL, ADA, "Do it");
    until(&fake, GENERAL, says("Once.")).await;
    for event in &asked.events {
        assert!(fake.redeliver(event));
        fake.again_under_new_id(event).unwrap();
    }
    let settled = |fake: &FakeSlack| {
        let parcels = fake.parcels();
        parcels.iter().all(|parcel| parcel.state == State::Acked)
    };
    assert!(fake.until(PATIENCE, settled).await);
    fake.mention(GENERAL, ADA, "/status");
    let messages = until(&fake, GENERAL, says("Nothing is going on")).await;
    assert_eq!(count(&messages, "Once."), 1);
    assert_eq!(served.tasks().await.len(), 1);
    served.stop().await;
}

async fn what_slack_did_not_sign_is_refused_and_leaves_nothing(kind: Kind) {
    let fake = slack().await;
    let served = open(&fake, kind, &reply("never")).await;
    let secret = fake.settings().signing_secret;
    let event = format!(
        r#"{{"type":"event_callback","team_id":"{TEAM}","event":{{"type":"app_mention","user":"{ADA}","channel":"{GENERAL}","ts":"1.000001","text":"<@{BOT_USER}> hi"}}}}"#
    );
    let now_s = shared::clock::now().0 / 1000;
    let send = async |body: &str, headers: Vec<(String, String)>| -> Answer {
        let outgoing = Outgoing {
            url: served.url.clone(),
            headers,
            body: Bytes::from(body.to_owned()),
        };
        post::post(outgoing, PATIENCE).await.unwrap()
    };
    for signing in [
        Signing::WrongSecret,
        Signing::Stale { by_s: 330 },
        Signing::Stale { by_s: -330 },
        Signing::OtherBody,
        Signing::Missing,
    ] {
        let headers = sign::headers(signing, &secret, now_s, event.as_bytes());
        let time = headers
            .first()
            .map_or(now_s, |(_, time)| time.parse().unwrap());
        let answer = send(&event, headers).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{signing:?}");
        let right = signature(&secret, time, event.as_bytes());
        let told = format!(
            "{:?} {}",
            answer.headers,
            String::from_utf8_lossy(&answer.body)
        );
        assert!(!told.contains(&right[3..]), "{signing:?}");
    }
    let long = format!("{event}{}", " ".repeat(600 * 1024));
    let headers = sign::headers(Signing::Right, &secret, now_s, long.as_bytes());
    let answer = send(&long, headers).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let mail = served.app.app.store.mail();
    let key = format!("{TEAM}/{GENERAL}/1.000001");
    let tenant = served.app.app.tenant();
    assert!(mail.find(tenant, "slack", &key).await.unwrap().is_none());
    // The same request, signed rightly, is taken: so each of the others was refused for its signature.
    let headers = sign::headers(Signing::Right, &secret, now_s, event.as_bytes());
    assert_eq!(send(&event, headers).await.status, StatusCode::OK);
    assert!(mail.find(tenant, "slack", &key).await.unwrap().is_some());
    served.stop().await;
}

async fn a_thread_is_a_conversation_and_talk_between_people_is_not(kind: Kind) {
    let fake = slack().await;
    let replies =
        "[[agent.reply]]\ntext = \"First.\"\n[[agent.reply]]\nturn = 2\ntext = \"Second.\"\n";
    let served = open(&fake, kind, replies).await;
    let lunch = fake.says(GENERAL, ADA, "Lunch?");
    fake.thread_reply(GENERAL, &lunch.ts, EVE, "Yes");
    let asked = fake.mention(GENERAL, ADA, "One");
    until(&fake, GENERAL, says("First.")).await;
    fake.thread_reply(GENERAL, &asked.ts, ADA, "And then?");
    assert!(
        fake.until(PATIENCE, |fake| fake.thread(GENERAL, &asked.ts).len() == 4)
            .await
    );
    wait::until("answers", PATIENCE, async || {
        let tasks = served.tasks().await;
        tasks.iter().all(|task| task.answer.is_some())
    })
    .await;
    let tasks = served.tasks().await;
    assert_eq!(tasks.len(), 2, "nothing of what people say to each other");
    let second = tasks.iter().find(|task| task.request.text == "And then?");
    let turns = &second.unwrap().request.said.turns;
    assert_eq!(turns.len(), 1, "it knows what came before in its thread");
    assert_eq!(fake.thread(GENERAL, &lunch.ts).len(), 2);
    served.stop().await;
}

async fn direct_messages_strangers_and_commands(kind: Kind) {
    let fake = slack().await;
    let served = open(&fake, kind, &reply("Hello you.")).await;
    let said = fake.dm(ADA, "Hello");
    let direct = fake.im(ADA);
    let messages = until(&fake, &direct, says("Hello you.")).await;
    assert_eq!(messages[0].thread_ts.as_deref(), Some(&*said.ts));
    fake.dm(ADA, " /agents");
    until(&fake, &direct, says("worker")).await;
    fake.dm(EVE, "Let me in");
    let messages = until(&fake, &fake.im(EVE), says("I do not know you yet")).await;
    let line = format!("slack = \"{TEAM}/{EVE}\"");
    assert!(messages[0].text.contains(&line), "{}", messages[0].text);
    assert_eq!(served.tasks().await.len(), 1);
    served.stop().await;
}

async fn a_slash_command_is_answered_where_it_was_given(kind: Kind) {
    let fake = slack().await;
    let served = open(&fake, kind, &reply("Done.")).await;
    fake.slash(GENERAL, ADA, "/majordomo", "status");
    told(&fake, ADA, "Nothing is going on").await;
    assert!(fake.from_bot(GENERAL).is_empty(), "nobody else sees it");
    fake.slash(GENERAL, ADA, "/ask", "Do it");
    let messages = until(&fake, GENERAL, says("Done.")).await;
    assert!(messages.iter().all(|message| message.thread_ts.is_none()));
    // Where the bot may not write, the answer goes to who asked.
    fake.add_channel("C2", "closed", &[ADA]);
    fake.set_member("C2", BOT_USER, false);
    fake.slash("C2", ADA, "/majordomo", "help");
    until(&fake, &fake.im(ADA), says("Hello ada")).await;
    assert!(fake.from_bot("C2").is_empty());
    assert!(fake.shown_errors().is_empty());
    served.stop().await;
}

async fn limits_are_shown_and_set_by_a_slash_command(kind: Kind) {
    let fake = slack().await;
    let bob = format!(
        "[budget]\nday = {{ usd = 20.0 }}\n[budget.each_user]\nday = {{ usd = 2.0 }}\n\
         [[people]]\nname = \"bob\"\nslack = \"{TEAM}/{EVE}\"\n"
    );
    let served = started(&fake, kind, &reply("Done."), &bob).await;
    fake.set_target(&served.url);
    fake.slash(GENERAL, EVE, "/majordomo", "budget");
    told(&fake, EVE, "of $2.00 (0 %)").await;
    fake.slash(GENERAL, EVE, "/majordomo", "budget set user bob 50/day");
    told(&fake, EVE, "Only an admin may set limits").await;
    fake.slash(GENERAL, ADA, "/majordomo", "budget set user bob 5/day");
    told(&fake, ADA, "The limit of user:bob is set").await;
    fake.slash(GENERAL, ADA, "/majordomo", "budget");
    told(&fake, ADA, "of $20.00 (0 %)").await;
    fake.slash(GENERAL, EVE, "/majordomo", "budget");
    told(&fake, EVE, "of $5.00 (0 %)").await;
    served.stop().await;
}

async fn a_window_opens_to_those_who_may_and_once(kind: Kind) {
    let fake = slack().await;
    let served = open(&fake, kind, &reply("never")).await;
    let secret = fake.settings().signing_secret;
    let ask = async |team: &str, user: &str, trigger: &str| {
        let body = format!(
            "command=%2Fask&text=&team_id={team}&channel_id={GENERAL}&user_id={user}\
             &trigger_id={trigger}"
        );
        let now_s = shared::clock::now().0 / 1000;
        let outgoing = Outgoing {
            url: served.url.clone(),
            headers: sign::headers(Signing::Right, &secret, now_s, body.as_bytes()),
            body: body.into(),
        };
        let answer = post::post(outgoing, PATIENCE).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body.is_empty());
    };
    // A stranger, and whoever has ada's id in another workspace.
    ask(TEAM, EVE, "1.1.eve").await;
    told(&fake, EVE, &format!("{TEAM}/{EVE}")).await;
    ask("T0ELSEWHERE", ADA, "1.1.elsewhere").await;
    told(&fake, ADA, &format!("T0ELSEWHERE/{ADA}")).await;
    assert!(fake.calls_of("views.open").is_empty());
    // The same again is the same; what was asked after it in the same place was dealt with after it.
    for _ in 0..2 {
        ask(TEAM, ADA, "1.1.ada").await;
    }
    fake.slash(GENERAL, ADA, "/majordomo", "status");
    told(&fake, ADA, "Nothing is going on").await;
    assert_eq!(fake.calls_of("views.open").len(), 1);
    served.stop().await;
}

async fn an_old_message_is_asked_about_by_buttons(kind: Kind) {
    let fake = slack().await;
    let served = open(&fake, kind, &reply("Better late.")).await;
    let direct = fake.im(ADA);
    let hours_ago = shared::clock::now().0 / 1000 - 3 * 3600;
    let ts = format!("{hours_ago}.000100");
    fake.raw_event(serde_json::json!({
        "type": "message", "channel_type": "im", "channel": direct, "user": ADA, "ts": ts,
        "text": "Do it", "event_ts": ts,
    }));
    let asked = |fake: &FakeSlack| !fake.ever(&direct).is_empty();
    assert!(fake.until(PATIENCE, asked).await);
    let question = fake.ever(&direct).remove(0);
    assert!(question.text.contains("Shall I still do it?"));
    let buttons = question.blocks.unwrap().pop().unwrap();
    let button = &buttons["elements"][0];
    let mut payload = serde_json::json!({
        "type": "block_actions", "team": {"id": TEAM}, "user": {"id": ADA, "name": "ada"},
        "channel": {"id": direct}, "container": {"message_ts": question.ts, "thread_ts": ts},
        "actions": [{"value": button["value"], "action_ts": "5.000100"}],
    });
    let secret = fake.settings().signing_secret;
    for times in ["5.000100", "6.000100"] {
        payload["actions"][0]["action_ts"] = times.into();
        let body = serde_urlencoded::to_string([("payload", payload.to_string())]).unwrap();
        let now_s = shared::clock::now().0 / 1000;
        let outgoing = Outgoing {
            url: served.url.clone(),
            headers: sign::headers(Signing::Right, &secret, now_s, body.as_bytes()),
            body: body.into(),
        };
        let answer = post::post(outgoing, PATIENCE).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    }
    let answered = |fake: &FakeSlack| says("Better late.")(&fake.ever(&direct));
    assert!(fake.until(PATIENCE, answered).await);
    let twice = |fake: &FakeSlack| {
        let told = fake.ephemerals();
        told.iter().any(|told| told.text.contains("decided before"))
    };
    assert!(fake.until(PATIENCE, twice).await);
    let decided = |fake: &FakeSlack| {
        let question = fake.ever(&direct).remove(0);
        let blocks = question.blocks.unwrap_or_default();
        question.text.contains("*ada* wants it done still")
            && blocks.iter().all(|block| block["type"] != "actions")
    };
    assert!(fake.until(PATIENCE, decided).await, "no dead button stays");
    assert_eq!(served.tasks().await.len(), 1);
    served.stop().await;
}

async fn a_long_answer_comes_in_several_posts_of_the_thread(kind: Kind) {
    let fake = slack().await;
    let words = "All work and no play. ".repeat(500);
    let served = open(&fake, kind, &reply(words.trim())).await;
    let asked = fake.mention(GENERAL, ADA, "Write");
    let whole = |messages: &[Message]| {
        let all: String = texts(messages).join(" ");
        all.matches("no play").count() == 500
    };
    let messages = until(&fake, GENERAL, whole).await;
    assert!(messages.len() >= 3, "{}", messages.len());
    assert!(
        messages
            .iter()
            .all(|message| message.thread_ts.as_deref() == Some(&*asked.ts))
    );
    served.stop().await;
}

async fn a_patient_far_side_and_lost_replies_cost_a_placeholder_at_most(kind: Kind) {
    let fake = slack().await;
    let served = open(&fake, kind, &reply("Once.")).await;
    fake.storm(GENERAL, 1, 1);
    fake.fail_next("chat.postMessage", FailHow::DropAfter);
    fake.fail_next("chat.update", FailHow::DropAfter);
    fake.fail_next("chat.update", FailHow::DropBefore);
    fake.mention(GENERAL, ADA, "Do it");
    let messages = until(&fake, GENERAL, says("Once.")).await;
    assert_eq!(count(&messages, "Once."), 1);
    assert!(messages.len() <= 2, "{:?}", texts(&messages));
    served.stop().await;
}

async fn events_come_over_a_socket_that_is_replaced_when_it_is_to_be(kind: Kind) {
    let fake = slack().await;
    let served = connect(&fake, kind, &reply("Once.")).await;
    fake.mention(GENERAL, ADA, "Do it");
    until(&fake, GENERAL, says("Once.")).await;
    fake.slash(GENERAL, ADA, "/majordomo", "agents");
    told(&fake, ADA, "worker").await;
    fake.disconnect("refresh_requested");
    assert!(
        fake.until(PATIENCE, |fake| fake.sockets() == 2).await,
        "the new one is there before the old one is left"
    );
    fake.mention(GENERAL, ADA, "/new");
    until(&fake, GENERAL, says("A new conversation begins")).await;
    fake.cut_sockets();
    assert!(fake.until(PATIENCE, |fake| fake.sockets() == 1).await);
    fake.mention(GENERAL, ADA, "/stop");
    until(&fake, GENERAL, says("There is nothing to stop")).await;
    // No door for requests stands open beside the socket.
    let outgoing = Outgoing {
        url: served.url.clone(),
        headers: Vec::new(),
        body: Bytes::from_static(b"{}"),
    };
    let answer = post::post(outgoing, PATIENCE).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    served.stop().await;
}

async fn a_socket_that_died_in_silence_is_noticed(kind: Kind) {
    let fake = slack().await;
    fake.configure(|settings| settings.ack_ms = 500);
    let served = connect(&fake, kind, &reply("Once.")).await;
    let clock = shared::clock::stopwatch();
    fake.kill_sockets_silently();
    assert!(fake.until(DEAD, |fake| fake.sockets() == 2).await);
    assert!(clock.ms() < 30_000, "{} ms", clock.ms());
    fake.mention(GENERAL, ADA, "Do it");
    until(&fake, GENERAL, says("Once.")).await;
    served.stop().await;
}

async fn an_approver_changes_an_action_in_a_window(kind: Kind) {
    let fake = slack().await;
    let send = TestTool::new("send", Effect::Once, |_| async { Ok(json!("sent")) });
    let send = Arc::new(send);
    let replies = "[[agent.reply]]\ntext = \"I send it.\"\n\
        calls = [{ tool = \"send\", args = { n = 5 } }]\n\
        [[agent.reply]]\ntext = \"It is settled.\"\n";
    let more = "[approvals]\nwithin_h = 1\n";
    let served = started_with(&fake, kind, (replies, &[&send]), more).await;
    fake.set_target(&served.url);
    let task = served.app.submit(TestApp::request("Send it")).await;
    let direct = fake.im(ADA);
    let shown = until(&fake, &direct, says("wants to call send")).await;
    let card = shown.last().unwrap();
    let blocks = card.blocks.clone().unwrap();
    let rows = blocks.iter().filter(|block| block["type"] == "actions");
    let mut buttons = rows.flat_map(|row| row["elements"].as_array().unwrap());
    let change = buttons.find(|button| button["text"]["text"] == "Change it …");
    let action = change.unwrap()["action_id"].as_str().unwrap();
    fake.press(&direct, &card.ts, ADA, action);
    assert!(fake.until(PATIENCE, |fake| !fake.views().is_empty()).await);
    let view = fake.views().remove(0);
    let input = &view.view["blocks"][0]["element"]["initial_value"];
    let args: serde_json::Value = serde_json::from_str(input.as_str().unwrap()).unwrap();
    assert_eq!(args, json!({ "n": 5 }));
    assert!(send.calls().is_empty(), "nothing is done before it is sent");
    // What is no JSON is said beside it, and what does not fit is told.
    fake.submit_modal(&view.id, ADA, &[("words", "text", "n = 6")]);
    fake.submit_modal(&view.id, ADA, &[("words", "text", "{\"n\": 6}")]);
    served.app.ends(task).await;
    assert_eq!(send.calls(), vec![6]);
    until(&fake, &direct, says("Approved with changes by ada")).await;
    served.stop().await;
}

async fn an_approver_decides_in_private(kind: Kind) {
    let fake = slack().await;
    let send = TestTool::new("send", Effect::Once, |_| async { Ok(json!("sent")) });
    let send = Arc::new(send);
    let replies = "[[agent.reply]]\ntext = \"I send it.\"\n\
        calls = [{ tool = \"send\", args = { n = 5 } }]\n\
        [[agent.reply]]\ntext = \"It is settled.\"\n";
    let more = "[approvals]\nwithin_h = 1\n";
    let served = started_with(&fake, kind, (replies, &[&send]), more).await;
    fake.set_target(&served.url);
    let task = served.app.submit(TestApp::request("Send it")).await;
    let direct = fake.im(ADA);
    let shown = until(&fake, &direct, says("wants to call send")).await;
    let card = shown.last().unwrap();
    let blocks = card.blocks.clone().unwrap();
    let buttons = blocks.iter().find(|block| block["type"] == "actions");
    let approve = &buttons.unwrap()["elements"][0];
    fake.press(
        &direct,
        &card.ts,
        ADA,
        approve["action_id"].as_str().unwrap(),
    );
    served.app.ends(task).await;
    assert_eq!(send.calls(), vec![5]);
    until(&fake, &direct, says("Approved by ada")).await;
    served.stop().await;
}
