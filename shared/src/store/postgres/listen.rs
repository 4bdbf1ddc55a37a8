//! What other processes commit, as it happens: one connection that listens, and rings the bell.
//!
//! Messages hold ids only: `events FROM TASK FIRST LAST`, `run FROM RUN`, `end FROM RUN`,
//! `hold FROM TASK`, `queue FROM`, `halt FROM`.
//! Those of this process are not listened to: it rang its own bell when it had committed. A message
//! that is missed loses nothing but time: after a connection that broke everything is rung.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{Address, EngineRole};
use super::tx::get;
use super::{event, fault, halt, parse};
use crate::clock;
use crate::id::{RunId, TaskId};
use crate::store::{Bell, Error};

/// Messages that may wait while events are read.
const WAITING: usize = 4096;
/// Pauses between attempts to connect again: the first, doubled each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long a connection may have been broken before that was seen.
const SLACK_MS: i64 = 60_000;

/// A connection that listens.
pub(super) struct Ear {
    messages: mpsc::Receiver<String>,
    _client: Client,
    _driver: AbortOnDropHandle<()>,
}

impl Ear {
    /// Connects and listens. What is committed after the return is heard.
    pub(super) async fn open(address: &Address) -> Result<Self, Error> {
        let (heard, messages) = mpsc::channel(WAITING);
        let connected = address.connect(Some(heard)).await;
        let (client, driver) = connected.map_err(fault)?;
        client
            .batch_execute("listen majordomo")
            .await
            .map_err(fault)?;
        Ok(Self {
            messages,
            _client: client,
            _driver: driver,
        })
    }
}

/// Who hears and rings.
pub(super) struct Listener {
    pub address: Address,
    pub engine: EngineRole,
    pub bell: Bell,
}

impl Listener {
    /// Listens until the store is closed; connects again where the connection breaks.
    pub(super) async fn work(self, mut ear: Ear, closing: CancellationToken) {
        let hearing = async {
            loop {
                while let Some(message) = ear.messages.recv().await {
                    self.hear(&message).await;
                }
                tracing::warn!("the connection that listens broke, connecting again");
                let away = clock::stopwatch();
                ear = self.again().await;
                self.ring_everything(away.ms() as i64 + SLACK_MS).await;
                tracing::info!("listening again");
            }
        };
        tokio::select! {
            () = hearing => {}
            () = closing.cancelled() => {}
        }
    }

    async fn again(&self) -> Ear {
        let mut pause = FIRST_PAUSE;
        loop {
            match Ear::open(&self.address).await {
                Ok(ear) => return ear,
                Err(error) => tracing::debug!(%error, "cannot listen yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn hear(&self, message: &str) {
        if let Err(error) = self.ring(message).await {
            tracing::warn!(%error, "cannot tell watchers of another process's events");
        }
    }

    async fn ring(&self, message: &str) -> Result<(), Error> {
        let words: Vec<&str> = message.split(' ').collect();
        match words.as_slice() {
            [_, teller, ..] if *teller == self.engine.teller() => {}
            ["queue", _] => self.bell.ring_queue(),
            ["mail", _] => self.bell.ring_mail(),
            ["halt", _] => halt::look(&self.engine, &self.bell).await?,
            ["run", _, run] => self.bell.ring_run(parse::<RunId>("notification", run)?),
            ["end", _, run] => self.bell.end_run(parse::<RunId>("notification", run)?),
            ["hold", _, task] => self.bell.hold(parse::<TaskId>("notification", task)?),
            ["events", _, spans @ ..] => {
                for span in spans.chunks_exact(3) {
                    let task: TaskId = parse("notification", span[0])?;
                    let first: i64 = parse("notification", span[1])?;
                    let last: i64 = parse("notification", span[2])?;
                    self.tell(task, first, last).await?;
                }
            }
            // Of a newer program beside this one.
            _ => {}
        }
        Ok(())
    }

    /// Shows another process's events to those who watch here, if there are any.
    async fn tell(&self, task: TaskId, first: i64, last: i64) -> Result<(), Error> {
        if !self.bell.is_watched(task) {
            return Ok(());
        }
        let rows = self
            .engine
            .ask(event::BETWEEN, &[&task.0, &first, &last])
            .await?;
        let events = rows.iter().map(event::read).collect::<Result<_, _>>()?;
        self.bell.publish_from_elsewhere(events);
        Ok(())
    }

    /// Makes up for what was not heard: whoever waits looks again, runs that ended meanwhile are
    /// told, and watchers get the last event of each task, from which they see that they missed some.
    async fn ring_everything(&self, missed_ms: i64) {
        self.bell.ring_queue();
        self.bell.ring_mail();
        while let Err(error) = self.catch_up(missed_ms).await {
            tracing::warn!(%error, "cannot tell watchers what happened meanwhile, trying again");
            tokio::time::sleep(LAST_PAUSE).await;
        }
        self.bell.ring_runs();
    }

    async fn catch_up(&self, missed_ms: i64) -> Result<(), Error> {
        const OVER: &str = "
select id from run where id = any($1) and state in ('done', 'failed', 'cancelled', 'dead')";
        const HELD: &str = "select distinct task from run where id = any($1) and held";
        halt::look(&self.engine, &self.bell).await?;
        let here: Vec<uuid::Uuid> = self.bell.runs().into_iter().map(|run| run.0).collect();
        for row in self.engine.ask(OVER, &[&here]).await? {
            self.bell.end_run(RunId(get(&row, 0)?));
        }
        for row in self.engine.ask(HELD, &[&here]).await? {
            self.bell.hold(TaskId(get(&row, 0)?));
        }
        let rows = self.engine.ask(event::LATEST, &[&missed_ms]).await?;
        let events = rows.iter().map(event::read).collect::<Result<_, _>>()?;
        self.bell.publish_from_elsewhere(events);
        Ok(())
    }
}
