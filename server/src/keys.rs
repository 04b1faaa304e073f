//! Signing and sealing keys: stored wrapped by the master key, unwrapped and parsed once, followed from the store.
//!
//! A request takes [`KeyRing::now`] once and works with that [`Keys`], an immutable snapshot: a rotation that happens
//! meanwhile concerns the next request. [`KeyRing::refresh`] polls for another node's changes and [`KeyRing::tend`]
//! takes the steps that are due; both are called twice a second. `life.rs` decides those steps in pure code. To change
//! the keys, add a `Step` there: the ring makes, wraps and stores.
//!
//! The master key is the only secret outside the store. The store keeps a check value of it, and each wrapped key
//! carries an authentication tag, so that a wrong or lost master key is found at start and not by the guests.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use guestpass_core::claims::{Claims, Typ};
use guestpass_core::client::ClientNumber;
use guestpass_core::credential::{Credential, SealingKey, Seed};
use guestpass_core::customer::CustomerId;
use guestpass_core::grant::GrantId;
use guestpass_core::profile::{NetworkId, ProfileId};
use guestpass_verify::{KeySet, VerifyingKey};
use serde_json::{Value, json};
use zeroize::{Zeroize, Zeroizing};

use crate::request_id::RequestIdKey;
use crate::store::{Installation, Unavailable, WrappedKey};

mod key;
mod life;
mod master;
mod ring;
mod signing;

pub use key::{Key, KeyAlgorithm, KeyState, KeyUse};
pub use life::{KeyChange, Lifetimes, RemovalRefused, RotationRefused, Schedule};
pub use master::MasterKey;
pub use ring::{KeyRing, MasterKeySource, RemoveError, RotateError};

pub(crate) use life::apply;
use signing::SigningKey;

/// The keys of an installation at one moment, ready for use.
pub struct Keys {
    revision: i64,
    listed: Vec<Key>,
    signing: SigningKey,
    /// The current one first. The others only open: retiring ones, and a next one that other nodes may seal with
    /// already.
    sealing: Vec<SealingKey>,
    verifying: KeySet,
    tombstones: hmac::Key,
    request_ids: RequestIdKey,
    published: String,
    exported: Zeroizing<String>,
}

impl Keys {
    /// Seals a code or refresh token into its text.
    #[must_use]
    pub fn seal(&self, credential: Credential) -> String {
        self.sealing[0].seal(credential)
    }

    /// Seals the seed of a guest.
    #[must_use]
    pub fn seal_seed(&self, seed: Seed) -> String {
        self.sealing[0].seal_seed(seed)
    }

    /// Opens the text of a seed. `None` if none of the keys has sealed it.
    #[must_use]
    pub fn open_seed(&self, text: &str) -> Option<Seed> {
        self.sealing.iter().find_map(|key| key.open_seed(text))
    }

    /// Opens the text of a code or refresh token. `None` if none of the keys has sealed it.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<Credential> {
        self.sealing.iter().find_map(|key| key.open(text))
    }

    /// Signs an access token: a JWS in compact serialisation (RFC 7515 §7.1).
    #[must_use]
    pub fn sign(&self, typ: Typ, claims: &Claims<'_>) -> String {
        self.signing.sign(typ, claims)
    }

    /// Returns the keys that verify access tokens, with the next ones, which another node may use already.
    #[must_use]
    pub const fn verifying(&self) -> &KeySet {
        &self.verifying
    }

    /// Returns the public key set (RFC 7517 §5) as JSON. HS256 keys are not in it.
    #[must_use]
    pub fn published(&self) -> &str {
        &self.published
    }

    /// Returns the key set with the secrets of HS256, for verifiers that are trusted not to sign.
    #[must_use]
    pub fn exported(&self) -> &str {
        &self.exported
    }

    /// Computes the tombstone of a guest: a keyed hash of the `sub`, which can be compared but not reversed.
    #[must_use]
    pub fn tombstone(&self, profile: ProfileId) -> [u8; 16] {
        let tag = hmac::sign(&self.tombstones, profile.to_string().as_bytes());
        tag.as_ref()[..16].try_into().expect("a tag has 32 bytes")
    }

    /// Computes the tombstone of a link that was undone: as of a guest, over the `sub`, a space and the customer, which no
    /// `sub` can be.
    #[must_use]
    pub fn tombstone_of_link(&self, profile: ProfileId, customer: &CustomerId) -> [u8; 16] {
        let link = format!("{profile} {customer}");
        let tag = hmac::sign(&self.tombstones, link.as_bytes());
        tag.as_ref()[..16].try_into().expect("a tag has 32 bytes")
    }

    /// Derives the ids of the guest that follows from a refresh token: of the guest, of its grant, and its `subn`. Requests that
    /// repeat or race agree on them, and nothing has to be stored that would connect the two guests. It goes by the generation too, so
    /// that the owner's token and an older one in a thief's hands lead to two strangers.
    #[must_use]
    pub fn successor(&self, client: ClientNumber, token: Credential) -> (GrantId, NetworkId) {
        let mut context = hmac::Context::with_key(&self.tombstones);
        // No `sub` begins like that, as tombstones do.
        context.update(b"successor");
        context.update(&client.0.to_be_bytes());
        context.update(&token.grant.to_bytes());
        context.update(&token.generation.as_u64().to_be_bytes());
        let tag = context.sign();
        let (profile, rest) = tag
            .as_ref()
            .split_first_chunk()
            .expect("a tag has 32 bytes");
        let (random, rest) = rest.split_first_chunk().expect("a tag has 32 bytes");
        let (network_id, _) = rest.split_first_chunk().expect("a tag has 32 bytes");
        (
            GrantId::new(ProfileId::of_successor(*profile), *random),
            NetworkId::new(*network_id),
        )
    }

    /// Returns the longest life of an access token that these keys have signed.
    #[must_use]
    pub fn longest_access_ttl(&self) -> Duration {
        self.listed
            .iter()
            .filter(|key| key.key_use == KeyUse::AccessToken)
            .map(|key| key.lifetime)
            .max()
            .unwrap_or_default()
    }

    /// Returns the key that seals the ids of refused requests.
    #[must_use]
    pub const fn request_ids(&self) -> &RequestIdKey {
        &self.request_ids
    }

    /// Returns all keys, without their secrets.
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
        let published = json!({"keys": opened.public});
        let exported = export(&mut opened.jwks);
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

/// Writes a key set with secrets, and leaves nothing of them in the parts that it was made of.
fn export(jwks: &mut [Value]) -> Zeroizing<String> {
    let keys: Vec<_> = jwks
        .iter()
        .map(|jwk| Zeroizing::new(jwk.to_string()))
        .collect();
    let keys: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
    let exported = Zeroizing::new(format!(r#"{{"keys":[{}]}}"#, keys.join(",")));
    for jwk in jwks {
        if let Some(Value::String(secret)) = jwk.get_mut("k") {
            secret.zeroize();
        }
    }
    exported
}

/// Collects keys while they are unwrapped one after the other.
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
                let bytes = bytes[..].try_into().map_err(|_| damaged())?;
                let sealing = SealingKey::new(bytes, installation);
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
                let bytes = bytes[..].try_into().map_err(|_| damaged())?;
                self.request_ids = Some(RequestIdKey::new(bytes));
            }
        }
        self.listed.push(key);
        Ok(())
    }
}

/// Says why the keys can't be used.
#[derive(Debug)]
pub enum KeysError {
    /// There is no master key although the store has keys.
    MasterKeyMissing,
    /// The master key isn't the one that wrapped the keys.
    MasterKeyWrong,
    /// A row was altered: its authentication tag is wrong.
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
