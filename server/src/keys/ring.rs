//! The keys as this process knows them, and the way to change them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::credential::{Credential, Seed};
use guestpass_core::time::Timestamp;
use tokio::sync::Mutex;

use super::life::{self, KeyChange, Step};
use super::signing::SigningKey;
use super::{
    KeyAlgorithm, KeyUse, Keys, KeysError, Lifetimes, MasterKey, RemovalRefused, RotationRefused,
    Schedule,
};
use crate::random::Random;
use crate::store::{Store, Unavailable, WrappedKey};
use crate::timing::SEEN;

/// The keys of an installation as this process knows them, and the way to change them.
pub struct KeyRing {
    store: Arc<dyn Store>,
    master_key: MasterKey,
    random: Arc<dyn Random>,
    schedule: Schedule,
    known: ArcSwap<Keys>,
    /// One at a time, lest older keys be put over newer ones.
    refreshing: Mutex<()>,
    /// The moment at which the store was last asked.
    refreshed_at: RwLock<Instant>,
}

/// Brings the master key, or makes one.
pub struct MasterKeySource<'a> {
    /// The master key, if there is one in its place.
    pub present: Option<MasterKey>,
    /// Makes and keeps a new one; asked only while the store holds neither keys nor guests.
    pub make: &'a (dyn Fn() -> Result<MasterKey, String> + Sync),
}

impl KeyRing {
    /// Loads the keys of an installation, making the first ones if it is new.
    ///
    /// # Errors
    /// [`KeysError`] if the master key is missing or wrong, or the store can't answer.
    pub async fn load(
        store: Arc<dyn Store>,
        master_key: MasterKeySource<'_>,
        random: Arc<dyn Random>,
        schedule: Schedule,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        let mut installation = store.installation().await?;
        let is_new = installation.keys.is_empty() && installation.master_key_check.is_none();
        let has_guests = is_new && !store.profiles(None, 1).await?.is_empty();
        let master_key = match master_key.present {
            Some(key) => key,
            None if is_new && !has_guests => (master_key.make)().map_err(KeysError::CannotKeep)?,
            None => return Err(KeysError::MasterKeyMissing),
        };
        if is_new {
            if has_guests {
                return Err(KeysError::KeysMissing);
            }
            let first = KeyUse::ALL
                .into_iter()
                .map(|key_use| {
                    let algorithm = match key_use {
                        KeyUse::AccessToken => schedule.algorithm,
                        KeyUse::Credential | KeyUse::RequestId => KeyAlgorithm::A256GcmSiv,
                        KeyUse::Tombstone => KeyAlgorithm::Hs256,
                    };
                    let made = make(&master_key, &*random, key_use, algorithm, now)?;
                    Ok(WrappedKey {
                        current_at: Some(now),
                        ..made
                    })
                })
                .collect::<Result<_, KeysError>>()?;
            // If another process was faster, its keys stand and these are forgotten.
            store.insert_first_keys(master_key.check(), first).await?;
            installation = store.installation().await?;
        }
        let known = ArcSwap::from_pointee(Keys::unlock(&installation, &master_key)?);
        Ok(Self {
            store,
            master_key,
            random,
            schedule,
            known,
            refreshing: Mutex::new(()),
            refreshed_at: RwLock::new(Instant::now()),
        })
    }

    /// Returns the keys as they are now. Whoever keeps them while something is waited for clones the [`Arc`].
    #[must_use]
    pub fn now(&self) -> Guard<Arc<Keys>> {
        self.known.load()
    }

    /// Returns the operator's choices for the life of keys.
    #[must_use]
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Reads the keys again if anything has changed since.
    ///
    /// # Errors
    /// [`KeysError`] if the store can't answer or the keys can't be opened; what is known stays.
    pub async fn refresh(&self) -> Result<(), KeysError> {
        let _one_at_a_time = self.refreshing.lock().await;
        self.read_again().await
    }

    /// As [`KeyRing::refresh`], given the revision that the store had when it was asked at `asked_at`.
    ///
    /// # Errors
    /// As there.
    pub async fn follow(&self, revision: i64, asked_at: Instant) -> Result<(), KeysError> {
        let _one_at_a_time = self.refreshing.lock().await;
        self.read_if_moved(revision, asked_at).await
    }

    /// As [`KeyRing::refresh`], unless another has done it while this one waited.
    async fn refresh_if_behind(&self) -> Result<(), KeysError> {
        let _one_at_a_time = self.refreshing.lock().await;
        if self.may_be_stale() {
            self.read_again().await?;
        }
        Ok(())
    }

    async fn read_again(&self) -> Result<(), KeysError> {
        let asked_at = Instant::now();
        let revision = self.store.revision().await?;
        self.read_if_moved(revision, asked_at).await
    }

    async fn read_if_moved(&self, revision: i64, asked_at: Instant) -> Result<(), KeysError> {
        if revision != self.now().revision {
            let installation = self.store.installation().await?;
            let keys = Arc::new(Keys::unlock(&installation, &self.master_key)?);
            self.known.store(keys);
        }
        let mut refreshed_at = self
            .refreshed_at
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *refreshed_at = asked_at;
        Ok(())
    }

    /// Opens a credential. If no key does, another node may seal with one that came while this node was asleep or cut
    /// off: then it looks first, lest a guest be turned away for good.
    ///
    /// # Errors
    /// [`Unavailable`] if it looks and can't see.
    pub async fn open(&self, text: &str) -> Result<Option<Credential>, Unavailable> {
        self.open_by(|keys| keys.open(text)).await
    }

    /// Opens the text of a seed, in the same way.
    ///
    /// # Errors
    /// As [`KeyRing::open`].
    pub async fn open_seed(&self, text: &str) -> Result<Option<Seed>, Unavailable> {
        self.open_by(|keys| keys.open_seed(text)).await
    }

    async fn open_by<T>(
        &self,
        open: impl Fn(&Keys) -> Option<T>,
    ) -> Result<Option<T>, Unavailable> {
        let opened = open(&self.now());
        if opened.is_some() || !self.may_be_stale() {
            return Ok(opened);
        }
        tokio::time::timeout(OPEN_DEADLINE, self.refresh_if_behind())
            .await
            .map_err(|_| Unavailable("the keys can't be read".into()))?
            .map_err(|error| Unavailable(error.to_string()))?;
        Ok(open(&self.now()))
    }

    /// Decides whether a key may be in use that this node doesn't know.
    fn may_be_stale(&self) -> bool {
        let refreshed_at = *self
            .refreshed_at
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        refreshed_at.elapsed() >= SEEN
    }

    /// Does what is due in the life of the keys.
    ///
    /// # Errors
    /// [`KeysError`] as [`KeyRing::refresh`].
    pub async fn tend(&self, lifetimes: Lifetimes, now: Timestamp) -> Result<(), KeysError> {
        let steps = life::due(&self.now().listed, &self.schedule, lifetimes, now);
        self.carry_out(steps, now).await.map(drop)
    }

    /// Removes the keys that nothing needs any more, if the clock is right.
    ///
    /// # Errors
    /// [`KeysError`] as [`KeyRing::refresh`].
    pub async fn remove_needless(&self, now: Timestamp) -> Result<(), KeysError> {
        let steps = life::needless(&self.now().listed, now);
        self.carry_out(steps, now).await.map(drop)
    }

    /// Rotates the keys of a use, as an operator asks for. `forced` skips the waiting, and gives up the oldest sealing
    /// key. `false` if another process changed the keys meanwhile.
    ///
    /// # Errors
    /// [`RotateError`] if it would do harm, or as [`KeyRing::refresh`].
    pub async fn rotate(
        &self,
        key_use: KeyUse,
        now: Timestamp,
        forced: bool,
    ) -> Result<bool, RotateError> {
        let steps = life::rotate(&self.now().listed, key_use, &self.schedule, now, forced)
            .map_err(RotateError::Refused)?;
        self.carry_out(steps, now).await.map_err(RotateError::Keys)
    }

    /// Returns the time until all nodes that reach the store know the next key of a use.
    #[must_use]
    pub fn until_seen(&self, key_use: KeyUse, now: Timestamp) -> Duration {
        life::until_seen(&self.now().listed, key_use, now)
    }

    /// Forgets a retiring key at once. `false` if another process changed the keys meanwhile.
    ///
    /// # Errors
    /// [`RemoveError`] if the key isn't retiring, or as [`KeyRing::refresh`].
    pub async fn remove(&self, kid: &str, now: Timestamp) -> Result<bool, RemoveError> {
        let steps = life::remove(self.now().list(), kid).map_err(RemoveError::Refused)?;
        self.carry_out(steps, now).await.map_err(RemoveError::Keys)
    }

    async fn carry_out(&self, steps: Vec<Step>, now: Timestamp) -> Result<bool, KeysError> {
        if steps.is_empty() {
            return Ok(true);
        }
        let changes = {
            let (master_key, random) = (self.master_key.clone(), Arc::clone(&self.random));
            // An RSA key takes a while to find.
            let made = tokio::task::spawn_blocking(move || {
                steps
                    .into_iter()
                    .map(|step| change(&master_key, &*random, step, now))
                    .collect::<Result<_, KeysError>>()
            });
            made.await.map_err(|_| KeysError::CannotMake)??
        };
        let done = self.store.change_keys(changes).await?;
        self.refresh().await?;
        Ok(done)
    }
}

/// The longest that a request waits for the keys to be read.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

fn change(
    master_key: &MasterKey,
    random: &dyn Random,
    step: Step,
    now: Timestamp,
) -> Result<KeyChange, KeysError> {
    Ok(match step {
        Step::MakeNext(key_use, algorithm, usable_at) => KeyChange::Insert(WrappedKey {
            usable_at,
            ..make(master_key, random, key_use, algorithm, now)?
        }),
        Step::Promote(kid) => KeyChange::Promote(kid, now),
        Step::Remove(kid) => KeyChange::Remove(kid),
        Step::Prolong(kid, lifetime) => KeyChange::Prolong(kid, lifetime),
    })
}

/// Makes a next key and wraps it.
fn make(
    master_key: &MasterKey,
    random: &dyn Random,
    key_use: KeyUse,
    algorithm: KeyAlgorithm,
    now: Timestamp,
) -> Result<WrappedKey, KeysError> {
    let bytes =
        SigningKey::generate(algorithm, random).map_err(|_unspecified| KeysError::CannotMake)?;
    let kid = match SigningKey::parse("", algorithm, &bytes) {
        Some(key) => key.kid(random),
        None => URL_SAFE_NO_PAD.encode(random.bytes::<12>()),
    };
    let row = WrappedKey {
        kid,
        key_use: key_use.name().to_owned(),
        algorithm: algorithm.name().to_owned(),
        created_at: now,
        usable_at: now,
        current_at: None,
        retiring_at: None,
        lifetime: Duration::ZERO,
        sealed: Vec::new(),
    };
    Ok(master_key.wrap(random, bytes, row))
}

/// Says why a key wasn't removed.
#[derive(Debug)]
pub enum RemoveError {
    /// It is none that may go.
    Refused(RemovalRefused),
    /// The keys can't be used.
    Keys(KeysError),
}

/// Says why a rotation didn't happen.
#[derive(Debug)]
pub enum RotateError {
    /// It would do harm.
    Refused(RotationRefused),
    /// The keys can't be used.
    Keys(KeysError),
}
