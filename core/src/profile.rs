//! Identifies guests: a profile and its two ids.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::client::ClientNumber;
use crate::time::Timestamp;

/// Holds a guest, recognised without an account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Profile {
    /// The `sub` of every access token of this guest.
    pub id: ProfileId,
    /// The `subn` of every access token of this guest.
    pub network_id: NetworkId,
    /// The client through which the guest was first authorized.
    pub client: ClientNumber,
    /// The time when the guest was first authorized.
    pub created_at: Timestamp,
}

/// Identifies a guest by a positive 63-bit number: 42 bits of milliseconds since the epoch, then 21 random bits.
///
/// Its decimal text is the `sub` claim. Ids that are made one after the other lie close together in the store's index,
/// yet nobody can guess one from another. Two guests of the same millisecond collide with a probability of one in two
/// million; the store reports that as a conflict, and the caller draws again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProfileId(i64);

impl ProfileId {
    /// Makes an id from the time and random bytes, of which the low 21 bits count.
    #[must_use]
    pub fn new(now: Timestamp, random: [u8; 4]) -> Self {
        let millis = now.as_millis() & ((1 << 42) - 1);
        let random = i64::from(u32::from_le_bytes(random) & ((1 << RANDOM_BITS) - 1));
        Self(((millis << RANDOM_BITS) | random).max(1))
    }

    /// Returns the least id that is made at that time: one that was made earlier is less.
    #[must_use]
    pub fn first_at(now: Timestamp) -> Self {
        Self::new(now, [0; 4])
    }

    /// Makes an id from its number in the store. `None` unless positive.
    #[must_use]
    pub fn from_i64(id: i64) -> Option<Self> {
        (id > 0).then_some(Self(id))
    }

    /// Returns the number for the store.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

const RANDOM_BITS: u32 = 21;

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads the `sub` of an access token: a positive decimal number without sign or leading zero.
impl FromStr for ProfileId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "a `sub` is a positive decimal number of at most 19 digits";
        text.parse()
            .ok()
            .and_then(Self::from_i64)
            .filter(|id| id.to_string() == text)
            .ok_or(PROBLEM)
    }
}

/// Identifies a guest towards existing clients, as the claim `subn`: a random UUID (RFC 9562 §5.4) that never changes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NetworkId(Uuid);

impl NetworkId {
    /// Makes an id from 16 random bytes, of which 122 bits count.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// Makes an id from the bytes in the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the bytes for the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Reads a `subn`: a UUID in its usual form, of whichever version.
impl FromStr for NetworkId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "a `subn` is a UUID, such as 919108f7-52d1-4320-9bac-f847db4148a8";
        Uuid::try_parse(text)
            .ok()
            .map(Self)
            .filter(|id| id.to_string().eq_ignore_ascii_case(text))
            .ok_or(PROBLEM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_positive_for_any_time_and_randomness() {
        for millis in [0, 1, 1_763_750_000_000, (1 << 42) - 1, i64::MAX, -1] {
            for random in [[0; 4], [255; 4]] {
                assert!(ProfileId::new(Timestamp::from_millis(millis), random).as_i64() > 0);
            }
        }
    }

    #[test]
    fn a_sub_is_read_strictly() {
        assert_eq!("94173".parse(), Ok(ProfileId(94173)));
        for text in ["", "0", "-1", "+1", "01", "1 ", "9223372036854775808", "x"] {
            assert!(text.parse::<ProfileId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_subn_is_read_in_its_usual_form() {
        let text = "919108f7-52d1-4320-9bac-f847db4148a8";
        let id: NetworkId = text.parse().unwrap();
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        assert_eq!(id.to_string(), text);
        let (simple, braced) = (text.replace('-', ""), format!("{{{text}}}"));
        for text in ["", "1", &text[1..], &simple, &braced] {
            assert!(text.parse::<NetworkId>().is_err(), "{text}");
        }
    }
}
