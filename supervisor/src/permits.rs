//! Permits at work: giving them, and answering by them what nobody need be asked about any more.
//!
//! ```text
//!   run asks ─► ask (a row) ─► a permit that fits, and whose giver could decide this now?
//!                                  ├─ yes: the answer and the use, one commit ─► run goes on
//!                                  └─ no: people are asked
//! ```
//! A permit is looked for when something is asked, in the process whose run asks, and once more before cards
//! are sent; one that is given is held against all that is open. What a crash left out, the herald's sweep
//! finds. Which calls are asked about at all is the policy's matter, and the gate before the tool holds each
//! against its answer as ever.

use std::sync::Arc;
use std::time::Duration;

use agents::catalog::Catalog;
use agents::policy;
use async_trait::async_trait;
use serde_json::Value;

use shared::ask::{Ask, AskKind, AskState, Asked, Decision, Verdict};
use shared::config::Role;
use shared::id::{AgentName, AskId, PermitId, PrincipalId, TenantId, ToolName};
use shared::permit::{Covered, Permit, Terms};
use shared::store::{AskFilter, Error, NewPermit, NewSignal, Store, Used};

use crate::asks::{Who, may_decide, too_late};
use crate::auth::{LOCAL, Scope};
use crate::desk::{Desk, to_the_end};
use crate::engine::Answers;
use crate::people::directory::Directory;
use crate::wire::PermitView;

/// The most uses of a permit.
pub const MOST_TIMES: u32 = 1_000_000;
/// The longest that one may be good.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Asks that are read at once.
const PAGE: u32 = 200;

/// A permit that somebody wants to give.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The approval that it is made from: its agent and tool, and its arguments where none are named.
    pub ask: Option<AskId>,
    /// Whose calls; where it is made from nothing.
    pub agent: Option<AgentName>,
    /// Of which tool; where it is made from nothing.
    pub tool: Option<ToolName>,
    /// With which arguments.
    pub covered: Option<Covered>,
    /// Also where the run has read something untrusted.
    pub tainted: bool,
    /// How often.
    pub times: Option<u32>,
    /// How long.
    pub lasts: Option<Duration>,
}

/// Why no permit was given.
#[derive(Debug, thiserror::Error)]
pub enum NotGiven {
    /// It is not theirs to give; why.
    #[error("{0}")]
    Denied(&'static str),
    /// It cannot be given so: which part of it, and why.
    #[error("{1}")]
    Unfit(&'static str, String),
    /// What it is to be made from was decided before.
    #[error("{0}")]
    Before(String),
    /// What it is to be made from is not there, as far as they may know.
    #[error("there is no such approval")]
    Missing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Who answers by permits, and keeps them.
#[derive(Clone)]
pub struct Clerk {
    /// Where they are.
    pub store: Arc<dyn Store>,
    /// Whose.
    pub tenant: TenantId,
    /// Who approves.
    pub people: Arc<Directory>,
    /// Which agents and tools there are.
    pub catalog: Arc<Catalog>,
}

impl Clerk {
    /// Answers an ask by a permit, where one is for it and its giver could decide it at this moment. Whether
    /// nobody need be asked any more.
    pub async fn answer(&self, asked: &Asked) -> Result<bool, Error> {
        if asked.state != AskState::Open {
            return Ok(false);
        }
        let mut permits = self.good_for(&asked.ask).await?;
        permits.retain(|permit| fits(&permit.terms, &asked.ask));
        if permits.is_empty() {
            return Ok(false);
        }
        let Some(task) = self.store.task(&self.tenant, asked.task).await? else {
            return Ok(false);
        };
        for permit in permits {
            let giver = Who {
                approves: self.approves(&permit.by).await?,
                principal: permit.by.clone(),
                keeps_budgets: false,
            };
            if let Err(why) = may_decide(asked, &task, &giver) {
                tracing::debug!(permit.id = %permit.id, ask.id = %asked.id, why, "a permit does not count");
                continue;
            }
            match self.spend(permit, asked).await? {
                Used::Counted | Used::Late => return Ok(true),
                Used::Spent => {}
            }
        }
        Ok(false)
    }

    async fn spend(&self, permit: Permit, asked: &Asked) -> Result<Used, Error> {
        let verdict = Verdict {
            decision: Decision::Approve { for_task: false },
            by: Some(permit.by.clone()),
            action: asked.ask.action.as_ref().map(|action| action.hash()),
            permit: Some(permit.id),
        };
        let answer = NewSignal {
            tenant: self.tenant.clone(),
            run: asked.run,
            name: asked.name.clone(),
            payload: serde_json::to_value(verdict).unwrap_or_default(),
            by: permit.by,
        };
        let store = self.store.clone();
        let used =
            to_the_end(async move { store.permits().spend(permit.id, answer).await }).await?;
        if used == Used::Counted {
            tracing::info!(permit.id = %permit.id, ask.id = %asked.id, "a permit lets a call pass");
        }
        Ok(used)
    }

    /// Answers by permits whatever is open, the oldest first.
    pub async fn answer_all(&self) -> Result<(), Error> {
        let any = self.store.permits().all(&self.tenant, true, 1).await?;
        if any.is_empty() {
            return Ok(());
        }
        let mut filter = AskFilter {
            kinds: vec![AskKind::Approval],
            open: true,
            limit: PAGE,
            ..AskFilter::default()
        };
        let mut open = Vec::new();
        loop {
            let page = self.store.asks().list(&self.tenant, &filter).await?;
            let last = page.last().map(|asked| asked.id);
            let whole = page.len() == PAGE as usize;
            open.extend(page.into_iter().map(|asked| asked.id));
            if !whole {
                break;
            }
            filter.before = last;
        }
        for id in open.into_iter().rev() {
            if let Some(asked) = self.store.asks().get(&self.tenant, id).await? {
                self.answer(&asked).await?;
            }
        }
        Ok(())
    }

    /// The permits that may be for what is asked, the oldest first.
    async fn good_for(&self, ask: &Ask) -> Result<Vec<Permit>, Error> {
        match (ask.kind, &ask.agent, &ask.action) {
            (AskKind::Approval, Some(agent), Some(action)) => {
                let permits = self.store.permits();
                permits.good_for(&self.tenant, agent, &action.tool).await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Whether somebody is an approver now: at the machine itself, by name, by a group that they were lately
    /// found to belong to, or by a live token.
    async fn approves(&self, principal: &PrincipalId) -> Result<bool, Error> {
        if principal.as_str() == LOCAL {
            return Ok(true);
        }
        let holds = |role: &Role| matches!(role, Role::Approver | Role::Admin);
        let everybody = self.people.everybody().await?;
        let mut theirs = everybody
            .iter()
            .filter(|entry| entry.principal.as_ref() == Some(principal));
        if theirs.any(|entry| entry.roles.iter().any(holds)) {
            return Ok(true);
        }
        let opens = |scope: &String| {
            matches!(
                Scope::parse(scope),
                Some(Scope::Approve) | Some(Scope::Admin)
            )
        };
        let tokens = self.store.tokens(&self.tenant).await?;
        Ok(tokens.iter().any(|token| {
            token.principal == *principal
                && token.revoked_at.is_none()
                && token.scopes.iter().any(opens)
        }))
    }

    /// Gives a permit, and answers by it what is open. On return it is durable, and stands as it does then.
    pub async fn give(&self, wanted: Wanted, who: &Who) -> Result<Permit, NotGiven> {
        if !who.approves {
            return Err(NotGiven::Denied("Permits are for approvers to give."));
        }
        within_bounds(&wanted)?;
        let (terms, asked) = match wanted.ask {
            Some(id) => {
                let (terms, asked) = self.terms_of_ask(id, &wanted, who).await?;
                (terms, Some(asked))
            }
            None => (terms_of(&wanted)?, None),
        };
        self.is_known(&terms)?;
        let id = PermitId::fresh();
        let permit = NewPermit {
            id,
            tenant: self.tenant.clone(),
            terms,
            lasts: wanted.lasts,
            by: who.principal.clone(),
            asked: wanted.ask,
        };
        let clerk = self.clone();
        to_the_end(async move {
            let given = clerk.store.permits().add(permit).await?;
            if let Some(asked) = asked {
                clerk.answer(&asked).await?;
            }
            clerk.answer_all().await?;
            let now = clerk.store.permits().one(&clerk.tenant, id).await?;
            Ok(now.unwrap_or(given))
        })
        .await
        .map_err(NotGiven::from)
    }

    async fn terms_of_ask(
        &self,
        id: AskId,
        wanted: &Wanted,
        who: &Who,
    ) -> Result<(Terms, Asked), NotGiven> {
        let asked = self.store.asks().get(&self.tenant, id).await?;
        let asked = asked.ok_or(NotGiven::Missing)?;
        let task = self.store.task(&self.tenant, asked.task).await?;
        let task = task.ok_or(NotGiven::Missing)?;
        let (AskKind::Approval, Some(agent), Some(action)) =
            (asked.ask.kind, &asked.ask.agent, &asked.ask.action)
        else {
            return Err(NotGiven::Missing);
        };
        may_decide(&asked, &task, who).map_err(NotGiven::Denied)?;
        if asked.state != AskState::Open {
            return Err(NotGiven::Before(too_late(&asked)));
        }
        if wanted.agent.is_some() || wanted.tool.is_some() {
            let why = "name an approval, or an agent and a tool, not both";
            return Err(NotGiven::Unfit("ask", why.into()));
        }
        let covered = wanted.covered.clone();
        let terms = Terms {
            agent: agent.clone(),
            tool: action.tool.clone(),
            covered: covered.unwrap_or_else(|| Covered::Exactly(action.args.clone())),
            tainted: wanted.tainted,
            times: wanted.times,
        };
        if !policy::covers(&terms.covered, &action.args) {
            let why = "this very call would not be let pass: its arguments look otherwise";
            return Err(NotGiven::Unfit("args", why.into()));
        }
        if !terms.tainted && !asked.ask.clean {
            let why = "this very call would not be let pass: its run has read something untrusted, and the \
                       permit does not say `tainted`";
            return Err(NotGiven::Unfit("tainted", why.into()));
        }
        Ok((terms, asked))
    }

    /// Refuses a permit for what does not exist: nobody would hear that it never counts.
    fn is_known(&self, terms: &Terms) -> Result<(), NotGiven> {
        let Some(spec) = self.catalog.agents.get(&terms.agent) else {
            let why = format!("there is no agent {}", terms.agent);
            return Err(NotGiven::Unfit("agent", why));
        };
        let mut tools = self.catalog.tools_of(spec);
        let Some(tool) = tools.find(|tool| tool.info.name == terms.tool) else {
            let why = format!("agent {} has no tool {}", terms.agent, terms.tool);
            return Err(NotGiven::Unfit("tool", why));
        };
        let Covered::Like(patterns) = &terms.covered else {
            return Ok(());
        };
        let known = tool
            .info
            .parameters
            .get("properties")
            .and_then(Value::as_object);
        let unknown = |name: &&String| !known.is_some_and(|known| known.contains_key(*name));
        match patterns.keys().find(unknown) {
            Some(name) => {
                let why = format!("{} has no argument {name}", terms.tool);
                Err(NotGiven::Unfit("args", why))
            }
            None => Ok(()),
        }
    }
}

/// Uses that are shown of a permit.
const USES: u32 = 100;

/// Permits as people see them, and what any approver may do with them; needs nothing but the store.
impl Desk {
    /// Permits, newest first; those alone that are good now, or all.
    pub async fn permits(&self, good: bool, limit: u32) -> Result<Vec<PermitView>, Error> {
        let permits = self.store.permits();
        let found = permits.all(&self.tenant, good, limit).await?;
        let now = self.store.now();
        let view = |permit| PermitView::of(permit, now);
        Ok(found.into_iter().map(view).collect())
    }

    /// One permit with its uses.
    pub async fn permit(&self, id: PermitId) -> Result<Option<PermitView>, Error> {
        let permits = self.store.permits();
        let Some(permit) = permits.one(&self.tenant, id).await? else {
            return Ok(None);
        };
        let uses = permits.uses(&self.tenant, id, USES).await?;
        Ok(Some(PermitView::of(permit, self.store.now()).with(uses)))
    }

    /// Takes a permit back: nothing is decided by it from then on. False where it was taken back before, or
    /// there is none.
    pub async fn revoke_permit(&self, id: PermitId, by: &PrincipalId) -> Result<bool, Error> {
        let (desk, by) = (self.clone(), by.clone());
        to_the_end(async move { desk.store.permits().revoke(&desk.tenant, id, &by).await }).await
    }
}

#[async_trait]
impl Answers for Clerk {
    async fn consider(&self, id: AskId, ask: &Ask) -> Result<(), Error> {
        if self.good_for(ask).await?.is_empty() {
            return Ok(());
        }
        if let Some(asked) = self.store.asks().get(&self.tenant, id).await? {
            self.answer(&asked).await?;
        }
        Ok(())
    }
}

/// Whether a permit is for what is asked.
fn fits(terms: &Terms, ask: &Ask) -> bool {
    let action = ask.action.as_ref();
    ask.kind == AskKind::Approval
        && ask.agent.as_ref() == Some(&terms.agent)
        && (ask.clean || terms.tainted)
        && action.is_some_and(|action| {
            action.tool == terms.tool && policy::covers(&terms.covered, &action.args)
        })
}

fn terms_of(wanted: &Wanted) -> Result<Terms, NotGiven> {
    let missing = |field, what: &str| NotGiven::Unfit(field, what.into());
    Ok(Terms {
        agent: wanted
            .agent
            .clone()
            .ok_or_else(|| missing("agent", "say whose calls it is for"))?,
        tool: wanted
            .tool
            .clone()
            .ok_or_else(|| missing("tool", "say which tool it is for"))?,
        covered: wanted
            .covered
            .clone()
            .ok_or_else(|| missing("args", "say for which arguments it is"))?,
        tainted: wanted.tainted,
        times: wanted.times,
    })
}

fn within_bounds(wanted: &Wanted) -> Result<(), NotGiven> {
    if wanted.times.is_none() && wanted.lasts.is_none() {
        let why = "a permit ends: say how often it may be used, or for how long";
        return Err(NotGiven::Unfit("times", why.into()));
    }
    if wanted
        .times
        .is_some_and(|times| !(1..=MOST_TIMES).contains(&times))
    {
        let why = format!("must be from 1 to {MOST_TIMES}");
        return Err(NotGiven::Unfit("times", why));
    }
    let bounds = Duration::from_secs(1)..=LONGEST;
    if wanted.lasts.is_some_and(|lasts| !bounds.contains(&lasts)) {
        let why = "must be from a second to a year".into();
        return Err(NotGiven::Unfit("for_s", why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::ask::{Action, Preview};
    use shared::hash::Hash;
    use shared::id::RunId;

    use super::*;

    #[test]
    fn a_permit_is_for_one_agents_calls_of_one_tool_and_not_for_tainted_ones() {
        let ask = Ask {
            agent: Some("executor".into()),
            action: Some(Action {
                tool: "send".into(),
                version: 1,
                args: json!({"n": 5}),
                preview: Preview::default(),
                tenant: "home".into(),
                principal: "anna".into(),
                run: RunId::fresh(),
                policy: Hash::of_bytes(b"policy"),
            }),
            clean: true,
            ..Ask::new(AskKind::Approval, "x")
        };
        let terms = Terms {
            agent: "executor".into(),
            tool: "send".into(),
            covered: Covered::Like([("n".into(), "<=5".into())].into()),
            tainted: false,
            times: Some(1),
        };
        assert!(fits(&terms, &ask));
        type Change = fn(&mut Ask, &mut Terms);
        let changes: [(Change, bool); 7] = [
            (|_, terms| terms.agent = "intern".into(), false),
            (|_, terms| terms.tool = "pay".into(), false),
            (
                |_, terms| terms.covered = Covered::Exactly(json!({"n": 6})),
                false,
            ),
            (|ask, _| ask.clean = false, false),
            (
                |ask, terms| (ask.clean, terms.tainted) = (false, true),
                true,
            ),
            (|ask, _| ask.kind = AskKind::Doubt, false),
            (|ask, _| ask.action = None, false),
        ];
        for (index, (change, fitting)) in changes.into_iter().enumerate() {
            let (mut ask, mut terms) = (ask.clone(), terms.clone());
            change(&mut ask, &mut terms);
            assert_eq!(fits(&terms, &ask), fitting, "change {index}");
        }
    }
}
