//! Section 9 of the cases, as far as it is about revocation (RFC 7009), and C079, the use of a revoked token.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guestpass::journal::Entry;
use guestpass_core::client::{Change, ClientSettings};
use guestpass_core::grant::RevocationReason;
use serde_json::json;

use crate::support::{
    DAY, SHOP, Sent, TestApp, Tokens, config, exchange, lines_of, refresh, request, revoke, verify,
};

/// Sends a revocation, which must be answered with an empty 200.
async fn done(test: &TestApp, request: Sent) {
    let answer = test.send(request.clone()).await;
    assert_eq!(answer.status, StatusCode::OK, "{request:?} {answer:?}");
    assert!(answer.body.is_empty(), "{request:?} {answer:?}");
}

/// Sends a revocation, which must be answered with an empty 200 and change nothing.
async fn idle(test: &TestApp, request: Sent) {
    let before = traces(test).await;
    done(test, request.clone()).await;
    assert_eq!(traces(test).await, before, "{request:?}");
}

/// Sends a revocation, which must be refused and change nothing.
async fn refused(test: &TestApp, request: Sent, error: &str) {
    let before = traces(test).await;
    test.refused(request.clone(), error).await;
    assert_eq!(traces(test).await, before, "{request:?}");
}

/// Returns all that a revocation can change.
async fn traces(test: &TestApp) -> (Vec<String>, u64, usize) {
    let journal = test.journaled().len();
    (
        test.rows().await,
        test.count("revoked_access_tokens").await,
        journal,
    )
}

/// Creates a guest of a confidential client; returns it with the client's key.
async fn confidential(test: &TestApp) -> (Tokens, String) {
    let api_key = test.add_confidential_client("back-end").await;
    let tokens = guest_of(test, "back-end", &api_key).await;
    (tokens, api_key)
}

async fn guest_of(test: &TestApp, client_id: &str, api_key: &str) -> Tokens {
    let with_key = |request: Sent| {
        request
            .set("client_id", client_id)
            .header("x-api-key", api_key)
    };
    let code = test
        .send(with_key(crate::support::authorize()))
        .await
        .text("code");
    test.granted(with_key(exchange(&code))).await
}

#[tokio::test]
async fn c079_what_was_revoked_can_be_replayed_without_harm() {
    let test = TestApp::new().await;
    let (revoked, other) = (test.guest().await, test.guest().await);
    let second = test.granted(refresh(&revoked.refresh_token)).await;
    done(&test, revoke(&second.refresh_token)).await;
    test.clock.advance_secs(30);
    let before = traces(&test).await;
    for token in [&second, &revoked, &second] {
        test.refused(refresh(&token.refresh_token), "invalid_grant")
            .await;
    }
    assert_eq!(traces(&test).await, before);
    assert!(test.is_live(&other).await);
    assert!(!test.is_live(&second).await);
}

#[tokio::test]
async fn c155_a_refresh_token_ends_its_family() {
    let test = TestApp::new().await;
    let bystander = test.guest().await;
    // The outstanding one; then the one before it, whose successor was never used.
    for before_it in [false, true] {
        let first = test.guest().await;
        let second = test.granted(refresh(&first.refresh_token)).await;
        let shown = if before_it { &first } else { &second };
        let sid = second.claims["sid"].as_str().unwrap();
        let answer = test.send(revoke(&shown.refresh_token)).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
        for tokens in [&first, &second] {
            assert!(!test.is_live(tokens).await);
        }
        // The operator can see it, in the log and in the journal.
        let lines = lines_of(answer.log_name());
        let told = lines
            .iter()
            .find(|line| line["message"] == "grant revoked")
            .unwrap();
        let expected = (&json!("INFO"), &json!(sid), &json!("revoked_by_client"));
        assert_eq!(
            (&told["level"], &told["grant.id"], &told["reason"]),
            expected
        );
        let written = test.journaled();
        let Some(Entry::GrantRevoked(grant, revocation)) = written.last() else {
            panic!("{written:?}");
        };
        assert_eq!(grant.to_string(), sid);
        assert_eq!(revocation.reason, RevocationReason::RevokedByClient);
    }
    assert!(test.is_live(&bystander).await);
}

#[tokio::test]
async fn c155_a_spent_refresh_token_ends_nothing() {
    let test = TestApp::new().await;
    let first = test.guest().await;
    let second = test.granted(refresh(&first.refresh_token)).await;
    let third = test.granted(refresh(&second.refresh_token)).await;
    idle(&test, revoke(&first.refresh_token)).await;
    assert!(test.is_live(&third).await);
}

/// As with a refresh, what the row says is then about an older credential.
#[tokio::test]
async fn c155_a_credential_newer_than_its_row_ends_the_family() {
    let test = TestApp::new().await;
    let first = test.guest().await;
    let second = test.granted(refresh(&first.refresh_token)).await;
    for expires_in in [60_000, -1] {
        let at = guestpass::clock::Clock::now(&*test.clock).as_millis() + expires_in;
        test.sql(&format!(
            "update grants set generation = 0, proven = 0, revoked_at = null, expires_at = {at}"
        ))
        .await;
        assert!(test.refreshes(&second).await);
        done(&test, revoke(&second.refresh_token)).await;
        assert!(!test.refreshes(&second).await, "expires in {expires_in}");
    }
}

#[tokio::test]
async fn c156_an_access_token_of_a_public_client_ends_alone() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let second = test.granted(refresh(&tokens.refresh_token)).await;
    let rows = test.rows().await;
    done(&test, revoke(&tokens.access_token)).await;
    assert_eq!(test.rows().await, rows);
    // At once, here; everywhere after the next look.
    assert_eq!(test.send(verify(&tokens.access_token)).await.status, 401);
    assert!(!test.passes(&tokens.access_token).await);
    assert!(!test.is_active(&tokens.access_token).await);
    assert!(test.is_live(&second).await);
    assert!(test.refreshes(&tokens).await);
    let written = test.journaled();
    assert!(
        matches!(written[..], [Entry::AccessTokenRevoked(_)]),
        "{written:?}"
    );
    // Again, it is no news, and nothing grows.
    idle(&test, revoke(&tokens.access_token)).await;
}

#[tokio::test]
async fn c156_an_access_token_of_a_confidential_client_ends_its_grant() {
    let test = TestApp::new().await;
    let (tokens, api_key) = confidential(&test).await;
    let bystander = guest_of(&test, "back-end", &api_key).await;
    let basic = STANDARD.encode(format!("back-end:{api_key}"));
    for request in [
        revoke(&tokens.access_token)
            .set("client_id", "back-end")
            .header("x-api-key", &api_key),
        revoke(&bystander.access_token)
            .unset("client_id")
            .header("authorization", format!("Basic {basic}")),
    ] {
        let token = request.value("token").to_owned();
        assert!(test.passes(&token).await);
        done(&test, request.clone()).await;
        assert_eq!(test.send(verify(&token)).await.status, 401);
        idle(&test, request).await;
    }
    assert!(!test.is_live(&tokens).await);
    assert!(!test.is_live(&bystander).await);
}

#[tokio::test]
async fn c156_an_access_token_ends_while_its_client_is_disabled() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    test.disable_client(SHOP, true).await;
    done(&test, revoke(&tokens.access_token).unset("client_id")).await;
    test.disable_client(SHOP, false).await;
    assert!(!test.passes(&tokens.access_token).await);
    assert!(test.refreshes(&tokens).await);
}

/// As after a restore: the guest came after the backup.
#[tokio::test]
async fn c156_an_access_token_whose_grant_is_gone_ends_alone_and_for_good() {
    let test = TestApp::new().await;
    let (tokens, api_key) = confidential(&test).await;
    let request = revoke(&tokens.access_token)
        .set("client_id", "back-end")
        .header("x-api-key", &api_key);
    test.sql("delete from grants").await;
    done(&test, request.clone()).await;
    idle(&test, request).await;
    let again = test.beside(config(&[])).await;
    assert!(!again.passes(&tokens.access_token).await);
}

#[tokio::test]
async fn c155_an_ended_family_stays_so_when_a_backup_without_it_is_restored() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    done(&test, revoke(&tokens.refresh_token)).await;
    let restore = "delete from grants; delete from profiles";
    test.sql(restore).await;
    for _ in 0..2 {
        let again = test.beside(config(&[])).await;
        assert!(!again.passes(&tokens.access_token).await);
    }
    test.clock.advance(DAY - std::time::Duration::from_secs(1));
    let again = test.beside(config(&[])).await;
    assert!(!again.passes(&tokens.access_token).await);
}

#[tokio::test]
async fn c157_what_does_not_work_is_revoked_already() {
    let test = TestApp::new().await;
    let (expired, revoked, hinted) = (test.guest().await, test.guest().await, test.guest().await);
    let (unknown, code) = (TestApp::new().await.guest().await, test.code(SHOP).await);
    done(&test, revoke(&revoked.refresh_token)).await;
    for token in [
        "garbage",
        "a.b.c",
        "é",
        "null",
        &"a".repeat(12_000),
        &unknown.refresh_token,
        &unknown.access_token,
        &revoked.refresh_token,
        &revoked.access_token,
        // A code is no token. It ends by itself, soon.
        &code,
    ] {
        idle(&test, revoke(token)).await;
    }
    test.granted(exchange(&code)).await;
    for (at, hint) in ["access_token", "refresh_token", "unheard-of", ""]
        .into_iter()
        .enumerate()
    {
        let tokens = test.guest().await;
        let hinted = |token: &str| revoke(token).set("token_type_hint", hint);
        done(&test, hinted(&tokens.access_token)).await;
        assert!(!test.passes(&tokens.access_token).await, "{at}");
        done(&test, hinted(&tokens.refresh_token)).await;
        assert!(!test.is_live(&tokens).await, "{hint}");
    }
    done(&test, revoke(&hinted.refresh_token).in_json()).await;
    assert!(!test.is_live(&hinted).await);
    test.clock.advance(366 * DAY);
    // By this clock; another may be right. Once is enough.
    for token in [expired.refresh_token, expired.access_token] {
        done(&test, revoke(&token)).await;
        idle(&test, revoke(&token)).await;
    }
}

#[tokio::test]
async fn c157_the_token_of_a_removed_client_is_no_error() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    test.add_client("other", ClientSettings::default()).await;
    test.change(Change::RemoveClient(SHOP.parse().unwrap()))
        .await;
    for token in [&tokens.refresh_token, &tokens.access_token] {
        idle(&test, revoke(token).unset("client_id")).await;
        idle(&test, revoke(token).set("client_id", "other")).await;
    }
}

#[tokio::test]
async fn c158_only_its_own_client_ends_a_token() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let (of_back_end, _) = confidential(&test).await;
    let rival_key = test.add_confidential_client("rival").await;
    let request = revoke(&tokens.refresh_token);
    for broken in [
        request.clone().unset("token"),
        request.clone().set("token", ""),
        request.clone().also("token", &tokens.refresh_token),
        request.clone().also("token", "another"),
        request.clone().also("client_id", SHOP),
        // A query ends in logs.
        request.clone().in_query(),
        request
            .clone()
            .unset("token")
            .path(&format!("/oauth/revoke?token={}", tokens.refresh_token)),
    ] {
        refused(&test, broken, "invalid_request").await;
    }
    for token in [&tokens.refresh_token, &tokens.access_token] {
        let by_rival = revoke(token)
            .set("client_id", "rival")
            .header("x-api-key", &rival_key);
        refused(&test, by_rival, "invalid_grant").await;
    }
    for token in [&of_back_end.refresh_token, &of_back_end.access_token] {
        // By a public client; by another confidential one; by nobody.
        refused(&test, revoke(token), "invalid_grant").await;
        let by_rival = revoke(token).set("client_id", "rival");
        let by_rival = by_rival.header("x-api-key", &rival_key);
        refused(&test, by_rival, "invalid_grant").await;
        refused(&test, revoke(token).unset("client_id"), "invalid_client").await;
        for wrong in [
            revoke(token).set("client_id", "back-end"),
            revoke(token)
                .set("client_id", "back-end")
                .header("x-api-key", "wrong"),
            revoke(token)
                .set("client_id", "back-end")
                .header("x-api-key", &rival_key),
            revoke(token).set("client_id", "unknown"),
            revoke(token).header("x-api-key", "wrong"),
        ] {
            refused(&test, wrong, "invalid_client").await;
        }
    }
    // One that tried Basic is asked for that.
    let basic = STANDARD.encode("back-end:wrong");
    let wrong = revoke(&of_back_end.refresh_token).unset("client_id");
    let answer = test
        .send(wrong.header("authorization", format!("Basic {basic}")))
        .await;
    let outcome = (answer.status.as_u16(), answer.error());
    assert_eq!(outcome, (401, "invalid_client"));
    assert!(test.is_live(&tokens).await);
    assert!(test.is_live(&of_back_end).await);
}

#[tokio::test]
async fn a_guest_of_a_public_client_needs_to_name_nobody() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    done(&test, revoke(&tokens.access_token).unset("client_id")).await;
    assert!(!test.passes(&tokens.access_token).await);
    done(&test, revoke(&tokens.refresh_token).unset("client_id")).await;
    assert!(!test.is_live(&tokens).await);
}

#[tokio::test]
async fn c159_a_revocation_is_a_post_and_no_script() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "FOO"] {
        let request = revoke(&tokens.refresh_token).in_query().method(method);
        let before = traces(&test).await;
        let answer = test.send(request).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
        assert_eq!(traces(&test).await, before, "{method}");
    }
    let options = test.send(request("OPTIONS", "/oauth/revoke")).await;
    assert_eq!(options.status, StatusCode::NO_CONTENT);
    for request in [
        revoke(&tokens.access_token).set("callback", "alert"),
        revoke(&tokens.refresh_token).path("/oauth/revoke?callback=alert"),
    ] {
        done(&test, request).await;
    }
    assert!(!test.is_live(&tokens).await);
}
