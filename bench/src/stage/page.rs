//! Guests in the cookies of pages, and gateways that know them by these.

use std::process::Command;
use std::time::Duration;

use super::{Demand, Kind, Measured, Stage, measure, target};
use crate::failure::Failure;
use crate::generator::{Load, Pace, Workload};
use crate::guests::{self, Guests, Token};
use crate::process::Server;
use crate::workload::{Fixed, Requests, SessionCreating, SessionRenewing, Target};

/// A running server whose client keeps guests in cookies.
pub(super) struct Page {
    server: Server,
    target: Target,
    guests: Guests,
}

/// Says what a gateway is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shown {
    Header,
    AccessCookie,
    RefreshCookie,
}

impl Stage {
    fn page(&mut self) -> Result<&mut Page, Failure> {
        if self.page.is_none() {
            let (from, guests) = self.seeded(Kind::TenThousand)?;
            let directory = self.plan.directory.join("page");
            guests::copy(&from, &directory)?;
            let server = Server::guestpass(&self.plan.program, &directory, &[])?;
            let target = target(&server);
            let mut command = Command::new(&self.plan.program);
            command.env("GUESTPASS_DATA_DIR", &directory);
            command.args(["client", "set", &target.client_id]);
            let output = command
                .args(["--origin", ORIGIN, "--cookies", "guest"])
                .output()?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(Failure(said));
            }
            // The server follows within a second.
            std::thread::sleep(Duration::from_secs(2));
            self.page = Some(Page {
                server,
                target,
                guests,
            });
        }
        Ok(self.page.as_mut().expect("it is there by now"))
    }

    /// Asks whose requests these are, as a gateway.
    pub(super) fn verify(&mut self, shown: Shown, time: Duration) -> Result<Measured, Failure> {
        let page = self.page()?;
        let (host, client) = (&page.target.host, &page.target.client_id);
        let by_cookie = |cookie: &str| {
            format!(
                "GET /oauth/verify?client_id={client} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n"
            )
        };
        let requests = page.jars()?.into_iter().map(|(access, refresh)| match shown {
            Shown::Header => format!(
                "GET /oauth/verify HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {access}\r\n\r\n"
            ),
            Shown::AccessCookie => by_cookie(&format!("guest={access}; guest-r={refresh}")),
            Shown::RefreshCookie => by_cookie(&format!("guest-r={refresh}")),
        });
        let mut workload = Requests::new(requests.map(String::into_bytes).collect(), 200);
        measure(&page.server, Demand::closed(64, time), &mut workload)
    }

    /// Asks for sessions whose access tokens are fresh.
    pub(super) fn session_current(&mut self, time: Duration) -> Result<Measured, Failure> {
        let page = self.page()?;
        let jars = page.jars()?.into_iter();
        let requests = jars.map(|(access, refresh)| {
            page.target
                .session(&format!("cookie: guest={access}; guest-r={refresh}\r\n"))
        });
        let mut workload = Requests::new(requests.collect(), 200);
        measure(&page.server, Demand::closed(64, time), &mut workload)
    }

    /// Asks for sessions as browsers that have never been here.
    pub(super) fn session_seeding(&mut self, time: Duration) -> Result<Measured, Failure> {
        let page = self.page()?;
        let mut workload = Requests::new(vec![page.target.session("")], 202);
        measure(&page.server, Demand::closed(64, time), &mut workload)
    }

    /// Makes the guests of seeds that were set just now.
    pub(super) fn session_creating(&mut self, time: Duration) -> Result<Measured, Failure> {
        let most = self
            .plan
            .guests
            .map_or(SEEDS, |most| usize::try_from(most).unwrap_or(SEEDS));
        let page = self.page()?;
        let mut workload = SessionCreating::new(&page.target, most);
        page.load(&mut workload)?;
        workload.create();
        measure(&page.server, Demand::closed(64, time), &mut workload)
    }

    /// Renews the sessions of random guests.
    pub(super) fn session_renewing(&mut self, time: Duration) -> Result<Measured, Failure> {
        let page = self.page()?;
        let mut workload = SessionRenewing::new(&page.target, &mut page.guests);
        measure(&page.server, Demand::closed(64, time), &mut workload)
    }

    /// Makes guests by authorize, whose codes nobody redeems.
    pub(super) fn authorize(&mut self, time: Duration) -> Result<Measured, Failure> {
        let page = self.page()?;
        let mut workload = Fixed::authorize(&page.target);
        measure(&page.server, Demand::closed(64, time), &mut workload)
    }
}

/// The origin of the page.
pub(crate) const ORIGIN: &str = "https://shop.example";
/// The guests whose cookies are sent again and again.
const JARS: usize = 1_000;
/// More than are used up within the time of a scenario.
const SEEDS: usize = 150_000;
const PATIENCE: Duration = Duration::from_secs(60);

impl Page {
    /// Signs guests up, and returns their access and refresh tokens.
    fn jars(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut workload = crate::workload::SignUp::new(&self.target);
        (workload.access_tokens, workload.tokens) = (Some(Vec::new()), Some(Vec::new()));
        workload.limit = JARS;
        self.load(&mut workload)?;
        let text = |token: &Token| String::from_utf8_lossy(&token.0).into_owned();
        let access = workload.access_tokens.unwrap_or_default();
        let refresh = workload.tokens.unwrap_or_default();
        Ok(access.into_iter().zip(refresh.iter().map(text)).collect())
    }

    /// Runs a workload to its end, unmeasured.
    fn load(&self, workload: &mut dyn Workload) -> Result<(), Failure> {
        let load = Load {
            address: self.server.address,
            connections: 64,
            pace: Pace::Closed,
            time: PATIENCE,
            fresh_tls: None,
        };
        let outcome = load.run(workload, &mut |_, _| {})?;
        outcome
            .first_failure
            .map_or(Ok(()), |failure| Err(Failure(failure)))
    }
}
