//! Tokens that the server never issued, signed with its own secret where a case needs a signature that is right.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{TestApp, Tokens};

/// A builder of tokens that starts with the header and claims of an issued one.
#[derive(Clone)]
pub(crate) struct Forged {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    secret: Vec<u8>,
}

impl Forged {
    /// Starts with a token of a server that signs with HS256, and signs with its secret.
    pub(crate) fn like(test: &TestApp, tokens: &Tokens) -> Self {
        let keys = test.app.keys().now();
        let keys: Value = serde_json::from_str(keys.exported()).unwrap();
        let keys = keys["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kid"] == tokens.header["kid"]);
        let secret = key.unwrap()["k"].as_str().unwrap();
        Self::with_secret(tokens, &URL_SAFE_NO_PAD.decode(secret).unwrap())
    }

    /// Starts with a token, and signs with another secret.
    pub(crate) fn with_secret(tokens: &Tokens, secret: &[u8]) -> Self {
        Self {
            header: tokens.header.clone(),
            claims: tokens.claims.clone(),
            secret: secret.to_vec(),
        }
    }

    /// Replaces a member of the header, or removes it.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Option<Value>>) -> Self {
        put(&mut self.header, name, value.into());
        self
    }

    /// Replaces a claim, or removes it.
    pub(crate) fn claim(mut self, name: &str, value: impl Into<Option<Value>>) -> Self {
        put(&mut self.claims, name, value.into());
        self
    }

    /// Signs the token with HMAC, whatever its header says.
    pub(crate) fn sign(&self) -> String {
        self.sign_payload(self.claims.to_string())
    }

    /// Signs the token with another payload.
    pub(crate) fn sign_payload(&self, payload: impl AsRef<[u8]>) -> String {
        let header = URL_SAFE_NO_PAD.encode(self.header.to_string());
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let signature = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn put(object: &mut Value, name: &str, value: Option<Value>) {
    let members = object.as_object_mut().unwrap();
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
}

/// A public key in all its encodings: JWK members, DER and PEM (RFC 5280 §4.1.2.7).
pub(crate) fn forms_of(jwk: &Value) -> Vec<Vec<u8>> {
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let null = der(5, &[]);
    let (algorithm, key) = match jwk["kty"].as_str().unwrap() {
        "EC" => (
            // id-ecPublicKey, prime256v1
            [
                der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]),
                der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]),
            ]
            .concat(),
            [&[4][..], &member("x"), &member("y")].concat(),
        ),
        // id-Ed25519
        "OKP" => (der(6, &[0x2b, 0x65, 0x70]), member("x")),
        _ => (
            // rsaEncryption
            [der(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]), null].concat(),
            der(
                0x30,
                &[
                    der(2, &[&[0][..], &member("n")].concat()),
                    der(2, &member("e")),
                ]
                .concat(),
            ),
        ),
    };
    let bits = der(3, &[&[0][..], &key].concat());
    let spki = der(0x30, &[der(0x30, &algorithm), bits].concat());
    let base64 = base64::engine::general_purpose::STANDARD.encode(&spki);
    let lines: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
        lines.join("\n")
    );
    let set = json!({"keys": [jwk]});
    vec![
        key,
        spki,
        format!("{pem}\n").into_bytes(),
        pem.into_bytes(),
        jwk.to_string().into_bytes(),
        set.to_string().into_bytes(),
    ]
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let length = match length {
        0..128 => vec![low],
        128..256 => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag][..], &length, content].concat()
}
