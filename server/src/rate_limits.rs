//! Rate limits on what strangers may cause: writes, signatures, guesses. Each node counts for itself, in bounded memory.
//!
//! The limits are part of the policy, the server's or a client's own. A refresh of a known guest is under none of them.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use guestpass_core::choice::Choice;
use guestpass_core::client::{Client, ClientNumber};
use guestpass_core::grant::GrantId;
use guestpass_core::policy::Policy;
use guestpass_core::rate_limit::{Exceeded, RateLimit};
use guestpass_core::refusal::Refusal;
use lru::LruCache;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::app::App;
use crate::clock::SteadyClock;
use crate::listen::Peer;
use crate::metrics::{Metrics, RateLimited};
use crate::source::{Neighbourhood, Source};

/// What becomes of requests beyond a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// They are refused with 429.
    Enforce,
    /// They are counted and served.
    Monitor,
    /// Nothing is counted.
    Off,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "monitor" => Ok(Self::Monitor),
            "off" => Ok(Self::Off),
            _ => Err("write enforce, monitor or off".to_owned()),
        }
    }
}

/// Counts what each address, client and grant has done lately.
pub struct RateLimits {
    mode: Mode,
    clock: Arc<SteadyClock>,
    metrics: Family<RateLimited, Counter>,
    has_warned_of_proxy: AtomicBool,
    /// One for each limit that some policy has. They are few: as many as operators have written.
    limiters: Mutex<HashMap<(Choice, RateLimit), Arc<Limiter>>>,
}

type Limiter = RateLimiter<Asked, Buckets, Monotonic, NoOpMiddleware<Duration>>;

/// Who has a bucket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Whom {
    Source(Source),
    Neighbourhood(Neighbourhood),
    Client(ClientNumber),
    Grant(GrantId),
}

impl RateLimits {
    pub(crate) fn new(mode: Mode, clock: Arc<SteadyClock>, metrics: &Metrics) -> Self {
        Self {
            mode,
            clock,
            metrics: metrics.rate_limited.clone(),
            has_warned_of_proxy: AtomicBool::new(false),
            limiters: Mutex::default(),
        }
    }

    /// Warns, once, that a limit has met someone who says for whom it asks, and isn't trusted.
    pub(crate) fn warn_of_proxy(&self, peer: &Peer) {
        if !self.has_warned_of_proxy.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "a rate limit refused a request that names another address, in X-Forwarded-For or Forwarded: if it came \
                 through a proxy of yours, name that in trusted_proxies, or all visitors behind it share one limit"
            );
        }
    }

    /// Takes one out of the bucket of a source. An IPv6 network of 48 bits has as much as some of its networks of 64.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] if the bucket is empty.
    pub(crate) fn take_from_source(&self, limit: Limit<'_>, source: Source) -> Result<(), Refusal> {
        self.ask(limit, limit.rate(), Whom::Source(source), Takes::One)?;
        let Some(neighbourhood) = source.neighbourhood() else {
            return Ok(());
        };
        let rate = limit.rate().times(NEIGHBOURS);
        self.ask(limit, rate, Whom::Neighbourhood(neighbourhood), Takes::One)
    }

    /// Decides whether the bucket of a source is empty, and leaves it as it is.
    ///
    /// # Errors
    /// As [`RateLimits::take_from_source`].
    pub(crate) fn look_at_source(&self, limit: Limit<'_>, source: Source) -> Result<(), Refusal> {
        self.ask(limit, limit.rate(), Whom::Source(source), Takes::Nothing)
    }

    /// Takes one out of the bucket of a client.
    ///
    /// # Errors
    /// As [`RateLimits::take_from_source`].
    pub(crate) fn take_from_client(
        &self,
        limit: Limit<'_>,
        client: ClientNumber,
    ) -> Result<(), Refusal> {
        self.ask(limit, limit.rate(), Whom::Client(client), Takes::One)
    }

    /// Takes one out of the bucket of a grant.
    ///
    /// # Errors
    /// As [`RateLimits::take_from_source`].
    pub(crate) fn take_from_grant(&self, limit: Limit<'_>, grant: GrantId) -> Result<(), Refusal> {
        self.ask(limit, limit.rate(), Whom::Grant(grant), Takes::One)
    }

    fn ask(
        &self,
        limit: Limit<'_>,
        rate: RateLimit,
        whom: Whom,
        takes: Takes,
    ) -> Result<(), Refusal> {
        if self.mode == Mode::Off {
            return Ok(());
        }
        let Some(bucket) = rate.bucket() else {
            return Ok(());
        };
        let asked = Asked {
            whom,
            client: limit.own_of(),
            takes,
        };
        let Err(until) = self.limiter(limit.choice, rate, bucket).check_key(&asked) else {
            return Ok(());
        };
        let limited = RateLimited {
            limit: limit.choice.name(),
        };
        self.metrics.get_or_create(&limited).inc();
        if self.mode == Mode::Monitor {
            return Ok(());
        }
        let wait = until.wait_time_from(self.clock.monotonic());
        Err(Refusal::RateLimited(Exceeded {
            limit: limit.choice,
            bucket,
            retry_after: wait.as_secs() + 1,
        }))
    }

    fn limiter(
        &self,
        choice: Choice,
        rate: RateLimit,
        (count, period): (NonZeroU32, Duration),
    ) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let limiter = limiters.entry((choice, rate)).or_insert_with(|| {
            let quota = Quota::with_period(period / count.get())
                .expect("a period is a second or more, and has a billion parts or fewer")
                .allow_burst(count);
            let clock = Monotonic(self.clock.clone());
            Arc::new(RateLimiter::new(quota, Buckets::default(), clock))
        });
        Arc::clone(limiter)
    }
}

impl App {
    /// Counts a new guest of a client.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], as of all these: nothing is to be done then.
    pub(crate) fn check_new_guest(
        &self,
        client: &Client,
        source: Option<Source>,
    ) -> Result<(), Refusal> {
        let policy = self.clients.policy_of(client);
        let limit = |choice| Limit {
            choice,
            policy: &policy,
            client: Some(client),
        };
        if let Some(source) = source {
            let of_address = limit(Choice::GuestsPerAddress);
            self.rate_limits.take_from_source(of_address, source)?;
        }
        let of_client = limit(Choice::GuestsPerClient);
        self.rate_limits.take_from_client(of_client, client.number)
    }

    /// Counts a failure that may be a guess.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn count_guess(
        &self,
        client: Option<&Client>,
        source: Source,
    ) -> Result<(), Refusal> {
        let limit = Limit {
            choice: Choice::FailuresPerAddress,
            policy: &self.clients.policy_for(client),
            client,
        };
        self.rate_limits.take_from_source(limit, source)
    }

    /// Checks that there were not too many of them, before one that would be written.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn check_guesses(
        &self,
        client: &Client,
        source: Option<Source>,
    ) -> Result<(), Refusal> {
        let limit = Limit {
            choice: Choice::FailuresPerAddress,
            policy: &self.clients.policy_of(client),
            client: Some(client),
        };
        source.map_or(Ok(()), |source| {
            self.rate_limits.look_at_source(limit, source)
        })
    }

    /// Counts a revocation or an erasure.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn check_ending(
        &self,
        client: Option<&Client>,
        source: Option<Source>,
    ) -> Result<(), Refusal> {
        let limit = Limit {
            choice: Choice::EndingsPerAddress,
            policy: &self.clients.policy_for(client),
            client,
        };
        source.map_or(Ok(()), |source| {
            self.rate_limits.take_from_source(limit, source)
        })
    }

    /// Counts an introspection.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn check_introspection(&self, client: &Client) -> Result<(), Refusal> {
        let limit = Limit {
            choice: Choice::IntrospectionsPerClient,
            policy: &self.clients.policy_of(client),
            client: Some(client),
        };
        self.rate_limits.take_from_client(limit, client.number)
    }

    /// Counts a revocation of one access token of a grant. Returns whether there were too many: then it is the grant that
    /// should end.
    pub(crate) fn ends_too_many(&self, client: &Client, grant: GrantId) -> bool {
        let limit = Limit {
            choice: Choice::EndingsPerGrant,
            policy: &self.clients.policy_of(client),
            client: Some(client),
        };
        self.rate_limits.take_from_grant(limit, grant).is_err()
    }
}

/// One of the limits, as it holds for a client, or for whoever is none.
#[derive(Clone, Copy)]
pub(crate) struct Limit<'a> {
    pub(crate) choice: Choice,
    pub(crate) policy: &'a Policy,
    pub(crate) client: Option<&'a Client>,
}

impl Limit<'_> {
    fn rate(self) -> RateLimit {
        self.policy.rate_limit(self.choice)
    }

    /// Returns the client whose own limit this is: nobody else has to do with it, also where another client has the same.
    fn own_of(self) -> Option<ClientNumber> {
        let client = self.client?;
        client.choice(self.choice).map(|_| client.number)
    }
}

/// The networks of 64 bits whose limits one of 48 bits may use up: a network has 65,536 of them.
const NEIGHBOURS: u32 = 16;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Takes {
    One,
    Nothing,
}

/// What a limiter is asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Asked {
    whom: Whom,
    client: Option<ClientNumber>,
    takes: Takes,
}

/// The buckets of a limiter: the latest used are kept, and whoever was forgotten has a full one.
struct Buckets(Mutex<LruCache<(Whom, Option<ClientNumber>), Nanos>>);

impl Default for Buckets {
    fn default() -> Self {
        // Bounded below: this way its memory isn't taken before it is needed.
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl StateStore for Buckets {
    type Key = Asked;

    fn measure_and_replace<T, F, E>(&self, asked: &Asked, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (asked.whom, asked.client);
        let (outcome, after) = decide(buckets.get(&key).copied())?;
        if asked.takes == Takes::One {
            buckets.put(key, after);
            if buckets.len() > BUCKETS {
                buckets.pop_lru();
            }
        }
        Ok(outcome)
    }
}

/// The buckets that a limiter keeps, some 8 MB of them.
const BUCKETS: usize = 65_536;

/// The clock of the limiters, which a step of the machine's doesn't touch.
#[derive(Clone)]
struct Monotonic(Arc<SteadyClock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}
