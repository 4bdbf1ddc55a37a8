//! Letters, against a mail server that somebody else wrote: what arrives is what was meant, nothing is
//! sent twice, and what nobody can know is put before a person. Wherever the server breaks off, and
//! wherever the process dies.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use agents::run::doubt_signal;
use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::smtp::{MailServer, Manner, header};
use majordomo_tests::life;
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::wait;
use shared::config::Settings;
use shared::egress::Gateway;
use shared::email::{Attachment, Letter, Mailer, SmtpMailer};
use shared::event::Event;
use shared::hash::Hash;
use shared::id::TaskId;
use shared::run::{Failure, FailureKind};
use shared::store::{Delivered, NewSignal, RunState};
use shared::task::TaskState;

on_both_stores!(
    an_agent_sends_a_letter_with_what_it_wrote,
    a_server_that_asks_for_patience_gets_the_same_letter_again,
    a_letter_that_nobody_can_vouch_for_is_put_before_a_person,
    killed_at_every_point_no_letter_goes_twice,
    a_mutant_that_ignores_effect_classes_sends_twice,
);

/// A mailer for this server, with more settings.
fn mailer(server: &MailServer, tls: &str, more: Value) -> SmtpMailer {
    let mut email = json!({
        "host": "127.0.0.1", "port": server.port, "tls": tls, "ca_file": server.ca,
        "from": "Major Domo <majordomo@house.example>", "allow": ["@example.org"], "timeout_s": 5.0,
    });
    for (key, value) in more.as_object().expect("a table") {
        email[key] = value.clone();
    }
    email
        .as_object_mut()
        .expect("a table")
        .retain(|_, value| !value.is_null());
    let settings: Settings = serde_json::from_value(json!({ "email": email })).expect("settings");
    let gateway = Gateway::new(&settings.egress).expect("a gateway");
    SmtpMailer::new(&settings.email.expect("set"), &gateway).expect("a mailer")
}

fn letter() -> Letter {
    Letter {
        key: Hash::of_bytes(b"a letter"),
        to: vec!["ada@example.org".parse().unwrap()],
        cc: Vec::new(),
        reply_to: None,
        subject: "Hello".into(),
        body: "All is **well**.\n".repeat(4000),
        attachments: Vec::new(),
    }
}

async fn send(mailer: &SmtpMailer) -> Result<shared::email::Sent, Failure> {
    mailer.send(&letter(), &CancellationToken::new()).await
}

/// What came of a letter.
#[derive(Debug, PartialEq)]
enum Came {
    /// It was sent.
    Sent,
    /// It was not, and may be tried again.
    Again,
    /// It was not, and will not be.
    Never,
    /// Nobody can tell.
    Doubt,
}

fn came(sent: &Result<shared::email::Sent, Failure>) -> Came {
    match sent {
        Ok(_) => Came::Sent,
        Err(failure) if failure.may_have_happened => Came::Doubt,
        Err(failure) if failure.kind == FailureKind::Transient => Came::Again,
        Err(failure) => {
            assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
            Came::Never
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_decides_what_came_of_a_letter() {
    // The fault, what is said of the letter, how many letters the server has.
    let mut table = Vec::new();
    for stage in ["ehlo", "auth", "mail", "rcpt", "data"] {
        table.push((stage, "drop", Came::Again, 0));
        table.push((stage, "hang", Came::Again, 0));
        table.push((stage, "421", Came::Again, 0));
        table.push((stage, "550", Came::Never, 0));
        table.push((stage, "slow", Came::Sent, 1));
    }
    table.extend([
        ("connect", "drop", Came::Again, 0),
        ("data", "250", Came::Never, 0),
        ("body", "drop", Came::Again, 0),
        ("dot", "drop", Came::Doubt, 1),
        ("dot", "hang", Came::Doubt, 1),
        ("dot", "slow", Came::Sent, 1),
        ("dot", "451", Came::Again, 0),
        ("dot", "554", Came::Never, 0),
        ("dot", "354", Came::Doubt, 0),
        ("quit", "drop", Came::Sent, 1),
        ("quit", "hang", Came::Sent, 1),
        ("quit", "550", Came::Sent, 1),
    ]);
    for (stage, what, expected, letters) in table {
        let fault = format!("{stage}:{what}");
        let server = MailServer::start(&["--login", LOGIN, "--fault", &fault]);
        let patience = if what == "hang" { 0.5 } else { 5.0 };
        let mailer = mailer(
            &server,
            "none",
            login(json!({"timeout_s": patience, "max_kib": 51_200})),
        );
        let mut letter = letter();
        if stage == "body" {
            // More than waits in the buffers between here and there.
            letter.attachments = vec![Attachment {
                name: "large.bin".into(),
                mime: "application/octet-stream".into(),
                bytes: vec![7; 24 << 20].into(),
            }];
        }
        let sent = mailer.send(&letter, &CancellationToken::new()).await;
        assert_eq!(came(&sent), expected, "{fault}: {sent:?}");
        assert_eq!(server.letters().len(), letters, "{fault}: {sent:?}");
        assert_eq!(
            server.connections(),
            1,
            "{fault}: an attempt is one connection"
        );
        if let Err(failure) = sent {
            assert!(!failure.message.contains("canary"), "{failure}");
            let named = failure.message.contains(&mailer.message_id(letter.key));
            assert_eq!(named, expected == Came::Doubt, "{fault}: {failure}");
        }
    }
}

const LOGIN: &str = "ada:p\u{e4}ssword canary";

fn login(mut more: Value) -> Value {
    more["user"] = "ada".into();
    more["password"] = LOGIN.trim_start_matches("ada:").into();
    more
}

/// Nobody waits any more: what the server was given decides, as when it breaks off.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_not_wanted_any_more_is_in_doubt_only_once_it_was_given_away() {
    for (stage, expected, there) in [
        ("data", FailureKind::Cancelled, 0),
        ("dot", FailureKind::Cancelled, 1),
    ] {
        let server = MailServer::start(&["--fault", &format!("{stage}:hang")]);
        let mailer = mailer(&server, "none", json!({"timeout_s": 60.0}));
        let (letter, cancel) = (letter(), CancellationToken::new());
        let sent = mailer.send(&letter, &cancel);
        let cancelling = async {
            let there = async || server.connections() > 0 && server.letters().len() >= there;
            wait::until("it is given away", Duration::from_secs(30), there).await;
            cancel.cancel();
        };
        let (sent, ()) = tokio::join!(sent, cancelling);
        let failure = sent.unwrap_err();
        assert_eq!(
            (failure.kind, failure.may_have_happened),
            (expected, there == 1),
            "{stage}: {failure}"
        );
        assert_eq!(server.letters().len(), there);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_recipient_that_is_refused_keeps_the_letter_from_all() {
    let server = MailServer::start(&[]);
    for (second, expected) in [
        ("nobody@example.org", Came::Never),
        ("later@example.org", Came::Again),
    ] {
        let mut letter = letter();
        letter.cc = vec![second.parse().unwrap()];
        let mailer = mailer(&server, "none", json!({}));
        let sent = mailer.send(&letter, &CancellationToken::new()).await;
        assert_eq!(came(&sent), expected, "{sent:?}");
        assert!(sent.unwrap_err().message.contains(second));
    }
    assert_eq!(server.letters(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_agreed_on_with_the_right_server_or_nothing_is_said() {
    let with_login = |more: &[&'static str]| [&["--login", LOGIN][..], more].concat();
    for tls in ["implicit", "starttls"] {
        let server = MailServer::start(&with_login(&["--tls", tls]));
        let sent = send(&mailer(&server, tls, login(json!({})))).await;
        assert_eq!(came(&sent), Came::Sent, "{tls}: {sent:?}");
        let named = send(&mailer(&server, tls, login(json!({"host": "localhost"})))).await;
        assert_eq!(came(&named), Came::Sent, "{tls}: {named:?}");
        let letters = server.letters();
        assert_eq!(
            (letters[0]["tls"].as_bool(), letters[0]["login"].as_str()),
            (Some(true), Some("ada"))
        );

        // Signed by nobody whom this machine knows.
        let stranger = send(&mailer(&server, tls, login(json!({"ca_file": null})))).await;
        assert_eq!(came(&stranger), Came::Never, "{tls}: {stranger:?}");
        let wrong = json!({"user": "ada", "password": "canary"});
        let wrong = send(&mailer(&server, tls, wrong)).await;
        assert_eq!(came(&wrong), Came::Never, "{tls}: {wrong:?}");
        let told = wrong.unwrap_err().message;
        assert!(told.contains("535") && !told.contains("canary"), "{told}");
        assert_eq!(server.letters().len(), 2);

        let other = MailServer::start(&with_login(&["--tls", tls, "--name", "other.example"]));
        let sent = send(&mailer(&other, tls, login(json!({})))).await;
        assert_eq!(came(&sent), Came::Never, "{tls}: {sent:?}");
        assert!(sent.unwrap_err().message.contains("certificate"));
    }
    for what in ["drop", "454", "hang"] {
        let fault = format!("starttls:{what}");
        let server = MailServer::start(&["--tls", "starttls", "--fault", &fault]);
        let sent = send(&mailer(&server, "starttls", json!({"timeout_s": 0.5}))).await;
        assert_eq!(came(&sent), Came::Again, "{what}: {sent:?}");
    }
    let clear = MailServer::start(&[]);
    let sent = send(&mailer(&clear, "starttls", login(json!({})))).await;
    assert_eq!(came(&sent), Came::Never, "{sent:?}");
    assert!(sent.unwrap_err().message.contains("no STARTTLS"));
}

/// What stands behind the word that TLS may begin was said in the clear, and is believed by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_tls_is_not_taken_for_said_inside() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let attacker = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut said = String::new();
        stream.write_all(b"220 mail.test\r\n").await.unwrap();
        stream.read_line(&mut said).await.unwrap();
        stream
            .write_all(b"250-mail.test\r\n250 STARTTLS\r\n")
            .await
            .unwrap();
        stream.read_line(&mut said).await.unwrap();
        let more = b"220 go ahead\r\n250-evil.example\r\n250 AUTH PLAIN\r\n235 welcome\r\n";
        stream.write_all(more).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        (said, rest)
    });
    let server = MailServer::start(&[]);
    let mailer = mailer(&server, "starttls", login(json!({"port": port})));
    let sent = send(&mailer).await;
    assert_eq!(came(&sent), Came::Again, "{sent:?}");
    let told = sent.unwrap_err().message;
    assert!(!told.contains("evil.example"), "{told}");
    let (said, rest) = attacker.await.unwrap();
    assert!(said.ends_with("STARTTLS\r\n"), "{said}");
    // Nothing but the beginning of TLS and its alert: no command in the clear.
    let rest = String::from_utf8_lossy(&rest);
    assert!(
        !rest.contains("AUTH") && !rest.contains("EHLO") && !rest.contains("MAIL"),
        "{rest}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_rules_hold_before_anybody_is_called() {
    let server = MailServer::start(&[]);
    let strict = mailer(
        &server,
        "none",
        json!({"max_recipients": 2, "max_kib": 100, "per_hour": 2}),
    );
    type Change = fn(&mut Letter);
    let refused: [(Change, &str); 6] = [
        (
            |l| l.to = vec!["a@evil.example".parse().unwrap()],
            "a@evil.example may not be written to",
        ),
        (
            |l| l.cc = vec!["a@sub.example.org".parse().unwrap()],
            "a@sub.example.org may not",
        ),
        (
            |l| l.reply_to = Some("a@evil.example".parse().unwrap()),
            "a@evil.example may not",
        ),
        (
            |l| {
                l.cc = ["b", "c"]
                    .map(|n| format!("{n}@example.org").parse().unwrap())
                    .into()
            },
            "3 addresses",
        ),
        (|l| l.to.clear(), "goes to somebody"),
        (|l| l.body = "x".repeat(200_000), "max_kib"),
    ];
    for (change, expected) in refused {
        let mut letter = letter();
        letter.body = "short".into();
        change(&mut letter);
        let failure = strict
            .send(&letter, &CancellationToken::new())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.message.contains(expected), "{failure}");
    }
    assert_eq!(server.connections(), 0);
    let short = Letter {
        body: "short".into(),
        ..letter()
    };
    for expected in [Came::Sent, Came::Sent, Came::Never] {
        let sent = strict.send(&short, &CancellationToken::new()).await;
        assert_eq!(came(&sent), expected, "{sent:?}");
    }
    assert_eq!(
        server.connections(),
        2,
        "the third within an hour calls nobody"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn examining_logs_in_and_sends_nothing() {
    let server = MailServer::start(&["--tls", "implicit", "--login", LOGIN]);
    let named = mailer(&server, "implicit", login(json!({})))
        .examine()
        .await;
    assert_eq!(named.as_deref(), Ok("mail.test"));
    let wrong = json!({"user": "ada", "password": "canary"});
    assert!(mailer(&server, "implicit", wrong).examine().await.is_err());
    assert_eq!(server.letters(), Vec::<Value>::new());
}

/// A worker who sends a letter by these arguments, and says so.
fn sender(server: &MailServer, args: &str) -> Setup {
    let replies = format!(
        "[[agent.reply]]\ncalls = [{{ tool = \"write_file\", args = {{ path = \"out/report.md\", text = \"# R\\u00e9port\\n\" }} }}]\n\
         [[agent.reply]]\ncalls = [{{ tool = \"send_email\", args = {args} }}]\n\
         [[agent.reply]]\ntext = \"It is settled.\"\n"
    );
    let more = format!(
        "[engine]\npark_after_s = 0.0\n{}",
        server.settings("implicit")
    );
    Setup::worker(&replies, &[], &more)
        .agent("worker", "tools = [\"write_file\", \"send_email\"]\n")
}

const ARGS: &str = r#"{ to = ["bob@example.org", "ada@example.org"], cc = ["ada@example.org"], subject = "Grüße, 日本", body = "Hello **you**\n\n.\n<b>", attachments = ["out/report.md", "given.txt"] }"#;

const IMPLICIT: Manner<'static> = &["--tls", "implicit"];

async fn an_agent_sends_a_letter_with_what_it_wrote(kind: Kind) {
    let server = MailServer::start(IMPLICIT);
    let app = sender(&server, ARGS)
        .material("given.txt", "given")
        .on(kind)
        .start()
        .await;
    let task = app.ask("Send it").await;
    assert_eq!(
        task.answer.as_deref(),
        Some("It is settled."),
        "{:?}",
        task.error
    );
    let [letter] = &server.letters()[..] else {
        panic!("one letter: {:?}", server.letters());
    };
    assert_eq!(
        letter["to"],
        json!(["ada@example.org", "bob@example.org"]),
        "each once"
    );
    assert_eq!(letter["from"], "majordomo@house.example");
    assert_eq!(
        header(letter, "From"),
        ["Major Domo <majordomo@house.example>"]
    );
    assert_eq!(header(letter, "Subject"), ["Grüße, 日本"]);
    assert_eq!(letter["text"], "Hello **you**\r\n\r\n.\r\n<b>");
    let html = letter["html"].as_str().unwrap();
    assert!(
        html.contains("<strong>you</strong>") && html.contains("&lt;b&gt;"),
        "{html}"
    );
    assert_eq!(letter["defects"], json!([]));
    let sha256 = |text: &str| Hash::of_bytes(text.as_bytes()).to_string();
    let file = |name: &str, mime: &str, text: &str| json!({"name": name, "mime": mime, "sha256": sha256(text)});
    let files = [
        file("report.md", "text/markdown", "# Réport\n"),
        file("given.txt", "text/plain", "given"),
    ];
    assert_eq!(letter["attachments"], json!(files));

    let [id] = header(letter, "Message-ID")[..] else {
        panic!("one id")
    };
    let steps = app.steps(task.id).await;
    let step = steps.iter().find(|step| step.what == "send_email").unwrap();
    let recorded = step.recorded.as_ref().unwrap();
    let evidence: Vec<(&str, &str)> = recorded
        .evidence
        .iter()
        .map(|one| (&one.kind[..], &one.value[..]))
        .collect();
    let attached = [
        format!("{} report.md", sha256("# Réport\n")),
        format!("{} given.txt", sha256("given")),
    ];
    let expected = [
        ("message_id", id),
        ("smtp_reply", "250 2.0.0 taken as number 1"),
        ("recipients", "ada@example.org, bob@example.org"),
        ("attached", &attached[0]),
        ("attached", &attached[1]),
    ];
    assert_eq!(evidence, expected);
    assert!(app.told().last().unwrap().contains(id), "{:?}", app.told());
    app.stop().await;
}

async fn a_server_that_asks_for_patience_gets_the_same_letter_again(kind: Kind) {
    let server = MailServer::start(&["--tls", "implicit", "--fault", "dot:451:2"]);
    let app = sender(&server, ARGS)
        .material("given.txt", "given")
        .on(kind)
        .start()
        .await;
    let task = app.ask("Send it").await;
    assert_eq!(task.state, TaskState::Done, "{:?}", task.error);
    assert_eq!((server.connections(), server.letters().len()), (3, 1));
    app.stop().await;
}

/// Waits until the letter's task is out of memory because a person has to settle it.
async fn waits(app: &TestApp, task: TaskId) -> NewSignal {
    app.reaches(task, |task| task.state == TaskState::AwaitingHuman)
        .await;
    loop {
        let runs = app.app.store.runs(app.app.tenant(), task).await.unwrap();
        if runs.iter().all(|run| run.state == RunState::Waiting) {
            let run = runs.iter().find(|run| run.parent.is_some()).unwrap();
            return NewSignal {
                tenant: app.app.tenant().clone(),
                run: run.id,
                name: doubt_signal(&"tool/2.0".into()),
                payload: Value::Null,
                by: "ada".into(),
            };
        }
        // Parking tells nobody.
        tokio::task::yield_now().await;
    }
}

async fn a_letter_that_nobody_can_vouch_for_is_put_before_a_person(kind: Kind) {
    let decisions = [
        (json!({"decision": "happened", "result": "it came"}), 1),
        (json!({"decision": "give_up"}), 1),
        (json!({"decision": "again"}), 2),
    ];
    for (decision, sent) in decisions {
        let server = MailServer::start(&["--tls", "implicit", "--fault", "dot:drop:1"]);
        let app = sender(&server, ARGS)
            .material("given.txt", "given")
            .on(kind)
            .start()
            .await;
        let id = app.submit(TestApp::request("Send it")).await;
        let signal = waits(&app, id).await;
        assert_eq!(
            server.letters().len(),
            1,
            "the server has it and did not say so"
        );
        let events = app.events(id).await;
        let why = events.iter().find_map(|event| match event {
            Event::InDoubt { evidence, .. } => Some(evidence[0].value.clone()),
            _ => None,
        });
        let letters = server.letters();
        let message_id = header(&letters[0], "Message-ID")[0];
        assert!(
            why.unwrap().contains(message_id),
            "a person knows what to look for"
        );
        let signal = NewSignal {
            payload: decision.clone(),
            ..signal
        };
        assert_eq!(
            app.app.store.deliver(signal).await.unwrap(),
            Delivered::First
        );
        assert_eq!(app.ends(id).await.state, TaskState::Done, "{decision}");
        assert_eq!(server.letters().len(), sent, "{decision}");
        app.stop().await;
    }
}

/// The process dies at every point of a task that sends a letter, and comes back.
async fn killed_at_every_point_no_letter_goes_twice(kind: Kind) {
    let (mut done, mut asked, mut died_with_it) = (0, 0, 0);
    for at in 1.. {
        let server = MailServer::start(IMPLICIT);
        let place = kind.place().await;
        let config = place.path().join("config");
        configure(&config, &server);
        place.configure(&config);
        place.lapse().await;
        let died = !live(place.path(), Some(&format!("*:{at}")), "")
            .await
            .status
            .success();
        let before = server.letters().len();
        place.lapse().await;
        let last = live(place.path(), None, "").await;
        let view = life::view(&last, &format!("killed at {at}"));
        let letters = server.letters().len();
        match view.state.as_str() {
            "done" => {
                assert_eq!(letters, 1, "killed at {at}");
                done += 1;
            }
            "awaiting_human" => {
                assert_eq!(letters, before, "killed at {at}: nothing was done unasked");
                if let [letter] = &server.letters()[..] {
                    let id = header(letter, "Message-ID")[0];
                    let store = place.open().await;
                    let events = store.events(&"default".into(), view.id, 0, 1000).await;
                    let told = format!("{:?}", events.unwrap());
                    store.close().await;
                    let effect = id.trim_start_matches('<').split('@').next().unwrap();
                    assert!(
                        told.contains(effect),
                        "killed at {at}: {id} is not in {told}"
                    );
                }
                asked += 1;
                died_with_it += letters;
            }
            other => panic!("killed at {at}: the task is {other}: {:?}", view.error),
        }
        if !died {
            break;
        }
    }
    println!("{done} done, {asked} asked, {died_with_it} of those sent");
    assert!(done > 10, "{done}");
    // After its begin was recorded and before its outcome was: sent or not, a person is asked.
    assert!(
        (3..=6).contains(&asked) && died_with_it >= 1 && died_with_it < asked,
        "{asked}, {died_with_it}"
    );
}

fn configure(config: &Path, server: &MailServer) {
    let settings = format!(
        "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n[retry]\nbase_s = 0.01\n\
         [[routes]]\nmatches = ''\nagents = [\"worker\"]\n{}",
        server.settings("implicit")
    );
    let agent = "name = \"worker\"\ndescription = \"Sends the letter that the test asks for, and says so.\"\n\
         prompt = \"You are the worker.\"\ntools = [\"send_email\"]\n";
    let script = "[[agent]]\nname = \"worker\"\nsystem = \"You are the worker\"\n[[agent.reply]]\n\
         calls = [{ tool = \"send_email\", args = { to = [\"ada@example.org\"], subject = \"Hi\", body = \"All is well.\" } }]\n\
         [[agent.reply]]\ntext = \"It is sent.\"\n";
    std::fs::create_dir_all(config.join("agents")).unwrap();
    for (name, text) in [
        ("majordomo.toml", &majordomo_tests::unasked(&settings)[..]),
        ("agents/worker.toml", agent),
        ("script.toml", script),
    ] {
        std::fs::write(config.join(name), text).unwrap();
    }
}

/// One process of the instance, killed at a point or not, and of this mutant.
async fn live(folder: &Path, crash: Option<&str>, mutant: &str) -> std::process::Output {
    let instance = Path::new(env!("CARGO_BIN_EXE_world")).with_file_name("instance");
    let mut command = tokio::process::Command::new(instance);
    command
        .arg(folder.join("config"))
        .arg(folder.join("data"))
        .args(["127.0.0.1:9", "nothing"])
        .stdin(Stdio::null())
        .env_remove("MAJORDOMO_CRASH")
        .env("MAJORDOMO_MUTANT", mutant)
        .kill_on_drop(true);
    if let Some(crash) = crash {
        command.env("MAJORDOMO_CRASH", crash);
    }
    command.output().await.expect("the instance starts")
}

/// The control: who does again whatever was in hand sends a letter twice, and the server shows it.
async fn a_mutant_that_ignores_effect_classes_sends_twice(kind: Kind) {
    for (point, mutant, expected) in [
        ("smtp.before:1", "", 0),
        ("smtp.after:1", "", 1),
        ("smtp.before:1", "ignore-effects", 1),
        ("smtp.after:1", "ignore-effects", 2),
    ] {
        let server = MailServer::start(IMPLICIT);
        let place = kind.place().await;
        let config = place.path().join("config");
        configure(&config, &server);
        place.configure(&config);
        place.lapse().await;
        assert!(
            !live(place.path(), Some(point), mutant)
                .await
                .status
                .success()
        );
        place.lapse().await;
        let view = life::view(&live(place.path(), None, mutant).await, point);
        let state = if mutant.is_empty() {
            "awaiting_human"
        } else {
            "done"
        };
        assert_eq!(view.state, state, "{point} {mutant}");
        assert_eq!(server.letters().len(), expected, "{point} {mutant}");
    }
}
