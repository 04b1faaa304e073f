//! An answer, and the checks that every answer must pass.

use axum::http::{HeaderMap, Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Returns a member that is a string.
    pub(crate) fn text(&self, member: &str) -> String {
        self.json()[member]
            .as_str()
            .unwrap_or_else(|| panic!("no {member}: {self:?}"))
            .to_owned()
    }

    /// Returns the `error` code.
    pub(crate) fn error(&self) -> &'static str {
        const CODES: [&str; 11] = [
            "invalid_request",
            "invalid_client",
            "unauthorized_client",
            "invalid_grant",
            "invalid_token",
            "invalid_scope",
            "unsupported_grant_type",
            "unsupported_response_type",
            "temporarily_unavailable",
            "server_error",
            "linked_to_another",
        ];
        let error = self.text("error");
        CODES
            .into_iter()
            .find(|code| *code == error)
            .unwrap_or_else(|| panic!("unknown error: {self:?}"))
    }

    /// Returns the one value of a header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} came twice: {self:?}");
        Some(value.to_str().unwrap())
    }

    /// Returns the part of the request's id that stands in the log: its beginning.
    pub(crate) fn log_name(&self) -> &str {
        &self.header("x-request-id").unwrap()[..16]
    }

    /// Checks an answer of the token endpoint member by member, and returns its tokens.
    pub(crate) fn tokens(&self) -> Tokens {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        assert!(
            self.body.len() <= 1536,
            "clients' storage can't hold {} bytes",
            self.body.len()
        );
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 4, "{json}");
        assert_eq!(json["token_type"], "Bearer");
        let access_token = self.text("access_token");
        let (header, payload) = (segment(&access_token, 0), segment(&access_token, 1));
        assert_eq!(
            json["expires_in"].as_i64().unwrap(),
            int(&payload, "exp") - int(&payload, "iat")
        );
        Tokens {
            access_token,
            refresh_token: self.text("refresh_token"),
            header,
            claims: payload,
        }
    }

    pub(super) async fn read(response: axum::response::Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX)
            .await
            .unwrap()
            .to_vec();
        Self {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Checks what every answer must have (C140, C141, C142, C145).
    pub(crate) fn check(&self, method: &Method) {
        let caching = (self.header("cache-control").unwrap(), self.header("pragma"));
        if self.header("etag").is_some() {
            // A document that is the same for everyone.
            assert!(caching.0.starts_with("public, max-age="), "{self:?}");
            assert_eq!(caching.1, None, "{self:?}");
        } else {
            assert_eq!(caching, ("no-store", Some("no-cache")), "{self:?}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(self.header(name), Some(value), "{self:?}");
        }
        assert!(
            self.header("content-security-policy")
                .unwrap()
                .starts_with("default-src 'none'")
        );
        assert!(self.header("x-request-id").unwrap().len() >= 16, "{self:?}");
        assert_eq!(self.header("server"), None);
        assert_eq!(self.header("location"), None);
        let is_script = self.header("content-type") == Some("text/javascript");
        let is_for_all = self.header("access-control-allow-origin") == Some("*");
        assert!(!is_for_all || is_script || self.body.is_empty(), "{self:?}");
        let is_401 = self.status == StatusCode::UNAUTHORIZED;
        assert_eq!(
            self.header("www-authenticate").is_some(),
            is_401,
            "{self:?}"
        );
        if method == Method::HEAD {
            return;
        }
        if self.body.is_empty() {
            // A revocation's 200 has no body either (RFC 7009 §2.2).
            assert!(
                self.status.is_success() || self.status == StatusCode::NOT_MODIFIED,
                "{self:?}"
            );
            assert_eq!(self.header("content-type"), None, "{self:?}");
            return;
        }
        if is_script {
            return;
        }
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        if self.status.is_success() {
            return;
        }
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 2, "{json}");
        self.error();
        let description = self.text("error_description");
        assert!(!description.is_empty());
        let allowed = |byte| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        assert!(description.bytes().all(allowed), "{description}");
        if self.status == StatusCode::SERVICE_UNAVAILABLE
            || self.status == StatusCode::TOO_MANY_REQUESTS
        {
            assert!(self.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
            assert_eq!(self.error(), "temporarily_unavailable");
        }
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let json = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let members =
            ["code", "access_token", "refresh_token", "ticket"].map(|member| json[member].as_str());
        let cookies = self
            .headers
            .get_all("set-cookie")
            .iter()
            .filter_map(|field| {
                let (pair, _) = field.to_str().ok()?.split_once(';')?;
                pair.split_once('=').map(|(_, value)| value)
            });
        members
            .into_iter()
            .flatten()
            .chain(cookies)
            .filter(|secret| !secret.is_empty())
            .map(ToOwned::to_owned)
            .collect()
    }
}

/// The tokens of an answer, the access token decoded as well.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    pub(crate) header: Value,
    pub(crate) claims: Value,
}

impl Tokens {
    pub(crate) fn sub(&self) -> &str {
        self.claims["sub"].as_str().unwrap()
    }
}

fn segment(token: &str, at: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(at).unwrap())
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn int(claims: &Value, name: &str) -> i64 {
    claims[name]
        .as_i64()
        .unwrap_or_else(|| panic!("no {name}: {claims}"))
}
