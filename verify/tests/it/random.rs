//! Tests random input: nothing panics, and nothing is verified but what the issuer signed.

use guestpass_verify::KeySet;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{NOW, Signer, encode, signers, verifier};

proptest! {
    #[test]
    fn random_text_never_verifies(token in "\\PC*", dotted in "[A-Za-z0-9_-]*\\.[A-Za-z0-9_-]*\\.[A-Za-z0-9_-]*") {
        for signer in signers() {
            prop_assert!(signer.verify(&token).is_err());
            prop_assert!(signer.verify(&dotted).is_err());
        }
    }

    #[test]
    fn random_bytes_in_the_segments_never_verify(segments in vec(vec(any::<u8>(), 0..300), 1..6)) {
        let token: Vec<_> = segments.iter().map(encode).collect();
        for signer in signers() {
            prop_assert!(signer.verify(&token.join(".")).is_err());
        }
    }

    #[test]
    fn a_changed_token_never_verifies(
        which in 0..4_usize,
        edits in vec((any::<prop::sample::Index>(), "[A-Za-z0-9_.=-]?", 0..4_usize), 1..4),
    ) {
        let signer = &signers()[which];
        let token = signer.token(&[], &[]);
        let mut changed = token.clone();
        for (at, with, length) in edits {
            let at = at.index(changed.len() + 1);
            let end = changed.len().min(at + length);
            changed.replace_range(at..end, &with);
        }
        prop_assert!(changed == token || signer.verify(&changed).is_err(), "{}", changed);
    }

    #[test]
    fn segments_of_different_tokens_never_fit(one in 0..4_usize, other in 0..4_usize, order in 0..6_usize) {
        prop_assume!(one != other);
        let (one, other) = (signers()[one].token(&[], &[]), signers()[other].token(&[], &[("sub", "1".into())]));
        let (one, other): (Vec<_>, Vec<_>) = (one.split('.').collect(), other.split('.').collect());
        let mixed: Vec<_> = (0..3).map(|at| if (order + 1) >> at & 1 == 1 { one[at] } else { other[at] }).collect();
        let all: KeySet = signers().iter().map(Signer::key).collect();
        prop_assert!(verifier().verify(&mixed.join("."), &all, NOW).is_err());
    }

    #[test]
    fn a_signed_anything_is_read_without_a_panic(header in vec(any::<u8>(), 0..200), payload in "\\PC*") {
        let signer = &signers()[0];
        let payload_only = signer.sign(&signer.header().to_string(), &payload);
        prop_assert!(signer.verify(&payload_only).is_err());
        let both = signer.sign(&String::from_utf8_lossy(&header), &payload);
        prop_assert!(signer.verify(&both).is_err());
    }

    #[test]
    fn random_key_sets_are_read_without_a_panic(json in vec(any::<u8>(), 0..200), text in "\\PC*") {
        prop_assert!(KeySet::from_jwks(&json).is_err());
        let set = serde_json::json!({"keys": [{"kty": text, "alg": text}, text]}).to_string();
        prop_assert_eq!(KeySet::from_jwks(set.as_bytes()).unwrap().iter().count(), 0);
    }
}
