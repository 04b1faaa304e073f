//! A failure of one write leaves the others of its batch alone.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use guestpass::store::{EndedBefore, Outcome, Write};
use guestpass_core::grant::{Decision, Generation, Grant, Revocation, RevocationReason};
use guestpass_core::profile::Profile;

use crate::deadlines::LOCK_TIMEOUT;
use crate::store_contract::{BROKEN, NOW, Store, advanced, at, guest};

pub(crate) async fn a_row_that_cannot_be_read_leaves_the_others_of_its_batch_alone(store: &Store) {
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

pub(crate) async fn a_decision_that_panics_leaves_the_others_of_its_batch_alone(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    assert!(store.advance(&code).await);
    let grant = advanced(&code);
    let refresh = |now| store.try_refresh(&grant, grant.generation, now);
    let redeemed = loop {
        let since = Instant::now();
        let all = (0..20).map(|number| refresh(if number % 2 == 0 { BROKEN } else { at(2_000) }));
        let redeemed = join_all(all).await;
        // To print where a panic came from can take longer than a write may wait.
        if redeemed.iter().skip(1).step_by(2).all(Result::is_ok) || since.elapsed() < LOCK_TIMEOUT {
            break redeemed;
        }
    };
    for (number, redeemed) in redeemed.into_iter().enumerate() {
        assert_eq!(redeemed.is_err(), number % 2 == 0, "{number}: {redeemed:?}");
    }
    let stored = store.load(code.id).await.unwrap();
    assert_eq!(stored.generation, grant.generation.next());
}

pub(crate) async fn a_write_that_fails_leaves_the_others_of_its_batch_alone(store: &Store) {
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
        (
            Write::RevokeGrant(known.1.id, revocation, None),
            Outcome::Done,
        ),
        (insert(&known.0, &new.1), Outcome::Conflict),
        (insert(&half_taken.0, &half_taken.1), Outcome::Conflict),
        (insert(&new.0, &new.1), Outcome::Done),
        (Write::InsertGrant(known.1.clone()), Outcome::Conflict),
        (
            Write::RevokeGrant(other.1.id, revocation, None),
            Outcome::Done,
        ),
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
    let remove = Write::RemoveEnded(vec![half_taken.1.id], EndedBefore::all(NOW));
    assert_eq!(store.write(remove).await, Outcome::Done);
    assert_eq!(store.counts().await, (3, 3));
}

/// Gives the store all of these while it can carry out none of them, then lets it.
///
/// A store refuses what has waited for five seconds, and has then not carried it out, so that is asked for again: on a
/// machine that stands still for so long, this checks less.
async fn all_at_once(store: &Store, writes: Vec<Write>) -> Vec<Outcome> {
    let since = Instant::now();
    let held = store.database.hold_writes().await;
    let begin = |write: Write| {
        let grants = Arc::clone(&store.grants);
        tokio::spawn(async move {
            loop {
                match grants.write(write.clone()).await {
                    Err(refused) => assert!(since.elapsed() > LOCK_TIMEOUT, "{refused:?}"),
                    Ok(outcome) => return outcome,
                }
            }
        })
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
