//! The life of keys, decided in pure code: next, current, retiring, gone.
//!
//! A key is published before it is used, so that whoever verifies knows it in time; and it is kept after its use until
//! the last thing that it signed or sealed has expired. Access tokens always have a next key waiting; a next sealing
//! key is made when it is asked for, because each one costs a try at every credential that is opened.

use std::time::Duration;

use guestpass_core::time::Timestamp;

use super::key::{Key, KeyAlgorithm, KeyState, KeyUse};
use crate::store::WrappedKey;
use crate::timing::{FOLLOWED, SEEN};

/// Holds the operator's choices on which the life of keys depends.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The algorithm with which access tokens are to be signed.
    pub algorithm: KeyAlgorithm,
    /// The time for which verifiers may keep the key set that they fetched.
    pub jwks_max_age: Duration,
    /// The time after which the signing key changes by itself, if it does.
    pub rotate_every: Option<Duration>,
}

/// Holds the longest life, over all clients, of the things that a key signs or seals.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of an access token.
    pub access_token: Duration,
    /// Of a grant, whose every credential ends with it.
    pub grant: Duration,
}

/// One step in the life of the keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Makes a next key that may be used from that time on.
    MakeNext(KeyUse, KeyAlgorithm, Timestamp),
    /// Uses this next key from now on; the one that was current retires.
    Promote(String),
    /// Forgets this key.
    Remove(String),
    /// Keeps this key for things that live so long.
    Prolong(String, Duration),
}

/// A change to the keys: a step in their life with all that it takes to carry it out.
#[derive(Clone, Debug)]
pub enum KeyChange {
    /// Inserts a new key, unless its use has one in that state already.
    Insert(WrappedKey),
    /// Makes a next key current at that time; the current one of the same use retires.
    Promote(String, Timestamp),
    /// Removes a key that isn't current.
    Remove(String),
    /// Keeps a key for things that live so long, or longer.
    Prolong(String, Duration),
}

/// Returns the keys as they are after all of the changes. `None` if one of them doesn't fit: the keys are not any more what
/// it was made for.
#[must_use]
pub(crate) fn apply(keys: &[WrappedKey], changes: &[KeyChange]) -> Option<Vec<WrappedKey>> {
    let mut keys = keys.to_vec();
    for change in changes {
        match change {
            KeyChange::Insert(new) => insert(&mut keys, new)?,
            KeyChange::Promote(kid, now) => promote(&mut keys, kid, *now)?,
            KeyChange::Remove(kid) => {
                if find(&mut keys, kid)?.state() == KeyState::Current {
                    return None;
                }
                keys.retain(|key| key.kid != *kid);
            }
            KeyChange::Prolong(kid, lifetime) => {
                let key = find(&mut keys, kid)?;
                key.lifetime = key.lifetime.max(*lifetime);
            }
        }
    }
    Some(keys)
}

/// Inserts a key. A use has one next and one current key at most.
fn insert(keys: &mut Vec<WrappedKey>, new: &WrappedKey) -> Option<()> {
    let stands_in_the_way = |key: &WrappedKey| {
        let same_state = key.key_use == new.key_use && key.state() == new.state();
        key.kid == new.kid || (same_state && new.state() != KeyState::Retiring)
    };
    if keys.iter().any(stands_in_the_way) {
        return None;
    }
    keys.push(new.clone());
    Some(())
}

/// Makes a next key current. What a sealing key makes lives as long as the grant, which may be older than the key: so the
/// lifetime passes on to the next one. An access token is its own key's affair.
fn promote(keys: &mut [WrappedKey], kid: &str, now: Timestamp) -> Option<()> {
    let next = find(keys, kid)?;
    if next.state() != KeyState::Next {
        return None;
    }
    let key_use = next.key_use.clone();
    let mut current = keys.iter_mut();
    let current = current.find(|key| key.key_use == key_use && key.state() == KeyState::Current);
    let mut lifetime = Duration::ZERO;
    if let Some(current) = current {
        current.retiring_at = Some(now);
        if key_use == KeyUse::Credential.name() {
            lifetime = current.lifetime;
        }
    }
    let next = find(keys, kid)?;
    next.current_at = Some(now);
    next.lifetime = next.lifetime.max(lifetime);
    Some(())
}

fn find<'a>(keys: &'a mut [WrappedKey], kid: &str) -> Option<&'a mut WrappedKey> {
    keys.iter_mut().find(|key| key.kid == kid)
}

/// Removes the keys that nothing needs any more. Only a caller that trusts its clock may ask: a key that is gone stays gone.
#[must_use]
pub(super) fn needless(keys: &[Key], now: Timestamp) -> Vec<Step> {
    keys.iter()
        .filter(|key| key.needed_until().is_some_and(|until| until <= now))
        .map(|key| Step::Remove(key.kid.clone()))
        .collect()
}

/// Decides on the steps that are due now.
#[must_use]
pub(super) fn due(
    keys: &[Key],
    schedule: &Schedule,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for key in keys {
        let lifetime = lifetime(key.key_use, lifetimes);
        if key.state() != KeyState::Retiring && key.lifetime < lifetime {
            steps.push(Step::Prolong(key.kid.clone(), lifetime));
        }
    }
    let (next, current) = waiting(keys, KeyUse::AccessToken);
    let algorithm = schedule.algorithm;
    let usable_at = now + announcement(algorithm, schedule);
    let make_next = Step::MakeNext(KeyUse::AccessToken, algorithm, usable_at);
    match next {
        Some(next) if next.algorithm == schedule.algorithm => {
            let scheduled = schedule
                .rotate_every
                .zip(current.and_then(|key| key.current_at));
            let wanted = current.is_none_or(|key| key.algorithm != schedule.algorithm)
                || scheduled.is_some_and(|(every, since)| since + every <= now);
            if wanted && next.usable_at <= now {
                steps.push(Step::Promote(next.kid.clone()));
                steps.push(make_next);
            }
        }
        // Of another algorithm: the setting has changed. Not at once, for while nodes are restarted one after the
        // other, two settings would replace each other's key without end.
        Some(next) if now < next.created_at + FOLLOWED => {}
        other => {
            steps.extend(other.map(|key| Step::Remove(key.kid.clone())));
            steps.push(make_next);
        }
    }
    if let (Some(next), _) = waiting(keys, KeyUse::Credential)
        && next.usable_at <= now
    {
        steps.push(Step::Promote(next.kid.clone()));
    }
    steps
}

/// Decides on the steps of a rotation that an operator asks for. `forced` skips the waiting, and gives up the oldest
/// sealing key. Only signing and sealing keys rotate.
///
/// # Errors
/// [`RotationRefused`] if it would break verifiers or log guests out.
pub(super) fn rotate(
    keys: &[Key],
    key_use: KeyUse,
    schedule: &Schedule,
    now: Timestamp,
    forced: bool,
) -> Result<Vec<Step>, RotationRefused> {
    let (next, _) = waiting(keys, key_use);
    if matches!(key_use, KeyUse::RequestId | KeyUse::Tombstone) {
        return Err(RotationRefused::NoNextKey);
    }
    if key_use == KeyUse::AccessToken {
        let next = next.ok_or(RotationRefused::NoNextKey)?;
        if next.usable_at > now && !forced {
            return Err(RotationRefused::TooSoon(next.usable_at.since(now)));
        }
        // Whoever rotates may not have the server's configuration before them, so it goes on as it was.
        let last = next.usable_at.since(next.created_at);
        let usable_at = now + last.max(announcement(next.algorithm, schedule));
        return Ok(vec![
            Step::Promote(next.kid.clone()),
            Step::MakeNext(key_use, next.algorithm, usable_at),
        ]);
    }
    if let Some(next) = next {
        return if forced {
            Ok(vec![Step::Promote(next.kid.clone())])
        } else {
            Err(RotationRefused::UnderWay)
        };
    }
    let mut retiring: Vec<_> = keys
        .iter()
        .filter(|key| key.key_use == key_use && key.state() == KeyState::Retiring)
        .collect();
    retiring.sort_by_key(|key| key.retiring_at.map(Timestamp::as_millis));
    // Open will be the new one, the current one, and these.
    let given_up = &retiring[..(retiring.len() + 2).saturating_sub(MAX_OPEN)];
    if let Some(retired) = given_up.last().and_then(|key| key.retiring_at)
        && !forced
    {
        return Err(RotationRefused::TooManyOpen(retired));
    }
    Ok(given_up
        .iter()
        .map(|key| Step::Remove(key.kid.clone()))
        .chain([Step::MakeNext(
            key_use,
            KeyAlgorithm::A256GcmSiv,
            now + FOLLOWED,
        )])
        .collect())
}

/// Returns the time until all nodes that reach the store know the next key of a use.
#[must_use]
pub(super) fn until_seen(keys: &[Key], key_use: KeyUse, now: Timestamp) -> Duration {
    let (next, _) = waiting(keys, key_use);
    next.map_or(Duration::ZERO, |next| (next.created_at + SEEN).since(now))
}

/// Decides on the steps that forget a retiring key before its time, because it has leaked.
///
/// # Errors
/// [`RemovalRefused`] for a key that isn't retiring.
pub(super) fn remove(keys: &[Key], kid: &str) -> Result<Vec<Step>, RemovalRefused> {
    let key = keys.iter().find(|key| key.kid == kid);
    match key.ok_or(RemovalRefused::Unknown)?.state() {
        KeyState::Retiring => Ok(vec![Step::Remove(kid.to_owned())]),
        KeyState::Next | KeyState::Current => Err(RemovalRefused::InUse),
    }
}

/// Says why a key isn't removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RemovalRefused {
    /// There is no such key.
    Unknown,
    /// It is current, or about to be.
    InUse,
}

/// Says why a rotation is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RotationRefused {
    /// Verifiers may not know the next key yet; how long to wait.
    TooSoon(Duration),
    /// There is no next key: no server has run since the keys changed.
    NoNextKey,
    /// The last rotation of this key isn't over.
    UnderWay,
    /// The oldest sealing key would have to go, and with it the guests who were last here before that time.
    TooManyOpen(Timestamp),
}

/// The most sealing keys that are tried at a credential, the next one included.
const MAX_OPEN: usize = 3;

/// Finds the next and the current key of a use.
fn waiting(keys: &[Key], key_use: KeyUse) -> (Option<&Key>, Option<&Key>) {
    let with = |state| {
        keys.iter()
            .find(|key| key.key_use == key_use && key.state() == state)
    };
    (with(KeyState::Next), with(KeyState::Current))
}

/// Returns the time until everyone who needs a next key has it: our own nodes soon, verifiers when they fetch the key set
/// again (RFC 7517 §5).
fn announcement(algorithm: KeyAlgorithm, schedule: &Schedule) -> Duration {
    if algorithm.is_asymmetric() {
        FOLLOWED + schedule.jwks_max_age
    } else {
        FOLLOWED
    }
}

/// Returns the longest life of the things that a key of this use makes.
#[must_use]
const fn lifetime(key_use: KeyUse, lifetimes: Lifetimes) -> Duration {
    match key_use {
        KeyUse::AccessToken => lifetimes.access_token,
        KeyUse::Credential => lifetimes.grant,
        KeyUse::RequestId | KeyUse::Tombstone => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);
    const LIFETIMES: Lifetimes = Lifetimes {
        access_token: DAY,
        grant: Duration::from_secs(365 * 86_400),
    };

    fn schedule(algorithm: KeyAlgorithm) -> Schedule {
        Schedule {
            algorithm,
            jwks_max_age: Duration::from_secs(300),
            rotate_every: None,
        }
    }

    /// The life of keys without a store.
    struct Ring {
        keys: Vec<WrappedKey>,
        made: usize,
    }

    impl Ring {
        fn new(algorithm: KeyAlgorithm) -> Self {
            let mut ring = Self {
                keys: Vec::new(),
                made: 0,
            };
            for (key_use, algorithm) in [
                (KeyUse::AccessToken, algorithm),
                (KeyUse::Credential, KeyAlgorithm::A256GcmSiv),
            ] {
                ring.obey(vec![Step::MakeNext(key_use, algorithm, START)], START);
                let kid = ring.keys.last().unwrap().kid.clone();
                ring.obey(vec![Step::Promote(kid)], START);
            }
            ring
        }

        /// Carries the steps out. Instead of a secret, a key has a number.
        fn obey(&mut self, steps: Vec<Step>, now: Timestamp) {
            let changes = steps.into_iter().map(|step| match step {
                Step::MakeNext(key_use, algorithm, usable_at) => {
                    self.made += 1;
                    KeyChange::Insert(WrappedKey {
                        kid: format!("key {}", self.made),
                        key_use: key_use.name().to_owned(),
                        algorithm: algorithm.name().to_owned(),
                        created_at: now,
                        usable_at,
                        current_at: None,
                        retiring_at: None,
                        lifetime: Duration::ZERO,
                        sealed: Vec::new(),
                    })
                }
                Step::Promote(kid) => KeyChange::Promote(kid, now),
                Step::Remove(kid) => KeyChange::Remove(kid),
                Step::Prolong(kid, lifetime) => KeyChange::Prolong(kid, lifetime),
            });
            let changes: Vec<_> = changes.collect();
            self.keys = apply(&self.keys, &changes).expect("what was decided fits");
        }

        fn list(&self) -> Vec<Key> {
            self.keys.iter().map(|key| Key::of(key).unwrap()).collect()
        }

        fn tend(&mut self, schedule: &Schedule, now: Timestamp) {
            for _ in 0..8 {
                let mut steps = due(&self.list(), schedule, LIFETIMES, now);
                steps.extend(needless(&self.list(), now));
                if steps.is_empty() {
                    return;
                }
                self.obey(steps, now);
            }
            panic!("never done: {:?}", self.keys);
        }

        fn states(&self, key_use: KeyUse) -> Vec<(&'static str, KeyState)> {
            let keys = self.list().into_iter();
            let ours = keys.filter(|key| key.key_use == key_use);
            ours.map(|key| (key.algorithm.name(), key.state()))
                .collect()
        }
    }

    #[test]
    fn an_algorithm_changes_once_everyone_knows_the_new_key() {
        use KeyState::{Current, Next, Retiring};
        let mut ring = Ring::new(KeyAlgorithm::Hs256);
        ring.tend(&schedule(KeyAlgorithm::Hs256), START);
        assert_eq!(
            ring.states(KeyUse::AccessToken),
            [("HS256", Current), ("HS256", Next)]
        );
        let es256 = schedule(KeyAlgorithm::Es256);
        let at = |millis: u64| START + (FOLLOWED + Duration::from_millis(millis));
        ring.tend(&es256, START + Duration::from_millis(4_999));
        assert_eq!(
            ring.states(KeyUse::AccessToken),
            [("HS256", Current), ("HS256", Next)]
        );
        ring.tend(&es256, at(0));
        assert_eq!(
            ring.states(KeyUse::AccessToken),
            [("HS256", Current), ("ES256", Next)]
        );
        ring.tend(&es256, at(304_999));
        assert_eq!(
            ring.states(KeyUse::AccessToken),
            [("HS256", Current), ("ES256", Next)]
        );
        let changed = at(305_000);
        ring.tend(&es256, changed);
        let all = [("HS256", Retiring), ("ES256", Current), ("ES256", Next)];
        assert_eq!(ring.states(KeyUse::AccessToken), all);
        ring.tend(&es256, changed + DAY);
        assert_eq!(ring.states(KeyUse::AccessToken), all);
        ring.tend(&es256, changed + DAY + Duration::from_secs(60));
        assert_eq!(ring.states(KeyUse::AccessToken), all[1..]);
    }

    #[test]
    fn signing_keys_rotate_by_schedule() {
        let scheduled = Schedule {
            rotate_every: Some(30 * DAY),
            ..schedule(KeyAlgorithm::EdDsa)
        };
        let mut ring = Ring::new(KeyAlgorithm::EdDsa);
        ring.tend(&scheduled, START);
        assert_eq!(ring.made, 3);
        ring.tend(&scheduled, START + 29 * DAY);
        assert_eq!(ring.made, 3);
        ring.tend(&scheduled, START + 30 * DAY);
        assert_eq!(ring.made, 4);
        ring.tend(&scheduled, START + 31 * DAY);
        assert_eq!(ring.made, 4);
    }

    #[test]
    fn a_key_is_not_used_before_verifiers_know_it() {
        let es256 = schedule(KeyAlgorithm::Es256);
        let mut ring = Ring::new(KeyAlgorithm::Es256);
        let turn = |ring: &Ring, now, forced| {
            rotate(&ring.list(), KeyUse::AccessToken, &es256, now, forced)
        };
        assert_eq!(turn(&ring, START, true), Err(RotationRefused::NoNextKey));
        ring.tend(&es256, START);
        let soon = START + Duration::from_secs(300);
        let wait = RotationRefused::TooSoon(Duration::from_secs(5));
        assert_eq!(turn(&ring, soon, false), Err(wait));
        assert!(turn(&ring, soon, true).is_ok());
        assert!(turn(&ring, START + Duration::from_secs(305), false).is_ok());
    }

    #[test]
    fn a_rotation_keeps_the_promise_of_the_key_before_it() {
        let long = Schedule {
            jwks_max_age: DAY,
            ..schedule(KeyAlgorithm::Es256)
        };
        let mut ring = Ring::new(KeyAlgorithm::Es256);
        ring.tend(&long, START);
        // Someone whose configuration says five minutes.
        let other = schedule(KeyAlgorithm::Es256);
        let turn = |ring: &Ring, now, forced| {
            rotate(&ring.list(), KeyUse::AccessToken, &other, now, forced)
        };
        let soon = START + Duration::from_secs(305);
        let wait = RotationRefused::TooSoon(DAY - Duration::from_secs(300));
        assert_eq!(turn(&ring, soon, false), Err(wait));
        let steps = turn(&ring, soon, true).unwrap();
        ring.obey(steps, soon);
        let wait = RotationRefused::TooSoon(DAY + FOLLOWED);
        assert_eq!(turn(&ring, soon, false), Err(wait));
    }

    #[test]
    fn at_most_three_sealing_keys_are_open() {
        let hs256 = schedule(KeyAlgorithm::Hs256);
        let mut ring = Ring::new(KeyAlgorithm::Hs256);
        let mut now = START;
        let turn = |ring: &Ring, now, forced| {
            rotate(&ring.list(), KeyUse::Credential, &hs256, now, forced)
        };
        for _ in 0..2 {
            ring.tend(&hs256, now);
            let steps = turn(&ring, now, false).unwrap();
            ring.obey(steps, now);
            assert_eq!(turn(&ring, now, false), Err(RotationRefused::UnderWay));
            now = now + Duration::from_secs(5);
            ring.tend(&hs256, now);
        }
        let first_retired = START + Duration::from_secs(5);
        let refused = RotationRefused::TooManyOpen(first_retired);
        assert_eq!(turn(&ring, now, false), Err(refused));
        let steps = turn(&ring, now, true).unwrap();
        ring.obey(steps, now);
        assert_eq!(ring.states(KeyUse::Credential).len(), MAX_OPEN);
        // Without force, the others go when all that they sealed has ended.
        ring.tend(&hs256, now + Duration::from_secs(5));
        ring.tend(&hs256, now + LIFETIMES.grant);
        assert_eq!(ring.states(KeyUse::Credential).len(), MAX_OPEN);
        ring.tend(&hs256, now + LIFETIMES.grant + DAY);
        assert_eq!(ring.states(KeyUse::Credential).len(), 1);
    }
}
