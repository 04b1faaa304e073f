//! Cleaning, the marks of the nodes' journals, and queries of operators. Of all this a request reaches [`profile`]
//! alone, which touches one guest.

use guestpass_core::customer::CustomerId;
use guestpass_core::event::{ErasureReason, EventStamp, EventType};
use guestpass_core::grant::GrantId;
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;

use super::grants::{self, GRANT_COLUMNS, PROFILE_COLUMNS, key, profile_id};
use super::pool::{Deadline, Failed, Parameter, Pool, TransactionError};
use super::row::{bytes, malformed, value};
use crate::store::{
    CheckReport, EndedBefore, Guest, IdleBefore, IdleGuest, KEEP_MARKS, Lease, Outcome,
    ScannedGrant, ScannedGrants, ScannedGuests, Seen, Unavailable,
};

/// The condition that a grant had ended before `$3` (an orphan: `$4`), or its client or guest is gone.
const ENDED: &str = "
    (least(expires_at, ends_at, coalesce(revoked_at, ends_at))
         < case when generation = 0 and revoked_at is null then $4::bigint else $3::bigint end
     or client_number not in (select client_number from clients)
     or not exists (select 1 from profiles where profiles.profile_id = grants.profile_id))";

pub(super) async fn scan_grants(
    pool: &Pool,
    after: Option<GrantId>,
    before: EndedBefore,
    limit: usize,
) -> Result<ScannedGrants, Unavailable> {
    let sql = format!(
        "select profile_id, grant_id, {ENDED} as ended, {UNINFORMED} as uninformed
           from grants
          where (profile_id, grant_id) > ($1, $2)
          order by profile_id, grant_id limit $5"
    );
    let (profile, random) = after.as_ref().map_or((0, &[][..]), key);
    let (ended, orphaned) = (before.grants.as_millis(), before.orphans.as_millis());
    let rows = pool
        .read(
            &sql,
            &[&profile, &random, &ended, &orphaned, &stored(limit)],
        )
        .await?;
    let scanned: Vec<_> = rows
        .iter()
        .map(|row| {
            Ok(ScannedGrant {
                id: GrantId::new(profile_id(row)?, bytes(row, "grant_id")?),
                has_ended: value(row, "ended")?,
                is_uninformed: value(row, "uninformed")?,
            })
        })
        .collect::<Result<_, Unavailable>>()?;
    Ok(ScannedGrants::of(&scanned, limit))
}

/// The condition that a grant lacks what the shop has said of its guest; false without a guest.
const UNINFORMED: &str = "
    coalesce(grants.version, 0) < coalesce(
        (select version from profiles where profiles.profile_id = grants.profile_id), 0)";

/// Deletes grants that have ended, keeps in mind when their guests were last here, and deletes guests that this leaves without a grant, if none of their grants was ever redeemed:
/// then there was only one. The statement repeats the condition, for the grants may have changed since [`scan_grants`] listed them.
pub(super) async fn remove_ended(
    pool: &Pool,
    ids: &[GrantId],
    before: EndedBefore,
) -> Result<Outcome, Failed> {
    let sql = format!(
        "with gone as (
             delete from grants
              using unnest($1::bigint[], $2::bytea[]) as named (profile_id, grant_id)
              where grants.profile_id = named.profile_id and grants.grant_id = named.grant_id and {ENDED}
             returning grants.profile_id, grants.grant_id, grants.generation, grants.advanced_at),
         seen as (
             update profiles set seen_at = greatest(profiles.seen_at, last.advanced_at)
               from (select profile_id, max(advanced_at) as advanced_at from gone where generation > 0 group by profile_id)
                    as last
              where profiles.profile_id = last.profile_id)
         delete from profiles
          where profile_id in (select profile_id from gone group by profile_id having max(generation) = 0)
            and seen_at is null
            and not exists (
                select 1 from grants
                 where grants.profile_id = profiles.profile_id
                   and grants.grant_id not in (
                       select gone.grant_id from gone where gone.profile_id = profiles.profile_id))"
    );
    let (profiles, randoms): (Vec<_>, Vec<_>) = ids.iter().map(key).unzip();
    let (ended, orphaned) = (before.grants.as_millis(), before.orphans.as_millis());
    pool.run(&sql, &[&profiles, &randoms, &ended, &orphaned])
        .await?;
    Ok(Outcome::Done)
}

pub(super) async fn profile(pool: &Pool, id: ProfileId) -> Result<Option<Guest>, Unavailable> {
    let grants = format!(
        "select {GRANT_COLUMNS} from grants where profile_id = $1 order by issued_at, grant_id"
    );
    let Some(profile) = grants::load_profile(pool, id).await? else {
        return Ok(None);
    };
    let rows = pool.read(&grants, &[&id.as_i64()]).await?;
    Ok(Some(Guest {
        profile,
        grants: rows.iter().map(grants::grant).collect::<Result<_, _>>()?,
    }))
}

pub(super) async fn profiles(
    pool: &Pool,
    columns: &str,
    after: Option<ProfileId>,
    limit: usize,
) -> Result<Vec<Profile>, Unavailable> {
    let sql = format!(
        "select {columns} from profiles where profile_id > $1 order by profile_id limit $2"
    );
    let after = after.map_or(0, ProfileId::as_i64);
    let rows = pool.read(&sql, &[&after, &stored(limit)]).await?;
    rows.iter().map(grants::profile).collect()
}

/// Reads guests as [`profiles`] does, each with the time when it was last here by its grants too.
pub(super) async fn profiles_and_when_seen(
    pool: &Pool,
    after: Option<ProfileId>,
    limit: usize,
) -> Result<Vec<Profile>, Unavailable> {
    profiles(
        pool,
        &PROFILE_COLUMNS.replace("seen_at", SEEN_AT),
        after,
        limit,
    )
    .await
}

/// The time when a guest was last here, by its row and its grants; null if it never had a token.
const SEEN_AT: &str = "
    greatest(seen_at, (
        select max(advanced_at) from grants
         where grants.profile_id = profiles.profile_id and generation > 0)) as seen_at";

pub(super) async fn scan_guests(
    pool: &Pool,
    after: Option<ProfileId>,
    before: IdleBefore,
    limit: usize,
) -> Result<ScannedGuests, Unavailable> {
    let sql = format!(
        "select profile_id, coalesce(seen_at, created_at) as seen_at, customer is not null as is_linked,
                coalesce({IDLE}, false) as is_idle
           from profiles where profile_id > $3 order by profile_id limit $4"
    );
    let (unlinked, linked) = times(before);
    let after = after.map_or(0, ProfileId::as_i64);
    let rows = pool
        .read(&sql, &[&unlinked, &linked, &after, &stored(limit)])
        .await?;
    let scanned: Vec<_> = rows
        .iter()
        .map(|row| {
            let guest = IdleGuest {
                id: profile_id(row)?,
                seen_at: Timestamp::from_millis(value(row, "seen_at")?),
                is_linked: value(row, "is_linked")?,
            };
            Ok((guest, value(row, "is_idle")?))
        })
        .collect::<Result<_, Unavailable>>()?;
    Ok(ScannedGuests::of(&scanned, limit))
}

/// The condition that a guest was last here before `$1`, or `$2` if it is linked, and has no grant.
const IDLE: &str = "
    (coalesce(profiles.seen_at, profiles.created_at)
         < case when profiles.customer is null then $1::bigint else $2::bigint end
     and not exists (select 1 from grants where grants.profile_id = profiles.profile_id))";

/// Deletes guests who haven't come back, with their events but for the one of their end. The statement repeats the condition, for
/// a guest may have changed since [`scan_guests`] listed it.
pub(super) async fn forget_guests(
    pool: &Pool,
    guests: &[(ProfileId, Option<EventStamp>)],
    before: IdleBefore,
) -> Result<Outcome, Failed> {
    let forget = format!(
        "with named as (
             select profile_id, event_id, at
               from unnest($3::bigint[], $4::bytea[], $5::bigint[]) as named (profile_id, event_id, at)),
         forgotten as (
             delete from profiles using named where profiles.profile_id = named.profile_id and {IDLE}
             returning profiles.profile_id, profiles.network_id, profiles.customer, named.event_id, named.at),
         told as (
             delete from events using forgotten
              where events.profile_id = forgotten.profile_id and events.type <> $6::text)
         insert into events (profile_id, event_id, type, at, network_id, customer, reason, next_at)
         select profile_id, event_id, $6::text, at, network_id, customer, $7::text, at
           from forgotten where event_id is not null"
    );
    let (unlinked, linked) = times(before);
    let ids: Vec<_> = guests.iter().map(|(id, _)| id.as_i64()).collect();
    let stamps = || guests.iter().map(|(_, stamp)| stamp.as_ref());
    let events: Vec<_> = stamps()
        .map(|stamp| stamp.map(|stamp| &stamp.id.as_bytes()[..]))
        .collect();
    let times: Vec<_> = stamps()
        .map(|stamp| stamp.map(|stamp| stamp.at.as_millis()))
        .collect();
    let (erased, reason) = (
        EventType::GuestErased.name(),
        ErasureReason::Retention.name(),
    );
    let parameters: [Parameter<'_>; 7] =
        [&unlinked, &linked, &ids, &events, &times, &erased, &reason];
    pool.run(&forget, &parameters).await?;
    Ok(Outcome::Done)
}

fn times(before: IdleBefore) -> (Option<i64>, Option<i64>) {
    let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
    (millis(before.unlinked), millis(before.linked))
}

pub(super) async fn guests_of(
    pool: &Pool,
    customer: &CustomerId,
    after: Option<ProfileId>,
    limit: usize,
) -> Result<Vec<Profile>, Unavailable> {
    let sql = format!(
        "select {PROFILE_COLUMNS} from profiles
          where customer = $1 and profile_id > $2 order by profile_id limit $3"
    );
    let after = after.map_or(0, ProfileId::as_i64);
    let rows = pool
        .read(&sql, &[&customer.as_str(), &after, &stored(limit)])
        .await?;
    rows.iter().map(grants::profile).collect()
}

pub(super) async fn live_grants_idle_since(
    pool: &Pool,
    before: Timestamp,
    now: Timestamp,
) -> Result<u64, Unavailable> {
    const SQL: &str = "
        select count(*) from grants
         where advanced_at < $1 and revoked_at is null and expires_at > $2 and ends_at > $2
           and client_number in (select client_number from clients)";
    let (before, now) = (before.as_millis(), now.as_millis());
    pool.snapshot(Deadline::None, async |transaction| {
        count(&transaction.query_one(SQL, &[&before, &now]).await?)
    })
    .await
}

/// Takes or renews a lease, unless another node holds it at `now`. One twice as far ahead as this one was taken at a wrong
/// clock.
pub(super) async fn hold_lease(
    pool: &Pool,
    lease: Lease,
    node: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Outcome, Failed> {
    const SQL: &str = "
        insert into leases (lease, node, until) values ($1, $2, $4)
        on conflict (lease) do update set node = excluded.node, until = excluded.until
         where leases.node = $2 or leases.until < $3 or leases.until > $4::bigint + ($4 - $3)";
    let (now, until) = (now.as_millis(), until.as_millis());
    let done = pool.run(SQL, &[&lease.name(), &node, &now, &until]).await?;
    Ok(grants::done_if_one(done.written))
}

pub(super) async fn note_time(pool: &Pool, now: Timestamp) -> Result<Outcome, Failed> {
    const SQL: &str = "update installation set seen_at = $1 where seen_at < $1";
    let done = pool.run(SQL, &[&now.as_millis()]).await?;
    Ok(grants::done_if_one(done.written))
}

pub(super) async fn reset_time(pool: &Pool, now: Timestamp) -> Result<Outcome, Failed> {
    const SQL: &str = "update installation set seen_at = $1, time_resets = time_resets + 1";
    let done = pool.run(SQL, &[&now.as_millis()]).await?;
    Ok(grants::done_if_one(done.written))
}

pub(super) async fn seen(pool: &Pool) -> Result<Seen, Unavailable> {
    const SQL: &str = "select seen_at, time_resets from installation";
    let rows = pool.read(SQL, &[]).await?;
    let row = rows.first().ok_or_else(|| malformed("seen_at"))?;
    Ok(Seen {
        at: Seen::known(value(row, "seen_at")?),
        resets: value(row, "time_resets")?,
    })
}

pub(super) async fn insert_mark(
    pool: &Pool,
    node: &str,
    mark: [u8; 16],
    now: Timestamp,
) -> Result<Outcome, Failed> {
    const NEW: &str = "
        insert into journal_marks (mark, node, number, created_at)
        select $1::bytea, $2::text, coalesce(max(number), 0) + 1, $3::bigint from journal_marks where node = $2
        on conflict do nothing";
    const OLD: &str = "
        delete from journal_marks
         where node = $1 and number <= (select max(number) from journal_marks where node = $1) - $2::bigint";
    let now = now.as_millis();
    pool.run(NEW, &[&&mark[..], &node, &now]).await?;
    pool.run(OLD, &[&node, &KEEP_MARKS]).await?;
    Ok(Outcome::Done)
}

pub(super) async fn last_mark(pool: &Pool, node: &str) -> Result<Option<[u8; 16]>, Unavailable> {
    const SQL: &str = "
        select mark from journal_marks where node = $1 order by number desc limit 1";
    let rows = pool.read(SQL, &[&node]).await?;
    rows.first().map(|row| bytes(row, "mark")).transpose()
}

pub(super) async fn has_mark(pool: &Pool, mark: [u8; 16]) -> Result<bool, Unavailable> {
    const SQL: &str = "select true from journal_marks where mark = $1";
    Ok(!pool.read(SQL, &[&&mark[..]]).await?.is_empty())
}

/// Counts guests and grants on one snapshot, and finds no problems: PostgreSQL's own tools check its files, and a grant
/// without its guest is no damage, for an erasure may be under way, and the cleaner removes what one leaves behind.
pub(super) async fn check(pool: &Pool) -> Result<CheckReport, Unavailable> {
    const PROFILES: &str = "select count(*) from profiles";
    const GRANTS: &str = "select count(*) from grants";
    pool.snapshot(Deadline::None, async |transaction| {
        Ok(CheckReport {
            problems: Vec::new(),
            profiles: count(&transaction.query_one(PROFILES, &[]).await?)?,
            grants: count(&transaction.query_one(GRANTS, &[]).await?)?,
        })
    })
    .await
}

fn count(row: &tokio_postgres::Row) -> Result<u64, TransactionError<Unavailable>> {
    let count = row.try_get::<_, i64>(0)?;
    u64::try_from(count).map_err(|_| TransactionError::Aborted(malformed("count")))
}

fn stored(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
