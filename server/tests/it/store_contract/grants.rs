//! The hot path: [`guestpass::store::Grants`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use guestpass::clock::Clock;
use guestpass::store::{Outcome, Redeemed, Redemption, Tombstone, Write};
use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{
    Decision, Generation, Grant, GrantId, MAX_STRIKES, Revocation, RevocationReason,
};
use guestpass_core::pkce::Challenge;
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::time::Timestamp;
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::{BROKEN, NOW, Store, advance, advanced, at, guest};
use crate::support::Database;

pub(super) async fn what_was_never_written_is_not_there(store: &Store) {
    let (profile, grant) = guest(1);
    assert_eq!(store.load(grant.id).await, None);
    store.insert(&(profile.clone(), grant)).await;
    let sibling = GrantId::new(profile.id, [9; 8]);
    assert_eq!(store.load(sibling).await, None);
    assert_eq!(store.load(guest(2).1.id).await, None);
}

pub(super) async fn values_come_back_as_they_were(store: &Store) {
    let lowest = extreme(1, i64::MIN, 0, 0);
    let highest = extreme(i64::MAX, i64::MAX, i64::MAX, 0xff);
    for (profile, grant) in [&guest(1), &lowest, &highest] {
        store.insert(&(profile.clone(), grant.clone())).await;
        assert_eq!(store.load(grant.id).await.as_ref(), Some(grant));
        let found = store.upkeep.profile(profile.id).await.unwrap().unwrap();
        assert_eq!(
            (&found.profile, &found.grants),
            (profile, &vec![grant.clone()])
        );
    }
}

/// A guest that has nothing but the values given.
fn extreme(id: i64, number: i64, generation: i64, byte: u8) -> (Profile, Grant) {
    let time = Timestamp::from_millis(number);
    let profile = Profile {
        id: ProfileId::from_i64(id).unwrap(),
        network_id: NetworkId::from_bytes([byte; 16]),
        client: ClientNumber(number),
        created_at: time,
    };
    let generation = Generation::from_u64(u64::try_from(generation).unwrap());
    let grant = Grant {
        id: GrantId::new(profile.id, [byte; 8]),
        client: profile.client,
        network_id: profile.network_id,
        challenge: Challenge::from_bytes([byte; 32]),
        generation,
        proven: generation,
        strikes: byte,
        issued_at: time,
        advanced_at: time,
        expires_at: time,
        ends_at: time,
        revoked: None,
    };
    (profile, grant)
}

pub(super) async fn a_taken_id_is_a_conflict_and_leaves_nothing(store: &Store) {
    let first = guest(1);
    store.insert(&first).await;
    let second = guest(2);

    let taken_profile = Profile {
        id: first.0.id,
        ..second.0.clone()
    };
    let other_grant = Grant {
        id: GrantId::new(first.0.id, [9; 8]),
        ..second.1.clone()
    };
    let insert = Write::InsertGuest(taken_profile, other_grant.clone());
    assert_eq!(store.write(insert).await, Outcome::Conflict);
    assert_eq!(store.load(other_grant.id).await, None);

    // The profile is free and its grant isn't: neither is written.
    store.insert(&second).await;
    store.lose_profile(&second.0).await;
    let insert = Write::InsertGuest(second.0.clone(), second.1.clone());
    assert_eq!(store.write(insert).await, Outcome::Conflict);
    assert!(store.upkeep.profile(second.0.id).await.unwrap().is_none());
    let remove = Write::RemoveEnded(vec![second.1.id], NOW);
    assert_eq!(store.write(remove).await, Outcome::Done);

    assert_eq!(store.load(first.1.id).await, Some(first.1.clone()));
    let found = store.upkeep.profile(first.0.id).await.unwrap().unwrap();
    assert_eq!(found.profile, first.0);
    assert_eq!(store.counts().await, (1, 1));
}

pub(super) async fn a_credential_advances_its_grant_once(store: &Store) {
    let (profile, code) = guest(1);
    assert!(!store.advance(&code).await, "no such grant");
    assert_eq!(store.load(code.id).await, None);

    store.insert(&(profile, code.clone())).await;
    let first = advanced(&code);
    assert!(store.advance(&code).await);
    assert_eq!(store.load(code.id).await, Some(first.clone()));
    assert!(!store.advance(&code).await, "the code once more");
    assert_eq!(store.load(code.id).await, Some(first.clone()));
    assert!(store.advance(&first).await);
    assert_eq!(store.load(code.id).await, Some(advanced(&first)));
}

pub(super) async fn an_advance_writes_what_a_decision_changes(store: &Store) {
    let lowest = Timestamp::from_millis(i64::MIN);
    let highest = Timestamp::from_millis(i64::MAX);
    let just_before = Timestamp::from_millis(i64::MAX - 1);
    for (number, now) in [(1, lowest), (2, just_before)] {
        let (profile, mut code) = guest(number);
        code.ends_at = highest;
        store.insert(&(profile, code.clone())).await;
        // A restored row catches up with a credential that is far ahead of it.
        let ahead = Generation::from_u64(u64::try_from(i64::MAX - 1).unwrap());
        let redeemed = store.refresh(&code, ahead, now).await.unwrap();
        let Decision::Advance(next) = redeemed.decision else {
            panic!("{redeemed:?}");
        };
        assert_eq!(
            (next.generation, next.proven, next.advanced_at),
            (ahead.next(), ahead, now)
        );
        assert_eq!(next.expires_at == highest, now == just_before);
        assert_eq!(store.load(code.id).await, Some(next));
    }
}

/// What a decision rests on changes between the read and the write, if the store lets it: whoever was overtaken decides
/// once more. Redemptions that come together are written in another way than one that comes alone.
pub(super) async fn nothing_is_written_over_what_others_wrote_since_the_read(store: &Store) {
    const TOGETHER: u8 = 3;
    let changes = [
        "revoked_at = 0, revocation_reason = 'contested'",
        "generation = generation + 1",
        "strikes = 5",
    ];
    let mut numbers = 1..;
    for change in changes {
        for together in [1, TOGETHER] {
            let guests: Vec<_> = numbers.by_ref().take(together.into()).map(guest).collect();
            for guest in &guests {
                store.insert(guest).await;
            }
            let clock = Arc::new(Meddler::new(store, change, &guests));
            let redemptions = guests.iter().map(|(_, code)| {
                store.grants.redeem(Redemption {
                    clock: clock.clone(),
                    ..advance(code)
                })
            });
            let redeemed = join_all(redemptions).await;
            let was_kept_out = !clock.has_changed.load(Ordering::SeqCst);
            for ((_, code), redeemed) in guests.iter().zip(redeemed) {
                let redeemed = redeemed.unwrap().unwrap();
                let advances = matches!(redeemed.decision, Decision::Advance(_));
                assert_eq!(advances, was_kept_out, "{change}: {redeemed:?}");
                let stored = store.load(code.id).await.unwrap();
                assert_eq!(
                    stored == advanced(code),
                    was_kept_out,
                    "{change}: {stored:?}"
                );
            }
        }
    }
}

/// A clock that is asked between the read and the write, and then has another process change the rows, once.
struct Meddler {
    database: Database,
    sql: String,
    is_done: AtomicBool,
    /// Whether the store let the other process in.
    has_changed: AtomicBool,
}

impl Meddler {
    fn new(store: &Store, change: &str, guests: &[(Profile, Grant)]) -> Self {
        let ids = guests
            .iter()
            .map(|(profile, _)| profile.id.as_i64().to_string());
        let ids = ids.collect::<Vec<_>>().join(", ");
        Self {
            database: store.database.clone(),
            sql: format!("update grants set {change} where profile_id in ({ids})"),
            is_done: AtomicBool::new(false),
            has_changed: AtomicBool::new(false),
        }
    }

    /// Changes the rows, unless they are locked.
    fn change(&self) -> bool {
        let url = self.database.url();
        match self.database {
            Database::Sqlite(_) => {
                let file = url.strip_prefix("sqlite:").unwrap();
                let connection = rusqlite::Connection::open(file).unwrap();
                connection.busy_timeout(Duration::ZERO).unwrap();
                connection.execute_batch(&self.sql).is_ok()
            }
            // On a runtime of its own: whoever asks the clock blocks the test's.
            Database::Postgres(_) => std::thread::scope(|scope| {
                let changed = async {
                    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                    tokio::spawn(connection);
                    client.batch_execute(&self.sql).await.is_ok()
                };
                let thread = scope.spawn(|| Runtime::new().unwrap().block_on(changed));
                thread.join().unwrap()
            }),
        }
    }
}

impl Clock for Meddler {
    fn now(&self) -> Timestamp {
        if !self.is_done.swap(true, Ordering::SeqCst) {
            self.has_changed.store(self.change(), Ordering::SeqCst);
        }
        at(1_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub(super) async fn a_revoked_grant_does_not_advance(store: &Store) {
    for (number, steps) in [(1, 0), (2, 1)] {
        let (profile, mut grant) = guest(number);
        store.insert(&(profile, grant.clone())).await;
        for _ in 0..steps {
            assert!(store.advance(&grant).await);
            grant = advanced(&grant);
        }
        let revoked = Revocation {
            at: at(1),
            reason: RevocationReason::Contested,
        };
        store.write(Write::RevokeGrant(grant.id, revoked)).await;
        assert!(!store.advance(&grant).await, "after {steps} steps");
        let stored = store.load(grant.id).await;
        assert_eq!(
            stored,
            Some(Grant {
                revoked: Some(revoked),
                ..grant
            })
        );
    }
}

pub(super) async fn a_code_that_was_guessed_at_does_not_advance(store: &Store) {
    for strikes in [MAX_STRIKES - 1, MAX_STRIKES, MAX_STRIKES + 1] {
        let (profile, code) = guest(strikes);
        store.insert(&(profile, code.clone())).await;
        for strike in 1..=strikes {
            assert_eq!(store.strike(&code).await, strike <= MAX_STRIKES);
        }
        let has_advanced = store.advance(&code).await;
        assert_eq!(has_advanced, strikes < MAX_STRIKES, "{strikes} strikes");
    }
    // Once it is redeemed, its strikes are of the past.
    let (profile, mut grant) = guest(99);
    (grant.strikes, grant.generation) = (MAX_STRIKES, Generation::CODE.next());
    store.insert(&(profile, grant.clone())).await;
    assert!(store.advance(&grant).await);
}

pub(super) async fn strikes_count_while_the_code_is_outstanding(store: &Store) {
    let (profile, code) = guest(1);
    assert!(!store.strike(&code).await);
    assert_eq!(store.load(code.id).await, None);

    store.insert(&(profile, code.clone())).await;
    for strikes in 1..=3 {
        assert!(store.strike(&code).await);
        let struck = Grant {
            strikes,
            ..code.clone()
        };
        assert_eq!(store.load(code.id).await, Some(struck));
    }
    assert!(store.advance(&code).await);
    assert!(!store.strike(&code).await);
    let redeemed = Grant {
        strikes: 3,
        ..advanced(&code)
    };
    assert_eq!(store.load(code.id).await, Some(redeemed));

    let (profile, mut dead) = guest(2);
    dead.strikes = u8::MAX;
    store.insert(&(profile, dead.clone())).await;
    assert!(!store.strike(&dead).await);
    assert_eq!(
        store.load(dead.id).await,
        Some(dead),
        "there is no more to count"
    );
}

pub(super) async fn of_many_wrong_verifiers_at_once_no_more_are_judged_than_the_limit(
    store: &Store,
) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    let strikes = (0..40).map(|_| store.strike(&code));
    let judged = join_all(strikes).await;
    let judged = judged.into_iter().filter(|was_judged| *was_judged).count();
    assert_eq!(judged, usize::from(MAX_STRIKES));
    let strikes = store.load(code.id).await.unwrap().strikes;
    assert_eq!(strikes, MAX_STRIKES);
}

pub(super) async fn the_first_revocation_stands(store: &Store) {
    let reasons = [
        RevocationReason::CodeReplayed,
        RevocationReason::Contested,
        RevocationReason::RefreshTokenReplayed,
        RevocationReason::RetriedLate,
    ];
    for (number, reason) in (1..).zip(reasons) {
        let (profile, grant) = guest(number);
        let first = Revocation {
            at: at(i64::from(number)),
            reason,
        };
        let write = Write::RevokeGrant(grant.id, first);
        assert_eq!(
            store.write(write.clone()).await,
            Outcome::Conflict,
            "no such grant"
        );
        assert_eq!(store.load(grant.id).await, None);

        store.insert(&(profile, grant.clone())).await;
        let second = Revocation {
            at: NOW,
            reason: reasons[usize::from(number) % reasons.len()],
        };
        let again = Write::RevokeGrant(grant.id, second);
        for (write, outcome) in [(write, Outcome::Done), (again, Outcome::Conflict)] {
            assert_eq!(store.write(write).await, outcome);
            let stored = store.load(grant.id).await;
            assert_eq!(
                stored,
                Some(Grant {
                    revoked: Some(first),
                    ..grant.clone()
                })
            );
        }
    }
}

pub(super) async fn of_many_exchanges_of_a_code_one_advances(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    let (mut advances, mut replays) = (0, 0);
    for redeemed in join_all((0..50).map(|_| store.grants.redeem(advance(&code)))).await {
        match redeemed.unwrap().unwrap().decision {
            Decision::Advance(_) => advances += 1,
            Decision::Revoke(..) => replays += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((advances, replays), (1, 49));
    assert_eq!(store.load(code.id).await, Some(advanced(&code)));
}

pub(super) async fn a_redemption_is_decided_on_the_row_and_written(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    assert!(store.advance(&code).await);
    let before = advanced(&code);
    let now = at(2_000);
    let redeemed = store
        .refresh(&before, before.generation, now)
        .await
        .unwrap();
    assert_eq!((&redeemed.read, redeemed.at), (&before, now));
    let Decision::Advance(after) = redeemed.decision else {
        panic!("{redeemed:?}");
    };
    assert_eq!(
        (after.generation, after.proven, after.advanced_at),
        (before.generation.next(), before.generation, now)
    );
    assert_eq!(store.load(code.id).await, Some(after));
    assert!(
        store
            .refresh(&guest(2).1, Generation::CODE.next(), now)
            .await
            .is_none()
    );
}

pub(super) async fn a_redemption_that_is_refused_changes_nothing(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    assert!(store.advance(&code).await);
    let grant = advanced(&code);
    let other_client = Grant {
        client: ClientNumber(2),
        ..grant.clone()
    };
    let first = grant.generation;
    let refused = [
        store.refresh(&other_client, first, at(2_000)).await,
        store.refresh(&grant, first, at(500_000)).await,
        store
            .refresh(&grant, Generation::CODE, at(500_000_000))
            .await,
    ];
    for redeemed in refused {
        let redeemed = redeemed.unwrap();
        assert!(
            matches!(redeemed.decision, Decision::Refuse(_)),
            "{redeemed:?}"
        );
    }
    assert_eq!(store.load(code.id).await, Some(grant));
}

pub(super) async fn of_many_redemptions_one_advances_and_the_others_repeat(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    assert!(store.advance(&code).await);
    let grant = advanced(&code);
    let all = (0..50).map(|_| store.refresh(&grant, grant.generation, at(2_000)));
    let (mut advances, mut repeats) = (0, 0);
    for redeemed in join_all(all).await {
        match redeemed.unwrap().decision {
            Decision::Advance(_) => advances += 1,
            Decision::Repeat => repeats += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((advances, repeats), (1, 49));
    let stored = store.load(code.id).await.unwrap();
    assert_eq!(stored.generation, grant.generation.next());
}

pub(super) async fn redemptions_at_once_are_decided_on_their_own_rows(store: &Store) {
    let [first, gone, foreign, old, second] = [1, 2, 3, 4, 5].map(|number| guest(number).1);
    for number in [1, 3, 4, 5] {
        let (profile, code) = guest(number);
        store.insert(&(profile, code.clone())).await;
        assert!(store.advance(&code).await);
    }
    let stolen = Grant {
        client: ClientNumber(2),
        ..foreign.clone()
    };
    let newest = Generation::CODE.next();
    // Each twice: whichever is second finds what the first has made of the row.
    let asked = [
        (&second, newest, ["advance", "repeat"]),
        (&gone, newest, ["gone", "gone"]),
        (&stolen, newest, ["refuse", "refuse"]),
        (&old, Generation::CODE, ["reissue", "repeat"]),
        (&first, newest, ["advance", "repeat"]),
    ];
    let twice = asked.iter().chain(&asked);
    let twice = twice.map(|(grant, presented, _)| store.refresh(grant, *presented, at(300_000)));
    let redeemed = join_all(twice).await;
    let (one, other) = redeemed.split_at(asked.len());
    for (((grant, _, expected), one), other) in asked.iter().zip(one).zip(other) {
        let mut decided = [one, other].map(|redeemed| decided(grant, redeemed.as_ref()));
        decided.sort_unstable();
        assert_eq!(decided, *expected, "{one:?} {other:?}");
    }
    for (grant, steps) in [(&first, 2), (&second, 2), (&old, 2), (&foreign, 1)] {
        let stored = store.load(grant.id).await.unwrap();
        assert_eq!(stored.generation.as_u64(), steps);
    }
}

fn decided(grant: &Grant, redeemed: Option<&Redeemed>) -> &'static str {
    let Some(redeemed) = redeemed else {
        return "gone";
    };
    assert_eq!(redeemed.read.id, grant.id);
    match &redeemed.decision {
        Decision::Advance(_) => "advance",
        Decision::Reissue(_) => "reissue",
        Decision::Repeat => "repeat",
        Decision::Refuse(_) => "refuse",
        other => panic!("{other:?}"),
    }
}

pub(super) async fn a_row_that_cannot_be_read_leaves_the_others_of_its_batch_alone(store: &Store) {
    let grants = [1, 2, 3].map(|number| guest(number).1);
    for number in [1, 2, 3] {
        let (profile, code) = guest(number);
        store.insert(&(profile, code.clone())).await;
        assert!(store.advance(&code).await);
    }
    let id = grants[1].id.profile.as_i64();
    let damage = format!("update grants set strikes = 256 where profile_id = {id}");
    store.database.sql(&damage).await;
    let newest = Generation::CODE.next();
    let all = grants
        .iter()
        .map(|grant| store.try_refresh(grant, newest, at(2_000)));
    let redeemed = join_all(all).await;
    assert!(redeemed[1].is_err(), "{:?}", redeemed[1]);
    for redeemed in [&redeemed[0], &redeemed[2]] {
        let redeemed = redeemed.as_ref().unwrap().as_ref().unwrap();
        assert!(
            matches!(redeemed.decision, Decision::Advance(_)),
            "{redeemed:?}"
        );
    }
}

pub(super) async fn a_decision_that_panics_leaves_the_others_of_its_batch_alone(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    assert!(store.advance(&code).await);
    let grant = advanced(&code);
    let refresh = |now| store.try_refresh(&grant, grant.generation, now);
    let all = (0..20).map(|number| refresh(if number % 2 == 0 { BROKEN } else { at(2_000) }));
    for (number, redeemed) in join_all(all).await.into_iter().enumerate() {
        assert_eq!(redeemed.is_err(), number % 2 == 0, "{number}: {redeemed:?}");
    }
    let stored = store.load(code.id).await.unwrap();
    assert_eq!(stored.generation, grant.generation.next());
}

pub(super) async fn a_write_that_fails_leaves_the_others_of_its_batch_alone(store: &Store) {
    let [known, other, new, half_taken] = [1, 2, 3, 4].map(guest);
    for guest in [&known, &other, &half_taken] {
        store.insert(guest).await;
    }
    store.lose_profile(&half_taken.0).await;
    let insert =
        |profile: &Profile, grant: &Grant| Write::InsertGuest(profile.clone(), grant.clone());
    let revocation = Revocation {
        at: NOW,
        reason: RevocationReason::Contested,
    };
    let batch = [
        (Write::RevokeGrant(known.1.id, revocation), Outcome::Done),
        (insert(&known.0, &new.1), Outcome::Conflict),
        (insert(&half_taken.0, &half_taken.1), Outcome::Conflict),
        (insert(&new.0, &new.1), Outcome::Done),
        (Write::InsertGrant(known.1.clone()), Outcome::Conflict),
        (Write::RevokeGrant(other.1.id, revocation), Outcome::Done),
    ];
    let (writes, expected): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    assert_eq!(all_at_once(store, writes).await, expected);

    assert_eq!(
        store.load(known.1.id).await,
        Some(Grant {
            revoked: Some(revocation),
            ..known.1
        })
    );
    assert_eq!(
        store.load(other.1.id).await,
        Some(Grant {
            revoked: Some(revocation),
            ..other.1
        })
    );
    assert_eq!(store.load(new.1.id).await, Some(new.1));
    let remove = Write::RemoveEnded(vec![half_taken.1.id], NOW);
    assert_eq!(store.write(remove).await, Outcome::Done);
    assert_eq!(store.counts().await, (3, 3));
}

/// Gives the store all of these while it can carry out none of them, then lets it.
async fn all_at_once(store: &Store, writes: Vec<Write>) -> Vec<Outcome> {
    let held = store.database.hold_writes().await;
    let begin = |write| {
        let grants = Arc::clone(&store.grants);
        tokio::spawn(async move { grants.write(write).await.unwrap() })
    };
    let begun: Vec<_> = writes.into_iter().map(begin).collect();
    tokio::task::yield_now().await;
    drop(held);
    let mut outcomes = Vec::new();
    for write in begun {
        outcomes.push(write.await.unwrap());
    }
    outcomes
}

pub(super) async fn one_more_grant_needs_its_guest(store: &Store) {
    let (profile, first) = guest(1);
    let more = Grant {
        id: GrantId::new(profile.id, [77; 8]),
        ..first.clone()
    };
    let insert = || Write::InsertGrant(more.clone());
    assert_eq!(store.write(insert()).await, Outcome::Conflict);
    assert_eq!(store.counts().await, (0, 0));
    store.insert(&(profile.clone(), first.clone())).await;
    assert_eq!(store.write(insert()).await, Outcome::Done);
    assert_eq!(store.load(more.id).await, Some(more.clone()));
    assert_eq!(store.load(first.id).await, Some(first));
    assert_eq!(store.counts().await, (1, 2));
    // Erased between the caller's read and this.
    let tombstone = Tombstone {
        hash: [1; 16],
        at: NOW,
    };
    let erase = Write::EraseGuest(profile.id, tombstone);
    assert_eq!(store.write(erase).await, Outcome::Done);
    assert_eq!(store.write(insert()).await, Outcome::Conflict);
    assert_eq!(store.counts().await, (0, 0));
}

/// Ids of guests that follow each other are what a store might take for other numbers of its own.
pub(super) async fn the_grants_of_neighbours_are_told_apart(store: &Store) {
    let mut grants = Vec::new();
    for (profile, first) in [1, 2, 3].map(guest) {
        store.insert(&(profile, first.clone())).await;
        let further = [8, 9].map(|byte| Grant {
            id: GrantId::new(first.id.profile, [byte; 8]),
            ..first.clone()
        });
        for grant in &further {
            let insert = Write::InsertGrant(grant.clone());
            assert_eq!(store.write(insert).await, Outcome::Done);
        }
        grants.push(first);
        grants.extend(further);
    }
    assert_eq!(stored(store, &grants).await, grants);

    let revocation = Revocation {
        at: NOW,
        reason: RevocationReason::Contested,
    };
    for (number, grant) in grants.iter_mut().enumerate() {
        match number % 4 {
            0 | 1 => {
                assert!(store.advance(grant).await);
                *grant = advanced(grant);
            }
            2 => {
                assert!(store.strike(grant).await);
                grant.strikes += 1;
            }
            _ => {
                let revoke = Write::RevokeGrant(grant.id, revocation);
                assert_eq!(store.write(revoke).await, Outcome::Done);
                grant.revoked = Some(revocation);
            }
        }
    }
    assert_eq!(stored(store, &grants).await, grants);
    for number in [0, 1, 4, 5, 8] {
        let (grant, now) = (&mut grants[number], at(2_000));
        let redeemed = store.refresh(grant, grant.generation, now).await.unwrap();
        assert_eq!(redeemed.read, *grant, "{number}");
        let Decision::Advance(next) = redeemed.decision else {
            panic!("{number}: {redeemed:?}")
        };
        *grant = next;
    }
    assert_eq!(stored(store, &grants).await, grants);

    let ended = at(1_000_001);
    let part = store.upkeep.ended_grants(None, ended, 100).await.unwrap();
    let ids: Vec<_> = grants.iter().map(|grant| grant.id).collect();
    assert_eq!(part.ended, ids);
    let remove = Write::RemoveEnded(ids[3..6].to_vec(), ended);
    assert_eq!(store.write(remove).await, Outcome::Done);
    let tombstone = Tombstone {
        hash: [1; 16],
        at: NOW,
    };
    let erase = Write::EraseGuest(ids[6].profile, tombstone);
    assert_eq!(store.write(erase).await, Outcome::Done);
    assert_eq!(stored(store, &grants).await, grants[..3]);
}

/// Those of them that there are, as they are.
async fn stored(store: &Store, grants: &[Grant]) -> Vec<Grant> {
    let mut stored = Vec::new();
    for grant in grants {
        stored.extend(store.load(grant.id).await);
    }
    stored
}
