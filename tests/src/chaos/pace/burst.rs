//! Slack, while many slow tasks are going on: events come fast, each of them up to three times. How soon is
//! each delivery acknowledged, as Slack sees it, and does each event get one task and one answer?

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use shared::clock::stopwatch;

use super::{ANSWER, LOOK, Times, conditions, configure};
use crate::chaos::fleet::{Fleet, Replica, Work};
use crate::chaos::house::secret;
use crate::chaos::{Finding, Plan};
use crate::doubles::slack::{FakeSlack, TEAM};
use crate::place::Place;

/// People who write, each directly to the app.
const PEOPLE: u32 = 100;
/// One event comes so long after the other: fifty a second.
const EVERY: Duration = Duration::from_millis(20);
/// What the model takes for a slow task, in the full form and in the short one: longer than it takes for
/// all to begin, and for all events to come.
const SLOW_MS: [&str; 2] = ["60000", "5000"];
/// How long the slow tasks may take to begin, and all answers to be there in the end.
const PATIENCE_S: f64 = 180.0;
/// An answer too many has come by then.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// 99 of 100 deliveries are to be acknowledged before this, and all of them before Slack sends again.
const BAR_P99_MS: i64 = 500;
const BAR_MS: i64 = 3000;

/// How many answers each message has, by channel and message.
type Answers = BTreeMap<(String, String), u32>;

pub(super) async fn run(plan: &Plan, by_socket: bool) -> Finding {
    let (slow, events) = (plan.times(10, 200), plan.times(50, 1000));
    let mode = if by_socket { "socket" } else { "http" };
    let (_fleet, fake, mut replica) = open(plan, by_socket).await;
    let mut answers = Answers::new();
    for n in 0..slow {
        let said = fake.dm(&person(n), "Do it slowly");
        answers.insert((fake.im(&person(n)), said.ts), 0);
    }
    let watch = stopwatch();
    while replica.peak().await.0 < slow && watch.seconds() < PATIENCE_S {
        tokio::time::sleep(LOOK).await;
    }
    let (going_on, _) = replica.peak().await;

    let before = fake.deliveries().len();
    send(plan, &fake, events, &mut answers).await;
    let conditions = conditions();
    let watch = stopwatch();
    while answers.values().any(|answers| *answers == 0) && watch.seconds() < PATIENCE_S {
        tokio::time::sleep(LOOK).await;
        count(&fake, &mut answers);
    }
    tokio::time::sleep(AFTERWARDS).await;
    count(&fake, &mut answers);
    let lost = answers.values().filter(|answers| **answers == 0).count();
    let twice = answers.values().filter(|answers| **answers > 1).count();
    let tasks: i64 = replica.census().await.unwrap_or_default().values().sum();
    replica.stop().await;

    let deliveries = fake.deliveries().split_off(before);
    let unheard = deliveries.iter().filter(|it| it.acked_ms.is_none()).count();
    let took = deliveries
        .iter()
        .filter_map(|it| Some(it.acked_ms? - it.at_ms));
    let took: Times = took.collect();
    let in_time = took.percentile(99) < BAR_P99_MS && took.percentile(100) < BAR_MS;
    let right = (lost, twice, unheard) == (0, 0, 0)
        && tasks == i64::from(slow + events)
        && going_on >= slow;
    Finding {
        line: format!(
            "Slack by {mode}, {going_on} slow tasks going on: {events} events at 50/s in {} deliveries: \
             acknowledged after {took}; never {unheard}; {} messages: {tasks} tasks, lost {lost}, \
             answered twice {twice}; {conditions}",
            deliveries.len(),
            answers.len()
        ),
        holds: right && (in_time || !plan.full),
    }
}

/// A workspace, and a process that listens to it.
async fn open(plan: &Plan, by_socket: bool) -> (Fleet, FakeSlack, Replica) {
    let work = Work {
        settings: "",
        agent: "",
        mutant: "",
        model_ms: 0,
        tool_ms: 0,
    };
    let fleet = Fleet::new(plan, Place::folder(), work);
    let fake = FakeSlack::start().await;
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    fake.set_target(&format!("http://{address}/v1/slack/events"));
    fake.configure(|settings| settings.socket_mode = by_socket);
    let mode = if by_socket { "socket" } else { "http" };
    configure(&fleet.place, &settings(&fleet.place, &fake, mode));
    let slow_ms = SLOW_MS[usize::from(!plan.full)];
    let mut replica = fleet.spawn(|process| {
        process
            .env("MAJORDOMO_TEST_LISTEN", address.to_string())
            .env("MAJORDOMO_TEST_SLOW_MS", slow_ms);
    });
    // It answers when it is ready.
    replica.peak().await;
    while by_socket && fake.sockets() == 0 {
        tokio::time::sleep(LOOK).await;
    }
    (fleet, fake, replica)
}

/// So many events, each of them once, and by chance again: at once, or after others.
async fn send(plan: &Plan, fake: &FakeSlack, events: u32, answers: &mut Answers) {
    let mut chance = plan.chance();
    let mut later: Vec<String> = Vec::new();
    let mut tick = tokio::time::interval(EVERY);
    for n in 0..events {
        tick.tick().await;
        let said = fake.dm(&person(n), "Do it");
        answers.insert((fake.im(&person(n)), said.ts), 0);
        for event in said.events {
            match chance.u8(0..4) {
                0 => {}
                1 => drop(fake.redeliver(&event)),
                2 => later.push(event),
                _ => {
                    fake.redeliver(&event);
                    later.push(event);
                }
            }
        }
        if !later.is_empty() && chance.bool() {
            let event = later.swap_remove(chance.usize(0..later.len()));
            fake.redeliver(&event);
        }
    }
}

/// The part of a configuration that speaks to this workspace.
pub(super) fn settings(place: &Place, fake: &FakeSlack, mode: &str) -> String {
    let secrets = fake.settings();
    let known = |n| {
        let id = person(n);
        format!("[[people]]\nname = \"p{n}\"\nslack = \"{TEAM}/{id}\"\n")
    };
    let people: String = (0..PEOPLE).map(known).collect();
    format!(
        "[slack]\nmode = \"{mode}\"\napi_url = \"{}\"\nbot_token = \"{}\"\napp_token = \"{}\"\n\
         signing_secret = \"{}\"\n{people}",
        fake.url(),
        secret(place, "bot", &secrets.bot_token),
        secret(place, "app", &secrets.app_token),
        secret(place, "signing", &secrets.signing_secret),
    )
}

/// People take turns.
pub(super) fn person(n: u32) -> String {
    format!("U{}", 1 + n % PEOPLE)
}

fn count(fake: &FakeSlack, answers: &mut Answers) {
    answers.values_mut().for_each(|answers| *answers = 0);
    for n in 0..PEOPLE {
        for message in fake.from_bot(&fake.im(&person(n))) {
            let to = message.thread_ts.map(|thread| (message.channel, thread));
            let answers = to.and_then(|to| answers.get_mut(&to));
            if let (Some(answers), ANSWER) = (answers, &*message.text) {
                *answers += 1;
            }
        }
    }
}
