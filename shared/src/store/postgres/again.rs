//! Retry and fork: a task made from another one. Each is one transaction over the tables `task`, `run`,
//! `step` and `signal`, whose statements stand in their own files. The task before is locked first, as
//! by every writer, so it is not pruned meanwhile. Rare, so one statement follows the other.

use super::tx::{Tx, get, prepare};
use super::{EngineRole, RING, blob, clean, event, mail, run, step, task, to_json};
use crate::event::Recorded;
use crate::id::{RunId, StepKey};
use crate::label::Authority;
use crate::money::Usage;
use crate::store::{Again, Error, Forked, Renewed, Run, authority_of_retry};
use crate::task::{Task, TaskState};

/// What was made, and what watchers are told of it.
pub(super) type Made = (Renewed, Vec<Recorded>);

/// Makes a task that failed or was cancelled once more.
pub(super) async fn retry(engine: &EngineRole, again: &Again) -> Result<Made, Error> {
    let client = engine.get().await?;
    let tx = Tx::on(&client);
    tx.begin().await?;
    let old = match of(&tx, again).await? {
        Ok(old) => old,
        Err(refused) => return nothing(refused),
    };
    if old.state == TaskState::Done {
        return nothing(Renewed::Unfit(old.state));
    }
    let Some(root) = runs(&tx, again).await?.into_iter().next() else {
        return nothing(Renewed::Missing);
    };
    let authority = authority_of_retry(root.authority, again);
    copy_root(&tx, again, None, &authority).await?;
    let reason = format!("retry of {} asked for by {}", again.of, again.by);
    commit(engine, &client, tx, again, reason).await
}

/// Makes a task that goes on as another one did up to a step.
pub(super) async fn fork(
    engine: &EngineRole,
    again: &Again,
    from: &StepKey,
) -> Result<Made, Error> {
    let client = engine.get().await?;
    let tx = Tx::on(&client);
    tx.begin().await?;
    if let Err(refused) = of(&tx, again).await? {
        return nothing(refused);
    }
    let runs = runs(&tx, again).await?;
    let pruned = tx.ask(run::PRUNED, &[&again.of.0]).await?;
    let pruned: Result<Vec<_>, Error> = pruned.iter().map(|row| get(row, 0).map(RunId)).collect();
    let tenant = again.tenant.as_str();
    let steps = tx
        .ask(step::ALL, &[&tenant, &again.of.0, &None::<&str>])
        .await?;
    let steps = step::read_all(&steps)?;
    let plan = match Forked::plan((&runs, &pruned?), &steps, from, again.id) {
        Ok(plan) => plan,
        Err(refused) => return nothing(refused),
    };
    let Some(root) = runs.first() else {
        return nothing(Renewed::Missing);
    };
    copy_root(&tx, again, Some(from), &root.authority).await?;
    charge(&tx, again, plan.used).await?;
    copy_steps(&tx, (root.id, again.id.into()), Some(plan.before)).await?;
    for child in &plan.children {
        let (old, new, parent) = (child.old, child.new, child.parent);
        tx.ask(run::COPY_CHILD, &[&old.0, &new.0, &parent.0, &again.id.0])
            .await?;
        copy_steps(&tx, (old, new), None).await?;
    }
    let reason = format!("fork of {} at {from} asked for by {}", again.of, again.by);
    commit(engine, &client, tx, again, reason).await
}

/// The task that another one is to be made from, locked; it must have ended.
async fn of(tx: &Tx<'_>, again: &Again) -> Result<Result<Task, Renewed>, Error> {
    let tenant = again.tenant.as_str();
    let rows = tx.ask(&task::locked_sql(), &[&tenant, &again.of.0]).await?;
    Ok(match task::read_one(&rows)? {
        None => Err(Renewed::Missing),
        Some(old) if !old.state.is_final() => Err(Renewed::Unfit(old.state)),
        Some(old) => Ok(old),
    })
}

async fn runs(tx: &Tx<'_>, again: &Again) -> Result<Vec<Run>, Error> {
    let tenant = again.tenant.as_str();
    let rows = tx.ask(&run::all_sql(), &[&tenant, &again.of.0]).await?;
    run::read_all(&rows)
}

async fn copy_root(
    tx: &Tx<'_>,
    again: &Again,
    from: Option<&StepKey>,
    authority: &Authority,
) -> Result<(), Error> {
    let (of, id, by) = (again.of.0, again.id.0, clean(again.by.as_str()));
    let from = from.map(StepKey::as_str);
    tx.ask(task::COPY, &[&of, &id, &by, &from]).await?;
    tx.ask(mail::COPY_CARD, &[&of, &id]).await?;
    let epoch = i64::from(from.is_some());
    tx.ask(run::COPY_ROOT, &[&of, &id, &to_json(authority), &epoch])
        .await?;
    tx.ask(blob::COPY, &[&of, &id]).await.map(drop)
}

async fn copy_steps(
    tx: &Tx<'_>,
    (old, new): (RunId, RunId),
    before: Option<i64>,
) -> Result<(), Error> {
    tx.ask(step::COPY, &[&old.0, &new.0, &before]).await?;
    tx.ask(run::COPY_SIGNALS, &[&old.0, &new.0]).await.map(drop)
}

async fn charge(tx: &Tx<'_>, again: &Again, used: Usage) -> Result<(), Error> {
    let (tokens_in, cached) = (used.tokens_in as i64, used.tokens_cached as i64);
    let (tokens_out, usd) = (used.tokens_out as i64, used.usd.nano());
    tx.ask(
        task::CHARGE,
        &[&again.id.0, &tokens_in, &cached, &tokens_out, &usd],
    )
    .await
    .map(drop)
}

/// Tells of the new task, to the queue also of other processes, and commits.
async fn commit(
    engine: &EngineRole,
    client: &deadpool_postgres::Object,
    tx: Tx<'_>,
    again: &Again,
    reason: String,
) -> Result<Made, Error> {
    let [told] = prepare(client, [event::INSERT]).await?;
    let new = vec![event::renewed(again, reason)];
    let events = event::insert(&tx, &told, new, engine.teller()).await?;
    let rings = ["queue", "mail"].map(|what| format!("{what} {}", engine.teller()));
    let rings = rings.to_vec();
    tx.ask(RING, &[&rings]).await?;
    tx.commit().await?;
    tx.done();
    Ok((Renewed::New(again.id), events))
}

/// Nothing is made; the transaction is rolled back.
fn nothing(refused: Renewed) -> Result<Made, Error> {
    Ok((refused, Vec::new()))
}
