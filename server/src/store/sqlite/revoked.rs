//! The lists of what ended before its time: revoked grants and access tokens, erased guests.

use guestpass_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::writes::FORGOTTEN_AT_ONCE;
use crate::store::{Outcome, RevokedAccessToken, RevokedId, RevokedList, Tombstone};

pub(super) fn after(
    connection: &Connection,
    list: RevokedList,
    at: Timestamp,
    id: RevokedId,
    limit: usize,
) -> rusqlite::Result<Vec<(Timestamp, RevokedId)>> {
    const GRANTS: &str = "
        select revoked_at, profile_id, grant_id from grants
         where revoked_at is not null and (revoked_at, profile_id, grant_id) > (?, ?, ?)
         order by revoked_at, profile_id, grant_id limit ?";
    const ACCESS_TOKENS: &str = "
        select revoked_at, token_id from revoked_access_tokens
         where (revoked_at, token_id) > (?, ?) order by revoked_at, token_id limit ?";
    const GUESTS: &str = "
        select erased_at, hash from tombstones
         where (erased_at, hash) > (?, ?) order by erased_at, hash limit ?";
    let (at, limit) = (at.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX));
    let time = |row: &Row<'_>| row.get(0).map(Timestamp::from_millis);
    match list {
        RevokedList::Grants => {
            let (profile, random) = split(id);
            connection
                .prepare_cached(GRANTS)?
                .query_map(params![at, profile, random, limit], |row| {
                    Ok((time(row)?, joined(row.get(1)?, row.get(2)?)))
                })?
                .collect()
        }
        RevokedList::AccessTokens | RevokedList::Guests => {
            let sql = if list == RevokedList::Guests {
                GUESTS
            } else {
                ACCESS_TOKENS
            };
            connection
                .prepare_cached(sql)?
                .query_map(params![at, id, limit], |row| Ok((time(row)?, row.get(1)?)))?
                .collect()
        }
    }
}

pub(super) fn holds(
    connection: &Connection,
    list: RevokedList,
    id: RevokedId,
) -> rusqlite::Result<bool> {
    const GRANT: &str =
        "select revoked_at is not null from grants where profile_id = ? and grant_id = ?";
    const ACCESS_TOKEN: &str = "select 1 from revoked_access_tokens where token_id = ?";
    const GUEST: &str = "select 1 from tombstones where hash = ?";
    match list {
        RevokedList::Grants => {
            let (profile, random) = split(id);
            let revoked = connection
                .prepare_cached(GRANT)?
                .query_row(params![profile, random], |row| row.get(0))
                .optional()?;
            Ok(revoked.unwrap_or(true))
        }
        RevokedList::AccessTokens => connection.prepare_cached(ACCESS_TOKEN)?.exists([id]),
        RevokedList::Guests => connection.prepare_cached(GUEST)?.exists([id]),
    }
}

/// Returns those of the ids that [`holds`] says no to.
pub(super) fn lacks(
    connection: &Connection,
    list: RevokedList,
    ids: Vec<RevokedId>,
) -> rusqlite::Result<Vec<RevokedId>> {
    without(ids, |id| holds(connection, list, id))
}

pub(super) fn missing_grants(
    connection: &Connection,
    ids: Vec<RevokedId>,
) -> rusqlite::Result<Vec<RevokedId>> {
    const SQL: &str = "select 1 from grants where profile_id = ? and grant_id = ?";
    without(ids, |id| {
        let (profile, random) = split(id);
        connection
            .prepare_cached(SQL)?
            .exists(params![profile, random])
    })
}

pub(super) fn tombstones(
    connection: &Connection,
    hashes: &[RevokedId],
) -> rusqlite::Result<Vec<Tombstone>> {
    let mut find = connection.prepare_cached("select erased_at from tombstones where hash = ?")?;
    let mut found = Vec::new();
    for hash in hashes {
        let at = find.query_row([hash], |row| row.get(0)).optional()?;
        found.extend(at.map(|at| Tombstone {
            hash: *hash,
            at: Timestamp::from_millis(at),
        }));
    }
    Ok(found)
}

/// Returns the ids for which a query says no.
fn without(
    ids: Vec<RevokedId>,
    is_there: impl Fn(RevokedId) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Vec<RevokedId>> {
    let mut left = Vec::new();
    for id in ids {
        if !is_there(id)? {
            left.push(id);
        }
    }
    Ok(left)
}

pub(super) fn insert_access_token(
    connection: &Connection,
    token: &RevokedAccessToken,
) -> rusqlite::Result<Outcome> {
    const SQL: &str = "
        insert into revoked_access_tokens (token_id, revoked_at, expires_at) values (?, ?, ?)
        on conflict do nothing";
    connection.prepare_cached(SQL)?.execute(params![
        token.id,
        token.at.as_millis(),
        token.expires_at.as_millis(),
    ])?;
    Ok(Outcome::Done)
}

pub(super) fn insert_tombstone(
    connection: &Connection,
    tombstone: &Tombstone,
) -> rusqlite::Result<Outcome> {
    const SQL: &str = "
        insert into tombstones (hash, erased_at) values (?, ?)
        on conflict (hash) do update set erased_at = max(erased_at, excluded.erased_at)";
    connection
        .prepare_cached(SQL)?
        .execute(params![tombstone.hash, tombstone.at.as_millis()])?;
    Ok(Outcome::Done)
}

pub(super) fn remove_forgotten(
    connection: &Connection,
    expired_before: Timestamp,
    erased_before: Timestamp,
) -> rusqlite::Result<Outcome> {
    const ACCESS_TOKENS: &str = "
        delete from revoked_access_tokens
         where token_id in (select token_id from revoked_access_tokens where expires_at < ? limit ?)";
    const TOMBSTONES: &str = "
        delete from tombstones where hash in (select hash from tombstones where erased_at < ? limit ?)";
    let mut outcome = Outcome::Done;
    for (sql, before) in [(ACCESS_TOKENS, expired_before), (TOMBSTONES, erased_before)] {
        let forgotten = connection
            .prepare_cached(sql)?
            .execute(params![before.as_millis(), FORGOTTEN_AT_ONCE])?;
        if forgotten == FORGOTTEN_AT_ONCE {
            outcome = Outcome::More;
        }
    }
    Ok(outcome)
}

/// A grant's id as its row has it.
fn split(id: RevokedId) -> (i64, [u8; 8]) {
    let (profile, random) = id.split_at(8);
    (
        i64::from_be_bytes(profile.try_into().expect("8 bytes")),
        random.try_into().expect("8 bytes"),
    )
}

/// As `GrantId::to_bytes` puts it together.
fn joined(profile: i64, random: [u8; 8]) -> RevokedId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&profile.to_be_bytes());
    id[8..].copy_from_slice(&random);
    id
}
