//! Whose data it is: on Postgres the database itself keeps tenants apart, whatever a query asks for
//! and whatever became of the one before it on the same connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use majordomo_tests::engine::new_task;
use majordomo_tests::place::Kind;
use majordomo_tests::{on_both_stores, place::Database};
use shared::blob::Blob;
use shared::feedback::Source;
use shared::hash::Hash;
use shared::id::{PermitId, TaskId, TenantId, WorkerId};
use shared::permit::{Covered, Terms};
use shared::store::postgres::PostgresStore;
use shared::store::{Accepted, NewFeedback, NewPermit, NewSignal, Store, TaskFilter, Token};

on_both_stores!(no_read_shows_another_tenants_rows);

const TTL: Duration = Duration::from_secs(60);

/// What each tenant has handed in.
type Owned = BTreeMap<TenantId, TaskId>;

/// A tenant's rows in every table that is read for a tenant.
async fn furnish(store: &dyn Store, tenants: &[&str]) -> Owned {
    let mut owned = Owned::new();
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    for name in tenants {
        let tenant = TenantId::from(name);
        let mut task = new_task("secret");
        task.authority.tenant = tenant.clone();
        task.blobs.extend(Blob::new("text/plain", name.as_bytes()));
        let Accepted::New(id) = store.accept(task).await.unwrap() else {
            panic!("new")
        };
        store.keep(&tenant, hash(name), name).await.unwrap();
        let token = Token {
            name: "ci".into(),
            tenant: tenant.clone(),
            principal: "token:ci".into(),
            scopes: vec!["tasks".into()],
            created_at: store.now(),
            revoked_at: None,
        };
        assert!(store.add_token(token, hash(name)).await.unwrap());
        let permit = NewPermit {
            id: PermitId::fresh(),
            tenant: tenant.clone(),
            terms: Terms {
                agent: "worker".into(),
                tool: "send".into(),
                covered: Covered::Like(Default::default()),
                tainted: false,
                times: Some(1),
            },
            lasts: None,
            by: tenant.as_str().into(),
            asked: None,
        };
        store.permits().add(permit).await.unwrap();
        let feedback = NewFeedback {
            tenant: tenant.clone(),
            task: id,
            who: "ada".into(),
            source: Source::Said,
            good: true,
            text: String::new(),
        };
        assert!(store.feedback().note(feedback).await.unwrap());
        owned.insert(tenant, id);
    }
    owned
}

fn hash(name: &str) -> Hash {
    Hash::of_bytes(name.as_bytes())
}

/// How many rows of `other` each read shows to `tenant`.
async fn seen(store: &dyn Store, tenant: &TenantId, other: (&TenantId, TaskId)) -> Vec<usize> {
    let (name, task) = other;
    let all = TaskFilter {
        limit: 1000,
        ..TaskFilter::default()
    };
    let theirs = hash(name.as_str());
    let tasks = store.tasks(tenant, &all).await.unwrap();
    let tokens = store.tokens(tenant).await.unwrap();
    let permits = store.permits().all(tenant, true, 9).await.unwrap();
    let by = name.as_str().into();
    vec![
        usize::from(store.task(tenant, task).await.unwrap().is_some()),
        tasks.iter().filter(|task| task.tenant == *name).count(),
        store.runs(tenant, task).await.unwrap().len(),
        usize::from(store.run(tenant, task.into()).await.unwrap().is_some()),
        store.steps(tenant, task.into()).await.unwrap().len(),
        store.events(tenant, task, 0, 100).await.unwrap().len(),
        usize::from(store.content(tenant, theirs).await.unwrap().is_some()),
        usize::from(store.blob(tenant, theirs).await.unwrap().is_some()),
        usize::from(store.token(tenant, theirs).await.unwrap().is_some()),
        tokens.iter().filter(|token| token.tenant == *name).count(),
        permits.iter().filter(|permit| permit.by == by).count(),
        store.feedback().of(tenant, task).await.unwrap().len(),
    ]
}

async fn no_read_shows_another_tenants_rows(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let owned = furnish(&*store, &["a", "b"]).await;
    let (a, b) = (TenantId::from("a"), TenantId::from("b"));
    let own = seen(&*store, &a, (&a, owned[&a])).await;
    assert_eq!(
        own,
        [1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
        "its own rows are there"
    );
    assert_eq!(seen(&*store, &a, (&b, owned[&b])).await, [0; 12]);
    assert!(!store.cancel(&a, owned[&b], "not mine", None).await.unwrap());
    let theirs = store.permits().all(&b, true, 9).await.unwrap().remove(0).id;
    let permits = store.permits();
    assert!(permits.one(&a, theirs).await.unwrap().is_none());
    assert!(!permits.revoke(&a, theirs, &"a".into()).await.unwrap());
    assert!(
        !store
            .revoke_token(&TenantId::from("c"), "ci")
            .await
            .unwrap()
    );
    let foreign = NewSignal {
        tenant: a.clone(),
        run: owned[&b].into(),
        name: "x".into(),
        payload: json!(1),
        by: "a".into(),
    };
    let delivered = store.deliver(foreign).await.unwrap();
    assert_eq!(delivered, shared::store::Delivered::Unwanted);
    store.close().await;
}

/// One read, and whether its caller goes away in the middle of it, after how many polls.
#[derive(Clone, Debug)]
struct Read {
    tenant: usize,
    of: usize,
    gone_after: Option<usize>,
}

fn reads() -> impl Strategy<Value = Vec<Read>> {
    let read = (0..3usize, 0..3usize, prop::option::of(0..4usize));
    let read = read.prop_map(|(tenant, of, gone_after)| Read {
        tenant,
        of,
        gone_after,
    });
    prop::collection::vec(read, 1..24)
}

const TENANTS: [&str; 3] = ["red", "green", "blue"];

/// Polls a future so often and drops it, finished or not.
async fn abandon<T>(work: impl Future<Output = T>, polls: usize) {
    let mut work = Box::pin(work);
    for _ in 0..polls {
        if work.as_mut().now_or_never().is_some() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Random tenants share a few pooled connections, and callers go away in the middle: no connection
/// carries one tenant's rights over to the next. Queries without any filter see their own tenant's
/// rows and nothing else, so the database decides, not the query's author.
#[test]
fn pooled_connections_carry_no_rights_over() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (database, store, owned) = runtime.block_on(async {
        let database = Database::create().await;
        let store = Arc::new(database.open(TTL).await);
        let owned = furnish(&*store, &TENANTS).await;
        (database, store, owned)
    });
    let mut runner = TestRunner::new(Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    });
    let held = runner.run(&reads(), |reads| {
        runtime.block_on(async {
            let all = reads.iter().map(|read| one_read(&store, &owned, read));
            let counts = futures::future::join_all(all).await;
            for (read, foreign) in reads.iter().zip(counts) {
                prop_assert_eq!(foreign, 0, "{:?}", read);
            }
            Ok(())
        })
    });
    runtime.block_on(store.close());
    drop(database);
    held.unwrap();
}

/// How many rows of others a read showed.
async fn one_read(store: &PostgresStore, owned: &Owned, read: &Read) -> usize {
    let (tenant, other) = (
        TenantId::from(TENANTS[read.tenant]),
        TenantId::from(TENANTS[read.of]),
    );
    if let Some(polls) = read.gone_after {
        abandon(store.tasks(&other, &TaskFilter::default()), polls).await;
        abandon(store.keep(&other, hash("left"), "left"), polls).await;
    }
    let unfiltered = unfiltered(store, &tenant).await;
    let foreign = unfiltered.iter().filter(|name| **name != tenant).count();
    assert!(unfiltered.contains(&tenant), "its own rows are there");
    match tenant == other {
        true => foreign,
        false => {
            let through_port = seen(store, &tenant, (&other, owned[&other])).await;
            foreign + through_port.into_iter().sum::<usize>()
        }
    }
}

/// The mutant of every query at once: without its filter, through the same pool.
async fn unfiltered(store: &PostgresStore, tenant: &TenantId) -> Vec<TenantId> {
    let mut found = Vec::new();
    for table in [
        "task", "run", "step", "signal", "event", "content", "blob", "blob_use", "token",
    ] {
        found.extend(store.tenants_seen(tenant, table).await.unwrap());
    }
    found
}

/// The negative control: without row level security the same unfiltered queries show everything.
#[tokio::test(flavor = "multi_thread")]
async fn without_policies_the_mutant_is_seen() {
    let database = Database::create().await;
    let store = database.open(TTL).await;
    furnish(&store, &TENANTS).await;
    let tenant = TenantId::from("red");
    let foreign = |names: Vec<TenantId>| names.iter().filter(|name| **name != tenant).count();
    assert_eq!(foreign(unfiltered(&store, &tenant).await), 0);
    database
        .run("alter table majordomo.task disable row level security")
        .await;
    assert_eq!(foreign(unfiltered(&store, &tenant).await), 2);
    store.close().await;
}

/// Every table has its policies, forced on its owner, too.
#[tokio::test(flavor = "multi_thread")]
async fn no_table_is_without_forced_row_level_security() {
    let database = Database::create().await;
    database.open(TTL).await.close().await;
    let client = database.client().await;
    let bare = "select relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'majordomo' and c.relkind = 'r'
                  and not (c.relrowsecurity and c.relforcerowsecurity)";
    let bare = client.query(bare, &[]).await.unwrap();
    let names: Vec<String> = bare.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, [""; 0]);
}
