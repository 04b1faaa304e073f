//! Clients, their keys and those of the installation: [`guestpass::store::Registry`].

use std::time::Duration;

use guestpass::store::{ChangeFailed, Tombstone, WrappedKey, Write};
use guestpass_core::choice::Choice;
use guestpass_core::client::{
    ApiKey, ApiKeyHash, ApiKeyId, Change, ChangeError, Client, ClientId, ClientNumber,
    ClientSettings, Origin,
};
use guestpass_core::policy::{LateRetry, Policy, PolicyError, PolicyOverrides};
use guestpass_core::time::Timestamp;

use super::{NOW, Store, at, guest};

const A: &str = "https://a.example";
const B: &str = "http://localhost:3000";

pub(super) async fn a_client_is_read_as_it_was_added(store: &Store) {
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

pub(super) async fn a_change_moves_the_revision_unless_it_fails(store: &Store) {
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

pub(super) async fn a_taken_client_id_leaves_the_client_alone(store: &Store) {
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

pub(super) async fn a_client_that_is_not_there_cannot_be_changed(store: &Store) {
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

pub(super) async fn settings_change_one_by_one(store: &Store) {
    store.change(add("shop")).await;
    store.change(add("bystander")).await;
    let its_own = settings(|s| s.add_origins = vec![origin(A), origin(B)]);
    store.change(set("bystander", its_own)).await;
    let steps = [
        (
            settings(|s| s.confidential = Some(true)),
            "confidential".to_owned(),
        ),
        (
            settings(|s| s.disabled = Some(true)),
            "confidential disabled".into(),
        ),
        (
            settings(|s| s.resume_with_jwt = Some(true)),
            "confidential disabled resume".into(),
        ),
        (settings(|_| {}), "confidential disabled resume".into()),
        (
            settings(|s| (s.confidential, s.resume_with_jwt) = (Some(false), Some(false))),
            "disabled".into(),
        ),
        (settings(|s| s.disabled = Some(false)), "".into()),
        (
            settings(|s| s.add_origins = vec![origin(A), origin(B)]),
            format!("{B} {A}"),
        ),
        (
            settings(|s| s.add_origins = vec![origin(A)]),
            format!("{B} {A}"),
        ),
        (settings(|s| s.remove_origins = vec![origin(A)]), B.into()),
        (
            settings(|s| {
                s.confidential = Some(true);
                (s.add_origins, s.remove_origins) = (vec![origin(A)], vec![origin(B)]);
            }),
            format!("confidential {A}"),
        ),
    ];
    for (settings, expected) in steps {
        store.change(set("shop", settings.clone())).await;
        assert_eq!(
            described(&store.client("shop").await),
            expected,
            "{settings:?}"
        );
    }
    let bystander = store.client("bystander").await;
    assert_eq!(described(&bystander), format!("{B} {A}"));
}

pub(super) async fn a_change_is_made_whole_or_not_at_all(store: &Store) {
    store.change(add("shop")).await;
    let settings = settings(|s| {
        s.confidential = Some(true);
        s.add_origins = vec![origin(A)];
        s.remove_origins = vec![origin(A), origin(B)];
    });
    let add = Change::AddClient {
        id: client_id("other"),
        settings: settings.clone(),
        api_key: Some(api_key("gpk_1")),
        now: NOW,
    };
    for change in [add, set("shop", settings)] {
        match store.registry.change(change).await {
            Err(ChangeFailed::Refused(ChangeError::OriginUnknown(unknown))) => {
                assert_eq!(unknown, origin(B))
            }
            other => panic!("{other:?}"),
        }
    }
    let (_, clients) = store.registry.clients().await.unwrap();
    let all: Vec<_> = clients.iter().map(described).collect();
    assert_eq!(all, [""]);
}

pub(super) async fn choices_are_made_and_taken_back(store: &Store) {
    let (smallest, largest) = (smallest(), largest());
    for client in ["shop", "bystander"] {
        store.change(add(client)).await;
        assert_eq!(
            store.client(client).await.overrides,
            PolicyOverrides::default()
        );
    }
    let choose =
        |client, chosen: &PolicyOverrides| set(client, settings(|s| s.overrides = chosen.clone()));
    store.change(choose("bystander", &largest)).await;
    for chosen in [smallest, largest.clone()] {
        store.change(choose("shop", &chosen)).await;
        assert_eq!(store.client("shop").await.overrides, chosen);
    }
    store
        .change(choose("shop", &PolicyOverrides::default()))
        .await;
    assert_eq!(store.client("shop").await.overrides, largest);

    for choice in Choice::ALL {
        store.change(choose("shop", &largest)).await;
        store
            .change(set("shop", settings(|s| s.unset = vec![choice])))
            .await;
        let mut expected = largest.clone();
        unset(&mut expected, choice);
        assert_eq!(store.client("shop").await.overrides, expected, "{choice:?}");
    }
    let all_but_one = settings(|s| {
        s.unset = Choice::ALL.into();
        s.unset.retain(|choice| *choice != Choice::Grace);
        s.overrides.grace = Some(Duration::from_millis(1));
    });
    store.change(set("shop", all_but_one)).await;
    let expected = PolicyOverrides {
        grace: Some(Duration::from_millis(1)),
        ..PolicyOverrides::default()
    };
    assert_eq!(store.client("shop").await.overrides, expected);
    assert_eq!(store.client("bystander").await.overrides, largest);

    let added = Change::AddClient {
        id: client_id("other"),
        settings: settings(|s| s.overrides = largest.clone()),
        api_key: None,
        now: NOW,
    };
    store.change(added).await;
    assert_eq!(store.client("other").await.overrides, largest);
}

pub(super) async fn a_client_that_resumes_is_confidential_and_has_no_origin(store: &Store) {
    let resumes = |s: &mut ClientSettings| s.resume_with_jwt = Some(true);
    let confidential = |s: &mut ClientSettings| s.confidential = Some(true);
    let has_origin = |s: &mut ClientSettings| s.add_origins = vec![origin(A)];
    for (client, settings) in [
        ("public", settings(|_| {})),
        ("confidential", settings(confidential)),
        ("resumes", settings(|s| (confidential(s), resumes(s)).0)),
        ("page", settings(|s| (confidential(s), has_origin(s)).0)),
    ] {
        let add = Change::AddClient {
            id: client_id(client),
            settings,
            api_key: None,
            now: NOW,
        };
        store.change(add).await;
    }
    let all = async || {
        let (_, clients) = store.registry.clients().await.unwrap();
        clients.iter().map(described).collect::<Vec<_>>()
    };
    let before = all().await;
    assert_eq!(
        before,
        [
            "confidential",
            &format!("confidential {A}"),
            "",
            "confidential resume"
        ]
    );
    let anew = Change::AddClient {
        id: client_id("new"),
        settings: settings(resumes),
        api_key: None,
        now: NOW,
    };
    for (change, expected) in [
        (anew, "ResumePublic"),
        (set("public", settings(resumes)), "ResumePublic"),
        (
            set("resumes", settings(|s| s.confidential = Some(false))),
            "ResumePublic",
        ),
        (set("page", settings(resumes)), "ResumeWithOrigin"),
        (set("resumes", settings(has_origin)), "ResumeWithOrigin"),
        (
            set("confidential", settings(|s| (resumes(s), has_origin(s)).0)),
            "ResumeWithOrigin",
        ),
    ] {
        let refused = store.registry.change(change.clone()).await.unwrap_err();
        let expected = format!("Refused({expected})");
        assert_eq!(format!("{refused:?}"), expected, "{change:?}");
        assert_eq!(all().await, before, "{change:?}");
    }
    // What stands in the way may go in the same change.
    for change in [
        set("public", settings(|s| (confidential(s), resumes(s)).0)),
        set(
            "page",
            settings(|s| (resumes(s), s.remove_origins = vec![origin(A)]).0),
        ),
        set(
            "resumes",
            settings(|s| {
                (s.confidential, s.resume_with_jwt) = (Some(false), Some(false));
                has_origin(s);
            }),
        ),
    ] {
        store.change(change).await;
    }
    let resuming = "confidential resume";
    assert_eq!(all().await, ["confidential", resuming, resuming, A]);
}

pub(super) async fn choices_must_be_sound_over_the_defaults_if_that_is_asked(store: &Store) {
    let strict = Policy {
        late_retry: LateRetry::Revoke,
        ..Policy::default()
    };
    let no_grace = |over: Option<&Policy>| {
        settings(|s| {
            (s.overrides.grace, s.defaults) = (Some(Duration::ZERO), over.cloned());
        })
    };
    store.change(add("shop")).await;
    let anew = Change::AddClient {
        id: client_id("other"),
        settings: no_grace(Some(&Policy::default())),
        api_key: None,
        now: NOW,
    };
    for change in [anew, set("shop", no_grace(Some(&Policy::default())))] {
        let refused = store.registry.change(change).await;
        assert!(
            matches!(
                refused,
                Err(ChangeFailed::Refused(ChangeError::PolicyInvalid(
                    PolicyError::ReissueWithoutGrace
                )))
            ),
            "{refused:?}"
        );
    }
    let (_, clients) = store.registry.clients().await.unwrap();
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0].overrides, PolicyOverrides::default());

    store.change(set("shop", no_grace(Some(&strict)))).await;
    // The choice that is there already counts.
    let reissue = settings(|s| {
        (s.overrides.late_retry, s.defaults) = (Some(LateRetry::Reissue), Some(strict));
    });
    let refused = store.registry.change(set("shop", reissue)).await;
    assert!(refused.is_err(), "{refused:?}");
    store.change(set("shop", no_grace(None))).await;
}

/// The least of every choice there is, unlike every default.
fn smallest() -> PolicyOverrides {
    let second = Duration::from_secs(1);
    PolicyOverrides {
        access_ttl: Some(second),
        code_ttl: Some(second),
        grace: Some(Duration::ZERO),
        late_retry: Some(LateRetry::Reissue),
        max_unproven: Some(1),
        refresh_idle: Some(second),
        refresh_max: Some(second + Duration::from_millis(1)),
        audience: Some("a".parse().unwrap()),
        query_params: Some(true),
    }
}

/// The most of every choice.
fn largest() -> PolicyOverrides {
    let century = Duration::from_secs(100 * 31_557_600);
    PolicyOverrides {
        access_ttl: Some(century),
        code_ttl: Some(Duration::from_secs(600)),
        grace: Some(Duration::from_secs(300)),
        late_retry: Some(LateRetry::Revoke),
        max_unproven: Some(1000),
        refresh_idle: Some(century - Duration::from_millis(1)),
        refresh_max: Some(century),
        audience: Some("z".repeat(64).parse().unwrap()),
        query_params: Some(false),
    }
}

fn unset(overrides: &mut PolicyOverrides, choice: Choice) {
    match choice {
        Choice::AccessTtl => overrides.access_ttl = None,
        Choice::CodeTtl => overrides.code_ttl = None,
        Choice::Grace => overrides.grace = None,
        Choice::LateRetry => overrides.late_retry = None,
        Choice::MaxUnproven => overrides.max_unproven = None,
        Choice::RefreshIdle => overrides.refresh_idle = None,
        Choice::RefreshMax => overrides.refresh_max = None,
        Choice::Audience => overrides.audience = None,
        Choice::QueryParams => overrides.query_params = None,
        Choice::AudienceRestricted | Choice::ResumeWithJwt | Choice::Origins => {}
    }
}

pub(super) async fn api_keys_come_and_end(store: &Store) {
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

pub(super) async fn a_removed_client_leaves_nothing(store: &Store) {
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
pub(super) async fn a_client_number_is_never_used_again(store: &Store) {
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

pub(super) async fn the_first_keys_are_inserted_once(store: &Store) {
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

pub(super) async fn of_two_first_keys_at_once_one_stands(store: &Store) {
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

/// A choice of which only a newer version knows.
const OF_2030: &str = "insert into client_choices (client_number, name, value)
    select client_number, 'of_2030', 'a b' from clients where client_id = 'shop'";

pub(super) async fn a_choice_of_a_newer_version_is_kept(store: &Store) {
    store.change(add("shop")).await;
    store.change(add("bystander")).await;
    store.database.sql(OF_2030).await;
    for settings in [
        settings(|s| s.confidential = Some(true)),
        settings(|s| s.unset = Choice::ALL.into()),
    ] {
        store.change(set("shop", settings)).await;
        store
            .change(Change::RemoveClient(client_id("bystander")))
            .await;
        store.change(add("bystander")).await;
        let kept = [("of_2030".to_owned(), "a b".to_owned())];
        assert_eq!(store.client("shop").await.choices(), kept);
        assert_eq!(store.client("bystander").await.choices(), []);
    }
}

/// Each reads, decides and writes; whoever is overtaken does it again.
pub(super) async fn changes_of_clients_at_once_are_all_made(store: &Store) {
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

pub(super) async fn it_is_known_whether_there_are_guests(store: &Store) {
    let has_guests = async || !store.upkeep.profiles(None, 1).await.unwrap().is_empty();
    assert!(!has_guests().await);
    store.insert(&guest(1)).await;
    assert!(has_guests().await);
    let hash = [1; 16];
    let tombstone = Tombstone { hash, at: at(1) };
    store
        .write(Write::EraseGuest(guest(1).0.id, tombstone))
        .await;
    assert!(!has_guests().await);
}

impl Store {
    /// Makes a change that must succeed.
    async fn change(&self, change: Change) {
        self.registry.change(change).await.unwrap();
    }

    /// The client with that id, which must be there.
    async fn client(&self, id: &str) -> Client {
        let (_, clients) = self.registry.clients().await.unwrap();
        clients
            .into_iter()
            .find(|client| client.id == client_id(id))
            .unwrap()
    }

    async fn revision(&self) -> i64 {
        self.registry.revision().await.unwrap()
    }
}

fn add(id: &str) -> Change {
    let (id, settings) = (client_id(id), ClientSettings::default());
    Change::AddClient {
        id,
        settings,
        api_key: None,
        now: NOW,
    }
}

fn set(id: &str, settings: ClientSettings) -> Change {
    Change::SetClient {
        id: client_id(id),
        settings,
    }
}

fn settings(change: impl FnOnce(&mut ClientSettings)) -> ClientSettings {
    let mut settings = ClientSettings::default();
    change(&mut settings);
    settings
}

/// What a client may do, in words, and its origins in the order of the alphabet.
fn described(client: &Client) -> String {
    let switches = [
        (client.confidential, "confidential"),
        (client.disabled, "disabled"),
        (client.resume_with_jwt, "resume"),
    ];
    let on = switches.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
    let mut origins: Vec<_> = client.origins.iter().map(Origin::as_str).collect();
    origins.sort();
    on.chain(origins).collect::<Vec<_>>().join(" ")
}

fn client_id(id: &str) -> ClientId {
    id.parse().unwrap()
}

fn origin(origin: &str) -> Origin {
    origin.parse().unwrap()
}

fn api_key(id: &str) -> ApiKey {
    ApiKey {
        id: ApiKeyId(id.into()),
        hash: ApiKeyHash::of(id.as_bytes()),
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
    }
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
