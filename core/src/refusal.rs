//! Every reason to refuse a request: exact inside, coarse outside.
//!
//! The client learns the [`WireCode`] and a text that gives nothing away; the log gets the stable name, and
//! docs/errors.md, generated from here, tells an operator what to do about each.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::choice::Choice;
use crate::rate_limit::Exceeded;

mod table;

/// The exact reason why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    // Parameters.
    /// A parameter is absent or empty.
    ParameterMissing(&'static str),
    /// A parameter came more than once.
    ParameterRepeated(&'static str),
    /// A parameter is longer than its limit.
    ParameterTooLong(&'static str),
    /// A parameter holds control characters.
    ParameterMalformed(&'static str),
    /// An OAuth parameter stands in the query beside a body.
    ParameterInQuery(&'static str),
    /// A parameter that the endpoint doesn't know holds control characters, in its name or value.
    UnknownParameterMalformed,
    /// More parameters, or a longer name, than any client sends.
    ParametersTooMany,
    /// A broken percent-encoding, or text that isn't UTF-8.
    EncodingMalformed,
    /// The JSON body isn't an object whose members are strings.
    BodyNotJson,
    /// The client may not send token parameters in the query.
    QueryParamsDisallowed,
    /// The authorization endpoint got another redirect URI than the one there is.
    RedirectUriUnsupported,
    /// The token endpoint got another redirect URI than the one there is.
    RedirectUriMismatch,
    /// A response type other than `code`.
    ResponseTypeUnsupported,
    /// A grant type other than the two there are.
    GrantTypeUnsupported,
    /// A scope was asked for.
    ScopeUnsupported,
    /// A challenge method other than `S256`.
    ChallengeMethodUnsupported,
    /// The challenge can't be a SHA-256.
    ChallengeMalformed,
    /// The verifier breaks the grammar.
    VerifierMalformed,

    // Client authentication.
    /// No client has that id.
    ClientUnknown,
    /// The client is disabled.
    ClientDisabled,
    /// A confidential client came without a key.
    ApiKeyMissing,
    /// The key is none of the client's.
    ApiKeyWrong,
    /// The key's end date has passed.
    ApiKeyExpired,
    /// The key was revoked.
    ApiKeyRevoked,
    /// The client is public, and what it asks for needs a key.
    ClientPublic,
    /// The `Authorization` header isn't well-formed Basic.
    BasicMalformed,
    /// More than one authentication, or one of them twice.
    AuthenticationRepeated,
    /// `client_id` and the `Authorization` header name different clients.
    ClientIdMismatch,
    /// The client isn't allowed to do this.
    PermissionMissing,

    // Customers.
    /// The id of a customer breaks its grammar, or is a word that stands for none.
    CustomerMalformed,
    /// The attributes are no object of texts, whole numbers and booleans.
    AttributesMalformed,
    /// The guest would have more attributes than fit into a token.
    AttributesTooLong,
    /// The guest is linked to another customer.
    LinkedToAnother,

    // Cookies.
    /// The client has no cookies.
    CookiesOff,
    /// The request doesn't say from which page it comes.
    OriginMissing,
    /// The request comes from a page that isn't the client's.
    OriginForeign,
    /// The page and the server are on different sites.
    CrossSite,
    /// A cookie is there with two values.
    CookiesDisagree,
    /// A refresh token and a ticket were sent together.
    GuestRepeated,
    /// The ticket is of another guest than the cookies.
    GuestDiffers,
    /// The refresh token or seed came late: a newer refresh token is in the browser by now.
    SessionOvertaken,
    /// `erase` says something but `yes`.
    EraseUnsupported,

    // Tickets.
    /// The page has no cookie of a refresh token.
    SessionMissing,
    /// The refresh token wouldn't get an answer.
    RefreshTokenDead,
    /// The text is no ticket.
    TicketMalformed,
    /// The client may not hand guests over to that one, or there is none.
    TicketTargetDisallowed,

    // Codes and refresh tokens.
    /// The text was never issued here, or its sealing key is gone; nor is it anything else that a client holds.
    CredentialUnknown,
    /// A refresh token stands where a code belongs.
    RefreshTokenAsCode,
    /// A code stands where a refresh token belongs.
    CodeAsRefreshToken,
    /// An access token, to look at, stands where a code or refresh token belongs.
    AccessTokenAsCredential,
    /// An API key, to look at, stands where a code or refresh token belongs.
    ApiKeyAsCredential,
    /// The grant's row is gone: erased, or cleaned long after its end.
    GrantGone,
    /// It belongs to another client.
    GrantOfAnotherClient,
    /// The grant was revoked before.
    GrantRevoked,
    /// The grant's longest lifetime is over.
    GrantEnded,
    /// The code was not redeemed in time.
    CodeExpired,
    /// Too many wrong verifiers were shown with the code.
    CodeGuessedAt,
    /// The code was redeemed before, and this request doesn't prove enough, or comes too late, to end the grant.
    CodeSpent,
    /// The code was redeemed before, and every proof is right: the grant ends.
    CodeReplayed,
    /// The verifier isn't the one behind the challenge.
    VerifierWrong,
    /// The refresh token wasn't used for too long.
    RefreshTokenExpired,
    /// The request was overtaken on its way by a later refresh.
    RefreshTokenOvertaken,
    /// A successor of the refresh token was used before: the grant ends.
    RefreshTokenReplayed,
    /// Too many successors in a row were never proven: the grant ends.
    RefreshTokenContested,
    /// Tried again after the grace window under `late_retry = revoke`: the grant ends.
    RefreshTokenRetriedLate,

    // Access tokens.
    /// The request carries no access token.
    AccessTokenMissing,
    /// The request carries two access tokens that differ.
    AccessTokensDisagree,
    /// The text is no signed token, or a claim is absent or of the wrong kind.
    AccessTokenMalformed,
    /// A code or refresh token stands where an access token belongs.
    CredentialAsAccessToken,
    /// An API key, to look at, stands where an access token belongs.
    ApiKeyAsAccessToken,
    /// The header asks for another type, algorithm or extension than access tokens have.
    AccessTokenUnsupported,
    /// No key goes by the token's `kid`.
    AccessTokenKeyUnknown,
    /// The signature isn't the key's.
    AccessTokenForged,
    /// Past its `exp`.
    AccessTokenExpired,
    /// Its `iat` or `nbf` lies in the future.
    AccessTokenNotYetValid,
    /// Its `iss` is another issuer; unverified, if no key of ours has signed it.
    AccessTokenOfAnotherIssuer,
    /// Its `aud` holds neither the issuer nor its client's own audience.
    AccessTokenOfAnotherAudience,
    /// Its `aud` doesn't hold the audience that a gateway asks for.
    AccessTokenLacksAudience,
    /// Its client is unknown or disabled.
    AccessTokenOfNoClient,
    /// It was issued to another client.
    AccessTokenOfAnotherClient,
    /// This token alone was revoked.
    AccessTokenRevoked,
    /// Its grant was revoked, has ended, or its guest was erased.
    AccessTokenGrantEnded,
    /// A mode other than `strict` and `soft`.
    ModeUnsupported,

    // HTTP.
    /// No such path.
    PathUnknown,
    /// The path doesn't answer that method.
    MethodNotAllowed,
    /// The request's framing or `Host` is ambiguous.
    RequestMalformed,
    /// The body didn't arrive in time.
    BodyTooSlow,
    /// The body is longer than its limit.
    BodyTooLong,
    /// The request target is longer than its limit.
    TargetTooLong,
    /// Too many header fields, or too long ones.
    HeadersTooLong,
    /// The body's media type, charset or content coding isn't supported.
    MediaTypeUnsupported,
    /// A browser wants to load the answer ahead of its use.
    Prefetch,
    /// A browser says that no page could read the answer.
    AnswerUnreadable,
    /// The address of the visitor, which the client names, is none.
    VisitorMalformed,
    /// A rate limit.
    RateLimited(Exceeded),
    /// The operators' listener doesn't go by the host that the request names.
    HostUnknown,
    /// The operators' token is missing or wrong.
    OperatorTokenWrong,
}

impl Refusal {
    /// Returns the stable name, which logs, metrics and docs/errors.md use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        table::row(self).name
    }

    /// Returns the parameter that the refusal is about, if it is about one.
    #[must_use]
    pub const fn parameter(self) -> Option<&'static str> {
        if let Self::ParameterMissing(name)
        | Self::ParameterRepeated(name)
        | Self::ParameterTooLong(name)
        | Self::ParameterMalformed(name)
        | Self::ParameterInQuery(name) = self
        {
            Some(name)
        } else {
            None
        }
    }

    /// Returns the `error` that the client sees. Reasons that would help someone who guesses share one code and one
    /// text.
    #[must_use]
    pub const fn wire_code(self) -> WireCode {
        table::row(self).code
    }

    /// Returns the `error_description` that the client sees. It has only the characters that RFC 6749 §5.2 allows, and
    /// repeats nothing that the client sent.
    #[must_use]
    pub fn public_text(self) -> Cow<'static, str> {
        let text = table::row(self).text;
        match self.parameter() {
            Some(name) => text.replace(PARAMETER, name).into(),
            None => text.into(),
        }
    }

    /// Tells whether someone who guesses is refused so.
    #[must_use]
    pub const fn is_guess(self) -> bool {
        matches!(
            self,
            Self::ClientUnknown
                | Self::ClientDisabled
                | Self::ApiKeyMissing
                | Self::ApiKeyWrong
                | Self::ApiKeyExpired
                | Self::ApiKeyRevoked
                | Self::CredentialUnknown
                | Self::CodeGuessedAt
                | Self::VerifierWrong
                | Self::AccessTokenMalformed
                | Self::AccessTokenKeyUnknown
                | Self::AccessTokenForged
        )
    }

    /// Returns advice for the operator, in plain words.
    #[must_use]
    pub fn remedy(self) -> Cow<'static, str> {
        table::with_limits(table::row(self).remedy)
    }

    /// Lists every refusal in the order of the enum; those about a parameter have the placeholder `PARAMETER`.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        ALL
    }
}

const ALL: &[Refusal] = &[
    Refusal::ParameterMissing(PARAMETER),
    Refusal::ParameterRepeated(PARAMETER),
    Refusal::ParameterTooLong(PARAMETER),
    Refusal::ParameterMalformed(PARAMETER),
    Refusal::ParameterInQuery(PARAMETER),
    Refusal::UnknownParameterMalformed,
    Refusal::ParametersTooMany,
    Refusal::EncodingMalformed,
    Refusal::BodyNotJson,
    Refusal::QueryParamsDisallowed,
    Refusal::RedirectUriUnsupported,
    Refusal::RedirectUriMismatch,
    Refusal::ResponseTypeUnsupported,
    Refusal::GrantTypeUnsupported,
    Refusal::ScopeUnsupported,
    Refusal::ChallengeMethodUnsupported,
    Refusal::ChallengeMalformed,
    Refusal::VerifierMalformed,
    Refusal::ClientUnknown,
    Refusal::ClientDisabled,
    Refusal::ApiKeyMissing,
    Refusal::ApiKeyWrong,
    Refusal::ApiKeyExpired,
    Refusal::ApiKeyRevoked,
    Refusal::ClientPublic,
    Refusal::BasicMalformed,
    Refusal::AuthenticationRepeated,
    Refusal::ClientIdMismatch,
    Refusal::PermissionMissing,
    Refusal::CustomerMalformed,
    Refusal::AttributesMalformed,
    Refusal::AttributesTooLong,
    Refusal::LinkedToAnother,
    Refusal::CookiesOff,
    Refusal::OriginMissing,
    Refusal::OriginForeign,
    Refusal::CrossSite,
    Refusal::CookiesDisagree,
    Refusal::GuestRepeated,
    Refusal::GuestDiffers,
    Refusal::SessionOvertaken,
    Refusal::EraseUnsupported,
    Refusal::SessionMissing,
    Refusal::RefreshTokenDead,
    Refusal::TicketMalformed,
    Refusal::TicketTargetDisallowed,
    Refusal::CredentialUnknown,
    Refusal::RefreshTokenAsCode,
    Refusal::CodeAsRefreshToken,
    Refusal::AccessTokenAsCredential,
    Refusal::ApiKeyAsCredential,
    Refusal::GrantGone,
    Refusal::GrantOfAnotherClient,
    Refusal::GrantRevoked,
    Refusal::GrantEnded,
    Refusal::CodeExpired,
    Refusal::CodeGuessedAt,
    Refusal::CodeSpent,
    Refusal::CodeReplayed,
    Refusal::VerifierWrong,
    Refusal::RefreshTokenExpired,
    Refusal::RefreshTokenOvertaken,
    Refusal::RefreshTokenReplayed,
    Refusal::RefreshTokenContested,
    Refusal::RefreshTokenRetriedLate,
    Refusal::AccessTokenMissing,
    Refusal::AccessTokensDisagree,
    Refusal::AccessTokenMalformed,
    Refusal::CredentialAsAccessToken,
    Refusal::ApiKeyAsAccessToken,
    Refusal::AccessTokenUnsupported,
    Refusal::AccessTokenKeyUnknown,
    Refusal::AccessTokenForged,
    Refusal::AccessTokenExpired,
    Refusal::AccessTokenNotYetValid,
    Refusal::AccessTokenOfAnotherIssuer,
    Refusal::AccessTokenOfAnotherAudience,
    Refusal::AccessTokenLacksAudience,
    Refusal::AccessTokenOfNoClient,
    Refusal::AccessTokenOfAnotherClient,
    Refusal::AccessTokenRevoked,
    Refusal::AccessTokenGrantEnded,
    Refusal::ModeUnsupported,
    Refusal::PathUnknown,
    Refusal::MethodNotAllowed,
    Refusal::RequestMalformed,
    Refusal::BodyTooSlow,
    Refusal::BodyTooLong,
    Refusal::TargetTooLong,
    Refusal::HeadersTooLong,
    Refusal::MediaTypeUnsupported,
    Refusal::Prefetch,
    Refusal::AnswerUnreadable,
    Refusal::VisitorMalformed,
    Refusal::RateLimited(ANY_LIMIT),
    Refusal::HostUnknown,
    Refusal::OperatorTokenWrong,
];

/// The placeholder for the name of a parameter.
const PARAMETER: &str = "PARAMETER";

/// The placeholder for a limit.
const ANY_LIMIT: Exceeded = Exceeded {
    limit: Choice::GuestsPerAddress,
    bucket: (NonZeroU32::MIN, Duration::from_secs(1)),
    retry_after: 1,
};

/// The `error` codes of RFC 6749 §4.1.2.1, §5.2 and RFC 6750 §3.1 that this server uses, and one for what they don't know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WireCode {
    /// The request itself is wrong.
    InvalidRequest,
    /// Client authentication failed, at the token endpoint.
    InvalidClient,
    /// The same, at the authorization endpoint (RFC 6749 §4.1.2.1 has no `invalid_client`).
    UnauthorizedClient,
    /// The code or refresh token doesn't work, now or ever.
    InvalidGrant,
    /// The access token doesn't work (RFC 6750 §3.1).
    InvalidToken,
    /// A scope was asked for.
    InvalidScope,
    /// Neither of the two grant types.
    UnsupportedGrantType,
    /// Not `code`.
    UnsupportedResponseType,
    /// The guest is linked to another customer.
    LinkedToAnother,
    /// Try again later: nothing is wrong with the request.
    TemporarilyUnavailable,
    /// A defect of this server.
    ServerError,
}

impl WireCode {
    /// Returns the code as it is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidToken => "invalid_token",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::LinkedToAnother => "linked_to_another",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn public_texts_keep_to_the_characters_of_the_standard() {
        for refusal in Refusal::all() {
            let text = refusal.public_text();
            assert!(
                text.bytes()
                    .all(|b| matches!(b, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e)),
                "{text}"
            );
        }
    }

    #[test]
    fn remedies_tell_the_limits_as_numbers() {
        for refusal in Refusal::all() {
            let remedy = refusal.remedy();
            // But for the example of a JSON object.
            let words = remedy.replace(r#"{"segment":"vip"}"#, "");
            assert!(!words.contains(['{', '}']), "{remedy}");
        }
        assert!(Refusal::BodyTooLong.remedy().contains("16 KiB"));
    }

    #[test]
    fn the_list_is_complete() {
        let source = include_str!("refusal.rs");
        let variants = source
            .split("pub enum Refusal")
            .nth(1)
            .unwrap()
            .split("\n}")
            .next()
            .unwrap();
        let declared = variants
            .lines()
            .filter(|line| line.ends_with(',') && !line.trim_start().starts_with("//"))
            .count();
        let names: HashSet<_> = Refusal::all()
            .iter()
            .map(|refusal| refusal.name())
            .collect();
        assert_eq!((declared, declared), (names.len(), Refusal::all().len()));
    }
}
