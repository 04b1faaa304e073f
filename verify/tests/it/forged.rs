//! Tests tokens that the issuer never made: wrong algorithms, headers, keys, signatures and serializations.

use std::collections::BTreeMap;

use guestpass_verify::{AccessToken, Attribute, KeySet, Rejection};
use serde_json::{Value, json};

use crate::support::{ISSUER, NOW, Signer, changed, claims_of_a_guest, encode, signers, verifier};

#[test]
fn what_a_shop_says_of_a_guest_is_read() {
    let signer = &signers()[0];
    let attrs = json!({"beta": true, "n": -1, "segment": "vip"});
    let told = [("customer", json!("c-4711")), ("attrs", attrs)];
    let token = signer.verify(&signer.token(&[], &told)).unwrap();
    assert_eq!(token.customer.as_deref(), Some("c-4711"));
    let expected = [
        ("beta".to_owned(), Attribute::Flag(true)),
        ("n".to_owned(), Attribute::Number(-1)),
        ("segment".to_owned(), Attribute::Text("vip".to_owned())),
    ];
    assert_eq!(token.attributes, BTreeMap::from(expected));
}

#[test]
fn a_right_token_is_accepted_under_each_algorithm() {
    for signer in signers() {
        let token = signer.verify(&signer.token(&[], &[])).unwrap();
        let expected = AccessToken {
            issuer: ISSUER.to_owned(),
            subject: "94173".to_owned(),
            network_id: Some("6f1e2f0e-5b0a-4b53-9a3c-6a4d1d3b3f11".to_owned()),
            customer: None,
            attributes: BTreeMap::new(),
            audience: vec![ISSUER.to_owned()],
            client_id: "shop".to_owned(),
            token_id: "1".to_owned(),
            grant_id: Some("grant".to_owned()),
            issued_at: NOW - 60,
            expires_at: NOW + 60,
        };
        assert_eq!(token, expected, "{}", signer.alg);
        let all = signers().iter().map(Signer::key).collect();
        assert!(
            verifier()
                .verify(&signer.token(&[], &[]), &all, NOW)
                .is_ok()
        );
    }
}

#[test]
fn c099_no_algorithm_and_no_signature() {
    let claims = encode(claims_of_a_guest().to_string());
    for signer in signers() {
        for alg in ["none", "None", "nOnE", "NONE", ""] {
            let header = changed(signer.header(), &[("alg", json!(alg))]).to_string();
            let signed = signer.sign(&header, &claims_of_a_guest().to_string());
            assert_eq!(signer.verify(&signed), Err(Rejection::AlgorithmUnsupported));
            let unsigned = format!("{}.{claims}.", encode(&header));
            assert_eq!(signer.verify(&unsigned), Err(Rejection::Malformed));
        }
        let header = encode(signer.header().to_string());
        assert_eq!(
            signer.verify(&format!("{header}.{claims}.")),
            Err(Rejection::Malformed)
        );
        assert_eq!(
            signer.verify(&format!("{header}.{claims}")),
            Err(Rejection::Malformed)
        );
    }
}

#[test]
fn c100_a_public_key_is_no_secret() {
    for signer in &signers()[1..] {
        let pem = signer.pem();
        let x = signer.jwk.get("x").or(signer.jwk.get("n")).unwrap();
        for secret in [
            pem.as_bytes(),
            pem.trim_end().as_bytes(),
            &signer.der,
            signer.jwk.to_string().as_bytes(),
            x.as_str().unwrap().as_bytes(),
            b"",
        ] {
            let forger = Signer::hs256(&signer.kid, secret);
            let token = forger.token(&[], &[]);
            assert_eq!(signer.verify(&token), Err(Rejection::AlgorithmMismatch));
            // The header agrees with the key, the signature doesn't.
            let token = forger.token(&[("alg", json!(signer.alg))], &[]);
            assert_eq!(signer.verify(&token), Err(Rejection::SignatureWrong));
        }
    }
}

#[test]
fn c101_the_key_decides_the_algorithm() {
    for signer in signers() {
        for alg in [
            "HS256", "ES256", "EdDSA", "RS256", "PS256", "RS512", "ES384", "HS512", "Ed25519",
        ] {
            let token = signer.token(&[("alg", json!(alg))], &[]);
            let expected = match alg {
                _ if alg == signer.alg => Ok(()),
                "HS256" | "ES256" | "EdDSA" | "RS256" => Err(Rejection::AlgorithmMismatch),
                _ => Err(Rejection::AlgorithmUnsupported),
            };
            assert_eq!(
                signer.verify(&token).map(drop),
                expected,
                "{alg} by {}",
                signer.alg
            );
        }
    }
}

#[test]
fn c102_headers_that_are_not_understood() {
    use Rejection::{AlgorithmUnsupported, HeaderMalformed, HeaderUnsupported};

    for signer in signers() {
        for (header, rejection) in [
            (&[("alg", Value::Null)][..], AlgorithmUnsupported),
            (&[("alg", json!(256))], HeaderMalformed),
            (&[("alg", json!([signer.alg]))], HeaderMalformed),
            (
                &[("alg", json!(signer.alg.to_lowercase() + " "))],
                AlgorithmUnsupported,
            ),
            (&[("typ", json!(1))], HeaderMalformed),
            (&[("kid", json!([signer.kid]))], HeaderMalformed),
            (
                &[("b64", json!(false)), ("crit", json!(["b64"]))],
                HeaderUnsupported,
            ),
            (&[("b64", json!(false))], HeaderUnsupported),
            (&[("b64", json!(true))], HeaderUnsupported),
            (
                &[
                    ("crit", json!(["urn:example:x"])),
                    ("urn:example:x", json!(1)),
                ],
                HeaderUnsupported,
            ),
            (&[("crit", json!([]))], HeaderUnsupported),
            (&[("crit", json!("exp"))], HeaderUnsupported),
            (&[("zip", json!("DEF"))], HeaderUnsupported),
        ] {
            assert_eq!(
                signer.verify(&signer.token(header, &[])),
                Err(rejection),
                "{header:?}"
            );
        }
        let claims = claims_of_a_guest().to_string();
        let (alg, kid) = (signer.alg, &signer.kid);
        for header in [
            format!(r#"{{"alg":"none","alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}","x":1,"x":1}}"#),
            format!(r#"["{alg}"]"#),
            format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}},"#),
            "\0".to_owned(),
        ] {
            assert_eq!(
                signer.verify(&signer.sign(&header, &claims)),
                Err(HeaderMalformed),
                "{header}"
            );
        }
        // With b64=false, the payload isn't encoded (RFC 7797 §3).
        let signed = format!("{}.{claims}", encode(signer.header().to_string()));
        let token = format!("{signed}.{}", encode(signer.signature(signed.as_bytes())));
        assert_eq!(signer.verify(&token), Err(Rejection::Malformed));
    }
}

#[test]
fn c103_key_ids_that_name_no_key() {
    for signer in signers() {
        let absent = signer.token(&[("kid", Value::Null)], &[]);
        assert_eq!(signer.verify(&absent), Err(Rejection::KeyUnknown));
        let upper = signer.kid.to_uppercase();
        for kid in [
            "",
            "unknown",
            "../../etc/passwd",
            "' OR 1=1",
            "\0",
            "%00",
            &upper,
        ] {
            let token = signer.token(&[("kid", json!(kid))], &[]);
            assert_eq!(signer.verify(&token), Err(Rejection::KeyUnknown), "{kid}");
        }
        let long = signer.token(&[("kid", json!("k".repeat(64 * 1024)))], &[]);
        assert_eq!(signer.verify(&long), Err(Rejection::TooLong));

        // A key without a `kid`, alone in its set, verifies tokens with any.
        let nameless = changed(signer.jwk.clone(), &[("kid", Value::Null)]);
        let nameless = json!({"keys": [nameless]}).to_string();
        let nameless = KeySet::from_jwks(nameless.as_bytes()).unwrap();
        assert!(verifier().verify(&absent, &nameless, NOW).is_ok());
        assert!(
            verifier()
                .verify(&signer.token(&[], &[]), &nameless, NOW)
                .is_ok()
        );
    }
}

#[test]
fn c104_signatures_of_another_key_and_changed_tokens() {
    for signer in signers() {
        let token = signer.token(&[], &[]);
        assert!(signer.verify(&token).is_ok());
        // Flips each bit of each character, including the dots, but the eighth: the text must remain ASCII.
        for at in 0..token.len() {
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let flipped = String::from_utf8(bytes).unwrap();
                assert!(
                    signer.verify(&flipped).is_err(),
                    "bit {bit} at {at} of {token}"
                );
            }
        }
        let (signed, _) = token.rsplit_once('.').unwrap();
        let mut signature = signer.signature(signed.as_bytes());
        signature.push(0);
        let too_long = format!("{signed}.{}", encode(&signature));
        assert_eq!(signer.verify(&too_long), Err(Rejection::SignatureWrong));
        for length in 1..signature.len() - 1 {
            let truncated = format!("{signed}.{}", encode(&signature[..length]));
            assert_eq!(
                signer.verify(&truncated),
                Err(Rejection::SignatureWrong),
                "{length} bytes"
            );
        }
    }
    let (theirs, ours) = (Signer::es256("es"), &signers()[1]);
    assert_eq!(
        ours.verify(&theirs.token(&[], &[])),
        Err(Rejection::SignatureWrong)
    );
    let theirs = Signer::hs256("hs", &[7; 32]);
    assert_eq!(
        signers()[0].verify(&theirs.token(&[], &[])),
        Err(Rejection::SignatureWrong)
    );
}

#[test]
fn keys_inside_a_token_are_not_looked_at() {
    let (theirs, ours) = (Signer::es256("es"), &signers()[1]);
    let header = [
        ("jwk", theirs.jwk.clone()),
        ("jku", json!("http://127.0.0.1:1/")),
        ("x5u", json!("http://127.0.0.1:1/")),
    ];
    assert_eq!(
        ours.verify(&theirs.token(&header, &[])),
        Err(Rejection::SignatureWrong)
    );
    assert!(ours.verify(&ours.token(&header, &[])).is_ok());
}

#[test]
fn c110_the_same_key_id_at_another_installation() {
    for (ours, theirs) in [
        (Signer::hs256("1", &[1; 32]), Signer::hs256("1", &[2; 32])),
        (Signer::es256("1"), Signer::es256("1")),
    ] {
        assert!(theirs.verify(&theirs.token(&[], &[])).is_ok());
        assert_eq!(
            ours.verify(&theirs.token(&[], &[])),
            Err(Rejection::SignatureWrong)
        );
    }
    // Even with one key for two installations, the issuer keeps them apart.
    let shared = Signer::hs256("1", &[1; 32]);
    let token = shared.token(&[], &[("iss", json!("https://id.other.example"))]);
    assert_eq!(shared.verify(&token), Err(Rejection::IssuerWrong));
}

#[test]
fn c111_other_serialisations() {
    for signer in signers() {
        let token = signer.token(&[], &[]);
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            unreachable!()
        };
        let flattened = json!({"protected": header, "payload": payload, "signature": signature});
        let general = json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]});
        // RFC 7516 appendix A.1: JWE has five segments.
        let jwe = encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#) + ".YQ.YQ.YQ.YQ";
        for other in [
            flattened.to_string(),
            general.to_string(),
            jwe,
            format!("{header}.{payload}"),
            format!("{token}."),
            format!("{token}.{signature}"),
            format!(".{token}"),
            format!("Bearer {token}"),
            format!("{token} "),
            token.replace('.', "%2E"),
        ] {
            assert_eq!(signer.verify(&other), Err(Rejection::Malformed), "{other}");
        }
        // RFC 7519 §5.2: `cty` names a nested token, which is no claims set.
        let header = changed(signer.header(), &[("cty", json!("JWT"))]).to_string();
        let nested = signer.sign(&header, &token);
        assert_eq!(signer.verify(&nested), Err(Rejection::ClaimsMalformed));

        let long = signer.token(&[], &[("x", json!("x".repeat(9000)))]);
        assert!(long.len() > 12_000);
        assert_eq!(signer.verify(&long), Err(Rejection::TooLong));
        let deep = signer.sign(&signer.header().to_string(), &"[".repeat(5500));
        assert_eq!(signer.verify(&deep), Err(Rejection::ClaimsMalformed));
    }
}
