//! Many requests for one grant at the same moment, on a real store: the write settles who was first.
//!
//! The clock stands still while they run, so that what they may be answered doesn't hang on how fast they are.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::support::{
    Answer, SHOP, TestApp, Tokens, WRONG_VERIFIER, exchange, introspect, refresh, revoke, verify,
};

const ROUNDS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_redemptions_of_one_code_one_is_granted() {
    let test = Arc::new(TestApp::new().await);
    for round in 1..=ROUNDS {
        let code = test.code(SHOP).await;
        let answers = test.at_once(vec![exchange(&code); 50]).await;
        let (granted, refused) = outcomes(&answers);
        assert_eq!((granted.len(), refused), (1, 49), "round {round}");
        // The losers had every proof right, so they were replays, and those end the grant.
        assert_eq!(revocations(&test).await, vec!["code_replayed"; round]);
        assert!(!test.is_live(&granted[0]).await, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_verifiers_at_the_same_moment_are_all_counted() {
    let test = Arc::new(TestApp::new().await);
    for round in 1..=ROUNDS {
        let code = test.code(SHOP).await;
        let wrong = exchange(&code).set("code_verifier", WRONG_VERIFIER);
        let answers = test.at_once(vec![wrong; 5]).await;
        let (granted, refused) = outcomes(&answers);
        assert_eq!((granted.len(), refused), (0, 5), "round {round}");
        test.refused(exchange(&code), "invalid_grant").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_refreshes_of_one_token_get_one_successor() {
    let test = Arc::new(TestApp::new().await);
    let mut newest = test.guest().await;
    let mut seen = HashSet::new();
    for round in 1..=ROUNDS {
        let predecessor = newest.refresh_token.clone();
        // Its first use; then, as if all answers had been lost, late retries of it.
        for _ in 1..=2 {
            let answers = test.at_once(vec![refresh(&predecessor); 32]).await;
            let (mut granted, refused) = outcomes(&answers);
            assert_eq!((leaves(&granted).len(), refused), (1, 0), "round {round}");
            newest = granted.remove(0);
            assert!(seen.insert(newest.refresh_token.clone()), "round {round}");
            test.clock.advance_secs(30);
        }
        let generation = test.database.number("select generation from grants").await;
        assert_eq!(generation, 1 + 2 * round as i64);
    }
    assert!(test.is_live(&newest).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_retry_beside_the_use_of_its_successor_ends_nothing() {
    let test = Arc::new(TestApp::new().await);
    for round in 1..=ROUNDS {
        let first = test.guest().await.refresh_token;
        let second = test.granted(refresh(&first)).await.refresh_token;
        test.clock.advance_secs(30);
        let requests = [vec![refresh(&first); 8], vec![refresh(&second); 8]].concat();
        let answers = test.at_once(requests).await;
        let (retried, _) = outcomes(&answers[..8]);
        let (used, refused) = outcomes(&answers[8..]);
        // A retry that came after the use was overtaken by it; all others got the one successor.
        assert_eq!((used.len(), refused), (8, 0), "round {round}");
        let successors = leaves(retried.iter().chain(&used));
        assert_eq!(successors.len(), 1, "round {round}");
        assert!(revocations(&test).await.is_empty(), "round {round}");
        assert!(test.is_live(&used[0]).await, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_beside_a_refresh_leaves_one_leaf_or_none() {
    let test = Arc::new(TestApp::new().await);
    for round in 1..=ROUNDS {
        let spent = test.guest().await.refresh_token;
        let second = test.granted(refresh(&spent)).await.refresh_token;
        let newest = test.granted(refresh(&second)).await;
        test.clock.advance_secs(30);
        let before = revocations(&test).await.len();
        let requests = [
            vec![refresh(&spent); 8],
            vec![refresh(&newest.refresh_token); 8],
        ]
        .concat();
        let answers = test.at_once(requests).await;
        let (replayed, _) = outcomes(&answers[..8]);
        assert!(replayed.is_empty(), "round {round}");
        let (granted, _) = outcomes(&answers[8..]);
        assert!(leaves(&granted).len() <= 1, "round {round}");
        // The order decides between a replay and a request that was overtaken on its way.
        let was_replay = revocations(&test).await.len() > before;
        for tokens in granted.iter().chain([&newest]) {
            assert_eq!(test.is_live(tokens).await, !was_replay, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_erased_between_refreshes_stays_erased() {
    let test = Arc::new(TestApp::new().await);
    let other = test.guest().await;
    for round in 1..=ROUNDS {
        let guest = test.guest().await;
        let sub = guest.sub().parse().unwrap();
        let (progress, mut refreshed) = mpsc::unbounded_channel();
        let erased = Arc::new(AtomicBool::new(false));
        let refreshing = tokio::spawn({
            let (test, erased) = (Arc::clone(&test), Arc::clone(&erased));
            async move {
                let mut token = guest.refresh_token;
                loop {
                    let too_late = erased.load(Ordering::SeqCst);
                    let answer = test.send(refresh(&token)).await;
                    let (mut granted, refused) = outcomes(&[answer]);
                    if refused == 1 {
                        return token;
                    }
                    assert!(!too_late, "round {round}");
                    token = granted.remove(0).refresh_token;
                    progress.send(()).unwrap();
                }
            }
        });
        for _ in 0..round {
            refreshed.recv().await.unwrap();
        }
        test.app.erase(sub).await.unwrap();
        erased.store(true, Ordering::SeqCst);
        let token = refreshing.await.unwrap();
        test.refused(refresh(&token), "invalid_grant").await;
        let left = test.counts().await;
        assert_eq!(left, (1, 1), "round {round}");
    }
    assert!(test.is_live(&other).await);
}

/// Five hundred times, a refresh and the revocation of what it refreshes: whoever was first, nothing of the grant lives
/// once both are answered.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_grant_outlives_its_revocation() {
    const PAIRS: usize = 20;
    let test = Arc::new(TestApp::new().await);
    let api_key = test.add_confidential_client("api").await;
    for round in 1..=500 / PAIRS {
        // Of one millisecond there are only so many ids.
        test.clock.advance(Duration::from_millis(1));
        let mut guests = Vec::new();
        for _ in 0..PAIRS {
            guests.push(test.guest().await);
        }
        let of = |guest: &Tokens| {
            let both = [refresh(&guest.refresh_token), revoke(&guest.refresh_token)];
            // Now the one in front, now the other.
            if round % 2 == 0 {
                both
            } else {
                let [a, b] = both;
                [b, a]
            }
        };
        let answers = test.at_once(guests.iter().flat_map(of).collect()).await;
        for (guest, answers) in guests.into_iter().zip(answers.chunks(2)) {
            let (revoked, refreshed) = if round % 2 == 0 {
                (&answers[1], &answers[0])
            } else {
                (&answers[0], &answers[1])
            };
            assert_eq!((revoked.status.as_u16(), revoked.body.len()), (200, 0));
            let (mut given, _) = outcomes(std::slice::from_ref(refreshed));
            given.push(guest);
            for tokens in &given {
                test.refused(refresh(&tokens.refresh_token), "invalid_grant")
                    .await;
                let access_token = &tokens.access_token;
                assert_eq!(test.send(verify(access_token)).await.status, 401);
                let ask = introspect(access_token).set("client_id", "api");
                let told = test.send(ask.header("x-api-key", &api_key)).await;
                assert_eq!(told.json()["active"], false, "round {round}");
            }
        }
    }
    assert_eq!(revocations(&test).await.len(), 500);
}

/// The tokens that were given, and how many requests were refused with `invalid_grant`. There must be no other
/// answer.
fn outcomes(answers: &[Answer]) -> (Vec<Tokens>, usize) {
    let (granted, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    for answer in &refused {
        let outcome = (answer.status.as_u16(), answer.error());
        assert_eq!(outcome, (400, "invalid_grant"), "{answer:?}");
    }
    let tokens = granted.iter().map(|answer| answer.tokens());
    (tokens.collect(), refused.len())
}

/// The different refresh tokens among them.
fn leaves<'a>(tokens: impl IntoIterator<Item = &'a Tokens>) -> HashSet<&'a str> {
    let tokens = tokens.into_iter();
    tokens.map(|given| &*given.refresh_token).collect()
}

/// Returns the reasons of the revoked grants.
async fn revocations(test: &TestApp) -> Vec<String> {
    let reasons = "select revocation_reason from grants where revoked_at is not null";
    test.database.column(reasons).await
}
