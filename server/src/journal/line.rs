//! The encoding of a journal entry as a line of JSON.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::grant::{GrantId, Revocation, RevocationReason};
use guestpass_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Entry, Mark};
use crate::store::{RevokedAccessToken, Tombstone};

/// Encodes an entry as a line, with its line feed.
pub(super) fn written(entry: Entry) -> String {
    serde_json::to_string(&Line::of(entry)).expect("a line is plain data") + "\n"
}

/// Decodes a line. `None` if it is no entry: cut off by a crash, or of a newer version.
pub(super) fn read(line: &[u8]) -> Option<Entry> {
    serde_json::from_slice::<Line>(line).ok()?.entry()
}

/// An entry as JSON. Times are milliseconds since the epoch, ids are base64url.
#[derive(Deserialize, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    GrantRevoked {
        at: i64,
        sid: String,
        reason: String,
    },
    AccessTokenRevoked {
        at: i64,
        jti: String,
        expires_at: i64,
    },
    GuestErased {
        at: i64,
        tombstone: String,
    },
    LinkUndone {
        at: i64,
        tombstone: String,
    },
    Mark {
        mark: String,
        #[serde(default)]
        at: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        went_back_at: Option<i64>,
    },
    MarkStored {
        mark: String,
    },
}

impl Line {
    fn of(entry: Entry) -> Self {
        match entry {
            Entry::GrantRevoked(grant, Revocation { at, reason }) => Self::GrantRevoked {
                at: at.as_millis(),
                sid: grant.to_string(),
                reason: reason.name().to_owned(),
            },
            Entry::AccessTokenRevoked(token) => Self::AccessTokenRevoked {
                at: token.at.as_millis(),
                jti: URL_SAFE_NO_PAD.encode(token.id),
                expires_at: token.expires_at.as_millis(),
            },
            Entry::GuestErased(tombstone) => Self::GuestErased {
                at: tombstone.at.as_millis(),
                tombstone: URL_SAFE_NO_PAD.encode(tombstone.hash),
            },
            Entry::LinkUndone(tombstone) => Self::LinkUndone {
                at: tombstone.at.as_millis(),
                tombstone: URL_SAFE_NO_PAD.encode(tombstone.hash),
            },
            Entry::Mark(mark) => Self::Mark {
                mark: URL_SAFE_NO_PAD.encode(mark.id),
                at: mark.at.as_millis(),
                went_back_at: mark.went_back_at.map(Timestamp::as_millis),
            },
            Entry::MarkStored(mark) => Self::MarkStored {
                mark: URL_SAFE_NO_PAD.encode(mark),
            },
        }
    }

    fn entry(self) -> Option<Entry> {
        let id = |text: String| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok();
        let at = Timestamp::from_millis;
        Some(match self {
            Self::GrantRevoked {
                at: millis,
                sid,
                reason,
            } => {
                let reason = RevocationReason::from_name(&reason);
                let at = at(millis);
                Entry::GrantRevoked(GrantId::from_bytes(id(sid)?)?, Revocation { at, reason })
            }
            Self::AccessTokenRevoked {
                at: millis,
                jti,
                expires_at,
            } => Entry::AccessTokenRevoked(RevokedAccessToken {
                id: id(jti)?,
                at: at(millis),
                expires_at: at(expires_at),
            }),
            Self::GuestErased {
                at: millis,
                tombstone,
            } => Entry::GuestErased(Tombstone {
                hash: id(tombstone)?,
                at: at(millis),
            }),
            Self::LinkUndone {
                at: millis,
                tombstone,
            } => Entry::LinkUndone(Tombstone {
                hash: id(tombstone)?,
                at: at(millis),
            }),
            Self::Mark {
                mark,
                at: millis,
                went_back_at,
            } => Entry::Mark(Mark {
                id: id(mark)?,
                at: at(millis),
                went_back_at: went_back_at.map(at),
            }),
            Self::MarkStored { mark } => Entry::MarkStored(id(mark)?),
        })
    }
}
