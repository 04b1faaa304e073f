//! `POST /oauth/link`: says which customer a guest is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use guestpass_core::client::{Client, Permission};
use guestpass_core::customer::CustomerId;
use guestpass_core::params::Params;
use guestpass_core::presented_token::CUSTOMER_PARAMETERS;
use guestpass_core::refusal::Refusal;
use serde::Serialize;
use serde_json::{Value, json};

use super::back_end;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, sub, subn};
use crate::app::App;
use crate::error::Error;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/link",
    allow: "POST, OPTIONS",
    parameters: CUSTOMER_PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::BackEnd,
    early_check: None,
    operations: &[Operation {
        methods: &["POST"],
        query: None,
        id: "link",
        summary: "Link a guest to a customer",
        about: "For confidential clients that may (`guestpass client set ID --may link`), at every login, **after** the shop has \
                authenticated the customer. The access token proves that the caller holds the guest. A link is a label on the \
                guest, and never a login. It changes no `sub`; several guests may have the same customer, and a repetition changes \
                nothing. A guest that is linked to another customer stays so: the answer is 409, and the device should \
                authorize anew.",
        answers: &[Answer::json(
            "The guest is linked to the customer.",
            Schema {
                name: "Linked",
                of: schema,
            },
        )],
    }],
};

#[derive(Serialize)]
struct Linked<'a> {
    sub: String,
    subn: String,
    customer: &'a str,
    outcome: &'static str,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "sub": sub(),
            "subn": subn(),
            "customer": customer(),
            "outcome": {
                "enum": ["linked", "already"],
                "description": "Whether the guest was linked by this request, or before.",
            },
        },
        "required": ["sub", "subn", "customer", "outcome"],
        "additionalProperties": false,
    })
}

/// Builds the schema of a customer's id.
pub(super) fn customer() -> Value {
    json!({
        "type": "string",
        "pattern": CustomerId::PATTERN,
        "description": "The customer that the guest has become, as the shop says. It is a label, and no login.",
    })
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    back_end::answer(&app, &ENDPOINT, request, async |client, params| {
        let (token, customer) = asked(client, params)?;
        let (guest, outcome) = app.link(client, token, &customer).await?;
        let linked = Linked {
            sub: guest.id.to_string(),
            subn: guest.network_id.to_string(),
            customer: customer.as_str(),
            outcome: outcome.name(),
        };
        Ok(Json(linked).into_response())
    })
    .await
}

/// Reads what a request about a guest and a customer holds, of a client that may ask it.
pub(super) fn asked<'a>(
    client: &Client,
    params: &'a Params<'_>,
) -> Result<(&'a str, CustomerId), Refusal> {
    client.check_may(Permission::Link)?;
    let token = params.required("token")?;
    let customer = params.required("customer")?;
    let customer = customer.parse().map_err(|_| Refusal::CustomerMalformed)?;
    Ok((token, customer))
}
