//! Decides on an operator's change to clients, over the list of all of them: a rule may ask about the others too, as the one
//! that no two have the same id.

use crate::answer_size;
use crate::choice::Choice;
use crate::claims::Typ;
use crate::cookies::{CookieDomain, CookieName};
use crate::policy::{Policy, PolicyError, PolicyOverrides};
use crate::time::Timestamp;

use super::{
    ApiKey, ApiKeyId, ClaimName, Client, ClientId, ClientNumber, OnEnded, Origin, Permission,
};

/// A change to the clients.
#[derive(Clone, Debug)]
pub enum Change {
    /// Adds a client.
    AddClient {
        /// The public id, not yet taken.
        id: ClientId,
        /// Its settings.
        settings: ClientSettings,
        /// Its first key, if any.
        api_key: Option<ApiKey>,
        /// The time of creation.
        now: Timestamp,
    },
    /// Changes a client's settings.
    SetClient {
        /// The client.
        id: ClientId,
        /// Only what is to change.
        settings: ClientSettings,
    },
    /// Removes a client, and its grants with it: nothing else has its number, now or ever.
    RemoveClient(ClientId),
    /// Adds a key to a confidential client.
    AddApiKey(ClientId, ApiKey),
    /// Ends a key of a client.
    RevokeApiKey(ClientId, ApiKeyId, Timestamp),
}

/// The changes to a client's settings; `None` leaves one as it is, or at its default in a new client.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// Needs an API key.
    pub confidential: Option<bool>,
    /// Answered as if it didn't exist.
    pub disabled: Option<bool>,
    /// Its own audience stands alone in `aud`.
    pub audience_restricted: Option<bool>,
    /// A guest's access token may stand for the guest at authorize.
    pub resume_with_jwt: Option<bool>,
    /// Decides what a refresh gets when its grant is over.
    pub on_ended: Option<OnEnded>,
    /// The `typ` of its access tokens.
    pub typ: Option<Typ>,
    /// Choices to make.
    pub overrides: PolicyOverrides,
    /// Choices to take back, so that the default holds again.
    pub unset: Vec<Choice>,
    /// The server's defaults. If they are given, the client's choices must go together with them.
    pub defaults: Option<Defaults>,
    /// Origins to add; one that is there already is no error.
    pub add_origins: Vec<Origin>,
    /// Origins to remove.
    pub remove_origins: Vec<Origin>,
    /// All that it may do to guests, in place of what it might before.
    pub may: Option<Vec<Permission>>,
    /// All claims that it is told, in place of those before.
    pub claims: Option<Vec<ClaimName>>,
    /// The name of its cookies.
    pub cookies: Option<CookieName>,
    /// The domain of the cookie with its access token.
    pub cookie_domain: Option<CookieDomain>,
    /// Its pages are told the access token.
    pub page_token: Option<bool>,
    /// Clients to add to those that it may hand its guests over to; one that is there already is no error.
    pub add_ticket_to: Vec<ClientId>,
    /// Clients to remove from them.
    pub remove_ticket_to: Vec<ClientId>,
}

/// Holds what the server's settings say for every client.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The policy where a client hasn't chosen.
    pub policy: Policy,
    /// The `iss` of every token; empty if that isn't known.
    pub issuer: String,
}

/// Names the rule that a change would break. Nothing is changed then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChangeError {
    /// A client has that id already.
    ClientExists,
    /// No client has that id.
    ClientUnknown,
    /// The client is public, so it has no keys.
    ClientPublic,
    /// The client has no such key.
    ApiKeyUnknown,
    /// The client doesn't have an origin that should be removed.
    OriginUnknown(Origin),
    /// The client would have `audience_restricted` without an audience of its own.
    RestrictedToNothing,
    /// The client would have `resume_with_jwt` without being confidential.
    ResumePublic,
    /// The client would have `resume_with_jwt` and a web origin.
    ResumeWithOrigin,
    /// The client would be public and have permissions.
    MayPublic,
    /// The client would have cookies and be confidential.
    CookiesConfidential,
    /// The client would have cookies and no origin from whose pages they may come.
    CookiesWithoutOrigin,
    /// The client would have cookies and an origin from which others could read them on their way.
    CookiesInsecure(Origin),
    /// Two clients would have cookies of one name.
    CookiesTaken(ClientId, ClientId),
    /// A page on that origin wouldn't get the client's cookie with this domain.
    CookieDomainElsewhere(CookieDomain, Origin),
    /// It can't hand a guest over to itself.
    TicketToItself,
    /// There is no such client to hand guests over to.
    TicketTargetUnknown(ClientId),
    /// The client doesn't hand guests over to that one.
    TicketTargetAbsent(ClientId),
    /// The first client has cookies, and would hand guests over to the second, a public one: a script in its page would have a
    /// refresh token.
    TicketTargetPublic(ClientId, ClientId),
    /// The client's choices and the server's defaults don't make a valid policy.
    PolicyInvalid(PolicyError),
    /// An answer to the client could have so many bytes more than [`answer_size::MAX_BYTES`], by the claims that it is told.
    AnswerTooLong(usize),
}

impl Change {
    /// Returns all clients as they are after the change. A client that is added gets the number `next`, which none has had.
    ///
    /// # Errors
    /// [`ChangeError`] for the first rule that the change would break.
    pub fn apply(
        &self,
        clients: &[Client],
        next: ClientNumber,
    ) -> Result<Vec<Client>, ChangeError> {
        let mut clients = clients.to_vec();
        match self {
            Self::AddClient {
                id,
                settings,
                api_key,
                now,
            } => {
                if clients.iter().any(|client| client.id == *id) {
                    return Err(ChangeError::ClientExists);
                }
                let mut client = Client::new(next, id.clone(), *now).change(settings)?;
                if let Some(key) = api_key {
                    client.add_api_key(key.clone())?;
                }
                clients.push(client);
                check_together(&clients)?;
            }
            Self::SetClient { id, settings } => {
                let client = find(&mut clients, id)?;
                *client = client.change(settings)?;
                check_together(&clients)?;
            }
            Self::RemoveClient(id) => {
                find(&mut clients, id)?;
                clients.retain(|client| client.id != *id);
                for client in &mut clients {
                    // Or another client of the same id would be handed their guests.
                    client.ticket_to.retain(|target| target != id);
                }
            }
            Self::AddApiKey(id, key) => find(&mut clients, id)?.add_api_key(key.clone())?,
            Self::RevokeApiKey(id, key, at) => find(&mut clients, id)?.revoke_api_key(key, *at)?,
        }
        Ok(clients)
    }
}

fn find<'a>(clients: &'a mut [Client], id: &ClientId) -> Result<&'a mut Client, ChangeError> {
    let mut clients = clients.iter_mut();
    clients
        .find(|client| client.id == *id)
        .ok_or(ChangeError::ClientUnknown)
}

/// Checks the rules that hold between clients.
fn check_together(clients: &[Client]) -> Result<(), ChangeError> {
    for (at, client) in clients.iter().enumerate() {
        // In a browser's jar, cookies of one name are one.
        let has_name =
            |other: &&Client| client.cookies.is_some() && other.cookies == client.cookies;
        if let Some(other) = clients[..at].iter().find(has_name) {
            return Err(ChangeError::CookiesTaken(
                other.id.clone(),
                client.id.clone(),
            ));
        }
        for id in &client.ticket_to {
            let Some(target) = clients.iter().find(|other| other.id == *id) else {
                return Err(ChangeError::TicketTargetUnknown(id.clone()));
            };
            if target.number == client.number {
                return Err(ChangeError::TicketToItself);
            }
            if client.cookies.is_some() && !target.confidential {
                return Err(ChangeError::TicketTargetPublic(
                    client.id.clone(),
                    id.clone(),
                ));
            }
        }
    }
    Ok(())
}

impl Client {
    /// Returns the client with other settings.
    ///
    /// # Errors
    /// [`ChangeError`] for the first rule that the client would break.
    fn change(&self, settings: &ClientSettings) -> Result<Self, ChangeError> {
        let mut client = self.clone();
        client.confidential = settings.confidential.unwrap_or(self.confidential);
        client.disabled = settings.disabled.unwrap_or(self.disabled);
        client.audience_restricted = settings
            .audience_restricted
            .unwrap_or(self.audience_restricted);
        client.resume_with_jwt = settings.resume_with_jwt.unwrap_or(self.resume_with_jwt);
        client.on_ended = settings.on_ended.unwrap_or(self.on_ended);
        client.typ = settings.typ.or(self.typ);
        client.overrides = settings.overrides.or(&self.overrides);
        for choice in &settings.unset {
            client.unset(*choice);
        }
        client.origins.extend_from_slice(&settings.add_origins);
        client.origins.sort();
        client.origins.dedup();
        for origin in &settings.remove_origins {
            let place = client.origins.iter().position(|known| known == origin);
            let place = place.ok_or_else(|| ChangeError::OriginUnknown(origin.clone()))?;
            client.origins.remove(place);
        }
        if let Some(may) = &settings.may {
            client.may = sorted(may);
        }
        if let Some(claims) = &settings.claims {
            client.claims = sorted(claims);
        }
        if settings.cookies.is_some() {
            client.cookies.clone_from(&settings.cookies);
        }
        if settings.cookie_domain.is_some() {
            client.cookie_domain.clone_from(&settings.cookie_domain);
        }
        client.page_token = settings.page_token.unwrap_or(self.page_token);
        client.ticket_to.extend_from_slice(&settings.add_ticket_to);
        client.ticket_to.sort();
        client.ticket_to.dedup();
        for target in &settings.remove_ticket_to {
            let place = client.ticket_to.iter().position(|known| known == target);
            let place = place.ok_or_else(|| ChangeError::TicketTargetAbsent(target.clone()))?;
            client.ticket_to.remove(place);
        }
        client.check(settings.defaults.as_ref())?;
        Ok(client)
    }

    /// Checks the rules that hold for a client whatever has been changed; those for its policy only over given defaults.
    fn check(&self, defaults: Option<&Defaults>) -> Result<(), ChangeError> {
        // Elsewhere a guest's access token would become a refresh token by itself: the caller must have shown a key, and
        // a page can't keep one.
        if self.resume_with_jwt && !self.confidential {
            return Err(ChangeError::ResumePublic);
        }
        if self.resume_with_jwt && !self.origins.is_empty() {
            return Err(ChangeError::ResumeWithOrigin);
        }
        if !self.may.is_empty() && !self.confidential {
            return Err(ChangeError::MayPublic);
        }
        if self.cookies.is_some() {
            if self.confidential {
                return Err(ChangeError::CookiesConfidential);
            }
            if self.origins.is_empty() {
                return Err(ChangeError::CookiesWithoutOrigin);
            }
            if let Some(origin) = self.origins.iter().find(|origin| !origin.is_secure()) {
                return Err(ChangeError::CookiesInsecure(origin.clone()));
            }
            if let Some(domain) = &self.cookie_domain
                && let Some(origin) = self.origins.iter().find(|origin| !domain.covers(origin))
            {
                let (domain, origin) = (domain.clone(), origin.clone());
                return Err(ChangeError::CookieDomainElsewhere(domain, origin));
            }
        }
        if self.audience_restricted && self.overrides.audience.is_none() {
            return Err(ChangeError::RestrictedToNothing);
        }
        if let Some(Defaults { policy, issuer }) = defaults {
            let policy = policy.with(&self.overrides);
            policy.check().map_err(ChangeError::PolicyInvalid)?;
            let beyond = answer_size::beyond(self, &policy, issuer);
            beyond.map_or(Ok(()), |bytes| Err(ChangeError::AnswerTooLong(bytes)))?;
        }
        Ok(())
    }

    fn add_api_key(&mut self, key: ApiKey) -> Result<(), ChangeError> {
        if !self.confidential {
            return Err(ChangeError::ClientPublic);
        }
        self.api_keys.push(key);
        Ok(())
    }

    /// Ends a key now, unless it has ended before.
    fn revoke_api_key(&mut self, id: &ApiKeyId, at: Timestamp) -> Result<(), ChangeError> {
        let mut keys = self.api_keys.iter_mut();
        let key = keys
            .find(|key| key.id == *id)
            .ok_or(ChangeError::ApiKeyUnknown)?;
        key.revoked_at.get_or_insert(at);
        Ok(())
    }
}

/// Returns a list as it is stored: each element once.
fn sorted<T: Clone + Ord>(elements: &[T]) -> Vec<T> {
    let mut sorted = elements.to_vec();
    sorted.sort();
    sorted.dedup();
    sorted
}
