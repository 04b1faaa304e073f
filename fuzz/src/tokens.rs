//! Credentials and access tokens: only what was made here is good.

use guestpass_core::credential::{Credential, SealingKey};
use guestpass_core::grant::{Generation, GrantId};
use guestpass_core::profile::ProfileId;
use guestpass_verify::{KeySet, Verifier};

/// Opens the text of a credential; and seals one made of the same bytes, of which no change may open.
pub fn credential(data: &[u8]) {
    let key = SealingKey::new(&[7; 32], b"an installation");
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(credential) = key.open(text)
    {
        assert_eq!(key.seal(credential), text, "one credential has two texts");
    }
    let Some((numbers, rest)) = data.split_first_chunk::<26>() else {
        return;
    };
    let (profile, numbers) = numbers.split_first_chunk::<8>().expect("there are 26");
    let (random, numbers) = numbers.split_first_chunk::<8>().expect("there are 18");
    let (generation, at) = numbers.split_first_chunk::<8>().expect("there are 10");
    let Some(profile) = ProfileId::from_i64(i64::from_be_bytes(*profile)) else {
        return;
    };
    let credential = Credential {
        grant: GrantId::new(profile, *random),
        generation: Generation::from_u64(u64::from_be_bytes(*generation)),
    };
    let text = key.seal(credential);
    assert_eq!(key.open(&text), Some(credential));
    let mut changed = text.clone().into_bytes();
    let at = usize::from(at[0]) % changed.len();
    changed[at] = rest.first().copied().unwrap_or(b'A');
    if let Ok(changed) = String::from_utf8(changed)
        && changed != text
    {
        assert_eq!(key.open(&changed), None, "{changed} was not sealed here");
    }
}

/// Verifies a token by keys with which nobody has ever signed.
pub fn access_token(data: &[u8]) {
    let keys = KeySet::from_jwks(KEYS.as_bytes()).expect("this is a key set");
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let verifier = Verifier::new("https://id.example");
    for now in [0, 1_800_000_000, i64::MAX] {
        let verified = verifier.verify(text, &keys, now);
        assert!(verified.is_err(), "{text} was not signed here");
    }
    assert!(verifier.verify_at_any_time(text, &keys).is_err());
}

/// An HS256, an ES256 and an EdDSA key.
const KEYS: &str = r#"{"keys":[
    {"kty":"oct","kid":"a","alg":"HS256","use":"sig","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
    {"kty":"EC","kid":"b","alg":"ES256","use":"sig","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"OKP","kid":"c","alg":"EdDSA","use":"sig","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
]}"#;
