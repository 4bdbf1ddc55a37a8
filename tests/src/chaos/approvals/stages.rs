//! The process dies at every stage of an approval, and starts again: before the ask is written, before its
//! card goes out, while the card stands there, when the word is given, with the effect begun, with the effect
//! made, and before the card is closed. Words come by buttons in Telegram and over HTTP, each by one of them.
//! At rest each task has ended, each word that was said counts, and the ledger holds an effect for each yes
//! and for nothing else, behind that yes. The control has a policy that asks about nothing: its effects must
//! be found to be nobody's decision.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, Command};

use shared::ask::{AskKind, AskState, Asked, Decision};
use shared::clock::{self, stopwatch};
use shared::id::TaskId;
use shared::run::Timestamp;
use shared::store::{AskFilter, Store, TaskFilter};
use shared::task::TaskState;

use super::{ASKING, Approver, calls, configure, listen, script, yes};
use crate::chaos::fleet::{Fleet, Replica, Work};
use crate::chaos::house::secret;
use crate::chaos::{Finding, Plan};
use crate::doubles::telegram::{FakeTelegram, Message};
use crate::place::Kind;
use crate::wait;
use crate::world::tell;

const BOSS: i64 = 9;
/// Runs leave memory at once, and who is dead is gone soon.
const ENGINE: &str = "[engine]\nlease_s = 1.5\nbeat_s = 0.3\npark_after_s = 0.0\n";
/// Where a life is cut, counted from when its task is handed in; the first of them meet each stage.
const CUTS: [&str; 26] = [
    "append.before:2",
    "tell.before:1",
    SHOWN,
    "signal.after:1",
    "world.before:1",
    "world.after:1",
    CLOSING,
    "send.after:1",
    "effect.after:3",
    "claim.after:1",
    "append.after:3",
    "tell.after:1",
    SHOWN,
    "signal.before:1",
    "effect.before:3",
    "world.after:1",
    CLOSING,
    "append.before:4",
    "send.before:1",
    "record.after:1",
    "append.after:5",
    "append.before:6",
    "append.after:7",
    "send.before:3",
    "tell.after:2",
    "accept.after:1",
];
/// Before an ask's card is to be closed: people speak only once it stands there.
const CLOSING: &str = "tell.before:2";
/// All is calm once it was for so long: two calls in Telegram's pace and a word between them.
const CALM_MS: u64 = 3_000;
/// Not at a point: as soon as its card is there.
const SHOWN: &str = "shown";
/// Every so-manieth life is cut once more while it makes up for the last one.
const AGAIN: u32 = 4;
/// How long a process may take to make up for the last one, and to come to its own end.
const PATIENCE: Duration = Duration::from_secs(30);
/// A process that has nothing to do for so long has passed its cut by.
const IDLE: Duration = Duration::from_millis(700);
/// How often people look.
const LOOK: Duration = Duration::from_millis(30);
/// Tasks of the control.
const UNASKED: u32 = 3;

/// Where a life was cut, by what was found afterwards.
const STAGES: [&str; 8] = [
    "before the ask",
    "asked, no card",
    "card out",
    "decided",
    "effect begun",
    "effect made, not recorded",
    "card not closed",
    "after all",
];
/// Fewer kills may leave stages out.
const FEW: u32 = 100;
/// Those of them that must have been met.
const MET: usize = 7;

pub(super) async fn run(plan: &Plan, kind: Kind) -> Finding {
    let kills = plan.times(10, 200);
    let mut trial = Trial::open(plan, kind, ASKING).await;
    let mut chance = plan.chance();
    let (mut killed, mut again) = (0, 0);
    for turn in 0..3 * kills {
        if killed + again >= kills || trial.is_stuck {
            break;
        }
        let cut = CUTS[turn as usize % CUTS.len()];
        killed += u32::from(trial.life(turn, cut).await);
        if turn % AGAIN == AGAIN - 1 {
            again += u32::from(trial.cut_again(chance.u32(1..40)).await);
        }
    }
    trial.calm(0).await;
    let tally = trial.tally().await;
    let unmet: Vec<&str> = STAGES[..MET]
        .iter()
        .filter(|stage| !trial.met.contains_key(*stage))
        .copied()
        .collect();
    let mut control = Trial::open(plan, kind, crate::FREE).await;
    control.calm(UNASKED).await;
    let control = control.tally().await;
    let met: Vec<String> = STAGES
        .iter()
        .filter_map(|stage| Some(format!("{stage} {}", trial.met.get(stage)?)))
        .collect();
    Finding {
        line: format!(
            "{kind:?}: {} kills, {again} of them while making up for another ({}): {tally}; \
             control, nothing is asked: {} of {} effects nobody's decision",
            killed + again,
            met.join(", "),
            control.unasked,
            control.effects
        ),
        holds: tally.is_right()
            && killed + again >= kills
            // A few kills need not meet them all.
            && (unmet.is_empty() || kills < FEW)
            && control.unasked == UNASKED,
    }
}

/// One store over many processes, and the people who decide.
struct Trial {
    fleet: Fleet,
    fake: FakeTelegram,
    chief: Approver,
    /// Whether people said yes, by what they were asked.
    words: BTreeMap<String, bool>,
    /// What was said by a button: a person presses once.
    pressed: BTreeSet<String>,
    /// Effects that there were before the task that goes on now.
    before: usize,
    /// Where lives were cut.
    met: BTreeMap<&'static str, u32>,
    /// A process did not make up for the last one.
    is_stuck: bool,
}

impl Trial {
    async fn open(plan: &Plan, kind: Kind, policy: &str) -> Self {
        let work = Work {
            settings: "",
            agent: "",
            mutant: "",
            model_ms: 0,
            tool_ms: 0,
        };
        let fleet = Fleet::new(plan, kind.place().await, work);
        let fake = FakeTelegram::start().await;
        let door = format!(
            "{ENGINE}[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n\
             [[people]]\nname = \"boss\"\ntelegram = {BOSS}\nroles = [\"member\", \"approver\"]\n",
            secret(&fleet.place, "token", &fake.token()),
            fake.url()
        );
        configure(&fleet, &(door + policy));
        // A bot writes to nobody who has not written to it.
        fake.user_says(BOSS, BOSS, "/start");
        Self {
            chief: Approver::new(&fleet).await,
            fleet,
            fake,
            words: BTreeMap::new(),
            pressed: BTreeSet::new(),
            before: 0,
            met: BTreeMap::new(),
            is_stuck: false,
        }
    }

    /// One process: makes up for the last one, is handed a task, and goes on to its death at this cut, or
    /// until nothing is left to do. Whether it died there.
    async fn life(&mut self, n: u32, cut: &str) -> bool {
        let Some((replica, address)) = self.started(n).await else {
            return false;
        };
        self.before = self.effects();
        let (begun, known) = (clock::now(), self.words.len());
        let mut shown = false;
        let mut people = async |input: &mut ChildStdin| {
            let arm = match cut {
                SHOWN => String::new(),
                point => format!("arm {point}\n"),
            };
            // One that is dead hears nothing.
            let _ = input
                .write_all(format!("{arm}submit task-{n}\n").as_bytes())
                .await;
            let mut idle = stopwatch();
            while idle.ms() < IDLE.as_millis() as u64 {
                tokio::time::sleep(LOOK).await;
                let cards = self.cards();
                let card = !cards.is_empty();
                // One of an ask before may still be about to be closed.
                let mut data = cards.iter().flat_map(buttons);
                let is_new = |data: String| {
                    let id = data.rsplit(':').next().unwrap_or_default();
                    !self.words.contains_key(id)
                };
                shown = cut == SHOWN && data.any(is_new);
                if shown {
                    return;
                }
                let speaks = card || self.words.len() > known || ![SHOWN, CLOSING].contains(&cut);
                if speaks {
                    self.attend(address).await;
                }
                if self.words.len() == known || card {
                    idle = stopwatch();
                }
            }
        };
        let people = async |input: &mut ChildStdin| {
            // A task that nobody hears of again has no words.
            let _ = tokio::time::timeout(PATIENCE, people(input)).await;
        };
        let died = replica.outlives(people).await || shown;
        if died {
            let stage = self.stage(begun, cut).await;
            *self.met.entry(stage).or_default() += 1;
        }
        died
    }

    /// One process that makes up for the last one, is handed so many tasks, and ends with them.
    async fn calm(&mut self, tasks: u32) {
        let Some((mut replica, address)) = self.started(0).await else {
            return;
        };
        for n in 0..tasks {
            replica.tell(&format!("submit calm-{n}")).await;
        }
        let taken = async || (0..tasks).all(|n| self.fleet.has_taken(&format!("calm-{n}")));
        wait::until("they are taken in", PATIENCE, taken).await;
        self.is_stuck |= !self.makes_up(&mut replica, address).await;
        // A card that is on its way is closed, too.
        tokio::time::sleep(IDLE).await;
        replica.stop().await;
    }

    /// A process that has made up for the last one, and where its door is.
    async fn started(&mut self, n: u32) -> Option<(Replica, SocketAddr)> {
        // What may be repeated, and what may not, in turn.
        let tool = ["post_once", "post_keyed"][n as usize % 2];
        self.fleet.write("script.toml", &script(tool));
        self.fleet.place.lapse().await;
        let mut address = None;
        let start = |process: &mut Command| address = Some(listen(process));
        let mut replica = self.fleet.start_with(start).await;
        let address = address.expect("it was started");
        if self.makes_up(&mut replica, address).await {
            return Some((replica, address));
        }
        self.is_stuck = true;
        replica.kill().await;
        None
    }

    /// One process that makes up for the last one dies at this point of any name. Whether it did.
    async fn cut_again(&mut self, at: u32) -> bool {
        self.fleet.place.lapse().await;
        let mut address = None;
        let replica = self.fleet.spawn(|process| {
            address = Some(listen(process));
            process
                .stderr(Stdio::null())
                .env("MAJORDOMO_CRASH", format!("*:{at}"));
        });
        let address = address.expect("it was started");
        let people = async |_: &mut ChildStdin| {
            for _ in 0..100 {
                tokio::time::sleep(LOOK).await;
                self.attend(address).await;
            }
        };
        replica.outlives(people).await
    }

    /// Waits until all tasks have ended and all cards are closed. False where that takes too long.
    async fn makes_up(&mut self, replica: &mut Replica, address: SocketAddr) -> bool {
        let (watch, mut calm_since) = (stopwatch(), None);
        while watch.ms() < PATIENCE.as_millis() as u64 {
            self.attend(address).await;
            let census = replica.census().await;
            let open = census.map(|mut census| {
                census.retain(|state, _| !["done", "failed", "cancelled"].contains(&&**state));
                census.values().sum::<i64>()
            });
            // A card may be on its way that shows nothing yet.
            match open == Some(0) && self.cards().is_empty() {
                true if watch.ms() - *calm_since.get_or_insert(watch.ms()) >= CALM_MS => {
                    return true;
                }
                true => {}
                false => calm_since = None,
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// People look at their chat and at their list, and decide what they find.
    async fn attend(&mut self, address: SocketAddr) {
        for card in self.cards() {
            for data in buttons(&card) {
                let id = data.rsplit(':').next().unwrap_or_default().to_owned();
                let word = if says_yes(&id) { "yes" } else { "no" };
                if data.split(':').nth(1) == Some(word)
                    && by_button(&id)
                    && self.pressed.insert(id.clone())
                {
                    self.note(&id);
                    self.fake.press_anyway(BOSS, card.id, BOSS, &data);
                }
            }
        }
        for ask in self.chief.asks(address, "approvals").await {
            let id = ask["id"].as_str().unwrap_or_default();
            if !by_button(id) {
                self.note(id);
                let word = match says_yes(id) {
                    true => yes(),
                    false => json!({"decision": "reject", "reason": "no"}),
                };
                // Whoever hears no answer looks again, and says it again where it is still asked.
                let path = format!("approvals/{id}");
                self.chief.decide(address, &path, &word).await;
            }
        }
        for doubt in self.chief.asks(address, "escalations").await {
            let word = match self.effects() > self.before {
                true => json!({"decision": "happened", "result": "it is there"}),
                false => json!({"decision": "again"}),
            };
            let id = doubt["id"].as_str().unwrap_or_default();
            let path = format!("escalations/{id}");
            self.chief.decide(address, &path, &word).await;
        }
    }

    /// Writes down what is about to be said: a yes stands in the ledger before it is given.
    fn note(&mut self, id: &str) {
        let word = says_yes(id);
        if word {
            let line = format!("keyed decided/{id} {id}");
            tell(self.fleet.world.address, &line).expect("the world answers");
        }
        self.words.insert(id.to_owned(), word);
    }

    /// How many calls had an effect so far.
    fn effects(&self) -> usize {
        let ledger = self.fleet.world.ledger();
        ledger.iter().filter(|(name, _)| is_effect(name)).count()
    }

    /// Cards that can still be decided.
    fn cards(&self) -> Vec<Message> {
        let mut cards = self.fake.from_bot(BOSS);
        cards.retain(|card| card.keyboard.is_some());
        cards
    }

    /// How far the approval of the task that was handed in since then has come, by what the dead left.
    async fn stage(&self, begun: Timestamp, cut: &str) -> &'static str {
        let (store, tenant) = (self.fleet.place.open().await, "default".into());
        let newest = TaskFilter {
            limit: 1,
            ..TaskFilter::default()
        };
        let tasks = store.tasks(&tenant, &newest).await.expect("it reads");
        let asked = match tasks.first().filter(|task| task.created_at >= begun) {
            Some(task) => approvals(&*store, task.id).await.pop(),
            None => None,
        };
        let stage = match asked {
            None => 0,
            Some(asked) => {
                let id = asked.id.to_string();
                let card = self.cards().iter().any(|card| {
                    let mut data = buttons(card);
                    data.any(|data| data.ends_with(&id))
                });
                let key = asked.name.as_str().trim_start_matches("approve/").into();
                let step = store.step(&tenant, asked.run, &key).await;
                let step = step.expect("it reads");
                let made = self.effects() > self.before;
                match (asked.state, step) {
                    (AskState::Open, _) if !card => 1,
                    (AskState::Open, _) => 2,
                    // The run goes on beside that.
                    _ if card && cut == CLOSING => 6,
                    (_, None) if says_yes(&id) => 3,
                    (_, Some(step)) if step.recorded.is_none() => match made {
                        false => 4,
                        true => 5,
                    },
                    _ if card => 6,
                    _ => 7,
                }
            }
        };
        store.close().await;
        STAGES[stage]
    }

    /// What is left, held against what people said.
    async fn tally(&self) -> Tally {
        let (store, tenant) = (self.fleet.place.open().await, "default".into());
        let calls = calls(&*store).await;
        let ledger = self.fleet.world.ledger();
        let said: BTreeMap<&str, usize> = ledger
            .iter()
            .enumerate()
            .filter_map(|(at, (name, _))| Some((name.strip_prefix("post decided/")?, at)))
            .collect();
        let mut tally = Tally {
            stuck: u32::from(self.is_stuck),
            open_cards: self.cards().len() as u32,
            ..Tally::default()
        };
        let mut effects: BTreeMap<TaskId, u32> = BTreeMap::new();
        for (at, (name, _)) in ledger.iter().enumerate() {
            if !is_effect(name) {
                continue;
            }
            tally.effects += 1;
            let call = calls.iter().find(|call| call.effect == *name);
            let word = call.and_then(|call| said.get(&*call.ask.to_string()));
            tally.unasked += u32::from(word.is_none_or(|said| *said > at));
            if let Some(call) = call {
                *effects.entry(call.task).or_default() += 1;
            }
        }
        let all = TaskFilter {
            limit: 10_000,
            ..TaskFilter::default()
        };
        let tasks = store.tasks(&tenant, &all).await.expect("it reads");
        tally.lost = self.fleet.taken().saturating_sub(tasks.len()) as u32;
        for task in &tasks {
            tally.stuck += u32::from(task.state != TaskState::Done);
            let asked = approvals(&*store, task.id).await;
            let made = effects.get(&task.id).copied().unwrap_or(0);
            tally.twice += made.saturating_sub(1);
            for asked in &asked {
                let id = asked.id.to_string();
                let counts = asked
                    .verdict
                    .as_ref()
                    .map(|(verdict, _)| matches!(verdict.decision, Decision::Approve { .. }));
                tally.stuck += u32::from(counts.is_none());
                tally.changed += u32::from(counts != self.words.get(&id).copied());
                tally.yes += u32::from(counts == Some(true));
                tally.no += u32::from(counts == Some(false));
            }
            // What follows a doubt is asked anew: the last word counts.
            let wanted = asked
                .last()
                .is_some_and(|asked| says_yes(&asked.id.to_string()));
            tally.lost += u32::from(wanted && made == 0);
        }
        tally.tasks = tasks.len() as u32;
        tally.doubts = doubts(&*store).await;
        store.close().await;
        tally
    }
}

/// The approvals that were asked in a task, oldest first.
async fn approvals(store: &dyn Store, task: TaskId) -> Vec<Asked> {
    let filter = AskFilter {
        task: Some(task),
        kinds: vec![AskKind::Approval],
        limit: 100,
        ..AskFilter::default()
    };
    let asked = store.asks().list(&"default".into(), &filter).await;
    let mut asked = asked.expect("it reads");
    asked.reverse();
    asked
}

/// How many effects were in doubt.
async fn doubts(store: &dyn Store) -> u32 {
    let filter = AskFilter {
        kinds: vec![AskKind::Doubt],
        limit: 10_000,
        ..AskFilter::default()
    };
    let asked = store.asks().list(&"default".into(), &filter).await;
    asked.expect("it reads").len() as u32
}

/// Data of the buttons that decide approvals.
fn buttons(card: &Message) -> impl Iterator<Item = String> + use<> {
    let rows = card.keyboard.clone().unwrap_or_default();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let buttons = rows
        .into_iter()
        .flat_map(|row| row.as_array().cloned().unwrap_or_default());
    buttons.filter_map(|button| Some(button["callback_data"].as_str()?.to_owned()))
}

fn is_effect(name: &str) -> bool {
    name.starts_with("post post_")
}

/// What people say to an ask follows from its id: one in eight is refused.
fn says_yes(id: &str) -> bool {
    !id.starts_with(['0', '1'])
}

/// And so does where they say it.
fn by_button(id: &str) -> bool {
    id.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e'])
}

#[derive(Debug, Default)]
struct Tally {
    tasks: u32,
    yes: u32,
    no: u32,
    /// Effects that a process died over.
    doubts: u32,
    effects: u32,
    /// Tasks that are gone, and a yes that nothing came of.
    lost: u32,
    /// Tasks that have not ended, and asks that nobody's word reached.
    stuck: u32,
    /// Effects before a yes, or without one.
    unasked: u32,
    /// Effects beyond the first for one approval.
    twice: u32,
    /// Words that count otherwise than they were said.
    changed: u32,
    /// Cards that still have buttons.
    open_cards: u32,
}

impl Tally {
    fn is_right(&self) -> bool {
        let wrong = [
            self.lost,
            self.stuck,
            self.unasked,
            self.twice,
            self.changed,
            self.open_cards,
        ];
        wrong == [0; 6]
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} tasks, {} yes, {} no, {} doubts, {} effects: lost {}, stuck {}, without a decision {}, \
             twice {}, words changed {}, cards left open {}",
            self.tasks,
            self.yes,
            self.no,
            self.doubts,
            self.effects,
            self.lost,
            self.stuck,
            self.unasked,
            self.twice,
            self.changed,
            self.open_cards
        )
    }
}
