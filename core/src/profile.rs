//! Identifies guests: a profile and its two ids.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

use crate::attributes::{AttributeChanges, Attributes};
use crate::client::ClientNumber;
use crate::customer::{CustomerId, Link};
use crate::refusal::Refusal;
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
    /// The customer that the guest has become.
    pub link: Option<Link>,
    /// The attributes that the shop remembers of the guest.
    pub attributes: Option<Attributes>,
    /// Counts the changes of link and attributes, so that each is a compare-and-set.
    pub version: i64,
    /// The time when the guest was last here, as far as none of its grants says so; the import of one that was. `None` for who
    /// has only the first grant, or never had a token.
    pub seen_at: Option<Timestamp>,
}

/// Repeats in each grant of a guest what the shop has said of the guest, so that a refresh reads one row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProfileCopy {
    /// The version of the profile that it was copied from. A copy never replaces one of a later version.
    pub version: i64,
    /// The customer that the guest has become.
    pub customer: Option<CustomerId>,
    /// The attributes that the shop remembers of the guest.
    pub attributes: Option<Attributes>,
}

impl Profile {
    /// Makes a guest that is linked to nobody.
    #[must_use]
    pub const fn new(
        id: ProfileId,
        network_id: NetworkId,
        client: ClientNumber,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            network_id,
            client,
            created_at,
            link: None,
            attributes: None,
            version: 0,
            seen_at: None,
        }
    }

    /// Returns the guest with other attributes. `None` if they are the same: there is nothing to write.
    ///
    /// # Errors
    /// [`Refusal::AttributesTooLong`].
    pub fn with_attributes(&self, changes: &AttributeChanges) -> Result<Option<Self>, Refusal> {
        let attributes = Attributes::changed(self.attributes.as_ref(), changes)?;
        Ok((attributes != self.attributes).then(|| Self {
            attributes,
            version: self.version + 1,
            ..self.clone()
        }))
    }
}

/// Identifies a guest by a positive number, whose decimal text is the `sub` claim.
///
/// Those that are made here have 16 digits and are below 2^53, so that programs which keep numbers as doubles keep them exactly:
/// milliseconds since [`EPOCH`], then 13 random bits. Ids that are made one after the other lie close together in the
/// store's index, yet none can be computed from another. Two guests of one millisecond have the same with a probability of one
/// in eight thousand; the store reports that as a conflict, and the caller draws again. Ids below and above come from
/// other systems, and stay what they are (decision 17).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProfileId(i64);

impl ProfileId {
    /// Makes an id from the time and random bytes, of which 13 bits count. When the numbers are used up, in 2057, they begin
    /// anew; a time before [`EPOCH`] has those of their end.
    #[must_use]
    pub fn new(now: Timestamp, random: [u8; 2]) -> Self {
        let millis = now.as_millis().wrapping_sub(EPOCH.as_millis());
        let random = i64::from(u16::from_le_bytes(random)) % PER_MILLI;
        Self(FIRST + millis.rem_euclid(MILLIS) * PER_MILLI + random)
    }

    /// Makes the id of a guest that follows from another, of bytes that nobody can choose, of which 47 bits count.
    #[must_use]
    pub const fn of_successor(bytes: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        let number = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Self(FIRST_OF_SUCCESSORS + number % SUCCESSORS)
    }

    /// Returns whether it may be one of [`ProfileId::of_successor`].
    #[must_use]
    pub fn is_of_successor(self) -> bool {
        (FIRST_OF_SUCCESSORS..FIRST_OF_SUCCESSORS + SUCCESSORS).contains(&self.0)
    }

    /// Returns the least id that is made at that time: one that was made earlier is less.
    #[must_use]
    pub fn first_at(now: Timestamp) -> Self {
        Self::new(now, [0; 2])
    }

    /// Returns whether it is one that will be made here, later than `now`.
    #[must_use]
    pub fn is_to_come(self, now: Timestamp) -> bool {
        self >= Self::first_at(now + Duration::from_millis(1)) && self.is_exact_as_double()
    }

    /// Returns whether programs that keep numbers as doubles, as JavaScript and spreadsheets do, keep it exactly.
    #[must_use]
    pub const fn is_exact_as_double(self) -> bool {
        self.0 < 1 << f64::MANTISSA_DIGITS
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

/// 2026-11-01T00:00:00Z, from which ids count.
pub const EPOCH: Timestamp = Timestamp::from_millis(1_793_491_200_000);
/// The first id of a guest that follows from another. Those below have fewer digits.
const FIRST_OF_SUCCESSORS: i64 = 1_000_000_000_000_000;
/// The number of those ids.
const SUCCESSORS: i64 = 1 << 47;
/// The first id that is made of the time.
const FIRST: i64 = FIRST_OF_SUCCESSORS + SUCCESSORS;
/// Ids of one millisecond.
const PER_MILLI: i64 = 1 << 13;
/// Milliseconds until the ids are used up, at 2^53.
const MILLIS: i64 = ((1 << f64::MANTISSA_DIGITS) - FIRST) / PER_MILLI;

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
    fn an_id_has_16_digits_and_is_exact_at_any_time() {
        let times = [0, 1, EPOCH.as_millis() - 1, EPOCH.as_millis(), 1 << 42];
        for millis in times.into_iter().chain([i64::MAX, i64::MIN, -1]) {
            for random in [[0; 2], [255; 2]] {
                let id = ProfileId::new(Timestamp::from_millis(millis), random);
                assert_eq!(id.to_string().len(), 16, "{millis}");
                assert!(id.as_i64() >= FIRST && id.is_exact_as_double(), "{millis}");
            }
        }
    }

    #[test]
    fn the_first_and_the_last_id_lie_at_the_ends_of_their_range() {
        assert_eq!(ProfileId::first_at(EPOCH).as_i64(), FIRST);
        let last = EPOCH + Duration::from_millis(u64::try_from(MILLIS - 1).unwrap());
        assert_eq!(
            ProfileId::new(last, [255; 2]).as_i64(),
            9_007_199_254_740_991
        );
        let anew = last + Duration::from_millis(1);
        assert_eq!(ProfileId::first_at(anew).as_i64(), FIRST);
    }

    #[test]
    fn an_id_of_ours_is_to_come_from_the_next_millisecond_on() {
        let now = EPOCH + Duration::from_secs(86_400);
        let next = now + Duration::from_millis(1);
        for (id, is_to_come) in [
            (1, false),
            (FIRST - 1, false),
            (ProfileId::new(now, [255; 2]).0, false),
            (ProfileId::first_at(next).0, true),
            ((1 << 53) - 1, true),
            (1 << 53, false),
            (i64::MAX, false),
        ] {
            assert_eq!(ProfileId(id).is_to_come(now), is_to_come, "{id}");
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
