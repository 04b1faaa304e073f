//! The guest that follows from one whose grant is over, for clients that have chosen it ([`OnEnded::NewGuest`]): apps that were
//! shipped and never authorize a second time.
//!
//! The new guest is derived from the refresh token by a keyed hash, and the token then counts as generation 0 of the new grant. So
//! requests that repeat or race agree, the rules of a grant decide about retries and replays, and nothing that is stored connects
//! the new guest with the one of before (decision 19).
//!
//! [`OnEnded::NewGuest`]: guestpass_core::client::OnEnded::NewGuest

use std::sync::Arc;

use guestpass_core::client::Client;
use guestpass_core::credential::Credential;
use guestpass_core::grant::{Generation, Grant, GrantId};
use guestpass_core::policy::Policy;
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::refusal::Refusal;

use crate::app::App;
use crate::clock::Reading;
use crate::error::Error;
use crate::grants::Tokens;
use crate::request_context;
use crate::source::Source;
use crate::store::{Outcome, Proof, Redeemed, Tombstone, Unavailable, Write};

/// Returns the refusal of a refresh token whose grant is over, if that is all there is to say of it. `None` of a redemption is a
/// grant that is gone.
pub(crate) fn refusal_if_over(proof: Proof, redeemed: Option<&Redeemed>) -> Option<Refusal> {
    match (proof, redeemed) {
        (Proof::Code(_), _) => None,
        (Proof::RefreshToken(_), None) => Some(Refusal::GrantGone),
        (Proof::RefreshToken(_), Some(redeemed)) => {
            redeemed.decision.refusal_if_over(&redeemed.read)
        }
    }
}

impl App {
    /// Answers a refresh token whose grant is over with tokens of the guest that follows from it.
    ///
    /// # Errors
    /// The `refusal` of before if that guest has been there and is gone, [`Refusal::RateLimited`] if its `source` or client has had
    /// enough new guests; [`Unavailable`] if only a clock in doubt says that the grant is over, or the store can't answer.
    pub(crate) async fn succeed(
        &self,
        client: &Client,
        policy: &Arc<Policy>,
        token: Credential,
        refusal: Refusal,
        source: Option<Source>,
        token_id: [u8; 16],
    ) -> Result<Tokens, Error> {
        let is_by_time = matches!(refusal, Refusal::RefreshTokenExpired | Refusal::GrantEnded);
        if is_by_time && self.clock.is_doubted() {
            // A clock that runs ahead must not turn every guest into another for good.
            return Err(Reading::doubt().into());
        }
        let (id, network_id) = self.keys.now().successor(client.number, token);
        let proof = Proof::RefreshToken(Generation::CODE);
        let mut is_there = false;
        for _ in 0..ATTEMPTS {
            let redemption = self.redemption(client, policy, id, proof);
            if let Some(redeemed) = self.grants.redeem(redemption).await? {
                request_context::grant(id);
                // This is the last word, a refusal too: a guest has no second successor.
                return match self.granted(client, policy, proof, redeemed, token_id) {
                    Ok(tokens) => Ok(tokens),
                    Err(denied) => Err(self.deny(client, denied).await?.about(id)),
                };
            }
            if is_there {
                // Its grant was removed.
                return Err(refusal.into());
            }
            is_there = self.grants.load_profile(id.profile).await?.is_some();
            if is_there {
                // Perhaps it was inserted by another request since the grant was looked for.
                continue;
            }
            if self.tombstone_of(id.profile).await?.is_some() {
                return Err(refusal.into());
            }
            self.check_new_guest(client, source)?;
            if let Some(grant) = self
                .insert_successor(client, policy, id, network_id)
                .await?
            {
                request_context::grant(id);
                if let Some(tombstone) = self.tombstone_of(id.profile).await? {
                    // Erased between the two looks. Whoever erases later finds the rows.
                    let erase = Write::EraseGuest(id.profile, tombstone, None);
                    self.grants.write(erase).await?;
                    return Err(refusal.into());
                }
                tracing::info!(
                    target: "guestpass::security",
                    { request.id = request_context::request(), grant.id = %id, client.id = %client.id, reason = refusal.name() },
                    "new guest in place of one that is over"
                );
                self.note_granted(proof, "new_guest");
                return Ok(self.mint(client, policy, &grant, token_id, grant.issued_at));
            }
        }
        Err(Unavailable("the guest that follows was changed by others meanwhile".into()).into())
    }

    /// Inserts a guest with its grant. `None` if another request was faster.
    async fn insert_successor(
        &self,
        client: &Client,
        policy: &Policy,
        id: GrantId,
        network_id: NetworkId,
    ) -> Result<Option<Grant>, Error> {
        let reading = self.clock.reading();
        let profile = Profile::new(id.profile, network_id, client.number, reading.now);
        let grant = Grant::issue_active(id, client.number, network_id, policy, reading.now)
            .ending_from(reading.earliest, policy)
            .ok_or_else(Reading::doubt)?;
        let write = Write::InsertGuest(profile, grant.clone());
        let outcome = self.grants.write(write).await?;
        Ok((outcome == Outcome::Done).then_some(grant))
    }

    /// Returns what says that a guest was erased, by the rows: the filter doesn't look back so far.
    async fn tombstone_of(&self, guest: ProfileId) -> Result<Option<Tombstone>, Unavailable> {
        let hash = self.keys.now().tombstone(guest);
        Ok(self.revoked.tombstones(vec![hash]).await?.pop())
    }
}

/// Limits the times that the successor is looked for before the client is told to try again.
const ATTEMPTS: usize = 3;
