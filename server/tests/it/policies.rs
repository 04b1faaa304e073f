//! The choices of a client for its tokens override the server's, which hold for all others.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass::config::Config;
use guestpass_core::choice::Choice;
use guestpass_core::client::{Change, ClientSettings};
use guestpass_core::policy::{LateRetry, Policy, PolicyOverrides};
use serde_json::json;

use crate::support::{Answer, ISSUER, SHOP, Sent, TestApp, TextLog, exchange, refresh};

/// The client with choices of its own, beside [`SHOP`].
const APP: &str = "app";

#[tokio::test]
async fn an_access_token_lives_as_long_as_its_client_says() {
    let test = with_app(PolicyOverrides {
        access_ttl: Some(HOUR),
        ..PolicyOverrides::default()
    })
    .await;
    for (client, lifetime) in [(APP, 3600), (SHOP, 86_400)] {
        let exchanged = test
            .send(of(client, exchange(&test.code(client).await)))
            .await;
        let token = exchanged.tokens().refresh_token;
        let refreshed = test.send(of(client, refresh(&token))).await;
        let repeated = test.send(of(client, refresh(&token))).await;
        for answer in [exchanged, refreshed, repeated] {
            assert_eq!(answer.json()["expires_in"], lifetime, "{client}");
            let claims = answer.tokens().claims;
            let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_i64().unwrap());
            assert_eq!(exp - iat, lifetime, "{client}");
        }
    }
}

#[tokio::test]
async fn a_code_lives_as_long_as_its_client_says() {
    let test = with_app(PolicyOverrides {
        code_ttl: Some(10 * SECOND),
        ..PolicyOverrides::default()
    })
    .await;
    for (client, lifetime) in [(APP, 10), (SHOP, 60)] {
        let (early, late) = (test.code(client).await, test.code(client).await);
        test.clock.advance_secs(lifetime - 1);
        test.granted(of(client, exchange(&early))).await;
        test.clock.advance_secs(2);
        let late = of(client, exchange(&late));
        test.refused(late, "invalid_grant").await;
    }
}

#[tokio::test]
async fn a_guest_is_recognised_as_long_as_its_client_says() {
    let test = with_app(PolicyOverrides {
        refresh_idle: Some(2 * HOUR),
        refresh_max: Some(3 * HOUR),
        ..PolicyOverrides::default()
    })
    .await;
    let (idle, mut used, others) = (
        guest(&test, APP).await,
        guest(&test, APP).await,
        guest(&test, SHOP).await,
    );
    test.clock.advance(2 * HOUR - SECOND);
    used = test.granted(of(APP, refresh(&used))).await.refresh_token;
    test.clock.advance(2 * SECOND);
    test.refused(of(APP, refresh(&idle)), "invalid_grant").await;
    test.clock.advance(HOUR - 2 * SECOND);
    used = test.granted(of(APP, refresh(&used))).await.refresh_token;
    test.clock.advance(2 * SECOND);
    test.refused(of(APP, refresh(&used)), "invalid_grant").await;
    test.granted(refresh(&others)).await;
}

#[tokio::test]
async fn each_client_has_its_own_window_and_its_own_answer_to_a_late_retry() {
    let test = with_app(PolicyOverrides {
        grace: Some(5 * SECOND),
        late_retry: Some(LateRetry::Revoke),
        ..PolicyOverrides::default()
    })
    .await;
    for (client, window) in [(APP, 5), (SHOP, 30)] {
        let lost = guest(&test, client).await;
        let again = || of(client, refresh(&lost));
        let successor = test.granted(again()).await.refresh_token;
        test.clock.advance_secs(window - 1);
        let before = test.rows().await;
        assert_eq!(test.granted(again()).await.refresh_token, successor);
        assert_eq!(test.rows().await, before, "{client}");
        test.clock.advance_secs(1);
        let late = test.send(again()).await;
        if client == SHOP {
            assert_ne!(late.tokens().refresh_token, successor);
        } else {
            is_revoked(&test, &late, &successor).await;
        }
    }
}

#[tokio::test]
async fn each_client_has_its_own_number_of_unproven_retries() {
    let test = with_app(PolicyOverrides {
        max_unproven: Some(2),
        ..PolicyOverrides::default()
    })
    .await;
    for (client, unproven) in [(APP, 2), (SHOP, 8)] {
        let lost = guest(&test, client).await;
        let again = || of(client, refresh(&lost));
        let mut newest = test.granted(again()).await.refresh_token;
        for _ in 0..unproven {
            test.clock.advance_secs(30);
            newest = test.granted(again()).await.refresh_token;
        }
        test.clock.advance_secs(30);
        let answer = test.send(again()).await;
        assert_eq!(answer.error(), "invalid_grant", "{client}");
        let newest = test.send(of(client, refresh(&newest))).await;
        assert_eq!(newest.error(), "invalid_grant", "{client}");
    }
}

#[tokio::test]
async fn the_audience_of_a_client_stands_before_the_issuer() {
    let environment = vec![(
        "GUESTPASS_TOKENS__AUDIENCE".to_owned(),
        "https://api.example".to_owned(),
    )];
    let config = Config::from_sources(&[], environment, None).unwrap();
    let plain = TestApp::new().await;
    let with_default = TestApp::with_config(config).await;
    let own = settings(PolicyOverrides {
        audience: "https://app.example".parse().ok(),
        ..PolicyOverrides::default()
    });
    for (test, default) in [
        (&plain, json!(ISSUER)),
        (&with_default, json!(["https://api.example", ISSUER])),
    ] {
        test.add_client(APP, own.clone()).await;
        for (client, expected) in [
            (SHOP, default.clone()),
            (APP, json!(["https://app.example", ISSUER])),
        ] {
            let code = test.code(client).await;
            let first = test.granted(of(client, exchange(&code))).await;
            let next = test
                .granted(of(client, refresh(&first.refresh_token)))
                .await;
            assert_eq!(first.claims["aud"], expected, "{client}");
            assert_eq!(next.claims["aud"], expected, "{client}");
        }
        let back = ClientSettings {
            unset: vec![Choice::Audience],
            ..ClientSettings::default()
        };
        test.set_client(APP, back).await;
        let code = test.code(APP).await;
        let tokens = test.granted(of(APP, exchange(&code))).await;
        assert_eq!(tokens.claims["aud"], default);
    }
}

#[tokio::test]
async fn c041_parameters_in_the_query_are_refused_by_default_where_the_server_says_so() {
    for (server, client) in [
        (true, None),
        (false, None),
        (true, Some(false)),
        (false, Some(true)),
    ] {
        let environment = vec![(
            "GUESTPASS_TOKENS__QUERY_PARAMS".to_owned(),
            server.to_string(),
        )];
        let config = Config::from_sources(&[], environment, None).unwrap();
        let test = TestApp::with_config(config).await;
        let own = settings(PolicyOverrides {
            query_params: client,
            ..PolicyOverrides::default()
        });
        test.add_client(APP, own).await;
        for (name, allowed) in [(SHOP, server), (APP, client.unwrap_or(server))] {
            let code = test.code(name).await;
            let in_query = of(name, exchange(&code)).in_query();
            let tokens = if allowed {
                test.granted(in_query).await
            } else {
                test.refused(in_query, "invalid_request").await;
                test.granted(of(name, exchange(&code))).await
            };
            let in_query = of(name, refresh(&tokens.refresh_token))
                .in_query()
                .header("content-type", "application/x-www-form-urlencoded");
            if allowed {
                test.granted(in_query).await;
            } else {
                test.refused(in_query, "invalid_request").await;
            }
        }
    }
}

#[tokio::test]
async fn a_choice_that_no_longer_goes_with_the_defaults_is_served_strictly_and_reported_once() {
    let test = TestApp::new().await;
    let log = TextLog::start();
    // As when the server's late_retry was revoke at that time.
    let no_grace = settings(PolicyOverrides {
        grace: Some(Duration::ZERO),
        ..PolicyOverrides::default()
    });
    test.add_client(APP, no_grace).await;
    test.add_client("another", ClientSettings::default()).await;
    let lines = |text: &str| log.read().matches(text).count();
    assert_eq!(lines("guestpass client set app --late-retry revoke"), 1);
    assert_eq!(lines("guestpass client set"), 1);

    let lost = guest(&test, APP).await;
    let successor = test.granted(of(APP, refresh(&lost))).await.refresh_token;
    let retried = test.send(of(APP, refresh(&lost))).await;
    is_revoked(&test, &retried, &successor).await;
}

#[tokio::test]
async fn the_longest_lifetimes_are_those_of_all_clients_and_of_the_defaults() {
    let test = TestApp::new().await;
    let clients = &test.app.clients();
    let longest = || {
        let longest = clients.lifetimes();
        (longest.access_token, longest.grant)
    };
    let default = Policy::default();
    assert_eq!(longest(), (default.access_ttl, default.refresh_max));
    let own = |access_ttl, refresh_max| {
        settings(PolicyOverrides {
            access_ttl: Some(access_ttl),
            refresh_max: Some(refresh_max),
            ..PolicyOverrides::default()
        })
    };
    test.add_client("brief", own(SECOND, SECOND)).await;
    assert_eq!(longest(), (default.access_ttl, default.refresh_max));
    let (access_ttl, refresh_max) = (default.access_ttl + SECOND, default.refresh_max + SECOND);
    test.add_client("a", own(access_ttl, SECOND)).await;
    test.add_client("b", own(SECOND, refresh_max)).await;
    assert_eq!(longest(), (access_ttl, refresh_max));
    test.change(Change::RemoveClient("a".parse().unwrap()))
        .await;
    assert_eq!(longest(), (default.access_ttl, refresh_max));
}

#[tokio::test]
async fn a_choice_of_a_newer_version_is_kept_ignored_and_named() {
    const CHOOSE: &str = "insert into client_choices (client_number, name, value)
        select client_number, 'of_2030', 'x' from clients where client_id = 'app'";
    let test = with_app(PolicyOverrides::default()).await;
    test.sql(CHOOSE).await;
    let log = TextLog::start();
    test.set_client(APP, settings(PolicyOverrides::default()))
        .await;
    let named = |log: &TextLog| {
        let text = log.read();
        text.matches("doesn't know, of_2030").count()
    };
    assert_eq!(named(&log), 1, "{}", log.read());
    let client = test.app.clients().by_id(APP).unwrap();
    assert_eq!(client.choices(), [("of_2030".to_owned(), "x".to_owned())]);
    assert_eq!(client.overrides, PolicyOverrides::default());
    // Once, not with every change.
    test.set_client(APP, settings(PolicyOverrides::default()))
        .await;
    assert_eq!(named(&log), 1);
    guest(&test, APP).await;
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A server with the client [`APP`].
async fn with_app(overrides: PolicyOverrides) -> TestApp {
    let test = TestApp::new().await;
    test.add_client(APP, settings(overrides)).await;
    test
}

fn settings(overrides: PolicyOverrides) -> ClientSettings {
    ClientSettings {
        overrides,
        ..ClientSettings::default()
    }
}

/// The request, from that client.
fn of(client: &str, request: Sent) -> Sent {
    request.set("client_id", client)
}

/// The refresh token of a new guest of that client.
async fn guest(test: &TestApp, client: &str) -> String {
    let code = test.code(client).await;
    test.granted(of(client, exchange(&code)))
        .await
        .refresh_token
}

/// The late retry was answered so, and the family of [`APP`] is gone.
async fn is_revoked(test: &TestApp, late: &Answer, successor: &str) {
    let refused = (late.status, late.error());
    assert_eq!(refused, (StatusCode::BAD_REQUEST, "invalid_grant"));
    let answer = test.send(of(APP, refresh(successor))).await;
    assert_eq!(answer.error(), "invalid_grant");
    let reasons = "select revocation_reason from grants where revoked_at is not null";
    assert_eq!(test.database.column(reasons).await, ["retried_late"]);
}
