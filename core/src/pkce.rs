//! Checks Proof Keys for Code Exchange (RFC 7636), S256 only: `plain` has no representation here.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Holds the SHA-256 of a verifier, as the client sent it to the authorization endpoint (RFC 7636 §4.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Challenge([u8; 32]);

/// The example of a verifier in the API's own documentation.
pub const EXAMPLE_VERIFIER: &str = "1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY";

/// The challenge of [`EXAMPLE_VERIFIER`].
pub const EXAMPLE_CHALLENGE: &str = "p7CN1Zi4o5ARn1mYNvNFvj2r5cKkr2k6y7a573eHJXQ";

impl Challenge {
    /// A regular expression for what [`Challenge::parse`] reads. The last of 43 characters carries four bits, so its
    /// two spare ones must be zero.
    pub const PATTERN: &str = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$";

    /// Reads 43 characters of unpadded base64url. `None` for anything that no S256 transformation can have produced,
    /// which includes set bits behind the last whole byte.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == bytes.len()).then_some(Self(bytes))
    }

    /// Returns the challenge of a verifier.
    #[must_use]
    pub const fn of(verifier: Verifier) -> Self {
        Self(verifier.0)
    }

    /// Makes a challenge from the bytes in the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes for the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares the challenge with a verifier's hash (RFC 7636 §4.6), in constant time.
    #[must_use]
    pub fn is_met_by(&self, verifier: &Verifier) -> bool {
        verify_slices_are_equal(&verifier.0, &self.0).is_ok()
    }
}

/// Holds the SHA-256 of the secret that a client shows to redeem its code; the secret itself isn't kept. Without a
/// `Debug`, it can't end in a log.
#[derive(Clone, Copy)]
pub struct Verifier([u8; 32]);

impl Verifier {
    /// A regular expression for what [`Verifier::parse`] reads.
    pub const PATTERN: &'static str = "^[A-Za-z0-9._~-]{43,128}$";

    /// Reads 43 to 128 unreserved characters (RFC 7636 §4.1). `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if !(43..=128).contains(&text.len()) || !text.bytes().all(unreserved) {
            return None;
        }
        let hash = digest(&SHA256, text.as_bytes());
        Some(Self(
            hash.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_pairs_match() {
        for (verifier, challenge) in [
            // The API's own example, then RFC 7636 appendix B.
            (EXAMPLE_VERIFIER, EXAMPLE_CHALLENGE),
            (
                "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
                "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            ),
        ] {
            let challenge = Challenge::parse(challenge).unwrap();
            assert!(challenge.is_met_by(&Verifier::parse(verifier).unwrap()));
            assert!(!challenge.is_met_by(&Verifier::parse(&"x".repeat(43)).unwrap()));
        }
    }

    #[test]
    fn a_challenge_with_spare_bits_is_refused() {
        // The last character of 43 carries four bits; `R` sets one below them, `Q` doesn't.
        assert!(Challenge::parse("p7CN1Zi4o5ARn1mYNvNFvj2r5cKkr2k6y7a573eHJXR").is_none());
    }

    #[test]
    fn the_grammar_of_a_verifier() {
        let all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
        assert!(Verifier::parse(all).is_some());
        assert!(Verifier::parse(&"a".repeat(42)).is_none());
        assert!(Verifier::parse(&"a".repeat(43)).is_some());
        assert!(Verifier::parse(&"a".repeat(128)).is_some());
        assert!(Verifier::parse(&"a".repeat(129)).is_none());
        for wrong in [' ', '+', '/', '=', '\0', '\n', 'é'] {
            assert!(Verifier::parse(&format!("{}{wrong}", "a".repeat(50))).is_none());
        }
    }
}
