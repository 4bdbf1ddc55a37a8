//! Retry and fork: a task made from another one. Each is one transaction over the tables `task`, `run`,
//! `step` and `signal`, whose statements stand in their own files.

use rusqlite::Connection;

use super::{blob, event, mail, run, step, task};
use crate::event::Recorded;
use crate::id::StepKey;
use crate::run::Timestamp;
use crate::store::{Again, Error, Forked, Renewed, authority_of_retry};
use crate::task::{Task, TaskState};

/// What was made, and what watchers are told of it.
pub(super) type Made = (Renewed, Vec<Recorded>);

/// Makes a task that failed or was cancelled once more.
pub(super) fn retry(tx: &Connection, again: &Again, now: Timestamp) -> Result<Made, Error> {
    let old = match of(tx, again)? {
        Ok(old) => old,
        Err(refused) => return nothing(refused),
    };
    if old.state == TaskState::Done {
        return nothing(Renewed::Unfit(old.state));
    }
    let Some(root) = run::one(tx, &again.tenant, again.of.into())? else {
        return nothing(Renewed::Missing);
    };
    task::copy(tx, again, None, now)?;
    mail::copy_card(tx, again, now)?;
    let authority = authority_of_retry(root.authority, again);
    run::copy_root(tx, (root.id, again.id), (&authority, 0), now)?;
    blob::copy(tx, again.of, again.id)?;
    let reason = format!("retry of {} asked for by {}", again.of, again.by);
    let told = event::insert(tx, vec![event::renewed(again, reason)], now)?;
    Ok((Renewed::New(again.id), told))
}

/// Makes a task that goes on as another one did up to a step.
pub(super) fn fork(
    tx: &Connection,
    again: &Again,
    from: &StepKey,
    now: Timestamp,
) -> Result<Made, Error> {
    if let Err(refused) = of(tx, again)? {
        return nothing(refused);
    }
    let runs = run::of_task(tx, &again.tenant, again.of)?;
    let pruned = run::pruned(tx, again.of)?;
    let steps = step::all(tx, &again.tenant, again.of.into())?;
    let plan = match Forked::plan((&runs, &pruned), &steps, from, again.id) {
        Ok(plan) => plan,
        Err(refused) => return nothing(refused),
    };
    let Some(root) = runs.first() else {
        return nothing(Renewed::Missing);
    };
    task::copy(tx, again, Some(from), now)?;
    mail::copy_card(tx, again, now)?;
    task::charge(tx, again.id, plan.used)?;
    run::copy_root(tx, (root.id, again.id), (&root.authority, 1), now)?;
    blob::copy(tx, again.of, again.id)?;
    step::copy(tx, (root.id, again.id.into()), Some(plan.before))?;
    run::copy_signals(tx, (root.id, again.id.into()))?;
    for child in &plan.children {
        let pair = (child.old, child.new);
        run::copy_child(tx, pair, child.parent, again.id)?;
        step::copy(tx, pair, None)?;
        run::copy_signals(tx, pair)?;
    }
    let reason = format!("fork of {} at {from} asked for by {}", again.of, again.by);
    let told = event::insert(tx, vec![event::renewed(again, reason)], now)?;
    Ok((Renewed::New(again.id), told))
}

/// The task that another one is to be made from; it must have ended.
fn of(tx: &Connection, again: &Again) -> Result<Result<Task, Renewed>, Error> {
    Ok(match task::one(tx, &again.tenant, again.of)? {
        None => Err(Renewed::Missing),
        Some(old) if !old.state.is_final() => Err(Renewed::Unfit(old.state)),
        Some(old) => Ok(old),
    })
}

fn nothing(refused: Renewed) -> Result<Made, Error> {
    Ok((refused, Vec::new()))
}
