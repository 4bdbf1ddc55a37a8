//! Deciding: a word is checked and becomes the answer that a run waits for.

use shared::ask::{AskKind, AskState, Asked, Decision, Offer, Verdict};
use shared::feedback::Source;
use shared::id::AskId;
use shared::money::Usd;
use shared::store::{AskFilter, Delivered, Error, NewSignal, Raising};

use super::{Who, may_decide};
use crate::desk::{Desk, to_the_end};
use crate::feedback;

/// Letters of an id that may stand for it, at least.
pub const PREFIX: usize = 4;
/// Asks that are shown of those that one may mean, the newest.
const FEW: u32 = 10;

/// Asks of one cause that are decided by one word.
const MANY: u32 = 10_000;
/// Dollars that nobody adds by a word.
const MOST: f64 = 1_000_000.0;

/// What became of a word.
#[derive(Clone, Debug, PartialEq)]
pub enum Decided {
    /// It counts, and the run goes on.
    Taken(Box<Asked>),
    /// Nobody waits for it any more: this is how it stands.
    Before(Box<Asked>),
    /// It is not theirs to say; why.
    Denied(&'static str),
    /// It is no answer to this; why.
    Unfit(String),
    /// Nothing of this id is asked, as far as they may know.
    Missing,
}

impl Desk {
    /// What is asked, newest first, as far as somebody may see it.
    pub async fn asks(&self, who: &Who, filter: &AskFilter) -> Result<Vec<Asked>, Error> {
        let filter = AskFilter {
            visible_to: (!who.approves).then(|| who.principal.clone()),
            ..filter.clone()
        };
        self.store.asks().list(&self.tenant, &filter).await
    }

    /// One ask, as far as somebody may see it.
    pub async fn asked(&self, who: &Who, id: AskId) -> Result<Option<Asked>, Error> {
        let Some(asked) = self.store.asks().get(&self.tenant, id).await? else {
            return Ok(None);
        };
        let task = self.task(asked.task).await?;
        Ok(task.filter(|task| who.may_see(task)).map(|_| asked))
    }

    /// The asks of these kinds that a person may mean: the one of this id, or the newest few whose ids
    /// begin so, the open ones where there are any.
    pub async fn asks_like(
        &self,
        who: &Who,
        kinds: &[AskKind],
        text: &str,
    ) -> Result<Vec<Asked>, Error> {
        if let Ok(id) = text.parse() {
            let asked = self.asked(who, id).await?.into_iter();
            return Ok(asked
                .filter(|asked| kinds.contains(&asked.ask.kind))
                .collect());
        }
        if text.len() < PREFIX {
            return Ok(Vec::new());
        }
        for open in [true, false] {
            let filter = AskFilter {
                kinds: kinds.to_vec(),
                open,
                begins: Some(text.to_owned()),
                limit: FEW,
                ..AskFilter::default()
            };
            let found = self.asks(who, &filter).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Says what becomes of an ask; and, in the same commit, of all that wait for the same, where it stands
    /// for them or raises what they wait for. Safe to repeat: the first word counts, and on return it is durable.
    pub async fn decide(&self, id: AskId, decision: Decision, who: &Who) -> Result<Decided, Error> {
        let Some(asked) = self.store.asks().get(&self.tenant, id).await? else {
            return Ok(Decided::Missing);
        };
        let Some(task) = self.task(asked.task).await? else {
            return Ok(Decided::Missing);
        };
        if !who.may_see(&task) {
            return Ok(Decided::Missing);
        }
        if let Err(why) = may_decide(&asked, &task, who) {
            return Ok(Decided::Denied(why));
        }
        if asked.state != AskState::Open {
            return Ok(Decided::Before(Box::new(asked)));
        }
        if let Err(why) = self.fits(&asked, &decision).await? {
            return Ok(Decided::Unfit(why));
        }
        let raising = match raising(&asked, &decision) {
            Ok(Some(raising)) => Some(raising),
            Ok(None) => self.for_all(&asked, &decision, who).await?,
            Err(why) => return Ok(Decided::Unfit(why)),
        };
        let is_edit = matches!(decision, Decision::Edit { .. });
        let verdict = Verdict {
            decision: decision.clone(),
            by: Some(who.principal.clone()),
            action: asked.ask.action.as_ref().map(|action| action.hash()),
            permit: None,
        };
        let signal = NewSignal {
            tenant: self.tenant.clone(),
            run: asked.run,
            name: asked.name.clone(),
            payload: serde_json::to_value(verdict).unwrap_or_default(),
            by: who.principal.clone(),
        };
        let store = self.store.clone();
        let delivered = to_the_end(async move {
            match raising {
                Some(raising) => store.budgets().raise(signal, raising).await,
                None => store.deliver(signal).await,
            }
        })
        .await?;
        if is_edit && delivered == Delivered::First {
            let theirs = (asked.task, &who.principal);
            feedback::notice(&*self.store, &self.tenant, theirs, Source::Edited).await;
        }
        let now = self.store.asks().get(&self.tenant, id).await?;
        let now = Box::new(now.unwrap_or(asked));
        Ok(match delivered {
            Delivered::First => Decided::Taken(now),
            Delivered::Answered | Delivered::Unwanted => Decided::Before(now),
        })
    }

    /// Whom a word is for besides: all that wait for the same, where an approver says it to the ask that
    /// stands for them, and its card said so.
    async fn for_all(
        &self,
        asked: &Asked,
        decision: &Decision,
        who: &Who,
    ) -> Result<Option<Raising>, Error> {
        let Some(cause) = &asked.ask.cause else {
            return Ok(None);
        };
        if !who.approves || !matches!(decision, Decision::Again | Decision::GiveUp) {
            return Ok(None);
        }
        let alike = self.store.asks().alike(&self.tenant, cause, MANY).await?;
        let stands = alike
            .iter()
            .any(|(one, climbs)| *climbs && one.id == asked.id);
        Ok(stands.then(|| Raising {
            limits: Vec::new(),
            cause: Some(cause.clone()),
        }))
    }

    /// Whether a decision is an answer to what is asked.
    async fn fits(&self, asked: &Asked, decision: &Decision) -> Result<Result<(), String>, Error> {
        let kind = asked.ask.kind;
        if !kind.takes(decision) {
            let word = decision.word();
            return Ok(Err(format!("“{word}” is no answer to a {}", kind.as_str())));
        }
        let says_nothing = match decision {
            Decision::Reply { text } | Decision::Guide { text } => text.trim().is_empty(),
            _ => false,
        };
        if let Decision::More { usd: Some(usd) } = decision
            && !(Usd::ZERO..Usd::from_dollars(MOST)).contains(usd)
        {
            return Ok(Err(format!("not an amount that can be added: {usd}")));
        }
        if says_nothing {
            return Ok(Err("say something: the text is empty".into()));
        }
        let (Decision::Edit { args }, Some(action)) = (decision, &asked.ask.action) else {
            return Ok(Ok(()));
        };
        let (Some(run), Some(agent)) = (
            self.store.run(&self.tenant, asked.run).await?,
            &asked.ask.agent,
        ) else {
            return Ok(Err("its run is not there any more".into()));
        };
        let called = (agent, &action.tool);
        let checked = self.programs.check(&self.tenant, run.catalog, called, args);
        Ok(checked
            .await?
            .map_err(|why| format!("these arguments do not fit: {why}")))
    }
}

/// What is raised by a decision, and who else goes on by it; nothing where it raises nothing. The error
/// says why it cannot be.
fn raising(asked: &Asked, decision: &Decision) -> Result<Option<Raising>, String> {
    let (Decision::More { usd }, Some(offer)) = (decision, &asked.ask.offer) else {
        return Ok(None);
    };
    let limits = offer.raises(asked.task, *usd)?;
    let cause = match offer {
        Offer::Account(_) => asked.ask.cause.clone(),
        Offer::Work { .. } => None,
    };
    Ok(Some(Raising { limits, cause }))
}
