//! Tables `identity`, `identity_code` and `identity_miss`: who is who in channels, and how they came to
//! be. A code's row is locked from the look at it to its use, and a sender's attempts come one after the
//! other, so that neither is used or counted past its limit.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::tx::{Params, Tx, get};
use super::{PostgresStore, clean, corrupt, from_json, to_json};
use crate::hash::Hash;
use crate::id::{PrincipalId, TenantId};
use crate::run::Timestamp;
use crate::store::identity::{Code, USED_CODES_LAST};
use crate::store::{
    Attempt, Error, Identities, Identity, Link, MISSES, MISSES_WITHIN, NewCode, Purpose, Redeemed,
    Whose,
};

const NOW: &str = "select now_ms()";

const REPLACE: &str =
    "delete from identity_code where tenant = $1 and purpose = 'claim' and used_by is null";

const OFFER: &str = "
insert into identity_code (tenant, hash, purpose, principal, roles, label, made_by, expires_at)
values ($1, $2, $3, $4, $5::text::json, $6, $7, (select now_ms()) + $8::bigint) returning expires_at";

/// Rows that somebody else is about to forget are theirs to forget.
const FORGET_CODES: &str = "
delete from identity_code where (tenant, hash) in (
  select tenant, hash from identity_code
  where tenant = $1 and expires_at <= (select now_ms())
    and (used_at is null or used_at < (select now_ms()) - $2::bigint)
  for update skip locked)";
const FORGET_MISSES: &str = "
delete from identity_miss where (tenant, sender, key) in (
  select tenant, sender, key from identity_miss
  where tenant = $1 and at < (select now_ms()) - $2::bigint for update skip locked)";

/// One attempt of a sender at a time.
const TURN: &str = "select pg_advisory_xact_lock(hashtextextended($1, 0))";

const CODE: &str = "
select purpose, principal, roles::text, label, made_by, expires_at, used_by from identity_code
where tenant = $1 and hash = $2 for update";

const MISSED: &str = "
select count(*) from identity_miss
where tenant = $1 and sender = $2 and at > (select now_ms()) - $3::bigint and key <> $4";

const MISS: &str = "
insert into identity_miss (tenant, sender, key, at) values ($1, $2, $3, now_ms())
on conflict do nothing";

const USE: &str = "
update identity_code set used_by = $3, used_at = $4
where tenant = $1 and hash = $2 and used_by is null";

const BURN: &str = "
delete from identity_code where tenant = $1 and hash = $2 and used_by is null returning 1";

const INSERT: &str = "
insert into identity (tenant, channel, id, principal, roles, label, origin, made_by, at)
values ($1, $2, $3, $4, $5::text::json, $6, $7, $8, $9)";

const LINK: &str = "channel, id, principal, roles::text, label, origin, made_by, at";

const VOID: &str = "
delete from identity_code where tenant = $1 and principal = any($2::text[]) and used_by is null";

#[async_trait]
impl Identities for PostgresStore {
    async fn offer(&self, tenant: &TenantId, code: NewCode) -> Result<Timestamp, Error> {
        let client = self.engine.get().await?;
        let tx = Tx::on(&client);
        tx.begin().await?;
        forget_old(&tx, tenant).await?;
        let (tenant, purpose) = (tenant.as_str(), code.purpose.as_str());
        let principal = clean(code.principal.as_str());
        if code.purpose == Purpose::Claim {
            tx.ask(REPLACE, &[&tenant]).await?;
        }
        let lasts = i64::try_from(code.lasts.as_millis()).unwrap_or(i64::MAX / 2);
        let row: Params<'_> = &[
            &tenant,
            &code.hash.to_string(),
            &purpose,
            &principal,
            &to_json(&code.roles),
            &clean(&code.label),
            &clean(code.made_by.as_str()),
            &lasts,
        ];
        let rows = tx.ask(OFFER, row).await?;
        let until = rows.first().map_or(Ok(0), |row| get(row, 0))?;
        tx.commit().await?;
        tx.done();
        Ok(Timestamp(until))
    }

    async fn redeem(&self, tenant: &TenantId, attempt: Attempt) -> Result<Redeemed, Error> {
        let client = self.engine.get().await?;
        crate::crash_point!("redeem.before");
        let tx = Tx::on(&client);
        tx.begin().await?;
        let redeemed = redeem(&tx, tenant, &attempt).await?;
        tx.commit().await?;
        tx.done();
        crate::crash_point!("redeem.after");
        Ok(redeemed)
    }

    async fn burn(&self, tenant: &TenantId, hash: Hash) -> Result<bool, Error> {
        let which: Params<'_> = &[&tenant.as_str(), &hash.to_string()];
        Ok(!self.engine.ask(BURN, which).await?.is_empty())
    }

    async fn link(&self, tenant: &TenantId, identity: &Identity) -> Result<Option<Link>, Error> {
        let (channel, id) = (clean(&identity.channel), clean(&identity.id));
        let which: Params<'_> = &[&tenant.as_str(), &channel, &id];
        let rows = self.engine.ask(&one_link(), which).await?;
        rows.first().map(read).transpose()
    }

    async fn links(&self, tenant: &TenantId, of: Option<&PrincipalId>) -> Result<Vec<Link>, Error> {
        let select = format!(
            "select {LINK} from identity where tenant = $1 and ($2::text is null or principal = $2)
             order by principal, at, channel, id"
        );
        let of = of.map(PrincipalId::as_str);
        let which: Params<'_> = &[&tenant.as_str(), &of];
        let rows = self.engine.ask(&select, which).await?;
        rows.iter().map(read).collect()
    }

    async fn unlink(&self, tenant: &TenantId, whose: &Whose) -> Result<Vec<Link>, Error> {
        let (principal, channel, id) = match whose {
            Whose::Person(principal) => (Some(principal.as_str()), None, None),
            Whose::Identity(Identity { channel, id }) => {
                (None, Some(clean(channel)), Some(clean(id)))
            }
        };
        let delete = format!(
            "delete from identity where tenant = $1
               and (principal = $2 or (channel = $3 and id = $4)) returning {LINK}"
        );
        let client = self.engine.get().await?;
        let tx = Tx::on(&client);
        tx.begin().await?;
        let tenant = tenant.as_str();
        let which: Params<'_> = &[&tenant, &principal, &channel, &id];
        let rows = tx.ask(&delete, which).await?;
        let ended: Vec<Link> = rows.iter().map(read).collect::<Result<_, _>>()?;
        let of_links = ended.iter().map(|link| link.principal.as_str());
        let persons: Vec<&str> = principal.into_iter().chain(of_links).collect();
        tx.ask(VOID, &[&tenant, &persons]).await?;
        tx.commit().await?;
        tx.done();
        Ok(ended)
    }
}

async fn redeem(tx: &Tx<'_>, tenant: &TenantId, attempt: &Attempt) -> Result<Redeemed, Error> {
    let sender = attempt.identity.to_string();
    let turn = format!("majordomo/{tenant}/{sender}");
    tx.ask(TURN, &[&turn]).await?;
    let (channel, id) = (
        clean(&attempt.identity.channel),
        clean(&attempt.identity.id),
    );
    let (sender, key) = (clean(&sender), clean(&attempt.key));
    let (name, hash) = (tenant.as_str(), attempt.hash.to_string());
    let of_sender: Params<'_> = &[&name, &channel, &id];
    let links = tx.ask(&one_link(), of_sender).await?;
    let codes = tx.ask(CODE, &[&name, &hash]).await?;
    let now = tx.ask(NOW, &[]).await?;
    let now = Timestamp(now.first().map_or(Ok(0), |row| get(row, 0))?);
    let code = codes.first().map(read_code).transpose()?;
    let attempted = attempt.name();
    let used_by = clean(&attempted);
    if let Some(link) = links.first().map(read).transpose()? {
        let is_again = code.is_some_and(|code| code.used_by.as_deref() == Some(&used_by));
        return Ok(match is_again {
            true => Redeemed::Linked(link),
            false => Redeemed::Taken(link),
        });
    }
    let within = MISSES_WITHIN.as_millis() as i64;
    let counted: Params<'_> = &[&name, &sender, &within, &key];
    let misses = tx.ask(MISSED, counted).await?;
    let misses: i64 = misses.first().map_or(Ok(0), |row| get(row, 0))?;
    let misses = u32::try_from(misses).unwrap_or(u32::MAX);
    if misses >= MISSES {
        return Ok(Redeemed::Silenced);
    }
    let Some(code) = code.filter(|code| code.is_good(attempt, now)) else {
        forget_old(tx, tenant).await?;
        tx.ask(MISS, &[&name, &sender, &key]).await?;
        let left = MISSES - (misses + 1);
        return Ok(Redeemed::Wrong { left });
    };
    let link = code.into_link(attempt, now);
    tx.ask(USE, &[&name, &hash, &used_by, &now.0]).await?;
    let row: Params<'_> = &[
        &name,
        &channel,
        &id,
        &clean(link.principal.as_str()),
        &to_json(&link.roles),
        &link.label,
        &link.origin.as_str(),
        &link.made_by.as_str(),
        &link.at.0,
    ];
    tx.ask(INSERT, row).await?;
    Ok(Redeemed::Linked(link))
}

/// Keeps both tables small: what expired a while ago, and what does not count any more.
async fn forget_old(tx: &Tx<'_>, tenant: &TenantId) -> Result<(), Error> {
    let (tenant, codes) = (tenant.as_str(), USED_CODES_LAST.as_millis() as i64);
    tx.ask(FORGET_CODES, &[&tenant, &codes]).await?;
    let misses = MISSES_WITHIN.as_millis() as i64;
    tx.ask(FORGET_MISSES, &[&tenant, &misses]).await?;
    Ok(())
}

fn one_link() -> String {
    format!("select {LINK} from identity where tenant = $1 and channel = $2 and id = $3")
}

fn read(row: &Row) -> Result<Link, Error> {
    Ok(Link {
        identity: Identity {
            channel: get(row, 0)?,
            id: get(row, 1)?,
        },
        principal: get::<&str>(row, 2)?.into(),
        roles: from_json("identity", get(row, 3)?)?,
        label: get(row, 4)?,
        origin: purpose(get(row, 5)?)?,
        made_by: get::<&str>(row, 6)?.into(),
        at: Timestamp(get(row, 7)?),
    })
}

fn read_code(row: &Row) -> Result<Code, Error> {
    Ok(Code {
        purpose: purpose(get(row, 0)?)?,
        principal: get::<&str>(row, 1)?.into(),
        roles: from_json("identity_code", get(row, 2)?)?,
        label: get(row, 3)?,
        made_by: get::<&str>(row, 4)?.into(),
        expires_at: Timestamp(get(row, 5)?),
        used_by: get(row, 6)?,
    })
}

fn purpose(name: &str) -> Result<Purpose, Error> {
    Purpose::parse(name).ok_or_else(|| corrupt("identity", name))
}
