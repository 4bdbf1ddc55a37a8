//! Every secret of a configuration that has all of them is a canary: a text that stands nowhere else. All
//! doors are driven through success and through every failure that a far side can make, with everything
//! logged that can be; then logs, data, chats and answers are searched for each canary, in the forms in
//! which texts are written and hidden. A far side that repeats what it was told is among the failures. The
//! control: each form of each canary is found where it is planted.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use fastrand::Rng;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::house::{self, House};
use super::{Finding, Plan};
use crate::doubles::fault::FailHow;
use crate::doubles::front::{Front, hangup};
use crate::doubles::slack::{self, FakeSlack, TEAM};
use crate::doubles::telegram::{self, FakeTelegram, Say};
use crate::place::{Kind, Place};

const ADA: i64 = 7;
const GENERAL: &str = "C1";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long failures are looked at, in seconds: long enough that each is met, in the full form often.
const TROUBLE_S: (u32, u32) = (2, 10);
const AGENT: &str = "name = \"executor\"\ndescription = \"Answers what comes in, with the same words.\"\n\
    prompt = \"You are the executor.\"\n";
/// Secrets, by what they are.
const NAMES: [&str; 13] = [
    "telegram",
    "bot",
    "app",
    "signing",
    "github",
    "stripe",
    "standard",
    "plain",
    "callbacks",
    "model",
    "header",
    "search",
    "database",
];

/// Secrets that stand nowhere else.
struct Canaries(Vec<(&'static str, String)>);

impl Canaries {
    fn hatch(chance: &mut Rng) -> Self {
        let mut fresh = |name: &&'static str| {
            let letters = std::iter::repeat_with(|| chance.alphanumeric()).take(32);
            (*name, letters.collect())
        };
        Self(NAMES.iter().map(&mut fresh).collect())
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, canary)| canary)
    }

    /// The names of those that stand in a text, with the forms in which they do.
    fn found(&self, text: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(text);
        let mut found = Vec::new();
        for (name, canary) in &self.0 {
            let of_it = forms(canary).into_iter();
            let there = of_it.filter(|(_, form)| text.contains(form.as_str()));
            found.extend(
                there.map(|(how, form)| format!("{name}, {how}: {}", around(&text, &form))),
            );
        }
        found
    }
}

/// The beginning of the line in which a form stands, without the form.
fn around(text: &str, form: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.contains(form))
        .unwrap_or_default();
    line.replace(form, "CANARY").chars().take(300).collect()
}

/// The ways in which a text may be written.
fn forms(canary: &str) -> Vec<(&'static str, String)> {
    let (front, back) = canary.split_at(canary.len() / 2);
    let percent = |byte: u8| format!("%{byte:02X}");
    // What surrounds a text shifts its base64 by nothing, one or two bytes; the ends are left out.
    let shifted = |by: usize| {
        let whole = STANDARD_NO_PAD.encode(format!("{}{canary}", "\0".repeat(by)));
        whole[4..whole.len() - 4].to_owned()
    };
    vec![
        ("as it is", canary.to_owned()),
        ("halves the other way", format!("{back}{front}")),
        ("backwards", canary.chars().rev().collect()),
        (
            "base64",
            STANDARD.encode(canary).trim_end_matches('=').to_owned(),
        ),
        ("base64 after one byte", shifted(1)),
        ("base64 after two bytes", shifted(2)),
        ("base64 for URLs", URL_SAFE_NO_PAD.encode(canary)),
        ("hex", hex::encode(canary)),
        ("HEX", hex::encode_upper(canary)),
        ("percent", canary.bytes().map(percent).collect()),
        (
            "percent, small",
            canary
                .bytes()
                .map(percent)
                .collect::<String>()
                .to_lowercase(),
        ),
    ]
}

/// Everything that was let out, by where it was found.
#[derive(Default)]
struct Heap(Vec<(String, Vec<u8>)>);

impl Heap {
    fn put(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    /// All files below a folder.
    fn folder(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => self.folder(&path),
                false => self.put(
                    path.display().to_string(),
                    std::fs::read(&path).unwrap_or_default(),
                ),
            }
        }
    }

    /// All rows of a database.
    async fn tables(&mut self, place: &Place) {
        let Some(database) = place.postgres() else {
            return;
        };
        let client = database.client().await;
        let tables = "select table_name::text from information_schema.tables where table_schema = 'majordomo'
            and table_type = 'BASE TABLE'";
        for table in client.query(tables, &[]).await.expect("it reads") {
            let name: String = table.get(0);
            let rows = format!("select t::text from majordomo.\"{name}\" t");
            for row in client.query(&rows, &[]).await.expect("it reads") {
                self.put(format!("table {name}"), row.get::<_, String>(0));
            }
        }
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kinds: &[Kind] = match plan.full {
        true => &[Kind::Folder, Kind::Database],
        false => &[Kind::Folder],
    };
    for kind in kinds {
        findings.push(on(plan, *kind).await);
    }
    findings
}

/// How long failures are looked at.
fn trouble_time(plan: &Plan) -> Duration {
    Duration::from_secs(u64::from(plan.times(TROUBLE_S.0, TROUBLE_S.1)))
}

async fn on(plan: &Plan, kind: Kind) -> Finding {
    let place = kind.place().await;
    let mut canaries = Canaries::hatch(&mut plan.chance());
    let mut heap = Heap::default();
    let log = place.path().join("log");
    let rounds = [
        well(plan, &place, &mut canaries, &log, &mut heap).await,
        mischief(plan, &place, &canaries, &log, &mut heap, "http").await,
        mischief(plan, &place, &canaries, &log, &mut heap, "https").await,
        beside(plan, &place, &canaries, &log).await,
    ];
    heap.put("the log", std::fs::read(&log).unwrap_or_default());
    heap.folder(&place.path().join("data"));
    heap.tables(&place).await;
    let mut found = Vec::new();
    for (place, bytes) in &heap.0 {
        found.extend(
            canaries
                .found(bytes)
                .into_iter()
                .map(|what| format!("{place}: {what}")),
        );
    }
    found.sort();
    found.dedup();
    found
        .iter()
        .take(20)
        .for_each(|what| eprintln!("canaries: {what}"));
    let (mut planted, mut seen) = (0, 0);
    for (_, canary) in &canaries.0 {
        for (how, form) in forms(canary) {
            planted += 1;
            let text = format!("a log line with \"{form}\" in it");
            let caught = canaries.found(text.as_bytes());
            seen += usize::from(
                caught
                    .iter()
                    .any(|what| what.contains(&format!(", {how}: "))),
            );
        }
    }
    let line = format!(
        "{kind:?}: {} canaries in {} forms, {} far sides' answers in 4 rounds: found {} in {} places, {:.1} MiB; \
         control: {seen} of {planted} planted found",
        canaries.0.len(),
        forms("xxxxxxxx").len(),
        rounds.iter().sum::<usize>(),
        found.len(),
        heap.0.len(),
        heap.bytes() as f64 / 1024.0 / 1024.0
    );
    Finding {
        line,
        holds: found.is_empty() && seen == planted && rounds.iter().all(|answers| *answers > 0),
    }
}

/// A configuration with all secrets there are.
fn configure(
    place: &Place,
    canaries: &Canaries,
    telegram: &str,
    slack: &str,
    model: &str,
    socket: bool,
) {
    let kept = |name: &str, value: String| house::secret(place, name, &value);
    let plain = |name: &str| kept(name, canaries.get(name).to_owned());
    let standard = |name: &str| kept(name, format!("whsec_{}", canaries.get(name)));
    let hook = |name: &str, secret: String, verify: &str| {
        format!(
            "[hooks.{name}]\nsecret = \"{secret}\"\ntext = \"{{{{text}}}}\"\nverify = {verify}\n"
        )
    };
    let database = place.postgres().map(|database| {
        let (scheme, rest) = database.url().split_once("://").expect("a URL");
        let (login, rest) = rest.split_once('@').expect("a login");
        let login = login.split(':').next().unwrap_or_default();
        format!(
            "database_url = \"{scheme}://{login}:{}@{rest}\"\n",
            plain("database")
        )
    });
    let mode = if socket { "socket" } else { "http" };
    let settings = [
        database.unwrap_or_default(),
        format!(
            "[models.default]\nprovider = \"openai\"\nmodel = \"m\"\nlocal = true\ntimeout_s = 2\nbase_url = \"{model}\"\n\
             api_key = \"{}\"\nheaders = {{ X-Team-Key = \"{}\" }}\n[retry]\nbase_s = 0.01\n",
            plain("model"),
            plain("header")
        ),
        "[egress]\nallow_private = [\"127.0.0.1\"]\n".into(),
        format!(
            "[search]\nprovider = \"tavily\"\napi_key = \"{}\"\n",
            plain("search")
        ),
        format!(
            "[callbacks]\nsecret = \"{}\"\nfirst_pause_s = 0.01\ntimeout_s = 1\n",
            standard("callbacks")
        ),
        "[[routes]]\nmatches = \"\"\nagents = [\"executor\"]\n".into(),
        format!(
            "[telegram]\napi_url = \"{telegram}\"\ntoken = \"{}\"\n",
            kept(
                "telegram",
                format!("7000000001:AA{}", canaries.get("telegram"))
            )
        ),
        format!(
            "[slack]\nmode = \"{mode}\"\napi_url = \"{slack}\"\nbot_token = \"{}\"\napp_token = \"{}\"\n\
             signing_secret = \"{}\"\n",
            kept("bot", format!("xoxb-{}", canaries.get("bot"))),
            kept("app", format!("xapp-{}", canaries.get("app"))),
            plain("signing")
        ),
        hook("github", plain("github"), "\"github\""),
        hook("stripe", plain("stripe"), "\"stripe\""),
        hook("standard", standard("standard"), "\"standard\""),
        hook(
            "plain",
            plain("plain"),
            "\"hmac\"\nheader = \"X-Signature\"",
        ),
        format!(
            "[[people]]\nname = \"ada\"\ntelegram = {ADA}\nslack = \"{TEAM}/U1\"\nroles = [\"admin\"]\n"
        ),
    ];
    house::write(place, "majordomo.toml", &settings.concat());
    house::write(place, "agents/executor.toml", AGENT);
}

async fn started(plan: &Plan, place: &Place, log: &Path) -> House {
    let mut command = house::command(plan, place, log);
    command.env("RUST_LOG", "trace");
    House::start(command, place, log).await
}

/// Far sides that work, and then fail as they can. How many answers they gave.
async fn well(
    plan: &Plan,
    place: &Place,
    canaries: &mut Canaries,
    log: &Path,
    heap: &mut Heap,
) -> usize {
    let settings = telegram::Settings {
        token: format!("7000000001:AA{}", canaries.get("telegram")),
        ..telegram::Settings::default()
    };
    let telegram = FakeTelegram::start_with(settings, 0).await.expect("a port");
    let settings = slack::Settings {
        bot_token: format!("xoxb-{}", canaries.get("bot")),
        app_token: format!("xapp-{}", canaries.get("app")),
        signing_secret: canaries.get("signing").to_owned(),
        socket_mode: true,
        ..slack::Settings::default()
    };
    let slack = FakeSlack::start_with(settings, 0).await.expect("a port");
    slack.add_channel(GENERAL, "general", &["U1"]);
    let (model, far) = far_side(model).await;
    let url = format!("http://{}", far.addr());
    configure(
        place,
        canaries,
        &telegram.url(),
        &slack.url(),
        &format!("{url}/v1"),
        true,
    );
    let house = started(plan, place, log).await;
    let order = json!({"name": "team", "scopes": ["tasks"]});
    let token = house.ask("POST", "/v1/tokens", &order).await.json()["token"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let token = token.rsplit('_').next().unwrap_or_default().to_owned();
    assert!(token.len() > 20, "a token is made");
    canaries.0.push(("token", token));
    // What finds no socket comes again after a minute.
    slack.until(PATIENCE, |it| it.sockets() > 0).await;
    telegram.says(Say::new(ADA, ADA, "Do it"));
    slack.mention(GENERAL, "U1", "Do it");
    let order = json!({"text": "Do it", "callback_url": format!("{url}/done")});
    heap.put(
        "POST /v1/tasks",
        house.ask("POST", "/v1/tasks", &order).await.bytes,
    );
    let said = telegram
        .until(PATIENCE, |it| {
            it.from_bot(ADA).iter().any(|m| m.text == "Done.")
        })
        .await;
    let both = slack
        .until(PATIENCE, |it| {
            it.from_bot(GENERAL).iter().any(|m| m.text == "Done.")
        })
        .await;
    assert!(said && both, "the doors work: {said} {both}");
    let faults = [
        FailHow::DropBefore,
        FailHow::DropAfter,
        FailHow::Error500,
        FailHow::BadGateway,
        FailHow::BadGatewayAfter,
        FailHow::Malformed,
        FailHow::HangAfter { ms: 200 },
    ];
    for how in faults {
        telegram.fail_next("*", how);
        slack.fail_next("*", how);
    }
    telegram.storm(ADA, 1, 1);
    slack.storm(GENERAL, 1, 1);
    telegram.says(Say::new(ADA, ADA, "Again"));
    slack.mention(GENERAL, "U1", "Again");
    slack.cut_sockets();
    tokio::time::sleep(trouble_time(plan)).await;
    let right = telegram.token();
    telegram.change_token("7000000001:AAsomebodyelsessomebodyelses");
    slack.configure(|settings| settings.bot_token = "xoxb-somebody-elses".into());
    telegram.says(Say::new(ADA, ADA, "With another token"));
    look(&house, heap).await;
    tokio::time::sleep(trouble_time(plan) / 2).await;
    telegram.change_token(&right);
    telegram.block(ADA);
    telegram.says(Say::new(ADA, ADA, "From somebody who has blocked the bot"));
    tokio::time::sleep(trouble_time(plan) / 2).await;
    look(&house, heap).await;
    house.stop().await;
    heap.put("Telegram", format!("{:?}", telegram.ever(ADA)));
    heap.put(
        "Slack",
        format!("{:?} {:?}", slack.ever(GENERAL), slack.ephemerals()),
    );
    let told = model.lock().unwrap_or_else(PoisonError::into_inner);
    heap.put("what the model and the receiver were sent", told.concat());
    telegram.calls().len() + slack.calls().len() + told.len()
}

/// One server that is all far sides, and fails as servers do, repeating what it was told.
async fn mischief(
    plan: &Plan,
    place: &Place,
    canaries: &Canaries,
    log: &Path,
    heap: &mut Heap,
    scheme: &str,
) -> usize {
    let (told, far) = far_side(trouble).await;
    let url = format!("{scheme}://{}", far.addr());
    configure(
        place,
        canaries,
        &url,
        &format!("{url}/api"),
        &format!("{url}/v1"),
        false,
    );
    let house = started(plan, place, log).await;
    for n in 0..12 {
        let order = json!({"text": format!("Do it {n}"), "callback_url": format!("{url}/done")});
        heap.put(
            "POST /v1/tasks",
            house.ask("POST", "/v1/tasks", &order).await.bytes,
        );
    }
    tokio::time::sleep(trouble_time(plan)).await;
    look(&house, heap).await;
    house.stop().await;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    heap.put("what far sides were sent", told.concat());
    // What is refused for its certificate hears nothing.
    told.len().max(usize::from(scheme == "https"))
}

/// The other commands, and a start that fails. How many there were.
async fn beside(plan: &Plan, place: &Place, canaries: &Canaries, log: &Path) -> usize {
    let commands = [
        &["check"][..],
        &["doctor"],
        &["tasks", "list"],
        &["ask", "Do it", "--json"],
    ];
    for args in commands {
        let mut command = house::command(plan, place, log);
        command.env("RUST_LOG", "trace").args(args);
        command.stdout(
            std::fs::File::options()
                .append(true)
                .open(log)
                .expect("the log"),
        );
        let ended = tokio::time::timeout(PATIENCE, async { command.spawn()?.wait().await });
        drop(ended.await);
    }
    // A database that is not there, and whose address holds a password.
    let settings = place.path().join("config/majordomo.toml");
    let text = std::fs::read_to_string(&settings).unwrap_or_default();
    let rest = text.split_once("[models").map_or("", |(_, rest)| rest);
    let password = house::secret(place, "database", canaries.get("database"));
    let address =
        format!("database_url = \"postgres://majordomo:{password}@127.0.0.1:9/majordomo\"\n");
    house::write(place, "majordomo.toml", &format!("{address}[models{rest}"));
    let mut command = house::command(plan, place, log);
    command
        .env("RUST_LOG", "trace")
        .args(["serve", "--listen", "127.0.0.1:0"]);
    let ended = tokio::time::timeout(PATIENCE, async { command.spawn()?.wait().await });
    drop(ended.await);
    commands.len() + 1
}

/// What an instance shows of itself.
async fn look(house: &House, heap: &mut Heap) {
    let tasks = house.ask("GET", "/v1/tasks", &Value::Null).await;
    let ids = tasks.json()["tasks"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ids = ids.iter().filter_map(|task| task["id"].as_str());
    let of_task = |id| {
        [
            format!("/v1/tasks/{id}"),
            format!("/v1/tasks/{id}/transcript"),
        ]
    };
    let paths = ids.take(20).flat_map(of_task);
    let fixed = [
        "/readyz",
        "/metrics",
        "/v1/doctor",
        "/v1/runs/dead",
        "/v1/tokens",
        "/openapi.json",
    ];
    let paths: Vec<String> = paths.chain(fixed.map(str::to_owned)).collect();
    heap.put("GET /v1/tasks", tasks.bytes);
    for path in paths {
        let shown = house.ask("GET", &path, &Value::Null).await;
        heap.put(format!("GET {path}"), shown.bytes);
    }
}

/// What a far side was sent, without addresses and headers: tokens belong there.
type Told = Arc<Mutex<Vec<String>>>;
/// What a far side answers: to its so-manieth request, which said this.
type Manner = fn(usize, &str) -> Response<Body>;

async fn far_side(manner: Manner) -> (Told, Front) {
    let told = Told::default();
    let router = Router::new()
        .fallback(hear)
        .with_state((told.clone(), manner));
    (told, Front::open(router, 0).await.expect("a port"))
}

async fn hear(
    State((told, manner)): State<(Told, Manner)>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_else(|_| Bytes::new());
    let body = String::from_utf8_lossy(&body).into_owned();
    let whole = format!("{} {} {:?} {body}", head.method, head.uri, head.headers);
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    told.push(body);
    manner(told.len(), &whole)
}

/// A model that answers, and a receiver that takes everything.
fn model(_: usize, _: &str) -> Response<Body> {
    let answer = json!({
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Done."}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    });
    answered(StatusCode::OK, "application/json", answer.to_string())
}

/// A server in trouble, which repeats what it was told.
fn trouble(n: usize, whole: &str) -> Response<Body> {
    let json = |status| {
        let said = json!({
            "ok": false, "error_code": status, "description": whole, "message": whole,
            "error": match n % 3 { 0 => json!(whole), _ => json!({"message": whole, "code": "invalid_api_key"}) },
        });
        let status = StatusCode::from_u16(status).unwrap_or_default();
        answered(status, "application/json", said.to_string())
    };
    let page = |status: StatusCode| {
        let page = format!(
            "<html><h1>{status}</h1><p>The requested {whole} was not found here.</p></html>"
        );
        answered(status, "text/html", page)
    };
    match n % 13 {
        0 => json(401),
        1 => json(403),
        2 => json(404),
        3 => json(200),
        4 => json(500),
        5 => page(StatusCode::NOT_FOUND),
        6 => page(StatusCode::BAD_GATEWAY),
        7 => answered(
            StatusCode::OK,
            "application/json",
            format!("{{\"ok\": true, \"result\": \"{whole}"),
        ),
        8 => {
            let mut elsewhere =
                answered(StatusCode::TEMPORARY_REDIRECT, "text/plain", whole.into());
            let there = "http://127.0.0.1:9/elsewhere".parse().expect("a header");
            elsewhere.headers_mut().insert("Location", there);
            elsewhere
        }
        9 => hangup(),
        10 => json(429),
        11 => answered(StatusCode::OK, "application/json", String::new()),
        _ => json(400),
    }
}

fn answered(status: StatusCode, kind: &str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = kind.parse().expect("a header");
    response.headers_mut().insert("Content-Type", kind);
    response
}
