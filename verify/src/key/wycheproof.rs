//! Tests C105 for signatures over any bytes. Whole tokens are tested in tests/it/wycheproof.rs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{KeyError, VerifyingKey};

#[test]
fn c105_ecdsa() {
    let vectors = include_str!("../../tests/vectors/ecdsa_secp256r1_sha256_p1363_test.json");
    let key = |group: &Value, _: &Value| {
        let point = bytes(&group["publicKey"]["uncompressed"]);
        let (x, y) = (text(&point[1..33]), text(&point[33..]));
        VerifyingKey::from_jwk(
            &json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}),
        )
    };
    assert_eq!(check(vectors, "sig", key), (173, 89, 0));
}

#[test]
fn c105_eddsa() {
    let vectors = include_str!("../../tests/vectors/ed25519_test.json");
    let key = |group: &Value, _: &Value| {
        let x = text(&bytes(&group["publicKey"]["pk"]));
        VerifyingKey::from_jwk(&json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x}))
    };
    assert_eq!(check(vectors, "sig", key), (88, 63, 0));
}

#[test]
fn c105_rsa() {
    let vectors = include_str!("../../tests/vectors/rsa_signature_2048_sha256_test.json");
    let key = |group: &Value, _: &Value| VerifyingKey::from_jwk(&group["keyJwk"]);
    // One vector is `acceptable`: its hash identifier has no NULL. It is rejected, since RFC 8017 §9.2 requires one.
    assert_eq!(check(vectors, "sig", key), (9, 250, 0));
}

#[test]
fn c105_hmac() {
    let vectors = include_str!("../../tests/vectors/hmac_sha256_test.json");
    let key = |_: &Value, test: &Value| VerifyingKey::shared_secret(None, &bytes(&test["key"]));
    // Half of the valid ones are truncated, and six keys have 16 bytes.
    assert_eq!(check(vectors, "tag", key), (30, 138, 6));
}

/// Checks every vector, and returns how many signatures were accepted and rejected, and how many keys were rejected.
fn check(
    vectors: &str,
    signature: &str,
    key: impl Fn(&Value, &Value) -> Result<VerifyingKey, KeyError>,
) -> (usize, usize, usize) {
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let (mut accepted, mut rejected, mut of_bad_keys) = (0, 0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        // HS256 requires the whole tag (RFC 7518 §3.2).
        let is_truncated = group.get("tagSize").is_some_and(|bits| bits != 256);
        for test in group["tests"].as_array().unwrap() {
            let Ok(key) = key(group, test) else {
                of_bad_keys += 1;
                continue;
            };
            let is_accepted = key.verifies(&bytes(&test["msg"]), &bytes(&test[signature]));
            assert_eq!(
                is_accepted,
                test["result"] == "valid" && !is_truncated,
                "{test}"
            );
            accepted += usize::from(is_accepted);
            rejected += usize::from(!is_accepted);
        }
    }
    (accepted, rejected, of_bad_keys)
}

fn bytes(hexadecimal: &Value) -> Vec<u8> {
    let digits = hexadecimal.as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
