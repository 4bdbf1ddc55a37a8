//! Table `duty_lease`: what one worker does at a time.

use super::EngineRole;
use super::tx::{Tx, get};
use crate::id::WorkerId;
use crate::store::{Duty, Error};

/// Takes a duty or keeps it. Only a live worker may, and only from itself or from one that is gone.
const HOLD: &str = "
insert into duty_lease as d (name, holder, epoch)
select $1, $2, 1 where exists (select 1 from worker where id = $2 and state = 'live'
                                                     and expires_at > (select now_ms()))
on conflict (name) do update set
  epoch = d.epoch + case when d.holder = excluded.holder then 0 else 1 end,
  holder = excluded.holder
where d.holder = excluded.holder
   or not exists (select 1 from worker w where w.id = d.holder and w.state = 'live'
                                           and w.expires_at > (select now_ms()))
returning epoch";

/// The duty as it is held, kept from changing hands until the commit.
const HELD: &str = "
select 1 from duty_lease d
join worker w on w.id = d.holder and w.state = 'live' and w.expires_at > (select now_ms())
where d.name = $1 and d.holder = $2 and d.epoch = $3
for share of d";

pub(super) async fn hold(
    engine: &EngineRole,
    name: &str,
    holder: WorkerId,
) -> Result<Option<Duty>, Error> {
    let rows = engine.ask(HOLD, &[&name, &holder.0]).await?;
    let duty = |epoch| Duty {
        name: name.to_owned(),
        holder,
        epoch,
    };
    rows.first().map(|row| get(row, 0).map(duty)).transpose()
}

/// Whether the duty is still held as it says. It stays so until the transaction's end.
pub(super) async fn is_held(tx: &Tx<'_>, duty: &Duty) -> Result<bool, Error> {
    let rows = tx
        .ask(HELD, &[&duty.name, &duty.holder.0, &duty.epoch])
        .await?;
    Ok(!rows.is_empty())
}
