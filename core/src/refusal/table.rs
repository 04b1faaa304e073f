//! The table of refusals: one row for each, with all its texts.

use std::borrow::Cow;

use super::{Refusal, WireCode};
use crate::grant::{KEEP_ENDED, MAX_STRIKES};
use crate::limits::{
    MAX_BODY_BYTES, MAX_CLIENT_ID_BYTES, MAX_CREDENTIAL_BYTES, MAX_FIELD_BYTES, MAX_FIELDS,
    MAX_HEADER_BYTES, MAX_STATE_BYTES, MAX_TARGET_BYTES,
};
use crate::params::{MAX_COUNT, MAX_NAME_CHARS};
use crate::policy::MAX_CODE_TTL;

/// Holds the texts of a refusal.
pub(super) struct Row {
    /// The name, for the log.
    pub(super) name: &'static str,
    /// The code, for the client.
    pub(super) code: WireCode,
    /// The description, for the client; `PARAMETER` stands for the name of the parameter.
    pub(super) text: &'static str,
    /// The advice, for the operator; [`with_limits`] replaces the limits in braces.
    pub(super) remedy: &'static str,
}

// Reasons that would help someone who guesses share a text.
const CLIENT: &str = "the client is unknown or its authentication failed";
const CREDENTIAL: &str = "the code, its verifier or the refresh token is not valid";
const ACCESS_TOKEN: &str = "the access token is expired, revoked or not valid";

#[expect(clippy::too_many_lines, reason = "a table, one row for each refusal")]
pub(super) const fn row(refusal: Refusal) -> Row {
    use WireCode::{
        InvalidClient, InvalidGrant, InvalidRequest, InvalidScope, InvalidToken,
        TemporarilyUnavailable, UnauthorizedClient, UnsupportedGrantType, UnsupportedResponseType,
    };

    match refusal {
        Refusal::ParameterMissing(_) => new(
            "parameter_missing",
            InvalidRequest,
            "PARAMETER is missing",
            "Send the parameter; an empty one counts as absent.",
        ),
        Refusal::ParameterRepeated(_) => new(
            "parameter_repeated",
            InvalidRequest,
            "PARAMETER was sent more than once",
            "Send each parameter once. Look for a library that appends to a query it was given.",
        ),
        Refusal::ParameterTooLong(_) => new(
            "parameter_too_long",
            InvalidRequest,
            "PARAMETER is too long",
            "Shorten it: client_id has at most {MAX_CLIENT_ID_BYTES} bytes, state {MAX_STATE_BYTES}, code and refresh_token {MAX_CREDENTIAL_BYTES}; `GET /oauth/openapi.json` has the limit of each. A longer code or refresh_token is something else, such as an access token.",
        ),
        Refusal::ParameterMalformed(_) => new(
            "parameter_malformed",
            InvalidRequest,
            "PARAMETER holds control characters",
            "Remove control characters, often a line break read from a file.",
        ),
        Refusal::ParameterInQuery(_) => new(
            "parameter_in_query",
            InvalidRequest,
            "PARAMETER must not be in the query",
            "Send all parameters in the body. Only at /oauth/token may they all stand in the query instead, with an empty body; but client_secret never may, because queries end up in logs: send it in the body, or the key in x-api-key or Authorization: Basic, and replace a key that stood in a query: `guestpass client key add ID`.",
        ),
        Refusal::UnknownParameterMalformed => new(
            "unknown_parameter_malformed",
            InvalidRequest,
            "a parameter that is not known here holds control characters",
            "Remove control characters from the names and values of all parameters, even of those that this path doesn't \
             know: a proxy may read something else. Look for %00, %0A and the like in the query.",
        ),
        Refusal::ParametersTooMany => new(
            "parameters_too_many",
            InvalidRequest,
            "too many parameters, or a name that is too long",
            "Send no more than {MAX_COUNT} parameters, with names of at most {MAX_NAME_CHARS} characters.",
        ),
        Refusal::EncodingMalformed => new(
            "encoding_malformed",
            InvalidRequest,
            "the parameters are not valid percent-encoded UTF-8",
            "Percent-encode the UTF-8 bytes, once.",
        ),
        Refusal::BodyNotJson => new(
            "body_not_json",
            InvalidRequest,
            "the body is not a JSON object whose members are strings",
            "Send one JSON object; write every member as a string and each name once.",
        ),
        Refusal::QueryParamsDisallowed => new(
            "query_params_disallowed",
            InvalidRequest,
            "this client must send its parameters in the body",
            "Send all parameters in a form or JSON body. In the query proxies log them, so the client's query_params, or the setting tokens.query_params, refuses them there: see `guestpass client show ID`.",
        ),
        Refusal::RedirectUriUnsupported => new(
            "redirect_uri_unsupported",
            InvalidRequest,
            "redirect_uri must be urn:ietf:wg:oauth:2.0:oob:auto",
            "Send exactly urn:ietf:wg:oauth:2.0:oob:auto, encoded at most once.",
        ),
        Refusal::RedirectUriMismatch => new(
            "redirect_uri_mismatch",
            InvalidGrant,
            "redirect_uri is not the one of the authorization",
            "Send exactly urn:ietf:wg:oauth:2.0:oob:auto, encoded at most once.",
        ),
        Refusal::ResponseTypeUnsupported => new(
            "response_type_unsupported",
            UnsupportedResponseType,
            "response_type must be code",
            "Send response_type=code, in lower case.",
        ),
        Refusal::GrantTypeUnsupported => new(
            "grant_type_unsupported",
            UnsupportedGrantType,
            "grant_type must be authorization_code or refresh_token",
            "Use authorization_code, then refresh_token; there are no other grants.",
        ),
        Refusal::ScopeUnsupported => new(
            "scope_unsupported",
            InvalidScope,
            "there are no scopes: leave scope out",
            "Leave scope out, or empty.",
        ),
        Refusal::ChallengeMethodUnsupported => new(
            "challenge_method_unsupported",
            InvalidRequest,
            "code_challenge_method must be S256",
            "Send code_challenge_method=S256; plain is never accepted.",
        ),
        Refusal::ChallengeMalformed => new(
            "challenge_malformed",
            InvalidRequest,
            "code_challenge must be the unpadded base64url SHA-256 of the verifier",
            "Send base64url(SHA-256(verifier)): 43 characters, no padding, not hexadecimal.",
        ),
        Refusal::VerifierMalformed => new(
            "verifier_malformed",
            InvalidRequest,
            "code_verifier must be 43 to 128 unreserved characters",
            "Use 43 to 128 characters of A-Z a-z 0-9 - . _ ~ as the verifier.",
        ),
        Refusal::ClientUnknown => new(
            "client_unknown",
            InvalidClient,
            CLIENT,
            "Compare the client_id, or the user of Authorization: Basic, with `guestpass client list`; it is case-sensitive. Then look whether the request came to the right installation.",
        ),
        Refusal::ClientDisabled => new(
            "client_disabled",
            InvalidClient,
            CLIENT,
            "`guestpass client enable ID`, if the client should work again.",
        ),
        Refusal::ApiKeyMissing => new(
            "api_key_missing",
            InvalidClient,
            CLIENT,
            "A key was looked for in the header x-api-key, behind the client id in Authorization: Basic, and, but for authorize, as client_secret in the body; nowhere else. Send it in one of these places, and look for a proxy that drops the header. If the key is lost, make another: `guestpass client key add ID`.",
        ),
        Refusal::ApiKeyWrong => new(
            "api_key_wrong",
            InvalidClient,
            CLIENT,
            "Compare the first 12 characters of the key with `guestpass client key list ID`, and its length: 53. What doesn't begin with gpk_ is no key, but perhaps a token. If the key is lost, make another: `guestpass client key add ID`. A public client has no key: leave out x-api-key, client_secret, and the password of Authorization: Basic.",
        ),
        Refusal::ApiKeyExpired => new(
            "api_key_expired",
            InvalidClient,
            CLIENT,
            "Make a new key, `guestpass client key add ID`, and deploy it before the last one expires: `guestpass client key list ID`.",
        ),
        Refusal::ApiKeyRevoked => new(
            "api_key_revoked",
            InvalidClient,
            CLIENT,
            "Deploy a key that isn't revoked, see `guestpass client key list ID`; or make one: `guestpass client key add ID`.",
        ),
        Refusal::ClientPublic => new(
            "client_public",
            InvalidClient,
            CLIENT,
            "Only a confidential client may ask this. Make one for the service that asks, `guestpass client add ID --confidential`, and leave the public client as it is.",
        ),
        Refusal::BasicMalformed => new(
            "basic_malformed",
            InvalidClient,
            CLIENT,
            "Send `Basic` and the base64, with padding, of client id, colon and API key, both percent-encoded as in a form (RFC 6749 §2.3.1) and without control characters, such as a line break read from a file. A public client sends no key: nothing stands behind its colon.",
        ),
        Refusal::AuthenticationRepeated => new(
            "authentication_repeated",
            InvalidRequest,
            "the request authenticates the client more than once",
            "Send one of x-api-key, Authorization: Basic and client_secret, once. Look for a proxy or library that adds one of its own.",
        ),
        Refusal::ClientIdMismatch => new(
            "client_id_mismatch",
            InvalidRequest,
            "client_id and the Authorization header disagree",
            "Name the same client in client_id and in the Authorization header.",
        ),
        Refusal::PermissionMissing => new(
            "permission_missing",
            UnauthorizedClient,
            "the client is not allowed to do this",
            "Allow it, if that is meant: `guestpass client set ID --may link`, `--may attributes`, or both with a comma; the list replaces the one before. Only confidential clients may do anything to guests.",
        ),
        Refusal::CustomerMalformed => new(
            "customer_malformed",
            InvalidRequest,
            "customer is not the id of a customer",
            "Send 1 to 128 letters, digits and -._:|/+=, always the same for the same customer. An e-mail address must be hashed \
             first. Words such as null, undefined, guest or 0 are refused: a program writes them when it has no value, so look \
             there.",
        ),
        Refusal::AttributesMalformed => new(
            "attributes_malformed",
            InvalidRequest,
            "attributes is not an object of attributes",
            "Send a JSON object as text, such as attributes={\"segment\":\"vip\"}: names of a-z, 0-9 and _ that begin with a \
             letter, have at most 32 characters and aren't customer; texts of at most 64 printable ASCII characters, whole numbers \
             up to 9007199254740991, true, false; null removes a name.",
        ),
        Refusal::AttributesTooLong => new(
            "attributes_too_long",
            InvalidRequest,
            "the guest would have too many attributes, or too long ones",
            "All of a guest's attributes must fit into its tokens: at most 16, and 256 bytes as JSON, where a character such as ~, \
             >, ? or \" takes six. Remove some by null, or keep what is long in the shop, under the guest's sub.",
        ),
        Refusal::LinkedToAnother => new(
            "linked_to_another",
            WireCode::LinkedToAnother,
            "the guest is linked to another customer",
            "Somebody else has logged in on this device before. Let the device authorize anew, and link the new guest: the \
             histories of two customers must not mix. If the first link was a mistake, undo it: `guestpass customer unlink`.",
        ),
        Refusal::CookiesOff => new(
            "cookies_off",
            UnauthorizedClient,
            "the client does not keep guests in cookies",
            "Allow it, with a name for its cookies: `guestpass client set ID --cookies guest`.",
        ),
        Refusal::OriginMissing => new(
            "origin_missing",
            UnauthorizedClient,
            "the request does not say from which page it comes",
            "Only pages ask for a session, and every browser sends `Origin` with a POST. A proxy must pass it on, and a server can't ask.",
        ),
        Refusal::OriginForeign => new(
            "origin_foreign",
            UnauthorizedClient,
            "the page is not one of the client's",
            "Register the page's origin, as the browser writes it: `guestpass client set ID --origin https://shop.example`. If it isn't yours, somebody's page tries to give your visitors another guest.",
        ),
        Refusal::CrossSite => new(
            "cross_site",
            InvalidRequest,
            "cookies need the page and the server on one site",
            "Serve /oauth on the page's own host, or on a host of the same site: browsers keep the cookies of another site from pages.",
        ),
        Refusal::CookiesDisagree => new(
            "cookies_disagree",
            InvalidRequest,
            "a cookie was sent with two values",
            "One of the two may have been planted, by a host of the same site or for a longer path. Neither is chosen. It passes when the visitor clears the site's cookies.",
        ),
        Refusal::GuestRepeated => new(
            "guest_repeated",
            InvalidRequest,
            "a refresh token and a ticket were sent together",
            "Each says which guest is to be kept. Send one of them.",
        ),
        Refusal::GuestDiffers => new(
            "guest_differs",
            InvalidGrant,
            "the browser keeps another guest",
            "A ticket doesn't replace a guest that the browser has: who sends a link with a ticket would make the reader his own guest. If the page means it, it ends the session first: `DELETE /oauth/session`.",
        ),
        Refusal::SessionOvertaken => new(
            "session_overtaken",
            TemporarilyUnavailable,
            "a newer answer has set other cookies",
            "Two requests of a browser have raced, and the other one has set a newer refresh token. The page asks again, with that.",
        ),
        Refusal::EraseUnsupported => new(
            "erase_unsupported",
            InvalidRequest,
            "erase must be yes",
            "`erase=yes` erases the guest; without `erase` the grant of the cookies ends.",
        ),
        Refusal::SessionMissing => new(
            "session_missing",
            InvalidGrant,
            "the browser has no guest",
            "The request came without the cookie of the refresh token. Let the page ask for its session first: `POST /oauth/session`.",
        ),
        Refusal::RefreshTokenDead => new(
            "refresh_token_dead",
            InvalidGrant,
            CREDENTIAL,
            "The refresh token is spent, over or another client's: it would get no answer at the token endpoint either. Mint a ticket with the outstanding one.",
        ),
        Refusal::TicketMalformed => new(
            "ticket_malformed",
            InvalidGrant,
            CREDENTIAL,
            "Not a ticket. Send the text as `/oauth/ticket` has answered it: 108 characters, with a dot.",
        ),
        Refusal::TicketTargetDisallowed => new(
            "ticket_target_disallowed",
            UnauthorizedClient,
            "the client may not hand guests over to that one",
            "Allow it: `guestpass client set ID --ticket-to TARGET`. A target that is unknown, disabled or the client itself is refused alike.",
        ),
        Refusal::CredentialUnknown => new(
            "credential_unknown",
            InvalidGrant,
            CREDENTIAL,
            "The text was altered, cut, made up, or issued by another installation, such as the one for tests: compare the \
             address that the client asks. If it happens to many guests at once, their sealing key was removed or lost: see \
             `guestpass key list`.",
        ),
        Refusal::RefreshTokenAsCode => new(
            "refresh_token_as_code",
            InvalidGrant,
            CREDENTIAL,
            "This is a refresh token, and it was sent as code. Send it as refresh_token, with grant_type=refresh_token.",
        ),
        Refusal::CodeAsRefreshToken => new(
            "code_as_refresh_token",
            InvalidGrant,
            CREDENTIAL,
            "This is a code, and it was sent as refresh_token. Send it as code, with grant_type=authorization_code and its \
             code_verifier; the answer has the refresh token.",
        ),
        Refusal::AccessTokenAsCredential => new(
            "access_token_as_credential",
            InvalidGrant,
            CREDENTIAL,
            "This is an access token, and it was sent as code or refresh_token. Send the refresh_token of the same answer, \
             and look for a client that confuses the two where it stores them.",
        ),
        Refusal::ApiKeyAsCredential => new(
            "api_key_as_credential",
            InvalidGrant,
            CREDENTIAL,
            "This is an API key, and it was sent as code or refresh_token. Send it in x-api-key, and the code of authorize \
             or the last refresh_token here.",
        ),
        Refusal::GrantGone => new(
            "grant_gone",
            InvalidGrant,
            CREDENTIAL,
            "The guest was erased, its client was removed, the grant ended more than {KEEP_ENDED} days ago, or its code was never redeemed (`cleaning.orphans`). Unless it has stored a newer token since, the client must authorize anew.",
        ),
        Refusal::GrantOfAnotherClient => new(
            "grant_of_another_client",
            InvalidGrant,
            CREDENTIAL,
            "Use the client_id that the code or refresh token was issued to.",
        ),
        Refusal::GrantRevoked => new(
            "grant_revoked",
            InvalidGrant,
            CREDENTIAL,
            "The grant was ended, see the log for when and why. Unless it has stored a newer token since, the client must authorize anew.",
        ),
        Refusal::GrantEnded => new(
            "grant_ended",
            InvalidGrant,
            CREDENTIAL,
            "The grant is older than refresh_max of its client, see `guestpass client show ID`. Unless it has stored a newer \
             token since, the client must authorize anew.",
        ),
        Refusal::CodeExpired => new(
            "code_expired",
            InvalidGrant,
            CREDENTIAL,
            "Redeem the code within code_ttl of its client, see `guestpass client show ID`. If clients are slower, raise it, to {MAX_CODE_TTL}s at most: `guestpass client set ID --code-ttl`, or tokens.code_ttl.",
        ),
        Refusal::CodeGuessedAt => new(
            "code_guessed_at",
            InvalidGrant,
            CREDENTIAL,
            "The client showed {MAX_STRIKES} wrong verifiers: it pairs codes with the wrong verifier, or someone guesses.",
        ),
        Refusal::CodeSpent => new(
            "code_spent",
            InvalidGrant,
            CREDENTIAL,
            "The code was redeemed before. The client must keep the tokens that it got then; only if it has none, authorize anew.",
        ),
        Refusal::CodeReplayed => new(
            "code_replayed",
            InvalidGrant,
            CREDENTIAL,
            "The code was redeemed twice with every proof right, so the grant was ended, and its access token with it for all who ask /oauth/verify. Look for a client that retries, or for a leak.",
        ),
        Refusal::VerifierWrong => new(
            "verifier_wrong",
            InvalidGrant,
            CREDENTIAL,
            "The client must keep the verifier of each authorization beside its code.",
        ),
        Refusal::RefreshTokenExpired => new(
            "refresh_token_expired",
            InvalidGrant,
            CREDENTIAL,
            "It wasn't used for refresh_idle of its client, see `guestpass client show ID`. Unless it has stored a newer token \
             since, the client must authorize anew.",
        ),
        Refusal::RefreshTokenOvertaken => new(
            "refresh_token_overtaken",
            InvalidGrant,
            CREDENTIAL,
            "Nothing is wrong: another request of the client, perhaps of another tab, has got a newer refresh token. The client must read its storage again and use that one, not authorize anew.",
        ),
        Refusal::RefreshTokenReplayed => new(
            "refresh_token_replayed",
            InvalidGrant,
            CREDENTIAL,
            "Two parties hold the guest's refresh token, so the grant was ended. Look for a leak, or for copies in several tabs.",
        ),
        Refusal::RefreshTokenContested => new(
            "refresh_token_contested",
            InvalidGrant,
            CREDENTIAL,
            "Late retries were reissued max_unproven times in a row and no answer was used: two parties take turns, or a client never stores its answers. See `guestpass client show ID`.",
        ),
        Refusal::RefreshTokenRetriedLate => new(
            "refresh_token_retried_late",
            InvalidGrant,
            CREDENTIAL,
            "A lost answer, or a copy, where late_retry is revoke, see `guestpass client show ID`. With reissue the guest would have been kept.",
        ),
        Refusal::AccessTokenMissing => new(
            "access_token_missing",
            InvalidToken,
            "an access token is missing",
            "Send `Authorization: Bearer` or x-dressipi-jwt with the guest's access token; or ask /oauth/verify with mode=soft, if guests without one are welcome.",
        ),
        Refusal::AccessTokensDisagree => new(
            "access_tokens_disagree",
            InvalidToken,
            ACCESS_TOKEN,
            "Send one token. Look for a proxy or client that adds a second header instead of replacing the first.",
        ),
        Refusal::AccessTokenMalformed => new(
            "access_token_malformed",
            InvalidToken,
            ACCESS_TOKEN,
            "The text was cut or altered on its way, or isn't an access token of this server.",
        ),
        Refusal::CredentialAsAccessToken => new(
            "credential_as_access_token",
            InvalidToken,
            ACCESS_TOKEN,
            "This is a code or a refresh token, and it was sent as access token. Send the access_token of the same answer of \
             /oauth/token.",
        ),
        Refusal::ApiKeyAsAccessToken => new(
            "api_key_as_access_token",
            InvalidToken,
            ACCESS_TOKEN,
            "This is an API key, and it was sent as access token. A key belongs into x-api-key, and authenticates a client at \
             /oauth/authorize, /oauth/token, /oauth/revoke, /oauth/introspect, /oauth/link and /oauth/unlink; a guest is known \
             by its access token.",
        ),
        Refusal::AccessTokenUnsupported => new(
            "access_token_unsupported",
            InvalidToken,
            ACCESS_TOKEN,
            "Its header has another type or algorithm than the access tokens of this server, or an extension: it is another \
             kind of token, such as an ID token, or was made up. Send the access token as it was issued. For tokens of an \
             earlier issuer, see verify.untyped.",
        ),
        Refusal::AccessTokenKeyUnknown => new(
            "access_token_key_unknown",
            InvalidToken,
            ACCESS_TOKEN,
            "No key goes by the token's kid: the key was removed, by `guestpass key remove` or in its time, or another \
             installation of the same issuer has signed it. `guestpass key list` shows the keys there are. A refresh gives a \
             new token.",
        ),
        Refusal::AccessTokenForged => new(
            "access_token_forged",
            InvalidToken,
            ACCESS_TOKEN,
            "The token was altered, or someone made it up.",
        ),
        Refusal::AccessTokenExpired => new(
            "access_token_expired",
            InvalidToken,
            ACCESS_TOKEN,
            "Nothing is wrong: the client refreshes. If it happens early, compare the clocks.",
        ),
        Refusal::AccessTokenNotYetValid => new(
            "access_token_not_yet_valid",
            InvalidToken,
            ACCESS_TOKEN,
            "Compare the clocks of the machines that issue and verify.",
        ),
        Refusal::AccessTokenOfAnotherIssuer => new(
            "access_token_of_another_issuer",
            InvalidToken,
            ACCESS_TOKEN,
            "Compare the token's iss with the setting issuer, byte for byte. If it is that of another installation, the client \
             got the token there; if it is an earlier one of this, a refresh gives a new token.",
        ),
        Refusal::AccessTokenOfAnotherAudience => new(
            "access_token_of_another_audience",
            InvalidToken,
            ACCESS_TOKEN,
            "Its aud holds neither this issuer nor its client's own audience, which `guestpass client show ID` shows: that was \
             another when the token was issued. A refresh gives a new token.",
        ),
        Refusal::AccessTokenLacksAudience => new(
            "access_token_lacks_audience",
            InvalidToken,
            ACCESS_TOKEN,
            "The gateway asks for an audience, `/oauth/verify?audience=…`, and the token's aud doesn't hold it. If guests of \
             this client may use that service, give the client that audience, byte for byte, `guestpass client set ID \
             --audience TEXT`, and a refresh gives a token that has it; if not, nothing is wrong. Or a client with an audience of \
             its own, see `guestpass client show ID`, links by a token that doesn't have it: it links only by those that do.",
        ),
        Refusal::AccessTokenOfNoClient => new(
            "access_token_of_no_client",
            InvalidToken,
            ACCESS_TOKEN,
            "The token's client was removed or is disabled: see `guestpass client list`. `guestpass client enable ID` makes \
             its tokens good again; a removed one's guests must be authorized by another client.",
        ),
        Refusal::AccessTokenOfAnotherClient => new(
            "access_token_of_another_client",
            InvalidGrant,
            ACCESS_TOKEN,
            "Use the client_id that the token was issued to.",
        ),
        Refusal::AccessTokenRevoked => new(
            "access_token_revoked",
            InvalidToken,
            ACCESS_TOKEN,
            "The client asked for it. A refresh gives a new token.",
        ),
        Refusal::AccessTokenGrantEnded => new(
            "access_token_grant_ended",
            InvalidToken,
            ACCESS_TOKEN,
            "The client asked for it, a replay was found, or the guest was erased: the state of the grant says which. Unless it has stored a newer token since, the client must authorize anew.",
        ),
        Refusal::ModeUnsupported => new(
            "mode_unsupported",
            InvalidRequest,
            "mode must be strict or soft",
            "Write mode=soft, or leave mode out.",
        ),
        Refusal::PathUnknown => new(
            "path_unknown",
            InvalidRequest,
            "there is nothing at this path",
            "Check the path, without a trailing slash, and the setting base_paths.",
        ),
        Refusal::MethodNotAllowed => new(
            "method_not_allowed",
            InvalidRequest,
            "this path does not answer that method",
            "Use the method that the Allow header names.",
        ),
        Refusal::RequestMalformed => new(
            "request_malformed",
            InvalidRequest,
            "the request is malformed",
            "Look at the proxy or client in front: it sends no or several Host fields, or both Content-Length and Transfer-Encoding, or its chunks are broken or end early.",
        ),
        Refusal::BodyTooSlow => new(
            "body_too_slow",
            InvalidRequest,
            "the body did not arrive in time",
            "Look at the network between client and server.",
        ),
        Refusal::BodyTooLong => new(
            "body_too_long",
            InvalidRequest,
            "the body is too long",
            "Send at most {MAX_BODY} KiB.",
        ),
        Refusal::TargetTooLong => new(
            "target_too_long",
            InvalidRequest,
            "the request target is too long",
            "Send at most {MAX_TARGET} KiB of path and query.",
        ),
        Refusal::HeadersTooLong => new(
            "headers_too_long",
            InvalidRequest,
            "the header fields are too many or too long",
            "Send at most {MAX_FIELDS} header fields of at most {MAX_FIELD} KiB each and {MAX_HEADER} KiB together. Look for large cookies.",
        ),
        Refusal::MediaTypeUnsupported => new(
            "media_type_unsupported",
            InvalidRequest,
            "the body must be application/x-www-form-urlencoded or application/json in UTF-8",
            "Send Content-Type: application/x-www-form-urlencoded or application/json, without a charset but UTF-8, and no Content-Encoding.",
        ),
        Refusal::Prefetch => new(
            "prefetch",
            TemporarilyUnavailable,
            "nothing is done ahead of its use",
            "Nothing is wrong: the browser asks again when the answer is needed.",
        ),
        Refusal::AnswerUnreadable => new(
            "answer_unreadable",
            InvalidRequest,
            "a browser asks for this, and no page could read the answer",
            "A page that isn't the client's asks, by an image, a form or a link. If it is the client's: call it with `fetch`, \
             not in mode no-cors, from an origin of the client: `guestpass client set ID --origin URL`.",
        ),
        Refusal::VisitorMalformed => new(
            "visitor_malformed",
            InvalidRequest,
            "x-guestpass-visitor must be an IP address",
            "A back end names the address of the visitor for whom it asks: send x-guestpass-visitor: 192.0.2.1, without a port, \
             or leave it out.",
        ),
        Refusal::RateLimited(_) => new(
            "rate_limited",
            TemporarilyUnavailable,
            "too many requests, try again later",
            "If it is an attack, nothing need be done. Else the metric guestpass_rate_limited says which limit it was: raise \
             limits.… in the settings, or for one client, as in `guestpass client set ID --guests-per-address 5000/2m`. Behind a \
             proxy all visitors seem to have its address, unless trusted_proxies names it; a back end names each visitor's in \
             x-guestpass-visitor.",
        ),
        Refusal::HostUnknown => new(
            "host_unknown",
            InvalidRequest,
            "this listener is not called by that host",
            "It is called by localhost, by its address, and by the names in the setting admin.hosts. Add the one that was used, if \
             it is yours.",
        ),
        Refusal::OperatorTokenWrong => new(
            "operator_token_wrong",
            InvalidToken,
            "the token of the operators is needed",
            "Send the token of the file that the setting admin.token_file names: Authorization: Bearer TOKEN.",
        ),
    }
}

const fn new(name: &'static str, code: WireCode, text: &'static str, remedy: &'static str) -> Row {
    Row {
        name,
        code,
        text,
        remedy,
    }
}

/// Replaces the names of limits, in braces, by their values.
pub(super) fn with_limits(remedy: &'static str) -> Cow<'static, str> {
    if !remedy.contains('{') {
        return remedy.into();
    }
    let kib = |bytes: usize| (bytes / 1024).to_string();
    [
        ("{KEEP_ENDED}", (KEEP_ENDED.as_secs() / 86_400).to_string()),
        ("{MAX_BODY}", kib(MAX_BODY_BYTES)),
        ("{MAX_CLIENT_ID_BYTES}", MAX_CLIENT_ID_BYTES.to_string()),
        ("{MAX_CODE_TTL}", MAX_CODE_TTL.as_secs().to_string()),
        ("{MAX_COUNT}", MAX_COUNT.to_string()),
        ("{MAX_CREDENTIAL_BYTES}", MAX_CREDENTIAL_BYTES.to_string()),
        ("{MAX_FIELD}", kib(MAX_FIELD_BYTES)),
        ("{MAX_FIELDS}", MAX_FIELDS.to_string()),
        ("{MAX_HEADER}", kib(MAX_HEADER_BYTES)),
        ("{MAX_NAME_CHARS}", MAX_NAME_CHARS.to_string()),
        ("{MAX_STATE_BYTES}", MAX_STATE_BYTES.to_string()),
        ("{MAX_STRIKES}", MAX_STRIKES.to_string()),
        ("{MAX_TARGET}", kib(MAX_TARGET_BYTES)),
    ]
    .iter()
    .fold(remedy.to_owned(), |text, (name, limit)| {
        text.replace(name, limit)
    })
    .into()
}
