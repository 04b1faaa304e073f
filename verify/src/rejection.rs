//! Lists every reason for rejecting a token.

use std::fmt;

/// The reason for rejecting a token.
///
/// It is for your log and metrics: tell the caller no more than `invalid_token` (RFC 6750 §3.1), as
/// [`VerifyLayer`](crate::VerifyLayer) does. [`Rejection::name`] is stable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rejection {
    /// The request carries two different tokens.
    ///
    /// A likely cause is a client that renews the token in one of the two headers and leaves a stale one in the other.
    TokensDisagree,
    /// The token is longer than 8 KiB, and wasn't read.
    ///
    /// Guestpass keeps its tokens below 1 KiB (RS256 aside), so this is probably not one of them.
    TooLong,
    /// The token isn't three segments of unpadded base64url, the compact serialization of a signed token
    /// (RFC 7515 §7.1).
    ///
    /// Likely causes are a refresh token or another issuer's opaque token in its place, an encrypted token (which has
    /// five segments), or a script that sends the text `undefined` or `null`.
    Malformed,
    /// The header isn't a JSON object without repeated members, or its `alg`, `typ` or `kid` isn't a string.
    /// Guestpass makes no such token.
    HeaderMalformed,
    /// The header asks for an extension that isn't supported: `crit`, `b64` or `zip`. Guestpass uses none of them.
    HeaderUnsupported,
    /// `alg` is absent, or isn't one of [`Algorithm`](crate::Algorithm).
    ///
    /// Likely causes are a token of another issuer, or a forgery with `alg: none`.
    AlgorithmUnsupported,
    /// `alg` differs from the algorithm of the key.
    ///
    /// A likely cause is an issuer that now signs with another algorithm than the one whose key was configured here. It
    /// may also be an attack by algorithm confusion (RFC 8725 §2.1).
    AlgorithmMismatch,
    /// `typ` isn't that of an access token, `at+jwt` (RFC 9068 §2.1).
    ///
    /// Likely causes are an ID token in place of an access token, or an issuer older than RFC 9068, for which there is
    /// [`Verifier::accept_untyped`](crate::Verifier::accept_untyped).
    TypeWrong,
    /// No key of the set has the token's `kid`, or the token has no `kid` to choose a key by.
    ///
    /// Likely causes are that the issuer has rotated its keys since the set was read, or that the token comes from
    /// another installation, such as a staging system. [`RemoteKeySet`](crate::RemoteKeySet) fetches the set again
    /// before it gives this answer.
    KeyUnknown,
    /// The signature isn't valid under the key.
    ///
    /// Besides a forged or damaged token, a likely cause with HS256 is a secret that differs from the issuer's, perhaps
    /// by a line break at its end.
    SignatureWrong,
    /// The payload isn't a JSON object without repeated members, or a claim is empty or of the wrong type. The
    /// signature was right, so the issuer made it so.
    ClaimsMalformed,
    /// The claim of this name is required and absent. The token is probably not an access token of Guestpass.
    ClaimMissing(&'static str),
    /// `iss` isn't the expected issuer. The two are compared byte for byte.
    ///
    /// Likely causes are a slash at the end of the issuer that was given to [`Verifier::new`](crate::Verifier::new), or
    /// a token of another installation that shares the key.
    IssuerWrong,
    /// `aud` doesn't contain the expected audience.
    ///
    /// Likely causes are a [`Verifier::audience`](crate::Verifier::audience) for which the issuer isn't configured, or
    /// a token that was issued for another service.
    AudienceWrong,
    /// The time is past `exp`. This is normal; the client should refresh its token.
    ///
    /// If new tokens are rejected too, compare this machine's clock with the issuer's.
    Expired,
    /// The time is before `nbf` or `iat`.
    ///
    /// A likely cause is that this machine's clock is behind the issuer's by more than
    /// [`Verifier::leeway`](crate::Verifier::leeway).
    NotYetValid,
}

impl Rejection {
    /// Returns the stable name, for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokensDisagree => "tokens_disagree",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::HeaderMalformed => "header_malformed",
            Self::HeaderUnsupported => "header_unsupported",
            Self::AlgorithmUnsupported => "algorithm_unsupported",
            Self::AlgorithmMismatch => "algorithm_mismatch",
            Self::TypeWrong => "type_wrong",
            Self::KeyUnknown => "key_unknown",
            Self::SignatureWrong => "signature_wrong",
            Self::ClaimsMalformed => "claims_malformed",
            Self::ClaimMissing(_) => "claim_missing",
            Self::IssuerWrong => "issuer_wrong",
            Self::AudienceWrong => "audience_wrong",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimMissing(claim) => write!(f, "the token is rejected: no claim {claim}"),
            other => write!(f, "the token is rejected: {}", other.name()),
        }
    }
}

impl std::error::Error for Rejection {}
