//! Every reason to say no: exact inside, coarse outside.
//!
//! The client learns the [`WireCode`] and a text that gives nothing away; the log gets the stable name, and
//! docs/errors.md, generated from here, tells an operator what to do about each.

use std::borrow::Cow;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    // What was sent.
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

    // Who sent it.
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

    // The code or refresh token.
    /// The text was never issued here, or its sealing key is gone.
    CredentialUnknown,
    /// A code where a refresh token belongs, or the other way round.
    CredentialOfAnotherKind,
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

    // The access token.
    /// The request carries no access token.
    AccessTokenMissing,
    /// The request carries two access tokens that differ.
    AccessTokensDisagree,
    /// The text is no signed token, or a claim is absent or of the wrong kind.
    AccessTokenMalformed,
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
    /// Its `iss` is another issuer.
    AccessTokenOfAnotherIssuer,
    /// Its `aud` doesn't hold the issuer.
    AccessTokenOfAnotherAudience,
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

    // The HTTP around it.
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
}

impl Refusal {
    /// The stable name, in logs, metrics and docs/errors.md.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ParameterMissing(_) => "parameter_missing",
            Self::ParameterRepeated(_) => "parameter_repeated",
            Self::ParameterTooLong(_) => "parameter_too_long",
            Self::ParameterMalformed(_) => "parameter_malformed",
            Self::ParameterInQuery(_) => "parameter_in_query",
            Self::ParametersTooMany => "parameters_too_many",
            Self::EncodingMalformed => "encoding_malformed",
            Self::BodyNotJson => "body_not_json",
            Self::QueryParamsDisallowed => "query_params_disallowed",
            Self::RedirectUriUnsupported => "redirect_uri_unsupported",
            Self::RedirectUriMismatch => "redirect_uri_mismatch",
            Self::ResponseTypeUnsupported => "response_type_unsupported",
            Self::GrantTypeUnsupported => "grant_type_unsupported",
            Self::ScopeUnsupported => "scope_unsupported",
            Self::ChallengeMethodUnsupported => "challenge_method_unsupported",
            Self::ChallengeMalformed => "challenge_malformed",
            Self::VerifierMalformed => "verifier_malformed",
            Self::ClientUnknown => "client_unknown",
            Self::ClientDisabled => "client_disabled",
            Self::ApiKeyMissing => "api_key_missing",
            Self::ApiKeyWrong => "api_key_wrong",
            Self::ApiKeyExpired => "api_key_expired",
            Self::ApiKeyRevoked => "api_key_revoked",
            Self::ClientPublic => "client_public",
            Self::BasicMalformed => "basic_malformed",
            Self::AuthenticationRepeated => "authentication_repeated",
            Self::ClientIdMismatch => "client_id_mismatch",
            Self::CredentialUnknown => "credential_unknown",
            Self::CredentialOfAnotherKind => "credential_of_another_kind",
            Self::GrantGone => "grant_gone",
            Self::GrantOfAnotherClient => "grant_of_another_client",
            Self::GrantRevoked => "grant_revoked",
            Self::GrantEnded => "grant_ended",
            Self::CodeExpired => "code_expired",
            Self::CodeGuessedAt => "code_guessed_at",
            Self::CodeSpent => "code_spent",
            Self::CodeReplayed => "code_replayed",
            Self::VerifierWrong => "verifier_wrong",
            Self::RefreshTokenExpired => "refresh_token_expired",
            Self::RefreshTokenOvertaken => "refresh_token_overtaken",
            Self::RefreshTokenReplayed => "refresh_token_replayed",
            Self::RefreshTokenContested => "refresh_token_contested",
            Self::RefreshTokenRetriedLate => "refresh_token_retried_late",
            Self::AccessTokenMissing => "access_token_missing",
            Self::AccessTokensDisagree => "access_tokens_disagree",
            Self::AccessTokenMalformed => "access_token_malformed",
            Self::AccessTokenUnsupported => "access_token_unsupported",
            Self::AccessTokenKeyUnknown => "access_token_key_unknown",
            Self::AccessTokenForged => "access_token_forged",
            Self::AccessTokenExpired => "access_token_expired",
            Self::AccessTokenNotYetValid => "access_token_not_yet_valid",
            Self::AccessTokenOfAnotherIssuer => "access_token_of_another_issuer",
            Self::AccessTokenOfAnotherAudience => "access_token_of_another_audience",
            Self::AccessTokenOfNoClient => "access_token_of_no_client",
            Self::AccessTokenOfAnotherClient => "access_token_of_another_client",
            Self::AccessTokenRevoked => "access_token_revoked",
            Self::AccessTokenGrantEnded => "access_token_grant_ended",
            Self::ModeUnsupported => "mode_unsupported",
            Self::PathUnknown => "path_unknown",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestMalformed => "request_malformed",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyTooLong => "body_too_long",
            Self::TargetTooLong => "target_too_long",
            Self::HeadersTooLong => "headers_too_long",
            Self::MediaTypeUnsupported => "media_type_unsupported",
            Self::Prefetch => "prefetch",
        }
    }

    /// The parameter that it is about, if it is about one.
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

    /// The `error` that the client sees. Reasons that would help someone who guesses share one code and one text.
    #[must_use]
    pub const fn wire_code(self) -> WireCode {
        match self {
            Self::ParameterMissing(_)
            | Self::ParameterRepeated(_)
            | Self::ParameterTooLong(_)
            | Self::ParameterMalformed(_)
            | Self::ParameterInQuery(_)
            | Self::ParametersTooMany
            | Self::EncodingMalformed
            | Self::BodyNotJson
            | Self::QueryParamsDisallowed
            | Self::RedirectUriUnsupported
            | Self::ChallengeMethodUnsupported
            | Self::ChallengeMalformed
            | Self::VerifierMalformed
            | Self::AuthenticationRepeated
            | Self::ClientIdMismatch
            | Self::PathUnknown
            | Self::MethodNotAllowed
            | Self::RequestMalformed
            | Self::BodyTooSlow
            | Self::BodyTooLong
            | Self::TargetTooLong
            | Self::HeadersTooLong
            | Self::MediaTypeUnsupported
            | Self::ModeUnsupported => WireCode::InvalidRequest,
            Self::ResponseTypeUnsupported => WireCode::UnsupportedResponseType,
            Self::GrantTypeUnsupported => WireCode::UnsupportedGrantType,
            Self::ScopeUnsupported => WireCode::InvalidScope,
            Self::ClientUnknown
            | Self::ClientDisabled
            | Self::ApiKeyMissing
            | Self::ApiKeyWrong
            | Self::ApiKeyExpired
            | Self::ApiKeyRevoked
            | Self::ClientPublic
            | Self::BasicMalformed => WireCode::InvalidClient,
            Self::RedirectUriMismatch
            | Self::CredentialUnknown
            | Self::CredentialOfAnotherKind
            | Self::GrantGone
            | Self::GrantOfAnotherClient
            | Self::GrantRevoked
            | Self::GrantEnded
            | Self::CodeExpired
            | Self::CodeGuessedAt
            | Self::CodeSpent
            | Self::CodeReplayed
            | Self::VerifierWrong
            | Self::RefreshTokenExpired
            | Self::RefreshTokenOvertaken
            | Self::RefreshTokenReplayed
            | Self::RefreshTokenContested
            | Self::RefreshTokenRetriedLate => WireCode::InvalidGrant,
            Self::AccessTokenMissing
            | Self::AccessTokensDisagree
            | Self::AccessTokenMalformed
            | Self::AccessTokenUnsupported
            | Self::AccessTokenKeyUnknown
            | Self::AccessTokenForged
            | Self::AccessTokenExpired
            | Self::AccessTokenNotYetValid
            | Self::AccessTokenOfAnotherIssuer
            | Self::AccessTokenOfAnotherAudience
            | Self::AccessTokenOfNoClient
            | Self::AccessTokenOfAnotherClient
            | Self::AccessTokenRevoked
            | Self::AccessTokenGrantEnded => WireCode::InvalidToken,
            Self::Prefetch => WireCode::TemporarilyUnavailable,
        }
    }

    /// The `error_description` that the client sees: the characters of RFC 6749 §5.2, and nothing of what it sent.
    #[must_use]
    pub fn public_text(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::ParameterMissing(name) => return format!("{name} is missing").into(),
            Self::ParameterRepeated(name) => {
                return format!("{name} was sent more than once").into();
            }
            Self::ParameterTooLong(name) => return format!("{name} is too long").into(),
            Self::ParameterMalformed(name) => {
                return format!("{name} holds control characters").into();
            }
            Self::ParameterInQuery(name) => {
                return format!("{name} is in the query although the request has a body").into();
            }
            Self::ParametersTooMany => "too many parameters, or a name that is too long",
            Self::EncodingMalformed => "the parameters are not valid percent-encoded UTF-8",
            Self::BodyNotJson => "the body is not a JSON object whose members are strings",
            Self::QueryParamsDisallowed => "this client must send its parameters in the body",
            Self::RedirectUriUnsupported => "redirect_uri must be urn:ietf:wg:oauth:2.0:oob:auto",
            Self::RedirectUriMismatch => "redirect_uri is not the one of the authorization",
            Self::ResponseTypeUnsupported => "response_type must be code",
            Self::GrantTypeUnsupported => "grant_type must be authorization_code or refresh_token",
            Self::ScopeUnsupported => "there are no scopes: leave scope out",
            Self::ChallengeMethodUnsupported => "code_challenge_method must be S256",
            Self::ChallengeMalformed => {
                "code_challenge must be the unpadded base64url SHA-256 of the verifier"
            }
            Self::VerifierMalformed => "code_verifier must be 43 to 128 unreserved characters",
            Self::ClientUnknown
            | Self::ClientDisabled
            | Self::ApiKeyMissing
            | Self::ApiKeyWrong
            | Self::ApiKeyExpired
            | Self::ApiKeyRevoked
            | Self::ClientPublic
            | Self::BasicMalformed => "the client is unknown or its authentication failed",
            Self::AuthenticationRepeated => "the request authenticates the client more than once",
            Self::ClientIdMismatch => "client_id and the Authorization header disagree",
            Self::CredentialUnknown
            | Self::CredentialOfAnotherKind
            | Self::GrantGone
            | Self::GrantOfAnotherClient
            | Self::GrantRevoked
            | Self::GrantEnded
            | Self::CodeExpired
            | Self::CodeGuessedAt
            | Self::CodeSpent
            | Self::CodeReplayed
            | Self::VerifierWrong
            | Self::RefreshTokenExpired
            | Self::RefreshTokenOvertaken
            | Self::RefreshTokenReplayed
            | Self::RefreshTokenContested
            | Self::RefreshTokenRetriedLate => {
                "the code, its verifier or the refresh token is not valid"
            }
            Self::AccessTokenMissing => "an access token is missing",
            Self::AccessTokensDisagree
            | Self::AccessTokenMalformed
            | Self::AccessTokenUnsupported
            | Self::AccessTokenKeyUnknown
            | Self::AccessTokenForged
            | Self::AccessTokenExpired
            | Self::AccessTokenNotYetValid
            | Self::AccessTokenOfAnotherIssuer
            | Self::AccessTokenOfAnotherAudience
            | Self::AccessTokenOfNoClient
            | Self::AccessTokenOfAnotherClient
            | Self::AccessTokenRevoked
            | Self::AccessTokenGrantEnded => "the access token is expired, revoked or not valid",
            Self::ModeUnsupported => "mode must be strict or soft",
            Self::PathUnknown => "there is nothing at this path",
            Self::MethodNotAllowed => "this path does not answer that method",
            Self::RequestMalformed => "the request is malformed",
            Self::BodyTooSlow => "the body did not arrive in time",
            Self::BodyTooLong => "the body is too long",
            Self::TargetTooLong => "the request target is too long",
            Self::HeadersTooLong => "the header fields are too many or too long",
            Self::MediaTypeUnsupported => {
                "the body must be application/x-www-form-urlencoded or application/json in UTF-8"
            }
            Self::Prefetch => "authorization is not done ahead of its use",
        })
    }

    /// What an operator can do about it, in plain words.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table, one row for each refusal")]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::ParameterMissing(_) => "Send the parameter; an empty one counts as absent.",
            Self::ParameterRepeated(_) => {
                "Send each parameter once. Look for a library that appends to a query it was given."
            }
            Self::ParameterTooLong(_) => {
                "Shorten it: client_id 128 bytes, state 1,024, code and refresh_token 512."
            }
            Self::ParameterMalformed(_) => {
                "Remove control characters, often a line break read from a file."
            }
            Self::ParameterInQuery(_) => {
                "Send all parameters in the body, or all in the query with an empty body."
            }
            Self::ParametersTooMany => {
                "Send no more than 64 parameters, with names of at most 256 bytes."
            }
            Self::EncodingMalformed => "Percent-encode the UTF-8 bytes, once.",
            Self::BodyNotJson => {
                "Send one JSON object; write every member as a string and each name once."
            }
            Self::QueryParamsDisallowed => {
                "Send a form body, or allow it: `guestpass client set ID --query-params`."
            }
            Self::RedirectUriUnsupported | Self::RedirectUriMismatch => {
                "Send exactly urn:ietf:wg:oauth:2.0:oob:auto, encoded at most once."
            }
            Self::ResponseTypeUnsupported => "Send response_type=code, in lower case.",
            Self::GrantTypeUnsupported => {
                "Use authorization_code, then refresh_token; there are no other grants."
            }
            Self::ScopeUnsupported => "Leave scope out, or empty.",
            Self::ChallengeMethodUnsupported => {
                "Send code_challenge_method=S256; plain is never accepted."
            }
            Self::ChallengeMalformed => {
                "Send base64url(SHA-256(verifier)): 43 characters, no padding, not hexadecimal."
            }
            Self::VerifierMalformed => {
                "Use 43 to 128 characters of A-Z a-z 0-9 - . _ ~ as the verifier."
            }
            Self::ClientUnknown => {
                "Compare the id with `guestpass client list`; it is case-sensitive."
            }
            Self::ClientDisabled => {
                "`guestpass client enable ID`, if the client should work again."
            }
            Self::ApiKeyMissing => {
                "Send x-api-key, or make the client public: `guestpass client set ID --no-confidential`."
            }
            Self::ApiKeyWrong => {
                "Compare the key's first 12 characters with `guestpass client key list ID`; or make a new one. A public client has no key: leave x-api-key out."
            }
            Self::ApiKeyExpired => "Make a new key: `guestpass client key add ID`.",
            Self::ApiKeyRevoked => {
                "Deploy a key that isn't revoked; see `guestpass client key list ID`."
            }
            Self::ClientPublic => {
                "Use a confidential client: `guestpass client add ID --confidential`."
            }
            Self::BasicMalformed => "Send `Basic` and base64 of client id, colon and API key.",
            Self::AuthenticationRepeated => "Send either x-api-key or Authorization: Basic, once.",
            Self::ClientIdMismatch => {
                "Name the same client in client_id and in the Authorization header."
            }
            Self::CredentialUnknown => {
                "The text was altered, cut, made up, or issued by another installation. If it happens to many guests at once, a sealing key was lost: restore the keys."
            }
            Self::CredentialOfAnotherKind => {
                "Send the code as code and the refresh token as refresh_token."
            }
            Self::GrantGone => {
                "The guest was erased, its client was removed, or the grant ended more than a week ago. The client must authorize anew."
            }
            Self::GrantOfAnotherClient => {
                "Use the client_id that the code or refresh token was issued to."
            }
            Self::GrantRevoked => {
                "The grant was ended, see the log for when and why. The client must authorize anew."
            }
            Self::GrantEnded => {
                "The grant is older than tokens.refresh_max. The client must authorize anew."
            }
            Self::CodeExpired => {
                "Redeem the code within tokens.code_ttl. If clients are slower, raise it, to 600s at most."
            }
            Self::CodeGuessedAt => {
                "The client showed five wrong verifiers: it pairs codes with the wrong verifier, or someone guesses."
            }
            Self::CodeSpent => {
                "The code was redeemed before. The client must keep the tokens it got, or authorize anew."
            }
            Self::CodeReplayed => {
                "The code was redeemed twice with every proof right, so the grant was ended; its access token works until it expires. Look for a client that retries, or for a leak."
            }
            Self::VerifierWrong => {
                "The client must keep the verifier of each authorization beside its code."
            }
            Self::RefreshTokenExpired => {
                "It wasn't used for tokens.refresh_idle. The client must authorize anew."
            }
            Self::RefreshTokenOvertaken => {
                "Nothing is wrong: the client has a newer refresh token already."
            }
            Self::RefreshTokenReplayed => {
                "Two parties hold the guest's refresh token, so the grant was ended. Look for a leak, or for copies in several tabs."
            }
            Self::RefreshTokenContested => {
                "Late retries were reissued tokens.max_unproven times in a row and no answer was used: two parties take turns, or a client never stores its answers."
            }
            Self::RefreshTokenRetriedLate => {
                "A lost answer, or a copy, under tokens.late_retry = revoke. With reissue the guest would have been kept."
            }
            Self::AccessTokenMissing => {
                "Send `Authorization: Bearer` or x-dressipi-jwt with the guest's access token; or ask with mode=soft, if guests without one are welcome."
            }
            Self::AccessTokensDisagree => {
                "Send one token. Look for a proxy or client that adds a second header instead of replacing the first."
            }
            Self::AccessTokenMalformed => {
                "The text was cut or altered on its way, or isn't an access token of this server."
            }
            Self::AccessTokenUnsupported => {
                "Send the access token as it was issued. For tokens of an earlier issuer, see verify.untyped."
            }
            Self::AccessTokenKeyUnknown => {
                "The token is from another installation, or older than its key: see `guestpass key list`. A refresh gives a new one."
            }
            Self::AccessTokenForged => "The token was altered, or someone made it up.",
            Self::AccessTokenExpired => {
                "Nothing is wrong: the client refreshes. If it happens early, compare the clocks."
            }
            Self::AccessTokenNotYetValid => {
                "Compare the clocks of the machines that issue and verify."
            }
            Self::AccessTokenOfAnotherIssuer => {
                "Compare the token's iss with the setting issuer, byte for byte."
            }
            Self::AccessTokenOfAnotherAudience => {
                "The token is meant for someone else only; ask for one with this issuer in aud."
            }
            Self::AccessTokenOfNoClient => {
                "`guestpass client list` shows which clients there are and which are disabled."
            }
            Self::AccessTokenOfAnotherClient => "Use the client_id that the token was issued to.",
            Self::AccessTokenRevoked => "The client asked for it. A refresh gives a new token.",
            Self::AccessTokenGrantEnded => {
                "`guestpass explain --token` says when and why. The client must authorize anew."
            }
            Self::ModeUnsupported => "Write mode=soft, or leave mode out.",
            Self::PathUnknown => {
                "Check the path, without a trailing slash, and the setting base_paths."
            }
            Self::MethodNotAllowed => "Use the method that the Allow header names.",
            Self::RequestMalformed => {
                "Look at the proxy in front: it sends no or several Host fields, or both Content-Length and Transfer-Encoding."
            }
            Self::BodyTooSlow => "Look at the network between client and server.",
            Self::BodyTooLong => "Send at most 16 KiB.",
            Self::TargetTooLong => "Send at most 8 KiB of path and query.",
            Self::HeadersTooLong => {
                "Send at most 100 header fields of at most 8 KiB each and 16 KiB together. Look for large cookies."
            }
            Self::MediaTypeUnsupported => {
                "Send Content-Type: application/x-www-form-urlencoded, and no Content-Encoding."
            }
            Self::Prefetch => "Nothing is wrong: the browser asks again when the answer is needed.",
        }
    }

    /// Every refusal, in the order of the enum; those about a parameter stand with the placeholder `PARAMETER`.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        const PARAMETER: &str = "PARAMETER";
        &[
            Self::ParameterMissing(PARAMETER),
            Self::ParameterRepeated(PARAMETER),
            Self::ParameterTooLong(PARAMETER),
            Self::ParameterMalformed(PARAMETER),
            Self::ParameterInQuery(PARAMETER),
            Self::ParametersTooMany,
            Self::EncodingMalformed,
            Self::BodyNotJson,
            Self::QueryParamsDisallowed,
            Self::RedirectUriUnsupported,
            Self::RedirectUriMismatch,
            Self::ResponseTypeUnsupported,
            Self::GrantTypeUnsupported,
            Self::ScopeUnsupported,
            Self::ChallengeMethodUnsupported,
            Self::ChallengeMalformed,
            Self::VerifierMalformed,
            Self::ClientUnknown,
            Self::ClientDisabled,
            Self::ApiKeyMissing,
            Self::ApiKeyWrong,
            Self::ApiKeyExpired,
            Self::ApiKeyRevoked,
            Self::ClientPublic,
            Self::BasicMalformed,
            Self::AuthenticationRepeated,
            Self::ClientIdMismatch,
            Self::CredentialUnknown,
            Self::CredentialOfAnotherKind,
            Self::GrantGone,
            Self::GrantOfAnotherClient,
            Self::GrantRevoked,
            Self::GrantEnded,
            Self::CodeExpired,
            Self::CodeGuessedAt,
            Self::CodeSpent,
            Self::CodeReplayed,
            Self::VerifierWrong,
            Self::RefreshTokenExpired,
            Self::RefreshTokenOvertaken,
            Self::RefreshTokenReplayed,
            Self::RefreshTokenContested,
            Self::RefreshTokenRetriedLate,
            Self::AccessTokenMissing,
            Self::AccessTokensDisagree,
            Self::AccessTokenMalformed,
            Self::AccessTokenUnsupported,
            Self::AccessTokenKeyUnknown,
            Self::AccessTokenForged,
            Self::AccessTokenExpired,
            Self::AccessTokenNotYetValid,
            Self::AccessTokenOfAnotherIssuer,
            Self::AccessTokenOfAnotherAudience,
            Self::AccessTokenOfNoClient,
            Self::AccessTokenOfAnotherClient,
            Self::AccessTokenRevoked,
            Self::AccessTokenGrantEnded,
            Self::ModeUnsupported,
            Self::PathUnknown,
            Self::MethodNotAllowed,
            Self::RequestMalformed,
            Self::BodyTooSlow,
            Self::BodyTooLong,
            Self::TargetTooLong,
            Self::HeadersTooLong,
            Self::MediaTypeUnsupported,
            Self::Prefetch,
        ]
    }
}

/// The `error` codes of RFC 6749 §4.1.2.1, §5.2 and RFC 6750 §3.1 that this server uses, nothing else.
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
    /// Try again later: nothing is wrong with the request.
    TemporarilyUnavailable,
    /// A defect of this server.
    ServerError,
}

impl WireCode {
    /// The code as it is sent.
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
