//! Table `duty_lease`: what one worker does at a time.

use rusqlite::{Connection, OptionalExtension, params};

use crate::id::WorkerId;
use crate::store::{Duty, Error};

/// Takes a duty or keeps it. Only a live worker may, and only from itself or from one that is gone.
pub(super) fn hold(tx: &Connection, name: String, holder: WorkerId) -> Result<Option<Duty>, Error> {
    let epoch = tx
        .prepare_cached(
            "insert into duty_lease (name, holder, epoch)
             select ?1, ?2, 1 where exists (select 1 from worker where id = ?2 and state = 'live')
             on conflict (name) do update set
               epoch = duty_lease.epoch + (duty_lease.holder <> excluded.holder),
               holder = excluded.holder
             where duty_lease.holder = excluded.holder
                or not exists (select 1 from worker w
                               where w.id = duty_lease.holder and w.state = 'live')
             returning epoch",
        )?
        .query_row(params![name, holder.to_string()], |row| row.get(0))
        .optional()?;
    Ok(epoch.map(|epoch| Duty {
        name,
        holder,
        epoch,
    }))
}

/// Whether the duty is still held as it says.
pub(super) fn is_held(tx: &Connection, duty: &Duty) -> Result<bool, Error> {
    let held = tx
        .prepare_cached(
            "select exists (select 1 from duty_lease d
                            join worker w on w.id = d.holder and w.state = 'live'
                            where d.name = ?1 and d.holder = ?2 and d.epoch = ?3)",
        )?
        .query_row(
            params![duty.name, duty.holder.to_string(), duty.epoch],
            |row| row.get(0),
        )?;
    Ok(held)
}
