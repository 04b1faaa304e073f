//! The keys of the installation, wrapped.

use std::time::Duration;

use deadpool_postgres::Transaction;
use guestpass_core::time::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Row};

use super::pool::{Pool, in_time};
use super::row::{bytes, duration, malformed, time, value};
use crate::store::{Installation, KeyChange, Unavailable, WrappedKey};

pub(super) async fn installation(pool: &Pool) -> Result<Installation, Unavailable> {
    const KEYS: &str = "
        select kid, use, algorithm, created_at, usable_at, current_at, retiring_at, lifetime, sealed from keys
         order by created_at, kid";
    const INSTALLATION: &str = "
        select installation_id, master_key_check, revision, exists (select 1 from profiles limit 1) as has_guests
          from installation";
    let mut session = pool.session().await?;
    let rows = async {
        let transaction = session.look().await?;
        let row = transaction.query_one(INSTALLATION, &[]).await?;
        Ok((row, transaction.query(KEYS, &[]).await?))
    };
    let rows = in_time(rows).await;
    let (row, keys) = session.end::<_, Unavailable>(rows)?;
    let check = value::<Option<&[u8]>>(&row, "master_key_check")?.map(TryInto::try_into);
    let check = check
        .transpose()
        .map_err(|_| malformed("master_key_check"))?;
    Ok(Installation {
        revision: value(&row, "revision")?,
        id: bytes(&row, "installation_id")?,
        master_key_check: check,
        keys: keys.iter().map(key).collect::<Result<_, _>>()?,
        has_guests: value(&row, "has_guests")?,
    })
}

pub(super) async fn insert_first(
    pool: &Pool,
    master_key_check: [u8; 32],
    keys: &[WrappedKey],
) -> Result<bool, Unavailable> {
    const CHECK: &str = "
        update installation set master_key_check = $1, revision = revision + 1
         where master_key_check is null and not unfinished_copy and not exists (select 1 from keys)";
    let mut session = pool.session().await?;
    let inserted = async {
        let transaction = session.change().await?;
        let check = &master_key_check[..];
        if transaction.execute(CHECK, &[&check]).await? == 0 {
            return Ok(false);
        }
        for key in keys {
            insert(&transaction, key).await?;
        }
        transaction.commit().await?;
        Ok(true)
    };
    let inserted = in_time(inserted).await;
    session.end(inserted)
}

/// `false` if a change doesn't fit what the keys are by now.
pub(super) async fn change(pool: &Pool, changes: &[KeyChange]) -> Result<bool, Unavailable> {
    // First, so that of two changes at once one waits for the other.
    const REVISION: &str = "update installation set revision = revision + 1";
    const REMOVE: &str =
        "delete from keys where kid = $1 and (current_at is null or retiring_at is not null)";
    const PROLONG: &str = "update keys set lifetime = greatest(lifetime, $2) where kid = $1";
    let mut session = pool.session().await?;
    let changed = async {
        let transaction = session.change().await?;
        transaction.execute(REVISION, &[]).await?;
        for change in changes {
            let changed = match change {
                KeyChange::Insert(key) => insert(&transaction, key).await,
                KeyChange::Promote(kid, now) => promote(&transaction, kid, *now).await,
                KeyChange::Remove(kid) => transaction.execute(REMOVE, &[kid]).await,
                KeyChange::Prolong(kid, lifetime) => {
                    let lifetime = millis(*lifetime);
                    transaction.execute(PROLONG, &[kid, &lifetime]).await
                }
            };
            match changed {
                Ok(1) => {}
                // What it was made for is gone, or the key's use has one in that state already.
                Ok(_) => return Ok(false),
                Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        transaction.commit().await?;
        Ok(true)
    };
    let changed = in_time(changed).await;
    session.end(changed)
}

async fn insert(transaction: &Transaction<'_>, key: &WrappedKey) -> Result<u64, Error> {
    const SQL: &str = "
        insert into keys (kid, use, algorithm, created_at, usable_at, current_at, retiring_at, lifetime, sealed)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let at = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
    transaction
        .execute(
            SQL,
            &[
                &key.kid,
                &key.key_use,
                &key.algorithm,
                &key.created_at.as_millis(),
                &key.usable_at.as_millis(),
                &at(key.current_at),
                &at(key.retiring_at),
                &millis(key.lifetime),
                &key.sealed,
            ],
        )
        .await
}

/// What a sealing key makes lives as long as the grant, which may be older than the key: the lifetime passes on. An access
/// token is its own key's affair.
async fn promote(transaction: &Transaction<'_>, kid: &str, now: Timestamp) -> Result<u64, Error> {
    const RETIRE: &str = "
        update keys set retiring_at = $1
         where use = (select use from keys where kid = $2) and current_at is not null and retiring_at is null
        returning case use when 'credential' then lifetime else 0 end";
    const PROMOTE: &str = "
        update keys set current_at = $1, lifetime = greatest(lifetime, $2) where kid = $3 and current_at is null";
    let now = now.as_millis();
    let retired = transaction.query_opt(RETIRE, &[&now, &kid]).await?;
    let lifetime: i64 = retired.map_or(Ok(0), |row| row.try_get(0))?;
    transaction.execute(PROMOTE, &[&now, &lifetime, &kid]).await
}

fn key(row: &Row) -> Result<WrappedKey, Unavailable> {
    Ok(WrappedKey {
        kid: value(row, "kid")?,
        key_use: value(row, "use")?,
        algorithm: value(row, "algorithm")?,
        created_at: Timestamp::from_millis(value(row, "created_at")?),
        usable_at: Timestamp::from_millis(value(row, "usable_at")?),
        current_at: time(row, "current_at")?,
        retiring_at: time(row, "retiring_at")?,
        lifetime: duration(row, "lifetime")?.ok_or_else(|| malformed("lifetime"))?,
        sealed: value(row, "sealed")?,
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
