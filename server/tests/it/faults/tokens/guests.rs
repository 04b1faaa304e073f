//! A guest who had tokens stays until it is erased, and then nothing of it is issued any more.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass_core::client::{Change, ClientSettings};

use crate::support::{
    Answer, DAY, SHOP, Sent, TestApp, Tokens, authorize, exchange, profile, refresh, revoke,
};

const BACK_END: &str = "back-end";

/// Adds a confidential client that is set to `resume_with_jwt`, and returns its key.
async fn resuming(test: &TestApp) -> String {
    let key = test.add_confidential_client(BACK_END).await;
    let resumes = ClientSettings {
        resume_with_jwt: Some(true),
        ..ClientSettings::default()
    };
    test.set_client(BACK_END, resumes).await;
    key
}

fn by_back_end(request: Sent, key: &str) -> Sent {
    request.set("client_id", BACK_END).header("x-api-key", key)
}

async fn guest(test: &TestApp, key: &str) -> Tokens {
    let code = test.send(by_back_end(authorize(), key)).await.text("code");
    test.granted(by_back_end(exchange(&code), key)).await
}

/// Authorizes again as that guest.
fn again(tokens: &Tokens, key: &str) -> Sent {
    by_back_end(authorize(), key).header("x-dressipi-jwt", &tokens.access_token)
}

fn erase(tokens: &Tokens) -> Sent {
    profile(&tokens.access_token).method("DELETE")
}

/// Checks that of an erased guest nothing is issued: with the code of this answer a new guest has tokens, or nobody.
async fn is_of_another(test: &TestApp, key: &str, answer: &Answer, erased: &Tokens) {
    let code = answer.text("code");
    let answer = test.send(by_back_end(exchange(&code), key)).await;
    if answer.status == StatusCode::OK {
        assert_ne!(answer.tokens().sub(), erased.sub());
    } else {
        let outcome = (answer.status.as_u16(), answer.error());
        assert_eq!(outcome, (400, "invalid_grant"), "{answer:?}");
    }
    let sub = erased.sub();
    for table in ["profiles", "grants"] {
        let left = format!("select count(*) from {table} where profile_id = {sub}");
        assert_eq!(test.database.number(&left).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f36_nothing_of_a_guest_is_issued_after_its_erasure() {
    let test = Arc::new(TestApp::new().await);
    let key = resuming(&test).await;
    for round in 0..20 {
        // The id of one who was erased may be drawn again within its millisecond.
        test.clock.advance(Duration::from_millis(1));
        let tokens = guest(&test, &key).await;
        let mut requests = vec![again(&tokens, &key), again(&tokens, &key)];
        requests.insert(round % 3, erase(&tokens));
        let mut answers = test.at_once(requests).await;
        let erased = answers.remove(round % 3);
        assert_eq!(erased.status, StatusCode::NO_CONTENT, "{erased:?}");
        for answer in answers {
            is_of_another(&test, &key, &answer, &tokens).await;
        }
    }
}

mod postgres {
    use super::*;
    use crate::support::{Backend, config, until};

    /// A trigger that keeps an insert of a grant from ending while a session has the lock.
    const SLOW: &str = "
        create function wait() returns trigger language plpgsql as
            $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$;
        create trigger slow before insert on grants for each row execute function wait()";

    #[tokio::test(flavor = "multi_thread")]
    async fn f36_a_grant_that_is_being_inserted_is_erased_too() {
        let test = Arc::new(TestApp::on(Backend::Postgres, config(&[])).await);
        let key = resuming(&test).await;
        let tokens = guest(&test, &key).await;
        test.sql(SLOW).await;
        let held = test.database.hold("select pg_advisory_xact_lock(1)").await;
        let send = |request: Sent| {
            let test = Arc::clone(&test);
            tokio::spawn(async move { test.send(request).await })
        };
        // The sessions that wait for a lock: that of the trigger, then that of the guest's row.
        let waiting = async |sessions: i64| {
            let waiting = "select count(*) from pg_stat_activity
                            where datname = current_database() and wait_event_type = 'Lock'";
            test.database.number(waiting).await == sessions
        };
        let resumed = send(again(&tokens, &key));
        until(async || waiting(1).await).await;
        let erased = send(erase(&tokens));
        until(async || erased.is_finished() || waiting(2).await).await;
        drop(held);
        let erased = erased.await.unwrap();
        assert_eq!(erased.status, StatusCode::NO_CONTENT, "{erased:?}");
        is_of_another(&test, &key, &resumed.await.unwrap(), &tokens).await;
    }
}

mod sqlite {
    use serde_json::json;

    use crate::support::SHOP;
    use crate::support::binary::Binary;

    #[test]
    fn f36_an_import_brings_back_nobody_who_is_erased_meanwhile() {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let server = binary.serve();
        let (erased, other) = (server.guest(), server.guest());
        assert!(server.stop().success());
        let exported = binary.run(&["profile", "export"]).stdout;
        std::fs::write(binary.working_dir().join("guests.csv"), exported).unwrap();
        binary.json(&["profile", "erase", erased.sub()]);
        // As if the server did it while the guest is being inserted: the tombstone comes then.
        binary.sql(
            "insert into journal_marks (mark, node, created_at, number) select hash, 'kept', erased_at, 0 from tombstones;
             delete from tombstones;
             create trigger meanwhile after insert on profiles begin
                 insert or ignore into tombstones select mark, created_at from journal_marks where node = 'kept';
             end",
        );
        let import = || binary.json(&["profile", "import", "guests.csv"]);
        let counted = json!({
            "imported": 0, "present": 1, "erased": 1, "inexact": 0, "linked": 0, "unlinked": 0,
        });
        for _ in 0..2 {
            assert_eq!(import(), counted);
            binary.json(&["profile", "show", other.sub()]);
            let problem = binary.failure(&["profile", "show", erased.sub()]);
            assert!(problem.contains("there is no guest"), "{problem}");
        }
    }
}

/// In whatever order the grants of a guest go, and whether or not they go together.
#[tokio::test]
async fn f37_a_guest_who_had_tokens_stays() {
    let test = TestApp::new().await;
    let key = resuming(&test).await;
    let mut guests = Vec::new();
    for together in [true, false] {
        for _ in 0..10 {
            let tokens = guest(&test, &key).await;
            let resumed = test.send(again(&tokens, &key)).await;
            assert_eq!(resumed.status, StatusCode::OK, "{resumed:?}");
            if together {
                let ended = by_back_end(revoke(&tokens.refresh_token), &key);
                assert_eq!(test.send(ended).await.status, StatusCode::OK);
            }
            guests.push((together, tokens));
        }
    }
    test.code(SHOP).await;
    assert_eq!(test.counts().await, (21, 41));
    test.clock.advance(9 * DAY);
    test.clean().await;
    // The code of nobody has gone with its guest, and those that were never redeemed from their guests.
    assert_eq!(test.counts().await, (20, 10));
    for (_, tokens) in guests.iter().filter(|(together, _)| !together) {
        let ended = by_back_end(revoke(&tokens.refresh_token), &key);
        assert_eq!(test.send(ended).await.status, StatusCode::OK);
    }
    test.clock.advance(9 * DAY);
    test.clean().await;
    assert_eq!(test.counts().await, (20, 0));
}

#[tokio::test]
async fn f37_a_guest_who_had_tokens_outlives_its_client() {
    let test = TestApp::new().await;
    let key = resuming(&test).await;
    let tokens = guest(&test, &key).await;
    for _ in 0..3 {
        test.send(again(&tokens, &key)).await;
    }
    test.send(by_back_end(authorize(), &key)).await;
    test.change(Change::RemoveClient(BACK_END.parse().unwrap()))
        .await;
    test.clock.advance(Duration::from_secs(1));
    test.clean().await;
    assert_eq!(test.counts().await, (1, 0));
}

/// A redeemed code goes first, the one that never was later: on its own it looks like a guest who never came.
#[tokio::test]
async fn f37_the_order_of_removal_does_not_matter() {
    let test = TestApp::new().await;
    let key = resuming(&test).await;
    let tokens = guest(&test, &key).await;
    let ended = by_back_end(revoke(&tokens.refresh_token), &key);
    test.clock.advance_secs(3600);
    test.send(again(&tokens, &key)).await;
    assert_eq!(test.send(ended).await.status, StatusCode::OK);
    let refused = test
        .send(by_back_end(refresh(&tokens.refresh_token), &key))
        .await;
    assert_eq!(refused.error(), "invalid_grant");
    for row in ["generation = 1", "generation = 0"] {
        let only = format!(
            "update grants set revoked_at = 0, revocation_reason = 'contested' where {row}"
        );
        test.sql(&only).await;
        test.clean().await;
    }
    assert_eq!(test.counts().await, (1, 0));
}
