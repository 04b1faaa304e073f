//! Cleaning, looking and erasing: [`guestpass::store::Upkeep`], and the removal that belongs to it.

use guestpass::store::{EndedBefore, Outcome, RevokedList, Tombstone, Write};
use guestpass_core::client::Change;
use guestpass_core::grant::{Grant, GrantId, Revocation, RevocationReason};
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;

use super::{NOW, Store, advanced, at, guest};

pub(super) async fn the_walk_sees_every_grant_once(store: &Store) {
    let guests: Vec<_> = (0..7).map(guest).collect();
    // Not in the order of keys.
    for at in [3, 0, 6, 1, 5, 2, 4] {
        store.insert(&guests[at]).await;
    }
    let all: Vec<GrantId> = guests.iter().map(|(_, grant)| grant.id).collect();
    for limit in [1, 2, 3, 6, 7, 8] {
        let (mut seen, mut after) = (Vec::new(), None);
        for _ in 0..=guests.len() + 1 {
            let part = store
                .upkeep
                .scan_grants(after, EndedBefore::all(at(60_001)), limit)
                .await
                .unwrap();
            assert!(part.ended.len() <= limit);
            seen.extend(part.ended);
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((seen, after), (all.clone(), None), "in parts of {limit}");
    }
}

pub(super) async fn a_grant_has_ended_by_the_first_of_its_ends(store: &Store) {
    store.add_the_client().await;
    // When it expires, ends and was revoked; when it had ended.
    let rows = [
        (10, 20, None, 10),
        (20, 10, None, 10),
        (10, 10, None, 10),
        (20, 20, Some(10), 10),
        (10, 20, Some(20), 10),
        (20, 10, Some(30), 10),
    ];
    for (number, (expires, ends, revoked, ended)) in (1..).zip(rows) {
        let (profile, mut grant) = guest(number);
        (grant.expires_at, grant.ends_at) = (at(expires), at(ends));
        store.insert(&(profile, grant.clone())).await;
        if let Some(revoked) = revoked {
            revoke(store, grant.id, at(revoked)).await;
        }
        for (before, has_ended) in [(at(ended), false), (at(ended + 1), true)] {
            let part = store
                .upkeep
                .scan_grants(None, EndedBefore::all(before), 100)
                .await
                .unwrap();
            let found = part.ended.contains(&grant.id);
            assert_eq!(found, has_ended, "row {number}, before {before:?}");
            // What is removed is what was found.
            let remove = Write::RemoveEnded(vec![grant.id], EndedBefore::all(before));
            assert_eq!(store.write(remove).await, Outcome::Done);
            assert_eq!(
                store.load(grant.id).await.is_none(),
                has_ended,
                "row {number}"
            );
        }
    }
}

pub(super) async fn an_orphan_has_an_end_of_its_own(store: &Store) {
    store.add_the_client().await;
    let [orphan, revoked, redeemed] = [1, 2, 3].map(guest);
    for guest in [&orphan, &revoked, &redeemed] {
        store.insert(guest).await;
    }
    // As after a restore: its row is older than its tokens, and says that they have ended.
    revoke(store, revoked.1.id, NOW).await;
    assert!(store.advance(&redeemed.1).await);
    let later = at(1_000_000_000_000);
    let all = [&orphan, &revoked, &redeemed].map(|(_, grant)| grant.id);
    for (grants, orphans, ended, left) in [(NOW, later, &all[..1], 2), (later, NOW, &all[1..], 0)] {
        let before = EndedBefore { grants, orphans };
        let part = store.upkeep.scan_grants(None, before, 100).await.unwrap();
        assert_eq!(part.ended, ended);
        let remove = Write::RemoveEnded(all.to_vec(), before);
        assert_eq!(store.write(remove).await, Outcome::Done);
        assert_eq!(store.counts().await.1, left);
    }
}

pub(super) async fn a_grant_ends_with_its_client(store: &Store) {
    let id = store.add_the_client().await;
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    for (ended, grants) in [(vec![], 1), (vec![code.id], 0)] {
        let part = store
            .upkeep
            .scan_grants(None, EndedBefore::all(NOW), 100)
            .await
            .unwrap();
        assert_eq!(part.ended, ended);
        let remove = Write::RemoveEnded(vec![code.id], EndedBefore::all(NOW));
        assert_eq!(store.write(remove).await, Outcome::Done);
        assert_eq!(store.counts().await.1, grants);
        // The second time there is none to remove.
        let _ = store
            .registry
            .change(Change::RemoveClient(id.clone()))
            .await;
    }
}

pub(super) async fn a_removal_looks_again(store: &Store) {
    store.add_the_client().await;
    let (profile, code) = guest(1);
    store.insert(&(profile.clone(), code.clone())).await;
    let before = at(60_001);
    let part = store
        .upkeep
        .scan_grants(None, EndedBefore::all(before), 100)
        .await
        .unwrap();
    assert_eq!(part.ended, [code.id]);
    // Another node, whose clock is behind, redeems the code meanwhile.
    assert!(store.advance(&code).await);
    assert_eq!(
        store
            .write(Write::RemoveEnded(part.ended, EndedBefore::all(before)))
            .await,
        Outcome::Done
    );
    assert_eq!(store.load(code.id).await, Some(advanced(&code)));
    assert!(store.upkeep.profile(profile.id).await.unwrap().is_some());
}

pub(super) async fn an_orphan_goes_with_its_grant_and_a_redeemed_guest_stays(store: &Store) {
    let [orphan, guessed, redeemed] = [1, 2, 3].map(guest);
    for guest in [&orphan, &guessed, &redeemed] {
        store.insert(guest).await;
    }
    revoke(store, guessed.1.id, NOW).await;
    assert!(store.advance(&redeemed.1).await);
    let all = [&orphan, &guessed, &redeemed].map(|(_, grant)| grant.id);
    let remove = Write::RemoveEnded(all.to_vec(), EndedBefore::all(at(1_000_000)));
    assert_eq!(store.write(remove).await, Outcome::Done);
    assert_eq!(store.counts().await, (1, 0));
    let found = store.upkeep.profile(redeemed.0.id).await.unwrap().unwrap();
    let seen = Profile {
        seen_at: Some(at(1_000)),
        ..redeemed.0
    };
    assert_eq!((found.profile, found.grants), (seen, vec![]));
}

pub(super) async fn a_removal_takes_what_it_names_and_no_more(store: &Store) {
    let guests: Vec<_> = (1..=4).map(guest).collect();
    for guest in &guests {
        store.insert(guest).await;
    }
    let (first, third) = (guests[0].1.id, guests[2].1.id);
    let absent = GrantId::new(guests[1].0.id, [9; 8]);
    let named = vec![first, absent, third, first];
    let remove = Write::RemoveEnded(named, EndedBefore::all(at(1_000_000)));
    assert_eq!(store.write(remove).await, Outcome::Done);
    assert_eq!(
        store
            .write(Write::RemoveEnded(
                Vec::new(),
                EndedBefore::all(at(1_000_000))
            ))
            .await,
        Outcome::Done
    );
    for (at, (profile, grant)) in guests.iter().enumerate() {
        let stays = at % 2 == 1;
        assert_eq!(store.load(grant.id).await.is_some(), stays, "{at}");
        assert_eq!(
            store.upkeep.profile(profile.id).await.unwrap().is_some(),
            stays,
            "{at}"
        );
    }
}

pub(super) async fn a_guest_is_shown_with_its_grants(store: &Store) {
    let (profile, grant) = guest(1);
    assert!(store.upkeep.profile(profile.id).await.unwrap().is_none());
    store.insert(&(profile.clone(), grant.clone())).await;
    store.insert(&guest(2)).await;
    revoke(store, grant.id, at(5)).await;
    let found = store.upkeep.profile(profile.id).await.unwrap().unwrap();
    let revoked = store.load(grant.id).await.unwrap();
    assert!(revoked.revoked.is_some());
    assert_eq!(
        (found.profile, found.grants),
        (profile.clone(), vec![revoked.clone()])
    );

    // The oldest first and, of those of one moment, in the order of their ids.
    let more = [(9, NOW), (8, NOW), (0, at(1)), (7, at(-1))].map(|(random, issued_at)| Grant {
        id: GrantId::new(profile.id, [random; 8]),
        issued_at,
        ..grant.clone()
    });
    for grant in &more {
        let insert = Write::InsertGrant(grant.clone());
        assert_eq!(store.write(insert).await, Outcome::Done);
    }
    let [ninth, eighth, later, earlier] = more;
    let found = store.upkeep.profile(profile.id).await.unwrap().unwrap();
    assert_eq!(found.grants, [earlier, revoked, eighth, ninth, later]);
}

pub(super) async fn a_mark_may_be_kept_twice(store: &Store) {
    let mark = [1; 16];
    assert!(!store.upkeep.has_mark(mark).await.unwrap());
    assert_eq!(store.upkeep.last_mark("a").await.unwrap(), None);
    for _ in 0..2 {
        let insert = Write::InsertMark("a".to_owned(), mark, NOW);
        assert_eq!(store.write(insert).await, Outcome::Done);
        assert!(store.upkeep.has_mark(mark).await.unwrap());
        assert_eq!(store.upkeep.last_mark("a").await.unwrap(), Some(mark));
    }
    assert_eq!(store.upkeep.last_mark("b").await.unwrap(), None);
    // Whatever the clock said when they were made, the last one is the last one.
    for (mark, at) in [([2; 16], at(1_000_000)), ([3; 16], at(-1_000_000))] {
        let insert = Write::InsertMark("a".to_owned(), mark, at);
        assert_eq!(store.write(insert).await, Outcome::Done);
        assert_eq!(store.upkeep.last_mark("a").await.unwrap(), Some(mark));
        assert!(store.upkeep.has_mark([1; 16]).await.unwrap());
    }
}

pub(super) async fn an_erased_guest_is_gone_and_the_others_stay(store: &Store) {
    let guests = [1, 2, 3].map(guest);
    for guest in &guests {
        store.insert(guest).await;
    }
    let (profile, grant) = &guests[1];
    let tombstone = Tombstone {
        hash: [7; 16],
        at: at(1),
    };
    let erased = store
        .write(Write::EraseGuest(profile.id, tombstone, None))
        .await;
    assert_eq!(erased, Outcome::Done);
    let is_known = store.revoked.is_revoked(RevokedList::Guests, [7; 16]);
    assert!(is_known.await.unwrap());
    assert!(store.upkeep.profile(profile.id).await.unwrap().is_none());
    assert_eq!(store.load(grant.id).await, None);
    assert!(!store.advance(grant).await, "it can't be redeemed");
    assert_eq!(store.counts().await, (2, 2));

    for id in [profile.id, ProfileId::from_i64(i64::MAX).unwrap()] {
        let erased = store.write(Write::EraseGuest(id, tombstone, None)).await;
        assert_eq!(erased, Outcome::Conflict, "again, and nothing to remove");
    }
    assert_eq!(store.counts().await, (2, 2));
}

pub(super) async fn the_check_counts_and_finds_nothing_wrong(store: &Store) {
    assert_eq!(store.counts().await, (0, 0));
    for number in 1..=3 {
        store.insert(&guest(number)).await;
    }
    let redeemed = guest(3).1;
    assert!(store.advance(&redeemed).await);
    revoke(store, redeemed.id, NOW).await;
    assert_eq!(store.counts().await, (3, 3), "ended ones count");
    let remove = Write::RemoveEnded(vec![redeemed.id], EndedBefore::all(at(1)));
    assert_eq!(store.write(remove).await, Outcome::Done);
    assert_eq!(store.counts().await, (3, 2));
}

async fn revoke(store: &Store, id: GrantId, at: Timestamp) {
    let revocation = Revocation {
        at,
        reason: RevocationReason::Contested,
    };
    assert_eq!(
        store.write(Write::RevokeGrant(id, revocation, None)).await,
        Outcome::Done
    );
}

pub(super) async fn all_guests_are_read_in_parts(store: &Store) {
    let guests: Vec<_> = (0..7).map(guest).collect();
    for at in [3, 0, 6, 1, 5, 2, 4] {
        store.insert(&guests[at]).await;
    }
    let all: Vec<_> = guests.iter().map(|(profile, _)| profile.clone()).collect();
    for limit in [1, 2, 3, 6, 7, 8] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let part = store.upkeep.profiles(after, limit).await.unwrap();
            assert!(part.len() <= limit);
            let Some(last) = part.last() else { break };
            after = Some(last.id);
            seen.extend(part);
        }
        assert_eq!(seen, all, "in parts of {limit}");
    }
}

pub(super) async fn live_grants_are_counted_by_when_they_were_last_used(store: &Store) {
    store.add_the_client().await;
    // When it was advanced, when it expires, ends and was revoked.
    let rows = [
        (5, 100, 200, None),
        (6, 100, 200, None),
        (7, 100, 200, None),
        (5, 50, 200, None),
        (5, 100, 50, None),
        (5, 100, 200, Some(10)),
    ];
    for (number, (advanced, expires, ends, revoked)) in (1..).zip(rows) {
        let (profile, mut grant) = guest(number);
        (grant.advanced_at, grant.expires_at, grant.ends_at) =
            (at(advanced), at(expires), at(ends));
        store.insert(&(profile, grant.clone())).await;
        if let Some(revoked) = revoked {
            revoke(store, grant.id, at(revoked)).await;
        }
    }
    let idle_since = async |before, now| {
        let counted = store
            .upkeep
            .live_grants_idle_since(at(before), at(now))
            .await;
        counted.unwrap()
    };
    for (before, now, count) in [
        (5, 60, 0),
        (6, 60, 1),
        (7, 60, 2),
        (8, 60, 3),
        (6, 20, 3),
        (8, 100, 0),
    ] {
        assert_eq!(
            idle_since(before, now).await,
            count,
            "before {before}, at {now}"
        );
    }
}

pub(super) async fn the_guests_of_a_customer_are_read_in_parts(store: &Store) {
    let [x, y] = ["x", "X"].map(|id| id.parse().unwrap());
    let mut linked = Vec::new();
    for number in 0..7 {
        let guest = guest(number);
        store.insert(&guest).await;
        let customer = if number == 3 { &y } else { &x };
        if number != 5 {
            let changed = store.link(&guest.0, customer).await;
            linked.extend((customer == &x).then_some(changed));
        }
    }
    for limit in [1, 2, 5, 6] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let part = store.upkeep.guests_of(&x, after, limit).await.unwrap();
            assert!(part.len() <= limit);
            let Some(last) = part.last() else { break };
            after = Some(last.id);
            seen.extend(part);
        }
        assert_eq!(seen, linked, "in parts of {limit}");
    }
}
