//! Tests the claims of tokens with a valid signature.

use std::time::Duration;

use guestpass_verify::{KeySet, Rejection, Verifier};
use serde_json::{Value, json};

use crate::support::{ISSUER, NOW, Signer, claims_of_a_guest, signers, verifier};

/// Verifies a valid token with one claim changed, under each algorithm.
fn with_claim(verifier: &Verifier, name: &str, value: &Value) -> Result<(), Rejection> {
    let mut answers = signers().iter().map(|signer| {
        let token = signer.token(&[], &[(name, value.clone())]);
        verifier.verify(&token, &signer.keys(), NOW).map(drop)
    });
    let answer = answers.next().unwrap();
    assert!(
        answers.all(|other| other == answer),
        "one answer under each algorithm"
    );
    answer
}

#[test]
fn every_claim_of_an_access_token_is_required() {
    for name in ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"] {
        assert_eq!(
            with_claim(&verifier(), name, &Value::Null),
            Err(Rejection::ClaimMissing(name))
        );
        assert_eq!(
            with_claim(&verifier(), name, &json!({})),
            Err(Rejection::ClaimsMalformed)
        );
        assert_eq!(
            with_claim(&verifier(), name, &json!(true)),
            Err(Rejection::ClaimsMalformed)
        );
    }
    for name in ["sid", "subn", "nbf", "scope"] {
        assert_eq!(with_claim(&verifier(), name, &Value::Null), Ok(()));
    }
    let signer = &signers()[0];
    for payload in [
        claims_of_a_guest()
            .to_string()
            .replacen('{', r#"{"exp":9,"#, 1),
        claims_of_a_guest()
            .to_string()
            .replacen('{', r#"{"x":1,"x":2,"#, 1),
        format!("{} ,", claims_of_a_guest()),
        json!([claims_of_a_guest()]).to_string(),
        "foo".to_owned(),
    ] {
        let token = signer.sign(&signer.header().to_string(), &payload);
        assert_eq!(
            signer.verify(&token),
            Err(Rejection::ClaimsMalformed),
            "{payload}"
        );
    }
}

#[test]
fn c106_an_expired_token() {
    let exp = |verifier: &Verifier, exp| with_claim(verifier, "exp", &exp);
    assert_eq!(exp(&verifier(), json!(NOW + 1)), Ok(()));
    assert_eq!(exp(&verifier(), json!(NOW)), Err(Rejection::Expired));
    assert_eq!(
        exp(&verifier(), json!(NOW as f64 + 0.5)),
        Err(Rejection::Expired)
    );
    assert_eq!(exp(&verifier(), json!(0)), Err(Rejection::Expired));
    assert_eq!(exp(&verifier(), json!(-1)), Err(Rejection::Expired));
    assert_eq!(
        exp(&verifier(), Value::Null),
        Err(Rejection::ClaimMissing("exp"))
    );
    for (leeway, seconds) in [(30, 30), (60, 60), (61, 60), (u64::MAX, 60)] {
        let verifier = verifier().leeway(Duration::from_secs(leeway));
        assert_eq!(exp(&verifier, json!(NOW - seconds + 1)), Ok(()));
        assert_eq!(
            exp(&verifier, json!(NOW - seconds)),
            Err(Rejection::Expired)
        );
    }
    let default = Verifier::new(ISSUER);
    assert_eq!(exp(&default, json!(NOW - 4)), Ok(()));
    assert_eq!(exp(&default, json!(NOW - 5)), Err(Rejection::Expired));
}

#[test]
fn c107_a_token_from_the_future() {
    for name in ["iat", "nbf"] {
        let claim = |verifier: &Verifier, value| with_claim(verifier, name, &value);
        assert_eq!(claim(&verifier(), json!(NOW)), Ok(()));
        assert_eq!(claim(&verifier(), json!(NOW as f64 + 0.5)), Ok(()));
        assert_eq!(
            claim(&verifier(), json!(NOW + 1)),
            Err(Rejection::NotYetValid)
        );
        assert_eq!(
            claim(&verifier(), json!("0")),
            Err(Rejection::ClaimsMalformed)
        );
        for (leeway, seconds) in [(30, 30), (60, 60), (61, 60)] {
            let verifier = verifier().leeway(Duration::from_secs(leeway));
            assert_eq!(claim(&verifier, json!(NOW + seconds)), Ok(()));
            assert_eq!(
                claim(&verifier, json!(NOW + seconds + 1)),
                Err(Rejection::NotYetValid)
            );
        }
    }
    let signer = &signers()[0];
    // Both count, not the later or the more specific of the two.
    for (iat, nbf) in [(NOW + 1, NOW), (NOW, NOW + 1)] {
        let token = signer.token(&[], &[("iat", json!(iat)), ("nbf", json!(nbf))]);
        assert_eq!(signer.verify(&token), Err(Rejection::NotYetValid));
    }
    for now in [i64::MIN, i64::MAX] {
        assert!(
            verifier()
                .verify(&signer.token(&[], &[]), &signer.keys(), now)
                .is_err()
        );
    }
}

#[test]
fn c108_another_issuer_or_audience() {
    for issuer in [
        "https://id.other.example",
        "https://id.shop.example/",
        "https://ID.shop.example",
        "HTTPS://id.shop.example",
        "http://id.shop.example",
        "https://id.shop.example\0",
    ] {
        assert_eq!(
            with_claim(&verifier(), "iss", &json!(issuer)),
            Err(Rejection::IssuerWrong)
        );
    }
    for (audience, expected) in [
        (json!([ISSUER]), Ok(())),
        (json!(["https://api.shop.example", ISSUER]), Ok(())),
        (
            json!("https://api.shop.example"),
            Err(Rejection::AudienceWrong),
        ),
        (
            json!(["https://api.shop.example"]),
            Err(Rejection::AudienceWrong),
        ),
        (json!([]), Err(Rejection::AudienceWrong)),
        (json!(""), Err(Rejection::AudienceWrong)),
        (json!(format!("{ISSUER}/")), Err(Rejection::AudienceWrong)),
        (json!(ISSUER.to_uppercase()), Err(Rejection::AudienceWrong)),
        (json!([[ISSUER]]), Err(Rejection::ClaimsMalformed)),
        (Value::Null, Err(Rejection::ClaimMissing("aud"))),
    ] {
        assert_eq!(with_claim(&verifier(), "aud", &audience), expected);
    }
    let api = verifier().audience("api");
    for own in [json!(["api", ISSUER]), json!(["api"]), json!("api")] {
        assert_eq!(with_claim(&api, "aud", &own), Ok(()));
    }
    assert_eq!(
        with_claim(&api, "aud", &json!(ISSUER)),
        Err(Rejection::AudienceWrong)
    );
    let any = verifier().any_audience();
    for audience in [json!("api"), json!([ISSUER]), json!([])] {
        assert_eq!(with_claim(&any, "aud", &audience), Ok(()));
    }
    assert_eq!(
        with_claim(&any, "aud", &Value::Null),
        Err(Rejection::ClaimMissing("aud"))
    );
}

#[test]
fn c109_the_type_of_a_token() {
    let legacy = verifier().accept_untyped();
    for signer in signers() {
        for (typ, standard, old) in [
            (json!("at+jwt"), true, true),
            (json!("application/at+jwt"), true, true),
            (json!("AT+JWT"), true, true),
            (json!("Application/At+Jwt"), true, true),
            (json!("JWT"), false, true),
            (json!("jwt"), false, true),
            (Value::Null, false, true),
            (json!(""), false, false),
            (json!("logout+jwt"), false, false),
            (json!("id_token"), false, false),
            (json!("application/jwt"), false, false),
            (json!("at+jwt "), false, false),
        ] {
            let token = signer.token(&[("typ", typ.clone())], &[]);
            for (verifier, accepted) in [(&verifier(), standard), (&legacy, old)] {
                let expected = if accepted {
                    Ok(())
                } else {
                    Err(Rejection::TypeWrong)
                };
                assert_eq!(
                    verifier.verify(&token, &signer.keys(), NOW).map(drop),
                    expected,
                    "{typ}"
                );
            }
        }
    }
}

#[test]
fn c112_a_rotated_key() {
    let (previous, current) = (Signer::es256("1"), Signer::es256("2"));
    let token = previous.token(&[], &[]);
    let both = KeySet::from_iter([current.key(), previous.key()]);
    assert!(verifier().verify(&token, &both, NOW).is_ok());
    assert!(
        verifier()
            .verify(&current.token(&[], &[]), &both, NOW)
            .is_ok()
    );
    assert_eq!(
        verifier().verify(&token, &current.keys(), NOW),
        Err(Rejection::KeyUnknown)
    );
    assert_eq!(
        verifier().verify(&token, &KeySet::default(), NOW),
        Err(Rejection::KeyUnknown)
    );
}
