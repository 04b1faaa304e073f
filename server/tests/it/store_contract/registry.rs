//! Clients, their keys and those of the installation: [`guestpass::store::Registry`].

use guestpass_core::claims::Typ;
use guestpass_core::client::{
    ApiKey, ApiKeyHash, ApiKeyId, Change, ClaimName, Client, ClientId, ClientSettings, OnEnded,
    Origin,
};

use super::{NOW, Store};

mod choices;
mod clients;
mod installation;

pub(super) use self::choices::*;
pub(super) use self::clients::*;
pub(super) use self::installation::*;

const A: &str = "https://a.example";
const B: &str = "http://localhost:3000";

impl Store {
    /// Makes a change that must succeed.
    async fn change(&self, change: Change) {
        self.registry.change(change).await.unwrap();
    }

    /// The client with that id, which must be there.
    async fn client(&self, id: &str) -> Client {
        let (_, clients) = self.registry.clients().await.unwrap();
        clients
            .into_iter()
            .find(|client| client.id == client_id(id))
            .unwrap()
    }

    async fn revision(&self) -> i64 {
        self.registry.revision().await.unwrap()
    }
}

fn add(id: &str) -> Change {
    let (id, settings) = (client_id(id), ClientSettings::default());
    Change::AddClient {
        id,
        settings,
        api_key: None,
        now: NOW,
    }
}

fn set(id: &str, settings: ClientSettings) -> Change {
    Change::SetClient {
        id: client_id(id),
        settings,
    }
}

fn settings(change: impl FnOnce(&mut ClientSettings)) -> ClientSettings {
    let mut settings = ClientSettings::default();
    change(&mut settings);
    settings
}

/// Says what a client may do, in words, and its origins in the order of the alphabet.
fn described(client: &Client) -> String {
    let switches = [
        (client.confidential, "confidential"),
        (client.disabled, "disabled"),
        (client.resume_with_jwt, "resume"),
        (client.on_ended == OnEnded::NewGuest, "new_guest"),
    ];
    let on = switches.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
    let mut origins: Vec<_> = client.origins.iter().map(Origin::as_str).collect();
    origins.sort();
    let may = client.may.iter().map(|may| may.name());
    let claims = client.claims.iter().map(ClaimName::as_str);
    let typ = client.typ.map(Typ::as_str);
    let all = on.chain(origins).chain(may).chain(claims).chain(typ);
    all.collect::<Vec<_>>().join(" ")
}

fn client_id(id: &str) -> ClientId {
    id.parse().unwrap()
}

fn origin(origin: &str) -> Origin {
    origin.parse().unwrap()
}

fn api_key(id: &str) -> ApiKey {
    ApiKey {
        id: ApiKeyId(id.into()),
        hash: ApiKeyHash::of(id.as_bytes()),
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
    }
}
