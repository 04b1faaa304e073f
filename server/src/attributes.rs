//! Attributes of guests, by the word of a back end that holds the guest's access token.

use guestpass_core::attributes::AttributeChanges;
use guestpass_core::client::Client;
use guestpass_core::profile::Profile;

use crate::app::App;
use crate::error::Error;
use crate::links::{ATTEMPTS, overtaken};
use crate::request_context;
use crate::store::{Outcome, Write};

impl App {
    /// Changes the attributes of the guest of an access token. Returns the guest. A repetition writes nothing.
    ///
    /// # Errors
    /// A refusal if the token isn't good or isn't meant for the client, or the attributes would be too long;
    /// [`Unavailable`](crate::store::Unavailable) if the store can't answer, or others changed the guest meanwhile, again and again.
    pub async fn change_attributes(
        &self,
        client: &Client,
        token: &str,
        changes: &AttributeChanges,
    ) -> Result<Profile, Error> {
        let token = self.check_for(client, token).await?;
        request_context::grant(token.grant);
        for _ in 0..ATTEMPTS {
            let guest = self.guest_of(&token).await?;
            let changed = guest.with_attributes(changes);
            match changed.map_err(|refusal| Error::from(refusal).about(token.grant))? {
                None => {
                    self.mend_copies_of(guest.id).await?;
                    return Ok(guest);
                }
                Some(next) => {
                    let write = Write::ChangeProfile(next.clone(), None);
                    if self.grants.write(write).await? == Outcome::Done {
                        return Ok(next);
                    }
                }
            }
        }
        Err(overtaken().into())
    }
}
