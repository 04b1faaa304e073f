//! `GET /oauth/guestpass.js`: the JavaScript client for pages, the same bytes as in its package (`sdk/js`).

use std::time::Duration;

use axum::body::Bytes;
use serde_json::{Value, json};

use super::document::Document;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema};

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/guestpass.js",
    allow: "GET, HEAD, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Anyone,
    early_check: None,
    operations: &[Operation {
        methods: &["GET", "HEAD"],
        query: None,
        id: "script",
        summary: "The JavaScript client for pages",
        about: "A module: `<script type=\"module\" src=\"/oauth/guestpass.js?client_id=ID\">` gives the page a guest, and `import` \
                from it does nothing by itself. It changes with the server's version.",
        answers: &[
            Answer {
                media_type: MEDIA_TYPE,
                ..Answer::document(
                    "The module.",
                    Schema {
                        name: "Script",
                        of: schema,
                    },
                )
            },
            Answer::NOT_MODIFIED,
        ],
    }],
};

const MEDIA_TYPE: &str = "text/javascript";

fn schema() -> Value {
    json!({"type": "string", "description": "An ECMAScript module."})
}

pub(super) fn document() -> Document {
    let script = include_bytes!("../../../sdk/js/guestpass.min.js");
    Document::of_type(MEDIA_TYPE, Bytes::from_static(script), MAX_AGE)
}

/// As long as a page may run the client of before an upgrade.
const MAX_AGE: Duration = Duration::from_secs(600);
