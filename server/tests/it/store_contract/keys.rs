//! Keys and their changes: [`guestpass::store::Registry::change_keys`].

use std::time::Duration;

use guestpass::keys::KeyChange;
use guestpass::store::WrappedKey;

use super::{NOW, Store, at};

const USES: [&str; 2] = ["access-token", "credential"];

/// A next key.
fn next(kid: &str, key_use: &str) -> WrappedKey {
    WrappedKey {
        kid: kid.into(),
        key_use: key_use.into(),
        algorithm: "HS256".into(),
        created_at: NOW,
        usable_at: at(8),
        current_at: None,
        retiring_at: None,
        lifetime: Duration::ZERO,
        sealed: kid.as_bytes().to_vec(),
    }
}

/// The first keys: one current key of each use.
async fn begin(store: &Store) {
    let current = |key_use: &&str| WrappedKey {
        current_at: Some(NOW),
        lifetime: Duration::from_millis(50),
        ..next(&format!("first {key_use}"), key_use)
    };
    let first = USES.iter().map(current).collect();
    assert!(
        store
            .registry
            .insert_first_keys([7; 32], first)
            .await
            .unwrap()
    );
}

async fn change(store: &Store, changes: Vec<KeyChange>) -> bool {
    store.registry.change_keys(changes).await.unwrap()
}

/// A change must not fit, and nothing of it must be made.
async fn refused(store: &Store, changes: Vec<KeyChange>) {
    let before = (
        states(store).await,
        store.registry.revision().await.unwrap(),
    );
    assert!(!change(store, changes).await);
    let after = (
        states(store).await,
        store.registry.revision().await.unwrap(),
    );
    assert_eq!(after, before);
}

async fn states(store: &Store) -> Vec<String> {
    let keys = store.registry.installation().await.unwrap().keys;
    let mut states: Vec<_> = keys
        .iter()
        .map(|key| {
            let state = match (key.current_at, key.retiring_at) {
                (_, Some(_)) => "retiring",
                (Some(_), None) => "current",
                (None, None) => "next",
            };
            format!("{} {state} {}", key.kid, key.lifetime.as_millis())
        })
        .collect();
    states.sort();
    states
}

pub(super) async fn a_key_becomes_next_current_and_retiring_and_goes(store: &Store) {
    begin(store).await;
    let revision = store.registry.revision().await.unwrap();
    let promote = KeyChange::Promote("second".into(), at(9));
    let insert = KeyChange::Insert(next("second", "access-token"));
    assert!(change(store, vec![insert]).await);
    assert_eq!(
        states(store).await,
        [
            "first access-token current 50",
            "first credential current 50",
            "second next 0"
        ]
    );
    assert!(change(store, vec![promote]).await);
    assert_eq!(
        states(store).await,
        [
            "first access-token retiring 50",
            "first credential current 50",
            "second current 0"
        ]
    );
    let keys = store.registry.installation().await.unwrap().keys;
    let at_once = keys.iter().find(|key| key.kid == "second").unwrap();
    assert_eq!(
        (at_once.current_at, &at_once.sealed),
        (Some(at(9)), &b"second".to_vec())
    );
    let retired = keys
        .iter()
        .find(|key| key.kid == "first access-token")
        .unwrap();
    assert_eq!(
        (retired.current_at, retired.retiring_at),
        (Some(NOW), Some(at(9)))
    );
    for (longer, is) in [(70, 70), (60, 70)] {
        let prolong = KeyChange::Prolong("second".into(), Duration::from_millis(longer));
        assert!(change(store, vec![prolong]).await);
        assert!(
            states(store)
                .await
                .contains(&format!("second current {is}"))
        );
    }
    assert!(change(store, vec![KeyChange::Remove("first access-token".into())]).await);
    assert_eq!(
        states(store).await,
        ["first credential current 50", "second current 70"]
    );
    assert_eq!(store.registry.revision().await.unwrap(), revision + 5);
}

pub(super) async fn a_change_of_keys_that_does_not_fit_is_not_made(store: &Store) {
    begin(store).await;
    let insert = |kid: &str| KeyChange::Insert(next(kid, "access-token"));
    let promote = |kid: &str| KeyChange::Promote(kid.into(), at(9));
    let remove = |kid: &str| KeyChange::Remove(kid.into());
    assert!(change(store, vec![insert("second")]).await);
    // A second next; a name that is taken; the current key; what isn't there.
    refused(store, vec![insert("third")]).await;
    refused(store, vec![KeyChange::Insert(next("second", "credential"))]).await;
    refused(store, vec![promote("first access-token")]).await;
    refused(store, vec![promote("unknown")]).await;
    refused(store, vec![remove("first access-token")]).await;
    refused(store, vec![remove("unknown")]).await;
    refused(
        store,
        vec![KeyChange::Prolong("unknown".into(), Duration::ZERO)],
    )
    .await;
    // All or nothing.
    refused(
        store,
        vec![promote("second"), insert("third"), insert("fourth")],
    )
    .await;
    refused(
        store,
        vec![
            KeyChange::Insert(next("other", "credential")),
            remove("unknown"),
        ],
    )
    .await;
    assert!(change(store, vec![promote("second"), insert("third")]).await);
    // Who comes second finds that it was done.
    refused(store, vec![promote("second"), insert("third")]).await;
    refused(store, vec![promote("first access-token")]).await;
    // A next key may go, and another take its place.
    assert!(change(store, vec![remove("third"), insert("fourth")]).await);
    // Each use has its own.
    assert!(change(store, vec![KeyChange::Insert(next("other", "credential"))]).await);
}

/// A grant is older than the key that seals its credentials now, and may live as long as when it was issued.
pub(super) async fn the_lifetime_of_a_sealing_key_passes_on(store: &Store) {
    begin(store).await;
    let insert = KeyChange::Insert(next("second", "credential"));
    let promote = KeyChange::Promote("second".into(), at(9));
    assert!(change(store, vec![insert, promote]).await);
    assert!(
        states(store)
            .await
            .contains(&"second current 50".to_owned())
    );
}

pub(super) async fn of_two_changes_of_keys_at_once_one_is_made(store: &Store) {
    begin(store).await;
    let insert = |kid: &str| vec![KeyChange::Insert(next(kid, "access-token"))];
    let (a, b) = tokio::join!(
        store.registry.change_keys(insert("a")),
        store.registry.change_keys(insert("b"))
    );
    assert_ne!(a.unwrap(), b.unwrap());
    let kid = if states(store)
        .await
        .iter()
        .any(|state| state.starts_with("a "))
    {
        "a"
    } else {
        "b"
    };
    let promote = || vec![KeyChange::Promote(kid.into(), at(9))];
    let (a, b) = tokio::join!(
        store.registry.change_keys(promote()),
        store.registry.change_keys(promote())
    );
    assert_ne!(a.unwrap(), b.unwrap());
    assert!(states(store).await.contains(&format!("{kid} current 0")));
}
