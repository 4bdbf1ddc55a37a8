//! Slack: events over HTTP and over a socket, process by process in turn. What is not acknowledged comes
//! again by Slack's schedule, a hundred times as fast, and after its end once more, as with "delayed events"
//! switched on; what was acknowledged comes again by chance, in any order, under its id or another. The
//! control posts answers instead of making them out of recorded messages: it must answer twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use tokio::net::TcpStream;
use tokio::process::{ChildStdin, Command};

use super::{Door, Fleet, Tally, configure, secret, sort};
use crate::doubles::slack::{FakeSlack, State, TEAM};

const ADA: &str = "U1";
const GENERAL: &str = "C1";
/// How much faster than Slack's own the retries come.
const SPEED: f64 = 100.0;
/// The pause before a process that does not listen yet is tried again.
const KNOCK: Duration = Duration::from_millis(10);

/// A workspace, and what was said to the app.
pub(super) struct Slack {
    fake: FakeSlack,
    /// Where the processes listen.
    address: SocketAddr,
    by_socket: bool,
    /// By channel and message.
    asked: Vec<(String, String)>,
    events: Vec<String>,
}

#[async_trait]
impl Door for Slack {
    const NAME: &str = "Slack by HTTP and socket in turn";
    const POINTS: u64 = 50;
    const CONTROL: (&str, &str) = ("post-answers", "send.after:2");
    const WORDS: (&str, &str) = ("answered twice", "dead placeholders");
    // Each message is a thread of its own.
    const LANES: u32 = u32::MAX;

    async fn open(_: &Fleet) -> Self {
        let fake = FakeSlack::start().await;
        fake.add_channel(GENERAL, "general", &[ADA]);
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = free.local_addr().expect("it is bound");
        fake.set_target(&format!("http://{address}/v1/slack/events"));
        fake.configure(|settings| settings.retry_speed = SPEED);
        Self {
            fake,
            address,
            by_socket: false,
            asked: Vec::new(),
            events: Vec::new(),
        }
    }

    fn begin(&mut self, fleet: &Fleet, process: &mut Command) {
        self.by_socket = !self.by_socket;
        let by_socket = self.by_socket;
        self.fake
            .configure(|settings| settings.socket_mode = by_socket);
        process.env("MAJORDOMO_TEST_LISTEN", self.address.to_string());
        let mode = if by_socket { "socket" } else { "http" };
        let secrets = self.fake.settings();
        let settings = format!(
            "[slack]\nmode = \"{mode}\"\napi_url = \"{}\"\nbot_token = \"{}\"\napp_token = \"{}\"\n\
             signing_secret = \"{}\"\n\
             [[people]]\nname = \"ada\"\nslack = \"{TEAM}/{ADA}\"\n\
             [[routes]]\nchannel = \"slack\"\nagents = [\"executor\"]\n",
            self.fake.url(),
            secret(fleet, "bot", &secrets.bot_token),
            secret(fleet, "app", &secrets.app_token),
            secret(fleet, "signing", &secrets.signing_secret),
        );
        configure(fleet, &settings);
    }

    async fn ask(&mut self, fleet: &Fleet, input: &mut ChildStdin, chance: &mut Rng) {
        self.insist(fleet, input).await;
        let (channel, posted) = match chance.bool() {
            true => (GENERAL.into(), self.fake.mention(GENERAL, ADA, "Do it")),
            false => (self.fake.im(ADA), self.fake.dm(ADA, "Do it")),
        };
        self.asked.push((channel, posted.ts));
        self.events.extend(posted.events);
        let mut again: Vec<&String> = self
            .events
            .iter()
            .filter(|_| chance.u32(0..20) == 0)
            .collect();
        chance.shuffle(&mut again);
        for event in again.into_iter().take(4) {
            match chance.bool() {
                true => drop(self.fake.redeliver(event)),
                false => drop(self.fake.again_under_new_id(event)),
            }
        }
    }

    async fn insist(&mut self, _: &Fleet, _: &mut ChildStdin) {
        self.listens().await;
        let parcels = self.fake.parcels();
        let of = |lost: bool| {
            let parcels = parcels
                .iter()
                .filter(move |it| (it.state == State::Lost) == lost);
            parcels
                .filter_map(|parcel| parcel.event_id.as_ref())
                .collect()
        };
        let (given_up, others): (BTreeSet<&String>, BTreeSet<&String>) = (of(true), of(false));
        for event in given_up.difference(&others) {
            self.fake.redeliver(event);
        }
    }

    fn tally(&self, _: &Fleet) -> Tally {
        let mut tally = Tally::default();
        let mut answers: BTreeMap<_, u32> = self.asked.iter().map(|id| (id.clone(), 0)).collect();
        let channels = [GENERAL.to_owned(), self.fake.im(ADA)];
        let said = channels
            .iter()
            .flat_map(|channel| self.fake.from_bot(channel));
        let said = said.map(|message| {
            let to = message.thread_ts.map(|thread| (message.channel, thread));
            (to, message.text.replace(":hourglass_flowing_sand:", "⏳"))
        });
        sort(&mut tally, &mut answers, said);
        tally
    }
}

impl Slack {
    /// Waits until a process can be reached.
    async fn listens(&self) {
        if self.by_socket {
            let open = |fake: &FakeSlack| fake.sockets() > 0;
            self.fake.until(super::PATIENCE, open).await;
            return;
        }
        while TcpStream::connect(self.address).await.is_err() {
            tokio::time::sleep(KNOCK).await;
        }
    }
}
