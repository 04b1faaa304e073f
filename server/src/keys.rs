//! Signing and sealing keys: made once, stored wrapped by the master key, parsed once.
//!
//! The master key is the only secret outside the store. The store keeps a check value of it, and each wrapped key
//! carries an authentication tag, so that a wrong or lost master key is found at start and not by the guests.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use guestpass_core::claims::Claims;
use guestpass_core::credential::{Credential, SealingKey};
use guestpass_core::time::Timestamp;

use crate::random::Random;
use crate::store::{Installation, Registry, Unavailable, WrappedKey};

/// The keys of an installation, ready for use.
pub struct Keys {
    signing: SigningKey,
    /// The current one first. Older ones still open what they sealed.
    sealing: Vec<SealingKey>,
}

impl Keys {
    /// Loads the keys of an installation with its master key, making both if the installation is new.
    ///
    /// `master_key` is `None` if there is no master key where it should be; then `new_master_key` is asked to make and
    /// keep one, which only happens while the store holds neither keys nor guests.
    ///
    /// # Errors
    /// [`KeysError`] if the master key is missing or wrong, or the store can't answer.
    pub async fn load(
        store: &dyn Registry,
        master_key: Option<MasterKey>,
        new_master_key: impl FnOnce() -> Result<MasterKey, String>,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        let mut installation = store.installation().await?;
        let is_new = installation.keys.is_empty() && installation.master_key_check.is_none();
        let master_key = match master_key {
            Some(key) => key,
            None if is_new && !installation.has_guests => {
                new_master_key().map_err(KeysError::CannotKeep)?
            }
            None => return Err(KeysError::MasterKeyMissing),
        };
        if is_new {
            if installation.has_guests {
                return Err(KeysError::KeysMissing);
            }
            let first = [
                master_key.wrap(random, now, ("access-token", "HS256")),
                master_key.wrap(random, now, ("credential", "A256GCM-SIV")),
            ];
            // If another process was faster, its keys stand and these are forgotten.
            store
                .insert_first_keys(master_key.check(), first.to_vec())
                .await?;
            installation = store.installation().await?;
        }
        Self::unwrap(&installation, &master_key)
    }

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

    fn unwrap(installation: &Installation, master_key: &MasterKey) -> Result<Self, KeysError> {
        let check = installation
            .master_key_check
            .ok_or(KeysError::KeysMissing)?;
        if verify_slices_are_equal(&check, &master_key.check()).is_err() {
            return Err(KeysError::MasterKeyWrong);
        }
        let (mut signing, mut sealing, mut retiring) = (None, None, Vec::new());
        for wrapped in &installation.keys {
            let bytes = master_key
                .unwrap(wrapped)
                .ok_or_else(|| KeysError::KeyDamaged(wrapped.kid.clone()))?;
            let seals = || SealingKey::new(&bytes, &installation.id);
            match (
                wrapped.key_use.as_str(),
                wrapped.algorithm.as_str(),
                wrapped.state.as_str(),
            ) {
                ("access-token", "HS256", "current") => {
                    signing = Some(SigningKey::hs256(&wrapped.kid, &bytes));
                }
                ("credential", "A256GCM-SIV", "current") => sealing = Some(seals()),
                ("credential", "A256GCM-SIV", "retiring") => retiring.push(seals()),
                _ => return Err(KeysError::KeyUnsupported(wrapped.kid.clone())),
            }
        }
        let (signing, current) = signing.zip(sealing).ok_or(KeysError::KeysMissing)?;
        retiring.insert(0, current);
        Ok(Self {
            signing,
            sealing: retiring,
        })
    }
}

/// Signs access tokens.
struct SigningKey {
    key: hmac::Key,
    /// The encoded header and the dot behind it: the same for every token.
    header: String,
}

impl SigningKey {
    fn hs256(kid: &str, bytes: &[u8]) -> Self {
        let header = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, bytes),
            header: URL_SAFE_NO_PAD.encode(header) + ".",
        }
    }

    fn sign(&self, payload: &str) -> String {
        let mut token = String::with_capacity(self.header.len() + payload.len() + 44);
        token.push_str(&self.header);
        token.push_str(payload);
        let signature = hmac::sign(&self.key, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

/// 32 random bytes that wrap all other keys. It has no `Debug`, so it can't end in a log.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Makes a new one.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        Self(random.bytes())
    }

    /// Reads standard base64 with padding: 44 characters, around which white space may stand.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text.trim()).ok()?.try_into().ok().map(Self)
    }

    /// The key as it is kept in its file.
    #[must_use]
    pub fn expose(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// A value from which the key can't be computed, to be kept in the store.
    fn check(&self) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, b"guestpass master key check 1");
        tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// Makes a new key and wraps it.
    fn wrap(
        &self,
        random: &dyn Random,
        now: Timestamp,
        (key_use, algorithm): (&str, &str),
    ) -> WrappedKey {
        let mut wrapped = WrappedKey {
            // Not a thumbprint: that of a symmetric key would say something about it.
            kid: URL_SAFE_NO_PAD.encode(random.bytes::<12>()),
            key_use: key_use.to_owned(),
            algorithm: algorithm.to_owned(),
            state: "current".to_owned(),
            created_at: now,
            current_at: Some(now),
            retiring_at: None,
            sealed: Vec::new(),
        };
        let nonce = random.bytes::<NONCE_LEN>();
        let mut bytes = random.bytes::<32>().to_vec();
        self.aead()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated_data(&wrapped)),
                &mut bytes,
            )
            .expect("32 bytes are not too long");
        wrapped.sealed = [&nonce[..], &bytes].concat();
        wrapped
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Option<[u8; 32]> {
        let (nonce, sealed) = wrapped.sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = sealed.to_vec();
        let opened = self
            .aead()
            .open_in_place(nonce, Aad::from(associated_data(wrapped)), &mut bytes)
            .ok()?;
        (&*opened).try_into().ok()
    }

    fn aead(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).expect("32 bytes are a key"))
    }
}

/// Binds the wrapped bytes to what they are for, so that rows can't be exchanged.
fn associated_data(key: &WrappedKey) -> Vec<u8> {
    format!(
        "guestpass key 1 {} {} {}",
        key.key_use, key.algorithm, key.kid
    )
    .into_bytes()
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
    /// A key is for something, or in a state, that this version doesn't know.
    KeyUnsupported(String),
    /// There are guests but no keys.
    KeysMissing,
    /// A new master key could not be written.
    CannotKeep(String),
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
            Self::Unavailable(error) => write!(f, "the database can't be read: {error}"),
        }
    }
}

impl std::error::Error for KeysError {}
