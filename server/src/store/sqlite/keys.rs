//! The keys of the installation, wrapped.

use std::time::Duration;

use guestpass_core::time::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, named_params, params};

use super::{registry, unavailable};
use crate::store::{Installation, KeyChange, Unavailable, WrappedKey};

/// Reads in one transaction, so that the keys are of that revision.
pub(super) fn installation(connection: &Connection) -> rusqlite::Result<Installation> {
    let transaction = connection.unchecked_transaction()?;
    let keys = transaction
        .prepare("select * from keys order by created_at, kid")?
        .query_map([], |row| {
            let at = |name| {
                row.get::<_, Option<i64>>(name)
                    .map(|at| at.map(Timestamp::from_millis))
            };
            Ok(WrappedKey {
                kid: row.get("kid")?,
                key_use: row.get("use")?,
                algorithm: row.get("algorithm")?,
                created_at: Timestamp::from_millis(row.get("created_at")?),
                usable_at: Timestamp::from_millis(row.get("usable_at")?),
                current_at: at("current_at")?,
                retiring_at: at("retiring_at")?,
                lifetime: Duration::from_millis(row.get("lifetime")?),
                sealed: row.get("sealed")?,
            })
        })?
        .collect::<Result<_, _>>()?;
    let has_guests =
        transaction.query_row("select exists (select 1 from profiles)", [], |row| {
            row.get(0)
        })?;
    let revision = registry::revision(&transaction)?;
    transaction.query_row(
        "select installation_id, master_key_check from installation",
        [],
        |row| {
            Ok(Installation {
                revision,
                id: row.get(0)?,
                master_key_check: row.get(1)?,
                keys,
                has_guests,
            })
        },
    )
}

pub(super) fn insert_first(
    transaction: &Transaction<'_>,
    master_key_check: [u8; 32],
    keys: &[WrappedKey],
) -> rusqlite::Result<bool> {
    const CHECK: &str = "
        update installation set master_key_check = ?, revision = revision + 1
         where master_key_check is null and not unfinished_copy and not exists (select 1 from keys)";
    if transaction.execute(CHECK, [master_key_check])? == 0 {
        return Ok(false);
    }
    for key in keys {
        insert(transaction, key)?;
    }
    Ok(true)
}

/// Why keys were not changed.
pub(super) enum ChangeFailed {
    /// They are not any more what the change was made for.
    Conflict,
    /// The store can't answer.
    Unavailable(Unavailable),
}

pub(super) fn change(
    transaction: &Transaction<'_>,
    changes: &[KeyChange],
) -> Result<(), ChangeFailed> {
    const REMOVE: &str =
        "delete from keys where kid = ? and (current_at is null or retiring_at is not null)";
    const PROLONG: &str = "update keys set lifetime = max(lifetime, ?) where kid = ?";
    for change in changes {
        let changed = match change {
            KeyChange::Insert(key) => insert(transaction, key)?,
            KeyChange::Promote(kid, now) => promote(transaction, kid, *now)?,
            KeyChange::Remove(kid) => transaction.execute(REMOVE, [kid])?,
            KeyChange::Prolong(kid, lifetime) => {
                transaction.execute(PROLONG, params![millis(*lifetime), kid])?
            }
        };
        if changed != 1 {
            return Err(ChangeFailed::Conflict);
        }
    }
    transaction.execute("update installation set revision = revision + 1", [])?;
    Ok(())
}

fn insert(transaction: &Transaction<'_>, key: &WrappedKey) -> rusqlite::Result<usize> {
    const SQL: &str = "
        insert into keys (kid, use, algorithm, created_at, usable_at, current_at, retiring_at, lifetime, sealed)
        values (:kid, :use, :algorithm, :created_at, :usable_at, :current_at, :retiring_at, :lifetime, :sealed)";
    transaction.execute(
        SQL,
        named_params! {
            ":kid": key.kid,
            ":use": key.key_use,
            ":algorithm": key.algorithm,
            ":created_at": key.created_at.as_millis(),
            ":usable_at": key.usable_at.as_millis(),
            ":current_at": key.current_at.map(Timestamp::as_millis),
            ":retiring_at": key.retiring_at.map(Timestamp::as_millis),
            ":lifetime": millis(key.lifetime),
            ":sealed": key.sealed,
        },
    )
}

/// What a sealing key makes lives as long as the grant, which may be older than the key: the lifetime passes on. An access
/// token is its own key's affair.
fn promote(transaction: &Transaction<'_>, kid: &str, now: Timestamp) -> rusqlite::Result<usize> {
    const RETIRE: &str = "
        update keys set retiring_at = ?1
         where use = (select use from keys where kid = ?2) and current_at is not null and retiring_at is null
        returning case use when 'credential' then lifetime else 0 end";
    const PROMOTE: &str = "
        update keys set current_at = ?, lifetime = max(lifetime, ?) where kid = ? and current_at is null";
    let lifetime: Option<i64> = transaction
        .query_row(RETIRE, params![now.as_millis(), kid], |row| row.get(0))
        .optional()?;
    transaction.execute(
        PROMOTE,
        params![now.as_millis(), lifetime.unwrap_or(0), kid],
    )
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<rusqlite::Error> for ChangeFailed {
    /// The key's use has one in that state already: another process was faster.
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
            Self::Conflict
        } else {
            Self::Unavailable(unavailable(error))
        }
    }
}

impl From<Unavailable> for ChangeFailed {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}
