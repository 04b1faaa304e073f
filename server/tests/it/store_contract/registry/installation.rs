//! The first keys of an installation, and its guests.

use std::time::Duration;

use guestpass::store::{Tombstone, WrappedKey, Write};
use guestpass_core::time::Timestamp;

use crate::store_contract::{Store, at, guest};

pub(crate) async fn the_first_keys_are_inserted_once(store: &Store) {
    let (before, revision) = (
        store.registry.installation().await.unwrap(),
        store.revision().await,
    );
    assert_eq!((before.keys.len(), before.master_key_check), (0, None));

    let all_bytes = (0..=u8::MAX).collect();
    let keys = [
        ("key-1", i64::MIN, Vec::new()),
        ("key-2", i64::MAX, all_bytes),
    ]
    .map(wrapped_key);
    assert!(
        store
            .registry
            .insert_first_keys([0xff; 32], keys.to_vec())
            .await
            .unwrap()
    );
    let after = store.registry.installation().await.unwrap();
    assert_eq!(
        (after.id, after.master_key_check),
        (before.id, Some([0xff; 32]))
    );
    assert_eq!(format!("{:?}", after.keys), format!("{keys:?}"));
    assert_ne!(store.revision().await, revision);

    let revision = store.revision().await;
    let others = vec![wrapped_key(("key-3", 0, vec![1]))];
    assert!(
        !store
            .registry
            .insert_first_keys([1; 32], others)
            .await
            .unwrap()
    );
    let unchanged = store.registry.installation().await.unwrap();
    assert_eq!(format!("{unchanged:?}"), format!("{after:?}"));
    assert_eq!(store.revision().await, revision);
}

pub(crate) async fn of_two_first_keys_at_once_one_stands(store: &Store) {
    let insert = |byte: u8, kid| {
        let keys = vec![wrapped_key((kid, 0, vec![byte]))];
        store.registry.insert_first_keys([byte; 32], keys)
    };
    let (first, second) = tokio::join!(insert(1, "key-1"), insert(2, "key-2"));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first != second, "{first} {second}");
    let winner = if first { 1 } else { 2 };
    let installation = store.registry.installation().await.unwrap();
    assert_eq!(installation.master_key_check, Some([winner; 32]));
    assert_eq!(
        (installation.keys.len(), &installation.keys[0].sealed),
        (1, &vec![winner])
    );
}

pub(crate) async fn it_is_known_whether_there_are_guests(store: &Store) {
    let has_guests = async || !store.upkeep.profiles(None, 1).await.unwrap().is_empty();
    assert!(!has_guests().await);
    store.insert(&guest(1)).await;
    assert!(has_guests().await);
    let hash = [1; 16];
    let tombstone = Tombstone { hash, at: at(1) };
    store
        .write(Write::EraseGuest(guest(1).0.id, tombstone, None))
        .await;
    assert!(!has_guests().await);
}

fn wrapped_key((kid, created_at, sealed): (&str, i64, Vec<u8>)) -> WrappedKey {
    WrappedKey {
        kid: kid.into(),
        key_use: "access-token".into(),
        algorithm: "HS256".into(),
        lifetime: Duration::from_millis(3),
        created_at: Timestamp::from_millis(created_at),
        usable_at: Timestamp::from_millis(created_at),
        current_at: Some(at(1)),
        retiring_at: Some(at(2)),
        sealed,
    }
}
