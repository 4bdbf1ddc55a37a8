//! From `database_url` to connections: TLS where the URL asks for it, and one pool for each role.
//!
//! The login of the URL only assumes roles. A connection of the engine's pool works for all tenants;
//! one of the app's pool sees what its transaction's tenant owns, whatever it asks for.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError};
use deadpool_postgres::{RecyclingMethod, Runtime};
use futures::try_join;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::fault;
use super::tx::{Params, Tx, prepare};
use crate::id::TenantId;
use crate::store::Error;

/// Connections of one pool at most. With the listener's, a process holds 17.
const CONNECTIONS: usize = 8;
/// How long a connection may take to come about, or to become free.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long sent data may stay unconfirmed before a connection counts as broken.
const SILENCE: Duration = Duration::from_secs(15);

/// What every connection is told before its first use. Nothing of ours takes so long; a statement
/// that does would hold locks that others wait for.
const SESSION: &str = "
set search_path to majordomo, pg_temp;
set statement_timeout to '30s';
set timezone to 'UTC'";

/// The longest that a transaction may be left open and idle. A process that is stopped in the middle of
/// one holds the locks of a task, and whoever takes the task over waits for them: so this is no longer
/// than a lease, either.
const IDLE: Duration = Duration::from_secs(15);

/// Where the database is and how to get there.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Address {
    /// Reads a URL such as `postgres://user:password@host:5432/name?sslmode=verify-full`. Errors
    /// never repeat it: it holds a password.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let (plain, asked) = split(url)?;
        let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            Error::Url(why.unwrap_or_default())
        })?;
        if config.get_hosts().is_empty() {
            return Err(Error::Url("it names no host".into()));
        }
        config.ssl_mode(match asked.tls {
            true => SslMode::Require,
            false => SslMode::Disable,
        });
        config.application_name("majordomo");
        config.connect_timeout(PATIENCE);
        config.tcp_user_timeout(SILENCE);
        config.keepalives_idle(SILENCE);
        config.keepalives_interval(Duration::from_secs(5));
        let tls = match asked.tls {
            true => Some(MakeRustlsConnect::new(tls(asked.roots.as_deref())?)),
            false => None,
        };
        Ok(Self { config, tls })
    }

    /// Host, port and database, for people. Without login and password.
    pub(super) fn describe(&self) -> String {
        let ports = self.config.get_ports();
        let host = |(n, host): (usize, &Host)| {
            let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        };
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .enumerate()
            .map(host)
            .collect();
        let name = self.config.get_dbname().unwrap_or("postgres");
        format!("{}, database {name}", hosts.join(" or "))
    }

    /// One connection outside the pools, and what drives it; notifications go to `heard`.
    pub(super) async fn connect(
        &self,
        heard: Option<mpsc::Sender<String>>,
    ) -> Result<(Client, AbortOnDropHandle<()>), tokio_postgres::Error> {
        let (client, driver) = match self.tls.clone() {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls).await?;
                (client, tokio::spawn(drive(connection, heard)))
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                (client, tokio::spawn(drive(connection, heard)))
            }
        };
        Ok((client, AbortOnDropHandle::new(driver)))
    }

    /// A pool of connections in this role, for a process whose lease lasts for `ttl`.
    pub(super) fn pool(&self, role: &'static str, ttl: Duration) -> Result<Pool, Error> {
        let idle_ms = ttl.min(IDLE).as_millis().max(1);
        let recycle = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let config = self.config.clone();
        let manager = match self.tls.clone() {
            Some(tls) => Manager::from_config(config, tls, recycle),
            None => Manager::from_config(config, NoTls, recycle),
        };
        let assume = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move {
                let begin = format!(
                    "{SESSION}; set idle_in_transaction_session_timeout to {idle_ms}; set role {role}"
                );
                let begun = client.batch_execute(&begin).await;
                begun.map_err(HookError::Backend)
            })
        });
        Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .post_create(assume)
            .build()
            .map_err(|error| Error::Database(error.to_string()))
    }
}

/// Drives a connection until it ends; passes on what is notified.
async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<Socket, S>,
    heard: Option<mpsc::Sender<String>>,
) {
    loop {
        let next = std::future::poll_fn(|cx| connection.poll_message(cx)).await;
        match (next, &heard) {
            (Some(Ok(AsyncMessage::Notification(message))), Some(heard)) => {
                if heard.send(message.payload().to_owned()).await.is_err() {
                    return;
                }
            }
            (Some(Ok(_)), _) => {}
            (Some(Err(_)) | None, _) => return,
        }
    }
}

/// What a URL asks for that the driver does not know.
struct Asked {
    tls: bool,
    roots: Option<String>,
}

/// Takes `sslmode` and `sslrootcert` out of a URL. A certificate is always checked where TLS is asked
/// for, so the modes that would not check it mean the same as those that do.
fn split(url: &str) -> Result<(String, Asked), Error> {
    let mut asked = Asked {
        tls: false,
        roots: None,
    };
    let Some((start, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), asked));
    };
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", "disable" | "allow" | "prefer")) => asked.tls = false,
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => asked.tls = true,
            Some(("sslmode", _)) => {
                return Err(Error::Url(
                    "sslmode is disable, or require or verify-full for TLS".into(),
                ));
            }
            Some(("sslrootcert", path)) => asked.roots = Some(path.replace("%2F", "/")),
            _ => rest.push(pair),
        }
    }
    let plain = match rest.is_empty() {
        true => start.to_owned(),
        false => format!("{start}?{}", rest.join("&")),
    };
    Ok((plain, asked))
}

/// The public authorities, or those in this PEM file alone.
fn tls(file: Option<&str>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    match file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let broken = |why: String| Error::Url(format!("sslrootcert {path}: {why}"));
            let found = CertificateDer::pem_file_iter(path).map_err(|e| broken(e.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| broken(error.to_string()))?;
                let added = roots.add(certificate);
                added.map_err(|error| broken(error.to_string()))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Url(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn take(pool: &Pool) -> Result<Object, Error> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
            fault(error)
        }
        other => Error::Unreachable(other.to_string()),
    })
}

/// Connections that work on runs of all tenants.
#[derive(Clone)]
pub(super) struct EngineRole {
    pool: Pool,
    teller: Arc<str>,
}

impl EngineRole {
    pub(super) fn new(pool: Pool, teller: &str) -> Self {
        Self {
            pool,
            teller: teller.into(),
        }
    }

    pub(super) async fn get(&self) -> Result<Object, Error> {
        take(&self.pool).await
    }

    /// One statement, in a transaction of its own.
    pub(super) async fn ask(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let client = self.get().await?;
        let [statement] = prepare(&client, [sql]).await?;
        client.query(&statement, params).await.map_err(fault)
    }

    /// By what this process is known to its own listener, which need not hear it.
    pub(super) fn teller(&self) -> &str {
        &self.teller
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// Connections that serve requests: each transaction names its tenant and sees no other.
#[derive(Clone)]
pub(super) struct AppRole {
    pool: Pool,
}

const NAME_TENANT: &str = "select set_config('majordomo.tenant', $1, true)";

impl AppRole {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// One statement for this tenant, in one round trip.
    pub(super) async fn ask(
        &self,
        tenant: &TenantId,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let client = take(&self.pool).await?;
        let [name, statement] = prepare(&client, [NAME_TENANT, sql]).await?;
        let tenant = tenant.as_str();
        let named: Params<'_> = &[&tenant];
        let tx = Tx::on(&client);
        let ((), _, rows, ()) = try_join!(
            tx.begin(),
            tx.query(&name, named),
            tx.query(&statement, params),
            tx.commit(),
        )?;
        tx.done();
        Ok(rows)
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }
}
