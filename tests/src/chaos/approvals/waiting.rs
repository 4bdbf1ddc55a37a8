//! Thousands of approvals wait while the process is ended in order and killed, and started with another
//! configuration. Then each is decided over HTTP, one after the other, in the middle of it with one more
//! death: how soon does the far side hear of the effect? On Postgres with a second process beside, which
//! takes runs, too, and once with runs that the other process holds in memory; on SQLite once by buttons in
//! Telegram.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinSet;

use shared::clock::{self, stopwatch};
use shared::run::Timestamp;

use super::{ASKING, Approver, calls, configure, listen, script, yes};
use crate::chaos::fleet::{Fleet, Replica, Work};
use crate::chaos::house::secret;
use crate::chaos::pace::{Times, conditions};
use crate::chaos::{Finding, Plan};
use crate::doubles::telegram::FakeTelegram;
use crate::place::{Kind, Place};
use crate::wait;

/// Runs leave memory at once.
const PARKED: &str = "[engine]\nlease_s = 1.5\nbeat_s = 0.3\npark_after_s = 0.0\n";
/// Runs stay in the memory of who holds them.
const HELD: &str = "[engine]\nlease_s = 1.5\nbeat_s = 0.3\npark_after_s = 3600.0\n";
/// A word is said so long after the other: twenty a second.
const EVERY: Duration = Duration::from_millis(50);
/// A button is pressed so long after the other.
const PRESSED: Duration = Duration::from_millis(500);
const BOSS: i64 = 9;
/// How long all may take to be asked, and to be done.
const PATIENCE: Duration = Duration::from_secs(600);
/// By when the effect follows the word.
const BAR_MS: i64 = 1000;
/// How the process ends, and what is different when it starts again.
const ENDS: [(Signal, &str, &str); 4] = [
    (Signal::SIGTERM, "", ""),
    (Signal::SIGKILL, "", ""),
    (Signal::SIGTERM, " Be brief.", ""),
    (Signal::SIGKILL, "", "[approvals]\nwithin_h = 48\n"),
];

pub(super) async fn run(plan: &Plan, kind: Kind) -> Vec<Finding> {
    let beside = match kind {
        Kind::Folder => by_button(plan).await,
        Kind::Database => held_elsewhere(plan).await,
    };
    vec![over_restarts(plan, kind).await, beside]
}

async fn over_restarts(plan: &Plan, kind: Kind) -> Finding {
    let asks = plan.times(100, 2000);
    let town = Town::new(plan, kind.place().await, PARKED).await;
    let first = town.start().await;
    first.replica.stop().await;
    // With nothing that waits.
    let mut member = town.start().await;
    let alone_ms = member.ready_ms;
    town.ask(&mut member.replica, asks).await;
    let mut ready_ms = Vec::new();
    for (signal, prompt, policy) in ENDS {
        end(member.replica, signal).await;
        town.change(prompt, policy);
        member = town.start().await;
        ready_ms.push(member.ready_ms);
    }
    let ids = town.open(member.address).await;
    town.rests().await;
    let beside = match kind {
        Kind::Folder => None,
        Kind::Database => Some(town.start().await),
    };
    let (before, after) = ids.split_at(ids.len() / 2);
    let worked = member.replica.worked_ms();
    let mut words = town.decide(member.address, before).await;
    let worked = (member.replica.worked_ms() - worked) / before.len().max(1) as u64;
    end(member.replica, Signal::SIGKILL).await;
    member = town.start().await;
    words.extend(town.decide(member.address, after).await);
    let done = town.done(&mut member.replica, asks).await;
    let conditions = conditions();
    member.replica.stop().await;
    let mut processes = "one process";
    if let Some(beside) = beside {
        beside.replica.stop().await;
        processes = "two processes";
    }
    let took = town.took(&words).await;
    Finding {
        line: format!(
            "{kind:?}, {processes}: {} of {asks} still asked after {} ends, ready after {ready_ms:?} ms each, \
             {alone_ms} with none: {took}; {worked} ms of work of the process that is spoken to for each; \
             {conditions}",
            ids.len(),
            ENDS.len(),
        ),
        holds: ids.len() == asks as usize && done && took.is_right(plan, asks),
    }
}

/// Two processes on one Postgres: what one of them holds in memory is decided at the other one.
async fn held_elsewhere(plan: &Plan) -> Finding {
    let asks = plan.times(20, 200);
    let town = Town::new(plan, Place::database().await, HELD).await;
    let here = town.start().await;
    let mut there = town.start().await;
    town.ask(&mut there.replica, asks).await;
    let ids = town.open(here.address).await;
    town.rests().await;
    let words = town.decide(here.address, &ids).await;
    let done = town.done(&mut there.replica, asks).await;
    let conditions = conditions();
    here.replica.stop().await;
    there.replica.stop().await;
    let took = town.took(&words).await;
    Finding {
        line: format!(
            "Database, two processes: {asks} decided at one, whose runs the other one holds in memory: \
             {took}; {conditions}"
        ),
        holds: done && took.is_right(plan, asks),
    }
}

/// Cards in Telegram outlive their process; then their buttons are pressed.
async fn by_button(plan: &Plan) -> Finding {
    let asks = plan.times(5, 60);
    let fake = FakeTelegram::start().await;
    let place = Place::folder();
    let door = format!(
        "{PARKED}[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n\
         [[people]]\nname = \"boss\"\ntelegram = {BOSS}\nroles = [\"member\", \"approver\"]\n",
        secret(&place, "token", &fake.token()),
        fake.url()
    );
    let town = Town::new(plan, place, &door).await;
    // A bot writes to nobody who has not written to it.
    fake.user_says(BOSS, BOSS, "/start");
    let mut member = town.start().await;
    town.ask(&mut member.replica, asks).await;
    let open = |fake: &FakeTelegram| {
        let mut cards = fake.from_bot(BOSS);
        cards.retain(|card| card.keyboard.is_some());
        cards
    };
    let all = |fake: &FakeTelegram| open(fake).len() == asks as usize;
    let shown = fake.until(PATIENCE, all).await;
    end(member.replica, Signal::SIGKILL).await;
    town.change(" Be brief.", "");
    member = town.start().await;
    let mut words = BTreeMap::new();
    for card in open(&fake) {
        tokio::time::sleep(PRESSED).await;
        let data = card
            .keyboard
            .as_ref()
            .map(|rows| &rows[0][0]["callback_data"]);
        let data = data.and_then(Value::as_str).unwrap_or_default();
        let id = data.rsplit(':').next().unwrap_or_default().to_owned();
        words.insert(id, clock::now());
        fake.press_anyway(BOSS, card.id, BOSS, data);
    }
    let done = town.done(&mut member.replica, asks).await;
    let conditions = conditions();
    member.replica.stop().await;
    let took = town.took(&words).await;
    Finding {
        line: format!(
            "Folder, one process: {asks} cards in Telegram that were there before it, their buttons pressed \
             twice a second: {took}; {conditions}"
        ),
        holds: shown && done && took.is_right(plan, asks),
    }
}

/// A store, processes on it, and who decides.
struct Town {
    fleet: Fleet,
    chief: Approver,
    engine: String,
}

/// A process.
struct Member {
    replica: Replica,
    address: SocketAddr,
    /// From its start until it was ready.
    ready_ms: u64,
}

impl Town {
    async fn new(plan: &Plan, place: Place, engine: &str) -> Self {
        let work = Work {
            settings: "",
            agent: "",
            mutant: "",
            model_ms: 0,
            tool_ms: 0,
        };
        let fleet = Fleet::new(plan, place, work);
        // What a dead process began is done again, under its key.
        fleet.write("script.toml", &script("post_keyed"));
        configure(&fleet, &format!("{engine}{ASKING}"));
        Self {
            chief: Approver::new(&fleet).await,
            fleet,
            engine: engine.to_owned(),
        }
    }

    async fn start(&self) -> Member {
        let mut address = None;
        let watch = stopwatch();
        let start = |process: &mut Command| address = Some(listen(process));
        let replica = self.fleet.start_with(start).await;
        Member {
            replica,
            address: address.expect("it was started"),
            ready_ms: watch.ms(),
        }
    }

    /// Processes that start from now on find another configuration.
    fn change(&self, prompt: &str, policy: &str) {
        let agent = format!(
            "name = \"executor\"\ndescription = \"Does what the chaos program asks for.\"\n\
             prompt = \"You are the executor.{prompt}\"\ntools = [\"post_once\", \"post_keyed\"]\n"
        );
        self.fleet.write("agents/executor.toml", &agent);
        configure(&self.fleet, &format!("{}{policy}{ASKING}", self.engine));
    }

    /// Hands tasks in, until each of them asks.
    async fn ask(&self, replica: &mut Replica, asks: u32) {
        for n in 0..asks {
            replica.tell(&format!("submit task-{n}")).await;
        }
        let all = replica.settles(asks as usize, PATIENCE).await;
        assert!(all, "all tasks ask for leave");
    }

    /// What is asked, oldest first. The door may open a moment after the process is ready.
    async fn open(&self, at: SocketAddr) -> Vec<String> {
        let look = async || {
            let asks = self.chief.asks(at, "approvals").await;
            (!asks.is_empty()).then_some(asks)
        };
        let asks = wait::within(PATIENCE, look).await.unwrap_or_default();
        let ids: BTreeSet<String> = asks
            .iter()
            .filter_map(|ask| Some(ask["id"].as_str()?.to_owned()))
            .collect();
        ids.into_iter().collect()
    }

    /// Waits until it was seen to that people hear of all that is asked: from then on there is nothing to do.
    async fn rests(&self) {
        let all = async || self.fleet.place.count("ask where told = 'nothing'").await == 0;
        wait::until("people hear of it", PATIENCE, all).await;
    }

    /// Says yes to these, one after the other, whatever becomes of those before, and waits for what comes of
    /// it. When each was said.
    async fn decide(&self, at: SocketAddr, ids: &[String]) -> BTreeMap<String, Timestamp> {
        let made = self.fleet.world.ledger().len();
        let mut tick = tokio::time::interval(EVERY);
        let mut said = JoinSet::new();
        for id in ids {
            tick.tick().await;
            let (chief, id) = (self.chief.clone(), id.clone());
            said.spawn(async move {
                let word = clock::now();
                let status = chief.decide(at, &format!("approvals/{id}"), &yes()).await;
                assert_eq!(status, Some(200), "a word is taken");
                (id, word)
            });
        }
        let said: BTreeMap<_, _> = said.join_all().await.into_iter().collect();
        let all = async || self.fleet.world.ledger().len() >= made + said.len();
        wait::until("each has its effect", PATIENCE, all).await;
        said
    }

    /// Waits until all has come to its end.
    async fn done(&self, replica: &mut Replica, asks: u32) -> bool {
        replica.answered(asks as usize, PATIENCE).await
    }

    /// What the ledger says of it.
    async fn took(&self, words: &BTreeMap<String, Timestamp>) -> Took {
        let store = self.fleet.place.open().await;
        let calls = calls(&*store).await;
        store.close().await;
        let asks: BTreeMap<&str, String> = calls
            .iter()
            .map(|call| (&*call.effect, call.ask.to_string()))
            .collect();
        let ledger = self.fleet.world.ledger();
        let took = ledger.iter().filter_map(|(effect, at)| {
            let word = words.get(asks.get(&**effect)?)?;
            Some(at.0 - word.0)
        });
        let effects: BTreeSet<&str> = ledger.iter().map(|(effect, _)| &**effect).collect();
        Took {
            times: took.collect(),
            effects: ledger.len(),
            different: effects.len(),
        }
    }
}

/// How soon effects came after the word.
struct Took {
    times: Times,
    /// Effects, and how many there are of them without repetitions.
    effects: usize,
    different: usize,
}

impl Took {
    /// One effect for each word, and in the full form each of them in time.
    fn is_right(&self, plan: &Plan, asks: u32) -> bool {
        let asks = asks as usize;
        (self.times.len(), self.effects, self.different) == (asks, asks, asks)
            && (self.times.percentile(100) < BAR_MS || !plan.full)
    }
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} effects, {} twice; from word to effect {}",
            self.effects,
            self.effects - self.different,
            self.times
        )
    }
}

async fn end(replica: Replica, signal: Signal) {
    match signal {
        Signal::SIGKILL => replica.kill().await,
        signal => {
            replica.send(signal);
            assert!(replica.stop().await, "it ends in order");
        }
    }
}
