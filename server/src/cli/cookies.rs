//! Flags of `guestpass client add | set`: the cookies of a client's pages, and the clients that it hands guests over to.

use guestpass_core::choice::Choice;
use guestpass_core::client::{ClientId, ClientSettings};
use guestpass_core::cookies::{CookieDomain, CookieName};

use super::client::switch;

/// Says how the client's pages keep a guest, and who may take it over.
#[derive(clap::Args)]
#[command(next_help_heading = "Cookies of its pages, and tickets")]
pub(super) struct CookieArgs {
    /// Let its pages keep a guest in cookies of this name, for public clients with origins
    #[arg(long, value_name = "NAME", overrides_with = "no_cookies")]
    cookies: Option<CookieName>,
    /// Let its pages keep no guest in cookies; those that are out are left to expire
    #[arg(long)]
    no_cookies: bool,
    /// Send the access token's cookie to every host below this one, where the server that renders pages is on another host
    #[arg(long, value_name = "HOST", overrides_with = "no_cookie_domain")]
    cookie_domain: Option<CookieDomain>,
    /// Send it to the host of Guestpass alone
    #[arg(long)]
    no_cookie_domain: bool,
    /// Tell its pages the access token as well, so that scripts can call other services with it
    #[arg(long, overrides_with = "no_page_token")]
    page_token: bool,
    /// Hide the access token from scripts
    #[arg(long)]
    no_page_token: bool,
    /// Let it hand its guests over to that client, by tickets (repeatable)
    #[arg(long, value_name = "CLIENT")]
    ticket_to: Vec<ClientId>,
    /// Take that back (repeatable)
    #[arg(long, value_name = "CLIENT")]
    no_ticket_to: Vec<ClientId>,
}

impl CookieArgs {
    /// Adds what the flags ask for to settings.
    pub(super) fn add_to(self, mut settings: ClientSettings) -> ClientSettings {
        settings.cookies = self.cookies;
        settings.cookie_domain = self.cookie_domain;
        settings.page_token = switch(self.page_token, self.no_page_token);
        settings.add_ticket_to = self.ticket_to;
        settings.remove_ticket_to = self.no_ticket_to;
        for (is_unset, choice) in [
            (self.no_cookies, Choice::Cookies),
            (self.no_cookie_domain, Choice::CookieDomain),
        ] {
            if is_unset {
                settings.unset.push(choice);
            }
        }
        settings
    }
}
