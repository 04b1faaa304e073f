//! `POST /oauth/attributes`: remembers something of a guest.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use guestpass_core::attributes::{Attributes, MAX_NAMES, MAX_TEXT};
use guestpass_core::client::Permission;
use guestpass_core::presented_token::ATTRIBUTES_PARAMETERS;
use guestpass_core::refusal::Refusal;
use serde::Serialize;
use serde_json::{Value, json};

use super::back_end;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, sub};
use crate::app::App;
use crate::error::Error;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/attributes",
    allow: "POST, OPTIONS",
    parameters: ATTRIBUTES_PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::BackEnd,
    early_check: None,
    operations: &[Operation {
        methods: &["POST"],
        query: None,
        id: "attributes",
        summary: "Set attributes of a guest",
        about: "For confidential clients that may (`guestpass client set ID --may attributes`). The access token proves that the \
                caller holds the guest. Names that the request doesn't have stay as they are, and `null` removes one. A guest \
                has at most 16 attributes, and 256 bytes of them as JSON in a token. Clients whose `claims` have their names are \
                told them as `attrs`, in their tokens and at introspection.",
        answers: &[Answer::json(
            "All attributes of the guest.",
            Schema {
                name: "AllAttributes",
                of: schema,
            },
        )],
    }],
};

#[derive(Serialize)]
struct AllAttributes {
    sub: String,
    attributes: Value,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"sub": sub(), "attributes": attributes()},
        "required": ["sub", "attributes"],
        "additionalProperties": false,
    })
}

/// Builds the schema of attributes.
pub(super) fn attributes() -> Value {
    json!({
        "type": "object",
        "description": "What the shop remembers of the guest.",
        "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,31}$"},
        "maxProperties": MAX_NAMES,
        "additionalProperties": {
            "type": ["string", "integer", "boolean"],
            "maxLength": MAX_TEXT,
            "pattern": "^[ -~]*$",
        },
    })
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    back_end::answer(&app, &ENDPOINT, request, async |client, params| {
        client.check_may(Permission::Attributes)?;
        let token = params.required("token")?;
        let changes = params.required("attributes")?;
        let changes = changes.parse().map_err(|_| Refusal::AttributesMalformed)?;
        let guest = app.change_attributes(client, token, &changes).await?;
        let attributes = guest.attributes.as_ref();
        let all = AllAttributes {
            sub: guest.id.to_string(),
            attributes: attributes.map_or_else(|| json!({}), Attributes::to_value),
        };
        Ok(Json(all).into_response())
    })
    .await
}
