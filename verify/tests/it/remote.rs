//! Tests keys from an issuer's JWK set, over a real connection. Each test controls the issuer's answers and their time.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use guestpass_verify::{FetchError, KeyError, Rejection, RemoteKeySet, Unverified};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::support::{NOW, Signer, signers, verifier};

const DAY: i64 = 86_400;

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_set_is_fetched_when_it_is_needed_and_kept_for_its_time() {
    let (signer, issuer) = (Signer::es256("1"), Issuer::start().await);
    issuer.publish(&[&signer], "public, max-age=900");
    let keys = issuer.keys();
    assert_eq!(issuer.fetches(), 0);
    for now in [NOW, NOW + 1, NOW + 899] {
        assert_eq!(verify(&keys, &signer, now).await, Ok(()));
        assert_eq!(issuer.fetches(), 1);
    }
    // A key that the issuer has removed is gone here once the set is stale.
    issuer.publish(&[], "public, max-age=900");
    assert_eq!(verify(&keys, &signer, NOW + 899).await, Ok(()));
    assert_eq!(
        verify(&keys, &signer, NOW + 900).await,
        Err(Rejection::KeyUnknown.into())
    );
    assert_eq!((issuer.fetches(), keys.last_error()), (2, None));
}

#[tokio::test]
async fn c112_a_key_rotated_at_the_issuer() {
    let (previous, current) = (Signer::es256("1"), Signer::es256("2"));
    let issuer = Issuer::start().await;
    issuer.publish(&[&previous], "max-age=900");
    let keys = issuer.keys();
    assert_eq!(verify(&keys, &previous, NOW).await, Ok(()));
    issuer.publish(&[&current, &previous], "max-age=900");
    assert_eq!(verify(&keys, &current, NOW + 5).await, Ok(()));
    assert_eq!(verify(&keys, &previous, NOW + 5).await, Ok(()));
    assert_eq!(issuer.fetches(), 2);
    issuer.publish(&[&current], "max-age=900");
    assert_eq!(
        verify(&keys, &previous, NOW + 905).await,
        Err(Rejection::KeyUnknown.into())
    );
    assert_eq!(verify(&keys, &current, NOW + 905).await, Ok(()));
    assert_eq!(issuer.fetches(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c103_unknown_key_ids_make_no_fetch_storm() {
    let (signer, issuer) = (Signer::es256("1"), Issuer::start().await);
    issuer.publish(&[&signer], "max-age=900");
    let keys = issuer.keys();
    assert_eq!(verify(&keys, &signer, NOW).await, Ok(()));
    // A hundred at once, right after a fetch and then whenever the rate limit allows another, before it is answered.
    for (now, fetches) in [
        (NOW, 1),
        (NOW + 4, 1),
        (NOW + 5, 2),
        (NOW + 9, 2),
        (NOW + 10, 3),
    ] {
        issuer.hold();
        let asked: Vec<_> = (0..100)
            .map(|n| {
                let keys = keys.clone();
                let token = signer.token(&[("kid", json!(format!("../{n}")))], &[]);
                tokio::spawn(async move { keys.verify(&verifier(), &token, now).await.map(drop) })
            })
            .collect();
        // A token with a known key doesn't wait.
        assert_eq!(verify(&keys, &signer, now).await, Ok(()));
        issuer.release();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), Err(Rejection::KeyUnknown.into()));
        }
        assert_eq!(issuer.fetches(), fetches, "at {now}");
    }
}

#[tokio::test]
async fn all_who_come_before_the_first_set_wait_for_one_fetch() {
    let (signer, issuer) = (Arc::new(Signer::es256("1")), Issuer::start().await);
    issuer.publish(&[&signer], "max-age=900");
    issuer.hold();
    let keys = issuer.keys();
    let asked: Vec<_> = (0..50)
        .map(|n| {
            let (keys, signer) = (keys.clone(), Arc::clone(&signer));
            tokio::spawn(async move { verify(&keys, &signer, NOW + n).await })
        })
        .collect();
    issuer.is_asked().await;
    issuer.release();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), Ok(()));
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_fetch_outlives_the_request_that_began_it() {
    let (signer, issuer) = (Signer::es256("1"), Issuer::start().await);
    issuer.publish(&[&signer], "max-age=900");
    issuer.hold();
    let keys = issuer.keys();
    tokio::select! {
        _ = verify(&keys, &signer, NOW) => unreachable!("the issuer doesn't answer yet"),
        () = issuer.is_asked() => {}
    }
    issuer.release();
    assert_eq!(verify(&keys, &signer, NOW).await, Ok(()));
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn while_one_waits_for_a_newer_set_others_use_the_old_one() {
    let (signer, issuer) = (Arc::new(Signer::es256("1")), Issuer::start().await);
    issuer.publish(&[&signer], "max-age=60");
    let keys = issuer.keys();
    assert_eq!(verify(&keys, &signer, NOW).await, Ok(()));
    issuer.is_asked().await;
    issuer.hold();
    let first = {
        let (keys, signer) = (keys.clone(), Arc::clone(&signer));
        tokio::spawn(async move { verify(&keys, &signer, NOW + 60).await })
    };
    issuer.is_asked().await;
    assert_eq!(verify(&keys, &signer, NOW + 60).await, Ok(()));
    issuer.release();
    assert_eq!(first.await.unwrap(), Ok(()));
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn while_fetching_fails_the_old_set_goes_on() {
    let (signer, issuer) = (Signer::es256("1"), Issuer::start().await);
    let keys = issuer.keys();
    let mut now = NOW;
    let long = json!({"keys": [], "x": "x".repeat(64 * 1024)}).to_string();
    let failures = [
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "{}",
            FetchError::Status(StatusCode::INTERNAL_SERVER_ERROR),
        ),
        (StatusCode::FOUND, "", FetchError::Status(StatusCode::FOUND)),
        (
            StatusCode::NO_CONTENT,
            "",
            FetchError::Status(StatusCode::NO_CONTENT),
        ),
        (
            StatusCode::OK,
            "<html>",
            FetchError::NotAKeySet(KeyError::NotAKeySet),
        ),
        (
            StatusCode::OK,
            "[]",
            FetchError::NotAKeySet(KeyError::NotAKeySet),
        ),
        (StatusCode::OK, &long, FetchError::TooLong),
    ];
    for has_old in [false, true] {
        for (status, body, error) in &failures {
            let fetches = issuer.fetches();
            let expected = if has_old {
                Ok(())
            } else {
                Err(Unverified::KeysUnavailable)
            };
            issuer.answer(*status, "max-age=900", body);
            assert_eq!(verify(&keys, &signer, now).await, expected, "{error}");
            assert_eq!(keys.last_error().as_ref(), Some(error));
            // Tried again, but not at once.
            assert_eq!(verify(&keys, &signer, now + 4).await, expected);
            assert_eq!(issuer.fetches(), fetches + 1);
            now += 5;
        }
        issuer.publish(&[&signer], "max-age=60");
        assert_eq!(verify(&keys, &signer, now).await, Ok(()));
        assert_eq!(keys.last_error(), None);
        now += 60;
    }
}

#[tokio::test]
async fn f40_a_set_that_cannot_be_fetched_anew_is_trusted_for_a_day_at_most() {
    for (bound, trusted) in [
        (None, DAY),
        (Some(7200), 7200),
        (Some(7 * 86_400), 7 * DAY),
        // Less than the time for which the issuer calls it fresh; and less than may be chosen.
        (Some(120), 120),
        (Some(0), 60),
    ] {
        let (signer, issuer) = (Signer::es256("1"), Issuer::start().await);
        issuer.publish(&[&signer], "max-age=900");
        let mut keys = issuer.keys();
        if let Some(bound) = bound {
            keys = keys.trust_for(Duration::from_secs(bound));
        }
        assert_eq!(verify(&keys, &signer, NOW).await, Ok(()));
        issuer.answer(StatusCode::BAD_GATEWAY, "", "");
        let last = NOW + trusted - 1;
        assert_eq!(verify(&keys, &signer, last).await, Ok(()), "{bound:?}");
        // No longer, whether it is asked for again or it was just now.
        for now in [last + 1, last + 5, last + 6, last + 100 * DAY] {
            let refused = verify(&keys, &signer, now).await;
            assert_eq!(refused, Err(Unverified::KeysUnavailable), "{bound:?}");
        }
        let error = FetchError::Status(StatusCode::BAD_GATEWAY);
        assert_eq!(keys.last_error(), Some(error));
        // A clone chooses for itself, and shares the set.
        let patient = keys.clone().trust_for(Duration::MAX);
        let much_later = last + 200 * DAY;
        assert_eq!(verify(&patient, &signer, much_later).await, Ok(()));
        // What was removed meanwhile is gone.
        issuer.publish(&[], "max-age=900");
        let refused = verify(&keys, &signer, much_later + 5).await;
        assert_eq!(refused, Err(Rejection::KeyUnknown.into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_all_who_come_when_a_set_is_no_longer_trusted_wait_for_one_fetch() {
    let (signer, issuer) = (Arc::new(Signer::es256("1")), Issuer::start().await);
    issuer.publish(&[&signer], "max-age=900");
    let keys = issuer.keys();
    assert_eq!(verify(&keys, &signer, NOW).await, Ok(()));
    issuer.is_asked().await;
    issuer.publish(&[], "max-age=900");
    issuer.hold();
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let (keys, signer) = (keys.clone(), Arc::clone(&signer));
            tokio::spawn(async move { verify(&keys, &signer, NOW + DAY).await })
        })
        .collect();
    issuer.is_asked().await;
    issuer.release();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), Err(Rejection::KeyUnknown.into()));
    }
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn an_issuer_that_hangs_or_is_gone() {
    let (signer, issuer) = (Signer::es256("1"), Issuer::start().await);
    issuer.hold();
    let keys = RemoteKeySet::new(&issuer.url, Duration::from_millis(1)).unwrap();
    assert_eq!(
        verify(&keys, &signer, NOW).await,
        Err(Unverified::KeysUnavailable)
    );
    assert_eq!(keys.last_error(), Some(FetchError::TooSlow));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let keys = RemoteKeySet::new(&format!("http://{address}/"), PATIENCE).unwrap();
    assert_eq!(
        verify(&keys, &signer, NOW).await,
        Err(Unverified::KeysUnavailable)
    );
    assert!(matches!(
        keys.last_error(),
        Some(FetchError::Unreachable(_))
    ));

    // The issuer answers a TLS handshake in plain HTTP. This machine may have no root certificates.
    match RemoteKeySet::new(&issuer.url.replace("http:", "https:"), PATIENCE) {
        Ok(keys) => {
            assert_eq!(
                verify(&keys, &signer, NOW).await,
                Err(Unverified::KeysUnavailable)
            );
            assert!(matches!(
                keys.last_error(),
                Some(FetchError::Unreachable(_))
            ));
        }
        Err(error) => assert!(matches!(error, FetchError::NoTrustAnchors(_)), "{error}"),
    }
}

#[tokio::test]
async fn a_published_secret_is_no_key() {
    let issuer = Issuer::start().await;
    let [secret, public, ..] = signers();
    issuer.publish(&[secret, public], "max-age=900");
    let keys = issuer.keys();
    assert_eq!(verify(&keys, public, NOW).await, Ok(()));
    assert_eq!(
        verify(&keys, secret, NOW).await,
        Err(Rejection::KeyUnknown.into())
    );
}

async fn verify(keys: &RemoteKeySet, signer: &Signer, now: i64) -> Result<(), Unverified> {
    let token = signer.token(&[], &[("exp", json!(NOW + 1000 * DAY))]);
    keys.verify(&verifier(), &token, now).await.map(drop)
}

/// Serves a JWK set on loopback, until its runtime ends.
struct Issuer {
    url: String,
    site: Arc<Site>,
}

struct Site {
    answer: Mutex<(StatusCode, String, String)>,
    fetches: AtomicUsize,
    /// Has a permit while answers aren't held back.
    gate: Semaphore,
    asked: Semaphore,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let site = Arc::new(Site {
            answer: Mutex::default(),
            fetches: AtomicUsize::new(0),
            gate: Semaphore::new(1),
            asked: Semaphore::new(0),
        });
        let shared = Arc::clone(&site);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let site = Arc::clone(&shared);
                let service = service_fn(move |request| Arc::clone(&site).serve(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, site }
    }

    fn keys(&self) -> RemoteKeySet {
        RemoteKeySet::new(&self.url, PATIENCE).unwrap()
    }

    fn publish(&self, signers: &[&Signer], cache_control: &str) {
        let jwks: Vec<&Value> = signers.iter().map(|signer| &signer.jwk).collect();
        self.answer(
            StatusCode::OK,
            cache_control,
            &json!({"keys": jwks}).to_string(),
        );
    }

    fn answer(&self, status: StatusCode, cache_control: &str, body: &str) {
        *self.site.answer.lock().unwrap() = (status, cache_control.to_owned(), body.to_owned());
    }

    fn fetches(&self) -> usize {
        self.site.fetches.load(Ordering::SeqCst)
    }

    /// Holds back the answers until `release`.
    fn hold(&self) {
        self.site.gate.forget_permits(1);
    }

    fn release(&self) {
        self.site.gate.add_permits(1);
    }

    /// Waits until the next request has arrived.
    async fn is_asked(&self) {
        self.site.asked.acquire().await.unwrap().forget();
    }
}

impl Site {
    async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<String>, Infallible> {
        assert_eq!(
            (request.method().as_str(), request.uri().path()),
            ("GET", "/jwks.json")
        );
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.asked.add_permits(1);
        let _permit = self.gate.acquire().await.unwrap();
        let (status, cache_control, body) = self.answer.lock().unwrap().clone();
        let response = Response::builder()
            .status(status)
            .header("cache-control", cache_control)
            .header("location", "/elsewhere");
        Ok(response.body(body).unwrap())
    }
}
