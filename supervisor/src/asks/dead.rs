//! Runs that took their process down again and again and were given up: admins hear of them, once in a day
//! for each place where that happens. Nobody waits for a word on them; who handed the task in was told.

use std::collections::BTreeMap;

use shared::budget::Date;
use shared::id::TenantId;
use shared::store::{DeadRun, Error, Store};

use crate::channels::admins;
use crate::people::directory::Directory;

/// Dead runs that are looked at, the last ones.
const LOOKED_AT: u32 = 64;
/// Who works where no agent does.
const NOBODY: &str = "supervisor";

/// Tells admins in these channels of runs that were given up today or yesterday. Safe to repeat: what was
/// told is known by its key.
pub async fn tell(
    (store, tenant): (&dyn Store, &TenantId),
    people: &Directory,
    open: &[&'static str],
) -> Result<(), Error> {
    let today = Date::of(store.now()).day;
    let dead = store.dead(tenant, None, LOOKED_AT).await?;
    let lately = dead
        .iter()
        .filter(|dead| Date::of(dead.at).day + 1 >= today);
    let places: BTreeMap<String, &DeadRun> = lately.map(|dead| (key(dead), dead)).collect();
    if places.is_empty() {
        return Ok(());
    }
    let mut here = people.admins().await?;
    here.retain(|admin| open.contains(&&*admin.channel));
    for (key, dead) in places {
        admins::tell((store, tenant), here.clone(), (&key, &in_words(dead))).await?;
    }
    Ok(())
}

/// By what it is known: those that die at the same place in a day are one.
fn key(dead: &DeadRun) -> String {
    let agent = dead.agent.as_ref().map_or(NOBODY, |agent| agent.as_str());
    let step = dead.step.as_ref().map_or("", |step| step.as_str());
    format!("dead-run/{}/{agent}/{step}", Date::of(dead.at).day)
}

fn in_words(dead: &DeadRun) -> String {
    let agent = dead.agent.as_ref().map_or(NOBODY, |agent| agent.as_str());
    let step = dead
        .step
        .as_ref()
        .map_or("its beginning", |step| step.as_str());
    let task = dead.task;
    format!(
        "⚠️ Work of {agent} was given up at {step}: {}. More that ends there today is not told of; \
         `majordomo tasks dead` lists all. `majordomo tasks show {task} --full` says what was done, \
         `majordomo tasks retry {task}` does it anew.",
        dead.why.trim_end_matches('.')
    )
}
