//! Tables `identity`, `identity_code` and `identity_miss`: who is who in channels, and how they came to
//! be. The writer is one thread, so nobody comes between the look at a code and its use.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, corrupt, from_json, text, to_json};
use crate::clock;
use crate::hash::Hash;
use crate::id::{PrincipalId, TenantId};
use crate::run::Timestamp;
use crate::store::identity::{Code, USED_CODES_LAST};
use crate::store::{
    Attempt, Error, Identities, Identity, Link, MISSES, MISSES_WITHIN, NewCode, Purpose, Redeemed,
    Whose,
};

#[async_trait]
impl Identities for SqliteStore {
    async fn offer(&self, tenant: &TenantId, code: NewCode) -> Result<Timestamp, Error> {
        let (tenant, now) = (tenant.clone(), clock::now());
        self.write(move |tx| {
            forget_old(tx, &tenant, now)?;
            if code.purpose == Purpose::Claim {
                tx.prepare_cached(
                    "delete from identity_code
                     where tenant = ?1 and purpose = 'claim' and used_by is null",
                )?
                .execute([tenant.as_str()])?;
            }
            let until = Timestamp(now.0.saturating_add(code.lasts.as_millis() as i64));
            tx.prepare_cached(
                "insert into identity_code (tenant, hash, purpose, principal, roles, label, made_by,
                                            expires_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                tenant.as_str(),
                code.hash.to_string(),
                code.purpose.as_str(),
                code.principal.as_str(),
                to_json(&code.roles),
                code.label,
                code.made_by.as_str(),
                until.0,
            ])?;
            Ok(until)
        })
        .await
    }

    async fn redeem(&self, tenant: &TenantId, attempt: Attempt) -> Result<Redeemed, Error> {
        let (tenant, now) = (tenant.clone(), clock::now());
        self.write(move |tx| {
            crate::crash_point!("redeem.before");
            redeem(tx, &tenant, &attempt, now)
        })
        .await
        .inspect(|_| crate::crash_point!("redeem.after"))
    }

    async fn burn(&self, tenant: &TenantId, hash: Hash) -> Result<bool, Error> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let burnt = tx
                .prepare_cached(
                    "delete from identity_code where tenant = ?1 and hash = ?2 and used_by is null",
                )?
                .execute(params![tenant.as_str(), hash.to_string()])?;
            Ok(burnt > 0)
        })
        .await
    }

    async fn link(&self, tenant: &TenantId, identity: &Identity) -> Result<Option<Link>, Error> {
        self.read(|conn| link(conn, tenant, identity))
    }

    async fn links(&self, tenant: &TenantId, of: Option<&PrincipalId>) -> Result<Vec<Link>, Error> {
        self.read(|conn| {
            let select = format!(
                "select {LINK} from identity where tenant = ?1 and (?2 is null or principal = ?2)
                 order by principal, at, channel, id"
            );
            let of = of.map(PrincipalId::as_str);
            conn.prepare_cached(&select)?
                .query_map(params![tenant.as_str(), of], |row| Ok(read(row)))?
                .map(|row| row?)
                .collect()
        })
    }

    async fn unlink(&self, tenant: &TenantId, whose: &Whose) -> Result<Vec<Link>, Error> {
        let (tenant, whose) = (tenant.clone(), whose.clone());
        self.write(move |tx| {
            let (principal, channel, id) = match &whose {
                Whose::Person(principal) => (Some(principal.as_str()), None, None),
                Whose::Identity(Identity { channel, id }) => (None, Some(channel), Some(id)),
            };
            let delete = format!(
                "delete from identity where tenant = ?1
                   and (principal = ?2 or (channel = ?3 and id = ?4)) returning {LINK}"
            );
            let ended: Vec<Link> = tx
                .prepare_cached(&delete)?
                .query_map(params![tenant.as_str(), principal, channel, id], |row| {
                    Ok(read(row))
                })?
                .map(|row| row?)
                .collect::<Result<_, Error>>()?;
            let of_links = ended.iter().map(|link| link.principal.as_str());
            for principal in principal.into_iter().chain(of_links) {
                tx.prepare_cached(
                    "delete from identity_code
                     where tenant = ?1 and principal = ?2 and used_by is null",
                )?
                .execute([tenant.as_str(), principal])?;
            }
            Ok(ended)
        })
        .await
    }
}

fn redeem(
    tx: &Connection,
    tenant: &TenantId,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<Redeemed, Error> {
    let (sender, used_by) = (attempt.identity.to_string(), attempt.name());
    let known = link(tx, tenant, &attempt.identity)?;
    let code = code(tx, tenant, attempt.hash)?;
    match (known, &code) {
        (Some(link), Some(code)) if code.used_by.as_ref() == Some(&used_by) => {
            return Ok(Redeemed::Linked(link));
        }
        (Some(link), _) => return Ok(Redeemed::Taken(link)),
        (None, _) => {}
    }
    let since = now.0 - MISSES_WITHIN.as_millis() as i64;
    let misses: u32 = tx
        .prepare_cached(
            "select count(*) from identity_miss
             where tenant = ?1 and sender = ?2 and at > ?3 and key <> ?4",
        )?
        .query_row(
            params![tenant.as_str(), sender, since, attempt.key],
            |row| row.get(0),
        )?;
    if misses >= MISSES {
        return Ok(Redeemed::Silenced);
    }
    match code.filter(|code| code.is_good(attempt, now)) {
        Some(code) => {
            let link = code.into_link(attempt, now);
            used(tx, tenant, attempt, now)?;
            insert(tx, tenant, &link)?;
            Ok(Redeemed::Linked(link))
        }
        None => {
            forget_old(tx, tenant, now)?;
            tx.prepare_cached(
                "insert into identity_miss (tenant, sender, key, at) values (?1, ?2, ?3, ?4)
                 on conflict do nothing",
            )?
            .execute(params![tenant.as_str(), sender, attempt.key, now.0])?;
            let left = MISSES - (misses + 1);
            Ok(Redeemed::Wrong { left })
        }
    }
}

fn used(
    tx: &Connection,
    tenant: &TenantId,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "update identity_code set used_by = ?3, used_at = ?4
         where tenant = ?1 and hash = ?2 and used_by is null",
    )?
    .execute(params![
        tenant.as_str(),
        attempt.hash.to_string(),
        attempt.name(),
        now.0
    ])?;
    Ok(())
}

fn insert(tx: &Connection, tenant: &TenantId, link: &Link) -> Result<(), Error> {
    tx.prepare_cached(
        "insert into identity (tenant, channel, id, principal, roles, label, origin, made_by, at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        tenant.as_str(),
        link.identity.channel,
        link.identity.id,
        link.principal.as_str(),
        to_json(&link.roles),
        link.label,
        link.origin.as_str(),
        link.made_by.as_str(),
        link.at.0,
    ])?;
    Ok(())
}

fn link(conn: &Connection, tenant: &TenantId, identity: &Identity) -> Result<Option<Link>, Error> {
    let select =
        format!("select {LINK} from identity where tenant = ?1 and channel = ?2 and id = ?3");
    conn.prepare_cached(&select)?
        .query_row(
            params![tenant.as_str(), identity.channel, identity.id],
            |row| Ok(read(row)),
        )
        .optional()?
        .transpose()
}

fn code(conn: &Connection, tenant: &TenantId, hash: Hash) -> Result<Option<Code>, Error> {
    conn.prepare_cached(
        "select purpose, principal, roles, label, made_by, expires_at, used_by from identity_code
         where tenant = ?1 and hash = ?2",
    )?
    .query_row(params![tenant.as_str(), hash.to_string()], |row| {
        Ok(read_code(row))
    })
    .optional()?
    .transpose()
}

/// Keeps both tables small: forgets what is good for nothing any more.
fn forget_old(tx: &Connection, tenant: &TenantId, now: Timestamp) -> Result<(), Error> {
    let before = |age: Duration| now.0 - age.as_millis() as i64;
    tx.prepare_cached(
        "delete from identity_code
         where tenant = ?1 and expires_at <= ?2 and (used_at is null or used_at < ?3)",
    )?
    .execute(params![tenant.as_str(), now.0, before(USED_CODES_LAST)])?;
    tx.prepare_cached("delete from identity_miss where tenant = ?1 and at < ?2")?
        .execute(params![tenant.as_str(), before(MISSES_WITHIN)])?;
    Ok(())
}

const LINK: &str = "channel, id, principal, roles, label, origin, made_by, at";

fn read(row: &Row<'_>) -> Result<Link, Error> {
    Ok(Link {
        identity: Identity {
            channel: row.get(0)?,
            id: row.get(1)?,
        },
        principal: text(row, 2)?.into(),
        roles: from_json("identity", text(row, 3)?)?,
        label: row.get(4)?,
        origin: purpose(text(row, 5)?)?,
        made_by: text(row, 6)?.into(),
        at: Timestamp(row.get(7)?),
    })
}

fn read_code(row: &Row<'_>) -> Result<Code, Error> {
    Ok(Code {
        purpose: purpose(text(row, 0)?)?,
        principal: text(row, 1)?.into(),
        roles: from_json("identity_code", text(row, 2)?)?,
        label: row.get(3)?,
        made_by: text(row, 4)?.into(),
        expires_at: Timestamp(row.get(5)?),
        used_by: row.get(6)?,
    })
}

fn purpose(name: &str) -> Result<Purpose, Error> {
    Purpose::parse(name).ok_or_else(|| corrupt("identity", name))
}
