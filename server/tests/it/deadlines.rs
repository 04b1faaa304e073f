//! The deadlines of a request: for the arrival of its body, and for its answer whatever the store does.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request, StatusCode};
use guestpass::listen::Deadline;
use hyper::body::Frame;
use tokio::time::Instant;

use crate::support::{TestApp, authorize, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_a_503_and_what_was_begun_is_finished() {
    let test = TestApp::new().await;
    loop {
        let before = test.count("profiles").await;
        let start = std::time::Instant::now();
        let held = test.database.hold_writes().await;
        let request = Request::get(authorize().target()).header("host", "id.example");
        let answer = test
            .send_http(request.extension(at_once()).body(Body::empty()).unwrap())
            .await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        answer.check(&Method::GET);

        assert_eq!(test.count("profiles").await, before);
        drop(held);
        // The store waits for a lock for five seconds. If this machine was busy for so long, nothing is known.
        if start.elapsed() < LOCK_TIMEOUT {
            until(async || test.count("profiles").await == before + 1).await;
            return;
        }
    }
}

/// `timing::BUSY_TIMEOUT`, `timing::STATEMENT_TIMEOUT` and `timing::STALE`.
pub(crate) const LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

#[tokio::test]
async fn a_body_that_never_arrives_is_a_408() {
    let test = TestApp::new().await;
    let mut deadline = at_once();
    deadline.answer += std::time::Duration::from_secs(60);
    let request = Request::post("/oauth/token")
        .header("host", "id.example")
        .extension(deadline);
    let answer = test
        .send_http(request.body(Body::new(Never)).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{answer:?}");
    assert_eq!(answer.error(), "invalid_request");
    assert_eq!(answer.header("connection"), Some("close"));
    answer.check(&Method::POST);
}

/// Returns a deadline that has passed when the request begins.
fn at_once() -> Deadline {
    Deadline {
        arrival: Instant::now(),
        answer: Instant::now(),
    }
}

/// Returns a body whose sender stalls.
struct Never;

impl HttpBody for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}
