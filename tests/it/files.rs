//! Files and pictures through the chat doors: in as part of a task, out as what it wrote, once each,
//! whatever dies in between.

use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::fault::FailHow;
use majordomo_tests::doubles::slack::{self, FakeSlack, FileKind, TEAM};
use majordomo_tests::doubles::telegram::{FakeTelegram, Message, Say};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::{Kind, Place};
use majordomo_tests::wait;
use shared::blob::Blob;
use shared::hash::Hash;
use shared::model::Message as Said;
use shared::store::{TaskFilter, duty};
use shared::task::{ImageRef, Task, TaskState};
use supervisor::auth::LocalToken;
use supervisor::channels::http;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::chats::{kept, reply, says};

on_both_stores!(
    a_photo_is_seen_by_who_sees_and_reserved_for,
    a_photo_where_nobody_sees_is_told_of_at_once,
    pictures_are_refused_by_size_and_by_what_they_are,
    bytes_go_with_the_last_journal_that_refers_to_them,
    what_a_task_wrote_comes_below_its_answer,
    a_long_answer_comes_as_its_beginning_and_a_file,
    slack_files_come_in_from_slack_alone,
    slack_gets_what_a_task_wrote_in_its_thread,
    a_file_that_slack_does_not_take_holds_up_nothing,
    a_window_is_filled_in_and_answered,
    telegram_gets_a_file_once_whenever_the_process_dies,
    slack_gets_a_file_once_whenever_the_process_dies,
);

const ADA: i64 = 7;
const UADA: &str = "U1";
const GENERAL: &str = "C1";
const PATIENCE: Duration = Duration::from_secs(20);
/// What the worker of most tests does: writes a file, twice, and says so.
const WRITES: &str = r#"
[[agent.reply]]
calls = [{ tool = "write_file", args = { path = "docs/report.md", text = "Old.", mode = "replace" } }]
[[agent.reply]]
calls = [{ tool = "write_file", args = { path = "docs/report.md", text = "New.", mode = "replace" } }]
[[agent.reply]]
text = "Written."
"#;

/// The smallest JPEG that says how large it is.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let [h1, h0] = height.to_be_bytes();
    let [w1, w0] = width.to_be_bytes();
    let frame = [
        0xff, 0xc0, 0, 17, 8, h1, h0, w1, w0, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1,
    ];
    [&[0xff, 0xd8][..], &frame, &[0xff, 0xd9]].concat()
}

/// A PDF of one page with these words.
fn pdf(words: &str) -> Vec<u8> {
    let page = format!("BT /F1 12 Tf 20 100 Td ({words}) Tj ET");
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(),
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R\
         /Resources<</Font<</F1 5 0 R>>>>>>"
            .to_owned(),
        format!("<</Length {}>>stream\n{page}\nendstream", page.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_owned(),
    ];
    let mut text = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        places.push(text.len());
        text.push_str(&format!("{} 0 obj{object}endobj\n", at + 1));
    }
    let table = text.len();
    text.push_str("xref\n0 6\n0000000000 65535 f \n");
    for place in places {
        text.push_str(&format!("{place:010} 00000 n \n"));
    }
    text.push_str(&format!(
        "trailer<</Size 6/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n"
    ));
    text.into_bytes()
}

fn telegram_settings(fake: &FakeTelegram) -> String {
    format!(
        "[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\nroles = [\"admin\"]\n",
        kept(&fake.token()),
        fake.url()
    )
}

fn slack_settings(fake: &FakeSlack) -> String {
    let settings = fake.settings();
    let app_token = match settings.socket_mode {
        true => format!("app_token = \"{}\"\n", kept(&settings.app_token)),
        false => String::new(),
    };
    format!(
        "[slack]\nbot_token = \"{}\"\nsigning_secret = \"{}\"\napi_url = \"{}\"\n{app_token}\n\
         [[people]]\nname = \"ada\"\nslack = \"{TEAM}/{UADA}\"\nroles = [\"admin\"]\n",
        kept(&settings.bot_token),
        kept(&settings.signing_secret),
        fake.url()
    )
}

/// A worker who writes files. `more` stands before the script.
async fn worker(kind: Kind, more: &str, replies: &str, settings: &str) -> TestApp {
    let script =
        format!("{more}\n[[agent]]\nname = \"worker\"\nsystem = \"You are the worker\"\n{replies}");
    let route = "[[routes]]\nmatches = ''\nagents = [\"worker\"]\n";
    let app = Setup::scripted(&script, &format!("{route}\n{settings}"))
        .agent("worker", "tools = [\"write_file\"]\n")
        .on(kind)
        .start()
        .await;
    app.app.open_channels().unwrap();
    app
}

async fn tasks(app: &TestApp) -> Vec<Task> {
    let all = TaskFilter {
        limit: 9,
        ..TaskFilter::default()
    };
    app.app.desk.tasks(&all).await.unwrap()
}

async fn chat(fake: &FakeTelegram, holds: impl Fn(&[Message]) -> bool) -> Vec<Message> {
    let held = fake
        .until(PATIENCE, |fake| holds(&fake.from_bot(ADA)))
        .await;
    let messages = fake.from_bot(ADA);
    assert!(held, "{messages:#?}");
    messages
}

/// Name and bytes of a message's document.
fn document(fake: &FakeTelegram, message: &Message) -> Option<(String, Vec<u8>)> {
    let document = message.document.as_ref()?;
    Some((document.name.clone(), fake.file(&document.file_id)?))
}

async fn a_photo_is_seen_by_who_sees_and_reserved_for(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let replies = "[[agent.reply]]\npictures = [\"photo.jpg\"]\nuser = \"Which animal?\"\n\
                   text = \"A cat.\"\n";
    let price = "vision = true\nprice = { input = 1.0, output = 1.0 }\n";
    let app = worker(kind, price, replies, &telegram_settings(&fake)).await;
    let picture = jpeg(640, 480);
    fake.says(Say::new(ADA, ADA, "Which animal?").with_photo(picture.clone()));
    chat(&fake, says("A cat.")).await;
    let task = tasks(&app).await.remove(0);
    let image = &task.request.images[0];
    assert_eq!(
        (image.hash, image.mime.as_str(), image.bytes),
        (Hash::of_bytes(&picture), "image/jpeg", picture.len() as u64)
    );
    let blob = app.app.store.blob(app.app.tenant(), image.hash).await;
    assert_eq!(&blob.unwrap().unwrap().bytes[..], picture);
    // What the request counted as, and with that what was reserved, has the picture's tokens in it.
    assert!(task.usage.tokens_in > shared::model::IMAGE_TOKENS);
    // A journal names pictures and holds none.
    let steps = app.steps(task.id).await;
    let journal = format!("{steps:?}");
    assert!(!journal.contains("base64") && !journal.contains(&format!("{picture:?}")));
    let story = app.app.desk.transcript(task).await.unwrap();
    let story = serde_json::to_string(&story).unwrap();
    assert!(story.contains(&Hash::of_bytes(&picture).to_string()));
    assert!(
        !story.contains("mismatch"),
        "it is walked again the same way"
    );
    // A photo without words is asked about.
    fake.says(Say::new(ADA, ADA, "").with_photo(jpeg(10, 10)));
    let asked = |_: &FakeTelegram| app.requests().len() > 1;
    assert!(fake.until(PATIENCE, asked).await);
    let asked = app.requests().pop().unwrap().messages;
    let is_photo = |message: &Said| matches!(message, Said::User { text, images } if text.contains("this picture") && images.len() == 1);
    assert!(asked.iter().any(is_photo), "{asked:?}");
    app.down(Duration::ZERO).await;
}

async fn a_photo_where_nobody_sees_is_told_of_at_once(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = worker(kind, "", &reply("never"), &telegram_settings(&fake)).await;
    let photo = jpeg(64, 64);
    fake.says(Say::new(ADA, ADA, "Look").with_document("../plan.jpg", "image/jpeg", photo));
    let messages = chat(&fake, says("vision = true")).await;
    assert!(messages[0].text.contains("\"plan.jpg\" is a picture"));
    assert!(tasks(&app).await.is_empty() && app.requests().is_empty());
    app.stop().await;
}

async fn pictures_are_refused_by_size_and_by_what_they_are(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = worker(
        kind,
        "vision = true",
        &reply("never"),
        &telegram_settings(&fake),
    )
    .await;
    let send = |bytes: Vec<u8>, name: &str, claimed: Option<u64>| {
        let mut say = Say::new(ADA, ADA, "Look").with_document(name, "image/jpeg", bytes);
        if let Some(document) = &mut say.document {
            document.claimed_size = claimed;
        }
        fake.says(say);
    };
    for (bytes, name, claimed, word) in [
        (jpeg(60_000, 60_000), "bomb.jpg", None, "60000 × 60000"),
        (b"%PDF-1.7".to_vec(), "plan.jpg", None, "holds a PDF"),
        (jpeg(9, 9), "huge.jpg", Some(30 << 20), "it is too large"),
        (vec![0xff, 0xd8, 0xff, 0xe0], "cut.jpg", None, "damaged"),
    ] {
        send(bytes, name, claimed);
        chat(&fake, says(word)).await;
    }
    let long = [jpeg(9, 9), vec![0; 9 << 20]].concat();
    send(long, "long.jpg", None);
    chat(&fake, says("at most 8.4 MB")).await;
    assert!(tasks(&app).await.is_empty());
    app.stop().await;
}

async fn bytes_go_with_the_last_journal_that_refers_to_them(kind: Kind) {
    let app = Setup::worker_priced("vision = true\n", &reply("Seen."), &[], "")
        .on(kind)
        .start()
        .await;
    let blob = Blob::new("image/jpeg", &jpeg(8, 8)).unwrap();
    let mut request = TestApp::request("Look");
    request.images.push(ImageRef {
        hash: blob.hash,
        mime: blob.mime.clone(),
        bytes: blob.bytes.len() as u64,
        name: "a.jpg".into(),
    });
    let submit = async || {
        let submission = supervisor::intake::Submission {
            request: request.clone(),
            principal: "local".into(),
            submitted_by: "local".into(),
            since: None,
            dedupe: None,
            read: None,
            card: None,
            blobs: vec![blob.clone()],
        };
        match app.app.intake.submit(submission).await.unwrap() {
            shared::store::Accepted::New(id) => app.ends(id).await.id,
            other => panic!("{other:?}"),
        }
    };
    let (one, other) = (submit().await, submit().await);
    assert_eq!(app.task(one).await.state, TaskState::Done);
    let store = &app.app.store;
    let is_kept = async || {
        let found = store.blob(app.app.tenant(), blob.hash).await;
        found.unwrap().is_some()
    };
    let worker = shared::id::WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    let held = store.hold(duty::RETENTION, worker).await.unwrap().unwrap();
    assert_eq!(store.prune(&held, &[one]).await.unwrap(), Some(1));
    assert!(is_kept().await, "the other one refers to it");
    let nobody = shared::id::TenantId::from("nobody");
    assert!(store.blob(&nobody, blob.hash).await.unwrap().is_none());
    assert_eq!(store.prune(&held, &[other]).await.unwrap(), Some(1));
    assert!(!is_kept().await);
    app.down(Duration::ZERO).await;
}

async fn what_a_task_wrote_comes_below_its_answer(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let app = worker(kind, "", WRITES, &telegram_settings(&fake)).await;
    // The first attempt is done and its answer lost, the second comes to nothing.
    fake.fail_next("editMessageMedia", FailHow::DropAfter);
    fake.fail_next("editMessageMedia", FailHow::BadGateway);
    let asked = fake.says(Say::new(ADA, ADA, "Write it"));
    let has_file = |messages: &[Message]| messages.iter().any(|m| m.document.is_some());
    chat(&fake, has_file).await;
    assert!(fake.until(PATIENCE, |fake| fake.faults_left() == 0).await);
    let task = app.ends(tasks(&app).await[0].id).await;
    // What lies on the disk by now does not count, and neither does what nobody wrote by a tool.
    let folder = app.output(task.id).join("docs");
    std::fs::write(folder.join("report.md"), "changed").unwrap();
    std::fs::write(folder.join("foreign.md"), "x").unwrap();
    let card = settled(&app, &task).await;
    assert_eq!(card, "sent");
    let messages = fake.from_bot(ADA);
    let texts: Vec<&str> = messages.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(texts, ["Written.", ""], "{messages:#?}");
    assert!(
        messages
            .iter()
            .all(|m| m.reply_to == Some(asked.message_id))
    );
    let file = document(&fake, &messages[1]).unwrap();
    assert_eq!(file, ("report.md".into(), b"New.".to_vec()));
    assert_eq!(fake.sent(ADA), 2, "one message each was ever sent");
    let (file, blob) = app
        .app
        .desk
        .file(task.id, "docs/report.md")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((file.bytes, &blob.bytes[..]), (4, &b"New."[..]));
    app.stop().await;
}

/// What became of a task's card.
async fn settled(app: &TestApp, task: &Task) -> String {
    let state = wait::within(PATIENCE, async || {
        let card = app.app.store.mail().card(app.app.tenant(), task.id).await;
        let (_, state) = card.unwrap()?;
        (state != "owed").then_some(state)
    });
    state.await.unwrap_or_else(|| "owed".into())
}

async fn a_long_answer_comes_as_its_beginning_and_a_file(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let long = "All work and no play. ".repeat(4_800);
    let app = worker(kind, "", &reply(long.trim()), &telegram_settings(&fake)).await;
    fake.user_says(ADA, ADA, "Write");
    // A chat takes a message a second.
    let done = fake
        .until(PATIENCE * 4, |fake| {
            let messages = fake.from_bot(ADA);
            messages.iter().any(|message| message.document.is_some())
        })
        .await;
    assert!(done, "{} messages", fake.from_bot(ADA).len());
    let messages = fake.from_bot(ADA);
    assert_eq!(messages.len(), 21);
    assert!(
        messages[19]
            .text
            .contains("The whole answer is in answer.md")
    );
    let (name, bytes) = document(&fake, &messages[20]).unwrap();
    assert_eq!(name, "answer.md");
    assert_eq!(String::from_utf8(bytes).unwrap(), long.trim());
    app.down(Duration::ZERO).await;
}

/// An instance whose door to Slack is open for events over HTTP.
async fn open_slack(
    fake: &FakeSlack,
    kind: Kind,
    more: &str,
    replies: &str,
) -> (TestApp, CancellationToken) {
    fake.add_channel(GENERAL, "general", &[UADA]);
    let app = worker(kind, more, replies, &slack_settings(fake)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    fake.set_target(&format!("http://{address}/v1/slack/events"));
    let (closing, token) = (CancellationToken::new(), LocalToken::fresh().unwrap());
    tokio::spawn(http::serve(
        app.app.clone(),
        listener,
        token,
        closing.clone(),
    ));
    (app, closing)
}

async fn posts(
    fake: &FakeSlack,
    channel: &str,
    holds: impl Fn(&[slack::Message]) -> bool,
) -> Vec<slack::Message> {
    let held = fake
        .until(PATIENCE, |fake| holds(&fake.from_bot(channel)))
        .await;
    let messages = fake.from_bot(channel);
    assert!(held, "{messages:#?}");
    messages
}

fn post(wanted: &'static str) -> impl Fn(&[slack::Message]) -> bool {
    move |messages| messages.iter().any(|message| message.text.contains(wanted))
}

fn with_file(name: &str, mime: &str, bytes: &[u8]) -> slack::Say {
    slack::Say {
        channel: "D1".into(),
        user: UADA.into(),
        text: "When?".into(),
        thread_ts: None,
        file: Some((name.into(), mime.into(), bytes.to_vec())),
    }
}

async fn slack_files_come_in_from_slack_alone(kind: Kind) {
    let fake = FakeSlack::start().await;
    let (app, closing) = open_slack(&fake, kind, "", &reply("Read.")).await;
    let direct = fake.im(UADA);
    let say = || slack::Say {
        channel: direct.clone(),
        ..with_file("../../notes.md", "text/markdown", b"Backups run at 02:00.")
    };
    // Of this one the event says nothing, and it is asked for; that another leads to it changes nothing.
    fake.next_file(FileKind::Unlisted);
    fake.say(say());
    posts(&fake, &direct, post("Read.")).await;
    let task = tasks(&app).await.remove(0);
    let words = "When?\n\n## File notes.md\n\nBackups run at 02:00.";
    assert_eq!(task.request.text, words);
    // An address that is not Slack's is not asked: its listener hears of nothing.
    let foreign = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}/x", foreign.local_addr().unwrap());
    let heard = tokio::spawn(async move { foreign.accept().await.is_ok() });
    for (file, word) in [
        (FileKind::External, "outside of Slack"),
        (FileKind::Deleted, "it is gone"),
        (FileKind::At(elsewhere.clone()), "not one of Slack's"),
        (FileKind::Moved(elsewhere.clone()), "not one of Slack's"),
        (
            FileKind::At("http://files.slack.com.evil.test/x".into()),
            "not one of Slack's",
        ),
        (
            FileKind::At("file:///etc/passwd".into()),
            "not one of Slack's",
        ),
    ] {
        let before = fake.from_bot(&direct).len();
        fake.next_file(file);
        fake.say(say());
        let told = |messages: &[slack::Message]| {
            messages.len() > before && messages[before..].iter().any(|m| m.text.contains(word))
        };
        posts(&fake, &direct, told).await;
    }
    assert!(!heard.is_finished(), "the token was shown to nobody else");
    heard.abort();
    // A page to sign in instead of a file, with status 200.
    fake.fail_next("file", FailHow::Slow { ms: 1 });
    fake.configure(|settings| settings.scopes.retain(|scope| scope != "files:read"));
    fake.say(say());
    posts(&fake, &direct, post("lacks a scope")).await;
    assert_eq!(tasks(&app).await.len(), 1);
    closing.cancel();
    app.stop().await;
}

async fn slack_gets_what_a_task_wrote_in_its_thread(kind: Kind) {
    let fake = FakeSlack::start().await;
    let (app, closing) = open_slack(&fake, kind, "", WRITES).await;
    // The completion is done and its answer lost; it is told of as shared only a while later.
    fake.configure(|settings| settings.share_ms = 700);
    fake.fail_next("upload", FailHow::BadGateway);
    fake.fail_next("files.completeUploadExternal", FailHow::DropAfter);
    let asked = fake.mention(GENERAL, UADA, "Write it");
    let task = {
        posts(&fake, GENERAL, post("Written.")).await;
        tasks(&app).await.remove(0)
    };
    assert_eq!(settled(&app, &task).await, "sent");
    let messages = fake.from_bot(GENERAL);
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert!(
        messages
            .iter()
            .all(|m| m.thread_ts.as_deref() == Some(&*asked.ts))
    );
    let (name, bytes) = fake.file(&messages[1].files[0]).unwrap();
    assert_eq!((name.as_str(), &bytes[..]), ("report.md", &b"New."[..]));
    // Where the app may not write it answers whoever asked, and brings the file there.
    fake.add_channel("C2", "closed", &[UADA]);
    fake.set_member("C2", slack::BOT_USER, false);
    fake.slash("C2", UADA, "/ask", "Write it");
    let direct = fake.im(UADA);
    let there = |messages: &[slack::Message]| messages.iter().any(|m| !m.files.is_empty());
    posts(&fake, &direct, there).await;
    closing.cancel();
    app.down(Duration::from_secs(1)).await;
}

async fn a_file_that_slack_does_not_take_holds_up_nothing(kind: Kind) {
    let fake = FakeSlack::start().await;
    let (app, closing) = open_slack(&fake, kind, "", WRITES).await;
    fake.configure(|settings| settings.scopes.retain(|scope| !scope.starts_with("files:")));
    fake.mention(GENERAL, UADA, "Write it");
    posts(&fake, GENERAL, post("could not be brought here")).await;
    let task = tasks(&app).await.remove(0);
    assert_eq!(settled(&app, &task).await, "sent");
    let messages = fake.from_bot(GENERAL);
    let told = messages.iter().filter(|m| m.text.contains("could not be"));
    assert_eq!(told.count(), 1);
    assert!(post("Written.")(&messages) && post("lacks a scope")(&messages));
    closing.cancel();
    app.stop().await;
}

async fn a_window_is_filled_in_and_answered(kind: Kind) {
    let fake = FakeSlack::start().await;
    let (app, closing) = open_slack(&fake, kind, "", &reply("Done.")).await;
    let begun = shared::clock::stopwatch();
    fake.slash(GENERAL, UADA, "/ask", "");
    assert!(fake.until(PATIENCE, |fake| fake.views().len() == 1).await);
    assert!(begun.ms() < 3_000, "its trigger lives three seconds");
    assert!(fake.sent(GENERAL) == 0 && tasks(&app).await.is_empty());
    let view = fake.views().remove(0);
    let wrong = fake.submit_modal(&view.id, UADA, &[("words", "text", "   ")]);
    let answered = |fake: &FakeSlack| fake.parcel(wrong).state == slack::State::Acked;
    assert!(fake.until(PATIENCE, answered).await);
    let shown = fake.views().remove(0).answer.unwrap();
    assert_eq!(shown["response_action"], "errors");
    let filled = [("words", "text", "One\nTwo"), ("agent", "name", "worker")];
    fake.submit_modal(&view.id, UADA, &filled);
    posts(&fake, GENERAL, post("Done.")).await;
    // Submitted twice is submitted once.
    let again = fake.submit_modal(&view.id, UADA, &filled);
    let answered = |fake: &FakeSlack| fake.parcel(again).state == slack::State::Acked;
    assert!(fake.until(PATIENCE, answered).await);
    let all = tasks(&app).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].request.text, "One\nTwo");
    assert_eq!(all[0].request.agent, Some("worker".into()));
    // A window that Slack does not open is told of: asked for patience, and with an old trigger.
    let told = |times: usize| {
        move |fake: &FakeSlack| {
            let words = fake.ephemerals();
            let late = words
                .iter()
                .filter(|word| word.text.contains("came too late"));
            late.count() == times
        }
    };
    fake.storm("views.open", 1, 1);
    fake.slash(GENERAL, UADA, "/ask", "");
    assert!(fake.until(PATIENCE, told(1)).await);
    let secret = fake.settings().signing_secret;
    let body = format!(
        "command=%2Fask&text=&team_id={TEAM}&channel_id={GENERAL}&user_id={UADA}&trigger_id=9.9.old"
    );
    let now_s = shared::clock::now().0 / 1000;
    let signed = slack::sign::headers(slack::Signing::Right, &secret, now_s, body.as_bytes());
    let outgoing = majordomo_tests::doubles::post::Outgoing {
        url: fake.settings().targets.events.unwrap(),
        headers: signed,
        body: body.into(),
    };
    let answer = majordomo_tests::doubles::post::post(outgoing, PATIENCE)
        .await
        .unwrap();
    assert!(answer.status.is_success() && answer.body.is_empty());
    assert!(fake.until(PATIENCE, told(2)).await);
    closing.cancel();
    app.stop().await;
}

// The process dies.

const SCRIPT_HEAD: &str = "[[agent]]\nname = \"worker\"\nsystem = \"You are the worker\"\n";
/// Where a life ends, and whether it must: places that only some lives come to are tried all the same.
const PLACES: [&str; 9] = [
    "send.before:1",
    "send.after:1",
    "send.before:2",
    "send.after:2",
    "send.before:3",
    "send.after:3",
    "send.before:4",
    "send.after:4",
    "upload.before:1",
];

/// A process of its own over a place.
struct Lives {
    place: Place,
}

impl Lives {
    async fn new(kind: Kind, replies: &str, settings: &str) -> Self {
        let place = kind.place().await;
        let config = place.path().join("config");
        std::fs::create_dir_all(config.join("agents")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(config.join(name), text).unwrap();
        write("script.toml", &format!("{SCRIPT_HEAD}{replies}"));
        write(
            "agents/worker.toml",
            "name = \"worker\"\ndescription = \"Does what the test says, whatever it is.\"\n\
             prompt = \"You are the worker.\"\ntools = [\"write_file\"]\n",
        );
        let fixed = "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n\
                     [engine]\nlease_s = 1.5\nbeat_s = 0.3\n\
                     [conversations]\nfollow_up = \"beside\"\nturns = 0\n\
                     [[routes]]\nmatches = ''\nagents = [\"worker\"]\n";
        write("majordomo.toml", &format!("{fixed}{settings}"));
        place.configure(&config);
        Self { place }
    }

    /// One life, that ends at this place, or when `done`.
    async fn live(&self, at: Option<&str>, done: impl Future<Output = bool>) -> bool {
        self.place.lapse().await;
        let folder = self.place.path();
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_replica")));
        command
            .arg(folder.join("config"))
            .arg(folder.join("data"))
            .arg("127.0.0.1:9")
            .arg(folder.join("config/script.toml"))
            .args(["0", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if let Some(at) = at {
            command.env("MAJORDOMO_CRASH", at);
        }
        let mut child = command.spawn().unwrap();
        let _input = child.stdin.take();
        tokio::select! {
            _ = child.wait() => false,
            done = done => {
                let _ = child.kill().await;
                done
            }
        }
    }
}

async fn telegram_gets_a_file_once_whenever_the_process_dies(kind: Kind) {
    let fake = FakeTelegram::start().await;
    let lives = Lives::new(kind, WRITES, &telegram_settings(&fake)).await;
    let mut asked = Vec::new();
    let files = |fake: &FakeTelegram, to: i64| {
        let messages = fake.from_bot(ADA).into_iter();
        let ours = messages.filter(|m| m.reply_to == Some(to));
        ours.fold((0, 0), |(answers, files), message| match message.document {
            Some(_) => (answers, files + 1),
            None => (answers + usize::from(message.text == "Written."), files),
        })
    };
    let mut killed = 0;
    for place in &PLACES[..8] {
        asked.push(fake.says(Say::new(ADA, ADA, "Write it")).message_id);
        let last = *asked.last().unwrap();
        let brought = fake.until(Duration::from_secs(8), |fake| files(fake, last).1 == 1);
        killed += u32::from(!lives.live(Some(place), brought).await);
    }
    assert!(killed >= 6, "{killed} lives were cut short");
    let all = |fake: &FakeTelegram| asked.iter().all(|to| files(fake, *to) == (1, 1));
    let brought = async {
        let brought = fake.until(PATIENCE * 3, all).await;
        // Whatever would come twice would come now.
        tokio::time::sleep(Duration::from_millis(500)).await;
        brought
    };
    lives.live(None, brought).await;
    let counts: Vec<_> = asked.iter().map(|to| files(&fake, *to)).collect();
    assert!(counts.iter().all(|count| *count == (1, 1)), "{counts:?}");
}

async fn slack_gets_a_file_once_whenever_the_process_dies(kind: Kind) {
    let fake = FakeSlack::start().await;
    fake.configure(|settings| {
        settings.socket_mode = true;
        settings.retry_speed = 60.0;
        settings.dead_ms = 500;
        settings.share_ms = 300;
    });
    fake.add_channel(GENERAL, "general", &[UADA]);
    let replies =
        format!("{WRITES}[[agent.reply]]\nuser = \"Backups run at two\"\ntext = \"At two.\"\n");
    let lives = Lives::new(kind, &replies, &slack_settings(&fake)).await;
    let asked = Mutex::new(Vec::<String>::new());
    let files = |fake: &FakeSlack, ts: &str| {
        let thread = fake.thread(GENERAL, ts).into_iter().filter(|m| m.by_bot);
        thread.fold((0, 0), |(answers, files), message| {
            (
                answers + usize::from(message.text == "Written."),
                files + message.files.len(),
            )
        })
    };
    let mut killed = 0;
    for place in PLACES {
        let brought = async {
            // What Slack gets rid of nowhere it gives up after a while.
            assert!(fake.until(PATIENCE, |fake| fake.sockets() > 0).await);
            let ts = fake.mention(GENERAL, UADA, "Write it").ts;
            asked.lock().unwrap().push(ts.clone());
            fake.until(Duration::from_secs(8), |fake| files(fake, &ts).1 == 1)
                .await
        };
        killed += u32::from(!lives.live(Some(place), brought).await);
    }
    let asked = asked.into_inner().unwrap();
    assert!(asked.len() >= 6, "{} threads", asked.len());
    assert!(killed >= 6, "{killed} lives were cut short");
    // In the last life a PDF comes in, too: it is read by a process of its own.
    let direct = fake.im(UADA);
    let mut say = with_file("notes.pdf", "application/pdf", &pdf("Backups run at two"));
    say.channel = direct.clone();
    let all = |fake: &FakeSlack| {
        asked.iter().all(|ts| files(fake, ts) == (1, 1)) && post("At two.")(&fake.from_bot(&direct))
    };
    let brought = async {
        assert!(fake.until(PATIENCE, |fake| fake.sockets() > 0).await);
        fake.say(say);
        let brought = fake.until(PATIENCE * 3, all).await;
        // Whatever would come twice would come now.
        tokio::time::sleep(Duration::from_millis(500)).await;
        brought
    };
    lives.live(None, brought).await;
    let counts: Vec<_> = asked.iter().map(|ts| files(&fake, ts)).collect();
    assert!(counts.iter().all(|count| *count == (1, 1)), "{counts:?}");
    let said = fake.from_bot(&direct);
    assert!(post("At two.")(&said), "{said:#?}");
}
