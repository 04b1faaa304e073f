//! The metadata of a key: use, algorithm and times, readable without the master key.

use std::time::Duration;

use guestpass_core::time::Timestamp;

use crate::store::WrappedKey;
use crate::timing::SETTLING;

/// The use of a key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyUse {
    /// Signs access tokens.
    AccessToken,
    /// Seals codes and refresh tokens.
    Credential,
    /// Seals the record in the id of a refused request.
    RequestId,
    /// Turns the `sub` of an erased guest into its tombstone.
    Tombstone,
}

impl KeyUse {
    /// Every use.
    pub const ALL: [Self; 4] = [
        Self::AccessToken,
        Self::Credential,
        Self::RequestId,
        Self::Tombstone,
    ];

    /// Returns the stable name, in the store and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "access-token",
            Self::Credential => "credential",
            Self::RequestId => "request-id",
            Self::Tombstone => "tombstone",
        }
    }
}

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256 (RFC 7518 §3.2). Whoever verifies can also sign.
    Hs256,
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    Es256,
    /// Ed25519 (RFC 8037 §3.1).
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    Rs256,
    /// AES-256-GCM-SIV (RFC 8452).
    A256GcmSiv,
}

impl KeyAlgorithm {
    /// The algorithms that can sign access tokens.
    pub const SIGNING: [Self; 4] = [Self::Hs256, Self::Es256, Self::EdDsa, Self::Rs256];

    /// Returns the `alg` of RFC 7518, or the nearest to it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::A256GcmSiv => "A256GCM-SIV",
        }
    }

    /// Returns whether verifiers use a public key, which they fetch and cache.
    #[must_use]
    pub const fn is_asymmetric(self) -> bool {
        matches!(self, Self::Es256 | Self::EdDsa | Self::Rs256)
    }
}

/// The state of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyState {
    /// Published and loaded everywhere, not yet used.
    Next,
    /// Signs or seals.
    Current,
    /// Only verifies or opens, until everything that it has signed or sealed has expired.
    Retiring,
}

impl KeyState {
    /// Reads the state from a key's times, so that it stands nowhere else.
    const fn of(current_at: Option<Timestamp>, retiring_at: Option<Timestamp>) -> Self {
        match (current_at, retiring_at) {
            (_, Some(_)) => Self::Retiring,
            (Some(_), None) => Self::Current,
            (None, None) => Self::Next,
        }
    }

    /// Returns the name that operators see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Retiring => "retiring",
        }
    }
}

impl WrappedKey {
    /// Returns the state of the key.
    #[must_use]
    pub(super) const fn state(&self) -> KeyState {
        KeyState::of(self.current_at, self.retiring_at)
    }
}

/// A stored key, but for its bytes.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key id (RFC 7515 §4.1.4).
    pub kid: String,
    /// Its use.
    pub key_use: KeyUse,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// The time at which it was made, and thereby published.
    pub created_at: Timestamp,
    /// The time from which on it may be used: by then every node and verifier has it.
    pub usable_at: Timestamp,
    /// The time since which it signs or seals.
    pub current_at: Option<Timestamp>,
    /// The time since which it only verifies or opens.
    pub retiring_at: Option<Timestamp>,
    /// The longest life of anything that it signed or sealed.
    pub lifetime: Duration,
}

impl Key {
    /// Reads the metadata of a stored key. `None` if only a newer version knows its use or algorithm.
    #[must_use]
    pub fn of(stored: &WrappedKey) -> Option<Self> {
        let key_use = KeyUse::ALL
            .into_iter()
            .find(|known| known.name() == stored.key_use)?;
        let algorithm = KeyAlgorithm::SIGNING
            .into_iter()
            .chain([KeyAlgorithm::A256GcmSiv])
            .find(|known| known.name() == stored.algorithm)?;
        Some(Self {
            kid: stored.kid.clone(),
            key_use,
            algorithm,
            created_at: stored.created_at,
            usable_at: stored.usable_at,
            current_at: stored.current_at,
            retiring_at: stored.retiring_at,
            lifetime: stored.lifetime,
        })
    }

    /// Derives the state from the times, which are all that is stored of it.
    #[must_use]
    pub const fn state(&self) -> KeyState {
        KeyState::of(self.current_at, self.retiring_at)
    }

    /// Returns the time from which on nothing that it signed or sealed can be valid. `None` while it may still sign or
    /// seal.
    #[must_use]
    pub fn needed_until(&self) -> Option<Timestamp> {
        self.retiring_at
            .map(|retired| retired + self.lifetime + SETTLING)
    }
}
