//! Statements for a whole batch of reads or writes. No statement names a row twice, and each takes rows in the order of
//! their keys, which makes deadlocks between nodes rare; where one happens, the database rolls one statement back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use guestpass_core::grant::{Generation, Grant, GrantId, MAX_STRIKES};
use guestpass_core::profile::{Profile, ProfileId};

use super::grants::{GRANT_COLUMNS, NEW_GRANT_COLUMNS, grant, key, profile_id, stored};
use super::pool::{Failed, Pool};
use super::row::bytes;

/// Reads grants. Those that are gone are missing from the result.
pub(super) async fn load_grants(
    pool: &Pool,
    ids: &BTreeSet<GrantId>,
) -> Result<HashMap<GrantId, Grant>, Failed> {
    let sql = format!(
        "select {GRANT_COLUMNS}
           from unnest($1::bigint[], $2::bytea[]) as wanted (profile_id, grant_id)
                join grants using (profile_id, grant_id)"
    );
    let (profiles, randoms): (Vec<_>, Vec<_>) = ids.iter().map(key).unzip();
    let rows = pool.read(&sql, &[&profiles, &randoms]).await?;
    rows.iter()
        .map(|row| {
            let grant = grant(row).map_err(Failed::Nothing)?;
            Ok((grant.id, grant))
        })
        .collect()
}

/// Advances grants, each by compare-and-set from the generation beside it, and returns the ids of those whose condition
/// held.
pub(super) async fn advance_grants(
    pool: &Pool,
    advances: &BTreeMap<GrantId, (&Grant, Generation)>,
) -> Result<HashSet<GrantId>, Failed> {
    const SQL: &str = "
        update grants
           set generation = wanted.generation, proven = wanted.proven, advanced_at = wanted.advanced_at,
               expires_at = wanted.expires_at
          from unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
               as wanted (profile_id, grant_id, from_generation, generation, proven, advanced_at, expires_at)
         where grants.profile_id = wanted.profile_id and grants.grant_id = wanted.grant_id
           and grants.generation = wanted.from_generation and grants.revoked_at is null
           and (wanted.generation > 1 or grants.strikes < $8)
        returning grants.profile_id, grants.grant_id";
    let (profiles, randoms): (Vec<_>, Vec<_>) = advances.keys().map(key).unzip();
    let of = |value: fn(&Grant) -> i64| -> Vec<i64> {
        advances.values().map(|(grant, _)| value(grant)).collect()
    };
    let from: Vec<_> = advances.values().map(|(_, from)| stored(*from)).collect();
    let done = pool
        .run(
            SQL,
            &[
                &profiles,
                &randoms,
                &from,
                &of(|grant| stored(grant.generation)),
                &of(|grant| stored(grant.proven)),
                &of(|grant| grant.advanced_at.as_millis()),
                &of(|grant| grant.expires_at.as_millis()),
                &i16::from(MAX_STRIKES),
            ],
        )
        .await?;
    done.rows
        .iter()
        .map(|row| {
            // By now it is written, whatever the rows say.
            profile_id(row)
                .and_then(|profile| Ok(GrantId::new(profile, bytes(row, "grant_id")?)))
                .map_err(Failed::Unknown)
        })
        .collect()
}

/// Inserts new guests, each with its first grant, and returns the ids of those whose profile id was free. If the id of
/// a grant is taken, the whole statement fails.
pub(super) async fn insert_guests(
    pool: &Pool,
    guests: &BTreeMap<ProfileId, (&Profile, &Grant)>,
) -> Result<HashSet<ProfileId>, Failed> {
    let sql = format!(
        "with wanted as (
             select {NEW_GRANT_COLUMNS}, created_at
               from unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[],
                           $7::bigint[], $8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
                           $13::bigint[])
                    as wanted ({NEW_GRANT_COLUMNS}, created_at)),
         inserted as (
             insert into profiles (profile_id, network_id, client_number, created_at)
             select profile_id, network_id, client_number, created_at from wanted
             on conflict do nothing returning profile_id)
         insert into grants ({NEW_GRANT_COLUMNS})
         select {NEW_GRANT_COLUMNS} from wanted join inserted using (profile_id)
         returning profile_id"
    );
    let rows = || guests.values().copied();
    let of = |value: fn(&Profile, &Grant) -> i64| -> Vec<i64> {
        rows()
            .map(|(profile, grant)| value(profile, grant))
            .collect()
    };
    let bytes_of = |value: for<'a> fn(&'a Profile, &'a Grant) -> &'a [u8]| -> Vec<&[u8]> {
        rows()
            .map(|(profile, grant)| value(profile, grant))
            .collect()
    };
    let strikes: Vec<_> = rows().map(|(_, grant)| i16::from(grant.strikes)).collect();
    let done = pool
        .run(
            &sql,
            &[
                &of(|profile, _| profile.id.as_i64()),
                &bytes_of(|_, grant| &grant.id.random),
                &of(|profile, _| profile.client.0),
                &bytes_of(|profile, _| profile.network_id.as_bytes()),
                &bytes_of(|_, grant| grant.challenge.as_bytes()),
                &of(|_, grant| stored(grant.generation)),
                &of(|_, grant| stored(grant.proven)),
                &strikes,
                &of(|_, grant| grant.issued_at.as_millis()),
                &of(|_, grant| grant.advanced_at.as_millis()),
                &of(|_, grant| grant.expires_at.as_millis()),
                &of(|_, grant| grant.ends_at.as_millis()),
                &of(|profile, _| profile.created_at.as_millis()),
            ],
        )
        .await?;
    done.rows
        .iter()
        .map(|row| profile_id(row).map_err(Failed::Unknown))
        .collect()
}
