//! Table `step`: the journal.

use std::borrow::Cow;

use serde_json::{Value, json};
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::content::Bodies;
use super::journal::Pending;
use super::tx::{Params, Tx, get};
use super::{AppRole, clean, corrupt, from_json, parse, to_json};
use crate::hash::Hash;
use crate::id::{AgentName, ModelName, RunId, SignalName, StepKey, TenantId};
use crate::label::Taint;
use crate::run::{Effect, Recorded, Timestamp};
use crate::store::{Change, Error, Step, StepKind};

/// Outcomes longer than this stand under their hash in `content`, so that a row stays small.
const INLINE_BYTES: usize = 8 * 1024;

/// The fence is the lateral: a row is taken only from the run's owner in its epoch while it runs and
/// the worker's lease lasts. A lateral by the run's id alone, with an offset: without fresh statistics
/// the planner would look through all that the worker runs, for each row; and so through all signals, to
/// know whether one came. A step that has its outcome is never touched again.
pub(super) const WRITE: &str = "
insert into step (run, key, tenant, seq, state, kind, agent, what, model, effect, op_hash, attempt,
                  attempts, reserved, deadline, recorded, artefact, taint, begun_at, done_at)
select r.id, j.key, r.tenant, j.seq, case when j.done then 'done' else 'begun' end, j.kind, j.agent,
       j.what, j.model, j.effect, j.op_hash, j.attempt, j.attempts::json, j.reserved::json, j.deadline,
       j.recorded::json, j.artefact, j.taint, j.begun_at, case when j.done then (select now_ms()) end
from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bool[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[],
            $15::text[], $16::bigint[], $17::text[], $18::text[], $19::int[], $20::bigint[], $21::text[])
     as j(run, worker, epoch, unless, key, seq, done, kind, agent, what, effect, op_hash, attempt,
          attempts, reserved, deadline, recorded, artefact, taint, begun_at, model)
cross join lateral (
  select r.id, r.tenant, r.owner, r.epoch, r.state from run r where r.id = j.run offset 0
) r
where r.owner = j.worker and r.epoch = j.epoch and r.state = 'running'
  and exists (select 1 from worker w where w.id = j.worker and w.state = 'live'
                                       and w.expires_at > (select now_ms()))
  and (j.unless is null
       or not exists (select 1 from signal s where s.run = r.id and s.name = j.unless offset 0))
order by r.id, j.key
on conflict (run, key) do update set
  state = excluded.state, attempt = excluded.attempt, attempts = excluded.attempts,
  reserved = excluded.reserved, deadline = excluded.deadline, recorded = excluded.recorded,
  artefact = excluded.artefact, taint = excluded.taint, done_at = excluded.done_at
where step.state = 'begun'
returning run, key";

/// The step rows of a batch, column by column, as [`WRITE`] takes them.
#[derive(Default)]
pub(super) struct Rows<'a> {
    run: Vec<Uuid>,
    worker: Vec<Uuid>,
    epoch: Vec<i64>,
    unless: Vec<Option<&'a str>>,
    key: Vec<&'a str>,
    seq: Vec<i64>,
    done: Vec<bool>,
    kind: Vec<&'static str>,
    agent: Vec<Option<&'a str>>,
    what: Vec<Cow<'a, str>>,
    effect: Vec<&'static str>,
    op_hash: Vec<String>,
    attempt: Vec<i64>,
    attempts: Vec<String>,
    reserved: Vec<Option<String>>,
    deadline: Vec<Option<i64>>,
    recorded: Vec<Option<String>>,
    artefact: Vec<Option<String>>,
    taint: Vec<i32>,
    begun_at: Vec<i64>,
    model: Vec<Option<&'a str>>,
}

impl<'a> Rows<'a> {
    /// The steps of a batch; outcomes too long for their rows are added to `bodies`.
    pub(super) fn of(batch: &'a [Pending], bodies: &mut Bodies) -> Self {
        let mut rows = Self::default();
        for pending in batch {
            for step in &pending.entry.ended {
                rows.add(pending, step, None, bodies);
            }
            if let Change::Step {
                step,
                unless_signal,
                ..
            } = &pending.entry.change
            {
                rows.add(pending, step, unless_signal.as_ref(), bodies);
            }
        }
        rows
    }

    fn add(
        &mut self,
        pending: &'a Pending,
        step: &'a Step,
        unless: Option<&'a SignalName>,
        bodies: &mut Bodies,
    ) {
        let (recorded, artefact) = match &step.recorded {
            Some(recorded) => place(recorded, &pending.entry.tenant, bodies),
            None => (None, None),
        };
        self.run.push(pending.fence.run.0);
        self.worker.push(pending.fence.worker.0);
        self.epoch.push(pending.fence.epoch);
        self.unless.push(unless.map(SignalName::as_str));
        self.key.push(step.key.as_str());
        self.seq.push(step.seq);
        self.done.push(step.recorded.is_some());
        self.kind.push(step.kind.as_str());
        self.agent.push(step.agent.as_ref().map(AgentName::as_str));
        self.what.push(clean(&step.what));
        self.effect.push(step.effect.as_str());
        self.op_hash.push(step.op_hash.to_string());
        self.attempt.push(step.attempt.into());
        self.attempts.push(to_json(&step.attempts));
        self.reserved.push(step.reserved.as_ref().map(to_json));
        self.deadline.push(step.deadline.map(|at| at.0));
        self.recorded.push(recorded);
        self.artefact.push(artefact.map(|hash| hash.to_string()));
        self.taint.push(step.taint.bits().into());
        self.begun_at.push(step.begun_at.0);
        self.model.push(step.model.as_ref().map(ModelName::as_str));
    }

    /// Writes them. Answers the run and key of those that were taken.
    pub(super) async fn write(&self, tx: &Tx<'_>, write: &Statement) -> Result<Vec<Row>, Error> {
        if self.run.is_empty() {
            return Ok(Vec::new());
        }
        let columns: Params<'_> = &[
            &self.run,
            &self.worker,
            &self.epoch,
            &self.unless,
            &self.key,
            &self.seq,
            &self.done,
            &self.kind,
            &self.agent,
            &self.what,
            &self.effect,
            &self.op_hash,
            &self.attempt,
            &self.attempts,
            &self.reserved,
            &self.deadline,
            &self.recorded,
            &self.artefact,
            &self.taint,
            &self.begun_at,
            &self.model,
        ];
        tx.query(write, columns).await
    }
}

/// Puts a long outcome under its hash, and leaves a short one in its row.
fn place(
    recorded: &Recorded,
    tenant: &TenantId,
    bodies: &mut Bodies,
) -> (Option<String>, Option<Hash>) {
    let text = to_json(recorded);
    if text.len() <= INLINE_BYTES {
        return (Some(text), None);
    }
    let hash = Hash::of_bytes(text.as_bytes());
    bodies.add(tenant, hash, text);
    (None, Some(hash))
}

/// Records children's ends in their parents' steps. Not fenced by the parent's owner: the child's own
/// end, in the same commit, is.
pub(super) const END_CHILDREN: &str = "
update step s set state = 'done', recorded = j.recorded::json, artefact = j.artefact, taint = j.taint,
                  done_at = now_ms()
from json_to_recordset($1::text::json)
     as j(run uuid, key text, recorded text, artefact text, taint integer)
where s.run = j.run and s.key = j.key and s.state = 'begun'";

/// What the end of a child records in its parent's step, as a row for [`END_CHILDREN`].
pub(super) fn end_of_child(pending: &Pending, bodies: &mut Bodies) -> Option<Value> {
    let Change::Finish(finish) = &pending.entry.change else {
        return None;
    };
    let (parent, key, recorded) = finish.parent.as_ref()?;
    let (inline, artefact) = place(recorded, &pending.entry.tenant, bodies);
    Some(json!({
        "run": parent,
        "key": key,
        "recorded": inline,
        "artefact": artefact,
        "taint": recorded.taint,
    }))
}

const READ: &str = "
select s.key, s.seq, s.kind, s.agent, s.what, s.effect, s.op_hash, s.attempt, s.attempts::text,
       s.reserved::text, s.deadline, coalesce(s.recorded::text, c.body), s.taint, s.begun_at, s.model
from step s left join content c on c.tenant = s.tenant and c.hash = s.artefact
where s.tenant = $1 and s.run = $2 and ($3::text is null or s.key = $3)
order by s.seq";

/// Copies the steps of a run that stand before a place in its order.
pub(super) const COPY: &str = "
insert into step (run, key, tenant, seq, state, kind, agent, what, model, effect, op_hash, attempt,
                  attempts, reserved, deadline, recorded, artefact, taint, begun_at, done_at)
select $2, key, tenant, seq, state, kind, agent, what, model, effect, op_hash, attempt, attempts,
       reserved, deadline, recorded, artefact, taint, begun_at, done_at
from step where run = $1 and ($3::bigint is null or seq < $3)";

/// The journal of a run within a transaction: its parameters are tenant, run and null.
pub(super) const ALL: &str = READ;

/// What [`ALL`] found.
pub(super) fn read_all(rows: &[Row]) -> Result<Vec<Step>, Error> {
    rows.iter().map(read).collect()
}

/// The journal of a run.
pub(super) async fn all(app: &AppRole, tenant: &TenantId, run: RunId) -> Result<Vec<Step>, Error> {
    let rows = app
        .ask(tenant, READ, &[&tenant.as_str(), &run.0, &None::<&str>])
        .await?;
    rows.iter().map(read).collect()
}

/// One step of a run.
pub(super) async fn one(
    app: &AppRole,
    tenant: &TenantId,
    run: RunId,
    key: &StepKey,
) -> Result<Option<Step>, Error> {
    let rows = app
        .ask(
            tenant,
            READ,
            &[&tenant.as_str(), &run.0, &Some(key.as_str())],
        )
        .await?;
    rows.first().map(read).transpose()
}

fn read(row: &Row) -> Result<Step, Error> {
    let (kind, effect): (&str, &str) = (get(row, 2)?, get(row, 5)?);
    let reserved: Option<&str> = get(row, 9)?;
    let recorded: Option<&str> = get(row, 11)?;
    let (attempt, taint): (i64, i32) = (get(row, 7)?, get(row, 12)?);
    Ok(Step {
        key: get::<&str>(row, 0)?.into(),
        seq: get(row, 1)?,
        kind: StepKind::parse(kind).ok_or_else(|| corrupt("step", kind))?,
        agent: get::<Option<&str>>(row, 3)?.map(Into::into),
        what: get(row, 4)?,
        effect: effect_named(effect).ok_or_else(|| corrupt("step", effect))?,
        op_hash: parse("step", get(row, 6)?)?,
        attempt: u32::try_from(attempt).map_err(|_| corrupt("step", "attempt"))?,
        attempts: from_json("step", get(row, 8)?)?,
        reserved: reserved.map(|text| from_json("step", text)).transpose()?,
        deadline: get::<Option<i64>>(row, 10)?.map(Timestamp),
        recorded: recorded.map(|text| from_json("step", text)).transpose()?,
        taint: Taint::from_bits(u8::try_from(taint).map_err(|_| corrupt("step", "taint"))?),
        begun_at: Timestamp(get(row, 13)?),
        model: get::<Option<&str>>(row, 14)?.map(Into::into),
    })
}

fn effect_named(name: &str) -> Option<Effect> {
    [
        Effect::Pure,
        Effect::Idempotent,
        Effect::Verifiable,
        Effect::Once,
    ]
    .into_iter()
    .find(|effect| effect.as_str() == name)
}
