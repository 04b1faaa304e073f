//! Signing and sealing keys: stored wrapped by the master key, parsed once, followed from the store.
//!
//! The master key is the only secret outside the store. The store keeps a check value of it, and each wrapped key
//! carries an authentication tag, so that a wrong or lost master key is found at start and not by the guests.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::claims::Claims;
use guestpass_core::credential::{Credential, SealingKey};
use guestpass_core::profile::ProfileId;
use guestpass_core::time::Timestamp;
use guestpass_verify::{KeySet, VerifyingKey};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::random::Random;
use crate::request_id::RequestIdKey;
use crate::store::{Installation, KeyChange, Registry, Unavailable, WrappedKey};

mod key;
mod life;
mod master;
mod signing;

pub use key::{Key, KeyAlgorithm, KeyState, KeyUse};
pub use life::{Lifetimes, RotationRefused, Schedule};
pub use master::MasterKey;

use life::Step;
use signing::SigningKey;

/// The keys of an installation as this process knows them, and the way to change them.
pub struct KeyRing {
    store: Arc<dyn Registry>,
    master_key: MasterKey,
    random: Arc<dyn Random>,
    schedule: Schedule,
    known: RwLock<Arc<Keys>>,
    /// One at a time, lest older keys be put over newer ones.
    refreshing: Mutex<()>,
}

/// Where a master key is, or how to make one.
pub struct MasterKeySource<'a> {
    /// What is where the master key should be.
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
        store: Arc<dyn Registry>,
        master_key: MasterKeySource<'_>,
        random: Arc<dyn Random>,
        schedule: Schedule,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        let mut installation = store.installation().await?;
        let is_new = installation.keys.is_empty() && installation.master_key_check.is_none();
        let master_key = match master_key.present {
            Some(key) => key,
            None if is_new && !installation.has_guests => {
                (master_key.make)().map_err(KeysError::CannotKeep)?
            }
            None => return Err(KeysError::MasterKeyMissing),
        };
        if is_new {
            if installation.has_guests {
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
                    let made = make(&master_key, &*random, (key_use, algorithm), now)?;
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
        let known = RwLock::new(Arc::new(Keys::unlock(&installation, &master_key)?));
        Ok(Self {
            store,
            master_key,
            random,
            schedule,
            known,
            refreshing: Mutex::new(()),
        })
    }

    /// The keys as they are now.
    #[must_use]
    pub fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long verifiers may keep the published keys.
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
        if self.store.revision().await? != self.now().revision {
            let installation = self.store.installation().await?;
            let keys = Arc::new(Keys::unlock(&installation, &self.master_key)?);
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = keys;
        }
        Ok(())
    }

    /// Does what is due in the life of the keys.
    ///
    /// # Errors
    /// [`KeysError`] as [`KeyRing::refresh`].
    pub async fn tend(&self, lifetimes: Lifetimes, now: Timestamp) -> Result<(), KeysError> {
        let steps = life::due(&self.now().listed, &self.schedule, lifetimes, now);
        self.carry_out(steps, now).await.map(drop)
    }

    /// Rotates the keys of a use, as an operator asks for. `forced` skips the waiting, and gives up the oldest sealing key.
    /// `false` if another process changed the keys meanwhile.
    ///
    /// # Errors
    /// [`RotateError`] if it would do harm, or as [`KeyRing::refresh`].
    pub async fn rotate(
        &self,
        key_use: KeyUse,
        now: Timestamp,
        forced: bool,
    ) -> Result<bool, RotateError> {
        let keys = self.now();
        let steps = life::rotate(&keys.listed, key_use, &self.schedule, now, forced)
            .map_err(RotateError::Refused)?;
        self.carry_out(steps, now).await.map_err(RotateError::Keys)
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

fn change(
    master_key: &MasterKey,
    random: &dyn Random,
    step: Step,
    now: Timestamp,
) -> Result<KeyChange, KeysError> {
    Ok(match step {
        Step::MakeNext(key_use, algorithm) => {
            KeyChange::Insert(make(master_key, random, (key_use, algorithm), now)?)
        }
        Step::Promote(kid) => KeyChange::Promote(kid, now),
        Step::Remove(kid) => KeyChange::Remove(kid),
        Step::Prolong(kid, lifetime) => KeyChange::Prolong(kid, lifetime),
    })
}

/// Makes a next key and wraps it.
fn make(
    master_key: &MasterKey,
    random: &dyn Random,
    (key_use, algorithm): (KeyUse, KeyAlgorithm),
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
        current_at: None,
        retiring_at: None,
        lifetime: Duration::ZERO,
        sealed: Vec::new(),
    };
    Ok(master_key.wrap(random, bytes, row))
}

/// The keys of an installation at one moment, ready for use.
pub struct Keys {
    revision: i64,
    listed: Vec<Key>,
    signing: SigningKey,
    /// The current one first. The others open what they sealed, or will seal.
    sealing: Vec<SealingKey>,
    verifying: KeySet,
    tombstones: hmac::Key,
    request_ids: RequestIdKey,
    published: String,
    exported: Value,
}

impl Keys {
    /// The text of a code or refresh token.
    #[must_use]
    pub fn seal(&self, credential: Credential) -> String {
        self.sealing[0].seal(credential)
    }

    /// What a text stands for. `None` if it was never sealed here.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<Credential> {
        self.sealing.iter().find_map(|key| key.open(text))
    }

    /// Signs an access token: a JWS in compact serialisation (RFC 7515 §7.1).
    #[must_use]
    pub fn sign(&self, claims: &Claims<'_>) -> String {
        self.signing.sign(&claims.to_payload_segment())
    }

    /// What access tokens are verified with: the next keys too, which another node may use already.
    #[must_use]
    pub const fn verifying(&self) -> &KeySet {
        &self.verifying
    }

    /// The key set that anyone may read (RFC 7517 §5), as JSON. HS256 keys are not in it.
    #[must_use]
    pub fn published(&self) -> &str {
        &self.published
    }

    /// The same with the secrets of HS256, for those who are to verify with them, and so could sign.
    #[must_use]
    pub const fn exported(&self) -> &Value {
        &self.exported
    }

    /// What stands for an erased guest: it can be compared, but not read back.
    #[must_use]
    pub fn tombstone(&self, profile: ProfileId) -> [u8; 16] {
        let tag = hmac::sign(&self.tombstones, profile.to_string().as_bytes());
        tag.as_ref()[..16].try_into().expect("a tag has 32 bytes")
    }

    /// How long an access token that was issued here can be valid.
    #[must_use]
    pub fn longest_access_ttl(&self) -> Duration {
        let signing = self
            .listed
            .iter()
            .filter(|key| key.key_use == KeyUse::AccessToken);
        signing.map(|key| key.lifetime).max().unwrap_or_default()
    }

    /// What the ids of refused requests are sealed with.
    #[must_use]
    pub const fn request_ids(&self) -> &RequestIdKey {
        &self.request_ids
    }

    /// All keys, without their secrets.
    #[must_use]
    pub fn list(&self) -> &[Key] {
        &self.listed
    }

    fn unlock(installation: &Installation, master_key: &MasterKey) -> Result<Self, KeysError> {
        let check = installation
            .master_key_check
            .ok_or(KeysError::KeysMissing)?;
        if verify_slices_are_equal(&check, &master_key.check()).is_err() {
            return Err(KeysError::MasterKeyWrong);
        }
        let mut opened = Opened::default();
        for wrapped in &installation.keys {
            opened.add(wrapped, master_key, &installation.id)?;
        }
        let (published, exported) = (json!({"keys": opened.public}), json!({"keys": opened.jwks}));
        let (signing, tombstones) = opened
            .signing
            .zip(opened.tombstones)
            .ok_or(KeysError::KeysMissing)?;
        let request_ids = opened.request_ids.ok_or(KeysError::KeysMissing)?;
        let mut sealing = vec![opened.sealing.ok_or(KeysError::KeysMissing)?];
        sealing.append(&mut opened.opening);
        Ok(Self {
            revision: installation.revision,
            listed: opened.listed,
            signing,
            sealing,
            verifying: opened.verifying.into_iter().collect(),
            tombstones,
            request_ids,
            published: published.to_string(),
            exported,
        })
    }
}

/// Keys while they are opened one after the other.
#[derive(Default)]
struct Opened {
    listed: Vec<Key>,
    signing: Option<SigningKey>,
    verifying: Vec<VerifyingKey>,
    sealing: Option<SealingKey>,
    opening: Vec<SealingKey>,
    tombstones: Option<hmac::Key>,
    request_ids: Option<RequestIdKey>,
    jwks: Vec<Value>,
    public: Vec<Value>,
}

impl Opened {
    fn add(
        &mut self,
        wrapped: &WrappedKey,
        master_key: &MasterKey,
        installation: &[u8],
    ) -> Result<(), KeysError> {
        let damaged = || KeysError::KeyDamaged(wrapped.kid.clone());
        let bytes = master_key.unwrap(wrapped).ok_or_else(damaged)?;
        let key = Key::of(wrapped).ok_or_else(|| KeysError::KeyUnsupported(wrapped.kid.clone()))?;
        let is_current = key.state() == KeyState::Current;
        match key.key_use {
            KeyUse::AccessToken => {
                let signing =
                    SigningKey::parse(&key.kid, key.algorithm, &bytes).ok_or_else(damaged)?;
                let jwk = signing.jwk(&key.kid);
                self.verifying
                    .push(VerifyingKey::from_jwk(&jwk).map_err(|_| damaged())?);
                if key.algorithm.is_asymmetric() {
                    self.public.push(jwk.clone());
                }
                self.jwks.push(jwk);
                if is_current {
                    self.signing = Some(signing);
                }
            }
            KeyUse::Credential => {
                let bytes = bytes.try_into().map_err(|_| damaged())?;
                let sealing = SealingKey::new(&bytes, installation);
                if is_current {
                    self.sealing = Some(sealing);
                } else {
                    self.opening.push(sealing);
                }
            }
            KeyUse::Tombstone => {
                self.tombstones = Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
            }
            KeyUse::RequestId => {
                let bytes = bytes.try_into().map_err(|_| damaged())?;
                self.request_ids = Some(RequestIdKey::new(&bytes));
            }
        }
        self.listed.push(key);
        Ok(())
    }
}

/// Why the keys can't be used.
#[derive(Debug)]
pub enum KeysError {
    /// There is no master key although the store has keys.
    MasterKeyMissing,
    /// The master key isn't the one that wrapped the keys.
    MasterKeyWrong,
    /// A row was altered.
    KeyDamaged(String),
    /// A key is for something that this version doesn't know.
    KeyUnsupported(String),
    /// There are guests but no keys.
    KeysMissing,
    /// A new master key could not be written.
    CannotKeep(String),
    /// A new key could not be made.
    CannotMake,
    /// The store can't answer.
    Unavailable(Unavailable),
}

/// Why a rotation didn't happen.
#[derive(Debug)]
pub enum RotateError {
    /// It would do harm.
    Refused(RotationRefused),
    /// The keys can't be used.
    Keys(KeysError),
}

impl From<Unavailable> for KeysError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MasterKeyMissing => {
                f.write_str("the master key is missing, and this database was made with one")
            }
            Self::MasterKeyWrong => {
                f.write_str("the master key is not the one that this database was made with")
            }
            Self::KeyDamaged(kid) => {
                write!(
                    f,
                    "the key {kid} in the database is damaged. Restore the database from a backup"
                )
            }
            Self::KeyUnsupported(kid) => write!(
                f,
                "the key {kid} in the database was made by a newer version of guestpass. Run that version"
            ),
            Self::KeysMissing => f.write_str(
                "the database holds guests but not its keys. Restore both from one backup",
            ),
            Self::CannotKeep(error) => write!(f, "a new master key could not be kept: {error}"),
            Self::CannotMake => f.write_str("a new key could not be made"),
            Self::Unavailable(error) => write!(f, "the database can't be read: {error}"),
        }
    }
}

impl std::error::Error for KeysError {}
