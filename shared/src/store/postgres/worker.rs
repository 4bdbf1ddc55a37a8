//! Table `worker`: who lives, by leases that the server's clock ends. A worker whose lease has ended
//! never lives again: it comes back under a new id.

use tokio_postgres::Statement;

use super::EngineRole;
use super::tx::{Tx, get, prepare};
use crate::id::{RunId, WorkerId};
use crate::store::Error;

const REGISTER: &str = "
insert into worker (id, state, started_at, beat_at, expires_at)
select $1, 'live', t.now, t.now, t.now + $2 from (select now_ms() as now) t";

/// The server's clock comes back with it.
const BEAT: &str = "
update worker set beat_at = now_ms(), expires_at = now_ms() + $2
where id = $1 and state = 'live' and expires_at > now_ms()
returning beat_at";

const LAPSE: &str = "
update worker set state = 'gone'
where id in (select id from worker where state = 'live' and expires_at <= (select now_ms())
             order by id for update skip locked)";

const RETIRE: &str = "update worker set state = 'gone' where id = any($1) and state = 'live'";

/// Whatever is running and has no live worker. Rows that somebody holds are skipped: they are taken
/// at the next beat, if they are still there.
///
/// A death counts where the run was not merely waiting. Progress begins the count anew
/// ([`super::run::SURVIVE`]), and what a living process was running did not die after all ([`PARDON`]).
const ORPHANS: &str = "
update run set
  state = 'queued', owner = null, died_with = p.owner, updated_at = now_ms(),
  deaths = deaths + case
    when exists (select 1 from step s where s.run = run.id and s.state = 'begun'
                                        and s.kind in ('child', 'signal', 'sleep') offset 0) then 0
    else 1
  end
from (select r.id, r.owner from run r
      where r.state = 'running'
        and not exists (select 1 from worker w where w.id = r.owner and w.state = 'live'
                                                 and w.expires_at > (select now_ms()))
      for update skip locked) p
where run.id = p.id";

/// The process that was this worker lives: its lease ended, its runs were stopped.
const PARDON: &str = "
update run set deaths = greatest(deaths - 1, 0), died_with = null where died_with = $1";

/// Runs that are a living worker's, which knows nothing of them: the answer to the commit that gave
/// them to it was lost. Half a minute is far longer than any commit's answer is waited for.
const STRAYS: &str = "
update run set state = 'queued', owner = null, updated_at = now_ms()
where id in (select id from run
             where owner = $1 and state = 'running' and not (id = any($2))
               and updated_at < (select now_ms()) - 30000
             for update skip locked)";

/// Tells the other processes that there is something to claim.
const RING_QUEUE: &str = "select pg_notify('majordomo', 'queue ' || $1::text)";

/// Registers a fresh worker and takes over what the gone ones were running.
pub(super) async fn register(
    engine: &EngineRole,
    (worker, before): (WorkerId, Option<WorkerId>),
    ttl_ms: i64,
) -> Result<u64, Error> {
    let client = engine.get().await?;
    let [insert, pardon] = prepare(&client, [REGISTER, PARDON]).await?;
    let tx = Tx::on(&client);
    tx.begin().await?;
    tx.execute(&insert, &[&worker.0, &ttl_ms]).await?;
    let orphans = take_over(engine, &tx, &client).await?;
    if let Some(before) = before {
        tx.execute(&pardon, &[&before.0]).await?;
    }
    tx.commit().await?;
    tx.done();
    Ok(orphans)
}

/// Extends a lease that has not ended. Answers the server's clock, or nothing where it is lost.
pub(super) async fn beat(
    engine: &EngineRole,
    worker: WorkerId,
    ttl_ms: i64,
) -> Result<Option<i64>, Error> {
    let rows = engine.ask(BEAT, &[&worker.0, &ttl_ms]).await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

/// Queues again what has no live worker.
pub(super) async fn reap(
    engine: &EngineRole,
    worker: WorkerId,
    here: &[RunId],
) -> Result<u64, Error> {
    let client = engine.get().await?;
    let [strays] = prepare(&client, [STRAYS]).await?;
    let here: Vec<uuid::Uuid> = here.iter().map(|run| run.0).collect();
    let tx = Tx::on(&client);
    tx.begin().await?;
    let strays = tx.execute(&strays, &[&worker.0, &here]).await?;
    let orphans = strays + take_over(engine, &tx, &client).await?;
    tx.commit().await?;
    tx.done();
    Ok(orphans)
}

/// Ends the leases of these workers, whose process goes down, and queues what they were running.
pub(super) async fn retire(engine: &EngineRole, workers: &[uuid::Uuid]) -> Result<u64, Error> {
    let client = engine.get().await?;
    let [retire] = prepare(&client, [RETIRE]).await?;
    let tx = Tx::on(&client);
    tx.begin().await?;
    tx.execute(&retire, &[&workers]).await?;
    let orphans = take_over(engine, &tx, &client).await?;
    tx.commit().await?;
    tx.done();
    Ok(orphans)
}

async fn take_over(
    engine: &EngineRole,
    tx: &Tx<'_>,
    client: &deadpool_postgres::Object,
) -> Result<u64, Error> {
    let [lapse, orphans, ring]: [Statement; 3] =
        prepare(client, [LAPSE, ORPHANS, RING_QUEUE]).await?;
    tx.execute(&lapse, &[]).await?;
    let taken = tx.execute(&orphans, &[]).await?;
    if taken > 0 {
        tx.query(&ring, &[&engine.teller()]).await?;
    }
    Ok(taken)
}
