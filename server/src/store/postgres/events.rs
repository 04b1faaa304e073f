//! Events as rows. Each is inserted by the statement that makes its change.

use std::borrow::Cow;

use guestpass_core::client::ClientNumber;
use guestpass_core::event::{ErasureReason, Event, EventCursor, EventId, EventStamp, EventType};
use guestpass_core::grant::{GrantId, Revocation};
use guestpass_core::profile::{NetworkId, ProfileId};
use guestpass_core::time::Timestamp;
use tokio_postgres::Row;

use super::grants::{done_if_one, key, parsed, profile_id};
use super::pool::{Failed, Pool};
use super::row::{bytes, malformed, value};
use crate::store::events::NEVER_LATER;
use crate::store::{
    Delivery, EventCounts, EventKey, Outcome, StoredEvent, Unavailable, WhichEvents,
};

/// The columns that [`stored`] reads.
const COLUMNS: &str = "
    profile_id, event_id, type, at, network_id, customer, client_number, grant_id, reason, attempts, next_at, delivered_at";

/// Revokes a grant and records that it has ended.
pub(super) async fn revoke_grant(
    pool: &Pool,
    id: GrantId,
    revocation: Revocation,
    stamp: EventStamp,
) -> Result<Outcome, Failed> {
    const SQL: &str = "
        with revoked as (
            update grants set revoked_at = $3, revocation_reason = $4
             where profile_id = $1 and grant_id = $2 and revoked_at is null
            returning profile_id, grant_id, client_number, network_id, customer)
        insert into events (profile_id, event_id, type, at, network_id, customer, client_number, grant_id, reason, next_at)
        select profile_id, $5::bytea, $6::text, $7::bigint, network_id, customer, client_number, grant_id, $4, $7
          from revoked where profile_id = $1";
    let (profile, random) = key(&id);
    let (at, reason) = (revocation.at.as_millis(), revocation.reason.name());
    let (event, event_type) = (&stamp.id.as_bytes()[..], EventType::GrantEnded.name());
    let recorded_at = stamp.at.as_millis();
    let done = pool
        .run(
            SQL,
            &[
                &profile,
                &random,
                &at,
                &reason,
                &event,
                &event_type,
                &recorded_at,
            ],
        )
        .await?;
    Ok(done_if_one(done.written))
}

/// Deletes a guest's own row and, if there was one, records that the guest was erased.
pub(super) async fn remove_profile(
    pool: &Pool,
    guest: ProfileId,
    stamp: EventStamp,
    reason: ErasureReason,
) -> Result<Outcome, Failed> {
    const SQL: &str = "
        with erased as (
            delete from profiles where profile_id = $1 returning profile_id, network_id, customer)
        insert into events (profile_id, event_id, type, at, network_id, customer, reason, next_at)
        select profile_id, $2::bytea, $3::text, $4::bigint, network_id, customer, $5::text, $4
          from erased where profile_id = $1";
    let event_type = EventType::GuestErased.name();
    let done = pool
        .run(
            SQL,
            &[
                &guest.as_i64(),
                &&stamp.id.as_bytes()[..],
                &event_type,
                &stamp.at.as_millis(),
                &reason.name(),
            ],
        )
        .await?;
    Ok(done_if_one(done.written))
}

/// Says what has become of the delivery of an event, unless it was delivered before.
pub(super) async fn note_delivery(
    pool: &Pool,
    (guest, id): &EventKey,
    attempts: u32,
    delivery: Delivery,
) -> Result<Outcome, Failed> {
    const NOTE: &str = "
        update events set attempts = $3, next_at = $4, delivered_at = $5
         where profile_id = $1 and event_id = $2 and delivered_at is null";
    let (guest, id) = (guest.as_i64(), &id.as_bytes()[..]);
    let (next_at, delivered_at) = delivery.columns();
    let attempts = i64::from(attempts);
    let noted = pool
        .run(NOTE, &[&guest, &id, &attempts, &next_at, &delivered_at])
        .await?;
    Ok(done_if_one(noted.written))
}

pub(super) async fn remove(pool: &Pool, events: &[EventKey]) -> Result<Outcome, Failed> {
    const SQL: &str = "
        delete from events
         using unnest($1::bigint[], $2::bytea[]) as named (profile_id, event_id)
         where events.profile_id = named.profile_id and events.event_id = named.event_id";
    let (guests, ids): (Vec<_>, Vec<_>) = events
        .iter()
        .map(|(guest, id)| (guest.as_i64(), &id.as_bytes()[..]))
        .unzip();
    pool.run(SQL, &[&guests, &ids]).await?;
    Ok(Outcome::Done)
}

pub(super) async fn record(pool: &Pool, recorded: bool) -> Result<Outcome, Failed> {
    const SQL: &str = "update installation set events_recorded = $1";
    let done = pool.run(SQL, &[&recorded]).await?;
    Ok(done_if_one(done.written))
}

pub(super) async fn are_recorded(pool: &Pool) -> Result<bool, Unavailable> {
    const SQL: &str = "select events_recorded from installation";
    let rows = pool.read(SQL, &[]).await?;
    let row = rows.first().ok_or_else(|| malformed("events_recorded"))?;
    value(row, "events_recorded")
}

pub(super) async fn due(
    pool: &Pool,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<StoredEvent>, Unavailable> {
    let sql = format!(
        "select {COLUMNS} from events where next_at <= $1 or next_at > $2 order by next_at limit $3"
    );
    let never = (now + NEVER_LATER).as_millis();
    let rows = pool
        .read(&sql, &[&now.as_millis(), &never, &most(limit)])
        .await?;
    rows.iter().map(stored).collect()
}

pub(super) async fn after(
    pool: &Pool,
    which: WhichEvents,
    after: EventCursor,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<StoredEvent>, Unavailable> {
    let state = match which {
        WhichEvents::All => "",
        WhichEvents::Dead => "and next_at is null and delivered_at is null",
    };
    let sql = format!(
        "select {COLUMNS} from events
          where (at, event_id) > ($1, $2) and at < $3 {state} order by at, event_id limit $4"
    );
    let (at, id) = (after.at.as_millis(), &after.id.as_bytes()[..]);
    let rows = pool
        .read(&sql, &[&at, &id, &before.as_millis(), &most(limit)])
        .await?;
    rows.iter().map(stored).collect()
}

pub(super) async fn count(pool: &Pool, limit: usize) -> Result<EventCounts, Unavailable> {
    const WAITING: &str = "
        select count(*) as waiting, min(at) as oldest
          from (select at from events where next_at is not null order by next_at limit $1) as counted";
    const DEAD: &str = "
        select count(*) as dead
          from (select at from events where next_at is null and delivered_at is null limit $1) as counted";
    let number = |row: &Row, column| {
        u64::try_from(value::<i64>(row, column)?).map_err(|_| malformed(column))
    };
    let first = |rows: Vec<Row>| rows.into_iter().next().ok_or_else(|| malformed("count"));
    let waiting = first(pool.read(WAITING, &[&most(limit)]).await?)?;
    let dead = first(pool.read(DEAD, &[&most(limit)]).await?)?;
    Ok(EventCounts {
        waiting: number(&waiting, "waiting")?,
        oldest: value::<Option<i64>>(&waiting, "oldest")?.map(Timestamp::from_millis),
        dead: number(&dead, "dead")?,
    })
}

fn stored(row: &Row) -> Result<StoredEvent, Unavailable> {
    let grant = value::<Option<&[u8]>>(row, "grant_id")?.map(TryInto::try_into);
    let event_type = value::<&str>(row, "type")?.parse();
    Ok(StoredEvent {
        event: Event {
            id: EventId::from_bytes(bytes(row, "event_id")?),
            at: Timestamp::from_millis(value(row, "at")?),
            event_type: event_type.map_err(|_| malformed("type"))?,
            guest: profile_id(row)?,
            network_id: NetworkId::from_bytes(bytes(row, "network_id")?),
            customer: parsed(row, "customer")?,
            client: value::<Option<i64>>(row, "client_number")?.map(ClientNumber),
            grant: grant.transpose().map_err(|_| malformed("grant_id"))?,
            reason: value::<Option<String>>(row, "reason")?.map(Cow::Owned),
        },
        attempts: u32::try_from(value::<i64>(row, "attempts")?)
            .map_err(|_| malformed("attempts"))?,
        delivery: Delivery::of(value(row, "next_at")?, value(row, "delivered_at")?),
    })
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
