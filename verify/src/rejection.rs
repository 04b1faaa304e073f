//! Every reason not to trust a token.

use std::fmt;

/// Why a token is rejected. The caller of a resource learns `invalid_token` and no more; this is for the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rejection {
    /// The request carries two tokens that differ.
    TokensDisagree,
    /// Longer than 8 KiB.
    TooLong,
    /// Not three segments of unpadded base64url: not a signed token in compact serialisation.
    Malformed,
    /// The header isn't a JSON object without repeated members, or `alg`, `typ` or `kid` isn't a string.
    HeaderMalformed,
    /// The header asks for what isn't supported: `crit`, `b64` or `zip`.
    HeaderUnsupported,
    /// `alg` is absent or none of those in [`Algorithm`](crate::Algorithm).
    AlgorithmUnsupported,
    /// `alg` isn't the key's algorithm.
    AlgorithmMismatch,
    /// `typ` says that it is something else than an access token.
    TypeWrong,
    /// No key goes by that `kid`, or there is no `kid` to choose a key by.
    KeyUnknown,
    /// The signature isn't the key's.
    SignatureWrong,
    /// The payload isn't a JSON object without repeated members, or a claim has the wrong type.
    ClaimsMalformed,
    /// A required claim is absent.
    ClaimMissing(&'static str),
    /// Issued by someone else.
    IssuerWrong,
    /// Meant for someone else.
    AudienceWrong,
    /// Past `exp`.
    Expired,
    /// Before `nbf` or `iat`.
    NotYetValid,
}

impl Rejection {
    /// The stable name, for logs and metrics.
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
