//! Three replicas on one Postgres under load, one of them killed again and again. How long it takes
//! until another one goes on with what the dead one was running is measured against the lease. The
//! control ignores effect classes at recovery.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Client;
use uuid::Uuid;

use shared::clock::stopwatch;

use super::fleet::{Audit, Fleet, Replica, Work};
use super::{Finding, Plan};
use crate::place::Place;

const TTL_MS: u64 = 1500;
const WORK: Work = Work {
    settings: "[engine]\nlease_s = 1.5\nbeat_s = 0.3\n",
    agent: "",
    mutant: "",
    model_ms: 50,
    tool_ms: 100,
};
/// New tasks are handed in so often.
const EVERY: Duration = Duration::from_millis(60);

/// How often the control may miss before that counts.
const TRIES: u32 = 3;

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let tasks = plan.times(200, 2000);
    // Longer than a takeover: a run that is taken over gets on before the next one dies. Else chance
    // alone would have some die three times at one step, which ends them.
    let pause = Duration::from_secs(u64::from(plan.times(4, 10)));
    let (audit, mut takeovers, kills) = one(plan, WORK, tasks, pause).await;
    let mutant = Work {
        mutant: "ignore-effects",
        ..WORK
    };
    let mut control = Audit::default();
    // Chance may spare the mutant once.
    for _ in 0..TRIES {
        control = one(plan, mutant.clone(), 150, Duration::from_secs(2))
            .await
            .0;
        if control.repeated > 0 {
            break;
        }
    }
    takeovers.sort_unstable();
    let at = |part: usize| {
        let last = takeovers.len().saturating_sub(1);
        takeovers.get((last * part) / 100).copied().unwrap_or(0)
    };
    let line = format!(
        "3 replicas, {kills} killed: {audit}; {} runs taken over after p50 {} ms, max {} ms (lease {TTL_MS} ms); \
         control ignore-effects: repeated {} of {}",
        takeovers.len(),
        at(50),
        at(100),
        control.repeated,
        control.effects,
    );
    // A lease's rest, a look for dead workers each second, and a claim; the short form also has to
    // pass on a machine that does other things.
    let room = if plan.full { 1000 } else { 8000 };
    let soon = at(100) <= TTL_MS + 1000 + room;
    vec![Finding {
        line,
        holds: audit.is_right() && audit.tasks == tasks && soon && control.repeated > 0,
    }]
}

struct Member {
    replica: Replica,
    worker: Uuid,
}

async fn join(fleet: &Fleet, client: &Client) -> Member {
    let replica = fleet.start().await;
    let newest = "select id from majordomo.worker order by started_at desc, id desc limit 1";
    let row = client.query_one(newest, &[]).await.expect("a worker");
    Member {
        replica,
        worker: row.get(0),
    }
}

async fn one(plan: &Plan, work: Work, tasks: u32, pause: Duration) -> (Audit, Vec<u64>, u32) {
    let fleet = Fleet::new(plan, Place::database().await, work);
    let database = fleet.place.postgres().expect("a database");
    let client = database.client().await;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(join(&fleet, &client).await);
    }
    let mut chance = plan.chance();
    let (mut takeovers, mut kills, mut next) = (Vec::new(), 0, 0);
    let watch = stopwatch();
    let mut killed_at = 0;
    while fleet.taken() < tasks as usize {
        // Whoever was killed before it answered is asked again elsewhere, under the same key.
        let behind = (0..next).map(|n| format!("task-{n}"));
        let again: Vec<String> = behind.filter(|key| !fleet.has_taken(key)).collect();
        let fresh = (next < tasks).then(|| format!("task-{next}"));
        next += u32::from(fresh.is_some());
        for key in again.into_iter().chain(fresh) {
            let to = chance.usize(0..members.len());
            members[to].replica.tell(&format!("submit {key}")).await;
        }
        if watch.ms() - killed_at >= pause.as_millis() as u64 {
            killed_at = watch.ms();
            let victim = members.swap_remove(chance.usize(0..members.len()));
            takeovers.extend(kill(&client, victim).await);
            kills += 1;
            members.push(join(&fleet, &client).await);
        }
        tokio::time::sleep(EVERY).await;
    }
    let settled = members[0]
        .replica
        .settles(tasks as usize, Duration::from_secs(60))
        .await;
    for member in members {
        member.replica.stop().await;
    }
    let mut audit = fleet.audit().await;
    if !settled {
        audit.others.push("not all tasks came to rest".into());
    }
    (audit, takeovers, kills)
}

/// Kills a replica, and measures how long each run that it had waits for another one.
async fn kill(client: &Client, victim: Member) -> Vec<u64> {
    let held = "select id, epoch from majordomo.run where state = 'running' and owner = $1";
    victim.replica.kill().await;
    let watch = stopwatch();
    let rows = client
        .query(held, &[&victim.worker])
        .await
        .expect("it reads");
    let mut left: HashMap<Uuid, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let look = "select id, epoch, state from majordomo.run where id = any($1)";
    let mut took = Vec::new();
    while !left.is_empty() && watch.ms() < 20_000 {
        let ids: Vec<Uuid> = left.keys().copied().collect();
        for row in client.query(look, &[&ids]).await.expect("it reads") {
            let (id, epoch, state): (Uuid, i64, &str) = (row.get(0), row.get(1), row.get(2));
            let over = !matches!(state, "running" | "queued" | "waiting");
            if over || epoch > left[&id] {
                left.remove(&id);
                took.push(watch.ms());
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    took.extend(left.iter().map(|_| u64::MAX));
    took
}
