//! Those who ask for the readiness, many of them, and don't wait for the answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use futures_util::future::{BoxFuture, join_all};
use tower::ServiceExt;

use crate::deadlines::LOCK_TIMEOUT;
use crate::support::{Backend, SHOP, TestApp, Tokens, config, revoke, until, verify};

#[tokio::test(flavor = "multi_thread")]
async fn f49_one_check_serves_all_who_ask_and_whoever_goes_leaves_nothing_behind() {
    let test = TestApp::new().await;
    loop {
        let start = Instant::now();
        let before = writes(&test).await;
        let held = test.database.hold_writes().await;
        let mut waiting = Vec::new();
        for _ in 0..10 {
            waiting.push(asked(&test).await);
        }
        let users = Arc::strong_count(&test.app);
        let others = [asked(&test).await, asked(&test).await, asked(&test).await];
        assert!(Arc::strong_count(&test.app) > users);
        drop(others);
        assert_eq!(Arc::strong_count(&test.app), users);
        // Those who asked first, and began the check, go as well.
        waiting.drain(..5).for_each(drop);
        drop(held);
        let answers = join_all(waiting).await;
        // The store waits for a lock for five seconds. If this machine was busy for so long, nothing is known.
        if start.elapsed() < LOCK_TIMEOUT {
            assert!(answers.iter().all(|status| *status == StatusCode::OK));
            assert_eq!(writes(&test).await, before + 1);
            return;
        }
        test.clock.advance_secs(2);
    }
}

/// While the clients can't be read, revocations are followed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn f49_revocations_are_followed_while_clients_cannot_be_read() {
    let one = TestApp::on(Backend::Postgres, config(&[("node", "one")])).await;
    let two = one.beside(config(&[("node", "two")])).await;
    loop {
        let guest = one.guest().await;
        assert_eq!(verified(&two, &guest).await, StatusCode::OK);
        // Something to be read of the clients.
        for disabled in [true, false] {
            one.disable_client(SHOP, disabled).await;
        }
        one.send(revoke(&guest.refresh_token)).await;
        let start = Instant::now();
        let held = one
            .database
            .hold("lock table clients in access exclusive mode")
            .await;
        let is_seen = async {
            until(async || verified(&two, &guest).await == StatusCode::UNAUTHORIZED).await;
        };
        let is_first = tokio::select! {
            () = two.app.follow() => false,
            () = is_seen => true,
        };
        drop(held);
        // The clients are waited for for five seconds.
        if start.elapsed() < LOCK_TIMEOUT {
            assert!(is_first);
            return;
        }
    }
}

/// Asks a node as a gateway does, without having it follow first.
async fn verified(node: &TestApp, guest: &Tokens) -> StatusCode {
    node.send(verify(&guest.access_token)).await.status
}

/// Sends the question, and leaves it waiting.
async fn asked(test: &TestApp) -> BoxFuture<'static, StatusCode> {
    let request = Request::get("/readyz").header("host", "id.example");
    let request = request.body(Body::empty()).unwrap();
    let answer = test.router.clone().oneshot(request);
    let mut status: BoxFuture<'static, StatusCode> = Box::pin(async {
        answer
            .await
            .map(|answer: Response| answer.status())
            .unwrap()
    });
    let polled = poll_fn(|context| Poll::Ready(status.as_mut().poll(context))).await;
    assert!(polled.is_pending(), "{polled:?}");
    status
}

/// The checks that have written.
async fn writes(test: &TestApp) -> i64 {
    test.number("select coalesce(max(writes), 0) from probe")
        .await
}
