//! Sessions: keeps a guest in the cookies of a browser.
//!
//! A page asks for its session at each load. It is answered from the access token while that is fresh, and refreshes otherwise. A
//! guest is made only for a browser that has given a cookie back: the first request gets a seed, which is sealed and stored
//! nowhere, and the second the guest with the ids in it. So a frame, a blocked cookie or a bot makes none, and requests that
//! repeat or race make one.

use std::sync::Arc;
use std::time::Duration;

use guestpass_core::client::Client;
use guestpass_core::cookies::SEED_TTL;
use guestpass_core::credential::{Credential, CredentialKind, Seed};
use guestpass_core::grant::{Generation, Grant, GrantId};
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::refusal::Refusal;
use guestpass_core::ticket::Ticket;
use guestpass_core::token_request::TokenRequest;

use crate::access_tokens::VerifiedToken;
use crate::app::App;
use crate::clock::Reading;
use crate::error::Error;
use crate::grants::{Denied, Tokens};
use crate::request_context;
use crate::source::Source;
use crate::store::{Outcome, Proof, RevokedList, Unavailable, Write};

/// The cookies of a request, as texts: one that isn't text is no token either.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jar<'a> {
    /// The access token; `None` also if there are two.
    pub access_token: Option<&'a str>,
    /// The refresh token.
    pub refresh_token: Option<&'a str>,
    /// The seed.
    pub seed: Option<&'a str>,
}

/// Says whose guest the page would have, if its cookies hold none.
#[derive(Clone, Copy)]
pub enum Brought<'a> {
    /// The guest of a refresh token that the page has kept elsewhere so far.
    RefreshToken(&'a str),
    /// The guest that another client hands over, by the text of a ticket.
    Ticket(&'a str),
}

/// The session of a page.
pub enum Session {
    /// The access token is fresh: nothing was read or written.
    Current {
        /// The guest's `sub`.
        sub: String,
        /// The guest's `subn`.
        subn: String,
        /// The time that is left of the access token.
        expires_in: Duration,
        /// Its text.
        access_token: String,
    },
    /// New tokens, to be set as cookies.
    Kept {
        /// The tokens.
        tokens: Tokens,
        /// They are of a guest who was made for a seed.
        is_new: bool,
    },
    /// Nobody yet: a seed, to be set as a cookie. The page asks once more.
    Again(String),
}

impl App {
    /// Ensures that the browser of this jar has a guest, or can have one. The first that fits decides, in this order: a ticket of
    /// another guest; the refresh token in the jar, with a fresh access token or without; a ticket; the seed in the jar, by which
    /// a refresh token that was brought counts, or a guest is made; a new seed.
    ///
    /// # Errors
    /// A refusal of a ticket; [`Refusal::RateLimited`] if its `source` or client has had enough new guests;
    /// [`Refusal::SessionOvertaken`]; [`Unavailable`] if the store can't answer, or only a clock in doubt says that a guest is over.
    pub async fn ensure_session(
        &self,
        client: &Client,
        jar: Jar<'_>,
        brought: Option<Brought<'_>>,
        source: Option<Source>,
    ) -> Result<Session, Error> {
        let mut decision = "seed";
        if let Some(refresh_token) = self.open_refresh_token(jar.refresh_token).await? {
            if let Some(Brought::Ticket(ticket)) = brought {
                self.check_same_guest(client, refresh_token, ticket).await?;
            }
            let grant = refresh_token.grant;
            if let Some(current) = self.current(client, jar.access_token, grant).await? {
                return Ok(self.counted("current", "current", current));
            }
            match self.refresh_session(client, refresh_token).await? {
                Ok(tokens) => return Ok(self.kept(tokens, false)),
                // Says in the log why the visitor becomes somebody else.
                Err(refusal) => decision = refusal.name(),
            }
        }
        if let Some(Brought::Ticket(ticket)) = brought {
            let tokens = self.redeem_ticket(client, ticket).await?;
            return Ok(self.kept(tokens, false));
        }
        // Only now, for the browser keeps cookies: or each load would use up the refresh token that the page has brought, and after
        // some its grant would be over.
        if let Some(seed) = self.open_seed(jar.seed).await? {
            if let Some(Brought::RefreshToken(text)) = brought
                && let Some(refresh_token) = self.open_refresh_token(Some(text)).await?
                && let Ok(tokens) = self.refresh_session(client, refresh_token).await?
            {
                return Ok(self.kept(tokens, false));
            }
            if let Some(tokens) = self.redeem_seed(client, seed, source).await? {
                return Ok(self.kept(tokens, true));
            }
        }
        Ok(self.counted("seed", decision, Session::Again(self.new_seed())))
    }

    /// Ends the session of this jar: revokes its grant, or erases its guest. Whatever is there that isn't good is no error.
    ///
    /// # Errors
    /// [`Unavailable`] if the journal or the store can't be written.
    pub async fn end_session(
        self: &Arc<Self>,
        client: &Client,
        jar: Jar<'_>,
        erases: bool,
    ) -> Result<(), Unavailable> {
        if !erases {
            let Some(text) = jar.refresh_token else {
                return Ok(());
            };
            return Error::none_if_refused(self.revoke(Some(client), text).await).map(drop);
        }
        match self.guest_in(client, jar).await? {
            Some(guest) => self.erase(guest).await,
            None => Ok(()),
        }
    }

    /// Returns the guest of this jar, by the refresh token if it is good, else by the access token.
    async fn guest_in(
        &self,
        client: &Client,
        jar: Jar<'_>,
    ) -> Result<Option<ProfileId>, Unavailable> {
        if let Some(refresh_token) = self.open_refresh_token(jar.refresh_token).await?
            && let Some(grant) = self.grant_of(client, refresh_token).await?
        {
            return Ok(Some(grant.id.profile));
        }
        let Some(text) = jar.access_token else {
            return Ok(None);
        };
        let Some(token) = Error::none_if_refused(self.verify_for_guest(text))? else {
            return Ok(None);
        };
        let is_own = token
            .client
            .as_ref()
            .is_some_and(|owner| owner.number == client.number);
        let is_good = Error::none_if_refused(self.check_rows_for_guest(&token).await)?.is_some();
        Ok((is_own && is_good).then_some(token.grant.profile))
    }

    /// Checks that a ticket doesn't replace a guest whom the browser has. What is no ticket replaces nobody.
    async fn check_same_guest(
        &self,
        client: &Client,
        refresh_token: Credential,
        ticket: &str,
    ) -> Result<(), Error> {
        let Ok(ticket) = Ticket::parse(ticket) else {
            return Ok(());
        };
        let Some(code) = self.keys.open(ticket.code).await? else {
            return Ok(());
        };
        let differs = code.grant.profile != refresh_token.grant.profile;
        match differs && self.grant_of(client, refresh_token).await?.is_some() {
            true => Err(Refusal::GuestDiffers.into()),
            false => Ok(()),
        }
    }

    async fn redeem_ticket(&self, client: &Client, ticket: &str) -> Result<Tokens, Error> {
        let Ticket { code, verifier } = Ticket::parse(ticket)?;
        let request = TokenRequest::AuthorizationCode { code, verifier };
        let tokens = self.redeem(client, &request, None).await?;
        self.metrics.count_ticket("redeemed");
        Ok(tokens)
    }

    fn kept(&self, tokens: Tokens, is_new: bool) -> Session {
        let decision = tokens.decision;
        self.counted(decision, decision, Session::Kept { tokens, is_new })
    }

    /// Opens the text of a refresh token. `None` if it is none of ours.
    ///
    /// # Errors
    /// [`Unavailable`] if a key may be missing that can't be read.
    pub(crate) async fn open_refresh_token(
        &self,
        text: Option<&str>,
    ) -> Result<Option<Credential>, Unavailable> {
        let Some(text) = text else { return Ok(None) };
        let opened = self.keys.open(text).await?;
        let is_refresh_token = |opened: &Credential| opened.kind() == CredentialKind::RefreshToken;
        Ok(opened.filter(is_refresh_token))
    }

    /// Answers from an access token of that grant, if it is good and a quarter of its life is left.
    async fn current(
        &self,
        client: &Client,
        access_token: Option<&str>,
        grant: GrantId,
    ) -> Result<Option<Session>, Error> {
        let Some(text) = access_token else {
            return Ok(None);
        };
        let Ok(token) = self.verify(text) else {
            return Ok(None);
        };
        let VerifiedToken { claims, .. } = &token;
        let left = claims.expires_at - self.clock.now().as_seconds();
        let life = claims.expires_at - claims.issued_at;
        let is_fresh = left > 0 && left.saturating_mul(4) >= life;
        if token.client.number != client.number || token.grant != grant || !is_fresh {
            return Ok(None);
        }
        // What can't be told now is told by the row.
        if self.check_recent(&token).await.is_err() {
            return Ok(None);
        }
        request_context::grant(grant);
        Ok(Some(Session::Current {
            sub: claims.subject.clone(),
            subn: claims.network_id.clone().unwrap_or_default(),
            expires_in: Duration::from_secs(left.unsigned_abs()),
            access_token: text.to_owned(),
        }))
    }

    /// Refreshes. A token that is dead is refused, and another guest may take its place; a replay ends its grant, as at the token
    /// endpoint.
    async fn refresh_session(
        &self,
        client: &Client,
        refresh_token: Credential,
    ) -> Result<Result<Tokens, Refusal>, Error> {
        request_context::grant(refresh_token.grant);
        let proof = Proof::RefreshToken(refresh_token.generation);
        match self.redeem_at(client, refresh_token.grant, proof).await? {
            Ok(tokens) => Ok(Ok(tokens)),
            Err(None) => Ok(Err(Refusal::GrantGone)),
            Err(Some(denied)) => {
                let refusal = denied.refusal;
                self.deny(client, denied).await?;
                Ok(Err(refusal))
            }
        }
    }

    /// Redeems what proves a right to a grant, unless the refusal isn't the last word. `None` if there is no such grant.
    async fn redeem_at(
        &self,
        client: &Client,
        grant: GrantId,
        proof: Proof,
    ) -> Result<Result<Tokens, Option<Denied>>, Error> {
        let policy = self.clients.policy_of(client);
        let token_id = self.random.bytes();
        let redemption = self.redemption(client, &policy, grant, proof);
        let Some(redeemed) = self.grants.redeem(redemption).await? else {
            return Ok(Err(None));
        };
        match self.granted(client, &policy, proof, redeemed, token_id) {
            Ok(tokens) => Ok(Ok(tokens)),
            Err(denied) => {
                self.check_dead(denied.refusal)?;
                Ok(Err(Some(denied)))
            }
        }
    }

    /// Checks that a refusal is the last word about a refresh token or a seed.
    fn check_dead(&self, refusal: Refusal) -> Result<(), Error> {
        let is_by_time = matches!(refusal, Refusal::RefreshTokenExpired | Refusal::GrantEnded);
        if refusal == Refusal::RefreshTokenOvertaken {
            Err(Refusal::SessionOvertaken.into())
        } else if is_by_time && self.clock.is_doubted() {
            Err(Reading::doubt().into())
        } else {
            Ok(())
        }
    }

    /// Opens a seed that was made about now.
    async fn open_seed(&self, text: Option<&str>) -> Result<Option<Seed>, Unavailable> {
        let Some(text) = text else { return Ok(None) };
        let (seed, now) = (self.keys.open_seed(text).await?, self.clock.now());
        let is_good = |seed: &Seed| {
            seed.made_at.since(now) <= SEED_TTL && now.since(seed.made_at) <= SEED_TTL
        };
        Ok(seed.filter(is_good))
    }

    fn new_seed(&self) -> String {
        let made_at = self.clock.now();
        let profile = ProfileId::new(made_at, self.random.bytes());
        let grant = GrantId::new(profile, self.random.bytes());
        self.keys.now().seal_seed(Seed { made_at, grant })
    }

    /// Makes the guest of a seed; if it is there already, the seed counts as generation 0 of its grant. `None` if nothing good can
    /// come of the seed, which never ends a grant.
    async fn redeem_seed(
        &self,
        client: &Client,
        seed: Seed,
        source: Option<Source>,
    ) -> Result<Option<Tokens>, Error> {
        let id = seed.grant;
        if self.is_erased(id.profile).await? {
            return Ok(None);
        }
        let limited = self.check_new_guest(client, source).err();
        if limited.is_none()
            && let Some(tokens) = self.make_guest(client, id).await?
        {
            return Ok(Some(tokens));
        }
        // Without such a grant, the guest's id was taken by chance.
        let proof = Proof::RefreshToken(Generation::CODE);
        match (self.redeem_at(client, id, proof).await?, limited) {
            (Ok(tokens), _) => {
                request_context::grant(id);
                Ok(Some(tokens))
            }
            // Whoever is there already isn't made again, and no limit holds.
            (Err(None), Some(limited)) => Err(limited.into()),
            (Err(_), _) => Ok(None),
        }
    }

    /// Makes a guest of those ids. `None` if they are taken.
    async fn make_guest(&self, client: &Client, id: GrantId) -> Result<Option<Tokens>, Error> {
        let policy = self.clients.policy_of(client);
        let token_id = self.random.bytes();
        let reading = self.clock.reading();
        let network_id = NetworkId::new(self.random.bytes());
        let profile = Profile::new(id.profile, network_id, client.number, reading.now);
        let grant = Grant::issue_active(id, client.number, network_id, &policy, reading.now)
            .ending_from(reading.earliest, &policy)
            .ok_or_else(Reading::doubt)?;
        let write = Write::InsertGuest(profile, grant.clone());
        if self.grants.write(write).await? == Outcome::Conflict {
            return Ok(None);
        }
        request_context::grant(id);
        let tokens = self.mint(client, &policy, &grant, token_id, reading.now);
        Ok(Some(tokens))
    }

    /// Returns whether a guest was erased lately, as this node knows.
    async fn is_erased(&self, guest: ProfileId) -> Result<bool, Unavailable> {
        let age = self.revocations.age(self.clock.monotonic());
        if age > self.verification.max_staleness {
            return Err(Unavailable(
                "what is known of erasures is too old".to_owned(),
            ));
        }
        let hash = self.keys.now().tombstone(guest);
        self.revocations.is_revoked(RevokedList::Guests, hash).await
    }

    /// Counts a session by its decision, and says what the log is to say of it.
    fn counted(&self, decision: &'static str, logged: &'static str, session: Session) -> Session {
        self.metrics.count_session(decision);
        request_context::decision(logged);
        session
    }
}
