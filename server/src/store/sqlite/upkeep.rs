//! Statements of the cleaner, of a start after a restore, and of operators.

use guestpass_core::customer::CustomerId;
use guestpass_core::event::{ErasureReason, EventStamp};
use guestpass_core::grant::GrantId;
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::events;
use super::grants::{self, ENDED, GRANT_COLUMNS, PROFILE_COLUMNS};
use crate::store::{
    CheckReport, EndedBefore, Guest, IdleBefore, IdleGuest, KEEP_MARKS, Lease, Outcome,
    ScannedGrant, ScannedGrants, ScannedGuests, Seen,
};

pub(super) fn scan_grants(
    connection: &Connection,
    after: Option<GrantId>,
    before: EndedBefore,
    limit: usize,
) -> rusqlite::Result<ScannedGrants> {
    let sql = format!(
        "select profile_id, grant_id, {ENDED}, {UNINFORMED} from grants
          where (profile_id, grant_id) > (:profile_id, :grant_id)
          order by profile_id, grant_id limit :limit"
    );
    let (profile, random) = after.map_or((0, [0; 8]), |id| (id.profile.as_i64(), id.random));
    let scanned: Vec<_> = connection
        .prepare_cached(&sql)?
        .query_map(
            named_params! {
                ":profile_id": profile,
                ":grant_id": random,
                ":ended_before": before.grants.as_millis(),
                ":orphaned_before": before.orphans.as_millis(),
                ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
            },
            |row| {
                Ok(ScannedGrant {
                    id: GrantId::new(grants::profile_id(row, 0)?, row.get(1)?),
                    has_ended: row.get(2)?,
                    is_uninformed: row.get(3)?,
                })
            },
        )?
        .collect::<Result<_, _>>()?;
    Ok(ScannedGrants::of(&scanned, limit))
}

/// The condition that a grant lacks what the shop has said of its guest; false without a guest.
const UNINFORMED: &str = "
    coalesce(version, 0) < coalesce(
        (select version from profiles where profiles.profile_id = grants.profile_id), 0)";

pub(super) fn profile(connection: &Connection, id: ProfileId) -> rusqlite::Result<Option<Guest>> {
    let Some(profile) = grants::load_profile(connection, id)? else {
        return Ok(None);
    };
    let grants = connection
        .prepare(&format!(
            "select {GRANT_COLUMNS} from grants where profile_id = ? order by issued_at, grant_id"
        ))?
        .query_map([id.as_i64()], grants::grant)?
        .collect::<Result<_, _>>()?;
    Ok(Some(Guest { profile, grants }))
}

pub(super) fn profiles(
    connection: &Connection,
    columns: &str,
    after: Option<ProfileId>,
    limit: usize,
) -> rusqlite::Result<Vec<Profile>> {
    let after = after.map_or(0, ProfileId::as_i64);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(&format!(
            "select {columns} from profiles where profile_id > ? order by profile_id limit ?"
        ))?
        .query_map([after, limit], grants::profile)?
        .collect()
}

/// The columns of a guest, with the time when it was last here by its grants too.
pub(super) fn columns_when_seen() -> String {
    PROFILE_COLUMNS.replace("seen_at", SEEN_AT)
}

/// The time when a guest was last here, by its row and its grants; null if it never had a token.
const SEEN_AT: &str = "
    (select max(at) from (
        select profiles.seen_at as at
        union all
        select advanced_at from grants where grants.profile_id = profiles.profile_id and generation > 0)) as seen_at";

pub(super) fn scan_guests(
    connection: &Connection,
    after: Option<ProfileId>,
    before: IdleBefore,
    limit: usize,
) -> rusqlite::Result<ScannedGuests> {
    let sql = format!(
        "select profile_id, coalesce(seen_at, created_at), customer is not null, coalesce({IDLE}, false) from profiles
          where profile_id > ?3 order by profile_id limit ?4"
    );
    let after = after.map_or(0, ProfileId::as_i64);
    let times = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let scanned: Vec<_> = connection
        .prepare_cached(&sql)?
        .query_map(
            params![times(before.unlinked), times(before.linked), after, most],
            |row| {
                let guest = IdleGuest {
                    id: grants::profile_id(row, 0)?,
                    seen_at: Timestamp::from_millis(row.get(1)?),
                    is_linked: row.get(2)?,
                };
                Ok((guest, row.get(3)?))
            },
        )?
        .collect::<Result<_, _>>()?;
    Ok(ScannedGuests::of(&scanned, limit))
}

/// The condition that a guest was last here before `?1`, or `?2` if it is linked, and has no grant.
const IDLE: &str = "
    (coalesce(seen_at, created_at) < case when customer is null then ?1 else ?2 end
     and not exists (select 1 from grants where grants.profile_id = profiles.profile_id))";

/// A guest may have changed since the walk saw it, so it is looked at again.
pub(super) fn forget_guests(
    connection: &Connection,
    guests: &[(ProfileId, Option<EventStamp>)],
    before: IdleBefore,
) -> rusqlite::Result<()> {
    let find = format!("select 1 from profiles where profile_id = ?3 and {IDLE}");
    let mut find = connection.prepare_cached(&find)?;
    let mut remove = connection.prepare_cached("delete from profiles where profile_id = ?")?;
    let times = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
    for (id, stamp) in guests {
        let idle = params![times(before.unlinked), times(before.linked), id.as_i64()];
        if !find.exists(idle)? {
            continue;
        }
        events::remove_all_of(connection, *id)?;
        if let Some(stamp) = stamp {
            events::insert_guest_erased(connection, *id, *stamp, ErasureReason::Retention)?;
        }
        remove.execute([id.as_i64()])?;
    }
    Ok(())
}

pub(super) fn guests_of(
    connection: &Connection,
    customer: &CustomerId,
    after: Option<ProfileId>,
    limit: usize,
) -> rusqlite::Result<Vec<Profile>> {
    let after = after.map_or(0, ProfileId::as_i64);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(&format!(
            "select {PROFILE_COLUMNS} from profiles
              where customer = ? and profile_id > ? order by profile_id limit ?"
        ))?
        .query_map(params![customer.as_str(), after, limit], grants::profile)?
        .collect()
}

pub(super) fn live_grants_idle_since(
    connection: &Connection,
    before: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    const SQL: &str = "
        select count(*) from grants
         where advanced_at < ?1 and revoked_at is null and expires_at > ?2 and ends_at > ?2
           and client_number in (select client_number from clients)";
    connection.query_row(SQL, [before.as_millis(), now.as_millis()], |row| row.get(0))
}

/// Gives a lease to a node, or leaves it to it. One twice as far ahead as this one was taken at a wrong clock.
pub(super) fn hold_lease(
    connection: &Connection,
    lease: Lease,
    node: &str,
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Outcome> {
    const SQL: &str = "
        insert into leases (lease, node, until) values (?1, ?2, ?4)
        on conflict (lease) do update set node = excluded.node, until = excluded.until
         where leases.node = ?2 or leases.until < ?3 or leases.until > ?4 + (?4 - ?3)";
    let (now, until) = (now.as_millis(), until.as_millis());
    let changed = connection.execute(SQL, params![lease.name(), node, now, until])?;
    Ok(grants::done_if_one(changed))
}

pub(super) fn note_time(connection: &Connection, now: Timestamp) -> rusqlite::Result<Outcome> {
    const SQL: &str = "update installation set seen_at = ?1 where seen_at < ?1";
    connection
        .execute(SQL, [now.as_millis()])
        .map(grants::done_if_one)
}

pub(super) fn reset_time(connection: &Connection, now: Timestamp) -> rusqlite::Result<Outcome> {
    const SQL: &str = "update installation set seen_at = ?, time_resets = time_resets + 1";
    connection
        .execute(SQL, [now.as_millis()])
        .map(grants::done_if_one)
}

pub(super) fn seen(connection: &Connection) -> rusqlite::Result<Seen> {
    const SQL: &str = "select seen_at, time_resets from installation";
    connection.query_row(SQL, [], |row| {
        Ok(Seen {
            at: Seen::known(row.get(0)?),
            resets: row.get(1)?,
        })
    })
}

pub(super) fn insert_mark(
    connection: &Connection,
    node: &str,
    mark: [u8; 16],
    now: Timestamp,
) -> rusqlite::Result<Outcome> {
    const NEW: &str = "
        insert into journal_marks (mark, node, number, created_at)
        select ?1, ?2, coalesce(max(number), 0) + 1, ?3 from journal_marks where node = ?2
        on conflict do nothing";
    const OLD: &str = "
        delete from journal_marks
         where node = ?1 and number <= (select max(number) from journal_marks where node = ?1) - ?2";
    connection.execute(NEW, params![mark, node, now.as_millis()])?;
    connection.execute(OLD, params![node, KEEP_MARKS])?;
    Ok(Outcome::Done)
}

pub(super) fn last_mark(connection: &Connection, node: &str) -> rusqlite::Result<Option<[u8; 16]>> {
    let sql = "select mark from journal_marks where node = ? order by number desc limit 1";
    connection
        .query_row(sql, [node], |row| row.get(0))
        .optional()
}

pub(super) fn has_mark(connection: &Connection, mark: [u8; 16]) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("select 1 from journal_marks where mark = ?")?
        .exists([mark])
}

/// Reads in one transaction, so that the counts are of one moment.
pub(super) fn check(connection: &Connection) -> rusqlite::Result<CheckReport> {
    let connection = connection.unchecked_transaction()?;
    let mut problems: Vec<String> = connection
        .prepare("pragma integrity_check")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    problems.retain(|line| line != "ok");
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    let homeless = count(
        "select count(*) from grants where profile_id not in (select profile_id from profiles)",
    )?;
    if homeless > 0 {
        problems.push(format!("{homeless} grants belong to no guest"));
    }
    Ok(CheckReport {
        problems,
        profiles: count("select count(*) from profiles")?,
        grants: count("select count(*) from grants")?,
    })
}
