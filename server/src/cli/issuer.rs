//! The issuer that is kept with the installation, so that all nodes and all starts have the same one.

use super::Failure;
use crate::config::{Config, Issuer};
use crate::store::Store;

/// Says how a start treats the issuer.
#[derive(Debug, Eq, PartialEq)]
enum Decision<'a> {
    /// Keep the one that was set: there is none yet.
    Keep(&'a Issuer),
    /// Go on with it: it is the one that is kept, or neither was ever set.
    GoOn,
    /// Take the one that is kept, since none is set.
    Take(&'a str),
    /// Refuse: another one is kept.
    Refuse(&'a str),
}

fn decide<'a>(set: Option<&'a Issuer>, kept: Option<&'a str>) -> Decision<'a> {
    match (set, kept) {
        (Some(set), None) => Decision::Keep(set),
        (Some(set), Some(kept)) if set.as_str() != kept => Decision::Refuse(kept),
        // The default on loopback follows the port, so it is neither kept nor compared.
        (None, Some(kept)) => Decision::Take(kept),
        (Some(_), Some(_)) | (None, None) => Decision::GoOn,
    }
}

/// Agrees with the installation on the issuer. Returns it; `default` is the one without any setting.
pub(super) async fn agree(
    config: &Config,
    store: &dyn Store,
    default: Issuer,
) -> Result<Issuer, Failure> {
    let mut kept = store.installation_row().await?.issuer;
    if let Decision::Keep(set) = decide(config.issuer.as_ref(), kept.as_deref()) {
        if store.keep_issuer(None, set.as_str().to_owned()).await? {
            return Ok(set.clone());
        }
        // Another node was faster.
        kept = store.installation_row().await?.issuer;
    }
    agreed(config, kept.as_deref(), default)
}

/// Checks that a start would agree with the installation on the issuer.
pub(super) async fn require_agreement(config: &Config, store: &dyn Store) -> Result<(), Failure> {
    let kept = store.installation_row().await?.issuer;
    agreed(config, kept.as_deref(), config.issuer_on(&config.listen)?).map(drop)
}

/// Returns the issuer that a start would have, or an empty text where a start would refuse.
pub(super) async fn expected(config: &Config, store: &dyn Store) -> Result<String, Failure> {
    let kept = store.installation_row().await?.issuer;
    let issuer = config.issuer_on(&config.listen).ok();
    let issuer = issuer.and_then(|default| agreed(config, kept.as_deref(), default).ok());
    Ok(issuer.map_or_else(String::new, |issuer| issuer.as_str().to_owned()))
}

fn agreed(config: &Config, kept: Option<&str>, default: Issuer) -> Result<Issuer, Failure> {
    match decide(config.issuer.as_ref(), kept) {
        Decision::Keep(_) | Decision::GoOn => Ok(default),
        Decision::Take(kept) => kept
            .parse()
            .map_err(|problem| Failure(format!("the issuer that is kept, {kept}: {problem}"))),
        Decision::Refuse(kept) => Err(Failure(format!(
            "the issuer is set to {}, but the tokens of this installation, {}, are those of {kept}. Set that; or, to \
             change it for good, stop all servers and type: guestpass db set-issuer {0}",
            default.as_str(),
            config.database
        ))),
    }
}

/// Keeps another issuer from now on. Returns the one before.
pub(super) async fn change(store: &dyn Store, issuer: &Issuer) -> Result<Option<String>, Failure> {
    let before = store.installation_row().await?.issuer;
    let to = issuer.as_str().to_owned();
    if !store.keep_issuer(before.clone(), to).await? {
        return Err(Failure(
            "somebody else has changed the issuer at the same moment. Look which it is, and try again".to_owned(),
        ));
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_that_was_set_stays() {
        let issuer: Issuer = "https://id.example".parse().unwrap();
        let other = "https://other.example";
        for (set, kept, decision) in [
            (Some(&issuer), None, Decision::Keep(&issuer)),
            (Some(&issuer), Some("https://id.example"), Decision::GoOn),
            (Some(&issuer), Some(other), Decision::Refuse(other)),
            (None, Some(other), Decision::Take(other)),
            (None, None, Decision::GoOn),
        ] {
            assert_eq!(decide(set, kept), decision);
        }
    }
}
