//! The herald: sees to it that chats show what is asked, and afterwards what became of it. One process at a
//! time does so, under a duty; a card bears its ask's name, so what is done twice is there once.
//!
//! ```text
//!   bell ─► untold asks ─► whom to ask ─► cards are owed, told ─► courier
//! ```
//! A card is owed to the conversation that the task came from, and to whoever may decide, in private.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use shared::ask::{AskKind, AskState, Asked};
use shared::config::Role;
use shared::id::TenantId;
use shared::store::{Duty, Error, Identity, NewOut, Store, Telling, Told, duty};
use shared::task::Task;

use super::{Who, may_decide, raises_account};
use crate::channels::Word;
use crate::channels::watch::Watch;
use crate::engine::Engine;
use crate::people::directory::Directory;

/// The duty of the one process that does this.
const DUTY: &str = "asks";
/// Asks that are seen to at once.
const PAGE: u32 = 256;
/// Looks for asks at least so often: that is how it is found that one lapsed, and a backstop for all else.
const SWEEP: Duration = Duration::from_secs(30);
/// Between two attempts at a store that fails.
const AGAIN: Duration = Duration::from_secs(1);

/// Who tells of asks.
pub struct Herald {
    /// Where they stand.
    pub store: Arc<dyn Store>,
    /// Whose they are.
    pub tenant: TenantId,
    /// By whose worker the duty is held.
    pub engine: Arc<Engine>,
    /// Who may decide.
    pub people: Arc<Directory>,
    /// The channels that are open.
    pub open: Arc<[&'static str]>,
}

impl Herald {
    /// Works until it is told to end. On return nothing is under way.
    pub async fn work(self, end: CancellationToken) {
        let watch = Watch {
            store: self.store.clone(),
            engine: self.engine.clone(),
            duty: duty::of(DUTY, &self.tenant),
        };
        watch
            .work(&end, |duty, over| self.on_duty(duty, over))
            .await;
    }

    async fn on_duty(&self, duty: Duty, over: CancellationToken) {
        let mut bell = self.store.bell().mail();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !over.is_cancelled() {
            bell.mark_unchanged();
            match self.tell(&duty).await {
                // There may be more.
                Ok(told) if told == PAGE as usize => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot tell of what is asked, trying again");
                    over.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                    continue;
                }
            }
            tokio::select! {
                // The bell is the store's, and lives as long.
                _ = bell.changed() => {}
                _ = sweep.tick() => {}
                () = over.cancelled() => {}
            }
        }
    }

    /// Owes cards for what is not told yet. Answers how many asks there were.
    async fn tell(&self, duty: &Duty) -> Result<usize, Error> {
        let asks = self.store.asks();
        let untold = asks.untold(&self.tenant, PAGE).await?;
        for asked in &untold {
            let told = Told::due(asked.state);
            let cards = match asked.state {
                AskState::Open => self.cards(asked).await?,
                // Those that are there are owed again.
                _ => Vec::new(),
            };
            let telling = Telling {
                told,
                cards,
                rungs: None,
            };
            if !asks.tell(duty, (&self.tenant, asked), telling).await? {
                // Somebody else has the duty, and the rest with it.
                return Ok(0);
            }
        }
        Ok(untold.len())
    }

    /// The cards of an ask: where its task came from, and with everybody who may decide it.
    async fn cards(&self, asked: &Asked) -> Result<Vec<NewOut>, Error> {
        let Some(task) = self.store.task(&self.tenant, asked.task).await? else {
            return Ok(Vec::new());
        };
        let mut cards = Vec::new();
        let mut places = BTreeSet::new();
        if let Some((channel, conversation)) = self.chat_of(&task) {
            places.insert((channel.to_owned(), conversation.to_owned()));
            let word = match self.store.mail().card(&self.tenant, task.id).await? {
                Some((card, _)) => serde_json::from_value::<Word>(card.body).unwrap_or_default(),
                None => Word::default(),
            };
            let reply_to = word.reply_to;
            cards.push(card(asked, (channel, conversation), reply_to));
        }
        for Identity { channel, id } in self.deciders(asked, &task).await? {
            if places.insert((channel.clone(), id.clone())) {
                cards.push(card(asked, (&channel, &id), None));
            }
        }
        if cards.is_empty() {
            tracing::warn!(
                ask.id = %asked.id, task.id = %task.id, ask.kind = asked.ask.kind.as_str(),
                "nobody can be asked in a chat; `majordomo approvals` and `majordomo questions` list it"
            );
        }
        Ok(cards)
    }

    /// The chat and the conversation that a task came from, where somebody looks after that chat.
    fn chat_of<'a>(&self, task: &'a Task) -> Option<(&'a str, &'a str)> {
        let (channel, conversation) = task.request.thread.as_deref()?.split_once('/')?;
        self.is_open(channel).then_some((channel, conversation))
    }

    fn is_open(&self, channel: &str) -> bool {
        self.open.contains(&channel)
    }

    /// Where those are who may decide, in private.
    async fn deciders(&self, asked: &Asked, task: &Task) -> Result<Vec<Identity>, Error> {
        let mut found = match asked.ask.kind {
            // Whoever asked in a chat is asked there.
            AskKind::Question if self.chat_of(task).is_some() => Vec::new(),
            AskKind::Question => self.people.identities(&task.principal).await?,
            _ => {
                let keeps_budgets = raises_account(asked);
                let role = match keeps_budgets {
                    true => Role::Admin,
                    false => Role::Approver,
                };
                let all = self.people.holders(role).await?.into_iter();
                let may = all.filter(|(principal, _)| {
                    let who = Who {
                        principal: principal.clone(),
                        approves: true,
                        keeps_budgets,
                    };
                    may_decide(asked, task, &who).is_ok()
                });
                may.map(|(_, identity)| identity).collect()
            }
        };
        found.retain(|identity| self.is_open(&identity.channel));
        Ok(found)
    }
}

fn card(asked: &Asked, (channel, conversation): (&str, &str), reply_to: Option<String>) -> NewOut {
    let word = Word {
        reply_to,
        ..Word::default()
    };
    let key = format!("ask/{}/{conversation}", asked.id);
    word.owed(channel, key, conversation)
}
