//! The composition root: configuration → store → models, tools, actors → engine → doors, and down
//! again in reverse. Everything is wired here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;

use agents::catalog::Catalog;
use agents::tools::Tool;
use shared::config::{Config, Source};
use shared::egress::Gateway;
use shared::email::Mailer;
use shared::event::Live;
use shared::id::{AgentName, ModelName, TenantId, WorkerId};
use shared::model::Model;
use shared::store::Store;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarm::Alarm;
use crate::asks::herald::Herald;
use crate::asks::ladder::Ladder;
use crate::asks::pager::Pager;
use crate::channels::board::Board;
use crate::channels::callback::{self, Callbacks};
use crate::channels::configured;
use crate::channels::health::Channels;
use crate::channels::papers::Limits;
use crate::channels::papers::child::Readers;
use crate::channels::station::Station;
use crate::desk::Desk;
use crate::engine::{Engine, Parts, brake};
use crate::equip::{self, ModelCard};
use crate::halt;
use crate::intake::{Folders, Intake, MAX_TEXT};
use crate::people::directory::Directory;
use crate::permits::Clerk;
use crate::program::Programs;
use crate::retention::Retention;
use crate::storage;
use crate::supervisor::{Agents, Roster, StopAgents, Supervisor};
use crate::unusual::Unusual;

/// How long steps in flight get to end when the process goes down.
pub const GRACE: Duration = Duration::from_secs(10);

/// Documents that are read at once, each in a process of its own.
const READERS: usize = 2;
/// How much of a document is read: no more than a task's words may be.
const PAPER: Limits = Limits {
    characters: MAX_TEXT,
    ..Limits::DEFAULT
};

/// What an instance is started with.
#[derive(Clone)]
pub struct Options {
    /// Where the configuration comes from.
    pub source: Source,
    /// The folder that holds all state.
    pub data: PathBuf,
    /// The folder that file tools read where the configuration names none.
    pub read: Option<PathBuf>,
    /// Tools besides the built-in ones, for programs that embed this crate.
    pub tools: Vec<Arc<dyn Tool>>,
    /// Models that stand in for the configured ones of their names, for programs that embed this
    /// crate.
    pub models: BTreeMap<ModelName, Arc<dyn Model>>,
}

/// What doors share of the house behind them.
#[derive(Clone)]
pub struct House {
    /// Where tasks are looked at, cancelled and answered.
    pub desk: Desk,
    /// The way in.
    pub intake: Arc<Intake>,
    /// Who works here, and what for.
    pub agents: Arc<[(AgentName, String)]>,
    /// Who reads the documents that people send.
    pub readers: Arc<Readers>,
}

/// A running instance.
pub struct App {
    /// The configuration that it runs by.
    pub config: Config,
    /// The catalog that new tasks work by.
    pub catalog: Arc<Catalog>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The way in.
    pub intake: Arc<Intake>,
    /// The agents' actors.
    pub agents: Agents,
    /// Unfinished runs that were found at the start and go on; those that wait for something are not
    /// among them.
    pub resumed: u64,
    /// What each model is, for people.
    pub models: Vec<ModelCard>,
    /// By which letters leave, where a mail server is configured.
    pub mailer: Option<Arc<dyn Mailer>>,
    /// Where tasks are looked at, cancelled and answered.
    pub desk: Desk,
    /// Who reads the documents that come with tasks.
    pub readers: Arc<Readers>,
    /// Who is who in chats.
    pub people: Arc<Directory>,
    /// Who answers by permits, and gives them.
    pub clerk: Arc<Clerk>,
    /// How the channels are, where any are open.
    pub channels: Channels,
    /// The channels, once they are open.
    board: OnceLock<Board>,
    engine: Arc<Engine>,
    supervisor: ActorRef<Supervisor>,
    /// The stations of open channels.
    stations: TaskTracker,
    /// Ends what goes on beside the engine.
    stopping: CancellationToken,
}

impl App {
    /// Starts everything but the doors. On return unfinished runs go on.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let equipped = equip::load(&options.source, &options.tools, &options.models)?;
        let settings = &equipped.config.settings;
        let store = storage::open(
            &options.data,
            settings.database_url.as_ref(),
            seconds(settings.engine.lease_s),
        )
        .await?;
        store.budgets().plan(settings.budget.plan(&settings.limits));
        let agents = Agents::default();
        let roster = Roster {
            equipment: equipped.equipment,
            agents: agents.clone(),
        };
        let supervisor = Supervisor::spawn_with_mailbox(roster, mailbox::bounded(64));
        supervisor.wait_for_startup().await;
        let programs = Arc::new(Programs::new(store.clone()));
        let people = Arc::new(Directory::new(settings, store.clone()));
        let catalog = Arc::new(equipped.catalog);
        let clerk = Arc::new(Clerk {
            store: store.clone(),
            tenant: settings.tenant.0.clone(),
            people: people.clone(),
            catalog: catalog.clone(),
        });
        let (engine, _) = Engine::start(Parts {
            answers: Some(clerk.clone()),
            store: store.clone(),
            executor: Arc::new(agents.clone()),
            program: programs.clone(),
            live_runs: settings.engine.live_runs,
            park_after: seconds(settings.engine.park_after_s),
            beat: seconds(settings.engine.beat_s),
            stop_file: Some(options.data.join(brake::STOP)),
        })
        .await?;
        let resumed = store
            .census()
            .await?
            .runs
            .get("queued")
            .copied()
            .unwrap_or(0);
        for halt in &store.bell().halting().borrow().stored {
            tracing::warn!("{}", halt::in_words(halt));
        }
        let write = settings.files.write.clone();
        let intake = Intake::open(
            store.clone(),
            settings.tenant.0.clone(),
            &catalog,
            Folders {
                read: settings.files.read.clone().or(options.read),
                write: write.unwrap_or_else(|| options.data.join("files")),
                private: options.data.clone(),
            },
        )
        .await?
        .run_by(engine.clone())
        .recalling(settings.conversations.turns);
        let intake = Arc::new(intake);
        let desk = Desk::new(store.clone(), settings.tenant.0.clone(), programs.clone());
        engine.begin();
        let stopping = CancellationToken::new();
        let retention = Retention::new(&settings.retention, store.clone(), programs);
        tokio::spawn(retention.work(engine.clone(), stopping.clone()));
        Ok(Self {
            people,
            clerk,
            board: OnceLock::new(),
            config: equipped.config,
            catalog,
            store,
            intake,
            agents,
            resumed: resumed.max(0) as u64,
            models: equipped.models,
            mailer: equipped.mailer,
            desk,
            readers: Arc::new(Readers::new(std::env::current_exe()?, READERS, PAPER)),
            channels: Channels::default(),
            engine,
            supervisor,
            stations: TaskTracker::new(),
            stopping,
        })
    }

    /// Opens the chats that the configuration names, and begins to call back. Where one cannot be reached
    /// it is tried again and again, and everything else goes on; only what is wrong in the configuration
    /// is an error.
    pub fn open_channels(&self) -> anyhow::Result<()> {
        let settings = &self.config.settings;
        let gateway = Gateway::new(&settings.egress)?;
        let agents = self.catalog.agents.keys().cloned().collect();
        let channels = configured(settings, &gateway, agents)?;
        let ladder = Arc::new(Ladder::new(&settings.escalation));
        let people = self.people.clone();
        let board = Board {
            channels: channels.clone().into(),
            health: Some(self.channels.clone()),
            idle: false,
            mailer: self.mailer.clone(),
            people: people.clone(),
            desk: self.desk.clone(),
            ladder: ladder.clone(),
        };
        // Opened before: it shows the same ones.
        let _ = self.board.set(board);
        let house = House {
            desk: self.desk.clone(),
            intake: self.intake.clone(),
            agents: roster(&self.catalog),
            readers: self.readers.clone(),
        };
        let open: Arc<[&'static str]> = channels.iter().map(|channel| channel.name()).collect();
        let herald = Herald {
            store: self.store.clone(),
            tenant: self.tenant().clone(),
            engine: self.engine.clone(),
            people: people.clone(),
            clerk: self.clerk.clone(),
            open: open.clone(),
            ladder: ladder.clone(),
        };
        self.stations.spawn(herald.work(self.stopping.clone()));
        let hooks = settings.callbacks.as_ref().map(callback::key).transpose()?;
        let pager = Pager {
            store: self.store.clone(),
            tenant: self.tenant().clone(),
            engine: self.engine.clone(),
            mailer: self.mailer.clone(),
            hooks: hooks.map(|key| (gateway.clone(), key)),
        };
        self.stations.spawn(pager.work(self.stopping.clone()));
        let alarm = Alarm {
            store: self.store.clone(),
            tenant: self.tenant().clone(),
            people: people.clone(),
            open: open.clone(),
        };
        self.stations.spawn(alarm.work(self.stopping.clone()));
        if let Some(times) = settings.budget.unusual() {
            let unusual = Unusual {
                store: self.store.clone(),
                tenant: self.tenant().clone(),
                people: people.clone(),
                open: open.clone(),
                times,
            };
            self.stations.spawn(unusual.work(self.stopping.clone()));
        }
        for channel in channels {
            let station = Station {
                house: house.clone(),
                engine: self.engine.clone(),
                channel,
                people: people.clone(),
                settings: settings.conversations.clone(),
                health: self.channels.clone(),
                open: open.clone(),
            };
            self.stations.spawn(station.work(self.stopping.clone()));
        }
        if let Some(callbacks) = &settings.callbacks {
            let (store, tenant) = (self.store.clone(), self.tenant().clone());
            let callbacks = Callbacks::new(callbacks, store, tenant, people, gateway)?;
            let work = callbacks.work(self.engine.clone(), self.stopping.clone());
            self.stations.spawn(work);
        }
        Ok(())
    }

    /// The channels; none before they are open.
    pub fn board(&self) -> Option<&Board> {
        self.board.get()
    }

    /// As whom this process works now. As another one after a lease that was lost.
    pub fn worker(&self) -> WorkerId {
        self.engine.worker()
    }

    /// The tenant whose data this instance holds.
    pub fn tenant(&self) -> &TenantId {
        &self.config.settings.tenant.0
    }

    /// Live events and text of all tasks, from now on. Lossy for slow readers: those go on from the
    /// store.
    pub fn watch(&self) -> broadcast::Receiver<Live> {
        self.store.bell().feed().subscribe()
    }

    /// Takes all runs out of memory, then stops the actors, then closes the store. Unfinished tasks
    /// go on at the next start.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.cancel();
        self.stations.close();
        self.stations.wait().await;
        self.engine.freeze(grace).await;
        // An actor that is gone already needs no word.
        let _ = self.supervisor.tell(StopAgents).await;
        self.supervisor.wait_for_shutdown().await;
        self.store.close().await;
    }
}

/// Who works here, and what for.
fn roster(catalog: &Catalog) -> Arc<[(AgentName, String)]> {
    let specs = catalog.agents.values();
    specs
        .map(|spec| (spec.name.clone(), spec.description.clone()))
        .collect()
}

/// A time from the configuration, which has checked that it is one.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
