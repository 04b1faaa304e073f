//! Events as rows.

use std::borrow::Cow;

use guestpass_core::client::ClientNumber;
use guestpass_core::event::{ErasureReason, Event, EventCursor, EventId, EventStamp, EventType};
use guestpass_core::grant::{GrantId, Revocation};
use guestpass_core::profile::{NetworkId, ProfileId};
use guestpass_core::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::grants::{self, done_if_one};
use crate::store::events::NEVER_LATER;
use crate::store::{Delivery, EventCounts, EventKey, Outcome, StoredEvent, WhichEvents};

/// The columns that [`stored`] reads.
const COLUMNS: &str = "
    profile_id, event_id, type, at, network_id, customer, client_number, grant_id, reason, attempts, next_at, delivered_at";

pub(super) fn insert(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    const SQL: &str = "
        insert into events (profile_id, event_id, type, at, network_id, customer, client_number, reason, next_at)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?4)";
    connection.prepare_cached(SQL)?.execute(params![
        event.guest.as_i64(),
        event.id.as_bytes(),
        event.event_type.name(),
        event.at.as_millis(),
        event.network_id.as_bytes(),
        event.customer.as_ref().map(|customer| customer.as_str()),
        event.client.map(|client| client.0),
        event.reason,
    ])?;
    Ok(())
}

/// Records that a grant has ended.
pub(super) fn insert_grant_ended(
    connection: &Connection,
    grant: GrantId,
    revocation: Revocation,
    stamp: EventStamp,
) -> rusqlite::Result<()> {
    const SQL: &str = "
        insert into events (profile_id, event_id, type, at, network_id, customer, client_number, grant_id, reason, next_at)
        select profile_id, ?3, ?4, ?5, network_id, customer, client_number, grant_id, ?6, ?5
          from grants where profile_id = ?1 and grant_id = ?2";
    connection.prepare_cached(SQL)?.execute(params![
        grant.profile.as_i64(),
        grant.random,
        stamp.id.as_bytes(),
        EventType::GrantEnded.name(),
        stamp.at.as_millis(),
        revocation.reason.name(),
    ])?;
    Ok(())
}

/// Records that a guest is about to be erased, if it is there.
pub(super) fn insert_guest_erased(
    connection: &Connection,
    guest: ProfileId,
    stamp: EventStamp,
    reason: ErasureReason,
) -> rusqlite::Result<()> {
    const SQL: &str = "
        insert into events (profile_id, event_id, type, at, network_id, customer, reason, next_at)
        select profile_id, ?2, ?3, ?4, network_id, customer, ?5, ?4 from profiles where profile_id = ?1";
    connection.prepare_cached(SQL)?.execute(params![
        guest.as_i64(),
        stamp.id.as_bytes(),
        EventType::GuestErased.name(),
        stamp.at.as_millis(),
        reason.name(),
    ])?;
    Ok(())
}

/// Removes the events of a guest, but for the one that says that it was erased.
pub(super) fn remove_all_of(connection: &Connection, guest: ProfileId) -> rusqlite::Result<()> {
    const SQL: &str = "delete from events where profile_id = ? and type <> ?";
    let erased = EventType::GuestErased.name();
    connection
        .prepare_cached(SQL)?
        .execute(params![guest.as_i64(), erased])?;
    Ok(())
}

/// Says what has become of the delivery of an event, unless it was delivered before.
pub(super) fn note_delivery(
    connection: &Connection,
    (guest, id): &EventKey,
    attempts: u32,
    delivery: Delivery,
) -> rusqlite::Result<Outcome> {
    const NOTE: &str = "
        update events set attempts = ?3, next_at = ?4, delivered_at = ?5
         where profile_id = ?1 and event_id = ?2 and delivered_at is null";
    let (guest, id) = (guest.as_i64(), id.as_bytes());
    let (next_at, delivered_at) = delivery.columns();
    let noted = params![guest, id, attempts, next_at, delivered_at];
    let changed = connection.prepare_cached(NOTE)?.execute(noted)?;
    Ok(done_if_one(changed))
}

pub(super) fn remove(connection: &Connection, events: &[EventKey]) -> rusqlite::Result<()> {
    const SQL: &str = "delete from events where profile_id = ? and event_id = ?";
    let mut remove = connection.prepare_cached(SQL)?;
    for (guest, id) in events {
        remove.execute(params![guest.as_i64(), id.as_bytes()])?;
    }
    Ok(())
}

pub(super) fn record(connection: &Connection, recorded: bool) -> rusqlite::Result<Outcome> {
    const SQL: &str = "update installation set events_recorded = ?";
    connection.execute(SQL, [recorded]).map(done_if_one)
}

pub(super) fn are_recorded(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "select events_recorded from installation";
    connection.query_row(sql, [], |row| row.get(0))
}

pub(super) fn due(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let sql = format!(
        "select {COLUMNS} from events where next_at <= ?1 or next_at > ?2 order by next_at limit ?3"
    );
    let never = (now + NEVER_LATER).as_millis();
    connection
        .prepare_cached(&sql)?
        .query_map(params![now.as_millis(), never, most(limit)], stored)?
        .collect()
}

pub(super) fn after(
    connection: &Connection,
    which: WhichEvents,
    after: EventCursor,
    before: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let state = match which {
        WhichEvents::All => "",
        WhichEvents::Dead => "and next_at is null and delivered_at is null",
    };
    let sql = format!(
        "select {COLUMNS} from events where (at, event_id) > (?, ?) and at < ? {state} order by at, event_id limit ?"
    );
    let (at, id) = (after.at.as_millis(), after.id.as_bytes());
    connection
        .prepare_cached(&sql)?
        .query_map(params![at, id, before.as_millis(), most(limit)], stored)?
        .collect()
}

pub(super) fn count(connection: &Connection, limit: usize) -> rusqlite::Result<EventCounts> {
    const WAITING: &str = "
        select count(*), min(at) from (select at from events where next_at is not null order by next_at limit ?)";
    const DEAD: &str = "
        select count(*) from (
            select 1 from events where next_at is null and delivered_at is null limit ?)";
    let waiting = connection
        .prepare_cached(WAITING)?
        .query_row([most(limit)], |row| {
            Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
    Ok(EventCounts {
        waiting: waiting.0,
        oldest: waiting.1.map(Timestamp::from_millis),
        dead: connection
            .prepare_cached(DEAD)?
            .query_row([most(limit)], |row| row.get(0))?,
    })
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    let event_type: String = row.get("type")?;
    let unknown = |problem: &str| {
        rusqlite::Error::FromSqlConversionFailure(2, Type::Text, problem.to_owned().into())
    };
    Ok(StoredEvent {
        event: Event {
            id: EventId::from_bytes(row.get("event_id")?),
            at: Timestamp::from_millis(row.get("at")?),
            event_type: event_type.parse().map_err(unknown)?,
            guest: grants::profile_id(row, 0)?,
            network_id: NetworkId::from_bytes(row.get("network_id")?),
            customer: grants::parsed(row, 5)?,
            client: row
                .get::<_, Option<i64>>("client_number")?
                .map(ClientNumber),
            grant: row.get("grant_id")?,
            reason: row.get::<_, Option<String>>("reason")?.map(Cow::Owned),
        },
        attempts: row.get("attempts")?,
        delivery: Delivery::of(row.get("next_at")?, row.get("delivered_at")?),
    })
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
