//! Roles, schema and tables, made and brought up to date at every start. Any number of processes may
//! start at once: one does it, the others wait for it.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connect::Address;
use super::fault;
use crate::store::Error;

/// Owns the tables. No connection works as it but this one.
const OWNER: &str = "majordomo_owner";
/// Works on runs of all tenants.
pub(super) const ENGINE: &str = "majordomo_engine";
/// Serves requests, each for one tenant.
pub(super) const APP: &str = "majordomo_app";

/// The migrations in order. One that was released is never changed.
const MIGRATIONS: [&str; 14] = [
    include_str!("../../../migrations/postgres/0001_spine.sql"),
    include_str!("../../../migrations/postgres/0002_operations.sql"),
    include_str!("../../../migrations/postgres/0003_deaths.sql"),
    include_str!("../../../migrations/postgres/0004_mail.sql"),
    include_str!("../../../migrations/postgres/0005_turns.sql"),
    include_str!("../../../migrations/postgres/0006_mail_care.sql"),
    include_str!("../../../migrations/postgres/0007_blob.sql"),
    include_str!("../../../migrations/postgres/0008_identity.sql"),
    include_str!("../../../migrations/postgres/0009_halt.sql"),
    include_str!("../../../migrations/postgres/0010_ask.sql"),
    include_str!("../../../migrations/postgres/0011_budget.sql"),
    include_str!("../../../migrations/postgres/0012_ladder.sql"),
    include_str!("../../../migrations/postgres/0013_permit_feedback.sql"),
    include_str!("../../../migrations/postgres/0014_extra.sql"),
];

/// The version of the tables that this program knows.
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Held while roles and tables are made. The number is ours alone: "majordom" in ASCII.
const LOCK: i64 = 0x6d61_6a6f_7264_6f6d;

/// How often the roles are tried again where another database of the same server makes them just now.
const TRIES: u32 = 5;

/// Makes what is missing. On return this program's tables are there, and its roles can be assumed.
pub(super) async fn run(address: &Address) -> Result<(), Error> {
    let connected = address.connect(None).await;
    let (client, _driver) = connected.map_err(|error| unreachable(address, error))?;
    with(&client).await
}

async fn with(client: &Client) -> Result<(), Error> {
    let lock = format!("select pg_advisory_lock({LOCK})");
    client.batch_execute(&lock).await.map_err(fault)?;
    roles(client).await?;
    schema(client).await?;
    tables(client).await
}

async fn roles(client: &Client) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        let error = match client.batch_execute(&make_roles()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        tries += 1;
        // Roles belong to the whole server: another database's start may be making the same ones.
        let busy = [SqlState::INTERNAL_ERROR, SqlState::UNIQUE_VIOLATION];
        if tries == TRIES || !error.code().is_some_and(|code| busy.contains(code)) {
            return Err(refused(client, error).await);
        }
    }
}

/// Makes the roles that are missing and has the login take those that it cannot assume yet.
fn make_roles() -> String {
    let one = |role: &str| {
        format!(
            "if not exists (select from pg_roles where rolname = '{role}') then
               create role {role} nologin;
             end if;
             if not pg_has_role(current_user, '{role}', '{{may}}') then
               execute format('grant {role} to %I', current_user);
             end if;"
        )
    };
    // Being a member is not enough any more since version 16: a member may be kept from SET ROLE.
    let all = |may: &str| {
        let roles = [OWNER, ENGINE, APP].map(|role| one(role).replace("{may}", may));
        roles.join("\n")
    };
    format!(
        "do $$ begin
           if current_setting('server_version_num')::int >= 160000 then {} else {} end if;
         end $$",
        all("SET"),
        all("MEMBER")
    )
}

async fn schema(client: &Client) -> Result<(), Error> {
    let make = format!(
        "do $$ begin
           if to_regnamespace('majordomo') is null then
             create schema majordomo authorization {OWNER};
           end if;
         end $$;
         set role {OWNER};
         set search_path to majordomo, pg_temp;
         do $$ begin
           if to_regclass('migration') is null then
             create table migration (
               version    integer primary key,
               applied_at timestamptz not null default clock_timestamp()
             );
             alter table migration enable row level security;
             alter table migration force row level security;
             create policy owner on migration to {OWNER} using (true) with check (true);
           end if;
         end $$"
    );
    match client.batch_execute(&make).await {
        Ok(()) => Ok(()),
        Err(error) => Err(refused(client, error).await),
    }
}

async fn tables(client: &Client) -> Result<(), Error> {
    let row = client
        .query_one("select coalesce(max(version), 0) from migration", &[])
        .await
        .map_err(fault)?;
    let have: i32 = row.try_get(0).map_err(fault)?;
    let known = MIGRATIONS.len() as i32;
    if have > known {
        return Err(Error::Migration(format!(
            "it is at version {have}, this program knows {known}: start the newer program"
        )));
    }
    for (n, sql) in (1..).zip(MIGRATIONS).skip(have as usize) {
        let step = format!("begin; {sql}; insert into migration (version) values ({n}); commit");
        client
            .batch_execute(&step)
            .await
            .map_err(|error| Error::Migration(format!("step {n}: {}", fault(error))))?;
    }
    Ok(())
}

/// Tells an administrator what this login may not do itself.
async fn refused(client: &Client, error: tokio_postgres::Error) -> Error {
    if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return fault(error);
    }
    let asked = client
        .query_one("select session_user::text, current_database()::text", &[])
        .await;
    let name = |column| {
        let row = asked.as_ref().ok()?;
        row.try_get::<_, String>(column).ok()
    };
    let login = name(0).unwrap_or_else(|| "LOGIN".into());
    let database = name(1).unwrap_or_else(|| "DATABASE".into());
    Error::Rights {
        why: fault(error).to_string(),
        sql: format!(
            "create role {OWNER} nologin;
create role {ENGINE} nologin;
create role {APP} nologin;
grant {OWNER}, {ENGINE}, {APP} to \"{login}\";
\\connect \"{database}\"
create schema majordomo authorization {OWNER};"
        ),
        login,
    }
}

fn unreachable(address: &Address, error: tokio_postgres::Error) -> Error {
    let why = match fault(error) {
        Error::Unreachable(why) | Error::Database(why) => why,
        other => other.to_string(),
    };
    Error::Unreachable(format!(
        "{}: {why}; see that it runs, and that database_url in majordomo.toml names it",
        address.describe()
    ))
}
