//! The herald: sees to it that chats show what is asked, and afterwards what became of it. One process at a
//! time does so, under a duty; a card bears its ask's name, so what is done twice is there once.
//!
//! ```text
//!   bell ─► untold asks ─► whom to ask ─► cards are owed, told ─► courier, pager
//!   time ─► climbing asks ─► the next rung ─────┘
//! ```
//! A card is owed to the conversation that the task came from, and to whoever may decide, in private. Work
//! that cannot go on climbs the [`ladder`]: one ask for all that wait for the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use shared::ask::{AskKind, AskState, Asked};
use shared::clock;
use shared::config::{Contact, Role};
use shared::feedback::Source;
use shared::id::TenantId;
use shared::store::{Climb, Duty, Error, Identity, NewOut, Rungs, Store, Telling, Told, duty};
use shared::task::Task;

use super::ladder::{self, Ladder};
use super::{Who, dead, may_decide, pager, raises_account};
use crate::channels::Word;
use crate::channels::watch::Watch;
use crate::doctor::Finding;
use crate::engine::Engine;
use crate::feedback;
use crate::people::directory::Directory;
use crate::permits::Clerk;

/// The duty of the one process that does this.
const DUTY: &str = "asks";
/// Asks that are seen to at once.
const PAGE: u32 = 256;
/// Looks for asks at least so often: that is how it is found that one lapsed, and a backstop for all else.
const SWEEP: Duration = Duration::from_secs(30);
/// Looks at those that climb no more often, whatever the bell says.
const LOOK: Duration = Duration::from_secs(1);
/// Asks that climb at the same time: there is one for each cause.
const MANY: u32 = 10_000;
/// After a look the next one waits so many times as long as it took: a look goes over all that is open, and
/// the bell rings for much else. So looking takes a tenth of the time at most, however much waits.
const REST: u32 = 9;
/// No next look waits longer.
const REST_AT_MOST: Duration = Duration::from_secs(2);
/// Between two attempts at a store that fails.
const AGAIN: Duration = Duration::from_secs(1);

/// How many escalations are in a bad way: nothing reached one of their rungs, or everybody was told and
/// nobody decided in time.
pub async fn red(store: &dyn Store, tenant: &TenantId, ladder: &Ladder) -> Result<u32, Error> {
    let (climbing, now) = (store.asks().climbing(tenant, MANY).await?, store.now());
    let red = climbing
        .iter()
        .filter(|climb| ladder.is_red(climb.rungs, climb.at, now));
    Ok(red.count() as u32)
}

/// What the doctor says of so many of them.
pub fn finding(red: u32) -> Finding {
    const CHECK: &str = "escalations";
    match red {
        0 => Finding::ok(CHECK, "none waits longer than the ladder gives it"),
        _ => Finding::problem(
            CHECK,
            format!("{red} reached nobody on a rung, or nobody decided in time"),
            "majordomo escalations lists them; [escalation] in majordomo.toml says who is told",
        ),
    }
}

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
    /// Who answers by permits, before anybody is asked.
    pub clerk: Arc<Clerk>,
    /// The channels that are open.
    pub open: Arc<[&'static str]>,
    /// Who is told of work that cannot go on.
    pub ladder: Arc<Ladder>,
}

/// Where an ask is told.
#[derive(Default)]
struct Round {
    /// The conversations that have a card of it.
    places: BTreeSet<(String, String)>,
    /// Those that are owed one now.
    cards: Vec<NewOut>,
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
        // When it was looked at those that climb, and how long that is good for.
        let (mut looked_at, mut good_for) = (clock::stopwatch(), Duration::ZERO);
        while !over.is_cancelled() {
            bell.mark_unchanged();
            let told = async {
                let told = self.tell(&duty).await?;
                if looked_at.elapsed() >= good_for {
                    good_for = self.climb(&duty).await?;
                    looked_at = clock::stopwatch();
                }
                Ok::<_, Error>(told)
            };
            match told.await {
                // There may be more.
                Ok((told, _)) if told == PAGE as usize => continue,
                Ok((_, looked)) => {
                    let rest = tokio::time::sleep((looked * REST).min(REST_AT_MOST));
                    over.run_until_cancelled(rest).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot tell of what is asked, trying again");
                    over.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                    continue;
                }
            }
            tokio::select! {
                // The bell is the store's, and lives as long.
                _ = bell.changed() => good_for = good_for.min(looked_at.elapsed() + LOOK),
                _ = sweep.tick() => {
                    if let Err(error) = self.clerk.answer_all().await {
                        tracing::warn!(%error, "permits cannot be looked at now");
                    }
                    let all = (&*self.store, &self.tenant);
                    if let Err(error) = dead::tell(all, &self.people, &self.open).await {
                        tracing::warn!(%error, "it cannot be told which runs were given up");
                    }
                }
                () = tokio::time::sleep(good_for.saturating_sub(looked_at.elapsed())) => {}
                () = over.cancelled() => {}
            }
        }
    }

    /// Owes cards for what is not told yet. Answers how many asks there were, and how long they were looked
    /// for.
    async fn tell(&self, duty: &Duty) -> Result<(usize, Duration), Error> {
        let (asks, look) = (self.store.asks(), clock::stopwatch());
        let untold = asks.untold(&self.tenant, PAGE).await?;
        let looked = Duration::from_millis(look.ms());
        for asked in &untold {
            // It is untold again when it is seen to be decided.
            if self.clerk.answer(asked).await? {
                continue;
            }
            if asked.state == AskState::Lapsed {
                self.notice_silence(asked).await?;
            }
            let telling = match asked.state {
                AskState::Open => self.announce(asked).await?,
                // The cards that are there are owed again.
                _ => Telling {
                    told: Told::due(asked.state),
                    cards: Vec::new(),
                    rungs: None,
                },
            };
            if !asks.tell(duty, (&self.tenant, asked), telling).await? {
                // Somebody else has the duty, and the rest with it.
                return Ok((0, looked));
            }
        }
        Ok((untold.len(), looked))
    }

    /// Nobody cared enough to answer: that says something of the task.
    async fn notice_silence(&self, asked: &Asked) -> Result<(), Error> {
        if let AskKind::Approval | AskKind::Question = asked.ask.kind
            && let Some(task) = self.store.task(&self.tenant, asked.task).await?
        {
            let theirs = (task.id, &task.principal);
            feedback::notice(&*self.store, &self.tenant, theirs, Source::Lapsed).await;
        }
        Ok(())
    }

    /// Tells the next rung wherever the last one had its time. Answers when to look again.
    async fn climb(&self, duty: &Duty) -> Result<Duration, Error> {
        if self.ladder.is_empty() {
            return Ok(SWEEP);
        }
        let (asks, now) = (self.store.asks(), self.store.now());
        let (mut next, mut red) = (SWEEP, 0);
        for Climb { asked, rungs, at } in asks.climbing(&self.tenant, MANY).await? {
            red += u32::from(self.ladder.is_red(rungs, at, now));
            let Some(due) = self.ladder.due(rungs, at) else {
                continue;
            };
            if due > now {
                next = next.min(due.since(now));
                continue;
            }
            let Some(task) = self.store.task(&self.tenant, asked.task).await? else {
                continue;
            };
            let mut round = Round::default();
            let rungs = self.rung(&mut round, (&asked, &task), rungs).await?;
            let telling = Telling {
                told: Told::Asked,
                cards: round.cards,
                rungs: Some(rungs),
            };
            if !asks.tell(duty, (&self.tenant, &asked), telling).await? {
                break;
            }
            next = LOOK;
        }
        metrics::gauge!("majordomo_escalations_red").set(f64::from(red));
        Ok(next.max(LOOK))
    }

    /// The cards of an ask: where its task came from, and with everybody who is to decide it.
    async fn announce(&self, asked: &Asked) -> Result<Telling, Error> {
        let mut telling = Telling {
            told: Told::Asked,
            cards: Vec::new(),
            rungs: None,
        };
        let Some(task) = self.store.task(&self.tenant, asked.task).await? else {
            return Ok(telling);
        };
        let mut round = Round::default();
        if let Some((channel, conversation)) = self.chat_of(&task) {
            let word = match self.store.mail().card(&self.tenant, task.id).await? {
                Some((card, _)) => serde_json::from_value::<Word>(card.body).unwrap_or_default(),
                None => Word::default(),
            };
            let key = format!("ask/{}/{conversation}", asked.id);
            round.add(&key, (channel, conversation), word.reply_to);
        }
        if !Ladder::takes(asked.ask.kind) {
            for Identity { channel, id } in self.deciders(asked, &task).await? {
                let key = format!("ask/{}/{id}", asked.id);
                round.add(&key, (&channel, &id), None);
            }
        } else if !self.joins(asked).await? {
            let rungs = self.rung(&mut round, (asked, &task), Rungs::default());
            telling.rungs = Some(rungs.await?);
        }
        if round.places.is_empty() && telling.rungs.is_none_or(|rungs| rungs.missed > 0) {
            tracing::warn!(
                ask.id = %asked.id, task.id = %task.id, ask.kind = asked.ask.kind.as_str(),
                "nobody can be asked in a chat; `majordomo approvals`, `questions` and `escalations` list it"
            );
        }
        telling.cards = round.cards;
        Ok(telling)
    }

    /// Whether another ask climbs the ladder for what this one waits for.
    async fn joins(&self, asked: &Asked) -> Result<bool, Error> {
        let Some(cause) = &asked.ask.cause else {
            return Ok(false);
        };
        let alike = self.store.asks().alike(&self.tenant, cause, PAGE).await?;
        Ok(alike
            .iter()
            .any(|(other, climbs)| *climbs && other.id != asked.id))
    }

    /// Adds the cards of the next rung that anybody is on. Answers how far the ladder is climbed by that.
    async fn rung(
        &self,
        round: &mut Round,
        (asked, task): (&Asked, &Task),
        mut rungs: Rungs,
    ) -> Result<Rungs, Error> {
        for _ in 0..self.ladder.len().max(1) {
            let contacts = self.ladder.next(rungs.told);
            rungs.told += 1;
            let keys = ladder::keys(asked.id, rungs.told);
            let before = round.cards.len();
            let mut chats = Vec::new();
            match contacts {
                None => chats = self.deciders(asked, task).await?,
                Some(contacts) => {
                    for contact in contacts {
                        match contact {
                            Contact::Person(person) => {
                                chats.extend(self.people.identities(person).await?);
                            }
                            Contact::Conversation { channel, id } => chats.push(Identity {
                                channel: (*channel).to_owned(),
                                id: id.clone(),
                            }),
                            Contact::Letter(_) | Contact::Hook(_) => {
                                round.cards.extend(pager::owed(&keys, contact));
                            }
                        }
                    }
                }
            }
            chats.retain(|identity| self.is_open(&identity.channel));
            // Where its task came from, they see it there.
            let is_told = round.cards.len() > before || !chats.is_empty();
            for Identity { channel, id } in chats {
                round.add(&format!("{keys}{channel}/{id}"), (&channel, &id), None);
            }
            if is_told {
                return Ok(rungs);
            }
            rungs.missed = rungs.told;
            // The whole ladder is climbed: it rests before it is climbed anew.
            if (rungs.told as usize).is_multiple_of(self.ladder.len().max(1)) {
                break;
            }
        }
        Ok(rungs)
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

impl Round {
    /// Owes a conversation a card, unless it has one.
    fn add(&mut self, key: &str, (channel, conversation): (&str, &str), reply_to: Option<String>) {
        let place = (channel.to_owned(), conversation.to_owned());
        if self.places.insert(place) {
            let word = Word {
                reply_to,
                ..Word::default()
            };
            self.cards.push(word.owed(channel, key, conversation));
        }
    }
}
