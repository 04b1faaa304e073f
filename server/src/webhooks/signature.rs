//! Signatures of webhooks, by the scheme `v1` of Standard Webhooks: HMAC-SHA256 over the message's id, the time and the body.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guestpass_core::event::EventId;
use guestpass_core::time::Timestamp;
use zeroize::Zeroizing;

use crate::random::Random;

/// The secrets that receiver and sender share: one, or two while one takes the other's place. Clones share them, so that a running
/// server can take over others.
#[derive(Clone)]
pub struct Secrets(Arc<RwLock<Vec<Secret>>>);

/// A secret, as its text and as the key that it stands for.
struct Secret {
    text: Zeroizing<String>,
    key: hmac::Key,
}

/// The sizes of a secret (Standard Webhooks, "Symmetric").
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The secrets that sign at the same time.
const MOST: usize = 2;

impl Secrets {
    /// The beginning of each secret.
    pub(crate) const PREFIX: &str = "whsec_";

    /// Parses the lines of a file: one or two secrets, each `whsec_` and base64.
    ///
    /// # Errors
    /// Explains the problem without showing a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets = lines.map(Secret::parse).collect::<Result<Vec<_>, _>>()?;
        match secrets.len() {
            0 => Err("it is empty. Make a secret with `guestpass events secret`".to_owned()),
            1..=MOST => Ok(Self(Arc::new(RwLock::new(secrets)))),
            _ => Err(
                "it has more than two lines: the secret, and the one before or after it".to_owned(),
            ),
        }
    }

    /// Returns the header `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: EventId, at: Timestamp, body: &str) -> String {
        let signed = format!("{id}.{}.{body}", at.as_seconds());
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let signatures = secrets.iter().map(|secret| {
            let tag = hmac::sign(&secret.key, signed.as_bytes());
            format!("v1,{}", STANDARD.encode(tag))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }

    /// Takes over the secrets of another. Returns whether they are others.
    pub(crate) fn replace(&self, other: &Self) -> bool {
        let read = |secrets: &Self| -> Vec<_> {
            let secrets = secrets.0.read().unwrap_or_else(PoisonError::into_inner);
            secrets.iter().map(|secret| secret.text.clone()).collect()
        };
        let texts = read(other);
        if texts == read(self) {
            return false;
        }
        let parsed = texts.iter().map(|text| Secret::parse(text));
        let parsed = parsed.collect::<Result<_, _>>();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            parsed.expect("they were parsed before");
        true
    }
}

impl Secret {
    fn parse(text: &str) -> Result<Self, String> {
        const PROBLEM: &str =
            "a line is no secret: write what `guestpass events secret` prints, whsec_ and base64";
        let bytes = text
            .strip_prefix(Secrets::PREFIX)
            .and_then(|text| STANDARD.decode(text).ok())
            .map(Zeroizing::new)
            .filter(|bytes| BYTES.contains(&bytes.len()))
            .ok_or(PROBLEM)?;
        Ok(Self {
            text: Zeroizing::new(text.to_owned()),
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
        })
    }
}

/// Makes the text of a new secret.
#[must_use]
pub fn new_secret(random: &dyn Random) -> Zeroizing<String> {
    let bytes = Zeroizing::new(random.bytes::<32>());
    Zeroizing::new(format!("{}{}", Secrets::PREFIX, STANDARD.encode(*bytes)))
}

/// Shows no secret.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Standard Webhooks' own documentation and libraries.
    #[test]
    fn a_signature_is_the_one_of_the_published_example() {
        let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signed = hmac::sign(
            &secrets.0.read().unwrap()[0].key,
            br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#,
        );
        assert_eq!(
            STANDARD.encode(signed),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn each_secret_signs_and_another_file_is_taken_over() {
        let (first, second) = (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        );
        let secrets = Secrets::parse(&format!("{first}\n{second}\n")).unwrap();
        let sign = |secrets: &Secrets| {
            secrets.sign(
                EventId::from_bytes([0; 16]),
                Timestamp::from_millis(1_999),
                "{}",
            )
        };
        let both = sign(&secrets);
        let alone = sign(&Secrets::parse(second).unwrap());
        assert_eq!(both.split(' ').next_back(), Some(&*alone));
        assert!(!secrets.replace(&Secrets::parse(&format!("{first}\n\n{second}")).unwrap()));
        assert!(secrets.replace(&Secrets::parse(second).unwrap()));
        assert_eq!(sign(&secrets), alone);
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_shown() {
        let short = format!("whsec_{}", STANDARD.encode([0; 23]));
        let three = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".repeat(3);
        for text in ["", "\n", "whsec_", "whsec_geheim", &short, &three] {
            let problem = Secrets::parse(text).unwrap_err();
            assert!(
                !problem.contains("geheim") && !problem.contains("MfKQ"),
                "{problem}"
            );
        }
    }
}
