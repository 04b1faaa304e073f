//! Introspection of tokens by the rows, not by the filter (RFC 7662).

use guestpass_core::client::{ClaimName, Client};
use guestpass_core::credential::Credential;
use guestpass_core::profile::ProfileId;
use serde::Serialize;
use serde_json::Value;

use crate::app::App;
use crate::error::Error;
use crate::store::Unavailable;

/// The answer of the introspection endpoint (RFC 7662 §2.2). A token that doesn't work has `active` and nothing else.
#[derive(Debug, Default, Serialize)]
pub struct Introspection {
    active: bool,
    #[serde(flatten)]
    claims: Option<Claims>,
}

#[derive(Debug, Serialize)]
struct Claims {
    token_type: &'static str,
    iss: String,
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subn: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aud: Vec<String>,
    client_id: String,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    sid: String,
    #[serde(flatten)]
    told: Told,
}

/// Tells a client of a guest what it has chosen to be told, each absent if the guest has none.
#[derive(Debug, Default, Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attrs: Option<Value>,
}

impl App {
    /// Introspects a token for a confidential client: an access token of which the client is the audience, or one of
    /// its own refresh tokens. Any other token is reported as inactive (RFC 7662 §4).
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn introspect(
        &self,
        client: &Client,
        token: &str,
    ) -> Result<Introspection, Unavailable> {
        let claims = match self.keys.open(token).await? {
            Some(credential) => self.introspect_credential(client, credential).await?,
            None => self.introspect_access_token(client, token).await?,
        };
        Ok(Introspection {
            active: claims.is_some(),
            claims,
        })
    }

    async fn introspect_access_token(
        &self,
        client: &Client,
        token: &str,
    ) -> Result<Option<Claims>, Unavailable> {
        let Some(token) = Error::none_if_refused(self.check_for(client, token).await)? else {
            return Ok(None);
        };
        let told = self.told(client, token.grant.profile).await?;
        let claims = token.claims;
        Ok(Some(Claims {
            token_type: "Bearer",
            iss: claims.issuer,
            sub: claims.subject,
            subn: claims.network_id,
            aud: claims.audience,
            client_id: claims.client_id,
            iat: claims.issued_at,
            exp: claims.expires_at,
            jti: Some(claims.token_id),
            sid: token.grant.to_string(),
            told,
        }))
    }

    async fn introspect_credential(
        &self,
        client: &Client,
        credential: Credential,
    ) -> Result<Option<Claims>, Unavailable> {
        let Some(grant) = self.grant_of(client, credential).await? else {
            return Ok(None);
        };
        let told = self.told(client, grant.id.profile).await?;
        Ok(Some(Claims {
            token_type: "refresh_token",
            iss: self.issuer.as_str().to_owned(),
            sub: grant.id.profile.to_string(),
            subn: Some(grant.network_id.to_string()),
            aud: Vec::new(),
            client_id: client.id.as_str().to_owned(),
            iat: grant.advanced_at.as_seconds(),
            exp: grant.expires_at.as_seconds(),
            jti: None,
            sid: grant.id.to_string(),
            told,
        }))
    }

    /// Returns what the client is told of a guest, by the guest's row.
    async fn told(&self, client: &Client, guest: ProfileId) -> Result<Told, Unavailable> {
        if client.claims.is_empty() {
            return Ok(Told::default());
        }
        let Some(guest) = self.grants.load_profile(guest).await? else {
            return Ok(Told::default());
        };
        let link = guest.link.filter(|_| client.is_told(ClaimName::CUSTOMER));
        let attributes = guest.attributes.and_then(|all| all.told(&client.claims));
        Ok(Told {
            customer: link.map(|link| link.customer.as_str().to_owned()),
            attrs: attributes.map(|told| told.to_value()),
        })
    }
}
