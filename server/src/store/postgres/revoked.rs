//! The revocation lists: revoked grants, revoked access tokens, and the tombstones of erased guests. Every node polls
//! them, in bounded parts, across all guests.

use guestpass_core::time::Timestamp;

use super::grants::profile_id;
use super::pool::{Failed, Pool};
use super::row::{bytes, value};
use crate::store::writes::FORGOTTEN_AT_ONCE;
use crate::store::{Outcome, RevokedAccessToken, RevokedId, RevokedList, Tombstone, Unavailable};

pub(super) async fn after(
    pool: &Pool,
    list: RevokedList,
    at: Timestamp,
    id: RevokedId,
    limit: usize,
) -> Result<Vec<(Timestamp, RevokedId)>, Unavailable> {
    const GRANTS: &str = "
        select revoked_at as at, profile_id, grant_id from grants
         where revoked_at is not null and revoked_at >= $1 and (revoked_at, profile_id, grant_id) > ($1, $2, $3)
         order by revoked_at, profile_id, grant_id limit $4";
    const ACCESS_TOKENS: &str = "
        select revoked_at as at, token_id as id from revoked_access_tokens
         where revoked_at >= $1 and (revoked_at, token_id) > ($1, $2) order by revoked_at, token_id limit $3";
    const GUESTS: &str = "
        select erased_at as at, hash as id from tombstones
         where erased_at >= $1 and (erased_at, hash) > ($1, $2) order by erased_at, hash limit $3";
    let (at, limit) = (at.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX));
    let (profile, random) = split(&id);
    let rows = match list {
        RevokedList::Grants => pool.read(GRANTS, &[&at, &profile, &random, &limit]).await?,
        RevokedList::AccessTokens => pool.read(ACCESS_TOKENS, &[&at, &&id[..], &limit]).await?,
        RevokedList::Guests => pool.read(GUESTS, &[&at, &&id[..], &limit]).await?,
    };
    rows.iter()
        .map(|row| {
            let id = match list {
                RevokedList::Grants => join(profile_id(row)?.as_i64(), bytes(row, "grant_id")?),
                RevokedList::AccessTokens | RevokedList::Guests => bytes(row, "id")?,
            };
            Ok((Timestamp::from_millis(value(row, "at")?), id))
        })
        .collect()
}

/// Returns whether an id is in a list. A grant whose row is gone counts as revoked.
pub(super) async fn holds(
    pool: &Pool,
    list: RevokedList,
    id: RevokedId,
) -> Result<bool, Unavailable> {
    const GRANT: &str = "
        select revoked_at is not null as revoked from grants where profile_id = $1 and grant_id = $2";
    const ACCESS_TOKEN: &str = "select true from revoked_access_tokens where token_id = $1";
    const GUEST: &str = "select true from tombstones where hash = $1";
    match list {
        RevokedList::Grants => {
            let (profile, random) = split(&id);
            let rows = pool.read(GRANT, &[&profile, &random]).await?;
            rows.first().map_or(Ok(true), |row| value(row, "revoked"))
        }
        RevokedList::AccessTokens => Ok(!pool.read(ACCESS_TOKEN, &[&&id[..]]).await?.is_empty()),
        RevokedList::Guests => Ok(!pool.read(GUEST, &[&&id[..]]).await?.is_empty()),
    }
}

pub(super) async fn tombstones(
    pool: &Pool,
    hashes: &[RevokedId],
) -> Result<Vec<Tombstone>, Unavailable> {
    const SQL: &str = "select hash, erased_at from tombstones where hash = any($1)";
    let hashes: Vec<_> = hashes.iter().map(|hash| &hash[..]).collect();
    let rows = pool.read(SQL, &[&hashes]).await?;
    rows.iter()
        .map(|row| {
            Ok(Tombstone {
                hash: bytes(row, "hash")?,
                at: Timestamp::from_millis(value(row, "erased_at")?),
            })
        })
        .collect()
}

/// Returns those of the ids that [`holds`] says no to.
pub(super) async fn lacks(
    pool: &Pool,
    list: RevokedList,
    ids: &[RevokedId],
) -> Result<Vec<RevokedId>, Unavailable> {
    const GRANTS: &str = "
        select grants.profile_id, grants.grant_id
          from unnest($1::bigint[], $2::bytea[]) as named (profile_id, grant_id)
          join grants on grants.profile_id = named.profile_id and grants.grant_id = named.grant_id
         where grants.revoked_at is null";
    const ACCESS_TOKENS: &str = "
        select id from unnest($1::bytea[]) as named (id)
         where not exists (select 1 from revoked_access_tokens where token_id = named.id)";
    const GUESTS: &str = "
        select id from unnest($1::bytea[]) as named (id)
         where not exists (select 1 from tombstones where hash = named.id)";
    let whole: Vec<_> = ids.iter().map(|id| &id[..]).collect();
    let rows = match list {
        RevokedList::Grants => {
            let (profiles, randoms): (Vec<_>, Vec<_>) = ids.iter().map(split).unzip();
            pool.read(GRANTS, &[&profiles, &randoms]).await?
        }
        RevokedList::AccessTokens => pool.read(ACCESS_TOKENS, &[&whole]).await?,
        RevokedList::Guests => pool.read(GUESTS, &[&whole]).await?,
    };
    rows.iter()
        .map(|row| match list {
            RevokedList::Grants => Ok(join(profile_id(row)?.as_i64(), bytes(row, "grant_id")?)),
            RevokedList::AccessTokens | RevokedList::Guests => bytes(row, "id"),
        })
        .collect()
}

pub(super) async fn missing_grants(
    pool: &Pool,
    ids: &[RevokedId],
) -> Result<Vec<RevokedId>, Unavailable> {
    const SQL: &str = "
        select named.profile_id, named.grant_id
          from unnest($1::bigint[], $2::bytea[]) as named (profile_id, grant_id)
         where not exists (
             select 1 from grants
              where grants.profile_id = named.profile_id and grants.grant_id = named.grant_id)";
    let (profiles, randoms): (Vec<_>, Vec<_>) = ids.iter().map(split).unzip();
    let rows = pool.read(SQL, &[&profiles, &randoms]).await?;
    rows.iter()
        .map(|row| Ok(join(profile_id(row)?.as_i64(), bytes(row, "grant_id")?)))
        .collect()
}

pub(super) async fn insert_access_token(
    pool: &Pool,
    token: &RevokedAccessToken,
) -> Result<Outcome, Failed> {
    const SQL: &str = "
        insert into revoked_access_tokens (token_id, revoked_at, expires_at) values ($1, $2, $3)
        on conflict do nothing";
    let (at, expires_at) = (token.at.as_millis(), token.expires_at.as_millis());
    pool.run(SQL, &[&&token.id[..], &at, &expires_at]).await?;
    Ok(Outcome::Done)
}

pub(super) async fn insert_tombstone(
    pool: &Pool,
    tombstone: &Tombstone,
) -> Result<Outcome, Failed> {
    const SQL: &str = "
        insert into tombstones (hash, erased_at) values ($1, $2)
        on conflict (hash) do update set erased_at = greatest(tombstones.erased_at, excluded.erased_at)";
    let at = tombstone.at.as_millis();
    pool.run(SQL, &[&&tombstone.hash[..], &at]).await?;
    Ok(Outcome::Done)
}

pub(super) async fn remove_forgotten(
    pool: &Pool,
    expired_before: Timestamp,
    erased_before: Timestamp,
) -> Result<Outcome, Failed> {
    const ACCESS_TOKENS: &str = "
        delete from revoked_access_tokens
         where token_id in (select token_id from revoked_access_tokens where expires_at < $1 limit $2)";
    const TOMBSTONES: &str = "
        delete from tombstones where hash in (select hash from tombstones where erased_at < $1 limit $2)";
    let limit = i64::try_from(FORGOTTEN_AT_ONCE).unwrap_or(i64::MAX);
    let mut outcome = Outcome::Done;
    for (sql, before) in [(ACCESS_TOKENS, expired_before), (TOMBSTONES, erased_before)] {
        let forgotten = pool.run(sql, &[&before.as_millis(), &limit]).await?;
        if usize::try_from(forgotten.written) == Ok(FORGOTTEN_AT_ONCE) {
            outcome = Outcome::More;
        }
    }
    Ok(outcome)
}

/// Splits a grant's id into `profile_id` and `grant_id`.
fn split(id: &RevokedId) -> (i64, &[u8]) {
    let (profile, random) = id.split_at(8);
    (
        i64::from_be_bytes(profile.try_into().expect("8 bytes")),
        random,
    )
}

/// Joins `profile_id` and `grant_id` as `GrantId::to_bytes` does.
fn join(profile: i64, random: [u8; 8]) -> RevokedId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&profile.to_be_bytes());
    id[8..].copy_from_slice(&random);
    id
}
