//! `GET` and `DELETE /oauth/profile`: the guest reads everything that is stored about it, or erases it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use guestpass_core::grant::Grant;
use guestpass_core::refusal::Refusal;
use guestpass_core::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::attributes::attributes;
use super::endpoint::{
    Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, seconds, sid, sub, subn,
};
use super::visitor::Visitor;
use super::{fetch_metadata, guest_auth, respond};
use crate::access_tokens::GuestToken;
use crate::app::App;
use crate::error::Error;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/profile",
    allow: "GET, HEAD, DELETE, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Guest,
    early_check: None,
    operations: &[
        Operation {
            methods: &["GET", "HEAD"],
            query: None,
            id: "profile",
            summary: "Read the guest's profile",
            about: "For the guest: what is stored about the guest, except secrets and the grants that have ended, which go \
                    within a week or so. Any access token of the guest will do that hasn't expired or been revoked, even if \
                    its client is disabled.",
            answers: &[Answer::json(
                "The guest's profile, with the grants that have not ended.",
                Schema {
                    name: "Profile",
                    of: schema,
                },
            )],
        },
        Operation {
            methods: &["DELETE"],
            query: None,
            id: "erase",
            summary: "Erase the guest",
            about: "For the guest: ends all grants, and deletes them and the profile. It can't be undone. Any access token \
                    of the guest will do, as for reading.",
            answers: &[Answer::empty(
                StatusCode::NO_CONTENT,
                "The guest is erased.",
            )],
        },
    ],
};

/// Is the answer's body. Times are whole seconds since the epoch, as in the guest's tokens.
#[derive(Serialize)]
struct ProfileBody {
    sub: String,
    subn: String,
    /// The client that created the guest; null if it has been removed.
    client_id: Option<String>,
    created_at: i64,
    /// The time at which the guest was last issued a credential.
    last_seen_at: i64,
    /// The time at which the shop said which customer the guest is. Not which: whoever finds a token would read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    linked_at: Option<i64>,
    /// The attributes of the guest, as far as the client is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<Value>,
    grants: Vec<GrantBody>,
}

/// Describes a live grant.
#[derive(Serialize)]
struct GrantBody {
    sid: String,
    client_id: Option<String>,
    issued_at: i64,
    last_seen_at: i64,
    expires_at: i64,
}

fn schema() -> Value {
    let client_id = |about: &str| json!({"type": ["string", "null"], "description": about});
    json!({
        "type": "object",
        "properties": {
            "sub": sub(),
            "subn": subn(),
            "client_id": client_id("The client that created the guest; null if it has been removed."),
            "created_at": seconds("When the guest was created"),
            "last_seen_at": seconds("When the guest last got a code or tokens"),
            "linked_at": seconds("When the shop said which customer the guest is; absent if it hasn't"),
            "attributes": attributes(),
            "grants": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "sid": sid(),
                    "client_id": client_id("The client that the grant belongs to."),
                    "issued_at": seconds("When the code was issued"),
                    "last_seen_at": seconds("When the last code or tokens were issued"),
                    "expires_at": seconds("When the grant ends unless it is refreshed before"),
                },
                "required": ["sid", "client_id", "issued_at", "last_seen_at", "expires_at"],
                "additionalProperties": false,
            }},
        },
        "required": ["sub", "subn", "client_id", "created_at", "last_seen_at", "grants"],
        "additionalProperties": false,
    })
}

pub(super) async fn get(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let token = app.verify_for_guest(guest_auth::token(request.headers())?)?;
    let answer = profile(&app, &token).await;
    Ok(respond::to(token.client, answer))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    fetch_metadata::check(&parts.headers)?;
    let token = app.verify_for_guest(guest_auth::token(&parts.headers)?)?;
    let visitor = Visitor::of_request(&app, &parts);
    let answer = erase(&app, &token, visitor).await;
    Ok(respond::to(token.client, answer))
}

async fn profile(app: &App, token: &GuestToken) -> Result<Response, Error> {
    let now = app.clock.now();
    app.check_rows_for_guest(token).await?;
    let guest = app
        .upkeep
        .profile(token.grant.profile)
        .await?
        .ok_or(Refusal::AccessTokenGrantEnded)?;
    let name = |number| {
        let client = app.clients.by_number(number)?;
        Some(client.id.as_str().to_owned())
    };
    let seen = guest
        .grants
        .iter()
        .map(|grant| grant.advanced_at.as_seconds());
    let attributes = guest
        .profile
        .attributes
        .zip(token.client.as_ref())
        .and_then(|(all, client)| all.told(&client.claims));
    let created_at = guest.profile.created_at.as_seconds();
    let is_shown = |grant: &&Grant| grant.is_live(now) && name(grant.client).is_some();
    Ok(Json(ProfileBody {
        sub: guest.profile.id.to_string(),
        subn: guest.profile.network_id.to_string(),
        client_id: name(guest.profile.client),
        created_at,
        last_seen_at: seen.max().unwrap_or(created_at),
        linked_at: guest.profile.link.map(|link| link.at.as_seconds()),
        attributes: attributes.map(|told| told.to_value()),
        grants: guest
            .grants
            .iter()
            .filter(is_shown)
            .map(|grant| GrantBody {
                sid: grant.id.to_string(),
                client_id: name(grant.client),
                issued_at: grant.issued_at.as_seconds(),
                last_seen_at: grant.advanced_at.as_seconds(),
                expires_at: Timestamp::as_seconds(grant.expires_at),
            })
            .collect(),
    })
    .into_response())
}

async fn erase(app: &Arc<App>, token: &GuestToken, visitor: Visitor) -> Result<Response, Error> {
    app.check_ending(token.client.as_deref(), visitor.source(None)?)?;
    app.check_rows_for_guest(token).await?;
    app.erase(token.grant.profile).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
