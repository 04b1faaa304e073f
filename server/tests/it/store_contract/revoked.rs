//! Tests what ended before its time: [`guestpass::store::Revoked`], and the writes that it reads of.

use guestpass::store::{Outcome, RevokedAccessToken, RevokedId, RevokedList, Tombstone, Write};
use guestpass_core::grant::{GrantId, Revocation, RevocationReason};
use guestpass_core::profile::ProfileId;
use guestpass_core::time::Timestamp;

use super::{Store, at, guest};

const START: RevokedId = [0; 16];

fn access_token(id: u8, revoked: i64, expires: i64) -> Write {
    Write::RevokeAccessToken(RevokedAccessToken {
        id: [id; 16],
        at: at(revoked),
        expires_at: at(expires),
    })
}

fn tombstone(hash: u8, erased: i64) -> Write {
    Write::InsertTombstone(Tombstone {
        hash: [hash; 16],
        at: at(erased),
    })
}

async fn done(store: &Store, write: Write) {
    assert_eq!(store.write(write).await, Outcome::Done);
}

async fn revoke(store: &Store, grant: GrantId, revoked: i64) {
    let reason = RevocationReason::RevokedByClient;
    let revocation = Revocation {
        at: at(revoked),
        reason,
    };
    done(store, Write::RevokeGrant(grant, revocation, None)).await;
}

async fn after(store: &Store, list: RevokedList, since: Timestamp) -> Vec<(Timestamp, RevokedId)> {
    store
        .revoked
        .revoked_after(list, (since, START), 100)
        .await
        .unwrap()
}

async fn holds(store: &Store, list: RevokedList, id: RevokedId) -> bool {
    store.revoked.is_revoked(list, id).await.unwrap()
}

pub(super) async fn a_revoked_grant_is_listed_and_one_that_is_gone_counts_too(store: &Store) {
    let (live, revoked) = (guest(1), guest(2));
    for one in [&live, &revoked] {
        store.insert(one).await;
    }
    let (live, revoked) = (live.1.id, revoked.1.id);
    revoke(store, revoked, 5).await;
    let grants = RevokedList::Grants;
    assert_eq!(
        after(store, grants, at(0)).await,
        [(at(5), revoked.to_bytes())]
    );
    let absent = GrantId::new(live.profile, [9; 8]);
    for (grant, is_revoked) in [(live, false), (revoked, true), (absent, true)] {
        assert_eq!(holds(store, grants, grant.to_bytes()).await, is_revoked);
        // An id is of one list.
        for list in [RevokedList::AccessTokens, RevokedList::Guests] {
            assert!(!holds(store, list, grant.to_bytes()).await);
        }
    }
}

pub(super) async fn a_revoked_access_token_is_listed_once(store: &Store) {
    let tokens = RevokedList::AccessTokens;
    done(store, access_token(1, 5, 100)).await;
    // The first revocation stands.
    done(store, access_token(1, 6, 200)).await;
    assert_eq!(after(store, tokens, at(0)).await, [(at(5), [1; 16])]);
    assert!(holds(store, tokens, [1; 16]).await);
    assert!(!holds(store, tokens, [2; 16]).await);
    assert!(!holds(store, RevokedList::Guests, [1; 16]).await);
}

pub(super) async fn a_tombstone_moves_forward_and_never_back(store: &Store) {
    let guests = RevokedList::Guests;
    for (erased, stands) in [(5, 5), (9, 9), (7, 9)] {
        done(store, tombstone(1, erased)).await;
        assert_eq!(after(store, guests, at(0)).await, [(at(stands), [1; 16])]);
    }
    assert!(holds(store, guests, [1; 16]).await);
    assert!(!holds(store, guests, [2; 16]).await);
}

pub(super) async fn every_list_is_read_in_parts_without_a_gap(store: &Store) {
    // Several of one moment, not written in their order.
    let written = [(3, 7), (1, 7), (5, 8), (2, 7), (4, 7), (6, 3)];
    for (number, moment) in written {
        let one = guest(number);
        store.insert(&one).await;
        revoke(store, one.1.id, moment).await;
        done(store, access_token(number, moment, 1000)).await;
        done(store, tombstone(number, moment)).await;
    }
    let mut ordered = written;
    ordered.sort_by_key(|(number, moment)| (*moment, *number));
    for list in RevokedList::ALL {
        let id = |number: u8| match list {
            RevokedList::Grants => guest(number).1.id.to_bytes(),
            RevokedList::AccessTokens | RevokedList::Guests => [number; 16],
        };
        let all = ordered.map(|(number, moment)| (at(moment), id(number)));
        for limit in 1..=7 {
            let (mut seen, mut from) = (Vec::new(), (at(0), START));
            loop {
                let part = store
                    .revoked
                    .revoked_after(list, from, limit)
                    .await
                    .unwrap();
                assert!(part.len() <= limit);
                let Some(last) = part.last() else { break };
                from = *last;
                seen.extend(part);
            }
            assert_eq!(seen, all, "{list:?} in parts of {limit}");
        }
        // From a moment on, those of that moment included; and behind an entry.
        assert_eq!(after(store, list, at(7)).await, all[1..]);
        assert_eq!(after(store, list, at(9)).await, []);
        let behind = store
            .revoked
            .revoked_after(list, all[2], 100)
            .await
            .unwrap();
        assert_eq!(behind, all[3..]);
    }
}

pub(super) async fn what_is_forgotten_is_what_nobody_can_ask_about(store: &Store) {
    for number in 1..=3 {
        done(store, access_token(number, 1, i64::from(number) * 10)).await;
        done(store, tombstone(number, i64::from(number) * 100)).await;
    }
    let one = guest(1);
    store.insert(&one).await;
    revoke(store, one.1.id, 1).await;
    done(store, Write::RemoveForgotten(at(20), at(200))).await;
    for (number, kept) in [(1, false), (2, true), (3, true)] {
        for list in [RevokedList::AccessTokens, RevokedList::Guests] {
            assert_eq!(
                holds(store, list, [number; 16]).await,
                kept,
                "{list:?} {number}"
            );
        }
    }
    // Grants have their own end.
    assert_eq!(after(store, RevokedList::Grants, at(0)).await.len(), 1);
    done(store, Write::RemoveForgotten(at(1000), at(1000))).await;
    for list in [RevokedList::AccessTokens, RevokedList::Guests] {
        assert_eq!(after(store, list, at(0)).await, []);
    }
}

pub(super) async fn a_removed_guest_takes_its_grants_and_leaves_its_tombstone(store: &Store) {
    let (erased, other) = (guest(1), guest(2));
    for one in [&erased, &other] {
        store.insert(one).await;
    }
    for (time, expected) in [(5, Outcome::Done), (6, Outcome::Conflict)] {
        let tombstone = Tombstone {
            hash: [1; 16],
            at: at(time),
        };
        let erase = Write::EraseGuest(erased.0.id, tombstone, None);
        assert_eq!(store.write(erase).await, expected);
        assert_eq!(store.counts().await, (1, 1));
    }
    assert_eq!(store.load(erased.1.id).await, None);
    assert!(store.load(other.1.id).await.is_some());
    assert!(holds(store, RevokedList::Guests, [1; 16]).await);
    assert!(holds(store, RevokedList::Grants, erased.1.id.to_bytes()).await);
    let unknown = ProfileId::from_i64(4711).unwrap();
    let tombstone = Tombstone {
        hash: [2; 16],
        at: at(7),
    };
    let erase = Write::EraseGuest(unknown, tombstone, None);
    assert_eq!(store.write(erase).await, Outcome::Conflict);
    assert!(holds(store, RevokedList::Guests, [2; 16]).await);
}

pub(super) async fn what_a_list_lacks_is_told_at_once(store: &Store) {
    let (live, revoked) = (guest(1), guest(2));
    for one in [&live, &revoked] {
        store.insert(one).await;
    }
    revoke(store, revoked.1.id, 5).await;
    done(store, access_token(1, 5, 10)).await;
    done(store, tombstone(1, 5)).await;
    let lacks = async |list, ids: &[RevokedId]| {
        store.revoked.not_revoked(list, ids.to_vec()).await.unwrap()
    };
    // A grant that is gone counts as revoked.
    let ids = [live.1.id, revoked.1.id, guest(3).1.id].map(GrantId::to_bytes);
    assert_eq!(lacks(RevokedList::Grants, &ids).await, [ids[0]]);
    let missing = store.revoked.missing_grants(ids.to_vec()).await.unwrap();
    assert_eq!(missing, [ids[2]]);
    for list in [RevokedList::AccessTokens, RevokedList::Guests] {
        assert_eq!(lacks(list, &[[1; 16], [2; 16]]).await, [[2; 16]]);
        assert!(lacks(list, &[]).await.is_empty());
    }
}

pub(super) async fn tombstones_are_read_with_their_times(store: &Store) {
    let [first, second, third] = [1, 2, 3].map(|number| Tombstone {
        hash: [number; 16],
        at: at(i64::from(number)),
    });
    for tombstone in [first, third] {
        store.write(Write::InsertTombstone(tombstone)).await;
    }
    let hashes = vec![third.hash, second.hash, first.hash];
    let mut found = store.revoked.tombstones(hashes).await.unwrap();
    found.sort_by_key(|tombstone| tombstone.at);
    assert_eq!(found, [first, third]);
    assert_eq!(store.revoked.tombstones(Vec::new()).await.unwrap(), []);
}
