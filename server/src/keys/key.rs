//! What is known of a key without opening it: what it is for, and where it is in its life.

use std::time::Duration;

use guestpass_core::time::Timestamp;

use crate::store::WrappedKey;
use crate::timing::SETTLING;

/// What a key is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyUse {
    /// Signs access tokens.
    AccessToken,
    /// Seals codes and refresh tokens.
    Credential,
    /// Seals what a request id says.
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

    /// The stable name, in the store and on the command line.
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

/// What a key does with its bytes.
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
    /// Those that can sign access tokens.
    pub const SIGNING: [Self; 4] = [Self::Hs256, Self::Es256, Self::EdDsa, Self::Rs256];

    /// The `alg` of RFC 7518, or the nearest to it.
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

    /// Whether others verify with a public key, which they fetch and keep.
    #[must_use]
    pub const fn is_asymmetric(self) -> bool {
        matches!(self, Self::Es256 | Self::EdDsa | Self::Rs256)
    }
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyState {
    /// Published and loaded everywhere, not yet used.
    Next,
    /// Signs or seals.
    Current,
    /// Only verifies or opens, until what it has signed or sealed has expired.
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

    /// The name that operators see.
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
    /// Names it.
    pub kid: String,
    /// What it is for.
    pub key_use: KeyUse,
    /// What it does.
    pub algorithm: KeyAlgorithm,
    /// When it was made, and thereby published.
    pub created_at: Timestamp,
    /// From when on it may be used: by then everyone who needs it has it.
    pub usable_at: Timestamp,
    /// Since when it signs or seals.
    pub current_at: Option<Timestamp>,
    /// Since when it only verifies or opens.
    pub retiring_at: Option<Timestamp>,
    /// The longest life of anything that it signed or sealed.
    pub lifetime: Duration,
}

impl Key {
    /// `None` for a key that only a newer version knows.
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

    /// Returns the state of the key.
    #[must_use]
    pub const fn state(&self) -> KeyState {
        KeyState::of(self.current_at, self.retiring_at)
    }

    /// From when on nothing that it signed or sealed can be valid. `None` while it may still sign or seal.
    #[must_use]
    pub fn needed_until(&self) -> Option<Timestamp> {
        self.retiring_at
            .map(|retired| retired + self.lifetime + SETTLING)
    }
}
