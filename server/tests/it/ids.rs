//! The ids of guests: `sub`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::random::Random;
use guestpass_core::profile::{EPOCH, ProfileId};

use crate::support::{Backend, TestApp, authorize, config, thorough};

#[tokio::test]
async fn c258_ids_are_exact_as_doubles_and_in_order_of_time() {
    let test = TestApp::new().await;
    let mut before = 0;
    for _ in 0..20 {
        let sub: i64 = test.guest().await.sub().parse().unwrap();
        assert!(sub > before, "{sub} after {before}");
        is_exact_and_of_16_digits(sub);
        before = sub;
        test.clock.advance(Duration::from_millis(1));
    }
    let random = &*test.random as &dyn Random;
    let mut before = 0;
    for millis in 0..1_000_000 {
        let now = EPOCH + Duration::from_millis(millis);
        let sub = ProfileId::new(now, random.bytes()).as_i64();
        assert!(sub > before, "{sub} after {before}");
        is_exact_and_of_16_digits(sub);
        before = sub;
    }
}

fn is_exact_and_of_16_digits(sub: i64) {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "this is what is tested"
    )]
    let as_number = (sub as f64) as i64;
    assert_eq!((as_number, sub.to_string().len()), (sub, 16));
}

/// Thirty sign-ups each millisecond, on as many nodes as a store has.
#[tokio::test(flavor = "multi_thread")]
async fn c259_many_guests_of_one_millisecond_get_ids_of_their_own() {
    let first = TestApp::with_config(config(&[("limits.mode", "off")])).await;
    let mut nodes = Vec::new();
    for _ in 1..match Backend::of_this_run() {
        Backend::Sqlite => 1,
        Backend::Postgres => 4,
    } {
        nodes.push(Arc::new(
            first.beside(config(&[("limits.mode", "off")])).await,
        ));
    }
    nodes.push(Arc::new(first));
    let at_once = 30 / nodes.len();
    let random = &nodes[0].random;
    let (mut guests, before) = (0, random.ids_drawn());
    for _ in 0..thorough(10_000) {
        for sent in nodes
            .iter()
            .map(|node| {
                let node = Arc::clone(node);
                tokio::spawn(async move { node.at_once(vec![authorize(); at_once]).await })
            })
            .collect::<Vec<_>>()
        {
            for answer in sent.await.unwrap() {
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                guests += 1;
            }
        }
        nodes[0].clock.advance(Duration::from_millis(1));
    }
    let again = random.ids_drawn() - before - guests;
    assert!(again * 250 <= guests, "{again} of {guests} drew again");
    let ids = nodes[0]
        .database
        .column("select profile_id from profiles")
        .await;
    assert_eq!(ids.len() as u64, guests);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
}
