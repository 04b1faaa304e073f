//! The choices of clients.

use std::time::Duration;

use guestpass::store::ChangeFailed;
use guestpass_core::choice::Choice;
use guestpass_core::claims::Typ;
use guestpass_core::client::{
    Change, ChangeError, ClaimName, ClientSettings, Defaults, OnEnded, Permission,
};
use guestpass_core::policy::{LateRetry, Policy, PolicyError, PolicyOverrides};

use super::{A, B, add, api_key, client_id, described, origin, set, settings};
use crate::store_contract::{NOW, Store};

pub(crate) async fn settings_change_one_by_one(store: &Store) {
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
            settings(|s| s.claims = Some(vec![customer(), customer()])),
            format!("{B} customer"),
        ),
        (settings(|s| s.unset = vec![Choice::Claims]), B.into()),
        (
            settings(|s| s.on_ended = Some(OnEnded::NewGuest)),
            format!("new_guest {B}"),
        ),
        (settings(|s| s.on_ended = Some(OnEnded::Refuse)), B.into()),
        (settings(|s| s.typ = Some(Typ::Jwt)), format!("{B} JWT")),
        (settings(|_| {}), format!("{B} JWT")),
        (settings(|s| s.unset = vec![Choice::Typ]), B.into()),
        (
            settings(|s| {
                (s.confidential, s.may) = (Some(true), Some(vec![Permission::Link]));
            }),
            format!("confidential {B} link"),
        ),
        (
            settings(|s| s.may = Some(Vec::new())),
            format!("confidential {B}"),
        ),
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

pub(crate) async fn a_change_is_made_whole_or_not_at_all(store: &Store) {
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

pub(crate) async fn choices_are_made_and_taken_back(store: &Store) {
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

pub(crate) async fn a_client_that_resumes_is_confidential_and_has_no_origin(store: &Store) {
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
    // A choice that stands in the way may go in the same change.
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

pub(crate) async fn choices_must_be_sound_over_the_defaults_if_that_is_asked(store: &Store) {
    let strict = Policy {
        late_retry: LateRetry::Revoke,
        ..Policy::default()
    };
    let no_grace = |over: Option<&Policy>| {
        settings(|s| {
            (s.overrides.grace, s.defaults) = (Some(Duration::ZERO), over.map(defaults));
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
        (s.overrides.late_retry, s.defaults) = (Some(LateRetry::Reissue), Some(defaults(&strict)));
    });
    let refused = store.registry.change(set("shop", reissue)).await;
    assert!(refused.is_err(), "{refused:?}");
    store.change(set("shop", no_grace(None))).await;
}

fn defaults(policy: &Policy) -> Defaults {
    Defaults {
        policy: policy.clone(),
        issuer: "https://id.example".to_owned(),
    }
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
        guests_per_address: "1/1s".parse().ok(),
        guests_per_client: "1/1s".parse().ok(),
        failures_per_address: "1/1s".parse().ok(),
        endings_per_address: "1/1s".parse().ok(),
        endings_per_grant: "1/1s".parse().ok(),
        introspections_per_client: "1/1s".parse().ok(),
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
        guests_per_address: "1000000000/1d".parse().ok(),
        guests_per_client: "1000000000/1d".parse().ok(),
        failures_per_address: "1000000000/1d".parse().ok(),
        endings_per_address: "1000000000/1d".parse().ok(),
        endings_per_grant: "1000000000/1d".parse().ok(),
        introspections_per_client: "1000000000/1d".parse().ok(),
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
        Choice::GuestsPerAddress => overrides.guests_per_address = None,
        Choice::GuestsPerClient => overrides.guests_per_client = None,
        Choice::FailuresPerAddress => overrides.failures_per_address = None,
        Choice::EndingsPerAddress => overrides.endings_per_address = None,
        Choice::EndingsPerGrant => overrides.endings_per_grant = None,
        Choice::IntrospectionsPerClient => overrides.introspections_per_client = None,
        Choice::AudienceRestricted
        | Choice::ResumeWithJwt
        | Choice::OnEnded
        | Choice::Typ
        | Choice::Origins
        | Choice::May
        | Choice::Claims
        | Choice::Cookies
        | Choice::CookieDomain
        | Choice::PageToken
        | Choice::TicketTo => {}
    }
}

fn customer() -> ClaimName {
    ClaimName::CUSTOMER.parse().unwrap()
}

/// A choice of which only a newer version knows.
const OF_2030: &str = "insert into client_choices (client_number, name, value)
    select client_number, 'of_2030', 'a b' from clients where client_id = 'shop'";

pub(crate) async fn a_choice_of_a_newer_version_is_kept(store: &Store) {
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
