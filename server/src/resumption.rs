//! A known guest authorizes again with an access token: only for a confidential client that is set to
//! `resume_with_jwt`.
//!
//! It turns an access token into a grant that outlives it, which a token must not do by itself. So the client proves
//! who it is, the grant behind the token must be alive, the new grant ends when that one would, few may live at once,
//! and each use is logged as a warning.

use guestpass_core::authorize::AuthorizeRequest;
use guestpass_core::client::Client;
use guestpass_core::credential::Credential;
use guestpass_core::grant::{Grant, GrantId, Revocation, RevocationReason, surplus};
use guestpass_core::pkce::Challenge;

use crate::app::App;
use crate::error::Error;
use crate::links::mend_copies;
use crate::request_context;
use crate::store::{Outcome, Unavailable, Write};

impl App {
    /// Returns the grant that a client may resume with this access token. `None` unless the client is set to
    /// `resume_with_jwt`, and the token is its own, valid and of a live grant; the guest is then a new one.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn resumable(
        &self,
        client: &Client,
        token: Option<&str>,
    ) -> Result<Option<Grant>, Unavailable> {
        let Some(token) = token.filter(|_| client.resume_with_jwt) else {
            return Ok(None);
        };
        let Some(token) = Error::none_if_refused(self.verify(token))? else {
            return Ok(None);
        };
        if token.client.number != client.number {
            return Ok(None);
        }
        let Some(Some(grant)) = Error::none_if_refused(self.check_rows(&token).await)? else {
            return Ok(None);
        };
        // The token may outlive what a refresh could still prolong; the new grant must not come of that.
        let reading = self.clock.reading();
        let is_live = reading.decide(|now| grant.is_live(now), bool::eq)?;
        Ok(is_live.then_some(grant))
    }

    /// Gives the guest of `grant` one more grant, and returns its code. `None` if the guest was erased meanwhile.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn resume(
        &self,
        client: &Client,
        grant: &Grant,
        request: &AuthorizeRequest<'_>,
    ) -> Result<Option<String>, Unavailable> {
        let Some((id, code)) = self.add_grant(grant, client, request.challenge).await? else {
            return Ok(None);
        };
        request_context::grant(id);
        tracing::warn!(
            target: "guestpass::security",
            { request.id = request_context::request(), grant.id = %id, from = %grant.id, client.id = %client.id },
            "guest resumed with an access token"
        );
        Ok(Some(code))
    }

    /// Gives the guest of `grant` one more grant, for that client. Returns its id and its code; `None` if the guest was erased
    /// meanwhile.
    pub(crate) async fn add_grant(
        &self,
        grant: &Grant,
        client: &Client,
        challenge: Challenge,
    ) -> Result<Option<(GrantId, String)>, Unavailable> {
        let now = self.clock.now();
        let policy = self.clients.policy_of(client);
        let random = self.random.bytes();
        let added = grant.one_more(client.number, random, challenge, &policy, now);
        let (id, generation) = (added.id, added.generation);
        if self.grants.write(Write::InsertGrant(added)).await? == Outcome::Conflict {
            return Ok(None);
        }
        // Read when the grant is there for all to see: whoever links the guest from now on finds it as well.
        if let Some(guest) = self.upkeep.profile(id.profile).await? {
            mend_copies(&*self.grants, &guest).await?;
            self.end_surplus(client, guest.grants).await?;
        }
        let code = self.keys.now().seal(Credential {
            grant: id,
            generation,
        });
        Ok(Some((id, code)))
    }

    /// Revokes the [`surplus`] of a guest's grants of a client.
    async fn end_surplus(&self, client: &Client, grants: Vec<Grant>) -> Result<(), Unavailable> {
        // Not the time at which the grant was made: others that were made meanwhile are newer, and are seen as well.
        let now = self.clock.now();
        for grant in surplus(grants, client.number, now) {
            let reason = RevocationReason::Superseded;
            self.end_grant(client, grant.id, Revocation { at: now, reason })
                .await?;
        }
        Ok(())
    }
}
