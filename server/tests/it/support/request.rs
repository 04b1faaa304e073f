//! A builder of requests.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::Value;

use super::{CHALLENGE, REDIRECT_URI, SHOP, VERIFIER};

/// A builder of one request.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(super) method: Method,
    path: String,
    /// Names and values, unencoded.
    parameters: Vec<(String, String)>,
    /// Text that follows the encoded parameters as it is.
    raw: String,
    headers: Vec<(String, Vec<u8>)>,
    form: Form,
}

/// The place of the parameters.
#[derive(Clone, Debug)]
enum Form {
    Query,
    Body,
    Json,
    Raw(Vec<u8>),
}

/// `AZ`: returns an authorization request that is right in every way.
pub(crate) fn authorize() -> Sent {
    Sent::new(Method::GET, "/oauth/authorize", Form::Query).with(&[
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("client_id", SHOP),
        ("state", "a1F5Kdf5Dhn123"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ])
}

/// `TC`: returns a token request for a code that is right in every way.
pub(crate) fn exchange(code: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/token", Form::Body).with(&[
        ("grant_type", "authorization_code"),
        ("client_id", SHOP),
        ("redirect_uri", REDIRECT_URI),
        ("code", code),
        ("code_verifier", VERIFIER),
    ])
}

/// `TR`: returns a refresh that is right in every way.
pub(crate) fn refresh(refresh_token: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/token", Form::Body).with(&[
        ("grant_type", "refresh_token"),
        ("client_id", SHOP),
        ("redirect_uri", REDIRECT_URI),
        ("refresh_token", refresh_token),
    ])
}

/// `RV`: returns a revocation.
pub(crate) fn revoke(token: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/revoke", Form::Body)
        .with(&[("client_id", SHOP), ("token", token)])
}

/// `IN`: returns an introspection, whose client and API key must be set.
pub(crate) fn introspect(token: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/introspect", Form::Body).with(&[("token", token)])
}

/// `LK`: returns a link, whose client and API key must be set.
pub(crate) fn link(access_token: &str, customer: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/link", Form::Body)
        .with(&[("token", access_token), ("customer", customer)])
}

/// `AT`: returns a change of attributes, whose client and API key must be set.
pub(crate) fn attributes(access_token: &str, changes: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/attributes", Form::Body)
        .with(&[("token", access_token), ("attributes", changes)])
}

/// `SE`: returns a request of a page for its session, whose origin must be set.
pub(crate) fn session(client_id: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/session", Form::Body).with(&[("client_id", client_id)])
}

/// `TI`: returns a request for a ticket, which lacks the refresh token.
pub(crate) fn ticket(client_id: &str, target: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/ticket", Form::Body)
        .with(&[("client_id", client_id), ("target", target)])
}

/// `FA`: returns a forward-auth request with that access token.
pub(crate) fn verify(access_token: &str) -> Sent {
    request("GET", "/oauth/verify").bearer(access_token)
}

/// Returns a request for the profile of the guest with that access token.
pub(crate) fn profile(access_token: &str) -> Sent {
    request("GET", "/oauth/profile").bearer(access_token)
}

/// Returns any other request.
pub(crate) fn request(method: &str, path: &str) -> Sent {
    Sent::new(
        Method::from_bytes(method.as_bytes()).unwrap(),
        path,
        Form::Query,
    )
}

impl Sent {
    fn new(method: Method, path: &str, form: Form) -> Self {
        let (parameters, headers) = (Vec::new(), Vec::new());
        Self {
            method,
            path: path.to_owned(),
            parameters,
            raw: String::new(),
            headers,
            form,
        }
    }

    fn with(mut self, parameters: &[(&str, &str)]) -> Self {
        self.parameters.extend(
            parameters
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        );
        self
    }

    /// Adds a parameter, or replaces it.
    pub(crate) fn set(self, name: &str, value: &str) -> Self {
        self.unset(name).also(name, value)
    }

    /// Adds a parameter, even if it is there already.
    pub(crate) fn also(self, name: &str, value: &str) -> Self {
        self.with(&[(name, value)])
    }

    /// Removes a parameter.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self
    }

    /// Replaces a parameter by text that is encoded already, or broken on purpose.
    pub(crate) fn set_raw(mut self, name: &str, encoded: &str) -> Self {
        self = self.unset(name);
        self.raw = format!("{}&{name}={encoded}", self.raw);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn bearer(self, access_token: &str) -> Self {
        self.header("authorization", format!("Bearer {access_token}"))
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = Method::from_bytes(method.as_bytes()).unwrap();
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Sends the parameters in the query, with an empty body.
    pub(crate) fn in_query(mut self) -> Self {
        self.form = Form::Query;
        self
    }

    /// Sends the parameters as a JSON object.
    pub(crate) fn in_json(mut self) -> Self {
        self.form = Form::Json;
        self
    }

    /// Sends this body instead of the parameters, without a content type unless a header says one.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.form = Form::Raw(body.as_ref().to_vec());
        self
    }

    /// Returns the value of a parameter.
    pub(crate) fn value(&self, name: &str) -> &str {
        let mut parameters = self.parameters.iter();
        &parameters.find(|(known, _)| known == name).unwrap().1
    }

    /// Encodes the parameters.
    pub(crate) fn encoded(&self) -> String {
        let pairs = self
            .parameters
            .iter()
            .map(|(n, v)| format!("{}={}", percent(n), percent(v)));
        let encoded = pairs.collect::<Vec<_>>().join("&");
        format!("{encoded}{}", self.raw)
            .trim_start_matches('&')
            .to_owned()
    }

    /// Returns the request target.
    pub(crate) fn target(&self) -> String {
        match &self.form {
            Form::Query if self.encoded().is_empty() => self.path.clone(),
            Form::Query => format!("{}?{}", self.path, self.encoded()),
            Form::Body | Form::Json | Form::Raw(_) => self.path.clone(),
        }
    }

    pub(crate) fn into_request(self) -> Request<Body> {
        self.into_http().map(Body::from)
    }

    pub(crate) fn into_http(self) -> Request<Vec<u8>> {
        let (content_type, body) = match &self.form {
            Form::Query => (None, Vec::new()),
            Form::Body => (
                Some("application/x-www-form-urlencoded"),
                self.encoded().into_bytes(),
            ),
            Form::Json => {
                let object: serde_json::Map<_, _> = self
                    .parameters
                    .iter()
                    .map(|(n, v)| (n.clone(), Value::from(v.as_str())))
                    .collect();
                (
                    Some("application/json"),
                    Value::from(object).to_string().into_bytes(),
                )
            }
            Form::Raw(body) => (None, body.clone()),
        };
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(self.target());
        if !self.headers.iter().any(|(name, _)| name == "host") {
            builder = builder.header(header::HOST, "id.example");
        }
        if let Some(content_type) = content_type
            && !self.headers.iter().any(|(name, _)| name == "content-type")
        {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, &value[..]);
        }
        builder.body(body).unwrap()
    }

    /// Returns the secrets of this request, which must never be logged.
    pub(super) fn secrets(&self) -> Vec<String> {
        const SECRET: [&str; 8] = [
            "code",
            "token",
            "code_verifier",
            "refresh_token",
            "client_secret",
            "code_challenge",
            "api_key",
            "x-api-key",
        ];
        const SECRET_HEADERS: [&str; 4] =
            ["x-api-key", "authorization", "x-dressipi-jwt", "cookie"];
        let parameters = self
            .parameters
            .iter()
            .filter(|(name, _)| SECRET.contains(&name.as_str()));
        let headers = self
            .headers
            .iter()
            .filter(|(name, _)| SECRET_HEADERS.contains(&name.as_str()));
        let headers = headers.flat_map(|(name, value)| {
            let text = str::from_utf8(value).unwrap_or_default();
            match name == "cookie" {
                true => text
                    .split("; ")
                    .map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value))
                    .collect(),
                // Behind the scheme, if there is one.
                false => Vec::from_iter(text.rsplit(' ').next()),
            }
        });
        let headers = headers.map(ToOwned::to_owned);
        let secrets = parameters
            .map(|(_, value)| value.clone())
            .chain(headers)
            .chain([self.encoded()]);
        let customers = self
            .parameters
            .iter()
            .filter(|(name, value)| name == "customer" && value.len() >= CUSTOMER_BYTES)
            .map(|(_, value)| value.clone());
        let secrets = secrets.filter(|secret| secret.len() >= 20);
        secrets.chain(customers).collect()
    }
}

/// The length from which on the id of a customer is one that nothing else in a log looks like.
const CUSTOMER_BYTES: usize = "customer-x".len();

/// Encodes all but unreserved characters, byte for byte.
pub(crate) fn percent(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
