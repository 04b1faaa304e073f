//! The master key: the only secret outside the store. It wraps all other keys.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::random::Random;
use crate::store::WrappedKey;

/// 32 random bytes that wrap all other keys. It has no `Debug`, so it can't end in a log, and is zeroised when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Generates a new one.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(&mut *bytes);
        Self(bytes)
    }

    /// Parses standard base64 with padding: 44 characters, which white space may surround.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        let bytes = decoded.as_slice().try_into().ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// Returns the text of the key, as it stands in its file.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// Computes the check value of the key, from which it can't be computed, to be kept in the store.
    pub(super) fn check(&self) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let tag = hmac::sign(&key, b"guestpass master key check 1");
        tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// Wraps the `bytes` of a key (AES-256-GCM) and puts them into its row.
    pub(super) fn wrap(
        &self,
        random: &dyn Random,
        mut bytes: Zeroizing<Vec<u8>>,
        row: WrappedKey,
    ) -> WrappedKey {
        let nonce = random.bytes::<NONCE_LEN>();
        self.aead()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated_data(&row)),
                &mut *bytes,
            )
            .expect("a key is not too long");
        WrappedKey {
            sealed: [&nonce[..], &bytes].concat(),
            ..row
        }
    }

    /// Unwraps the bytes of a key. `None` if the row was altered or another master key wrapped it.
    pub(super) fn unwrap(&self, wrapped: &WrappedKey) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = wrapped.sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let length = self
            .aead()
            .open_in_place(nonce, Aad::from(associated_data(wrapped)), &mut bytes)
            .ok()?
            .len();
        bytes.truncate(length);
        Some(bytes)
    }

    fn aead(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*self.0).expect("32 bytes are a key"))
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
