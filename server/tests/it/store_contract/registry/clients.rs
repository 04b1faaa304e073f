//! Clients and their keys.

use guestpass::store::ChangeFailed;
use guestpass_core::client::{
    ApiKeyHash, ApiKeyId, Change, ChangeError, ClientNumber, ClientSettings,
};
use guestpass_core::time::Timestamp;

use super::{A, B, add, api_key, client_id, described, origin, set, settings};
use crate::store_contract::{NOW, Store, at};

pub(crate) async fn a_client_is_read_as_it_was_added(store: &Store) {
    store.change(add("plain")).await;
    let plain = store.client("plain").await;
    assert_eq!((described(&plain), plain.created_at), (String::new(), NOW));
    assert_eq!(plain.api_keys.len(), 0);

    for (name, byte, time) in [("lowest", 0, i64::MIN), ("highest", 0xff, i64::MAX)] {
        let settings = settings(|s| {
            (s.confidential, s.disabled) = (Some(true), Some(true));
            s.add_origins = vec![origin(A), origin(B)];
        });
        let now = Timestamp::from_millis(time);
        let mut key = api_key("gpk_1");
        (key.created_at, key.expires_at) = (now, Some(now));
        key.hash = ApiKeyHash::from_bytes([byte; 32]);
        let (id, api_key) = (client_id(name), Some(key));
        store
            .change(Change::AddClient {
                id,
                settings,
                api_key,
                now,
            })
            .await;

        let client = store.client(name).await;
        assert_eq!(described(&client), format!("confidential disabled {B} {A}"));
        let key = &client.api_keys[0];
        assert_eq!(
            (key.id.0.as_str(), key.hash.as_bytes()),
            ("gpk_1", &[byte; 32])
        );
        assert_eq!((client.created_at, key.created_at), (now, now));
        assert_eq!((key.expires_at, key.revoked_at), (Some(now), None));
    }
}

pub(crate) async fn a_change_moves_the_revision_unless_it_fails(store: &Store) {
    let (shop, key) = (client_id("shop"), |id: &str| ApiKeyId(id.into()));
    let set = set("shop", settings(|s| s.confidential = Some(true)));
    let changes = [
        (set.clone(), false),
        (add("shop"), true),
        (add("shop"), false),
        (Change::AddApiKey(shop.clone(), api_key("gpk_1")), false),
        (set, true),
        (Change::AddApiKey(shop.clone(), api_key("gpk_1")), true),
        (Change::RevokeApiKey(shop.clone(), key("gpk_2"), NOW), false),
        (Change::RevokeApiKey(shop.clone(), key("gpk_1"), NOW), true),
        (Change::RemoveClient(shop.clone()), true),
        (Change::RemoveClient(shop), false),
    ];
    for (change, succeeds) in changes {
        let before = store.revision().await;
        let changed = store.registry.change(change.clone()).await;
        assert_eq!(changed.is_ok(), succeeds, "{change:?}: {changed:?}");
        assert_eq!(store.revision().await != before, succeeds, "{change:?}");
        assert_eq!(
            store.registry.clients().await.unwrap().0,
            store.revision().await
        );
    }
}

pub(crate) async fn a_taken_client_id_leaves_the_client_alone(store: &Store) {
    store.change(add("shop")).await;
    let before = format!("{:?}", store.client("shop").await);
    let again = Change::AddClient {
        id: client_id("shop"),
        settings: settings(|s| (s.confidential, s.add_origins) = (Some(true), vec![origin(A)])),
        api_key: Some(api_key("gpk_1")),
        now: at(1),
    };
    let refused = store.registry.change(again).await;
    assert!(
        matches!(
            refused,
            Err(ChangeFailed::Refused(ChangeError::ClientExists))
        ),
        "{refused:?}"
    );
    assert_eq!(format!("{:?}", store.client("shop").await), before);
}

pub(crate) async fn a_client_that_is_not_there_cannot_be_changed(store: &Store) {
    store.change(add("shop")).await;
    let absent = || client_id("shop2");
    for change in [
        set("shop2", ClientSettings::default()),
        Change::RemoveClient(absent()),
        Change::AddApiKey(absent(), api_key("gpk_1")),
        Change::RevokeApiKey(absent(), ApiKeyId("gpk_1".into()), NOW),
        Change::RemoveClient(client_id("Shop")),
    ] {
        let refused = store.registry.change(change.clone()).await;
        assert!(
            matches!(
                refused,
                Err(ChangeFailed::Refused(ChangeError::ClientUnknown))
            ),
            "{change:?}: {refused:?}"
        );
    }
    assert_eq!(store.registry.clients().await.unwrap().1.len(), 1);
}

pub(crate) async fn a_removed_client_leaves_nothing(store: &Store) {
    for client in ["shop", "bystander"] {
        store.change(add(client)).await;
        store
            .change(set(
                client,
                settings(|s| (s.confidential, s.add_origins) = (Some(true), vec![origin(A)])),
            ))
            .await;
        store
            .change(Change::AddApiKey(client_id(client), api_key("gpk_1")))
            .await;
    }
    store.change(Change::RemoveClient(client_id("shop"))).await;
    assert_eq!(store.registry.clients().await.unwrap().1.len(), 1);
    store.change(add("shop")).await;
    let again = store.client("shop").await;
    assert_eq!(
        (described(&again), again.api_keys.len()),
        (String::new(), 0)
    );
    let bystander = store.client("bystander").await;
    assert_eq!(
        (described(&bystander), bystander.api_keys.len()),
        (format!("confidential {A}"), 1)
    );
}

/// Grants name their client by its number: whoever got it would get them too.
pub(crate) async fn a_client_number_is_never_used_again(store: &Store) {
    let mut numbers: Vec<ClientNumber> = Vec::new();
    for _ in 0..3 {
        for client in ["shop", "other"] {
            store.change(add(client)).await;
            let number = store.client(client).await.number;
            assert!(
                !numbers.contains(&number),
                "{number:?} was one of {numbers:?}"
            );
            numbers.push(number);
        }
        for client in ["other", "shop"] {
            store.change(Change::RemoveClient(client_id(client))).await;
        }
    }
}

/// Each reads, decides and writes; whoever is overtaken does it again.
pub(crate) async fn changes_of_clients_at_once_are_all_made(store: &Store) {
    store.change(add("shop")).await;
    let before = store.revision().await;
    let (a, b) = (origin(A), origin(B));
    let (first, second, third, fourth) = tokio::join!(
        store
            .registry
            .change(set("shop", settings(|s| s.add_origins = vec![a]))),
        store
            .registry
            .change(set("shop", settings(|s| s.add_origins = vec![b]))),
        store
            .registry
            .change(set("shop", settings(|s| s.disabled = Some(true)))),
        store.registry.change(add("other")),
    );
    for changed in [first, second, third, fourth] {
        changed.unwrap();
    }
    assert_eq!(store.revision().await, before + 4);
    let shop = store.client("shop").await;
    assert_eq!(described(&shop), format!("disabled {B} {A}"));
    let numbers = [shop.number, store.client("other").await.number];
    assert_ne!(numbers[0], numbers[1]);
}

pub(crate) async fn api_keys_come_and_end(store: &Store) {
    let (shop, other) = (client_id("shop"), client_id("other"));
    let confidential = settings(|s| s.confidential = Some(true));
    for client in ["shop", "other"] {
        store.change(add(client)).await;
        store.change(set(client, confidential.clone())).await;
    }
    store
        .change(Change::AddApiKey(shop.clone(), api_key("gpk_a")))
        .await;
    store
        .change(Change::AddApiKey(shop.clone(), api_key("gpk_b")))
        .await;
    // Two clients may have keys that begin alike.
    store
        .change(Change::AddApiKey(other.clone(), api_key("gpk_b")))
        .await;

    for revoked_at in [at(2), at(1)] {
        let key = ApiKeyId("gpk_b".into());
        store
            .change(Change::RevokeApiKey(shop.clone(), key, revoked_at))
            .await;
    }
    let of_another = Change::RevokeApiKey(other, ApiKeyId("gpk_a".into()), NOW);
    let refused = store.registry.change(of_another).await;
    assert!(
        matches!(
            refused,
            Err(ChangeFailed::Refused(ChangeError::ApiKeyUnknown))
        ),
        "{refused:?}"
    );

    let ends = async |client| {
        let keys = store.client(client).await.api_keys.into_iter();
        let mut ends: Vec<_> = keys.map(|key| (key.id.0, key.revoked_at)).collect();
        ends.sort();
        ends
    };
    assert_eq!(
        ends("shop").await,
        [("gpk_a".into(), None), ("gpk_b".into(), Some(at(2)))]
    );
    assert_eq!(ends("other").await, [("gpk_b".into(), None)]);
}
