//! Checks that credentials and tokens still work.

use std::sync::Arc;

use axum::http::StatusCode;
use guestpass::clock::Clock;
use guestpass::config::Config;
use guestpass::store::sqlite::Synchronous;
use guestpass_core::client::{Change, ClientId, ClientSettings};
use tempfile::TempDir;

use super::{Answer, Sent, TestApp, Tokens, introspect, refresh, verify};

impl TestApp {
    /// Returns whether tokens are LIVE, as the cases say: the refresh token at the token endpoint, the access token at
    /// forward-auth and at introspection. All three must agree.
    pub(crate) async fn is_live(&self, tokens: &Tokens) -> bool {
        let active = self.is_active(&tokens.access_token).await;
        let refreshes = self.refreshes(tokens).await;
        let passes = self.passes(&tokens.access_token).await;
        assert_eq!(
            (passes, active),
            (refreshes, refreshes),
            "forward-auth and introspection, against the token endpoint"
        );
        refreshes
    }

    /// Returns whether the refresh token works, however old the access token is.
    pub(crate) async fn refreshes(&self, tokens: &Tokens) -> bool {
        let client_id = tokens.claims["client_id"].as_str().unwrap();
        let request = refresh(&tokens.refresh_token).set("client_id", client_id);
        let answer = self.ask_copy(client_id, request).await;
        match answer.status {
            StatusCode::OK => true,
            StatusCode::BAD_REQUEST => false,
            _ => panic!("{answer:?}"),
        }
    }

    /// Returns whether introspection by a confidential client reports a token as active.
    pub(crate) async fn is_active(&self, token: &str) -> bool {
        const ASKS: &str = "asks";
        let request = introspect(token).set("client_id", ASKS);
        let answer = self.ask_copy(ASKS, request).await;
        answer.json()["active"].as_bool().unwrap()
    }

    /// Returns whether forward-auth lets an access token through.
    pub(crate) async fn passes(&self, access_token: &str) -> bool {
        self.app.follow().await;
        let answer = self.send(verify(access_token)).await;
        match answer.status {
            StatusCode::OK => true,
            StatusCode::UNAUTHORIZED => false,
            _ => panic!("{answer:?}"),
        }
    }

    /// Sends a request of that client to a server on a copy of the database: asking must not change what is asked
    /// about. The copy knows a confidential client of any name, and has an API key for each.
    async fn ask_copy(&self, client_id: &str, request: Sent) -> Answer {
        let database = self.database.beside("copy");
        self.database.copy_to(&database).await;
        // As on another machine: a journal of its own, which has nothing to repeat.
        let directory = Arc::new(TempDir::new().unwrap());
        let config = Config {
            node: "copy".to_owned(),
            synchronous: Synchronous::Off,
            ..(*self.config).clone()
        };
        let (clock, random) = (self.clock.clone(), self.random.clone());
        let master_key = self.master_key.clone();
        let copy = Self::start(config, database, directory, master_key, clock, random).await;
        let known = self.app.clients().by_id(client_id);
        let request = if known.is_none_or(|client| client.confidential) {
            let id: ClientId = client_id.parse().unwrap();
            let add = Change::AddClient {
                id,
                settings: ClientSettings {
                    confidential: Some(true),
                    ..ClientSettings::default()
                },
                api_key: None,
                now: self.clock.now(),
            };
            let _ = copy.store.change(add).await;
            request.header("x-api-key", &copy.add_api_key(client_id, None).await)
        } else {
            request
        };
        copy.send_http(request.into_request()).await
    }
}
