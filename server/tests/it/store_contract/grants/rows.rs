//! The rows of guests and grants.

use guestpass::store::{EndedBefore, Outcome, Tombstone, Write};
use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Decision, Generation, Grant, GrantId, Revocation, RevocationReason};
use guestpass_core::pkce::Challenge;
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::time::Timestamp;

use crate::store_contract::{NOW, Store, advanced, at, guest};

pub(crate) async fn what_was_never_written_is_not_there(store: &Store) {
    let (profile, grant) = guest(1);
    assert_eq!(store.load(grant.id).await, None);
    store.insert(&(profile.clone(), grant)).await;
    let sibling = GrantId::new(profile.id, [9; 8]);
    assert_eq!(store.load(sibling).await, None);
    assert_eq!(store.load(guest(2).1.id).await, None);
}

pub(crate) async fn values_come_back_as_they_were(store: &Store) {
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
    let profile = Profile::new(
        ProfileId::from_i64(id).unwrap(),
        NetworkId::from_bytes([byte; 16]),
        ClientNumber(number),
        time,
    );
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
        copied: None,
    };
    (profile, grant)
}

pub(crate) async fn a_taken_id_is_a_conflict_and_leaves_nothing(store: &Store) {
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
    let remove = Write::RemoveEnded(vec![second.1.id], EndedBefore::all(NOW));
    assert_eq!(store.write(remove).await, Outcome::Done);

    assert_eq!(store.load(first.1.id).await, Some(first.1.clone()));
    let found = store.upkeep.profile(first.0.id).await.unwrap().unwrap();
    assert_eq!(found.profile, first.0);
    assert_eq!(store.counts().await, (1, 1));
}

pub(crate) async fn one_more_grant_needs_its_guest(store: &Store) {
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
    let erase = Write::EraseGuest(profile.id, tombstone, None);
    assert_eq!(store.write(erase).await, Outcome::Done);
    assert_eq!(store.write(insert()).await, Outcome::Conflict);
    assert_eq!(store.counts().await, (0, 0));
}

/// Ids of guests that follow each other are what a store might take for other numbers of its own.
pub(crate) async fn the_grants_of_neighbours_are_told_apart(store: &Store) {
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
                let revoke = Write::RevokeGrant(grant.id, revocation, None);
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
    let part = store
        .upkeep
        .scan_grants(None, EndedBefore::all(ended), 100)
        .await
        .unwrap();
    let ids: Vec<_> = grants.iter().map(|grant| grant.id).collect();
    assert_eq!(part.ended, ids);
    let remove = Write::RemoveEnded(ids[3..6].to_vec(), EndedBefore::all(ended));
    assert_eq!(store.write(remove).await, Outcome::Done);
    let tombstone = Tombstone {
        hash: [1; 16],
        at: NOW,
    };
    let erase = Write::EraseGuest(ids[6].profile, tombstone, None);
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
