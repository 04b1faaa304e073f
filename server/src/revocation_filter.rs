//! What ended lately, as this node knows it: enough to refuse an access token without reading a row for each request.
//!
//! A filter of fixed size says "surely not" or "perhaps"; for a "perhaps" the row decides. What the filter holds is
//! followed from the store, and forgotten when every access token that it could be about has expired.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fastbloom::AtomicBloomFilter;
use guestpass_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::clock::Now;
use crate::journal::Entry;
use crate::store::{Revoked, RevokedId, RevokedList, Unavailable};
use crate::timing::SETTLING;

/// What ended lately.
pub struct RevocationFilter {
    store: Arc<dyn Revoked>,
    filters: RwLock<Filters>,
    /// One poll at a time. Until when the store has been read, by its time of day.
    polling: Mutex<Timestamp>,
}

struct Filters {
    current: Arc<AtomicBloomFilter>,
    previous: Arc<AtomicBloomFilter>,
    /// When `current` became that, by the monotonic clock.
    turned_at: Duration,
    /// When the last successful poll began, by the monotonic clock.
    polled_at: Duration,
}

impl RevocationFilter {
    /// Reads all that ended within `lifetime`, the longest life of an access token.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn load(
        store: Arc<dyn Revoked>,
        now: Now,
        lifetime: Duration,
    ) -> Result<Self, Unavailable> {
        let filter = Self {
            store,
            filters: RwLock::new(Filters {
                current: Arc::new(filter()),
                previous: Arc::new(filter()),
                turned_at: now.monotonic,
                polled_at: now.monotonic,
            }),
            polling: Mutex::new(now.wall),
        };
        filter
            .read_since(now.wall.before(lifetime + SETTLING))
            .await?;
        Ok(filter)
    }

    /// Adds the grants that ended by the journal: one that a restore has lost has no row to say so.
    pub fn remember(&self, journal: &[Entry]) {
        for entry in journal {
            if let Entry::GrantRevoked(grant, _) = entry {
                self.insert(RevokedList::Grants, grant.to_bytes());
            }
        }
    }

    /// Reads what ended since the last time, here or elsewhere.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer; what is known stays, and grows old.
    pub async fn poll(&self, now: Now, lifetime: Duration) -> Result<(), Unavailable> {
        let mut read_until = self.polling.lock().await;
        {
            let mut filters = self.filters.write().unwrap_or_else(PoisonError::into_inner);
            if now.monotonic.saturating_sub(filters.turned_at) > lifetime + SETTLING {
                filters.previous = std::mem::replace(&mut filters.current, Arc::new(filter()));
                filters.turned_at = now.monotonic;
            }
        }
        let since = if now.wall < *read_until {
            // The clock was set back, so tokens that had expired by it are good again.
            now.wall.before(lifetime)
        } else {
            *read_until
        };
        self.read_since(since.before(SETTLING)).await?;
        *read_until = now.wall;
        let mut filters = self.filters.write().unwrap_or_else(PoisonError::into_inner);
        filters.polled_at = now.monotonic;
        Ok(())
    }

    /// Adds what has just ended here.
    pub fn insert(&self, list: RevokedList, id: RevokedId) {
        let current = {
            let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&filters.current)
        };
        current.insert(&(tag(list), id));
    }

    /// Whether that id ended before its time. Reads a row only for a "perhaps".
    ///
    /// # Errors
    /// [`Unavailable`] if there is a row to read and the store can't answer.
    pub async fn holds(&self, list: RevokedList, id: RevokedId) -> Result<bool, Unavailable> {
        let item = (tag(list), id);
        let perhaps = {
            let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
            filters.current.contains(&item) || filters.previous.contains(&item)
        };
        Ok(perhaps && self.store.is_revoked(list, id).await?)
    }

    /// How long ago, by the monotonic clock, the store was last read.
    #[must_use]
    pub fn age(&self, monotonic: Duration) -> Duration {
        let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
        monotonic.saturating_sub(filters.polled_at)
    }

    async fn read_since(&self, since: Timestamp) -> Result<(), Unavailable> {
        for list in RevokedList::ALL {
            let mut after = (since, [0; 16]);
            loop {
                let part = self.store.revoked_after(list, after, PART).await?;
                part.iter().for_each(|(_, id)| self.insert(list, *id));
                match part.last() {
                    Some(last) if part.len() == PART => after = *last,
                    _ => break,
                }
            }
        }
        Ok(())
    }
}

/// How many entries are read at once.
const PART: usize = 10_000;

/// One in a thousand is a false "perhaps" at 600,000 entries, one in ten at two million.
fn filter() -> AtomicBloomFilter {
    AtomicBloomFilter::with_num_bits(8 * 1024 * 1024).hashes(6)
}

fn tag(list: RevokedList) -> u8 {
    match list {
        RevokedList::Grants => 0,
        RevokedList::AccessTokens => 1,
        RevokedList::Guests => 2,
    }
}
