//! Where a test's store lives: a folder, or a Postgres database of its own. Behaviour that both stores
//! promise is tested once, by [`on_both_stores!`](crate::on_both_stores).

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shared::store::Store;
use shared::store::postgres::PostgresStore;
use tokio_postgres::{Client, Config, NoTls};

/// Names the server on which tests make their databases.
pub const VARIABLE: &str = "MAJORDOMO_TEST_DATABASE_URL";

/// How long a worker lives without a beat, where a test does not say otherwise.
const TTL: Duration = Duration::from_secs(60);

/// Makes two tests of each function named here, one for each store: `async fn name(kind: Kind)`.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::place::Kind::Folder).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::place::Kind::Database).await;
            })*
        }
    };
}

/// What kind of place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A folder: SQLite.
    #[default]
    Folder,
    /// A Postgres database.
    Database,
}

impl Kind {
    /// A fresh one.
    pub async fn place(self) -> Place {
        match self {
            Kind::Folder => Place::folder(),
            Kind::Database => Place::database().await,
        }
    }
}

/// Where a store lives. It can be opened again and again, and ends with the test.
pub struct Place {
    folder: tempfile::TempDir,
    database: Option<Database>,
}

impl Place {
    /// A folder.
    pub fn folder() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            database: None,
        }
    }

    /// A fresh Postgres database.
    pub async fn database() -> Self {
        Self {
            database: Some(Database::create().await),
            ..Self::folder()
        }
    }

    /// A fresh database on the server of this URL.
    pub async fn database_on(server: &str) -> Self {
        Self {
            database: Some(Database::create_on(server).await),
            ..Self::folder()
        }
    }

    /// The folder, which is there with a database, too.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The database, where there is one.
    pub fn postgres(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// Has a configuration name the database, where there is one. The URL stands in a file beside it.
    pub fn configure(&self, config: &Path) {
        let Some(database) = &self.database else {
            return;
        };
        let (url, settings) = (self.path().join("url"), config.join("majordomo.toml"));
        std::fs::write(&url, database.url()).expect("a file");
        let rest = std::fs::read_to_string(&settings).unwrap_or_default();
        let named = format!("database_url = \"${{file:{}}}\"\n{rest}", url.display());
        std::fs::create_dir_all(config).expect("a folder");
        std::fs::write(settings, named).expect("a file");
    }

    /// Opens the store.
    pub async fn open(&self) -> Arc<dyn Store> {
        match &self.database {
            Some(database) => Arc::new(database.open(TTL).await),
            None => Arc::new(crate::engine::open(&self.path().join("data")).await),
        }
    }

    /// Has codes and wrong attempts be so much older, as if the store's clock had gone on.
    pub async fn age_codes(&self, by: Duration) {
        let ms = by.as_millis();
        let codes = format!("identity_code set expires_at = expires_at - {ms}");
        let misses = format!("identity_miss set at = at - {ms}");
        for change in [codes, misses] {
            self.change(&change).await;
        }
    }

    /// Changes rows of a table behind the store's back: `TABLE set …`.
    pub async fn change(&self, change: &str) {
        match &self.database {
            Some(database) => database.run(&format!("update majordomo.{change}")).await,
            None => {
                let file = self.path().join("data/majordomo.db");
                let store = rusqlite::Connection::open(file).expect("a database");
                store.busy_timeout(TTL).expect("a time");
                store
                    .execute(&format!("update {change}"), [])
                    .expect("a change");
            }
        }
    }

    /// How many rows there are of a table, `where` this holds of them, beside a process that runs on it.
    pub async fn count(&self, rows: &str) -> i64 {
        match &self.database {
            Some(database) => {
                let count = format!("select count(*) from majordomo.{rows}");
                let row = database.client().await.query_one(&count, &[]).await;
                row.expect("a count").get(0)
            }
            None => {
                let file = self.path().join("data/majordomo.db");
                let store = rusqlite::Connection::open(file).expect("a database");
                store.busy_timeout(TTL).expect("a time");
                let count = format!("select count(*) from {rows}");
                let row = store.query_row(&count, [], |row| row.get(0));
                row.expect("a count")
            }
        }
    }

    /// All that is kept of mail, as the tables hold it; of the embedded store its files, with what was
    /// deleted.
    pub async fn mail(&self) -> String {
        let select = "select coalesce(string_agg(row::text, ' '), '') from
            (select inbound::text as row from majordomo.inbound
             union all select outbox::text from majordomo.outbox) as kept";
        match &self.database {
            Some(database) => {
                let row = database.client().await.query_one(select, &[]).await;
                row.expect("the tables").get(0)
            }
            None => {
                let files = ["majordomo.db", "majordomo.db-wal"];
                let paths = files.map(|name| self.path().join("data").join(name));
                let read = |path| std::fs::read(path).unwrap_or_default();
                String::from_utf8_lossy(&paths.map(read).concat()).into_owned()
            }
        }
    }

    /// Lets so much time pass, for leases, that every worker is gone that has not beaten since. The
    /// folder's lock needs no time: whoever opens it next is the only one.
    pub async fn lapse(&self) {
        if let Some(database) = &self.database {
            let lapse = "do $$ begin
                if to_regclass('majordomo.worker') is not null then
                  update majordomo.worker set expires_at = 0 where state = 'live';
                end if;
              end $$";
            database.run(lapse).await;
        }
    }
}

/// A database on the tests' server. Dropped with this value.
pub struct Database {
    server: String,
    url: String,
    name: String,
}

impl Database {
    /// Makes one.
    pub async fn create() -> Self {
        Self::create_on(&server()).await
    }

    /// Makes one on the server of this URL.
    pub async fn create_on(admin: &str) -> Self {
        let name = format!("mj_test_{}", uuid::Uuid::now_v7().simple());
        let client = connect(admin).await;
        let create = format!("create database {name} template template0 strategy file_copy");
        client.batch_execute(&create).await.expect("a database");
        Self {
            server: admin.to_owned(),
            url: with_name(admin, &name),
            name,
        }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its URL for another login.
    pub fn url_as(&self, login: &str, password: &str) -> String {
        let (scheme, rest) = self.url.split_once("://").expect("a URL");
        let slash = rest.find('/').expect("a database");
        let host = rest[..slash].rsplit('@').next().expect("a host");
        format!("{scheme}://{login}:{password}@{host}{}", &rest[slash..])
    }

    /// Opens a store on it.
    pub async fn open(&self, ttl: Duration) -> PostgresStore {
        let store = PostgresStore::open(&self.url, ttl).await;
        store.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Does something in it as the server's own user, whom no policy binds.
    pub async fn run(&self, sql: &str) {
        let client = connect(&self.url).await;
        client.batch_execute(sql).await.expect(sql);
    }

    /// A connection as the server's own user.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("drop database if exists {} with (force)", self.name);
        let admin = self.server.clone();
        // A thread of its own: the test's runtime may be going down.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a runtime")
                .block_on(async { connect(&admin).await.batch_execute(&drop).await })
        });
        // What is left behind goes with the server.
        let _ = dropped.join();
    }
}

fn server() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!(
            "this test needs a Postgres: run it by `scripts/test NAME`, which finds or starts one, \
             or set {VARIABLE} to the URL of a server on which databases may be made"
        )
    })
}

fn connect(url: &str) -> impl Future<Output = Client> + use<> {
    let config: Config = url.parse().expect(VARIABLE);
    async move {
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected.expect("the tests' Postgres answers");
        tokio::spawn(connection);
        client
    }
}

/// The URL of another database on the same server.
fn with_name(url: &str, name: &str) -> String {
    let (start, query) = match url.split_once('?') {
        Some((start, query)) => (start, format!("?{query}")),
        None => (url, String::new()),
    };
    let host = start.find("://").map_or(0, |at| at + 3);
    let end = start[host..].find('/').map_or(start.len(), |at| host + at);
    format!("{}/{name}{query}", &start[..end])
}
