//! Advances, strikes and revocations: each one statement on condition.

use std::sync::Arc;

use guestpass::store::{Outcome, Write};
use guestpass_core::grant::{
    Decision, Generation, Grant, MAX_STRIKES, Revocation, RevocationReason,
};
use guestpass_core::profile::{Profile, ProfileCopy};
use guestpass_core::time::Timestamp;

use crate::store_contract::{NOW, Store, advanced, at, guest};

pub(crate) async fn a_credential_advances_its_grant_once(store: &Store) {
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

pub(crate) async fn an_advance_writes_what_a_decision_changes(store: &Store) {
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

pub(crate) async fn a_revoked_grant_does_not_advance(store: &Store) {
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
        store
            .write(Write::RevokeGrant(grant.id, revoked, None))
            .await;
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

pub(crate) async fn a_code_that_was_guessed_at_does_not_advance(store: &Store) {
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

pub(crate) async fn strikes_count_while_the_code_is_outstanding(store: &Store) {
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

pub(crate) async fn the_first_revocation_stands(store: &Store) {
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
        let write = Write::RevokeGrant(grant.id, first, None);
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
        let again = Write::RevokeGrant(grant.id, second, None);
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

pub(crate) async fn a_guest_changes_from_the_version_before(store: &Store) {
    let (profile, grant) = guest(1);
    store.insert(&(profile.clone(), grant.clone())).await;
    let bystander = guest(2);
    store.insert(&bystander).await;
    let load = async |id| store.grants.load_profile(id).await.unwrap();
    assert_eq!(load(profile.id).await, Some(profile.clone()));
    let linked = store.link(&profile, &"x".parse().unwrap()).await;
    assert_eq!(load(profile.id).await, Some(linked.clone()));
    let copied = async || store.load(grant.id).await.unwrap().copied;
    let repeats = |profile: &Profile| {
        Some(Arc::new(ProfileCopy {
            version: profile.version,
            customer: profile.link.as_ref().map(|link| link.customer.clone()),
            attributes: profile.attributes.clone(),
        }))
    };
    assert_eq!(copied().await, repeats(&linked));
    // Its version is another one by now.
    let late = Write::ChangeProfile(linked.clone(), None);
    assert_eq!(store.write(late).await, Outcome::Conflict);
    let unlinked = Profile {
        link: None,
        attributes: r#"{"a":1}"#.parse().ok(),
        version: linked.version + 1,
        ..linked.clone()
    };
    let change = Write::ChangeProfile(unlinked.clone(), None);
    assert_eq!(store.write(change).await, Outcome::Done);
    assert_eq!(load(profile.id).await, Some(unlinked.clone()));
    // A copy that comes so late that the guest has changed again does nothing.
    for late in [linked, profile.clone()] {
        store.write(Write::CopyProfile(late)).await;
        assert_eq!(copied().await, repeats(&unlinked));
    }
    assert_eq!(store.load(bystander.1.id).await, Some(bystander.1));
    assert_eq!(load(bystander.0.id).await, Some(bystander.0));
    // Of a guest that is gone nothing comes back.
    let nobody = Write::ChangeProfile(guest(3).0, None);
    assert_eq!(store.write(nobody).await, Outcome::Conflict);
    assert_eq!(store.counts().await, (2, 2));
}
