//! `/oauth/profile`: the guest reads its profile and erases it. C154 too.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::Clock;
use guestpass::journal::Entry;
use guestpass::random::Random;
use guestpass::store::{Outcome, Write};
use guestpass_core::client::ClientSettings;
use guestpass_core::grant::Grant;
use guestpass_core::pkce::Challenge;
use guestpass_core::policy::Policy;
use serde_json::{Value, json};

use crate::support::{
    Answer, Forged, SHOP, Sent, TestApp, Tokens, config, exchange, lines_of, profile, refresh,
    request, revoke,
};

fn erase(access_token: &str) -> Sent {
    profile(access_token).method("DELETE")
}

/// Sends both requests, which must be refused and change nothing.
async fn refused(test: &TestApp, access_token: &str) {
    for request in [profile(access_token), erase(access_token)] {
        let before = traces(test).await;
        let answer = test.send(request).await;
        let outcome = (answer.status, answer.error());
        assert_eq!(outcome, (StatusCode::UNAUTHORIZED, "invalid_token"));
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some(r#"Bearer error="invalid_token""#));
        assert_eq!(traces(test).await, before);
    }
}

async fn traces(test: &TestApp) -> (Vec<String>, u64, usize) {
    let journal = test.journaled().len();
    (test.rows().await, test.count("tombstones").await, journal)
}

async fn told(test: &TestApp, request: Sent) -> Value {
    let before = traces(test).await;
    let answer = test.send(request).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(traces(test).await, before);
    answer.json()
}

/// Inserts one more grant of a guest, as another client could have it.
async fn another_grant(test: &TestApp, tokens: &Tokens, client_id: &str) -> Grant {
    let random: &dyn Random = &*test.random;
    let sid = test.app.verify(&tokens.access_token).unwrap().grant;
    let first = test.store.load(sid).await.unwrap().unwrap();
    let (challenge, now) = (Challenge::from_bytes([7; 32]), test.clock.now());
    let resumed = first.one_more(
        first.client,
        random.bytes(),
        challenge,
        &Policy::default(),
        now,
    );
    let client = test.app.clients().by_id(client_id).unwrap().number;
    let grant = Grant { client, ..resumed };
    let insert = Write::InsertGrant(grant.clone());
    assert_eq!(test.store.write(insert).await.unwrap(), Outcome::Done);
    grant
}

#[tokio::test]
async fn a_guest_learns_all_that_is_known_of_it() {
    let test = TestApp::new().await;
    test.add_client("other", ClientSettings::default()).await;
    let bystander = test.guest().await;
    let code = test.code(SHOP).await;
    test.clock.advance_secs(10);
    let first = test.granted(exchange(&code)).await;
    test.clock.advance_secs(60);
    let tokens = test.granted(refresh(&first.refresh_token)).await;
    let (start, year) = (1_800_000_000, 365 * 86_400);
    let own = json!({
        "sid": tokens.claims["sid"], "client_id": SHOP, "issued_at": start, "last_seen_at": start + 70,
        "expires_at": start + 70 + year,
    });
    let expected = json!({
        "sub": tokens.sub(), "subn": tokens.claims["subn"], "client_id": SHOP, "created_at": start,
        "last_seen_at": start + 70, "grants": [own],
    });
    for request in [
        profile(&tokens.access_token),
        profile(&first.access_token),
        request("GET", "/oauth/profile").header("x-dressipi-jwt", &tokens.access_token),
        profile(&tokens.access_token).path("/api/oauth/profile"),
        // Parameters can't ask for another guest.
        profile(&tokens.access_token).set("sub", bystander.sub()),
    ] {
        assert_eq!(told(&test, request).await, expected);
    }

    // Another client's grant is shown while it is live and its client exists.
    let other = another_grant(&test, &tokens, "other").await;
    let known = told(&test, profile(&tokens.access_token)).await;
    let mut grants = known["grants"].as_array().unwrap().clone();
    grants.sort_by_key(|grant| grant["client_id"].to_string());
    assert_eq!(
        grants,
        [
            json!({
                "sid": other.id.to_string(), "client_id": "other", "issued_at": start + 70,
                "last_seen_at": start + 70, "expires_at": start + 130,
            }),
            own,
        ]
    );
    test.clock.advance_secs(60);
    test.app.follow().await;
    assert_eq!(told(&test, profile(&tokens.access_token)).await, expected);
    let other = another_grant(&test, &tokens, "other").await;
    assert_eq!(
        told(&test, profile(&tokens.access_token)).await["grants"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    test.change(guestpass_core::client::Change::RemoveClient(
        "other".parse().unwrap(),
    ))
    .await;
    let known = told(&test, profile(&tokens.access_token)).await;
    assert!(
        !known.to_string().contains(&other.id.to_string()),
        "{known}"
    );
}

#[tokio::test]
async fn a_guest_is_asked_for_by_a_token_that_counts() {
    let test = TestApp::new().await;
    let (tokens, alone, ended, gone) = (
        test.guest().await,
        test.guest().await,
        test.guest().await,
        test.guest().await,
    );
    for method in ["GET", "DELETE"] {
        let answer = test.send(request(method, "/oauth/profile")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let forgery = Forged::like(&test, &tokens);
    for token in [
        "garbage",
        &tokens.refresh_token,
        &forgery
            .clone()
            .claim("aud", json!("https://api.example"))
            .sign(),
        &forgery
            .clone()
            .claim("iss", json!("https://evil.example"))
            .sign(),
        &forgery.clone().claim("exp", json!(1)).sign(),
        &forgery
            .clone()
            .claim("sid", gone.claims["sid"].clone())
            .sign(),
        &forgery.claim("client_id", json!("unknown")).sign(),
    ] {
        refused(&test, token).await;
    }
    // Two tokens that differ identify nobody.
    let two = erase(&tokens.access_token).header("x-dressipi-jwt", &alone.access_token);
    assert_eq!(test.send(two).await.status, StatusCode::UNAUTHORIZED);

    test.send(revoke(&alone.access_token)).await;
    test.send(revoke(&ended.refresh_token)).await;
    test.app.erase(gone.sub().parse().unwrap()).await.unwrap();
    for tokens in [&alone, &ended, &gone] {
        refused(&test, &tokens.access_token).await;
    }
    told(&test, profile(&tokens.access_token)).await;
    // It is the row that counts, so without rows there is no answer.
    test.sql("alter table grants rename to elsewhere").await;
    for request in [profile(&tokens.access_token), erase(&tokens.access_token)] {
        assert_eq!(
            test.send(request).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}

#[tokio::test]
async fn a_guest_can_have_itself_erased() {
    let test = TestApp::new().await;
    let (bystander, code) = (test.guest().await, test.code(SHOP).await);
    let first = test.granted(exchange(&code)).await;
    let tokens = test.granted(refresh(&first.refresh_token)).await;
    another_grant(&test, &tokens, SHOP).await;
    assert_eq!(test.counts().await, (2, 3));
    let answer = test.send(erase(&tokens.access_token)).await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (StatusCode::NO_CONTENT, 0)
    );
    told_the_operator(&answer);

    assert_eq!(test.counts().await, (1, 1));
    assert_eq!(test.count("tombstones").await, 1);
    let written = test.journaled();
    assert!(
        matches!(written[..], [Entry::GuestErased(_)]),
        "{written:?}"
    );
    // At once, with every token of every kind; also a second time.
    for tokens in [&first, &tokens] {
        refused(&test, &tokens.access_token).await;
        assert!(!test.is_live(tokens).await);
    }
    test.refused(exchange(&code), "invalid_grant").await;
    assert!(test.is_live(&bystander).await);

    let subn = tokens.claims["subn"].as_str().unwrap().to_owned();
    let (sub, sid) = (
        tokens.sub().to_owned(),
        tokens.claims["sid"].as_str().unwrap().to_owned(),
    );
    let again = test.beside(config(&[])).await;
    for tokens in [&first, &tokens] {
        assert!(!again.passes(&tokens.access_token).await);
    }
    test.database.settle().await;
    let stored = test.stored().await;
    let raw: Vec<u8> = (0..16)
        .map(|at| u8::from_str_radix(&subn.replace('-', "")[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    for named in [sub.as_bytes(), sid.as_bytes(), subn.as_bytes(), &raw] {
        assert!(!stored.holds(named), "{}", String::from_utf8_lossy(named));
    }
}

/// The log says that someone was erased, and not who.
fn told_the_operator(answer: &Answer) {
    let lines = lines_of(answer.log_name());
    let told = lines.iter().find(|line| line["message"] == "guest erased");
    assert_eq!(told.unwrap()["target"], "guestpass::security");
}

#[tokio::test]
async fn c154_identifiers_tell_nothing_of_others() {
    let test = TestApp::new().await;
    let mut guests = Vec::new();
    for _ in 0..200 {
        guests.push(test.guest().await);
    }
    // All of one millisecond, so that nothing but chance tells them apart.
    let subs: Vec<i64> = guests
        .iter()
        .map(|tokens| tokens.sub().parse().unwrap())
        .collect();
    assert_eq!(subs.iter().collect::<HashSet<_>>().len(), subs.len());
    let rising = subs.windows(2).filter(|two| two[0] < two[1]).count();
    assert!(
        (60..=140).contains(&rising),
        "{rising} of 199 come after the one before"
    );
    let steps: HashSet<_> = subs.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(steps.len() > 190, "{}", steps.len());
    for claim in ["sid", "subn", "jti"] {
        let values: HashSet<_> = guests
            .iter()
            .map(|tokens| tokens.claims[claim].to_string())
            .collect();
        assert_eq!(values.len(), guests.len(), "{claim}");
    }
    // No endpoint that guests may call takes one: whom a request is about follows from its token alone.
    let (mine, other) = (&guests[0], &guests[1]);
    for name in ["sub", "sid", "subn", "profile", "profile_id", "id"] {
        let value = other.claims[name]
            .as_str()
            .unwrap_or(other.sub())
            .to_owned();
        let known = told(&test, profile(&mine.access_token).set(name, &value)).await;
        assert_eq!(known["sub"], mine.sub());
        assert_eq!(
            test.send(profile(&value)).await.status,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(test.send(revoke(&value)).await.status, StatusCode::OK);
    }
    for path in [other.sub(), other.claims["sid"].as_str().unwrap()] {
        let path = format!("/oauth/profile/{path}");
        assert_eq!(
            test.send(request("GET", &path)).await.status,
            StatusCode::NOT_FOUND
        );
    }
    test.clock.advance(Duration::from_secs(1));
    assert!(test.is_live(other).await);
}
