//! The text of the choices that a client may have of its own: read alike in a setting, which is the server's default,
//! and in a flag of `guestpass client`.

use std::time::Duration;

use guestpass_core::policy::{Audience, Choice, LateRetry, PolicyOverrides, check_max_unproven};
use guestpass_core::time::text_of;

pub(crate) fn lifetime(choice: Choice) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let lifetime = humantime::parse_duration(text)
            .map_err(|_| "write a duration such as 2s, 10m, 24h or 365d".to_owned())?;
        let sound = choice.check_lifetime(lifetime);
        sound.map_err(|problem| problem.to_string())?;
        Ok(lifetime)
    }
}

pub(crate) fn late_retry(text: &str) -> Result<LateRetry, String> {
    text.parse().map_err(str::to_owned)
}

pub(crate) fn max_unproven(text: &str) -> Result<u64, String> {
    let count = text
        .parse()
        .map_err(|_| "write a number such as 8".to_owned())?;
    check_max_unproven(count).map_err(|problem| problem.to_string())?;
    Ok(count)
}

pub(crate) fn audience(text: &str) -> Result<Audience, String> {
    text.parse().map_err(str::to_owned)
}

pub(crate) fn yes_or_no(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

/// The text of a choice, if the client has made it; what is read above reads it again.
pub(crate) fn text(overrides: &PolicyOverrides, choice: Choice) -> Option<String> {
    match choice {
        Choice::AccessTtl => overrides.access_ttl.map(text_of),
        Choice::CodeTtl => overrides.code_ttl.map(text_of),
        Choice::Grace => overrides.grace.map(text_of),
        Choice::LateRetry => overrides.late_retry.map(|choice| choice.name().to_owned()),
        Choice::MaxUnproven => overrides.max_unproven.map(|count| count.to_string()),
        Choice::RefreshIdle => overrides.refresh_idle.map(text_of),
        Choice::RefreshMax => overrides.refresh_max.map(text_of),
        Choice::Audience => overrides.audience.as_ref().map(|a| a.as_str().to_owned()),
        Choice::QueryParams => overrides.query_params.map(|allowed| allowed.to_string()),
    }
}
