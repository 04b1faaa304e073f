//! The flags with which `guestpass client` gives a client choices of its own, and how it shows what holds.

use std::time::Duration;

use clap::builder::Resettable;
use guestpass_core::choice::{self, Choice, lifetime};
use guestpass_core::claims::Typ;
use guestpass_core::client::{Client, ClientSettings, OnEnded};
use guestpass_core::policy::{Audience, LateRetry, PolicyOverrides};
use guestpass_core::rate_limit::RateLimit;
use serde::Serialize;

use super::client::switch;
use crate::config::{Config, ShownSetting};

/// Each takes `default` for an answer: then the server's setting holds again.
#[derive(clap::Args)]
#[command(next_help_heading = "Choices of its own (`default`: as the setting tokens.… says)")]
pub(super) struct Args {
    /// Lifetime of an access token
    #[arg(long, value_name = "DURATION", value_parser = or_default(lifetime(Choice::AccessTtl)))]
    access_ttl: Option<Given<Duration>>,
    /// Lifetime of a code, at most 10m
    #[arg(long, value_name = "DURATION", value_parser = or_default(lifetime(Choice::CodeTtl)))]
    code_ttl: Option<Given<Duration>>,
    /// How long a retried refresh gets the same answer again, at most 5m
    #[arg(long, value_name = "DURATION", value_parser = or_default(lifetime(Choice::Grace)))]
    grace: Option<Given<Duration>>,
    /// What a retry gets after that: reissue or revoke
    #[arg(long, value_name = "WHAT", value_parser = or_default(choice::late_retry))]
    late_retry: Option<Given<LateRetry>>,
    /// How many times in a row a late retry is reissued before two parties are assumed
    #[arg(long, value_name = "COUNT", value_parser = or_default(choice::max_unproven))]
    max_unproven: Option<Given<u64>>,
    /// How long an unused refresh token works
    #[arg(long, value_name = "DURATION", value_parser = or_default(lifetime(Choice::RefreshIdle)))]
    refresh_idle: Option<Given<Duration>>,
    /// How long a new guest stays recognised at most
    #[arg(long, value_name = "DURATION", value_parser = or_default(lifetime(Choice::RefreshMax)))]
    refresh_max: Option<Given<Duration>>,
    /// What stands before the issuer in `aud`
    #[arg(long, value_name = "TEXT", value_parser = or_default(choice::audience))]
    audience: Option<Given<Audience>>,
    /// Allow token parameters in the query, as existing clients send them
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = or_default(choice::yes_or_no),
        overrides_with = "no_query_params"
    )]
    query_params: Option<Given<bool>>,
    /// Refuse them: --query-params=false
    #[arg(long)]
    no_query_params: bool,
    /// Limit the new guests that one address may bring through this client
    #[arg(long, value_name = "COUNT/DURATION", value_parser = or_default(choice::rate_limit))]
    guests_per_address: Option<Given<RateLimit>>,
    /// Limit the new guests that this client may bring
    #[arg(long, value_name = "COUNT/DURATION", value_parser = or_default(choice::rate_limit))]
    guests_per_client: Option<Given<RateLimit>>,
    /// Limit the wrong keys, codes, verifiers and tokens that one address may show as this client
    #[arg(long, value_name = "COUNT/DURATION", value_parser = or_default(choice::rate_limit))]
    failures_per_address: Option<Given<RateLimit>>,
    /// Limit the revocations and erasures of this client's guests that one address may ask for
    #[arg(long, value_name = "COUNT/DURATION", value_parser = or_default(choice::rate_limit))]
    endings_per_address: Option<Given<RateLimit>>,
    /// Limit the access tokens of one grant that may be revoked; one more ends the grant
    #[arg(long, value_name = "COUNT/DURATION", value_parser = or_default(choice::rate_limit))]
    endings_per_grant: Option<Given<RateLimit>>,
    /// Limit the introspections that this client may ask for
    #[arg(long, value_name = "COUNT/DURATION", value_parser = or_default(choice::rate_limit))]
    introspections_per_client: Option<Given<RateLimit>>,
    /// Answer a refresh whose grant is over, but not for a suspicion or a revocation: refuse, or new_guest for apps that never
    /// authorize a second time
    #[arg(long, value_name = "WHAT", value_parser = or_default(choice::on_ended))]
    on_ended: Option<Given<OnEnded>>,
    /// Write this `typ` into its access tokens: at+jwt, or JWT for libraries that refuse that. Tokens of both are taken until default
    /// takes it back
    #[arg(long, value_name = "TYP", value_parser = or_default(choice::typ))]
    typ: Option<Given<Typ>>,
    /// Leave the issuer out of `aud`, so that only those take the tokens who check the client's own --audience
    #[arg(long, overrides_with = "no_audience_restricted", help_heading = Resettable::Reset)]
    audience_restricted: bool,
    /// Let the issuer stand in `aud` too
    #[arg(long, help_heading = Resettable::Reset)]
    no_audience_restricted: bool,
    /// Let a guest's access token stand for it at authorize: for confidential clients without origins
    #[arg(long, overrides_with = "no_resume_with_jwt", help_heading = Resettable::Reset)]
    resume_with_jwt: bool,
    /// Make every authorize a new guest
    #[arg(long, help_heading = Resettable::Reset)]
    no_resume_with_jwt: bool,
}

impl Args {
    /// Returns the settings that the flags ask for.
    pub(super) fn settings(self) -> ClientSettings {
        let mut unset = Vec::new();
        let query_params = match self.no_query_params {
            true => Some(Given::Value(false)),
            false => self.query_params,
        };
        let overrides = PolicyOverrides {
            access_ttl: chosen(self.access_ttl, Choice::AccessTtl, &mut unset),
            code_ttl: chosen(self.code_ttl, Choice::CodeTtl, &mut unset),
            grace: chosen(self.grace, Choice::Grace, &mut unset),
            late_retry: chosen(self.late_retry, Choice::LateRetry, &mut unset),
            max_unproven: chosen(self.max_unproven, Choice::MaxUnproven, &mut unset),
            refresh_idle: chosen(self.refresh_idle, Choice::RefreshIdle, &mut unset),
            refresh_max: chosen(self.refresh_max, Choice::RefreshMax, &mut unset),
            audience: chosen(self.audience, Choice::Audience, &mut unset),
            query_params: chosen(query_params, Choice::QueryParams, &mut unset),
            guests_per_address: chosen(
                self.guests_per_address,
                Choice::GuestsPerAddress,
                &mut unset,
            ),
            guests_per_client: chosen(self.guests_per_client, Choice::GuestsPerClient, &mut unset),
            failures_per_address: chosen(
                self.failures_per_address,
                Choice::FailuresPerAddress,
                &mut unset,
            ),
            endings_per_address: chosen(
                self.endings_per_address,
                Choice::EndingsPerAddress,
                &mut unset,
            ),
            endings_per_grant: chosen(self.endings_per_grant, Choice::EndingsPerGrant, &mut unset),
            introspections_per_client: chosen(
                self.introspections_per_client,
                Choice::IntrospectionsPerClient,
                &mut unset,
            ),
        };
        let on_ended = chosen(self.on_ended, Choice::OnEnded, &mut unset);
        let typ = chosen(self.typ, Choice::Typ, &mut unset);
        ClientSettings {
            on_ended,
            typ,
            audience_restricted: switch(self.audience_restricted, self.no_audience_restricted),
            resume_with_jwt: switch(self.resume_with_jwt, self.no_resume_with_jwt),
            overrides,
            unset,
            ..ClientSettings::default()
        }
    }
}

/// The value of a flag that also takes `default`.
#[derive(Clone)]
enum Given<T> {
    Value(T),
    Default,
}

fn or_default<T>(
    parse: impl Fn(&str) -> Result<T, String> + Clone,
) -> impl Fn(&str) -> Result<Given<T>, String> + Clone {
    move |text| match text {
        "default" => Ok(Given::Default),
        _ => parse(text)
            .map(Given::Value)
            .map_err(|problem| format!("{problem}. Or write default")),
    }
}

fn chosen<T>(given: Option<Given<T>>, choice: Choice, unset: &mut Vec<Choice>) -> Option<T> {
    match given {
        Some(Given::Value(value)) => Some(value),
        Some(Given::Default) => {
            unset.push(choice);
            None
        }
        None => None,
    }
}

/// A choice as it holds for a client. The names are those of `config show`.
#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) origin: String,
}

/// Lists the client's policy, and where each value comes from.
pub(super) fn shown(client: &Client, config: &Config) -> Vec<Shown> {
    let choices = Choice::ALL.into_iter();
    let choices = choices.filter(|choice| choice.has_default());
    let shown = choices.map(|choice| {
        let name = choice.name();
        let is_default = |setting: &&ShownSetting| {
            let sections = ["tokens.", "limits."];
            sections
                .iter()
                .any(|section| setting.name.strip_prefix(section) == Some(name))
        };
        let default = config.shown.iter().find(is_default);
        let (value, origin) = match (client.choice(choice), default) {
            (Some(value), _) => (value, "this client".to_owned()),
            (None, Some(setting)) => (setting.value.clone(), setting.origin.clone()),
            (None, None) => Default::default(),
        };
        Shown {
            name,
            value,
            origin,
        }
    });
    shown.collect()
}
