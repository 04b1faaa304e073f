//! The id of a request, which for a refusal is itself the record of it.
//!
//! Every id begins with 16 characters that are drawn when the request comes in, and name it in the log. The id of a
//! refused request goes on with an encrypted record of the refusal: any node with the keys can read it, nobody else
//! learns anything from it, and nothing is stored.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hasher;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fnv::FnvHasher;
use guestpass_core::grant::GrantId;
use guestpass_core::time::Timestamp;

use crate::random::Random;

/// Names a request from its arrival on: twelve bytes, random but for one bit, written as 16 characters of base64url.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestId([u8; NONCE_LEN]);

impl RequestId {
    /// Draws an id. Its first bit is clear, so that its text doesn't begin with a dash, which a command line would take
    /// for an option.
    #[must_use]
    pub fn draw(random: &dyn Random) -> Self {
        let mut bytes = random.bytes();
        bytes[0] &= 0x7f;
        Self(bytes)
    }

    /// Writes it in ASCII.
    #[must_use]
    pub fn text(self) -> [u8; 16] {
        let mut text = [0; 16];
        URL_SAFE_NO_PAD
            .encode_slice(self.0, &mut text)
            .expect("of twelve bytes there are sixteen characters");
        text
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(&self.0, &URL_SAFE_NO_PAD).fmt(f)
    }
}

/// The record of a refused request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// The time of the answer.
    pub at: Timestamp,
    /// The node that answered, cut to 16 bytes.
    pub node: Cow<'a, str>,
    /// The reason, a hash of its stable name ([`Reason::of`]).
    pub reason: Reason,
    /// The grant of the presented credential or token, if that was known.
    pub grant: Option<GrantId>,
    /// The parameter that the reason is about, if it is about one.
    pub parameter: Option<Cow<'a, str>>,
}

/// The reason of a refusal: four bytes of the hash of its stable name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Reason([u8; 4]);

impl Reason {
    /// Hashes a name. A quick hash does: the names are ours, and a test sees that no two look alike.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut hasher = FnvHasher::default();
        hasher.write(name.as_bytes());
        let [.., a, b, c, d] = hasher.finish().to_be_bytes();
        Self([a, b, c, d])
    }
}

/// Seals the records of refused requests into their ids, and opens them.
pub struct RequestIdKey(LessSafeKey);

impl RequestIdKey {
    /// Makes a key of 32 random bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes).expect("32 bytes are a key");
        Self(LessSafeKey::new(key))
    }

    /// Returns the whole id of a refused request: the drawn one, which is also the nonce, and the sealed record.
    #[must_use]
    pub fn seal(&self, id: RequestId, record: &Record<'_>) -> String {
        let mut sealed = Vec::with_capacity(ROOM);
        sealed.extend(id.0);
        record.write(&mut sealed);
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(id.0),
                Aad::from(CONTEXT),
                &mut sealed[NONCE_LEN..],
            )
            .expect("a record is not too long");
        sealed.extend(tag.as_ref());
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Opens the record in an id. `None` if it wasn't sealed with this key, or is the bare id of a granted request.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<Record<'static>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(CONTEXT), sealed)
            .ok()?;
        Record::from_bytes(opened)
    }
}

const CONTEXT: &[u8] = b"guestpass request id 1";

/// The length of a record before its parameter. It is always the same, so that the length of an id tells no more than
/// its answer does.
const FIXED: usize = 8 + NODE + 4 + 16;
const NODE: usize = 16;
/// The bytes of an id whose record has a parameter of a usual length.
const ROOM: usize = NONCE_LEN + FIXED + 32 + 16;

impl Record<'_> {
    fn write(&self, bytes: &mut Vec<u8>) {
        let mut node = [0; NODE];
        let length = self.node.len().min(NODE);
        node[..length].copy_from_slice(&self.node.as_bytes()[..length]);
        bytes.extend(self.at.as_millis().to_be_bytes());
        bytes.extend(node);
        bytes.extend(self.reason.0);
        bytes.extend(self.grant.map_or([0; 16], GrantId::to_bytes));
        bytes.extend(self.parameter.iter().flat_map(|name| name.bytes()));
    }
}

impl Record<'static> {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk()?;
        let (node, rest) = rest.split_first_chunk::<NODE>()?;
        let (reason, rest) = rest.split_first_chunk()?;
        let (grant, parameter) = rest.split_first_chunk()?;
        let node = String::from_utf8_lossy(node);
        let parameter = String::from_utf8_lossy(parameter).into_owned();
        Some(Self {
            at: Timestamp::from_millis(i64::from_be_bytes(*at)),
            node: node.trim_end_matches('\0').to_owned().into(),
            reason: Reason(*reason),
            grant: GrantId::from_bytes(*grant),
            parameter: (!parameter.is_empty()).then(|| parameter.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SecureGenerator;

    #[test]
    fn what_is_sealed_is_read_back_and_an_id_is_no_option() {
        let random = SecureGenerator::new();
        let key = RequestIdKey::new(&[1; 32]);
        let record = Record {
            at: Timestamp::from_millis(1_800_000_000_123),
            node: "node-1".into(),
            reason: Reason::of("grant_gone"),
            grant: GrantId::from_bytes([1; 16]),
            parameter: Some("state".into()),
        };
        for _ in 0..1000 {
            let id = RequestId::draw(&random);
            let text = key.seal(id, &record);
            assert!(
                text.starts_with(&id.to_string()) && !text.starts_with('-'),
                "{text}"
            );
            assert_eq!(key.open(&text).as_ref(), Some(&record));
            assert_eq!(RequestIdKey::new(&[2; 32]).open(&text), None);
        }
    }

    #[test]
    fn no_two_reasons_look_alike() {
        let names: std::collections::HashSet<_> = guestpass_core::refusal::Refusal::all()
            .iter()
            .map(|refusal| Reason::of(refusal.name()))
            .collect();
        assert_eq!(names.len(), guestpass_core::refusal::Refusal::all().len());
    }
}
