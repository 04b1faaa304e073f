//! Seals codes and refresh tokens into text, and opens that text again. A forged one fails before any row is read, and
//! the store need not hold any credential, not even as a hash.
//!
//! A credential is 64 characters of base64url over 48 bytes: 32 bytes of plaintext and the 16-byte tag of
//! AES-256-GCM-SIV (RFC 8452) under a fixed nonce. That mode is deterministic and stays authenticated and private when
//! a nonce repeats. So one grant and generation always seal to the same text under the same key, which is how a retry
//! gets the same answer again; and nothing else can be learned from a text, neither time nor count.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;

use crate::base64url::BASE64URL;
use crate::client::ApiKey;
use crate::grant::{Generation, GrantId};
use crate::refusal::Refusal;
use crate::time::Timestamp;

/// Identifies a code or refresh token: the plaintext of what a client holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Credential {
    /// The grant it belongs to.
    pub grant: GrantId,
    /// Its number within the grant: 0 is the code, anything above is a refresh token.
    pub generation: Generation,
}

impl Credential {
    /// Tells a code from a refresh token, by the generation.
    #[must_use]
    pub fn kind(self) -> CredentialKind {
        match self.generation {
            Generation::CODE => CredentialKind::Code,
            _ => CredentialKind::RefreshToken,
        }
    }
}

/// Names the two kinds of credential. One is never accepted for the other (RFC 8725 §3.12).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialKind {
    /// An authorization code.
    Code,
    /// A refresh token.
    RefreshToken,
}

/// The seed of a guest: the ids that it will have once a browser has given a cookie back. Nothing is stored of it before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seed {
    /// The time at which it was made.
    pub made_at: Timestamp,
    /// The guest and its first grant.
    pub grant: GrantId,
}

/// Seals and opens the credentials of one installation.
pub struct SealingKey {
    key: LessSafeKey,
    associated_data: Vec<u8>,
}

impl SealingKey {
    /// Makes a key from 32 random bytes. Texts sealed for one `installation` don't open for another, even under the
    /// same bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32], installation: &[u8]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes).expect("32 bytes are a key");
        let associated_data = [b"guestpass credential 1 ", installation].concat();
        Self {
            key: LessSafeKey::new(key),
            associated_data,
        }
    }

    /// Encrypts a credential into its text, which is always the same for the same credential.
    #[must_use]
    pub fn seal(&self, credential: Credential) -> String {
        self.seal_bytes(plaintext(credential))
    }

    /// Encrypts a seed into its text, which no endpoint takes for a credential.
    #[must_use]
    pub fn seal_seed(&self, seed: Seed) -> String {
        self.seal_bytes(plaintext_of_seed(seed))
    }

    fn seal_bytes(&self, plaintext: [u8; 32]) -> String {
        let mut bytes = plaintext.to_vec();
        self.key
            .seal_in_place_append_tag(fixed_nonce(), Aad::from(&self.associated_data), &mut bytes)
            .expect("32 bytes are not too long");
        BASE64URL.encode(bytes)
    }

    /// Decrypts the text of a credential. `None` unless this key sealed exactly that text.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<Credential> {
        let opened = self.open_bytes(text)?;
        let (number, grant) = parts(&opened)?;
        let generation = Generation::from_u64(number);
        let credential = Credential { grant, generation };
        (opened == plaintext(credential)).then_some(credential)
    }

    /// Decrypts the text of a seed. `None` unless this key sealed exactly that text.
    #[must_use]
    pub fn open_seed(&self, text: &str) -> Option<Seed> {
        let opened = self.open_bytes(text)?;
        let (number, grant) = parts(&opened)?;
        let made_at = Timestamp::from_millis(i64::try_from(number).ok()?);
        let seed = Seed { made_at, grant };
        (opened == plaintext_of_seed(seed)).then_some(seed)
    }

    fn open_bytes(&self, text: &str) -> Option<[u8; 32]> {
        let mut bytes = [0; SEALED_BYTES];
        let length = BASE64URL.decode_slice(text, &mut bytes).ok()?;
        if length != SEALED_BYTES {
            return None;
        }
        let opened = self
            .key
            .open_in_place(fixed_nonce(), Aad::from(&self.associated_data), &mut bytes)
            .ok()?;
        (&*opened).try_into().ok()
    }
}

/// Says of a text that no key opens what it is: perhaps something else that the client holds. It isn't verified, for it is
/// refused in any case.
#[must_use]
pub fn refusal_of_unopened(text: &str) -> Refusal {
    if text.starts_with("eyJ") && text.split('.').count() == 3 {
        // A JWS, whose header begins with `{"` (RFC 7515 §7.1).
        Refusal::AccessTokenAsCredential
    } else if ApiKey::is_like(text) {
        Refusal::ApiKeyAsCredential
    } else {
        Refusal::CredentialUnknown
    }
}

/// Lays out generation, grant and a filler that names the format and the kind. Opening checks every byte.
fn plaintext(credential: Credential) -> [u8; 32] {
    let filler = match credential.kind() {
        CredentialKind::Code => b"1-code--",
        CredentialKind::RefreshToken => b"1-refr--",
    };
    laid_out(credential.generation.as_u64(), credential.grant, filler)
}

/// Lays out a seed in the same way, with the time of its making where the others have the generation.
fn plaintext_of_seed(seed: Seed) -> [u8; 32] {
    let made_at = u64::try_from(seed.made_at.as_millis()).unwrap_or_default();
    laid_out(made_at, seed.grant, b"1-seed--")
}

fn laid_out(number: u64, grant: GrantId, filler: &[u8; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..24].copy_from_slice(&grant.to_bytes());
    bytes[24..].copy_from_slice(filler);
    bytes
}

/// Reads the number and the grant of a plaintext.
fn parts(plaintext: &[u8; 32]) -> Option<(u64, GrantId)> {
    let number = u64::from_be_bytes(plaintext[..8].try_into().ok()?);
    let grant = GrantId::from_bytes(plaintext[8..24].try_into().ok()?)?;
    Some((number, grant))
}

fn fixed_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

const SEALED_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&[byte; 32], b"here")
    }

    fn credential(generation: u64) -> Credential {
        let grant = GrantId::new("94173".parse().unwrap(), [3; 8]);
        Credential {
            grant,
            generation: Generation::from_u64(generation),
        }
    }

    #[test]
    fn sealing_is_deterministic_and_opens() {
        for generation in [0, 1, 2, u64::from(u32::MAX), i64::MAX as u64] {
            let text = key(1).seal(credential(generation));
            assert_eq!(text.len(), 64);
            assert_eq!(text, key(1).seal(credential(generation)));
            assert_eq!(key(1).open(&text), Some(credential(generation)));
        }
    }

    #[test]
    fn a_seed_is_no_credential_nor_the_other_way_round() {
        let seed = Seed {
            made_at: Timestamp::from_millis(1_800_000_000_000),
            grant: credential(0).grant,
        };
        let text = key(1).seal_seed(seed);
        assert_eq!((text.len(), key(1).open_seed(&text)), (64, Some(seed)));
        assert!(key(1).open(&text).is_none() && key(2).open_seed(&text).is_none());
        for generation in [0, 1, 1_800_000_000_000] {
            let text = key(1).seal(credential(generation));
            assert!(key(1).open_seed(&text).is_none());
        }
    }

    #[test]
    fn only_the_exact_text_opens() {
        let text = key(1).seal(credential(1));
        assert!(key(2).open(&text).is_none());
        assert!(SealingKey::new(&[1; 32], b"there").open(&text).is_none());
        for wrong in [
            "",
            "x",
            &text[..63],
            &format!("{text}A"),
            &format!("{text}="),
            &text.repeat(2),
        ] {
            assert!(key(1).open(wrong).is_none(), "{wrong}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(key(1).open(std::str::from_utf8(&bytes).unwrap()).is_none());
        }
    }
}
