//! Whether what a guest was given still works.

use std::sync::Arc;

use axum::http::StatusCode;
use guestpass::app::App;
use guestpass::clock::Clock;
use guestpass::journal::Journal;
use guestpass::metrics::Metrics;
use guestpass::registry::{self, Clients};
use guestpass::revocation::{Now, Recent};
use guestpass::store::{Change, ClientSettings};
use guestpass_core::client::ClientId;
use tower::ServiceExt;

use super::{Answer, DAY, Sent, TestApp, Tokens, config, introspect, refresh, verify};

impl TestApp {
    /// Whether tokens are LIVE, as the cases say: the refresh token at the token endpoint, the access token at
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

    /// Whether the refresh token works, however old the access token is.
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

    /// Whether introspection by a confidential client calls a token active.
    pub(crate) async fn is_active(&self, token: &str) -> bool {
        const ASKS: &str = "asks";
        let request = introspect(token).set("client_id", ASKS);
        let answer = self.ask_copy(ASKS, request).await;
        answer.json()["active"].as_bool().unwrap()
    }

    /// Whether forward-auth lets an access token through.
    pub(crate) async fn passes(&self, access_token: &str) -> bool {
        self.app.follow().await;
        let answer = self.send(verify(access_token)).await;
        match answer.status {
            StatusCode::OK => true,
            StatusCode::UNAUTHORIZED => false,
            _ => panic!("{answer:?}"),
        }
    }

    /// Sends a request of that client to a server on a copy of the database: asking must not change what is asked about.
    /// The copy knows a confidential client of any name, and has an API key for each.
    async fn ask_copy(&self, client_id: &str, request: Sent) -> Answer {
        let copy = self.database.beside("copy");
        self.database.copy_to(&copy).await;
        let store = copy.open(&config(&[("sqlite.synchronous", "off")])).await;
        let id: ClientId = client_id.parse().unwrap();
        let known = self.app.clients.by_id(client_id);
        let request = if known.is_none_or(|client| client.confidential) {
            let add = Change::AddClient {
                id: id.clone(),
                settings: ClientSettings {
                    confidential: Some(true),
                    ..ClientSettings::default()
                },
                api_key: None,
                now: self.clock.now(),
            };
            let _ = store.change(add).await;
            let api_key =
                registry::add_api_key(&*store, id, None, &*self.random, self.clock.now()).await;
            request.header("x-api-key", api_key.unwrap().expose())
        } else {
            request
        };
        let policy = self.app.clients.defaults().clone();
        let app = App {
            grants: store.clone(),
            revoked: store.clone(),
            recent: Recent::load(store.clone(), Now::of(&*self.clock), DAY)
                .await
                .unwrap(),
            upkeep: store.clone(),
            journal: Journal::open(&self.directory.path().join("copy.journal")).unwrap(),
            verifier: self.app.verifier.clone(),
            verification: self.app.verification.clone(),
            clients: Clients::load(store.clone(), policy).await.unwrap(),
            keys: self.app.keys.clone(),
            issuer: self.app.issuer.clone(),
            base_paths: self.app.base_paths.clone(),
            node: self.app.node.clone(),
            metrics: Metrics::new(store.batches()),
            clock: self.clock.clone(),
            random: self.random.clone(),
        };
        let router = guestpass::http::router(Arc::new(app));
        let response = router.oneshot(request.into_request()).await.unwrap();
        Answer::read(response).await
    }
}
