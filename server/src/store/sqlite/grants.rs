//! Guests and grants as rows: the statements of the hot path.

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use guestpass_core::attributes::Attributes;
use guestpass_core::client::ClientNumber;
use guestpass_core::customer::Link;
use guestpass_core::event::{ErasureReason, EventStamp};
use guestpass_core::grant::{
    Decision, Generation, Grant, GrantId, MAX_STRIKES, Revocation, RevocationReason,
};
use guestpass_core::pkce::Challenge;
use guestpass_core::profile::{NetworkId, Profile, ProfileCopy, ProfileId};
use guestpass_core::time::Timestamp;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, named_params, params};

use super::writer::WriteFailed;
use super::{events, revoked, upkeep};
use crate::store::writes::PROBE;
use crate::store::{EndedBefore, Outcome, Redeemed, Redemption, Tombstone, Unavailable, Write};

pub(super) fn load(connection: &Connection, id: GrantId) -> rusqlite::Result<Option<Grant>> {
    Ok(find(connection, id)?.map(|(_, grant)| grant))
}

/// The columns of a grant beside its id. A macro, so that [`find`] has its statements without putting them together each time.
macro_rules! grant_values {
    () => {
        "client_number, network_id, challenge, generation, proven, strikes, issued_at, advanced_at, expires_at, \
         ends_at, revoked_at, revocation_reason, version, customer, attributes"
    };
}

/// The columns that [`grant`] reads and [`insert_grant`] writes.
pub(super) const GRANT_COLUMNS: &str = concat!(grant_values!(), ", profile_id, grant_id");

/// The columns of a new guest.
macro_rules! new_profile_columns {
    () => {
        "profile_id, network_id, client_number, created_at"
    };
}

/// The columns that [`insert_profile`] writes.
pub(super) const NEW_PROFILE_COLUMNS: &str = new_profile_columns!();

/// The columns that [`profile`] reads.
pub(super) const PROFILE_COLUMNS: &str = concat!(
    new_profile_columns!(),
    ", customer, linked_at, linked_by, attributes, version, seen_at"
);

/// Returns the position of a column in a list. In a constant this costs a refresh nothing, and a name that isn't in the
/// list doesn't compile.
const fn position(columns: &str, name: &str) -> usize {
    let (columns, name) = (columns.as_bytes(), name.as_bytes());
    let (mut position, mut start) = (0, 0);
    while start < columns.len() {
        let mut length = 0;
        let mut is_same = true;
        while start + length < columns.len() && columns[start + length] != b',' {
            is_same = is_same && length < name.len() && columns[start + length] == name[length];
            length += 1;
        }
        if is_same && length == name.len() {
            return position;
        }
        position += 1;
        start += length + ", ".len();
    }
    panic!("no such column")
}

/// Finds a grant. Looks first where nearly every grant is, which takes the way down one tree instead of two. Reads only
/// what the id doesn't say.
fn find(connection: &Connection, id: GrantId) -> rusqlite::Result<Option<(GrantNumber, Grant)>> {
    const UNDER_ITS_GUEST: &str = concat!(
        "select ",
        grant_values!(),
        " from grants where grant_number = ?1 and profile_id = ?1 and grant_id = ?2"
    );
    const ANYWHERE: &str = concat!(
        "select ",
        grant_values!(),
        ", grant_number from grants where profile_id = ?1 and grant_id = ?2"
    );
    let profile = id.profile.as_i64();
    let under_its_guest = connection
        .prepare_cached(UNDER_ITS_GUEST)?
        .query_row(params![profile, id.random], |row| grant_of(id, row))
        .optional()?;
    if let Some(grant) = under_its_guest {
        return Ok(Some((GrantNumber(profile), grant)));
    }
    connection
        .prepare_cached(ANYWHERE)?
        .query_row(params![profile, id.random], |row| {
            Ok((GrantNumber(row.get(GRANT_NUMBER)?), grant_of(id, row)?))
        })
        .optional()
}

/// The key of a grant's row: the id of its guest, or a number that SQLite has drawn.
#[derive(Clone, Copy)]
pub(super) struct GrantNumber(pub(super) i64);

/// The position of its column in what [`find`] selects.
const GRANT_NUMBER: usize = position(concat!(grant_values!(), ", grant_number"), "grant_number");

/// The number of a new grant, whose guest is `?1`. If another lies under that id, it is null: SQLite then draws one.
pub(super) const NEW_NUMBER: &str =
    "(select ?1 where not exists (select 1 from grants where grant_number = ?1))";

/// Decides on a grant and writes what was decided. The transaction around it keeps everyone else out.
pub(super) fn redeem(
    connection: &Connection,
    redemption: &Redemption,
) -> Result<Option<Redeemed>, WriteFailed> {
    let Some((number, read)) = find(connection, redemption.grant)? else {
        return Ok(None);
    };
    let redeemed = redemption.decide(read)?;
    if let Some(next) = redeemed.next() {
        let advanced = advance_grant(connection, number, next, redeemed.read.generation);
        if advanced? == Outcome::Conflict {
            let problem = "a grant has changed inside a transaction";
            return Err(Unavailable(problem.to_owned()).into());
        }
    } else if let Decision::Strike(_) = redeemed.decision {
        // Counted before the next guess is looked at, however many come at once.
        strike_grant(connection, number)?;
    }
    Ok(Some(redeemed))
}

pub(super) fn apply(connection: &Connection, write: &Write) -> rusqlite::Result<Outcome> {
    match write {
        Write::InsertGuest(profile, grant) => insert_guest(connection, profile, grant),
        Write::ChangeProfile(profile, event) => savepoint(connection, || {
            let outcome = change_profile(connection, profile)?;
            if outcome == Outcome::Done {
                copy_profile(connection, profile)?;
                if let Some(event) = event {
                    events::insert(connection, event)?;
                }
            }
            Ok(outcome)
        }),
        Write::CopyProfile(profile) => {
            copy_profile(connection, profile)?;
            Ok(Outcome::Done)
        }
        Write::InsertGrant(grant) => savepoint(connection, || {
            mark_seen(connection, grant.id.profile, grant.issued_at)?;
            insert_grant(connection, grant).map(done_if_one)
        }),
        Write::RevokeGrant(id, revocation, None) => revoke_grant(connection, *id, *revocation),
        Write::RevokeGrant(id, revocation, Some(stamp)) => savepoint(connection, || {
            let outcome = revoke_grant(connection, *id, *revocation)?;
            if outcome == Outcome::Done {
                events::insert_grant_ended(connection, *id, *revocation, *stamp)?;
            }
            Ok(outcome)
        }),
        Write::RevokeAccessToken(token) => revoked::insert_access_token(connection, token),
        Write::InsertTombstone(tombstone) => revoked::insert_tombstone(connection, tombstone),
        Write::EraseGuest(id, tombstone, event) => savepoint(connection, || {
            erase_guest(connection, *id, tombstone, *event)
        }),
        Write::NoteDelivery(key, attempts, delivery) => {
            events::note_delivery(connection, key, *attempts, *delivery)
        }
        Write::RemoveEvents(keys) => {
            events::remove(connection, keys)?;
            Ok(Outcome::Done)
        }
        Write::RemoveForgotten(expired_before, erased_before) => {
            revoked::remove_forgotten(connection, *expired_before, *erased_before)
        }
        Write::HoldLease(lease, node, now, until) => {
            upkeep::hold_lease(connection, *lease, node, *now, *until)
        }
        Write::InsertMark(node, mark, now) => upkeep::insert_mark(connection, node, *mark, *now),
        Write::NoteTime(now) => upkeep::note_time(connection, *now),
        Write::RecordEvents(recorded) => events::record(connection, *recorded),
        Write::ResetTime(now) => upkeep::reset_time(connection, *now),
        Write::Probe => {
            connection.prepare_cached(PROBE)?.execute([])?;
            Ok(Outcome::Done)
        }
        Write::ForgetGuests(guests, before) => {
            savepoint(connection, || {
                upkeep::forget_guests(connection, guests, *before)
            })?;
            Ok(Outcome::Done)
        }
        Write::RemoveEnded(grants, before) => {
            // A guest without a grant would never be found again.
            savepoint(connection, || remove_ended(connection, grants, *before))?;
            Ok(Outcome::Done)
        }
    }
}

fn insert_guest(
    connection: &Connection,
    profile: &Profile,
    grant: &Grant,
) -> rusqlite::Result<Outcome> {
    let inserted = savepoint(connection, || {
        insert_profile(connection, profile)?;
        match insert_grant(connection, grant)? {
            1 => Ok(()),
            changed => Err(rusqlite::Error::StatementChangedRows(changed)),
        }
    });
    match inserted {
        Ok(()) => Ok(Outcome::Done),
        Err(rusqlite::Error::StatementChangedRows(_)) => Ok(Outcome::Conflict),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Ok(Outcome::Conflict)
        }
        Err(error) => Err(error),
    }
}

/// Runs statements that are carried out together or not at all, whatever becomes of the rest of the batch.
fn savepoint<T>(
    connection: &Connection,
    statements: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached("savepoint guest")?.execute([])?;
    let result = statements();
    if result.is_err() && !connection.is_autocommit() {
        connection
            .prepare_cached("rollback to guest")?
            .execute([])?;
    }
    if !connection.is_autocommit() {
        connection.prepare_cached("release guest")?.execute([])?;
    }
    result
}

fn insert_profile(connection: &Connection, profile: &Profile) -> rusqlite::Result<()> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!("insert into profiles ({NEW_PROFILE_COLUMNS}) values (?, ?, ?, ?)")
    });
    connection.prepare_cached(&SQL)?.execute(params![
        profile.id.as_i64(),
        profile.network_id.as_bytes(),
        profile.client.0,
        profile.created_at.as_millis(),
    ])?;
    Ok(())
}

pub(super) fn load_profile(
    connection: &Connection,
    id: ProfileId,
) -> rusqlite::Result<Option<Profile>> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("select {PROFILE_COLUMNS} from profiles where profile_id = ?"));
    let mut find = connection.prepare_cached(&SQL)?;
    find.query_row([id.as_i64()], profile).optional()
}

/// Changes a guest by compare-and-set: if it has the version before.
fn change_profile(connection: &Connection, next: &Profile) -> rusqlite::Result<Outcome> {
    const SQL: &str = "
        update profiles set customer = ?2, linked_at = ?3, linked_by = ?4, attributes = ?5, version = ?6
         where profile_id = ?1 and coalesce(version, 0) + 1 = ?6";
    let link = next.link.as_ref();
    let changed = connection.prepare_cached(SQL)?.execute(params![
        next.id.as_i64(),
        link.map(|link| link.customer.as_str()),
        link.map(|link| link.at.as_millis()),
        link.and_then(|link| link.by).map(|client| client.0),
        next.attributes.as_ref().map(Attributes::as_json),
        next.version,
    ])?;
    Ok(done_if_one(changed))
}

/// Repeats what the shop has said of a guest in those of its grants that repeat what it said before.
fn copy_profile(connection: &Connection, profile: &Profile) -> rusqlite::Result<()> {
    const SQL: &str = "
        update grants set customer = ?2, attributes = ?3, version = ?4
         where profile_id = ?1 and coalesce(version, 0) < ?4";
    connection.prepare_cached(SQL)?.execute(params![
        profile.id.as_i64(),
        profile.link.as_ref().map(|link| link.customer.as_str()),
        profile.attributes.as_ref().map(Attributes::as_json),
        profile.version,
    ])?;
    Ok(())
}

/// Keeps in mind that a guest had tokens, whatever becomes of its grants: the cleaner must not take it for one who never
/// came.
fn mark_seen(connection: &Connection, id: ProfileId, at: Timestamp) -> rusqlite::Result<()> {
    const SQL: &str = "update profiles set seen_at = ?2 where profile_id = ?1 and seen_at is null";
    let seen = params![id.as_i64(), at.as_millis()];
    connection.prepare_cached(SQL)?.execute(seen)?;
    Ok(())
}

/// Inserts a grant with what the shop has said of its guest. Inserts nothing if the guest isn't there, erased between the
/// caller's read and this, or the id is taken.
fn insert_grant(connection: &Connection, grant: &Grant) -> rusqlite::Result<usize> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "
        insert into grants ({GRANT_COLUMNS}, grant_number)
        select ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
               version, customer, attributes, ?1, ?2, {NEW_NUMBER}
          from profiles where profile_id = ?1
        on conflict do nothing"
        )
    });
    connection.prepare_cached(&SQL)?.execute(params![
        grant.id.profile.as_i64(),
        grant.id.random,
        grant.client.0,
        grant.network_id.as_bytes(),
        grant.challenge.as_bytes(),
        stored(grant.generation),
        stored(grant.proven),
        grant.strikes,
        grant.issued_at.as_millis(),
        grant.advanced_at.as_millis(),
        grant.expires_at.as_millis(),
        grant.ends_at.as_millis(),
        grant.revoked.map(|revocation| revocation.at.as_millis()),
        grant.revoked.map(|revocation| revocation.reason.name()),
    ])
}

fn erase_guest(
    connection: &Connection,
    id: ProfileId,
    tombstone: &Tombstone,
    event: Option<(EventStamp, ErasureReason)>,
) -> rusqlite::Result<Outcome> {
    const GRANTS: &str = "delete from grants where profile_id = ?";
    const PROFILE: &str = "delete from profiles where profile_id = ?";
    connection.prepare_cached(GRANTS)?.execute([id.as_i64()])?;
    events::remove_all_of(connection, id)?;
    if let Some((stamp, reason)) = event {
        events::insert_guest_erased(connection, id, stamp, reason)?;
    }
    let removed = connection.prepare_cached(PROFILE)?.execute([id.as_i64()])?;
    revoked::insert_tombstone(connection, tombstone)?;
    Ok(done_if_one(removed))
}

pub(super) fn advance_grant(
    connection: &Connection,
    number: GrantNumber,
    grant: &Grant,
    from: Generation,
) -> rusqlite::Result<Outcome> {
    const SQL: &str = "
        update grants set generation = ?3, proven = ?4, advanced_at = ?5, expires_at = ?6
         where grant_number = ?1 and generation = ?2 and revoked_at is null and (?3 > 1 or strikes < ?7)";
    let changed = connection.prepare_cached(SQL)?.execute(params![
        number.0,
        stored(from),
        stored(grant.generation),
        stored(grant.proven),
        grant.advanced_at.as_millis(),
        grant.expires_at.as_millis(),
        MAX_STRIKES,
    ])?;
    Ok(done_if_one(changed))
}

fn strike_grant(connection: &Connection, number: GrantNumber) -> rusqlite::Result<()> {
    const SQL: &str = "update grants set strikes = strikes + 1 where grant_number = ?";
    connection.prepare_cached(SQL)?.execute([number.0])?;
    Ok(())
}

fn revoke_grant(
    connection: &Connection,
    id: GrantId,
    revocation: Revocation,
) -> rusqlite::Result<Outcome> {
    const SQL: &str = "
        update grants set revoked_at = ?, revocation_reason = ?
         where profile_id = ? and grant_id = ? and revoked_at is null";
    let changed = connection.prepare_cached(SQL)?.execute(params![
        revocation.at.as_millis(),
        revocation.reason.name(),
        id.profile.as_i64(),
        id.random,
    ])?;
    Ok(done_if_one(changed))
}

pub(super) fn done_if_one(changed: usize) -> Outcome {
    if changed == 1 {
        Outcome::Done
    } else {
        Outcome::Conflict
    }
}

/// Selects what the cleaner may remove: grants that had ended before `:ended_before` (orphans: `:orphaned_before`), or
/// whose client or guest is gone.
pub(super) const ENDED: &str = "
    (min(expires_at, ends_at, coalesce(revoked_at, ends_at))
         < case when generation = 0 and revoked_at is null then :orphaned_before else :ended_before end
     or client_number not in (select client_number from clients)
     or not exists (select 1 from profiles where profiles.profile_id = grants.profile_id))";

/// A guest goes with its last grant, if none of its grants was ever redeemed: then there was only one. Otherwise its row keeps
/// in mind when it was last here.
///
/// A row may have changed since the walk saw it, so it is looked at again, first where nearly every grant is. `returning` would
/// do that with the removal, but makes a table of its own each time: with it, cleaning cost nearly half as much again.
fn remove_ended(
    connection: &Connection,
    grants: &[GrantId],
    before: EndedBefore,
) -> rusqlite::Result<()> {
    const REMOVE: &str = "delete from grants where grant_number = ?";
    const REMOVE_ORPHAN: &str = "
        delete from profiles
         where profile_id = ?1 and seen_at is null
           and not exists (select 1 from grants where profile_id = ?1)";
    const NOTE: &str = "
        update profiles set seen_at = max(coalesce(seen_at, ?2), ?2) where profile_id = ?1";
    let ended = |key: &str| {
        format!(
            "select grant_number, generation, advanced_at from grants
              where {key} = :profile_id and profile_id = :profile_id and grant_id = :grant_id and {ENDED}"
        )
    };
    let mut find_under_its_guest = connection.prepare_cached(&ended("grant_number"))?;
    let mut find_anywhere = connection.prepare_cached(&ended("profile_id"))?;
    let mut remove = connection.prepare_cached(REMOVE)?;
    let mut remove_orphan = connection.prepare_cached(REMOVE_ORPHAN)?;
    let mut note = connection.prepare_cached(NOTE)?;
    for id in grants {
        let profile = id.profile.as_i64();
        let which = named_params! {
            ":profile_id": profile,
            ":grant_id": id.random,
            ":ended_before": before.grants.as_millis(),
            ":orphaned_before": before.orphans.as_millis(),
        };
        let mut found = None;
        for find in [&mut find_under_its_guest, &mut find_anywhere] {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            found = find.query_row(which, read).optional()?;
            if found.is_some() {
                break;
            }
        }
        let Some((number, generation, advanced_at)): Option<(i64, i64, i64)> = found else {
            continue;
        };
        remove.execute([number])?;
        if generation == 0 {
            remove_orphan.execute([profile])?;
        } else {
            note.execute([profile, advanced_at])?;
        }
    }
    Ok(())
}

/// Reads a row that begins with [`GRANT_COLUMNS`].
pub(super) fn grant(row: &Row<'_>) -> rusqlite::Result<Grant> {
    let profile = profile_id(row, const { position(GRANT_COLUMNS, "profile_id") })?;
    let random = row.get(const { position(GRANT_COLUMNS, "grant_id") })?;
    grant_of(GrantId::new(profile, random), row)
}

/// Reads a row that begins with the columns of a grant beside its id.
fn grant_of(id: GrantId, row: &Row<'_>) -> rusqlite::Result<Grant> {
    let at = |column| row.get(column).map(Timestamp::from_millis);
    let generation = |column| {
        let stored = u64::try_from(row.get::<_, i64>(column)?);
        stored
            .map(Generation::from_u64)
            .map_err(|_| malformed(row, column))
    };
    macro_rules! column {
        ($name:literal) => {
            const { position(grant_values!(), $name) }
        };
    }
    let revoked = match row.get(column!("revoked_at"))? {
        None => None,
        Some(at) => {
            let reason = row.get_ref(column!("revocation_reason"))?.as_str()?;
            Some(Revocation {
                at: Timestamp::from_millis(at),
                reason: RevocationReason::from_name(reason),
            })
        }
    };
    Ok(Grant {
        id,
        client: ClientNumber(row.get(column!("client_number"))?),
        network_id: NetworkId::from_bytes(row.get(column!("network_id"))?),
        challenge: Challenge::from_bytes(row.get(column!("challenge"))?),
        generation: generation(column!("generation"))?,
        proven: generation(column!("proven"))?,
        strikes: row.get(column!("strikes"))?,
        issued_at: at(column!("issued_at"))?,
        advanced_at: at(column!("advanced_at"))?,
        expires_at: at(column!("expires_at"))?,
        ends_at: at(column!("ends_at"))?,
        revoked,
        copied: match row.get(column!("version"))? {
            None => None,
            Some(version) => Some(Arc::new(ProfileCopy {
                version,
                customer: parsed(row, column!("customer"))?,
                attributes: parsed(row, column!("attributes"))?,
            })),
        },
    })
}

/// Reads a row of [`PROFILE_COLUMNS`].
pub(super) fn profile(row: &Row<'_>) -> rusqlite::Result<Profile> {
    Ok(Profile {
        id: profile_id(row, const { position(PROFILE_COLUMNS, "profile_id") })?,
        network_id: NetworkId::from_bytes(row.get("network_id")?),
        client: ClientNumber(row.get("client_number")?),
        created_at: Timestamp::from_millis(row.get("created_at")?),
        link: link(row)?,
        attributes: parsed(row, const { position(PROFILE_COLUMNS, "attributes") })?,
        version: row.get::<_, Option<i64>>("version")?.unwrap_or(0),
        seen_at: row
            .get::<_, Option<i64>>("seen_at")?
            .map(Timestamp::from_millis),
    })
}

fn link(row: &Row<'_>) -> rusqlite::Result<Option<Link>> {
    const CUSTOMER: usize = position(PROFILE_COLUMNS, "customer");
    let Some(customer) = parsed(row, CUSTOMER)? else {
        return Ok(None);
    };
    Ok(Some(Link {
        customer,
        at: Timestamp::from_millis(row.get("linked_at")?),
        by: row.get::<_, Option<i64>>("linked_by")?.map(ClientNumber),
    }))
}

/// Reads a text that a type of the core understands, or null.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let ValueRef::Text(text) = row.get_ref(column)? else {
        return Ok(None);
    };
    let value = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    value.map(Some).ok_or_else(|| malformed(row, column))
}

pub(super) fn profile_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ProfileId> {
    ProfileId::from_i64(row.get(column)?).ok_or_else(|| malformed(row, column))
}

/// A value that this program never wrote.
fn malformed(row: &Row<'_>, column: usize) -> rusqlite::Error {
    let name = row.as_ref().column_name(column).unwrap_or_default();
    rusqlite::Error::InvalidColumnType(column, name.to_owned(), Type::Integer)
}

/// SQLite's integers are signed; a generation never gets that far.
fn stored(generation: Generation) -> i64 {
    i64::try_from(generation.as_u64()).unwrap_or(i64::MAX)
}
