//! Tests C105 for whole tokens. Signatures over any bytes are tested in src/key/wycheproof.rs.

use guestpass_verify::{KeySet, Rejection, VerifyingKey};
use serde_json::Value;

use crate::support::{NOW, verifier};

/// Lists vectors whose stated result doesn't apply here, each with whether its signature must be accepted.
const EXCEPTIONS: [(u64, bool); 5] = [
    // Valid, but its payload is empty, so it isn't a claims set.
    (259, false),
    // Marked invalid for a wrong padding that isn't in the text: it is that of 357, which is valid.
    (367, true),
    (370, true),
    // Marked valid with a `?` inside a segment. RFC 7515 §2 has base64url without any other characters.
    (372, false),
    (373, false),
];

#[test]
fn c105_json_web_signatures() {
    let vectors: Value =
        serde_json::from_str(include_str!("../vectors/json_web_signature_test.json")).unwrap();
    let (mut accepted, mut rejected, mut of_other_algorithms) = (0, 0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let jwk = group.get("public").unwrap_or(&group["private"]);
        let key = VerifyingKey::from_jwk(jwk);
        let is_supported = key.is_ok();
        let keys = KeySet::from_iter(key);
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let jws = test["jws"].as_str().unwrap();
            let exception = EXCEPTIONS.iter().find(|(exception, _)| *exception == id);
            let is_valid = exception.map_or(test["result"] == "valid", |(_, valid)| *valid);
            // No payload is a claims set, which is only found out after the signature has been verified.
            let answer = verifier()
                .accept_untyped()
                .verify(jws, &keys, NOW)
                .unwrap_err();
            let is_accepted = answer == Rejection::ClaimsMalformed;
            assert_eq!(
                is_accepted,
                is_valid && is_supported,
                "{id}: {answer:?} {test}"
            );
            accepted += usize::from(is_accepted);
            rejected += usize::from(!is_valid);
            of_other_algorithms += usize::from(is_valid && !is_supported);
        }
    }
    assert_eq!((accepted, rejected, of_other_algorithms), (19, 356, 26));
}
