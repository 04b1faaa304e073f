//! Applies the rules of RFC 9068 §4 and RFC 8725 §3, in the order in which they must run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::attribute::Attribute;
use crate::key::{Algorithm, KeySet};
use crate::rejection::Rejection;
use crate::token::{Claims, Header, NumericDate, Segments};

/// The claims of a verified access token: who the guest is, and for whom and how long the token is good.
///
/// Only [`Verifier::verify`] and what is built on it return one, so whoever holds it need not check anything more.
/// Identify the guest by [`subject`](Self::subject).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessToken {
    /// `iss`: the expected issuer.
    pub issuer: String,
    /// `sub`: identifies the guest. It stays the same over all tokens of a guest.
    pub subject: String,
    /// `subn`: the guest's network id, which existing clients use.
    pub network_id: Option<String>,
    /// `customer`: the customer that the guest has become, as the shop has said, for a client that is told. It is a label on the
    /// guest and **never a login**: whoever plants a guest of theirs in another's browser has a token that names the other.
    pub customer: Option<String>,
    /// `attrs`: what the shop remembers of the guest, by name, for a client that is told. Empty if there is nothing.
    pub attributes: BTreeMap<String, Attribute>,
    /// `aud`: the services that the token is meant for.
    pub audience: Vec<String>,
    /// `client_id`: the client that acts for the guest.
    pub client_id: String,
    /// `jti`: identifies the token; no two tokens share it.
    pub token_id: String,
    /// `sid`: identifies the grant that the token was issued from.
    pub grant_id: Option<String>,
    /// `iat`, in seconds since the Unix epoch.
    pub issued_at: i64,
    /// `exp`, in seconds since the Unix epoch.
    pub expires_at: i64,
}

/// Verifies access tokens: holds what a resource server expects of them.
///
/// Build one at the start and share it; it is cheap to clone. The keys are separate, since they change while the
/// expectations don't: pass a [`KeySet`] to [`Verifier::verify`], or give the verifier to a
/// [`RemoteKeySet`](crate::RemoteKeySet) or [`VerifyLayer`](crate::VerifyLayer).
///
/// ```
/// use std::time::Duration;
///
/// use guestpass_verify::Verifier;
///
/// let verifier = Verifier::new("https://id.shop.example")
///     .audience("https://api.shop.example")
///     .leeway(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    issuer: String,
    /// `None` if every audience will do.
    audience: Option<String>,
    leeway_seconds: i64,
    accepts_untyped: bool,
}

/// The leeway in seconds unless [`Verifier::leeway`] sets another.
const DEFAULT_LEEWAY: i64 = 5;

/// The greatest leeway in seconds: a token must not outlive its `exp` by more.
const MAX_LEEWAY: i64 = 60;

impl Verifier {
    /// Expects tokens of one issuer, compared byte for byte with `iss`, and the issuer as their audience too, which
    /// restricts nothing: see [`Verifier::audience`].
    #[must_use]
    pub fn new(issuer: impl Into<String>) -> Self {
        let issuer = issuer.into();
        Self {
            audience: Some(issuer.clone()),
            issuer,
            leeway_seconds: DEFAULT_LEEWAY,
            accepts_untyped: false,
        }
    }

    /// Expects another audience than the issuer: the name of this resource server, as the issuer's setting
    /// `tokens.audience` says it, or a client's `--audience`.
    ///
    /// The issuer restricts nothing: it stands in the tokens of all clients but those that are restricted to their own
    /// audience. Whoever has a name of their own checks for it, and so takes no token that is meant for others.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        Self {
            audience: Some(audience.into()),
            ..self
        }
    }

    /// Accepts every audience, for whoever serves several and decides by [`AccessToken::audience`] afterwards.
    #[must_use]
    pub fn any_audience(self) -> Self {
        Self {
            audience: None,
            ..self
        }
    }

    /// Tolerates a difference between the issuer's clock and this one, in whole seconds. The default is 5, the most 60.
    /// Without any, a new token from a machine whose clock is slightly ahead would be rejected.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        Self {
            leeway_seconds: i64::try_from(leeway.as_secs())
                .map_or(MAX_LEEWAY, |seconds| seconds.min(MAX_LEEWAY)),
            ..self
        }
    }

    /// Accepts tokens without a type, or of type `JWT`, for issuers older than RFC 9068. Only do so if the issuer signs
    /// nothing else with the same keys.
    #[must_use]
    pub fn accept_untyped(self) -> Self {
        Self {
            accepts_untyped: true,
            ..self
        }
    }

    /// Verifies that `token` is an access token of the issuer, for the audience, valid at `now` (seconds since the Unix
    /// epoch, see [`system_time`](crate::system_time)).
    ///
    /// # Errors
    /// Returns the first rule that the token breaks. After [`Rejection::KeyUnknown`], try again with newer keys if you
    /// fetch them yourself.
    pub fn verify(&self, token: &str, keys: &KeySet, now: i64) -> Result<AccessToken, Rejection> {
        let (token, not_before) = self.verify_signed(token, keys)?;
        // At `exp` itself the token is no longer valid (RFC 7519 §4.1.4).
        if now >= token.expires_at.saturating_add(self.leeway_seconds) {
            return Err(Rejection::Expired);
        }
        let latest_start = now.saturating_add(self.leeway_seconds);
        let starts_at = not_before.map_or(token.issued_at, |at| at.max(token.issued_at));
        if starts_at > latest_start {
            return Err(Rejection::NotYetValid);
        }
        Ok(token)
    }

    /// Verifies the same but for the time: that `token` was or will be valid once. It is what a revocation asks, which must
    /// count even where a clock is wrong.
    ///
    /// # Errors
    /// As [`Verifier::verify`], without [`Rejection::Expired`] and [`Rejection::NotYetValid`].
    pub fn verify_at_any_time(&self, token: &str, keys: &KeySet) -> Result<AccessToken, Rejection> {
        self.verify_signed(token, keys).map(|(token, _)| token)
    }

    /// Returns the token with its `nbf`, if it has one.
    fn verify_signed(
        &self,
        token: &str,
        keys: &KeySet,
    ) -> Result<(AccessToken, Option<i64>), Rejection> {
        let segments = Segments::parse(token)?;
        let header = Header::parse(&segments.header)?;
        let algorithm: Algorithm = header
            .alg
            .and_then(|alg| alg.parse().ok())
            .ok_or(Rejection::AlgorithmUnsupported)?;
        if !self.accepts_type(header.typ.as_deref()) {
            return Err(Rejection::TypeWrong);
        }
        let key = keys
            .find(header.kid.as_deref())
            .ok_or(Rejection::KeyUnknown)?;
        // The header only confirms what the key says (RFC 8725 §3.1).
        if key.algorithm() != algorithm {
            return Err(Rejection::AlgorithmMismatch);
        }
        if !key.verifies(segments.signing_input, &segments.signature) {
            return Err(Rejection::SignatureWrong);
        }
        // The claims are read only now that the issuer is known to have signed them.
        self.check_claims(Claims::parse(&segments.payload)?)
    }

    /// Checks `typ`: a media type, whose `application/` may be left out (RFC 7515 §4.1.9).
    fn accepts_type(&self, typ: Option<&str>) -> bool {
        let is = |name: &str| typ.is_some_and(|typ| typ.eq_ignore_ascii_case(name));
        let is_untyped = typ.is_none() || is("JWT");
        is("at+jwt") || is("application/at+jwt") || (self.accepts_untyped && is_untyped)
    }

    fn check_claims(&self, claims: Claims<'_>) -> Result<(AccessToken, Option<i64>), Rejection> {
        let text = |claim: Option<Cow<'_, str>>, name| {
            claim
                .map(Cow::into_owned)
                .ok_or(Rejection::ClaimMissing(name))
        };
        let date = |claim: Option<NumericDate>, name| {
            claim
                .map(|NumericDate(seconds)| seconds)
                .ok_or(Rejection::ClaimMissing(name))
        };
        let audience = claims.aud.ok_or(Rejection::ClaimMissing("aud"))?.0;
        let token = AccessToken {
            issuer: text(claims.iss, "iss")?,
            subject: text(claims.sub, "sub")?,
            network_id: claims.subn.map(Cow::into_owned),
            customer: claims.customer.map(Cow::into_owned),
            attributes: claims.attrs.map_or_else(BTreeMap::new, |attrs| attrs.0),
            audience,
            client_id: text(claims.client_id, "client_id")?,
            token_id: text(claims.jti, "jti")?,
            grant_id: claims.sid.map(Cow::into_owned),
            issued_at: date(claims.iat, "iat")?,
            expires_at: date(claims.exp, "exp")?,
        };
        if token.issuer != self.issuer {
            return Err(Rejection::IssuerWrong);
        }
        if let Some(audience) = &self.audience
            && !token.audience.contains(audience)
        {
            return Err(Rejection::AudienceWrong);
        }
        Ok((token, claims.nbf.map(|NumericDate(seconds)| seconds)))
    }
}
