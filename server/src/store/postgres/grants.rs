//! The statements of the hot path on guests and grants. Each touches the rows of one guest and nothing else.

use std::str::FromStr;
use std::sync::Arc;

use guestpass_core::attributes::Attributes;
use guestpass_core::client::ClientNumber;
use guestpass_core::customer::{CustomerId, Link};
use guestpass_core::event::{ErasureReason, Event, EventStamp, EventType};
use guestpass_core::grant::{
    Generation, Grant, GrantId, MAX_STRIKES, Revocation, RevocationReason,
};
use guestpass_core::pkce::Challenge;
use guestpass_core::profile::{NetworkId, Profile, ProfileCopy, ProfileId};
use guestpass_core::time::Timestamp;
use tokio_postgres::Row;

use super::events;
use super::pool::{Failed, Parameter, Pool};
use super::row::{bytes, malformed, value};
use crate::store::{Outcome, Unavailable};

/// The columns that [`grant`] reads.
pub(super) const GRANT_COLUMNS: &str = "
    profile_id, grant_id, client_number, network_id, challenge, generation, proven, strikes, issued_at, advanced_at,
    expires_at, ends_at, revoked_at, revocation_reason, version, customer, attributes";

/// The columns of a new guest's grant: all but those of a revocation, and of what the shop says of the guest.
pub(super) const NEW_GRANT_COLUMNS: &str = "
    profile_id, grant_id, client_number, network_id, challenge, generation, proven, strikes, issued_at, advanced_at,
    expires_at, ends_at";

/// The columns that [`profile`] reads.
pub(super) const PROFILE_COLUMNS: &str = "
    profile_id, network_id, client_number, created_at, customer, linked_at, linked_by, attributes, version, seen_at";

pub(super) async fn load(pool: &Pool, id: GrantId) -> Result<Option<Grant>, Unavailable> {
    let sql = format!("select {GRANT_COLUMNS} from grants where profile_id = $1 and grant_id = $2");
    let (profile, random) = key(&id);
    let rows = pool.read(&sql, &[&profile, &random]).await?;
    rows.first().map(grant).transpose()
}

/// Inserts both rows or neither. A taken id is an error of the statement rather than a condition in it, so that neither
/// row depends on the other: then Citus needs no two-phase commit.
pub(super) async fn insert_guest(
    pool: &Pool,
    profile: &Profile,
    grant: &Grant,
) -> Result<Outcome, Failed> {
    let sql = format!(
        "with profile as (
             insert into profiles (profile_id, network_id, client_number, created_at) values ($1, $4, $3, $13))
         insert into grants ({NEW_GRANT_COLUMNS})
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    );
    let (_, random) = key(&grant.id);
    let done = pool
        .run(
            &sql,
            &[
                &profile.id.as_i64(),
                &random,
                &profile.client.0,
                &&profile.network_id.as_bytes()[..],
                &&grant.challenge.as_bytes()[..],
                &stored(grant.generation),
                &stored(grant.proven),
                &i16::from(grant.strikes),
                &grant.issued_at.as_millis(),
                &grant.advanced_at.as_millis(),
                &grant.expires_at.as_millis(),
                &grant.ends_at.as_millis(),
                &profile.created_at.as_millis(),
            ],
        )
        .await;
    match done {
        Err(Failed::Duplicate(_)) => Ok(Outcome::Conflict),
        done => Ok(done_if_one(done?.written)),
    }
}

pub(super) async fn load_profile(
    pool: &Pool,
    id: ProfileId,
) -> Result<Option<Profile>, Unavailable> {
    let sql = format!("select {PROFILE_COLUMNS} from profiles where profile_id = $1");
    let rows = pool.read(&sql, &[&id.as_i64()]).await?;
    rows.first().map(profile).transpose()
}

/// Changes a guest by compare-and-set, if it has the version before, and records the event of that change.
pub(super) async fn change_profile(
    pool: &Pool,
    next: &Profile,
    event: Option<&Event>,
) -> Result<Outcome, Failed> {
    const CHANGE: &str = "
        update profiles set customer = $2, linked_at = $3, linked_by = $4, attributes = $5, version = $6
         where profile_id = $1 and coalesce(version, 0) + 1 = $6";
    let link = next.link.as_ref();
    let id = next.id.as_i64();
    let (customer, linked_at) = (
        link.map(|link| link.customer.as_str()),
        link.map(|link| link.at.as_millis()),
    );
    let linked_by = link.and_then(|link| link.by).map(|client| client.0);
    let attributes = next.attributes.as_ref().map(Attributes::as_json);
    let change: [Parameter<'_>; 6] = [
        &id,
        &customer,
        &linked_at,
        &linked_by,
        &attributes,
        &next.version,
    ];
    let done = match event {
        None => pool.run(CHANGE, &change).await?,
        Some(event) => {
            let sql = format!(
                "with changed as ({CHANGE} returning profile_id, network_id)
                 insert into events (profile_id, event_id, type, at, network_id, customer, client_number, reason, next_at)
                 select profile_id, $7::bytea, $8::text, $9::bigint, network_id, $10::text, $11::bigint, $12::text, $9
                   from changed where profile_id = $1"
            );
            let (event_id, at) = (&event.id.as_bytes()[..], event.at.as_millis());
            let of = event.customer.as_ref().map(CustomerId::as_str);
            let client = event.client.map(|client| client.0);
            let event_type = event.event_type.name();
            let mut parameters = change.to_vec();
            parameters.extend::<[Parameter<'_>; 6]>([
                &event_id,
                &event_type,
                &at,
                &of,
                &client,
                &event.reason,
            ]);
            pool.run(&sql, &parameters).await?
        }
    };
    Ok(done_if_one(done.written))
}

/// Repeats what the shop has said of a guest in those of its grants that repeat what it said before.
pub(super) async fn copy_profile(pool: &Pool, profile: &Profile) -> Result<Outcome, Failed> {
    const SQL: &str = "
        update grants set customer = $2, attributes = $3, version = $4
         where profile_id = $1 and coalesce(version, 0) < $4";
    let customer = profile.link.as_ref().map(|link| link.customer.as_str());
    let attributes = profile.attributes.as_ref().map(Attributes::as_json);
    pool.run(
        SQL,
        &[
            &profile.id.as_i64(),
            &customer,
            &attributes,
            &profile.version,
        ],
    )
    .await?;
    Ok(Outcome::Done)
}

/// Keeps in mind that a guest had tokens, whatever becomes of its grants: the cleaner must not take it for one who never
/// came.
pub(super) async fn mark_seen(pool: &Pool, id: ProfileId, at: Timestamp) -> Result<(), Failed> {
    const SQL: &str = "update profiles set seen_at = $2 where profile_id = $1 and seen_at is null";
    pool.run(SQL, &[&id.as_i64(), &at.as_millis()]).await?;
    Ok(())
}

/// Inserts nothing if the guest is gone, erased since the caller read it, or the grant's id is taken. The lock keeps the
/// guest from being erased before this is committed; see [`remove_guest`].
pub(super) async fn insert_grant(pool: &Pool, grant: &Grant) -> Result<Outcome, Failed> {
    let sql = format!(
        "insert into grants ({NEW_GRANT_COLUMNS}, version, customer, attributes)
         select profile_id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, version, customer, attributes
           from profiles where profile_id = $1
            for key share
         on conflict do nothing"
    );
    let (profile, random) = key(&grant.id);
    let done = pool
        .run(
            &sql,
            &[
                &profile,
                &random,
                &grant.client.0,
                &&grant.network_id.as_bytes()[..],
                &&grant.challenge.as_bytes()[..],
                &stored(grant.generation),
                &stored(grant.proven),
                &i16::from(grant.strikes),
                &grant.issued_at.as_millis(),
                &grant.advanced_at.as_millis(),
                &grant.expires_at.as_millis(),
                &grant.ends_at.as_millis(),
            ],
        )
        .await?;
    Ok(done_if_one(done.written))
}

/// Advances a grant by compare-and-set: if its generation is still `from`, it isn't revoked, and its code isn't dead.
pub(super) async fn advance_grant(
    pool: &Pool,
    grant: &Grant,
    from: Generation,
) -> Result<Outcome, Failed> {
    const SQL: &str = "
        update grants set generation = $4, proven = $5, advanced_at = $6, expires_at = $7
         where profile_id = $1 and grant_id = $2 and generation = $3 and revoked_at is null
           and ($4::bigint > 1 or strikes < $8)";
    let (profile, random) = key(&grant.id);
    let done = pool
        .run(
            SQL,
            &[
                &profile,
                &random,
                &stored(from),
                &stored(grant.generation),
                &stored(grant.proven),
                &grant.advanced_at.as_millis(),
                &grant.expires_at.as_millis(),
                &i16::from(MAX_STRIKES),
            ],
        )
        .await?;
    Ok(done_if_one(done.written))
}

/// Counts a wrong verifier, if the code is still outstanding and not dead: so no more are judged than the limit, however
/// many come at once.
pub(super) async fn strike_grant(pool: &Pool, id: GrantId) -> Result<Outcome, Failed> {
    const SQL: &str = "
        update grants set strikes = strikes + 1
         where profile_id = $1 and grant_id = $2 and generation = 0 and revoked_at is null and strikes < $3";
    let (profile, random) = key(&id);
    let most = i16::from(MAX_STRIKES);
    let done = pool.run(SQL, &[&profile, &random, &most]).await?;
    Ok(done_if_one(done.written))
}

pub(super) async fn revoke_grant(
    pool: &Pool,
    id: GrantId,
    revocation: Revocation,
) -> Result<Outcome, Failed> {
    const SQL: &str = "
        update grants set revoked_at = $3, revocation_reason = $4
         where profile_id = $1 and grant_id = $2 and revoked_at is null";
    let (profile, random) = key(&id);
    let (at, reason) = (revocation.at.as_millis(), revocation.reason.name());
    let done = pool.run(SQL, &[&profile, &random, &at, &reason]).await?;
    Ok(done_if_one(done.written))
}

/// Deletes a guest and all that it has, and records that it was erased; then what the first statement didn't see: a grant
/// that was being inserted while it ran, by someone who held the guest's row until that was committed ([`insert_grant`]), or
/// an event whose change was being made. Nobody inserts one afterwards. [`Outcome::Conflict`] if there was no guest.
pub(super) async fn remove_guest(
    pool: &Pool,
    id: ProfileId,
    event: Option<(EventStamp, ErasureReason)>,
) -> Result<Outcome, Failed> {
    const BELONGINGS: &str = "
        with gone as (delete from grants where profile_id = $1)
        delete from events where profile_id = $1 and type <> $2";
    const PROFILE: &str = "delete from profiles where profile_id = $1";
    let erased = EventType::GuestErased.name();
    pool.run(BELONGINGS, &[&id.as_i64(), &erased]).await?;
    let outcome = match event {
        Some((stamp, reason)) => events::remove_profile(pool, id, stamp, reason).await?,
        None => done_if_one(pool.run(PROFILE, &[&id.as_i64()]).await?.written),
    };
    pool.run(BELONGINGS, &[&id.as_i64(), &erased]).await?;
    Ok(outcome)
}

pub(super) fn done_if_one(written: u64) -> Outcome {
    if written == 1 {
        Outcome::Done
    } else {
        Outcome::Conflict
    }
}

/// Splits a grant's id into the columns of the primary key, `profile_id` and `grant_id`.
pub(super) fn key(id: &GrantId) -> (i64, &[u8]) {
    (id.profile.as_i64(), &id.random)
}

pub(super) fn grant(row: &Row) -> Result<Grant, Unavailable> {
    let at = |name| value::<i64>(row, name).map(Timestamp::from_millis);
    let generation = |name| {
        u64::try_from(value::<i64>(row, name)?)
            .map(Generation::from_u64)
            .map_err(|_| malformed(name))
    };
    let revoked = match value::<Option<i64>>(row, "revoked_at")? {
        None => None,
        Some(at) => Some(Revocation {
            at: Timestamp::from_millis(at),
            reason: RevocationReason::from_name(value(row, "revocation_reason")?),
        }),
    };
    Ok(Grant {
        id: GrantId::new(profile_id(row)?, bytes(row, "grant_id")?),
        client: ClientNumber(value(row, "client_number")?),
        network_id: NetworkId::from_bytes(bytes(row, "network_id")?),
        challenge: Challenge::from_bytes(bytes(row, "challenge")?),
        generation: generation("generation")?,
        proven: generation("proven")?,
        strikes: value::<i16>(row, "strikes")?
            .try_into()
            .map_err(|_| malformed("strikes"))?,
        issued_at: at("issued_at")?,
        advanced_at: at("advanced_at")?,
        expires_at: at("expires_at")?,
        ends_at: at("ends_at")?,
        revoked,
        copied: match value(row, "version")? {
            None => None,
            Some(version) => Some(Arc::new(ProfileCopy {
                version,
                customer: parsed(row, "customer")?,
                attributes: parsed(row, "attributes")?,
            })),
        },
    })
}

pub(super) fn profile(row: &Row) -> Result<Profile, Unavailable> {
    Ok(Profile {
        id: profile_id(row)?,
        network_id: NetworkId::from_bytes(bytes(row, "network_id")?),
        client: ClientNumber(value(row, "client_number")?),
        created_at: Timestamp::from_millis(value(row, "created_at")?),
        link: link(row)?,
        attributes: parsed(row, "attributes")?,
        version: value::<Option<i64>>(row, "version")?.unwrap_or(0),
        seen_at: value::<Option<i64>>(row, "seen_at")?.map(Timestamp::from_millis),
    })
}

fn link(row: &Row) -> Result<Option<Link>, Unavailable> {
    let Some(customer) = parsed(row, "customer")? else {
        return Ok(None);
    };
    Ok(Some(Link {
        customer,
        at: Timestamp::from_millis(value(row, "linked_at")?),
        by: value::<Option<i64>>(row, "linked_by")?.map(ClientNumber),
    }))
}

/// Reads a text that a type of the core understands, or null.
pub(super) fn parsed<T: FromStr>(
    row: &Row,
    column: &'static str,
) -> Result<Option<T>, Unavailable> {
    let value = value::<Option<&str>>(row, column)?.map(str::parse);
    value.transpose().map_err(|_| malformed(column))
}

pub(super) fn profile_id(row: &Row) -> Result<ProfileId, Unavailable> {
    ProfileId::from_i64(value(row, "profile_id")?).ok_or_else(|| malformed("profile_id"))
}

/// Converts a generation to PostgreSQL's signed integer, which none is too large for in practice.
pub(super) fn stored(generation: Generation) -> i64 {
    i64::try_from(generation.as_u64()).unwrap_or(i64::MAX)
}
