//! The messages to the shop's receiver, in the section `webhooks` of the document.

use guestpass_core::customer::CustomerId;
use guestpass_core::event::EventType;
use guestpass_core::grant::RevocationReason;
use serde_json::{Map, Value, json};

use super::super::endpoint::{sid, sub, subn};
use super::components;

/// Describes each type of event as a message of its own.
pub(super) fn webhooks() -> Value {
    let webhooks =
        EventType::ALL.map(|event_type| (event_type.name().to_owned(), webhook(event_type)));
    Map::from_iter(webhooks).into()
}

fn webhook(event_type: EventType) -> Value {
    let (id, summary, about) = match event_type {
        EventType::GuestLinked => (
            "guestLinked",
            "A guest was linked to a customer",
            "A client has said at `/oauth/link` which customer the guest is.",
        ),
        EventType::GuestUnlinked => (
            "guestUnlinked",
            "The link of a guest to a customer was undone",
            "By a client, at `/oauth/unlink`; `by` an operator; or again, after a backup was restored.",
        ),
        EventType::GuestErased => (
            "guestErased",
            "A guest is gone, for good",
            "Forget what you keep of the guest. It is the last word about this `sub`, whatever arrives after it.",
        ),
        EventType::GrantEnded => (
            "grantEnded",
            "A grant was revoked",
            "Its refresh token is refused from now on. A grant that expires is no event.",
        ),
    };
    let header = |name: &str, about: &str| {
        json!({
            "name": name, "in": "header", "required": true, "description": about, "schema": {"type": "string"},
        })
    };
    json!({"post": {
        "operationId": id,
        "summary": summary,
        "description": format!("{about} Sent to `events.url`, by Standard Webhooks: at least once, and in no order."),
        "security": [],
        "parameters": [
            header("webhook-id", "The same each time that this event is sent."),
            header("webhook-timestamp", "When it was sent, in seconds since 1970."),
            header("webhook-signature", "`v1,` and the HMAC-SHA256, as base64, of id, timestamp and body with full stops between \
                                         them; one for each secret, with spaces between them."),
        ],
        "requestBody": {"required": true, "content": components::json_content(&schema_name(event_type))},
        "responses": {
            "2XX": {"description": "The event is taken, and not sent again."},
            "default": {"description": "It is sent again, for three days."},
        },
    }})
}

/// Returns the schemas of the messages.
pub(super) fn schemas() -> impl Iterator<Item = (String, Value)> {
    EventType::ALL
        .into_iter()
        .map(|event_type| (schema_name(event_type), schema(event_type)))
}

fn schema_name(event_type: EventType) -> String {
    let (of, what) = match event_type {
        EventType::GuestLinked => ("Guest", "Linked"),
        EventType::GuestUnlinked => ("Guest", "Unlinked"),
        EventType::GuestErased => ("Guest", "Erased"),
        EventType::GrantEnded => ("Grant", "Ended"),
    };
    format!("{of}{what}Event")
}

fn schema(event_type: EventType) -> Value {
    let customer = || json!({"type": "string", "pattern": CustomerId::PATTERN});
    let client_id = || json!({"type": "string", "description": "Absent if the client is gone since, or wasn't asked."});
    let named = |names: &[&str]| json!({"enum": names});
    let (properties, required) = match event_type {
        EventType::GuestLinked => (
            json!({"sub": sub(), "subn": subn(), "customer": customer(), "client_id": client_id()}),
            vec!["sub", "subn", "customer"],
        ),
        EventType::GuestUnlinked => (
            json!({
                "sub": sub(), "subn": subn(), "customer": customer(), "client_id": client_id(),
                "by": named(&["operator", "restore"]),
            }),
            vec!["sub", "subn", "customer"],
        ),
        EventType::GuestErased => (
            json!({
                "sub": sub(), "subn": subn(), "customer": customer(),
                "reason": named(&["guest", "operator", "customer", "retention", "restore"]),
            }),
            vec!["sub", "subn", "reason"],
        ),
        EventType::GrantEnded => {
            let reasons: Vec<_> = RevocationReason::all()
                .map(RevocationReason::name)
                .collect();
            (
                json!({
                    "sub": sub(), "sid": sid(), "customer": customer(), "client_id": client_id(), "reason": named(&reasons),
                }),
                vec!["sub", "sid", "reason"],
            )
        }
    };
    json!({
        "type": "object",
        "properties": {
            "type": {"const": event_type.name()},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": {"type": "object", "properties": properties, "required": required},
        },
        "required": ["type", "timestamp", "data"],
    })
}
