//! The guests who are to be served all the same: new ones, each from an address of its own, and known ones. Each request
//! comes on a connection of its own, as it must get past everybody who waits for one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::attack::address;
use super::attackers::target;
use super::client::{Answered, Client};
use crate::answer::member;
use crate::failure::Failure;
use crate::generator::{Outcome, histogram};
use crate::guests::{Guests, Token};

/// Holds the guests, and how often they ask.
pub(super) struct Visitors {
    server: SocketAddr,
    /// New guests in a second.
    new: f64,
    /// Refreshes of known guests in a second, of all of them in turn.
    refreshes: f64,
    /// Number of new guests so far, each of which has another address.
    come: usize,
    /// Number of refreshes so far.
    refreshed: usize,
    known: Arc<Mutex<Guests>>,
}

/// Holds what guests of one kind have heard.
#[derive(Clone)]
pub(super) struct Heard {
    /// In microseconds, from when the request was due. One without the answer that it should have counts as the longest.
    pub(super) latency: Histogram<u64>,
    pub(super) good: u64,
    /// Other answers by status; 0 is none.
    pub(super) failed: BTreeMap<u16, u64>,
    pub(super) first_failure: Option<String>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            latency: histogram(),
            good: 0,
            failed: BTreeMap::new(),
            first_failure: None,
        }
    }
}

impl From<Outcome> for Heard {
    fn from(outcome: Outcome) -> Self {
        let mut latency = outcome.latency;
        let failed = outcome.failed.values().sum();
        latency.saturating_record_n(u64::MAX, failed);
        Self {
            latency,
            good: outcome.done,
            failed: outcome.failed,
            first_failure: outcome.first_failure,
        }
    }
}

impl Heard {
    fn note(&mut self, due: Instant, answered: std::io::Result<Answered>) {
        let (status, text) = match answered {
            Ok(Answered { status: 200, .. }) => {
                self.good += 1;
                let micros = due.elapsed().as_micros();
                self.latency
                    .saturating_record(micros.try_into().unwrap_or(u64::MAX));
                return;
            }
            Ok(Answered { status, body }) => (status, String::from_utf8_lossy(&body).into_owned()),
            Err(error) => (0, error.to_string()),
        };
        self.latency.saturating_record(u64::MAX);
        *self.failed.entry(status).or_default() += 1;
        self.first_failure
            .get_or_insert_with(|| format!("{status}: {text}"));
    }

    /// Returns a quantile of the latency in milliseconds.
    pub(super) fn millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "good": self.good,
            "failed": self.failed,
            "first_failure": self.first_failure,
            "latency_ms": {
                "p50": self.millis(0.5), "p90": self.millis(0.9), "p99": self.millis(0.99), "max": self.millis(1.0),
            },
        })
    }
}

/// Holds what new and known guests have heard in the same time.
#[derive(Default)]
pub(super) struct Both {
    pub(super) new: Heard,
    pub(super) known: Heard,
}

/// Second bytes of the addresses of new and of known guests.
const NEW: u8 = 100;
const KNOWN: u8 = 101;

/// New guests in a second: in five minutes as many as the addresses `127.100.0.0/16` have room for, four times.
pub(super) const NEW_IN_A_SECOND: f64 = 50.0;
/// Each known guest refreshes once in this many seconds, as often as possible without being a retry within the grace window.
pub(super) const REFRESHED_EVERY: f64 = 20.0;

impl Visitors {
    pub(super) fn new(server: SocketAddr, known: Guests) -> Self {
        Self {
            server,
            new: NEW_IN_A_SECOND,
            refreshes: known.len() as f64 / REFRESHED_EVERY,
            come: 0,
            refreshed: 0,
            known: Arc::new(Mutex::new(known)),
        }
    }

    /// Has guests come for so long, and waits until all have an answer or have waited in vain.
    pub(super) fn come_for(&mut self, time: Duration) -> Result<Both, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let heard = Arc::<Mutex<Both>>::default();
            let mut asking = JoinSet::new();
            let start = Instant::now();
            let mut new = due(start, self.new);
            let mut refreshes = due(start, self.refreshes);
            let (mut next_new, mut next_refresh) = (new.next(), refreshes.next());
            while let Some(next) = [next_new, next_refresh]
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next < start + time)
            {
                sleep_until(next).await;
                if next_new == Some(next) {
                    asking.spawn(self.next_new().ask(next, Arc::clone(&heard)));
                    next_new = new.next();
                } else {
                    asking.spawn(self.next_refresh().ask(next, Arc::clone(&heard)));
                    next_refresh = refreshes.next();
                }
                while asking.try_join_next().is_some() {}
            }
            while asking.join_next().await.is_some() {}
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(std::mem::take(&mut *heard))
        })
    }

    /// Asks whether the server is ready, and returns the status.
    pub(super) fn is_ready(&self) -> Result<bool, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime
            .block_on(async {
                let mut client = Client::connect(address(NEW, 0), self.server).await?;
                let answered = client
                    .ask(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    .await?;
                std::io::Result::Ok(answered.status == 200)
            })
            .unwrap_or(false))
    }

    fn next_new(&mut self) -> NewGuest {
        self.come += 1;
        NewGuest {
            server: self.server,
            from: address(NEW, self.come % 65_000),
        }
    }

    fn next_refresh(&mut self) -> KnownGuest {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.refreshed % known.len();
        self.refreshed += 1;
        KnownGuest {
            server: self.server,
            number,
            all: Arc::clone(&self.known),
        }
    }
}

/// Yields when the requests of a rate are due.
fn due(start: Instant, rate: f64) -> impl Iterator<Item = Instant> {
    (0_u32..).map(move |number| start + Duration::from_secs_f64(f64::from(number) / rate))
}

struct NewGuest {
    server: SocketAddr,
    from: Ipv4Addr,
}

impl NewGuest {
    async fn ask(self, due: Instant, heard: Arc<Mutex<Both>>) {
        let request = target(self.server).authorize();
        let answered = once(self.from, self.server, &request).await;
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .new
            .note(due, answered);
    }
}

struct KnownGuest {
    server: SocketAddr,
    number: usize,
    all: Arc<Mutex<Guests>>,
}

impl KnownGuest {
    async fn ask(self, due: Instant, heard: Arc<Mutex<Both>>) {
        let all = || self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let token = all().token(self.number);
        let request = [&target(self.server).refresh()[..], &token.0].concat();
        let answered = once(address(KNOWN, self.number), self.server, &request).await;
        // Without an answer it keeps the old token, which is good within the grace window.
        if let Ok(Answered { status: 200, body }) = &answered {
            let token = member(body, "refresh_token").and_then(Token::parse);
            all().put_back(self.number, token);
        }
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .known
            .note(due, answered);
    }
}

/// Sends one request on a connection of its own.
async fn once(from: Ipv4Addr, to: SocketAddr, request: &[u8]) -> std::io::Result<Answered> {
    Client::connect(from, to).await?.ask(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_its_answer_counts_as_the_slowest() {
        let answered = |status| Answered {
            status,
            body: Vec::new(),
        };
        let mut heard = Heard::default();
        let due = Instant::now();
        for _ in 0..98 {
            heard.note(due, Ok(answered(200)));
        }
        assert!(heard.millis(0.99) < 60_000.0);
        heard.note(due, Ok(answered(503)));
        heard.note(due, Err(std::io::ErrorKind::ConnectionReset.into()));
        assert!(heard.millis(0.99) >= 60_000.0);
        assert_eq!(heard.failed, BTreeMap::from([(0, 1), (503, 1)]));
    }
}
