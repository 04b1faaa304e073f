//! Keys that sign access tokens: generated, parsed once, published.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use guestpass_core::base64url::BASE64URL;
use guestpass_core::claims::{Claims, Typ};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::key::KeyAlgorithm;
use crate::random::Random;

/// Signs access tokens.
pub(super) struct SigningKey {
    secret: Secret,
    /// The encoded header and the dot behind it, for each of [`Typ::ALL`].
    headers: [String; 2],
}

enum Secret {
    Hs256(Box<hmac::Key>, Zeroizing<Vec<u8>>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Generates the bytes of a new key, as [`SigningKey::parse`] reads them: a seed, or PKCS #8.
    pub(super) fn generate(
        algorithm: KeyAlgorithm,
        random: &dyn Random,
    ) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
        Ok(match algorithm {
            KeyAlgorithm::Hs256 | KeyAlgorithm::EdDsa | KeyAlgorithm::A256GcmSiv => {
                let mut bytes = Zeroizing::new(vec![0; 32]);
                random.fill(&mut bytes);
                bytes
            }
            KeyAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
                Zeroizing::new(pair.to_pkcs8v1()?.as_ref().to_vec())
            }
            KeyAlgorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
                Zeroizing::new(AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?.as_ref().to_vec())
            }
        })
    }

    /// Parses a key. `None` if the bytes are no key of that algorithm.
    pub(super) fn parse(kid: &str, algorithm: KeyAlgorithm, bytes: &[u8]) -> Option<Self> {
        let secret = match algorithm {
            KeyAlgorithm::Hs256 => Secret::Hs256(
                Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
                Zeroizing::new(bytes.to_vec()),
            ),
            KeyAlgorithm::Es256 => Secret::Es256(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes).ok()?,
            ),
            KeyAlgorithm::EdDsa => Secret::EdDsa(Ed25519KeyPair::from_seed_unchecked(bytes).ok()?),
            KeyAlgorithm::Rs256 => Secret::Rs256(Box::new(RsaKeyPair::from_pkcs8(bytes).ok()?)),
            KeyAlgorithm::A256GcmSiv => return None,
        };
        let header = |typ: Typ| {
            let (alg, typ) = (algorithm.name(), typ.as_str());
            let header = format!(r#"{{"alg":"{alg}","typ":"{typ}","kid":"{kid}"}}"#);
            BASE64URL.encode(header) + "."
        };
        Some(Self {
            secret,
            headers: Typ::ALL.map(header),
        })
    }

    /// Signs claims: a JWS in compact serialisation (RFC 7515 §7.1).
    pub(super) fn sign(&self, typ: Typ, claims: &Claims<'_>) -> String {
        let [at_jwt, jwt] = &self.headers;
        let mut token = String::with_capacity(ROOM);
        token.push_str(match typ {
            Typ::AtJwt => at_jwt,
            Typ::Jwt => jwt,
        });
        claims.write_payload_segment(&mut token);
        let message = token.as_bytes();
        match &self.secret {
            Secret::Hs256(key, _) => {
                let signature = hmac::sign(key, message);
                append(&mut token, signature);
            }
            Secret::Es256(pair) => {
                let signature = pair.sign(&randomness(), message);
                append(&mut token, signature.expect("a parsed key signs"));
            }
            Secret::EdDsa(pair) => {
                let signature = pair.sign(message);
                append(&mut token, signature);
            }
            Secret::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &randomness(), message, &mut signature)
                    .expect("a parsed key signs");
                append(&mut token, signature);
            }
        }
        token
    }

    /// Returns the JWK of the key (RFC 7517): public, but for HS256, where there is only the secret.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        let common = [
            ("kid", kid.to_owned()),
            ("use", "sig".to_owned()),
            ("alg", self.algorithm().name().to_owned()),
        ];
        self.own_members()
            .into_iter()
            .chain(common)
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect::<Map<_, _>>()
            .into()
    }

    /// Returns the id for a new key: its thumbprint (RFC 7638), but a random one for HS256, where a thumbprint would
    /// reveal something of the secret.
    pub(super) fn kid(&self, random: &dyn Random) -> String {
        match self.secret {
            Secret::Hs256(..) => BASE64URL.encode(random.bytes::<12>()),
            Secret::Es256(_) | Secret::EdDsa(_) | Secret::Rs256(_) => {
                let members: Vec<_> = self
                    .own_members()
                    .into_iter()
                    .map(|(name, value)| format!(r#""{name}":"{value}""#))
                    .collect();
                let canonical = format!("{{{}}}", members.join(","));
                BASE64URL.encode(digest(&SHA256, canonical.as_bytes()))
            }
        }
    }

    fn algorithm(&self) -> KeyAlgorithm {
        match self.secret {
            Secret::Hs256(..) => KeyAlgorithm::Hs256,
            Secret::Es256(_) => KeyAlgorithm::Es256,
            Secret::EdDsa(_) => KeyAlgorithm::EdDsa,
            Secret::Rs256(_) => KeyAlgorithm::Rs256,
        }
    }

    /// Returns the members of the JWK that depend on its type (RFC 7518 §6, RFC 8037 §2), in the order of their names,
    /// as the thumbprint needs them (RFC 7638 §3.2).
    fn own_members(&self) -> Vec<(&'static str, String)> {
        let encode = |bytes: &[u8]| BASE64URL.encode(bytes);
        let is = |text: &str| text.to_owned();
        match &self.secret {
            Secret::Hs256(_, bytes) => vec![("k", encode(bytes)), ("kty", is("oct"))],
            Secret::Es256(pair) => {
                // SEC 1 §2.3.3: a byte that says "uncompressed", then both coordinates.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let (x, y) = (("x", encode(x)), ("y", encode(y)));
                vec![("crv", is("P-256")), ("kty", is("EC")), x, y]
            }
            Secret::EdDsa(pair) => {
                let x = ("x", encode(pair.public_key().as_ref()));
                vec![("crv", is("Ed25519")), ("kty", is("OKP")), x]
            }
            Secret::Rs256(pair) => {
                // RFC 8017 A.1.1, for 2048 bits: nine bytes of headers, the last a zero; the modulus; a header of two
                // bytes; the exponent.
                let (n, e) = pair.public_key().as_ref()[9..].split_at(256);
                vec![("e", encode(&e[2..])), ("kty", is("RSA")), ("n", encode(n))]
            }
        }
    }
}

fn append(token: &mut String, signature: impl AsRef<[u8]>) {
    token.push('.');
    BASE64URL.encode_string(signature, token);
}

/// The capacity for a token of usual length.
const ROOM: usize = 768;

/// Returns the argument that the library's signatures ask for. It isn't used: aws-lc has its own source.
#[expect(
    clippy::disallowed_methods,
    reason = "not drawn from: aws-lc has its own"
)]
fn randomness() -> SystemRandom {
    SystemRandom::new()
}
