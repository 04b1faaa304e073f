//! C105 for whole tokens. What is below them, signatures over any bytes, stands in src/key/wycheproof.rs.

use guestpass_verify::{KeySet, Rejection, VerifyingKey};
use serde_json::Value;

use crate::support::{NOW, verifier};

/// Vectors whose result can't be followed, and what must happen instead.
const EXCEPTIONS: [(u64, bool); 5] = [
    // Valid, but its payload is empty, which no claims set can be.
    (259, false),
    // Marked invalid for a bad padding that is no longer there: the text is that of 357, which is valid.
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
            let (id, jws) = (
                test["tcId"].as_u64().unwrap(),
                test["jws"].as_str().unwrap(),
            );
            let exception = EXCEPTIONS.iter().find(|(exception, _)| *exception == id);
            let is_valid = exception.map_or(test["result"] == "valid", |(_, valid)| *valid);
            // No payload is a claims set. Getting as far as finding that out means that the signature was right.
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
