//! Rate limits on what strangers may cause: writes, signatures, guesses. Each node counts for itself, in bounded memory.
//!
//! The limits are part of the policy, the server's or a client's own. A refresh of a known guest is under none of them.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
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

use crate::app::App;
use crate::clock::SteadyClock;
use crate::listen::Peer;
use crate::metrics::{Counters, Metrics, RateLimited};
use crate::source::{Neighbourhood, Source};

/// Says what becomes of requests beyond a limit.
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
    /// A [`Mode`] as a number.
    mode: AtomicU8,
    clock: Arc<SteadyClock>,
    metrics: Arc<Counters<RateLimited>>,
    has_warned_of_proxy: AtomicBool,
    /// One for each limit that some policy has. They are few: as many as operators have written.
    limiters: ArcSwap<Vec<(Choice, Size, Arc<Limiter>)>>,
}

type Limiter = RateLimiter<Asked, Buckets, Monotonic, NoOpMiddleware<Duration>>;

/// The size of a bucket, and the time in which it fills.
type Size = (NonZeroU32, Duration);

/// Names the owner of a bucket.
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
            mode: AtomicU8::new(mode as u8),
            clock,
            metrics: metrics.rate_limited.clone(),
            has_warned_of_proxy: AtomicBool::new(false),
            limiters: ArcSwap::default(),
        }
    }

    /// Takes over another mode.
    pub(crate) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    fn mode(&self) -> Mode {
        let number = self.mode.load(Ordering::Relaxed);
        let mut all = [Mode::Enforce, Mode::Monitor, Mode::Off].into_iter();
        all.find(|mode| *mode as u8 == number)
            .expect("it was made of one of these")
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

    /// Takes one out of each of these buckets, or out of none.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] if one of them is empty.
    fn take(&self, buckets: &[Option<Bucket>]) -> Result<(), Refusal> {
        // Where there is one, to take from it decides. Where there are several, it decides as well, for others may have taken
        // the last one meanwhile; then a bucket before it has lost one.
        if buckets.iter().flatten().nth(1).is_some() {
            self.look(buckets)?;
        }
        self.refuse_beyond(buckets, Takes::One, self.mode())
    }

    /// Checks that none of these buckets is empty.
    ///
    /// # Errors
    /// As [`RateLimits::take`].
    fn look(&self, buckets: &[Option<Bucket>]) -> Result<(), Refusal> {
        match self.mode() {
            mode @ Mode::Enforce => self.refuse_beyond(buckets, Takes::Nothing, mode),
            Mode::Monitor | Mode::Off => Ok(()),
        }
    }

    fn refuse_beyond(
        &self,
        buckets: &[Option<Bucket>],
        takes: Takes,
        mode: Mode,
    ) -> Result<(), Refusal> {
        if mode == Mode::Off {
            return Ok(());
        }
        for bucket in buckets.iter().flatten() {
            let Some(exceeded) = self.ask(bucket, takes) else {
                continue;
            };
            let limit = exceeded.limit.name();
            self.metrics.inc(&RateLimited { limit });
            if mode == Mode::Enforce {
                return Err(Refusal::RateLimited(exceeded));
            }
        }
        Ok(())
    }

    /// Asks a bucket. Returns the limit if it is empty.
    fn ask(&self, bucket: &Bucket, takes: Takes) -> Option<Exceeded> {
        let asked = Asked {
            whom: bucket.whom,
            client: bucket.client,
            takes,
        };
        let key = (bucket.choice, bucket.size);
        let limiters = self.limiters.load();
        let known = limiters.iter().find(|known| (known.0, known.1) == key);
        let until = match known {
            Some((_, _, limiter)) => limiter.check_key(&asked),
            None => self.add_limiter(bucket).check_key(&asked),
        }
        .err()?;
        Some(Exceeded {
            limit: bucket.choice,
            bucket: bucket.size,
            retry_after: until.wait_time_from(self.clock.monotonic()).as_secs() + 1,
        })
    }

    fn add_limiter(&self, bucket: &Bucket) -> Arc<Limiter> {
        let (count, period) = bucket.size;
        let quota = Quota::with_period(period / count.get())
            .expect("a period is a second or more, and has a billion parts or fewer")
            .allow_burst(count);
        let clock = Monotonic(self.clock.clone());
        let limiter = Arc::new(RateLimiter::new(quota, Buckets::default(), clock));
        let mut used = Arc::clone(&limiter);
        self.limiters.rcu(|known| {
            let mut limiters = Vec::clone(known);
            let key = (bucket.choice, bucket.size);
            match limiters.iter().find(|known| (known.0, known.1) == key) {
                // Another request has added it meanwhile.
                Some((_, _, known)) => used = Arc::clone(known),
                None => limiters.push((bucket.choice, bucket.size, Arc::clone(&limiter))),
            }
            limiters
        });
        used
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
        self.rate_limits
            .take(&self.limits_of_guests(client, source))
    }

    /// Checks that one more guest would be within the limits, and counts nothing.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn look_for_guest(
        &self,
        client: &Client,
        source: Option<Source>,
    ) -> Result<(), Refusal> {
        self.rate_limits
            .look(&self.limits_of_guests(client, source))
    }

    fn limits_of_guests(&self, client: &Client, source: Option<Source>) -> [Option<Bucket>; 3] {
        let policy = self.clients.policy_of(client);
        let of_address = Limit::new(Choice::GuestsPerAddress, &policy, Some(client));
        let of_client = Limit::new(Choice::GuestsPerClient, &policy, Some(client));
        let [own, wide] = of_address.buckets_of(source);
        [own, wide, of_client.bucket(Whom::Client(client.number))]
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
        let policy = self.clients.policy_for(client);
        let limit = Limit::new(Choice::FailuresPerAddress, &policy, client);
        self.rate_limits.take(&limit.buckets_of(Some(source)))
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
        let policy = self.clients.policy_of(client);
        let limit = Limit::new(Choice::FailuresPerAddress, &policy, Some(client));
        self.rate_limits.look(&limit.buckets_of(source))
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
        let policy = self.clients.policy_for(client);
        let limit = Limit::new(Choice::EndingsPerAddress, &policy, client);
        self.rate_limits.take(&limit.buckets_of(source))
    }

    /// Counts an introspection.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn check_introspection(&self, client: &Client) -> Result<(), Refusal> {
        let policy = self.clients.policy_of(client);
        let limit = Limit::new(Choice::IntrospectionsPerClient, &policy, Some(client));
        self.rate_limits
            .take(&[limit.bucket(Whom::Client(client.number))])
    }

    /// Counts a revocation of one access token of a grant. Returns whether there were too many: then it is the grant that
    /// should end.
    pub(crate) fn ends_too_many(&self, client: &Client, grant: GrantId) -> bool {
        let policy = self.clients.policy_of(client);
        let limit = Limit::new(Choice::EndingsPerGrant, &policy, Some(client));
        self.rate_limits
            .take(&[limit.bucket(Whom::Grant(grant))])
            .is_err()
    }
}

/// One of the limits, as it holds for a client, or for whoever is none.
#[derive(Clone, Copy)]
struct Limit<'a> {
    choice: Choice,
    policy: &'a Policy,
    client: Option<&'a Client>,
}

/// A bucket under a limit that there is.
#[derive(Clone, Copy)]
struct Bucket {
    choice: Choice,
    size: Size,
    whom: Whom,
    /// The client whose own limit it is: no other has to do with it, also where that has the same.
    client: Option<ClientNumber>,
}

impl<'a> Limit<'a> {
    const fn new(choice: Choice, policy: &'a Policy, client: Option<&'a Client>) -> Self {
        Self {
            choice,
            policy,
            client,
        }
    }

    fn bucket(self, whom: Whom) -> Option<Bucket> {
        self.bucket_under(self.policy.rate_limit(self.choice), whom)
    }

    /// Returns the buckets of a source: its own, and that of its IPv6 network of 48 bits, which has as much as some of its
    /// networks of 64.
    fn buckets_of(self, source: Option<Source>) -> [Option<Bucket>; 2] {
        let wide = source.and_then(Source::neighbourhood).and_then(|wide| {
            let rate = self.policy.rate_limit(self.choice).times(NEIGHBOURS);
            self.bucket_under(rate, Whom::Neighbourhood(wide))
        });
        let own = source.and_then(|source| self.bucket(Whom::Source(source)));
        [own, wide]
    }

    fn bucket_under(self, rate: RateLimit, whom: Whom) -> Option<Bucket> {
        let size = rate.bucket()?;
        let owner = self
            .client
            .filter(|client| client.choice(self.choice).is_some());
        Some(Bucket {
            choice: self.choice,
            size,
            whom,
            client: owner.map(|client| client.number),
        })
    }
}

/// The networks of 64 bits whose limits one of 48 bits may use up: a network has 65,536 of them.
const NEIGHBOURS: u32 = 16;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Takes {
    One,
    Nothing,
}

/// A question to a limiter.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Asked {
    whom: Whom,
    client: Option<ClientNumber>,
    takes: Takes,
}

/// The buckets of a limiter: the latest used are kept, and whoever was forgotten has a full one.
struct Buckets(Mutex<LruCache<(Whom, Option<ClientNumber>), Nanos, RandomState>>);

impl Default for Buckets {
    fn default() -> Self {
        // Bounded below: this way its memory isn't taken before it is needed.
        Self(Mutex::new(LruCache::unbounded_with_hasher(
            RandomState::default(),
        )))
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
        let mut known = buckets.get_mut(&key);
        let (outcome, after) = decide(known.as_deref().copied())?;
        match (asked.takes, &mut known) {
            (Takes::Nothing, _) => {}
            (Takes::One, Some(known)) => **known = after,
            (Takes::One, None) => {
                buckets.put(key, after);
                if buckets.len() > BUCKETS {
                    buckets.pop_lru();
                }
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
