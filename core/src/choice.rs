//! The choices of a client: the name, the text and the rules of each.
//!
//! The text of a choice is the same in a setting, a flag, the store and a list: what is written is read again by the
//! same version, and a name that only a newer version knows is kept as it is ([`Client::unknown_choices`]).

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use crate::claims::Typ;
use crate::client::{Client, OnEnded};
use crate::policy::{
    Audience, LateRetry, MAX_CODE_TTL, MAX_GRACE, PolicyError, check_max_unproven,
};
use crate::rate_limit::RateLimit;
use crate::time::text_of;

/// One of the things that a client may choose.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(
    missing_docs,
    reason = "the choices are fields of `Policy` and `Client`"
)]
pub enum Choice {
    AccessTtl,
    CodeTtl,
    Grace,
    LateRetry,
    MaxUnproven,
    RefreshIdle,
    RefreshMax,
    Audience,
    QueryParams,
    GuestsPerAddress,
    GuestsPerClient,
    FailuresPerAddress,
    EndingsPerAddress,
    EndingsPerGrant,
    IntrospectionsPerClient,
    AudienceRestricted,
    ResumeWithJwt,
    OnEnded,
    Typ,
    Origins,
    May,
    Claims,
    Cookies,
    CookieDomain,
    PageToken,
    TicketTo,
}

impl Choice {
    /// Lists all of them, in the order in which they are shown.
    pub const ALL: [Self; 26] = [
        Self::AccessTtl,
        Self::CodeTtl,
        Self::Grace,
        Self::LateRetry,
        Self::MaxUnproven,
        Self::RefreshIdle,
        Self::RefreshMax,
        Self::Audience,
        Self::QueryParams,
        Self::GuestsPerAddress,
        Self::GuestsPerClient,
        Self::FailuresPerAddress,
        Self::EndingsPerAddress,
        Self::EndingsPerGrant,
        Self::IntrospectionsPerClient,
        Self::AudienceRestricted,
        Self::ResumeWithJwt,
        Self::OnEnded,
        Self::Typ,
        Self::Origins,
        Self::May,
        Self::Claims,
        Self::Cookies,
        Self::CookieDomain,
        Self::PageToken,
        Self::TicketTo,
    ];

    /// Returns the name, in settings and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessTtl => "access_ttl",
            Self::CodeTtl => "code_ttl",
            Self::Grace => "grace",
            Self::LateRetry => "late_retry",
            Self::MaxUnproven => "max_unproven",
            Self::RefreshIdle => "refresh_idle",
            Self::RefreshMax => "refresh_max",
            Self::Audience => "audience",
            Self::QueryParams => "query_params",
            Self::GuestsPerAddress => "guests_per_address",
            Self::GuestsPerClient => "guests_per_client",
            Self::FailuresPerAddress => "failures_per_address",
            Self::EndingsPerAddress => "endings_per_address",
            Self::EndingsPerGrant => "endings_per_grant",
            Self::IntrospectionsPerClient => "introspections_per_client",
            Self::AudienceRestricted => "audience_restricted",
            Self::ResumeWithJwt => "resume_with_jwt",
            Self::OnEnded => "on_ended",
            Self::Typ => "typ",
            Self::Origins => "origins",
            Self::May => "may",
            Self::Claims => "claims",
            Self::Cookies => "cookies",
            Self::CookieDomain => "cookie_domain",
            Self::PageToken => "page_token",
            Self::TicketTo => "ticket_to",
        }
    }

    /// Finds a choice by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }

    /// Tells whether a setting `tokens.…` or `limits.…` of the same name holds where a client hasn't chosen.
    #[must_use]
    pub const fn has_default(self) -> bool {
        match self {
            Self::AccessTtl
            | Self::CodeTtl
            | Self::Grace
            | Self::LateRetry
            | Self::MaxUnproven
            | Self::RefreshIdle
            | Self::RefreshMax
            | Self::Audience
            | Self::QueryParams
            | Self::GuestsPerAddress
            | Self::GuestsPerClient
            | Self::FailuresPerAddress
            | Self::EndingsPerAddress
            | Self::EndingsPerGrant
            | Self::IntrospectionsPerClient => true,
            Self::AudienceRestricted
            | Self::ResumeWithJwt
            | Self::Typ
            | Self::OnEnded
            | Self::Origins
            | Self::May
            | Self::Claims
            | Self::Cookies
            | Self::CookieDomain
            | Self::PageToken
            | Self::TicketTo => false,
        }
    }

    /// Checks a value for this lifetime, by itself.
    ///
    /// # Errors
    /// [`PolicyError`] if it is too short or too long, or finer than the clock.
    pub fn check_lifetime(self, lifetime: Duration) -> Result<(), PolicyError> {
        let (shortest, longest) = match self {
            Self::Grace => (Duration::ZERO, MAX_GRACE),
            Self::CodeTtl => (SECOND, MAX_CODE_TTL),
            Self::AccessTtl
            | Self::LateRetry
            | Self::MaxUnproven
            | Self::RefreshIdle
            | Self::RefreshMax
            | Self::Audience
            | Self::QueryParams
            | Self::GuestsPerAddress
            | Self::GuestsPerClient
            | Self::FailuresPerAddress
            | Self::EndingsPerAddress
            | Self::EndingsPerGrant
            | Self::IntrospectionsPerClient
            | Self::AudienceRestricted
            | Self::ResumeWithJwt
            | Self::Typ
            | Self::OnEnded
            | Self::Origins
            | Self::May
            | Self::Claims
            | Self::Cookies
            | Self::CookieDomain
            | Self::PageToken
            | Self::TicketTo => (SECOND, CENTURY),
        };
        if lifetime < shortest || lifetime > longest {
            return Err(PolicyError::LifetimeOutOfRange(self, shortest, longest));
        }
        if self == Self::AccessTtl && lifetime.subsec_nanos() != 0 {
            return Err(PolicyError::AccessTtlNotWholeSeconds);
        }
        if !lifetime.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(PolicyError::LifetimeNotWholeMilliseconds(self));
        }
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);
const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

impl Client {
    /// Returns the text of a choice, if the client has made it. The elements of a list stand in their order, separated by
    /// spaces, as in the lists of OAuth.
    #[must_use]
    pub fn choice(&self, choice: Choice) -> Option<String> {
        let chosen = &self.overrides;
        match choice {
            Choice::AccessTtl => chosen.access_ttl.map(text_of),
            Choice::CodeTtl => chosen.code_ttl.map(text_of),
            Choice::Grace => chosen.grace.map(text_of),
            Choice::LateRetry => chosen.late_retry.map(|choice| choice.name().to_owned()),
            Choice::MaxUnproven => chosen.max_unproven.map(|count| count.to_string()),
            Choice::RefreshIdle => chosen.refresh_idle.map(text_of),
            Choice::RefreshMax => chosen.refresh_max.map(text_of),
            Choice::Audience => chosen.audience.as_ref().map(|a| a.as_str().to_owned()),
            Choice::QueryParams => chosen.query_params.map(|allowed| allowed.to_string()),
            Choice::GuestsPerAddress => chosen.guests_per_address.map(|limit| limit.to_string()),
            Choice::GuestsPerClient => chosen.guests_per_client.map(|limit| limit.to_string()),
            Choice::FailuresPerAddress => {
                chosen.failures_per_address.map(|limit| limit.to_string())
            }
            Choice::EndingsPerAddress => chosen.endings_per_address.map(|limit| limit.to_string()),
            Choice::EndingsPerGrant => chosen.endings_per_grant.map(|limit| limit.to_string()),
            Choice::IntrospectionsPerClient => chosen
                .introspections_per_client
                .map(|limit| limit.to_string()),
            Choice::AudienceRestricted => self.audience_restricted.then(|| true.to_string()),
            Choice::ResumeWithJwt => self.resume_with_jwt.then(|| true.to_string()),
            Choice::OnEnded => match self.on_ended {
                OnEnded::Refuse => None,
                chosen @ OnEnded::NewGuest => Some(chosen.name().to_owned()),
            },
            Choice::Typ => self.typ.map(|typ| typ.as_str().to_owned()),
            Choice::Origins => list(&self.origins),
            Choice::May => list(&self.may),
            Choice::Claims => list(&self.claims),
            Choice::Cookies => self.cookies.as_ref().map(ToString::to_string),
            Choice::CookieDomain => self.cookie_domain.as_ref().map(ToString::to_string),
            Choice::PageToken => self.page_token.then(|| true.to_string()),
            Choice::TicketTo => list(&self.ticket_to),
        }
    }

    /// Makes a choice, given its text.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn choose(&mut self, choice: Choice, text: &str) -> Result<(), String> {
        let chosen = &mut self.overrides;
        match choice {
            Choice::AccessTtl => chosen.access_ttl = Some(lifetime(choice)(text)?),
            Choice::CodeTtl => chosen.code_ttl = Some(lifetime(choice)(text)?),
            Choice::Grace => chosen.grace = Some(lifetime(choice)(text)?),
            Choice::LateRetry => chosen.late_retry = Some(late_retry(text)?),
            Choice::MaxUnproven => chosen.max_unproven = Some(max_unproven(text)?),
            Choice::RefreshIdle => chosen.refresh_idle = Some(lifetime(choice)(text)?),
            Choice::RefreshMax => chosen.refresh_max = Some(lifetime(choice)(text)?),
            Choice::Audience => chosen.audience = Some(audience(text)?),
            Choice::QueryParams => chosen.query_params = Some(yes_or_no(text)?),
            Choice::GuestsPerAddress => chosen.guests_per_address = Some(rate_limit(text)?),
            Choice::GuestsPerClient => chosen.guests_per_client = Some(rate_limit(text)?),
            Choice::FailuresPerAddress => chosen.failures_per_address = Some(rate_limit(text)?),
            Choice::EndingsPerAddress => chosen.endings_per_address = Some(rate_limit(text)?),
            Choice::EndingsPerGrant => chosen.endings_per_grant = Some(rate_limit(text)?),
            Choice::IntrospectionsPerClient => {
                chosen.introspections_per_client = Some(rate_limit(text)?)
            }
            Choice::AudienceRestricted => self.audience_restricted = yes_or_no(text)?,
            Choice::ResumeWithJwt => self.resume_with_jwt = yes_or_no(text)?,
            Choice::OnEnded => self.on_ended = on_ended(text)?,
            Choice::Typ => self.typ = Some(typ(text)?),
            Choice::Origins => self.origins = elements(text)?,
            Choice::May => self.may = elements(text)?,
            Choice::Claims => self.claims = elements(text)?,
            Choice::Cookies => self.cookies = Some(text.parse().map_err(str::to_owned)?),
            Choice::CookieDomain => {
                self.cookie_domain = Some(text.parse().map_err(str::to_owned)?);
            }
            Choice::PageToken => self.page_token = yes_or_no(text)?,
            Choice::TicketTo => self.ticket_to = elements(text)?,
        }
        Ok(())
    }

    /// Takes a choice back, so that the default holds again, the server's if it has one.
    pub fn unset(&mut self, choice: Choice) {
        self.unknown_choices.remove(choice.name());
        let chosen = &mut self.overrides;
        match choice {
            Choice::AccessTtl => chosen.access_ttl = None,
            Choice::CodeTtl => chosen.code_ttl = None,
            Choice::Grace => chosen.grace = None,
            Choice::LateRetry => chosen.late_retry = None,
            Choice::MaxUnproven => chosen.max_unproven = None,
            Choice::RefreshIdle => chosen.refresh_idle = None,
            Choice::RefreshMax => chosen.refresh_max = None,
            Choice::Audience => chosen.audience = None,
            Choice::QueryParams => chosen.query_params = None,
            Choice::GuestsPerAddress => chosen.guests_per_address = None,
            Choice::GuestsPerClient => chosen.guests_per_client = None,
            Choice::FailuresPerAddress => chosen.failures_per_address = None,
            Choice::EndingsPerAddress => chosen.endings_per_address = None,
            Choice::EndingsPerGrant => chosen.endings_per_grant = None,
            Choice::IntrospectionsPerClient => chosen.introspections_per_client = None,
            Choice::AudienceRestricted => self.audience_restricted = false,
            Choice::ResumeWithJwt => self.resume_with_jwt = false,
            Choice::OnEnded => self.on_ended = OnEnded::Refuse,
            Choice::Typ => self.typ = None,
            Choice::Origins => self.origins.clear(),
            Choice::May => self.may.clear(),
            Choice::Claims => self.claims.clear(),
            Choice::Cookies => self.cookies = None,
            Choice::CookieDomain => self.cookie_domain = None,
            Choice::PageToken => self.page_token = false,
            Choice::TicketTo => self.ticket_to.clear(),
        }
    }

    /// Returns the names and texts of all choices that the client has made, those of a newer version too.
    #[must_use]
    pub fn choices(&self) -> Vec<(String, String)> {
        let mut choices = self.unknown_choices.clone();
        for choice in Choice::ALL {
            // In the place of a text that only a newer version could read.
            let text = self.choice(choice);
            choices.extend(text.map(|text| (choice.name().to_owned(), text)));
        }
        choices.into_iter().collect()
    }

    /// Makes a choice that was stored. One that this version doesn't know, or whose text it can't read, was made by a newer
    /// version: it is kept, and has no effect here.
    pub fn restore_choice(&mut self, name: String, text: String) {
        let restored =
            Choice::from_name(&name).is_some_and(|choice| self.choose(choice, &text).is_ok());
        if !restored {
            self.unknown_choices.insert(name, text);
        }
    }
}

/// Parses what a refresh gets when its grant is over.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn on_ended(text: &str) -> Result<OnEnded, String> {
    text.parse().map_err(str::to_owned)
}

/// Parses the `typ` of access tokens.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn typ(text: &str) -> Result<Typ, String> {
    text.parse().map_err(str::to_owned)
}

/// Returns the parser of a lifetime, which checks it too.
pub fn lifetime(choice: Choice) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let lifetime = humantime::parse_duration(text)
            .map_err(|_| "write a duration such as 2s, 10m, 24h or 365d".to_owned())?;
        choice
            .check_lifetime(lifetime)
            .map_err(|problem| problem.to_string())?;
        Ok(lifetime)
    }
}

/// Parses `reissue` or `revoke`.
///
/// # Errors
/// A sentence that says what to write instead, as of all parsers here.
pub fn late_retry(text: &str) -> Result<LateRetry, String> {
    text.parse().map_err(str::to_owned)
}

/// Parses and checks a number of unproven generations.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn max_unproven(text: &str) -> Result<u64, String> {
    let count = text
        .parse()
        .map_err(|_| "write a number such as 8".to_owned())?;
    check_max_unproven(count).map_err(|problem| problem.to_string())?;
    Ok(count)
}

/// Parses an audience.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn audience(text: &str) -> Result<Audience, String> {
    text.parse().map_err(str::to_owned)
}

/// Parses a rate limit.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn rate_limit(text: &str) -> Result<RateLimit, String> {
    text.parse().map_err(str::to_owned)
}

/// Parses `true` or `false`.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn yes_or_no(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

/// Parses a list whose elements have spaces between them. Each counts once, and their order doesn't matter.
fn elements<T>(text: &str) -> Result<Vec<T>, String>
where
    T: FromStr<Err = &'static str> + Ord,
{
    let elements: BTreeSet<T> = text
        .split_whitespace()
        .map(|element| element.parse().map_err(str::to_owned))
        .collect::<Result<_, _>>()?;
    Ok(elements.into_iter().collect())
}

/// Writes such a list, unless it is empty.
fn list(elements: &[impl ToString]) -> Option<String> {
    let elements: Vec<_> = elements.iter().map(ToString::to_string).collect();
    (!elements.is_empty()).then(|| elements.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ApiKey, ClaimName, ClientNumber, Permission};
    use crate::policy::PolicyOverrides;
    use crate::time::Timestamp;

    /// A client that has made every choice. A new field of these structures must be chosen here, and is then missed below
    /// until it is a choice.
    fn chooser() -> Client {
        Client {
            number: ClientNumber(1),
            id: "shop".parse().unwrap(),
            confidential: true,
            disabled: false,
            overrides: PolicyOverrides {
                access_ttl: Some(SECOND),
                code_ttl: Some(2 * SECOND),
                grace: Some(Duration::from_millis(1)),
                late_retry: Some(LateRetry::Revoke),
                max_unproven: Some(4),
                refresh_idle: Some(CENTURY),
                refresh_max: Some(90 * SECOND),
                audience: "client".parse().ok(),
                query_params: Some(false),
                guests_per_address: "1/1m".parse().ok(),
                guests_per_client: "2/1m".parse().ok(),
                failures_per_address: "3/1m".parse().ok(),
                endings_per_address: "4/1m".parse().ok(),
                endings_per_grant: "5/1m".parse().ok(),
                introspections_per_client: "6/1m".parse().ok(),
            },
            audience_restricted: true,
            resume_with_jwt: true,
            on_ended: OnEnded::NewGuest,
            typ: Some(Typ::Jwt),
            origins: ["http://localhost:3000", "https://a.example"]
                .map(|origin| origin.parse().unwrap())
                .to_vec(),
            may: vec![Permission::Link],
            cookies: "guest".parse().ok(),
            cookie_domain: "shop.example".parse().ok(),
            page_token: true,
            ticket_to: vec!["back-end".parse().unwrap()],
            claims: vec![ClaimName::CUSTOMER.parse().unwrap()],
            unknown_choices: [("of_2030".to_owned(), "a b".to_owned())].into(),
            api_keys: Vec::<ApiKey>::new(),
            created_at: Timestamp::from_millis(1),
        }
    }

    fn plain() -> Client {
        Client::new(
            ClientNumber(1),
            "shop".parse().unwrap(),
            Timestamp::from_millis(1),
        )
    }

    #[test]
    fn choices_are_read_as_they_were_written() {
        let made = chooser().choices();
        assert_eq!(made.len(), Choice::ALL.len() + 1, "{made:?}");
        let mut read = plain();
        read.confidential = true;
        for (name, text) in made {
            read.restore_choice(name, text);
        }
        assert_eq!(format!("{read:?}"), format!("{:?}", chooser()));
        assert_eq!(plain().choices(), []);
    }

    #[test]
    fn a_choice_that_is_taken_back_leaves_no_trace() {
        for choice in Choice::ALL {
            let mut client = chooser();
            client.unset(choice);
            assert_eq!(client.choice(choice), None, "{choice:?}");
            assert_eq!(client.choices().len(), Choice::ALL.len(), "{choice:?}");
        }
    }

    #[test]
    fn what_only_a_newer_version_can_read_is_kept() {
        for (name, text) in [
            ("of_2030", "x"),
            ("grace", "a while"),
            ("late_retry", "ask"),
        ] {
            let mut client = plain();
            client.restore_choice(name.to_owned(), text.to_owned());
            assert_eq!(client.choices(), [(name.to_owned(), text.to_owned())]);
            assert_eq!(client.overrides, PolicyOverrides::default());
        }
        let mut client = plain();
        client.restore_choice("grace".to_owned(), "a while".to_owned());
        client.choose(Choice::Grace, "1s").unwrap();
        let chosen = [("grace".to_owned(), "1s".to_owned())];
        assert_eq!(client.choices(), chosen);
        client.unset(Choice::Grace);
        assert_eq!(client.choices(), []);
    }

    #[test]
    fn a_list_has_each_element_once() {
        let mut client = plain();
        let text = "https://b.example  https://a.example https://b.example";
        client.choose(Choice::Origins, text).unwrap();
        let list = client.choice(Choice::Origins);
        assert_eq!(list.as_deref(), Some("https://a.example https://b.example"));
        let problem = client.choose(Choice::Origins, "https://a.example *");
        assert!(problem.unwrap_err().contains("https://shop.example"));
    }
}
