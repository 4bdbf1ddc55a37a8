//! Table `step`: the journal.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{content, corrupt, from_json, maybe_text, parse, text, to_json};
use crate::hash::Hash;
use crate::id::{AgentName, ModelName, RunId, SignalName, StepKey, TenantId};
use crate::label::Taint;
use crate::run::{Effect, Recorded, Timestamp};
use crate::store::{Error, Fence, Step, StepKind};

/// Outcomes longer than this stand under their hash in `content`, so that a row stays small.
const INLINE_BYTES: usize = 8 * 1024;

/// The fence is the select: a row is taken only from the run's owner in its epoch while it runs and
/// the worker lives. A step that has its outcome is never touched again.
const WRITE: &str = "
insert into step (run, key, tenant, seq, state, kind, agent, what, model, effect, op_hash, attempt,
                  attempts, reserved, deadline, recorded, artefact, taint, begun_at, done_at)
select r.id, :key, r.tenant, :seq, iif(:done_at is null, 'begun', 'done'), :kind, :agent, :what, :model,
       :effect, :op_hash, :attempt, :attempts, :reserved, :deadline, :recorded, :artefact, :taint, :begun_at,
       :done_at
from run r
where r.id = :run and r.owner = :worker and r.epoch = :epoch and r.state = 'running'
  and exists (select 1 from worker w where w.id = :worker and w.state = 'live')
  and not exists (select 1 from signal s where s.run = r.id and s.name = :unless)
on conflict (run, key) do update set
  state = excluded.state, attempt = excluded.attempt, attempts = excluded.attempts,
  reserved = excluded.reserved, deadline = excluded.deadline, recorded = excluded.recorded,
  artefact = excluded.artefact, taint = excluded.taint, done_at = excluded.done_at
where step.state = 'begun'";

/// Writes a step under its run's fence, unless an answer of that name has come. Returns whether it
/// was taken.
pub(super) fn write(
    tx: &Connection,
    fence: Fence,
    step: &Step,
    unless: Option<&SignalName>,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<bool, Error> {
    let (recorded, artefact) = match &step.recorded {
        Some(recorded) => place(tx, recorded, tenant)?,
        None => (None, None),
    };
    let written = tx.prepare_cached(WRITE)?.execute(named_params! {
        ":run": fence.run.to_string(),
        ":worker": fence.worker.to_string(),
        ":epoch": fence.epoch,
        ":unless": unless.map(SignalName::as_str),
        ":key": step.key.as_str(),
        ":seq": step.seq,
        ":kind": step.kind.as_str(),
        ":agent": step.agent.as_ref().map(AgentName::as_str),
        ":what": step.what,
        ":model": step.model.as_ref().map(ModelName::as_str),
        ":effect": step.effect.as_str(),
        ":op_hash": step.op_hash.to_string(),
        ":attempt": step.attempt,
        ":attempts": to_json(&step.attempts),
        ":reserved": step.reserved.as_ref().map(to_json),
        ":deadline": step.deadline.map(|at| at.0),
        ":recorded": recorded,
        ":artefact": artefact.map(|hash| hash.to_string()),
        ":taint": step.taint.bits(),
        ":begun_at": step.begun_at.0,
        ":done_at": step.recorded.is_some().then_some(now.0),
    })?;
    Ok(written == 1)
}

/// Puts a long outcome under its hash, and leaves a short one in its row.
fn place(
    tx: &Connection,
    recorded: &Recorded,
    tenant: &TenantId,
) -> Result<(Option<String>, Option<Hash>), Error> {
    let text = to_json(recorded);
    if text.len() <= INLINE_BYTES {
        return Ok((Some(text), None));
    }
    let hash = Hash::of_bytes(text.as_bytes());
    content::keep(tx, tenant, hash, &text)?;
    Ok((None, Some(hash)))
}

/// Records a child's end in its parent's step. Not fenced by the parent's owner: the child's own
/// end, in the same commit, is.
pub(super) fn end_child(
    tx: &Connection,
    (parent, key): (RunId, &StepKey),
    recorded: &Recorded,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<(), Error> {
    let (inline, artefact) = place(tx, recorded, tenant)?;
    tx.prepare_cached(
        "update step set state = 'done', recorded = ?3, artefact = ?4, taint = ?5, done_at = ?6
         where run = ?1 and key = ?2 and state = 'begun'",
    )?
    .execute(params![
        parent.to_string(),
        key.as_str(),
        inline,
        artefact.map(|hash| hash.to_string()),
        recorded.taint.bits(),
        now.0,
    ])?;
    Ok(())
}

/// Copies the steps of a run that stand before a place in its order.
pub(super) fn copy(
    tx: &Connection,
    (old, new): (RunId, RunId),
    before: Option<i64>,
) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into step (run, key, tenant, seq, state, kind, agent, what, model, effect, op_hash,
                           attempt, attempts, reserved, deadline, recorded, artefact, taint, begun_at,
                           done_at)
         select ?2, key, tenant, seq, state, kind, agent, what, model, effect, op_hash, attempt, attempts,
                reserved, deadline, recorded, artefact, taint, begun_at, done_at
         from step where run = ?1 and (?3 is null or seq < ?3)",
    )?
    .execute(params![old.to_string(), new.to_string(), before])?;
    Ok(())
}

const READ: &str = "
select s.key, s.seq, s.kind, s.agent, s.what, s.effect, s.op_hash, s.attempt, s.attempts, s.reserved,
       s.deadline, coalesce(s.recorded, c.body), s.taint, s.begun_at, s.model
from step s left join content c on c.tenant = s.tenant and c.hash = s.artefact
where s.run = ?1 and (?2 is null or s.key = ?2) and s.tenant = ?3
order by s.seq";

/// The journal of a run.
pub(super) fn all(conn: &Connection, tenant: &TenantId, run: RunId) -> Result<Vec<Step>, Error> {
    conn.prepare_cached(READ)?
        .query_map(
            params![run.to_string(), None::<&str>, tenant.as_str()],
            |row| Ok(read(row)),
        )?
        .map(|row| row?)
        .collect()
}

/// One step of a run.
pub(super) fn one(
    conn: &Connection,
    tenant: &TenantId,
    run: RunId,
    key: &StepKey,
) -> Result<Option<Step>, Error> {
    conn.prepare_cached(READ)?
        .query_row(
            params![run.to_string(), key.as_str(), tenant.as_str()],
            |row| Ok(read(row)),
        )
        .optional()?
        .transpose()
}

fn read(row: &Row<'_>) -> Result<Step, Error> {
    let (kind, effect) = (text(row, 2)?, text(row, 5)?);
    let reserved = maybe_text(row, 9)?;
    let recorded = maybe_text(row, 11)?;
    Ok(Step {
        key: text(row, 0)?.into(),
        seq: row.get(1)?,
        kind: StepKind::parse(kind).ok_or_else(|| corrupt("step", kind))?,
        agent: maybe_text(row, 3)?.map(Into::into),
        what: row.get(4)?,
        effect: effect_named(effect).ok_or_else(|| corrupt("step", effect))?,
        op_hash: parse("step", text(row, 6)?)?,
        attempt: row.get(7)?,
        attempts: from_json("step", text(row, 8)?)?,
        reserved: reserved.map(|text| from_json("step", text)).transpose()?,
        deadline: row.get::<_, Option<i64>>(10)?.map(Timestamp),
        recorded: recorded.map(|text| from_json("step", text)).transpose()?,
        taint: Taint::from_bits(row.get(12)?),
        begun_at: Timestamp(row.get(13)?),
        model: maybe_text(row, 14)?.map(Into::into),
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
