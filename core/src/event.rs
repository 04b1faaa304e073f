//! Events: what the shop's back end is told of guests, by webhooks or when it asks.
//!
//! An event is recorded by the write that makes the change, as a row beside the guest, and delivered later (decision 20). Its
//! row has what its message needs, because the guest may be gone by then.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::client::{ClientId, ClientNumber};
use crate::customer::{CustomerId, Link};
use crate::grant::GrantId;
use crate::profile::{NetworkId, Profile, ProfileId};
use crate::time::Timestamp;

/// Something that has become of a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// The id under which it is delivered, however often.
    pub id: EventId,
    /// The time of the write that recorded it.
    pub at: Timestamp,
    /// The kind of change.
    pub event_type: EventType,
    /// The guest.
    pub guest: ProfileId,
    /// The guest's `subn`.
    pub network_id: NetworkId,
    /// The customer that the guest is, or was until then.
    pub customer: Option<CustomerId>,
    /// The client that asked for the change, or whose grant it was.
    pub client: Option<ClientNumber>,
    /// The random part of the id of the grant that has ended.
    pub grant: Option<[u8; 8]>,
    /// The stable name of the reason; of a link and its end, who undid it if it wasn't a client.
    pub reason: Option<Cow<'static, str>>,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum EventType {
    /// A guest has become a customer.
    GuestLinked,
    /// A link was undone.
    GuestUnlinked,
    /// A guest is gone, for good: nothing about it follows.
    GuestErased,
    /// A grant was revoked.
    GrantEnded,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::GuestLinked,
        Self::GuestUnlinked,
        Self::GuestErased,
        Self::GrantEnded,
    ];

    /// Returns the stable name, in messages, the store and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GuestLinked => "guest.linked",
            Self::GuestUnlinked => "guest.unlinked",
            Self::GuestErased => "guest.erased",
            Self::GrantEnded => "grant.ended",
        }
    }
}

impl FromStr for EventType {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let named = |kind: &Self| kind.name() == name;
        let found = Self::ALL.into_iter().find(named);
        found.ok_or("no event has this type")
    }
}

/// Says why a guest was erased.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErasureReason {
    /// The guest asked for it.
    Guest,
    /// An operator did it.
    Operator,
    /// An operator erased the customer that the guest had become.
    Customer,
    /// Nobody had come back for the time that the operator set.
    Retention,
    /// The journal says so: a restored backup had brought the guest back, or the database couldn't take the erasure at once.
    Restore,
}

impl ErasureReason {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Operator => "operator",
            Self::Customer => "customer",
            Self::Retention => "retention",
            Self::Restore => "restore",
        }
    }
}

/// Says who undid a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnlinkedBy {
    /// A client.
    Client(ClientNumber),
    /// An operator.
    Operator,
    /// The journal says so: a restored backup had brought the link back, or the database couldn't take its end at once.
    Restore,
}

/// Identifies an event: 16 random bytes, drawn before its change is written.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Makes an id of random bytes, or of those in the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes for the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

const PREFIX: &str = "evt_";

/// Writes the id as the header `webhook-id` has it: `evt_` and base64url.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        Base64Display::new(&self.0, &URL_SAFE_NO_PAD).fmt(f)
    }
}

impl FromStr for EventId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "an event's id is evt_ and 22 characters";
        let text = text.strip_prefix(PREFIX).ok_or(PROBLEM)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| PROBLEM)?;
        bytes.try_into().map(Self).map_err(|_| PROBLEM)
    }
}

/// The id and the time of an event that is to be recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventStamp {
    /// Its id.
    pub id: EventId,
    /// The time of the write. It must be near, for a reader comes by once.
    pub at: Timestamp,
}

/// The place behind which a reader of all events goes on: the time and id of the last one that it has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EventCursor {
    /// The time.
    pub at: Timestamp,
    /// The id.
    pub id: EventId,
}

impl EventCursor {
    /// The place before all events.
    pub const START: Self = Self {
        at: Timestamp::from_millis(i64::MIN),
        id: EventId([0; 16]),
    };
}

/// Writes milliseconds since the epoch, a full stop, and the event's id.
impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.as_millis(), self.id)
    }
}

impl FromStr for EventCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "a cursor is what `guestpass events` printed, such as 1793491200000.evt_AAAAAAAAAAAAAAAAAAAAAA";
        let (at, id) = text.split_once('.').ok_or(PROBLEM)?;
        Ok(Self {
            at: Timestamp::from_millis(at.parse().map_err(|_| PROBLEM)?),
            id: id.parse().map_err(|_| PROBLEM)?,
        })
    }
}

impl Event {
    /// Tells that a guest is linked now, by a client.
    #[must_use]
    pub fn linked(stamp: EventStamp, guest: &Profile, link: &Link) -> Self {
        Self {
            customer: Some(link.customer.clone()),
            client: link.by,
            ..Self::about(stamp, guest, EventType::GuestLinked)
        }
    }

    /// Tells that a guest was linked until now.
    #[must_use]
    pub fn unlinked(stamp: EventStamp, guest: &Profile, link: &Link, by: UnlinkedBy) -> Self {
        let (client, reason) = match by {
            UnlinkedBy::Client(client) => (Some(client), None),
            UnlinkedBy::Operator => (None, Some("operator")),
            UnlinkedBy::Restore => (None, Some("restore")),
        };
        Self {
            customer: Some(link.customer.clone()),
            client,
            reason: reason.map(Cow::Borrowed),
            ..Self::about(stamp, guest, EventType::GuestUnlinked)
        }
    }

    fn about(stamp: EventStamp, guest: &Profile, event_type: EventType) -> Self {
        Self {
            id: stamp.id,
            at: stamp.at,
            event_type,
            guest: guest.id,
            network_id: guest.network_id,
            customer: None,
            client: None,
            grant: None,
            reason: None,
        }
    }

    /// Returns the place behind this event.
    #[must_use]
    pub const fn cursor(&self) -> EventCursor {
        EventCursor {
            at: self.at,
            id: self.id,
        }
    }

    /// Renders the message: JSON in ASCII, below 1 KiB (Standard Webhooks, "Payload structure"). `client` is the id of
    /// [`Event::client`]; `None` if the client is gone.
    #[must_use]
    pub fn message(&self, client: Option<&ClientId>) -> String {
        let said = self.reason.as_deref();
        let (by, reason) = match self.event_type {
            EventType::GuestUnlinked => (said, None),
            EventType::GuestLinked | EventType::GuestErased | EventType::GrantEnded => (None, said),
        };
        let message = Message {
            event_type: self.event_type.name(),
            timestamp: self.at.to_rfc3339(),
            data: Data {
                sub: self.guest.to_string(),
                subn: (self.event_type != EventType::GrantEnded)
                    .then(|| self.network_id.to_string()),
                sid: self
                    .grant
                    .map(|grant| GrantId::new(self.guest, grant).to_string()),
                customer: self.customer.as_ref().map(CustomerId::as_str),
                client_id: client.map(ClientId::as_str),
                by,
                reason,
            },
        };
        serde_json::to_string(&message).expect("texts become JSON")
    }
}

#[derive(Serialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    event_type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> EventStamp {
        EventStamp {
            id: EventId::from_bytes([7; 16]),
            at: Timestamp::from_millis(1_793_491_200_123),
        }
    }

    fn guest() -> Profile {
        let id = ProfileId::from_i64(1_178_000_000_000_042).unwrap();
        let created_at = Timestamp::from_millis(1_793_491_200_000);
        let network_id = NetworkId::from_bytes([0xab; 16]);
        Profile::new(id, network_id, ClientNumber(1), created_at)
    }

    #[test]
    fn a_message_says_what_its_type_promises() {
        let link = Link {
            customer: "c-4711".parse().unwrap(),
            at: stamp().at,
            by: Some(ClientNumber(2)),
        };
        let client: ClientId = "shop-backend".parse().unwrap();
        let linked = Event::linked(stamp(), &guest(), &link);
        assert_eq!(
            linked.message(Some(&client)),
            r#"{"type":"guest.linked","timestamp":"2026-11-01T00:00:00.123Z","data":{"sub":"1178000000000042","subn":"abababab-abab-abab-abab-abababababab","customer":"c-4711","client_id":"shop-backend"}}"#
        );
        let unlinked = Event::unlinked(stamp(), &guest(), &link, UnlinkedBy::Restore);
        assert_eq!(
            unlinked.message(None),
            r#"{"type":"guest.unlinked","timestamp":"2026-11-01T00:00:00.123Z","data":{"sub":"1178000000000042","subn":"abababab-abab-abab-abab-abababababab","customer":"c-4711","by":"restore"}}"#
        );
        let ended = Event {
            event_type: EventType::GrantEnded,
            customer: None,
            client: Some(ClientNumber(2)),
            grant: Some([1; 8]),
            reason: Some(Cow::Borrowed("revoked_by_client")),
            ..linked
        };
        assert_eq!(
            ended.message(Some(&client)),
            r#"{"type":"grant.ended","timestamp":"2026-11-01T00:00:00.123Z","data":{"sub":"1178000000000042","sid":"AAQvYn-LoCoBAQEBAQEBAQ","client_id":"shop-backend","reason":"revoked_by_client"}}"#
        );
    }

    #[test]
    fn the_longest_message_is_below_one_kibibyte() {
        let link = Link {
            customer: "c".repeat(128).parse().unwrap(),
            at: stamp().at,
            by: None,
        };
        let client: ClientId = "c".repeat(64).parse().unwrap();
        let event = Event {
            grant: Some([0xff; 8]),
            ..Event::linked(stamp(), &guest(), &link)
        };
        let message = event.message(Some(&client));
        assert!(message.len() < 1024 && message.is_ascii(), "{message}");
    }

    #[test]
    fn ids_and_cursors_are_read_as_they_are_written() {
        let id = stamp().id;
        assert_eq!(id.to_string().parse(), Ok(id));
        let cursor = EventCursor { at: stamp().at, id };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "evt_", "1.evt_", "x.evt_AAAAAAAAAAAAAAAAAAAAAA", "1"] {
            assert!(text.parse::<EventCursor>().is_err(), "{text}");
        }
    }
}
