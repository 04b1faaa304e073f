//! Issues tokens for the tests: a key for each algorithm, and tokens that are valid unless a test changes them.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use guestpass_verify::{AccessToken, KeySet, Rejection, Verifier, VerifyingKey};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://id.shop.example";
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const SECRET: &[u8; 32] = b"32 bytes that nobody should know";

/// Signs tokens with one key.
pub(crate) struct Signer {
    pub(crate) alg: &'static str,
    pub(crate) kid: String,
    /// The key that verifies, as the issuer publishes it; for HS256, the secret.
    pub(crate) jwk: Value,
    /// The public key as a SubjectPublicKeyInfo. Empty for HS256.
    pub(crate) der: Vec<u8>,
    private: Private,
}

enum Private {
    Secret(Vec<u8>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// Returns a signer for each algorithm.
pub(crate) fn signers() -> &'static [Signer; 4] {
    static SIGNERS: LazyLock<[Signer; 4]> = LazyLock::new(|| {
        [
            Signer::hs256("hs", SECRET),
            Signer::es256("es"),
            eddsa(),
            rs256(),
        ]
    });
    &SIGNERS
}

impl Signer {
    pub(crate) fn hs256(kid: &str, secret: &[u8]) -> Self {
        Self {
            alg: "HS256",
            kid: kid.to_owned(),
            jwk: json!({"kty": "oct", "alg": "HS256", "kid": kid, "k": encode(secret)}),
            der: Vec::new(),
            private: Private::Secret(secret.to_vec()),
        }
    }

    pub(crate) fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        Self {
            alg: "ES256",
            kid: kid.to_owned(),
            jwk: json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y}),
            der: pair.public_key().as_der().unwrap().as_ref().to_vec(),
            private: Private::Es256(pair),
        }
    }

    /// Signs any header and payload, valid or not.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// Signs a valid token with members of the header and the claims changed. `null` removes one.
    pub(crate) fn token(&self, header: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
        let header = changed(self.header(), header);
        self.sign(
            &header.to_string(),
            &changed(claims_of_a_guest(), claims).to_string(),
        )
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.alg, "typ": "at+jwt", "kid": self.kid})
    }

    /// Verifies a token with this signer's key, at `NOW` and without leeway.
    pub(crate) fn verify(&self, token: &str) -> Result<AccessToken, Rejection> {
        verifier().verify(token, &self.keys(), NOW)
    }

    pub(crate) fn keys(&self) -> KeySet {
        KeySet::from_iter([self.key()])
    }

    pub(crate) fn key(&self) -> VerifyingKey {
        VerifyingKey::from_jwk(&self.jwk).unwrap()
    }

    /// Returns the public key as a PEM file.
    pub(crate) fn pem(&self) -> String {
        let base64 = STANDARD.encode(&self.der);
        let lines: Vec<_> = base64
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        )
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the keys of the tests are random, and so may be their signatures"
    )]
    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &self.private {
            Private::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Private::Es256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
            Private::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Private::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .unwrap();
                signature
            }
        }
    }
}

fn eddsa() -> Signer {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = encode(pair.public_key());
    Signer {
        alg: "EdDSA",
        kid: "ed".to_owned(),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "ed", "x": x}),
        der: pair.public_key().as_der().unwrap().as_ref().to_vec(),
        private: Private::EdDsa(pair),
    }
}

fn rs256() -> Signer {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // RFC 8017 A.1.1: behind two headers and a zero byte, 256 bytes of modulus; then the exponent, which is 65537.
    let n = encode(&pair.public_key().as_ref()[9..265]);
    Signer {
        alg: "RS256",
        kid: "rs".to_owned(),
        jwk: json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "rs", "n": n, "e": "AQAB"}),
        der: pair.public_key().as_der().unwrap().as_ref().to_vec(),
        private: Private::Rs256(pair),
    }
}

pub(crate) fn verifier() -> Verifier {
    Verifier::new(ISSUER).leeway(std::time::Duration::ZERO)
}

pub(crate) fn claims_of_a_guest() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "94173",
        "aud": ISSUER,
        "client_id": "shop",
        "iat": NOW - 60,
        "exp": NOW + 60,
        "jti": "1",
        "sid": "grant",
        "subn": "6f1e2f0e-5b0a-4b53-9a3c-6a4d1d3b3f11",
    })
}

pub(crate) fn changed(mut object: Value, changes: &[(&str, Value)]) -> Value {
    let members = object.as_object_mut().unwrap();
    for (name, value) in changes {
        members.insert((*name).to_owned(), value.clone());
    }
    members.retain(|_, value| !value.is_null());
    object
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
