//! Three processes on one Postgres, of which one polls Telegram. That one is killed again and again, or
//! stopped for longer than its lease and let go on, while messages come in. Each has one answer, and no two
//! poll for longer than one long poll takes. The control is a program of somebody else's that reads the
//! same bot's messages and confirms them: it must be noticed.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio_postgres::Client;
use uuid::Uuid;

use shared::clock::stopwatch;

use super::{ANSWER, DIED, configure, telegram};
use crate::chaos::fleet::{Fleet, Replica, Work};
use crate::chaos::{Finding, Plan};
use crate::doubles::telegram::{FakeTelegram, Say};
use crate::place::Place;

const DUTY: &str = "telegram/default";
/// People who write, each in a chat of their own.
const PEOPLE: std::ops::Range<i64> = 100..110;
/// Somebody writes so often.
const EVERY: Duration = Duration::from_millis(250);
/// From one blow to the next, in milliseconds; in the short form a third.
const PAUSE_MS: u64 = 3000;
/// How long a process waits for updates in one call, in milliseconds.
const LONG_POLL_MS: i64 = 25_000;
/// How long the answers may take in the end.
const PATIENCE: Duration = Duration::from_secs(60);

struct Relay {
    fleet: Fleet,
    fake: FakeTelegram,
    client: Client,
    members: Vec<Replica>,
    /// By chat and message.
    asked: Vec<(i64, i64)>,
    /// How long nobody polled after a blow.
    takeovers: Vec<u64>,
    pause_ms: u64,
}

pub(super) async fn run(plan: &Plan) -> Finding {
    let (kills, stops) = (plan.times(2, 50), plan.times(0, 6));
    let mut relay = Relay::start(plan).await;
    for n in 0..kills + stops {
        match n % (kills / stops.max(1) + 1) {
            0 if stops > 0 => relay.stop_one().await,
            _ => relay.kill_one().await,
        }
    }
    relay.settle(PATIENCE).await;
    let (lost, twice, dead, left) = relay.count();
    if lost > 0 {
        relay.tell_what_is_open().await;
    }
    let (conflicts, longest) = relay.conflicts();
    let asked = relay.asked.len();
    let robbed = relay.rob().await;
    let mut took = std::mem::take(&mut relay.takeovers);
    took.sort_unstable();
    for member in relay.members {
        member.stop().await;
    }
    let line = format!(
        "Telegram by one of 3, {kills} times killed and {stops} times stopped past its lease: {asked} asked: \
         lost {lost}, answered twice {twice}, told that they killed {dead}, dead placeholders {left}; \
         another one polls after p50 {} ms, max {} ms; {conflicts} calls met a 409, in a row for \
         {longest} ms at most; control, a stranger who confirms: lost {robbed}",
        took.get(took.len() / 2).copied().unwrap_or(0),
        took.last().copied().unwrap_or(0),
    );
    Finding {
        line,
        holds: (lost, twice) == (0, 0)
            && left <= (kills + stops) as usize
            && longest <= LONG_POLL_MS
            && took.len() == (kills + stops) as usize
            && robbed > 0,
    }
}

/// The process that speaks to a chat is stopped between its look at its lease and a change of a card, and
/// goes on when another one has made that card the answer: what does the chat show then?
pub(super) async fn late(plan: &Plan) -> Finding {
    let mut relay = Relay::with(plan, 4000).await;
    // A placeholder is the first thing that is sent, and what goes on the second.
    let late = relay.fleet.spawn(|process| {
        process.env("MAJORDOMO_PAUSE", "send.before:2");
    });
    relay.ask();
    let shows = |fake: &FakeTelegram| PEOPLE.clone().any(|chat| !fake.from_bot(chat).is_empty());
    relay.fake.until(PATIENCE, shows).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    relay.join().await;
    relay.settle(PATIENCE).await;
    let (before, ..) = relay.count();
    late.send(Signal::SIGCONT);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (after, _, _, left) = relay.count();
    if after > 0 {
        relay.tell_what_is_open().await;
    }
    late.stop().await;
    for member in relay.members {
        member.stop().await;
    }
    Finding {
        line: format!(
            "Telegram by one of 2, stopped before a change of a card, and let go on when another one has \
             answered: {before} without an answer before, {after} after, dead placeholders {left}"
        ),
        holds: (before, after) == (0, 0),
    }
}

impl Relay {
    async fn start(plan: &Plan) -> Self {
        let mut relay = Self::with(plan, 100).await;
        for _ in 0..3 {
            relay.join().await;
        }
        relay
    }

    /// Without a process, and with a model that takes so long.
    async fn with(plan: &Plan, model_ms: u32) -> Self {
        let work = Work {
            settings: "",
            agent: "",
            mutant: "",
            model_ms,
            tool_ms: 0,
        };
        let fleet = Fleet::new(plan, Place::database().await, work);
        fleet.write("agents/executor.toml", super::AGENT);
        fleet.write("script.toml", super::SCRIPT);
        let fake = FakeTelegram::start().await;
        let person = |id| format!("[[people]]\nname = \"p{id}\"\ntelegram = {id}\n");
        let people: String = PEOPLE.map(person).collect();
        configure(&fleet, &(telegram::settings(&fleet, &fake) + &people));
        let database = fleet.place.postgres().expect("a database");
        let client = database.client().await;
        Self {
            fleet,
            fake,
            client,
            members: Vec::new(),
            asked: Vec::new(),
            takeovers: Vec::new(),
            pause_ms: PAUSE_MS / u64::from(plan.times(3, 1)),
        }
    }

    async fn join(&mut self) {
        let replica = self.fleet.start().await;
        self.members.push(replica);
    }

    /// Who polls.
    async fn holder(&self) -> Option<Uuid> {
        let holder = "select holder from majordomo.duty_lease where name = $1";
        let row = self.client.query_opt(holder, &[&DUTY]).await;
        row.expect("it reads").map(|row| row.get(0))
    }

    /// Takes the one out that polls, and says which worker it is.
    async fn poller(&mut self) -> (Replica, Uuid) {
        let watch = stopwatch();
        loop {
            let holder = self.holder().await;
            for at in 0..self.members.len() {
                // Under load one may have begun anew, as another worker.
                let worker = self.members[at].worker().await;
                if let (Some(worker), true) = (worker, worker == holder) {
                    return (self.members.swap_remove(at), worker);
                }
            }
            assert!(watch.ms() < 60_000, "nobody polls");
        }
    }

    async fn kill_one(&mut self) {
        let (replica, worker) = self.poller().await;
        self.chat(fastrand::u64(0..500)).await;
        replica.kill().await;
        self.taken_over(worker).await;
        self.join().await;
        self.chat(self.pause_ms).await;
    }

    /// Stops the one that polls, and lets it go on when another one does.
    async fn stop_one(&mut self) {
        let (replica, worker) = self.poller().await;
        replica.send(Signal::SIGSTOP);
        self.taken_over(worker).await;
        self.chat(self.pause_ms).await;
        replica.send(Signal::SIGCONT);
        self.members.push(replica);
        self.chat(self.pause_ms).await;
    }

    /// Waits until somebody else polls.
    async fn taken_over(&mut self, from: Uuid) {
        let watch = stopwatch();
        while self.holder().await == Some(from) && watch.ms() < 20_000 {
            self.chat(20).await;
        }
        if watch.ms() < 20_000 {
            self.takeovers.push(watch.ms());
        }
    }

    /// Somebody writes now and then, for so long.
    async fn chat(&mut self, ms: u64) {
        let watch = stopwatch();
        while watch.ms() < ms {
            let left = Duration::from_millis(ms - watch.ms());
            tokio::time::sleep(left.min(EVERY)).await;
            if left >= EVERY {
                self.ask();
            }
        }
    }

    fn ask(&mut self) {
        let who = fastrand::i64(PEOPLE);
        let said = self.fake.says(Say::new(who, who, "Do it"));
        self.asked.push((who, said.message_id));
    }

    /// Waits until everything is answered.
    async fn settle(&self, patience: Duration) {
        let all = |_: &FakeTelegram| self.count().0 == 0;
        self.fake.until(patience, all).await;
        tokio::time::sleep(super::AFTERWARDS).await;
    }

    /// Lost, answered twice, told that they killed, left behind.
    fn count(&self) -> (usize, usize, usize, usize) {
        let said: Vec<_> = PEOPLE.flat_map(|chat| self.fake.from_bot(chat)).collect();
        let is_answer = |text: &str| text == ANSWER || text.contains(DIED);
        let answers = |(chat, message): &(i64, i64)| {
            let to = said
                .iter()
                .filter(|it| it.chat == *chat && it.reply_to == Some(*message));
            to.filter(|it| is_answer(&it.text)).count()
        };
        let counts: Vec<usize> = self.asked.iter().map(answers).collect();
        let of = |wanted: fn(&str) -> bool| said.iter().filter(|it| wanted(&it.text)).count();
        (
            counts.iter().filter(|count| **count == 0).count(),
            counts.iter().filter(|count| **count > 1).count(),
            of(|text| text.contains(DIED)),
            of(|text| text.starts_with('⏳')),
        )
    }

    /// Says what became of messages without an answer, and what the store holds that has not come to its
    /// end.
    async fn tell_what_is_open(&self) {
        for (chat, asked) in &self.asked {
            let said = self.fake.from_bot(*chat);
            let to: Vec<_> = said
                .iter()
                .filter(|it| it.reply_to == Some(*asked))
                .collect();
            if !to
                .iter()
                .any(|it| it.text == ANSWER || it.text.contains(DIED))
            {
                eprintln!("relay: {chat}/{asked} {to:?}");
            }
        }
        for look in [
            "select 'worker', id::text, state, to_char(to_timestamp(expires_at / 1000.0), 'MI:SS.MS') || to_char(now(), ' now MI:SS.MS') from majordomo.worker where state = 'live'",
            "select 'duty', name, holder::text, epoch::text from majordomo.duty_lease",
            "select 'run', id::text, state || ' deaths ' || deaths || ' held ' || held, coalesce(owner::text, '') || ' epoch ' || epoch || to_char(to_timestamp(updated_at / 1000.0), ' MI:SS.MS') from majordomo.run where state not in ('done', 'failed', 'dead', 'cancelled')",
            "select 'task', id::text, state, '' from majordomo.task where state not in ('done', 'failed', 'cancelled')",
            "select 'outbox', seq::text, state || ' ' || far::text, coalesce(task::text, '') || to_char(to_timestamp(updated_at / 1000.0), ' MI:SS.MS') from majordomo.outbox where state <> 'sent'",
            "select 'inbound', seq::text, state, key from majordomo.inbound where state <> 'done'",
        ] {
            for row in self.client.query(look, &[]).await.expect("it reads") {
                let column = |n: usize| row.get::<_, Option<String>>(n).unwrap_or_default();
                eprintln!(
                    "relay: {} {} {} {}",
                    column(0),
                    column(1),
                    column(2),
                    column(3)
                );
            }
        }
    }

    /// How many calls met another poller, and for how long at most one after the other did.
    fn conflicts(&self) -> (usize, i64) {
        let calls = self.fake.calls_of("getUpdates");
        let met = calls.iter().filter(|call| call.code == Some(409));
        let mut times: Vec<i64> = met.filter_map(|call| call.done_ms).collect();
        times.sort_unstable();
        let mut longest = 0;
        let mut since = times.first().copied().unwrap_or(0);
        for pair in times.windows(2) {
            // Those that are further apart have nothing to do with each other.
            if pair[1] - pair[0] > LONG_POLL_MS {
                since = pair[1];
            }
            longest = longest.max(pair[1] - since);
        }
        (times.len(), longest)
    }

    /// Has a stranger read along, who confirms what comes. How many messages are lost.
    async fn rob(&mut self) -> usize {
        self.fake.second_poller(true);
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..6 {
            self.ask();
            tokio::time::sleep(EVERY).await;
        }
        self.fake.no_second_poller();
        self.settle(Duration::from_secs(2)).await;
        self.count().0
    }
}
