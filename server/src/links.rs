//! Links of guests to customers, by the word of a back end that holds the guest's access token.

use guestpass_core::client::Client;
use guestpass_core::customer::{CustomerId, Linking};
use guestpass_core::policy::Audience;
use guestpass_core::profile::Profile;
use guestpass_core::refusal::Refusal;

use crate::access_tokens::VerifiedToken;
use crate::app::App;
use crate::error::Error;
use crate::metrics::Linked;
use crate::request_context;
use crate::store::{Outcome, Unavailable, Write};

/// What became of a guest that was to be linked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkOutcome {
    /// It is linked now.
    Linked,
    /// It was linked to that customer before.
    Already,
}

impl LinkOutcome {
    /// Returns the stable name, in answers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Already => "already",
        }
    }
}

impl App {
    /// Links the guest of an access token to a customer. A repetition writes nothing, so that a back end can do it at every
    /// login: that is what heals a link that a restore has lost.
    ///
    /// # Errors
    /// A refusal if the token isn't good, isn't meant for the client, or the guest is linked to another customer;
    /// [`Unavailable`] if the store can't answer, or others changed the guest meanwhile, again and again.
    pub async fn link(
        &self,
        client: &Client,
        token: &str,
        customer: &CustomerId,
    ) -> Result<(Profile, LinkOutcome), Error> {
        let token = self.check_for(client, token).await?;
        let linked = self.link_guest(client, &token, customer).await;
        let outcome = match &linked {
            Ok((_, outcome)) => outcome.name(),
            Err(Error::Refused(Refusal::LinkedToAnother, _)) => {
                tracing::warn!(
                    target: "guestpass::security",
                    { request.id = request_context::request(), grant.id = %token.grant, client.id = %client.id },
                    "guest is linked to another customer"
                );
                Refusal::LinkedToAnother.name()
            }
            Err(_) => return linked,
        };
        self.metrics.links.get_or_create(&Linked { outcome }).inc();
        linked
    }

    async fn link_guest(
        &self,
        client: &Client,
        token: &VerifiedToken,
        customer: &CustomerId,
    ) -> Result<(Profile, LinkOutcome), Error> {
        let id = token.grant.profile;
        for _ in 0..ATTEMPTS {
            // Erased since its token was looked at.
            let gone = || Error::from(Refusal::AccessTokenGrantEnded).about(token.grant);
            let guest = self.grants.load_profile(id).await?.ok_or_else(gone)?;
            let decision = guest.link_to(customer, client.number, self.clock.now());
            match decision.map_err(|refusal| Error::from(refusal).about(token.grant))? {
                Linking::Already => return Ok((guest, LinkOutcome::Already)),
                Linking::Link(next) => {
                    let write = Write::ChangeProfile(next.clone());
                    if self.grants.write(write).await? == Outcome::Done {
                        return Ok((next, LinkOutcome::Linked));
                    }
                }
            }
        }
        Err(Unavailable("others have changed the guest meanwhile, again and again".into()).into())
    }

    /// Checks that an access token is live by the rows, and meant for that client.
    ///
    /// # Errors
    /// A refusal, or [`Unavailable`] if the store can't answer.
    pub async fn check_for(&self, client: &Client, token: &str) -> Result<VerifiedToken, Error> {
        let token = self.verify(token)?;
        // A client of its own audience is a resource server by that name; the others stand for the issuer.
        let audience = client
            .overrides
            .audience
            .as_ref()
            .map_or(self.issuer.as_str(), Audience::as_str);
        if !token.claims.audience.iter().any(|aud| aud == audience) {
            return Err(Refusal::AccessTokenLacksAudience.into());
        }
        self.check_rows(&token).await?;
        Ok(token)
    }
}

/// How often a guest is read and decided on before the client is told to try again.
const ATTEMPTS: usize = 3;
