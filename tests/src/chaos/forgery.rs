//! Requests that are forged, replayed, stale, too large or no HTTP at all, by the thousand, at every
//! endpoint that takes something from outside. None is taken, none is answered by a failure of the server,
//! memory stays as it is, and no signature that would have been right stands in an answer or in a log. The
//! controls: each endpoint takes what is right, and the search finds a signature that is planted.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use futures::StreamExt as _;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::house::{self, House};
use super::{Finding, Plan};
use crate::doubles::telegram::{FakeTelegram, Settings};
use crate::place::{Kind, Place};

const SECRET: &str = "fYd0Q3uVb1mJzvGm9qk2p4sTn6wXr8aC";
const TEAM: &str = "T1";
/// Requests at once.
const AT_ONCE: usize = 16;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long we keep a connection open on which a body never ends.
const ENDLESS: Duration = Duration::from_millis(300);
/// How much more memory there may be in the end than after a tenth: a part, and KiB.
const GROWTH: (f64, f64) = (1.1, 4096.0);

/// How an endpoint knows who may speak to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Token,
    Slack,
    Github,
    Stripe,
    Standard,
    Hmac,
    /// The secret itself, in this header.
    Shown(&'static str),
}

/// An endpoint.
#[derive(Clone, Copy, Debug)]
struct Endpoint {
    path: &'static str,
    sign: Sign,
    /// Whether what is right makes a row.
    makes_rows: bool,
}

const fn endpoint(path: &'static str, sign: Sign, makes_rows: bool) -> Endpoint {
    Endpoint {
        path,
        sign,
        makes_rows,
    }
}

const NOBODYS: &str = "/v1/tasks/00000000-0000-7000-8000-000000000000";

/// All of them.
const ENDPOINTS: [Endpoint; 15] = [
    endpoint("/v1/slack/events", Sign::Slack, true),
    endpoint("/v1/hooks/github", Sign::Github, true),
    endpoint("/v1/hooks/stripe", Sign::Stripe, true),
    endpoint("/v1/hooks/standard", Sign::Standard, true),
    endpoint("/v1/hooks/plain", Sign::Hmac, true),
    endpoint(
        "/v1/telegram/webhook",
        Sign::Shown("X-Telegram-Bot-Api-Secret-Token"),
        true,
    ),
    endpoint("/v1/tasks", Sign::Token, true),
    endpoint("/v1/tokens", Sign::Token, true),
    endpoint(
        "/v1/tasks/00000000-0000-7000-8000-000000000000/cancel",
        Sign::Token,
        false,
    ),
    endpoint(
        "/v1/tasks/00000000-0000-7000-8000-000000000000/pause",
        Sign::Token,
        false,
    ),
    endpoint(
        "/v1/tasks/00000000-0000-7000-8000-000000000000/resume",
        Sign::Token,
        false,
    ),
    endpoint(
        "/v1/tasks/00000000-0000-7000-8000-000000000000/retry",
        Sign::Token,
        false,
    ),
    endpoint(
        "/v1/tasks/00000000-0000-7000-8000-000000000000/fork",
        Sign::Token,
        false,
    ),
    endpoint(
        "/v1/tasks/00000000-0000-7000-8000-000000000000/resolve",
        Sign::Token,
        false,
    ),
    endpoint(NOBODYS, Sign::Token, false),
];

/// What is wrong with a request. All but the last two are signed by somebody who has not the secret, or
/// not for this request.
const WRONGS: [&str; 17] = [
    "nothing shown",
    "another secret",
    "another body",
    "stale",
    "from the future",
    "cut short",
    "shown twice",
    "no text",
    "oversized",
    "said to be oversized",
    "other content",
    "a bomb",
    "chunks without end",
    "two lengths",
    "many headers",
    "right, no JSON",
    "right, deep JSON",
];

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let kinds: &[Kind] = match plan.full {
        true => &[Kind::Folder, Kind::Database],
        false => &[Kind::Folder],
    };
    let mut findings = Vec::new();
    for kind in kinds {
        findings.push(on(plan, *kind).await);
    }
    findings
}

async fn on(plan: &Plan, kind: Kind) -> Finding {
    let place = kind.place().await;
    let telegram = FakeTelegram::start().await;
    configure(&place, &telegram);
    let log = place.path().join("log");
    let mut command = house::command(plan, &place, &log);
    command.env("RUST_LOG", "debug");
    let house = House::start(command, &place, &log).await;
    let mut chance = plan.chance();
    let mut taken = 0;
    for (n, endpoint) in ENDPOINTS.iter().enumerate() {
        let right = Forged::right(&house, *endpoint, n);
        let first = house::send(house.address, &right.bytes, PATIENCE).await;
        taken += u32::from(first.status.is_some_and(|status| status < 300));
    }
    let wanted = ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.makes_rows)
        .count() as u32;
    let before = rows(&place).await;
    let mut tally = Tally::default();
    let each = plan.times(51, 10_000) as usize;
    let mut rss = Vec::new();
    // After a tenth everything was seen once, and its buffers are there.
    for part in [each / 10, each - each / 10] {
        let forged = (0..part * ENDPOINTS.len()).map(|n| {
            let endpoint = ENDPOINTS[n % ENDPOINTS.len()];
            Forged::wrong(&house, endpoint, n / ENDPOINTS.len(), &mut chance)
        });
        let mut sent = futures::stream::iter(forged)
            .map(async |forged| {
                let patience = if forged.endless { ENDLESS } else { PATIENCE };
                let answer = house::send(house.address, &forged.bytes, patience).await;
                (forged, answer)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((forged, answer)) = sent.next().await {
            tally.take(forged, &answer);
        }
        drop(sent);
        rss.push(house.rss_kib() as f64);
    }
    // What was right comes again, as somebody who listened in would send it.
    for (n, endpoint) in ENDPOINTS.iter().enumerate() {
        if endpoint.sign != Sign::Token {
            let right = Forged::right(&house, *endpoint, n);
            house::send(house.address, &right.bytes, PATIENCE).await;
        }
    }
    let after = rows(&place).await;
    house.stop().await;
    let logged = std::fs::read(&log).unwrap_or_default();
    let shown = found(&logged, &tally.right) + tally.shown;
    let planted = match tally.right.iter().next() {
        Some(right) => found(format!("expected v0={right};").as_bytes(), &tally.right),
        None => 0,
    };
    let line = format!(
        "{kind:?}: {} requests at {} endpoints, {} kinds: {} rows made, {} taken, {} answered 5xx, {} not \
         answered, by status {:?}; memory {:.1} MiB after a tenth, {:.1} MiB after all; right signatures in \
         answers and {:.1} MiB of log: {shown}; controls: {taken} of {wanted} right ones taken, {planted} \
         planted found",
        tally.sent,
        ENDPOINTS.len(),
        WRONGS.len(),
        after - before,
        tally.taken.len(),
        tally.failed.len(),
        tally.silent,
        tally.by_status,
        rss[0] / 1024.0,
        rss[1] / 1024.0,
        logged.len() as f64 / 1024.0 / 1024.0,
    );
    for what in tally.taken.iter().chain(&tally.failed).take(5) {
        eprintln!("forgery: {what}");
    }
    Finding {
        line,
        holds: after == before
            && tally.taken.is_empty()
            && tally.failed.is_empty()
            && shown == 0
            && rss[1] <= rss[0] * GROWTH.0 + GROWTH.1
            && (taken, planted) == (wanted, 1),
    }
}

fn configure(place: &Place, telegram: &FakeTelegram) {
    let key = |name: &str| house::secret(place, name, SECRET);
    let standard = format!("whsec_{}", STANDARD.encode(SECRET));
    let hook = |name: &str, verify: &str, secret: String| {
        format!(
            "[hooks.{name}]\nsecret = \"{secret}\"\ntext = \"{{{{text}}}}\"\nverify = {verify}\n"
        )
    };
    // No model answers: what is taken in stays where it is.
    let settings = [
        "[models.default]\nprovider = \"offline\"\n[server]\nrequests_per_minute = 0\n".to_owned(),
        // Nobody is there, so that nothing is fetched.
        format!(
            "[slack]\nmode = \"http\"\napi_url = \"http://127.0.0.1:9/api\"\nbot_token = \"{}\"\n\
             signing_secret = \"{}\"\n[[people]]\nname = \"ada\"\nslack = \"{TEAM}/U1\"\n",
            house::secret(place, "bot", &format!("xoxb-{SECRET}")),
            key("signing")
        ),
        format!(
            "[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\nwebhook_url = \"http://127.0.0.1:9\"\n",
            house::secret(place, "telegram", &telegram.token()),
            telegram.url()
        ),
        hook("github", "\"github\"", key("github")),
        hook("stripe", "\"stripe\"", key("stripe")),
        hook(
            "standard",
            "\"standard\"",
            house::secret(place, "standard", &standard),
        ),
        hook("plain", "\"hmac\"\nheader = \"X-Signature\"", key("plain")),
    ];
    house::write(place, "majordomo.toml", &settings.concat());
    house::write(
        place,
        "agents/executor.toml",
        "name = \"executor\"\ndescription = \"Answers what comes in.\"\nprompt = \"You are the executor.\"\n",
    );
    place.configure(&place.path().join("config"));
}

/// Rows of what comes in from outside.
async fn rows(place: &Place) -> i64 {
    const TABLES: [&str; 4] = ["inbound", "inbox", "task", "token"];
    let count = |table: &str| format!("(select count(*) from {table})");
    match place.postgres() {
        None => {
            let database = place.path().join("data/majordomo.db");
            let sum = TABLES.map(count).join(" + ");
            let connection = rusqlite::Connection::open(database).expect("the store opens");
            let rows = connection.query_row(&format!("select {sum}"), [], |row| row.get(0));
            rows.expect("it counts")
        }
        Some(database) => {
            let client = database.client().await;
            let sum = TABLES
                .map(|table| count(&format!("majordomo.{table}")))
                .join(" + ");
            let row = client.query_one(&format!("select {sum}"), &[]).await;
            row.expect("it counts").get(0)
        }
    }
}

/// A request, and the signature that would have been right.
struct Forged {
    what: String,
    bytes: Vec<u8>,
    endless: bool,
    right: Option<String>,
}

impl Forged {
    /// What the endpoint takes: the same each time.
    fn right(house: &House, endpoint: Endpoint, n: usize) -> Self {
        let body = payload(endpoint, n);
        let shown = match endpoint.sign {
            Sign::Token => vec![("Authorization".into(), format!("Bearer {}", house.token))],
            _ => signed(endpoint.sign, SECRET, now_s(), &body).0,
        };
        Self {
            what: format!("{} right", endpoint.path),
            bytes: request(house, endpoint.path, &shown, JSON, &body),
            endless: false,
            right: None,
        }
    }

    /// Something that must be refused.
    fn wrong(house: &House, endpoint: Endpoint, n: usize, chance: &mut Rng) -> Self {
        let wrong = WRONGS[n % WRONGS.len()];
        let sign = endpoint.sign;
        // What is signed rightly and stale would be right for tokens, and for those that know no time.
        let timed = matches!(sign, Sign::Slack | Sign::Stripe | Sign::Standard);
        let mut body = payload(endpoint, chance.usize(1000..1_000_000));
        let mut content = JSON;
        let (mut at_s, mut secret) = (now_s(), SECRET);
        match wrong {
            "no text" => body = vec![0xff, 0xfe, 0xc3, 0x28],
            "right, no JSON" => body = b"{\"text\": \xff\xfe".to_vec(),
            "right, deep JSON" => body = vec![b'['; 100_000],
            "a bomb" => body = bomb(),
            "oversized" => body.resize(600 * 1024, b' '),
            "other content" => {
                content = ["text/plain", "multipart/form-data", "application/xml", ""][n % 4]
            }
            "stale" if timed => at_s -= 301 + chance.i64(0..100_000),
            "from the future" if timed => at_s += 310 + chance.i64(0..100_000),
            _ => {}
        }
        let rightly = wrong.starts_with("right,");
        let untimely = timed && matches!(wrong, "stale" | "from the future");
        if !rightly
            && !untimely
            && !matches!(wrong, "cut short" | "shown twice" | "oversized")
            && (wrong != "another body" || matches!(sign, Sign::Shown(_)))
        {
            secret = "another secret";
        }
        let (mut shown, _) = match sign {
            Sign::Token => (
                vec![("Authorization".to_owned(), token(chance, n))],
                String::new(),
            ),
            sign => signed(sign, secret, at_s, &body),
        };
        let right = match sign {
            Sign::Token => None,
            sign => Some(signed(sign, SECRET, at_s, &body).1),
        };
        match wrong {
            "nothing shown" => shown.clear(),
            "another body" => body.push(b' '),
            "cut short" => shown.iter_mut().for_each(|(_, value)| {
                value.pop();
            }),
            "shown twice" => shown.extend(shown.clone()),
            "many headers" => shown.extend((0..300).map(|n| (format!("X-{n}"), "x".repeat(300)))),
            _ => {}
        }
        // A signature that is cut short, or that is another body's, was shown: not by the server.
        let tells =
            matches!(wrong, "cut short" | "shown twice" | "oversized") || rightly || untimely;
        let mut bytes = request(house, endpoint.path, &shown, content, &body);
        match wrong {
            "said to be oversized" => {
                swap(&mut bytes, "Content-Length: ", "Content-Length: 9999999")
            }
            "a bomb" => swap(
                &mut bytes,
                "Content-Type",
                "Content-Encoding: gzip\r\nContent-Type",
            ),
            "chunks without end" => {
                let length = format!("Content-Length: {}", body.len());
                swap(&mut bytes, &length, "Transfer-Encoding: chunked");
                let head = bytes.len() - body.len();
                bytes.truncate(head);
                bytes.extend_from_slice(b"ffff\r\n");
                bytes.extend_from_slice(&body);
            }
            "two lengths" => swap(
                &mut bytes,
                "Content-Length",
                "Content-Length: 0\r\nContent-Length",
            ),
            _ => {}
        }
        Self {
            what: format!("{} {wrong}", endpoint.path),
            bytes,
            endless: wrong == "chunks without end",
            right: right.filter(|_| !tells),
        }
    }
}

const JSON: &str = "application/json";

/// What an endpoint takes, with this number in it.
fn payload(endpoint: Endpoint, n: usize) -> Vec<u8> {
    let text = match (endpoint.sign, endpoint.path) {
        (Sign::Slack, _) => format!(
            r#"{{"type":"event_callback","team_id":"{TEAM}","event":{{"type":"message","channel_type":"im","user":"U1","channel":"D1","ts":"{n}.000001","text":"do it"}}}}"#
        ),
        (Sign::Shown(_), _) => format!(
            r#"{{"update_id":{n},"message":{{"message_id":{n},"date":1,"text":"do it","chat":{{"id":7,"type":"private","first_name":"Ada"}},"from":{{"id":7,"is_bot":false,"first_name":"Ada"}}}}}}"#
        ),
        (Sign::Token, "/v1/tasks") => format!(r#"{{"text":"do it {n}"}}"#),
        (Sign::Token, "/v1/tokens") => format!(r#"{{"name":"n{n}","scopes":["tasks"]}}"#),
        _ => format!(r#"{{"text":"do it {n}","id":"evt_{n}"}}"#),
    };
    text.into_bytes()
}

fn now_s() -> i64 {
    shared::clock::now().0 / 1000
}

/// A token that nobody was given.
fn token(chance: &mut Rng, n: usize) -> String {
    let letters: String = std::iter::repeat_with(|| chance.alphanumeric())
        .take(43)
        .collect();
    match n % 6 {
        0 => format!("Bearer mj_{letters}"),
        1 => "Bearer ".into(),
        2 => format!("Basic {}", STANDARD.encode(&letters)),
        3 => format!("Bearer {}", letters.repeat(200)),
        4 => format!("Bearer {letters}\u{e9}"),
        _ => format!("bearer local {letters}"),
    }
}

/// The headers by which an endpoint knows a body, and the signature in them.
fn signed(sign: Sign, secret: &str, at_s: i64, body: &[u8]) -> (Vec<(String, String)>, String) {
    let mac = |parts: &[&[u8]]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes()
    };
    let at = at_s.to_string();
    let header = |name: &str, value: String| (name.to_owned(), value);
    match sign {
        Sign::Token => (Vec::new(), String::new()),
        // What is shown follows from the bot's token: it is not this one's where the secret is another.
        Sign::Shown(name) => {
            let mac = |key: &str| {
                let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key");
                hex::encode(
                    mac.chain_update(b"telegram webhook")
                        .finalize()
                        .into_bytes(),
                )
            };
            let right = mac(&Settings::default().token);
            let shown = if secret == SECRET {
                right.clone()
            } else {
                mac(secret)
            };
            (vec![header(name, shown)], right)
        }
        Sign::Slack => {
            let right = hex::encode(mac(&[b"v0:", at.as_bytes(), b":", body]));
            let shown = vec![
                header("X-Slack-Request-Timestamp", at),
                header("X-Slack-Signature", format!("v0={right}")),
            ];
            (shown, right)
        }
        Sign::Github => {
            let right = hex::encode(mac(&[body]));
            (
                vec![header("X-Hub-Signature-256", format!("sha256={right}"))],
                right,
            )
        }
        Sign::Hmac => {
            let right = hex::encode(mac(&[body]));
            (vec![header("X-Signature", right.clone())], right)
        }
        Sign::Stripe => {
            let right = hex::encode(mac(&[at.as_bytes(), b".", body]));
            (
                vec![header("Stripe-Signature", format!("t={at},v1={right}"))],
                right,
            )
        }
        Sign::Standard => {
            let right = STANDARD.encode(mac(&[b"msg_1.", at.as_bytes(), b".", body]));
            let shown = vec![
                header("webhook-id", "msg_1".into()),
                header("webhook-timestamp", at),
                header("webhook-signature", format!("v1,{right}")),
            ];
            (shown, right)
        }
    }
}

fn request(
    house: &House,
    path: &str,
    shown: &[(String, String)],
    content: &str,
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        house.address
    );
    for (name, value) in shown {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!(
        "Content-Type: {content}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Puts one text in another's place, in the head.
fn swap(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let at = bytes
        .windows(from.len())
        .position(|part| part == from.as_bytes());
    if let Some(at) = at {
        bytes.splice(at..at + from.len(), to.bytes());
    }
}

/// What inflates without end, as far as its head says: gzip, then codes that repeat what came before.
fn bomb() -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    bytes.extend_from_slice(&[0x63, 0x60]);
    bytes.extend(std::iter::repeat_n([0x18, 0x05, 0xa3, 0x60, 0x14], 2000).flatten());
    bytes
}

/// What came of all of them.
#[derive(Default)]
struct Tally {
    sent: u32,
    by_status: BTreeMap<u16, u32>,
    /// Connections that ended without an answer, as what is no HTTP is answered.
    silent: u32,
    taken: Vec<String>,
    failed: Vec<String>,
    /// Signatures that nobody showed.
    right: HashSet<String>,
    /// Answers that show theirs.
    shown: usize,
}

impl Tally {
    fn take(&mut self, forged: Forged, answer: &house::Answer) {
        self.sent += 1;
        match answer.status {
            None => self.silent += 1,
            Some(status) => *self.by_status.entry(status).or_default() += 1,
        }
        match answer.status {
            Some(200..300) => self.taken.push(forged.what),
            Some(500..) => self.failed.push(forged.what),
            _ => {}
        }
        if let Some(right) = forged.right {
            self.shown += usize::from(String::from_utf8_lossy(&answer.bytes).contains(&right));
            self.right.insert(right.trim_end_matches('=').to_owned());
        }
    }
}

/// How many of these signatures stand in a text.
fn found(text: &[u8], right: &HashSet<String>) -> usize {
    let is_part = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    let words = text.split(is_part).filter(|word| word.len() >= 43);
    words
        .filter(|word| std::str::from_utf8(word).is_ok_and(|word| right.contains(word)))
        .count()
}
