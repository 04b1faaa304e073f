//! Holds keys, each bound to one algorithm (RFC 8725 §3.1), and sets of them.

use std::fmt;
use std::iter;
use std::ops::RangeInclusive;
use std::str::FromStr;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). `none` has no representation here.
///
/// The [crate documentation](crate#choosing-an-algorithm) says when to choose which.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret both signs and verifies.
    Hs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// `EdDSA` with Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// Returns its name in `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    /// Steps through all algorithms, in the order of their declaration. A new one doesn't compile without its place
    /// here, so that [`Algorithm::from_str`] can't miss it.
    const fn next(self) -> Option<Self> {
        match self {
            Self::Hs256 => Some(Self::Es256),
            Self::Es256 => Some(Self::EdDsa),
            Self::EdDsa => Some(Self::Rs256),
            Self::Rs256 => None,
        }
    }
}

impl FromStr for Algorithm {
    type Err = KeyError;

    /// Finds an algorithm by its `alg`, which is case-sensitive.
    fn from_str(name: &str) -> Result<Self, KeyError> {
        iter::successors(Some(Self::Hs256), |algorithm| algorithm.next())
            .find(|algorithm| algorithm.name() == name)
            .ok_or(KeyError::AlgorithmUnsupported)
    }
}

/// The least length of a secret for HS256 (RFC 7518 §3.2).
const MIN_SECRET_BYTES: usize = 32;

/// The sizes of an RSA modulus that are accepted: from the least of RFC 7518 §3.3 to the most that aws-lc verifies
/// with.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// A key that verifies signatures by one algorithm. It is parsed once, when it is made.
///
/// Collect keys into a [`KeySet`] to verify tokens with them. Its `Debug` shows `kid` and algorithm, but no key.
pub struct VerifyingKey {
    kid: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    /// Boxed, since it is twenty times as large as the other variant.
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl VerifyingKey {
    /// Makes an HS256 key from a secret. Without a `kid` it must be the only key of its set, and verifies tokens with
    /// any `kid` or none.
    ///
    /// # Errors
    /// Returns [`KeyError::SecretTooShort`] below 32 bytes (RFC 7518 §3.2).
    pub fn shared_secret(kid: Option<&str>, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::SecretTooShort);
        }
        Ok(Self {
            kid: kid.map(str::to_owned),
            algorithm: Algorithm::Hs256,
            material: Material::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret))),
        })
    }

    /// Reads a JSON Web Key (RFC 7517 §4). It must have an `alg`, with the `kty` and `crv` of that algorithm.
    ///
    /// # Errors
    /// Returns a [`KeyError`] if it isn't a key for an [`Algorithm`], or isn't meant for verifying signatures.
    pub fn from_jwk(jwk: &Value) -> Result<Self, KeyError> {
        let kid = jwk.get("kid").map(|_| member(jwk, "kid")).transpose()?;
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
            return Err(KeyError::NotForSignatures);
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations
                .as_array()
                .is_some_and(|operations| operations.iter().any(|one| one == "verify"))
        {
            return Err(KeyError::NotForSignatures);
        }
        let algorithm = member(jwk, "alg")?.parse()?;
        let (kty, crv) = match algorithm {
            Algorithm::Hs256 => ("oct", None),
            Algorithm::Es256 => ("EC", Some("P-256")),
            Algorithm::EdDsa => ("OKP", Some("Ed25519")),
            Algorithm::Rs256 => ("RSA", None),
        };
        if jwk["kty"] != kty || crv.is_some_and(|crv| jwk["crv"] != crv) {
            return Err(KeyError::KindMismatch);
        }
        let key = match algorithm {
            Algorithm::Hs256 => return Self::shared_secret(kid, &bytes(jwk, "k")?),
            Algorithm::Es256 => p256(jwk)?,
            Algorithm::EdDsa => ed25519(jwk)?,
            Algorithm::Rs256 => rsa(jwk)?,
        };
        Ok(Self {
            kid: kid.map(str::to_owned),
            algorithm,
            material: Material::Public(key),
        })
    }

    /// Returns the id by which a token's header names the key.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Returns the only algorithm that the key is used with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns `true` if `signature` is valid for `message` under this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            // aws-lc compares the tags in constant time.
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// Leaves out the key itself.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Reads a P-256 point (RFC 7518 §6.2.1), with both coordinates in full length.
fn p256(jwk: &Value) -> Result<ParsedPublicKey, KeyError> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    for (name, coordinate) in [("x", &x), ("y", &y)] {
        if coordinate.len() != 32 {
            return Err(KeyError::MemberMalformed(name));
        }
    }
    // 4 marks an uncompressed point (SEC 1 §2.3.3).
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4][..], &x, &y].concat())
        .map_err(|_| KeyError::NotAKey)
}

/// Reads an Ed25519 point (RFC 8037 §2).
fn ed25519(jwk: &Value) -> Result<ParsedPublicKey, KeyError> {
    let x = bytes(jwk, "x")?;
    if x.len() != 32 {
        return Err(KeyError::MemberMalformed("x"));
    }
    ParsedPublicKey::new(&ED25519, x).map_err(|_| KeyError::NotAKey)
}

/// Reads an RSA key (RFC 7518 §6.3.1) of the size that §3.3 requires. Neither number may begin with a zero byte (§2,
/// `Base64urlUInt`).
fn rsa(jwk: &Value) -> Result<ParsedPublicKey, KeyError> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    for (name, number) in [("n", &n), ("e", &e)] {
        if matches!(number[..], [] | [0, ..]) {
            return Err(KeyError::MemberMalformed(name));
        }
    }
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    if !RSA_BITS.contains(&bits) {
        return Err(KeyError::ModulusSizeUnsupported);
    }
    // With an exponent of 1, a signature would be the padded message itself, and anyone could make it. All exponents
    // in use are odd and have at most four bytes.
    let is_odd = e.last().is_some_and(|last| last % 2 == 1);
    if e.len() > 4 || e == [1] || !is_odd {
        return Err(KeyError::MemberMalformed("e"));
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| KeyError::NotAKey)
}

fn member<'a>(jwk: &'a Value, name: &'static str) -> Result<&'a str, KeyError> {
    jwk[name].as_str().ok_or(KeyError::MemberMalformed(name))
}

fn bytes(jwk: &Value, name: &'static str) -> Result<Vec<u8>, KeyError> {
    URL_SAFE_NO_PAD
        .decode(member(jwk, name)?)
        .map_err(|_| KeyError::MemberMalformed(name))
}

/// The keys of one issuer.
///
/// Collect it from [`VerifyingKey`]s, or read it from the issuer's JWK set with [`KeySet::from_jwks`]. To have the set
/// fetched and kept up to date, use [`RemoteKeySet`](crate::RemoteKeySet) instead. Of two keys with the same `kid`, the
/// first is used.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
}

impl KeySet {
    /// Reads a JWK set (RFC 7517 §5). A key that can't be used is left out, as the standard says, since an issuer may
    /// add kinds of keys that this version doesn't know.
    ///
    /// Secrets in the set are read too. Don't use this on a set that others can read, as a token signed with such a
    /// secret proves nothing; [`RemoteKeySet`](crate::RemoteKeySet) leaves them out.
    ///
    /// # Errors
    /// Returns [`KeyError::NotAKeySet`] if it isn't a JSON object with an array `keys`.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeyError> {
        let set: Value = serde_json::from_slice(json).map_err(|_| KeyError::NotAKeySet)?;
        let keys = set["keys"].as_array().ok_or(KeyError::NotAKeySet)?;
        Ok(keys
            .iter()
            .filter_map(|jwk| VerifyingKey::from_jwk(jwk).ok())
            .collect())
    }

    /// Returns the keys, in the order of the set.
    pub fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.iter()
    }

    /// Leaves out the keys of an algorithm.
    #[cfg(feature = "fetch")]
    pub(crate) fn without(self, algorithm: Algorithm) -> Self {
        self.keys
            .into_iter()
            .filter(|key| key.algorithm != algorithm)
            .collect()
    }

    /// Finds the key that a token names. A key without a `kid` is only found if there is no other.
    pub(crate) fn find(&self, kid: Option<&str>) -> Option<&VerifyingKey> {
        match (&self.keys[..], kid) {
            ([key], _) if key.kid.is_none() => Some(key),
            (keys, Some(kid)) => keys.iter().find(|key| key.kid() == Some(kid)),
            (_, None) => None,
        }
    }
}

impl FromIterator<VerifyingKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = VerifyingKey>>(keys: I) -> Self {
        Self {
            keys: keys.into_iter().collect(),
        }
    }
}

/// The reason why a key, or a set of keys, can't be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyError {
    /// The secret has less than 32 bytes.
    ///
    /// A likely cause is a secret that is still encoded, or that was cut off.
    SecretTooShort,
    /// The RSA modulus has less than 2048 or more than 8192 bits.
    ModulusSizeUnsupported,
    /// `alg` isn't one of [`Algorithm`].
    AlgorithmUnsupported,
    /// `kty` or `crv` isn't that of the algorithm in `alg`.
    KindMismatch,
    /// `use` or `key_ops` excludes verifying signatures: the key is for encryption, or for signing only.
    NotForSignatures,
    /// The member of this name is absent or malformed. `alg` is among the members that are required here, although the
    /// standard makes it optional.
    MemberMalformed(&'static str),
    /// The numbers don't make a key, as with a point that isn't on the curve.
    NotAKey,
    /// The text isn't a JWK set.
    ///
    /// Likely causes are the address of another document, such as the issuer's metadata, or a proxy's HTML page.
    NotAKeySet,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecretTooShort => {
                return write!(
                    f,
                    "a secret for HS256 must have at least {MIN_SECRET_BYTES} bytes"
                );
            }
            Self::ModulusSizeUnsupported => {
                let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
                return write!(f, "an RSA key must have {least} to {most} bits");
            }
            Self::AlgorithmUnsupported => "the algorithm is none of HS256, ES256, EdDSA and RS256",
            Self::KindMismatch => "the key's type or curve doesn't go with its algorithm",
            Self::NotForSignatures => "the key isn't for verifying signatures",
            Self::MemberMalformed(name) => {
                return write!(f, "the key's member {name} is absent or malformed");
            }
            Self::NotAKey => "the numbers don't make a key",
            Self::NotAKeySet => "this isn't a JWK set",
        })
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod wycheproof;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_has_32_bytes() {
        assert_eq!(
            VerifyingKey::shared_secret(None, &[7; 31]).unwrap_err(),
            KeyError::SecretTooShort
        );
        assert!(VerifyingKey::shared_secret(None, &[7; 32]).is_ok());
    }

    #[test]
    fn a_jwk_of_each_kind() {
        for jwk in [oct(), ec(), okp(), rsa()] {
            let key = VerifyingKey::from_jwk(&jwk).unwrap();
            assert_eq!(
                (key.kid(), key.algorithm().name()),
                (Some("k"), jwk["alg"].as_str().unwrap())
            );
            for (name, value) in [
                ("use", json!("sig")),
                ("key_ops", json!(["sign", "verify"])),
                ("x5t", json!(1)),
            ] {
                assert!(
                    VerifyingKey::from_jwk(&with(&jwk, name, value)).is_ok(),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_jwk_that_is_none() {
        use KeyError::{
            AlgorithmUnsupported, KindMismatch, MemberMalformed, ModulusSizeUnsupported, NotAKey,
            NotForSignatures, SecretTooShort,
        };

        let long = |bytes: &[u8]| json!(URL_SAFE_NO_PAD.encode(bytes));
        let x = ec()["x"].as_str().unwrap().to_owned();
        for (jwk, name, value, error) in [
            (oct(), "alg", Value::Null, MemberMalformed("alg")),
            (oct(), "alg", json!("none"), AlgorithmUnsupported),
            (oct(), "alg", json!("hs256"), AlgorithmUnsupported),
            (oct(), "alg", json!("HS512"), AlgorithmUnsupported),
            (oct(), "kid", json!(1), MemberMalformed("kid")),
            (oct(), "use", json!("enc"), NotForSignatures),
            (oct(), "use", json!(["sig"]), NotForSignatures),
            (oct(), "key_ops", json!(["sign"]), NotForSignatures),
            (oct(), "key_ops", json!("verify"), NotForSignatures),
            (oct(), "k", long(&[7; 31]), SecretTooShort),
            (oct(), "k", json!("="), MemberMalformed("k")),
            (oct(), "kty", json!("EC"), KindMismatch),
            (ec(), "alg", json!("HS256"), KindMismatch),
            (ec(), "crv", json!("P-384"), KindMismatch),
            (ec(), "y", json!(x), NotAKey),
            (ec(), "x", json!(format!("AA{x}")), MemberMalformed("x")),
            (ec(), "y", long(&[1; 31]), MemberMalformed("y")),
            (okp(), "crv", json!("X25519"), KindMismatch),
            (okp(), "x", long(&[1; 33]), MemberMalformed("x")),
            (rsa(), "alg", json!("PS256"), AlgorithmUnsupported),
            (rsa(), "n", long(&[255; 255]), ModulusSizeUnsupported),
            (rsa(), "n", long(&[127; 256]), ModulusSizeUnsupported),
            (rsa(), "n", long(&[255; 1025]), ModulusSizeUnsupported),
            (
                rsa(),
                "n",
                long(&[&[0][..], &[255; 256]].concat()),
                MemberMalformed("n"),
            ),
            (rsa(), "n", json!(""), MemberMalformed("n")),
            (rsa(), "e", json!("AQ"), MemberMalformed("e")),
            (rsa(), "e", json!("Ag"), MemberMalformed("e")),
            (rsa(), "e", json!(""), MemberMalformed("e")),
            (rsa(), "e", json!("AAEAAQ"), MemberMalformed("e")),
            (rsa(), "e", json!("AQAAAAE"), MemberMalformed("e")),
        ] {
            let jwk = with(&jwk, name, value);
            assert_eq!(VerifyingKey::from_jwk(&jwk).unwrap_err(), error, "{jwk}");
        }
        for other in [json!(null), json!([]), json!("HS256"), json!({})] {
            assert!(VerifyingKey::from_jwk(&other).is_err());
        }
    }

    #[test]
    fn a_set_leaves_out_what_it_cannot_use() {
        let set = json!({"keys": [
            with(&rsa(), "use", json!("enc")),
            with(&oct(), "kty", json!("AKP")),
            with(&ec(), "alg", json!("ES512")),
            with(&ec(), "kid", json!("1")),
            null,
            with(&okp(), "kid", json!("2")),
            with(&rsa(), "kid", json!("1")),
        ]});
        let set = KeySet::from_jwks(set.to_string().as_bytes()).unwrap();
        let kids: Vec<_> = set.iter().filter_map(VerifyingKey::kid).collect();
        assert_eq!(kids, ["1", "2", "1"]);
        let first = set.find(Some("1")).unwrap();
        assert_eq!(first.algorithm(), Algorithm::Es256);
        assert!(set.find(Some("k")).is_none());
        assert!(set.find(None).is_none());

        for other in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":[]"#,
            "\u{feff}{\"keys\":[]}",
        ] {
            assert_eq!(
                KeySet::from_jwks(other.as_bytes()).unwrap_err(),
                KeyError::NotAKeySet
            );
        }
    }

    #[test]
    fn a_key_without_an_id_serves_any_if_it_is_alone() {
        let secret = |kid| VerifyingKey::shared_secret(kid, &[7; 32]).unwrap();
        let alone = KeySet::from_iter([secret(None)]);
        assert!(alone.find(None).is_some() && alone.find(Some("any")).is_some());
        let named = KeySet::from_iter([secret(Some("a"))]);
        assert!(named.find(None).is_none() && named.find(Some("b")).is_none());
        let both = KeySet::from_iter([secret(None), secret(Some("a"))]);
        assert!(both.find(None).is_none() && both.find(Some("b")).is_none());
        assert_eq!(both.find(Some("a")).and_then(VerifyingKey::kid), Some("a"));
    }

    #[test]
    fn a_key_prints_without_its_secret() {
        let text = format!("{:?}", VerifyingKey::from_jwk(&oct()).unwrap());
        assert_eq!(
            text,
            r#"VerifyingKey { kid: Some("k"), algorithm: Hs256, .. }"#
        );
    }

    fn with(jwk: &Value, name: &str, value: Value) -> Value {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    }

    fn oct() -> Value {
        json!({"kty": "oct", "alg": "HS256", "kid": "k", "k": URL_SAFE_NO_PAD.encode([7; 32])})
    }

    /// RFC 7515 appendix A.3.
    fn ec() -> Value {
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
    }

    /// RFC 8037 appendix A.2.
    fn okp() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "k",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    fn rsa() -> Value {
        json!({"kty": "RSA", "alg": "RS256", "kid": "k", "e": "AQAB",
            "n": URL_SAFE_NO_PAD.encode([255; 256])})
    }
}
