//! Links of guests to customers, by the word of a back end that holds the guest's access token.
//!
//! A link is one write. To undo one is an ending (`App::end`): it goes to the journal first, for a restored backup must not
//! bring it back. A link that a restore has lost comes back at the next login.

use guestpass_core::client::Client;
use guestpass_core::customer::{CustomerId, Link, Linking};
use guestpass_core::event::{EventType, UnlinkedBy};
use guestpass_core::grant::Grant;
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::refusal::Refusal;

use crate::access_tokens::VerifiedToken;
use crate::app::App;
use crate::endings::Ending;
use crate::error::Error;
use crate::events::EventRecorder;
use crate::keys::Keys;
use crate::metrics::Linked;
use crate::request_context;
use crate::store::{Grants, Guest, Outcome, Tombstone, Unavailable, Write};

/// Says what became of a guest that was to be linked, or unlinked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkOutcome {
    /// It is linked now.
    Linked,
    /// It was linked to that customer before.
    Already,
    /// It is linked to nobody now.
    Unlinked,
    /// It was linked to nobody before.
    NotLinked,
}

impl LinkOutcome {
    /// Returns the stable name, in answers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Already => "already",
            Self::Unlinked => "unlinked",
            Self::NotLinked => "not_linked",
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
        request_context::grant(token.grant);
        let linked = self.link_guest(client, &token, customer).await;
        self.count_link(client, &token, &linked);
        linked
    }

    /// Undoes the link of the guest of an access token to a customer.
    ///
    /// # Errors
    /// As [`App::link`]; [`Unavailable`] also if the journal can't be written. The link is then undone as soon as it can.
    pub async fn unlink(
        &self,
        client: &Client,
        token: &str,
        customer: &CustomerId,
    ) -> Result<(Profile, LinkOutcome), Error> {
        let token = self.check_for(client, token).await?;
        request_context::grant(token.grant);
        let unlinked = self.unlink_guest(client, &token, customer).await;
        self.count_link(client, &token, &unlinked);
        if let Ok((_, LinkOutcome::Unlinked)) = &unlinked {
            tracing::info!(
                target: "guestpass::security",
                { request.id = request_context::request(), grant.id = %token.grant, client.id = %client.id },
                "guest unlinked"
            );
        }
        unlinked
    }

    async fn unlink_guest(
        &self,
        client: &Client,
        token: &VerifiedToken,
        customer: &CustomerId,
    ) -> Result<(Profile, LinkOutcome), Error> {
        for _ in 0..ATTEMPTS {
            let guest = self.guest_of(token).await?;
            let decision = guest.unlink_from(customer);
            decision.map_err(|refusal| Error::from(refusal).about(token.grant))?;
            let Some(link) = &guest.link else {
                self.mend_copies_of(guest.id).await?;
                return Ok((guest, LinkOutcome::NotLinked));
            };
            let hash = self.keys.now().tombstone_of_link(guest.id, customer);
            // A node whose clock was ahead may have made it.
            let at = self.clock.now().max(link.at);
            let ending = Ending::Link(token.grant, Tombstone { hash, at }, client.number);
            if self.end(ending).await? == Outcome::Done {
                return Ok((guest, LinkOutcome::Unlinked));
            }
        }
        Err(overtaken().into())
    }

    /// Counts what became of a link, and logs a conflict.
    fn count_link(
        &self,
        client: &Client,
        token: &VerifiedToken,
        result: &Result<(Profile, LinkOutcome), Error>,
    ) {
        let outcome = match result {
            Ok((_, outcome)) => outcome.name(),
            Err(Error::Refused(Refusal::LinkedToAnother, _)) => {
                tracing::warn!(
                    target: "guestpass::security",
                    { request.id = request_context::request(), grant.id = %token.grant, client.id = %client.id },
                    "guest is linked to another customer"
                );
                Refusal::LinkedToAnother.name()
            }
            Err(_) => return,
        };
        self.metrics.links.inc(&Linked { outcome });
    }

    pub(crate) async fn guest_of(&self, token: &VerifiedToken) -> Result<Profile, Error> {
        // Erased since its token was looked at.
        let gone = || Error::from(Refusal::AccessTokenGrantEnded).about(token.grant);
        let guest = self.grants.load_profile(token.grant.profile).await?;
        guest.ok_or_else(gone)
    }

    async fn link_guest(
        &self,
        client: &Client,
        token: &VerifiedToken,
        customer: &CustomerId,
    ) -> Result<(Profile, LinkOutcome), Error> {
        if self.retries.holds_link_of(token.grant.profile) {
            return Err(Unavailable("the end of a link of this guest waits".into()).into());
        }
        for _ in 0..ATTEMPTS {
            let guest = self.guest_of(token).await?;
            let decision = guest.link_to(customer, client.number, self.clock.now());
            match decision.map_err(|refusal| Error::from(refusal).about(token.grant))? {
                Linking::Already => {
                    self.mend_copies_of(guest.id).await?;
                    return Ok((guest, LinkOutcome::Already));
                }
                Linking::Link(next) => {
                    let write = Write::ChangeProfile(next.clone(), self.recorder.linked(&next));
                    if self.grants.write(write).await? == Outcome::Done {
                        self.count_recorded(EventType::GuestLinked);
                        return Ok((next, LinkOutcome::Linked));
                    }
                }
            }
        }
        Err(overtaken().into())
    }

    pub(crate) async fn mend_copies_of(&self, guest: ProfileId) -> Result<(), Unavailable> {
        match self.upkeep.profile(guest).await? {
            Some(guest) => mend_copies(&*self.grants, &guest).await,
            None => Ok(()),
        }
    }
}

/// Repeats what the shop has said of a guest in its grants, if one of them lacks it: a crash may have come between, or the
/// grant was being inserted when the others were told.
pub(crate) async fn mend_copies(grants: &dyn Grants, guest: &Guest) -> Result<(), Unavailable> {
    let lacks = |grant: &Grant| grant.lacks_copy_of(&guest.profile);
    if guest.grants.iter().any(lacks) {
        let copy = Write::CopyProfile(guest.profile.clone());
        grants.write(copy).await?;
    }
    Ok(())
}

/// Undoes a link, if the guest has it, and had it no later than its tombstone says; then says so by the tombstone. Returns
/// [`Outcome::Conflict`] if there was nothing to undo. Of two who undo the same link at the same moment, both may have done it.
///
/// # Errors
/// [`Unavailable`] if the store can't answer, or others change the guest meanwhile, again and again.
pub(crate) async fn undo(
    grants: &dyn Grants,
    keys: &Keys,
    recorder: &EventRecorder,
    guest: ProfileId,
    tombstone: Tombstone,
    by: UnlinkedBy,
) -> Result<Outcome, Unavailable> {
    let has = |link: &Link| {
        link.at <= tombstone.at && keys.tombstone_of_link(guest, &link.customer) == tombstone.hash
    };
    let (mut written, mut is_undone) = (None, false);
    for _ in 0..ATTEMPTS {
        let found = grants.load_profile(guest).await?;
        match found
            .as_ref()
            .filter(|guest| guest.link.as_ref().is_some_and(has))
        {
            Some(linked) => {
                let next = linked.unlinked();
                written = Some(next.version);
                let change = Write::ChangeProfile(next, recorder.unlinked(linked, by));
                is_undone |= grants.write(change).await? == Outcome::Done;
                if !is_undone {
                    continue;
                }
            }
            // Its own write, of which it was never told, and whatever was changed since; or that of another who undid it at the
            // same moment. Either may have ended before the grants were told.
            None => {
                if let Some(guest) = found {
                    is_undone |= written.is_some_and(|written| written <= guest.version);
                    grants.write(Write::CopyProfile(guest)).await?;
                }
            }
        }
        grants.write(Write::InsertTombstone(tombstone)).await?;
        // An import that could not know of the tombstone may have put the link back.
        let left = grants.load_profile(guest).await?;
        if left.is_some_and(|guest| guest.link.as_ref().is_some_and(has)) {
            continue;
        }
        return Ok(match is_undone {
            true => Outcome::Done,
            false => Outcome::Conflict,
        });
    }
    Err(overtaken())
}

pub(crate) fn overtaken() -> Unavailable {
    Unavailable("others have changed the guest meanwhile, again and again".into())
}

/// Limits the times that a guest is read and decided on before the client is told to try again.
pub(crate) const ATTEMPTS: usize = 3;
