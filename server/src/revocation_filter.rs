//! The revocation filter: recent revocations in memory, so that verifying an access token needs no read.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use guestpass_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::clock::Now;
use crate::journal::Entry;
use crate::store::{Revoked, RevokedId, RevokedList, Unavailable};
use crate::timing::SETTLING;
use growing::{CAPACITY, GrowingFilter};

mod growing;

/// A Bloom filter of the revocations that an unexpired access token may be subject to.
///
/// [`RevocationFilter::is_revoked`] answers "surely not" from memory; for a "perhaps" it reads the row, so that a false
/// positive costs a read and never a wrong answer. Feed it with [`RevocationFilter::insert`] after each revocation of
/// this node, and with [`RevocationFilter::poll`] twice a second for those of other nodes. [`RevocationFilter::age`]
/// tells how stale it is, which is the trade-off: a revocation elsewhere is seen one poll later.
///
/// There are two generations. Entries go into the current one; after the longest life of an access token it becomes the
/// previous one, and the older is dropped. Each has a filter for each list, which begins with 1 MiB and grows with its entries
/// to 31 MiB, for 18 million of them (`GrowingFilter`): at most 186 MiB in all, and 6 where little ends.
pub struct RevocationFilter {
    store: Arc<dyn Revoked>,
    filters: RwLock<Filters>,
    /// The time of day up to which the store has been read. Locked during a poll, so that there is one at a time.
    polling: Mutex<Timestamp>,
}

struct Filters {
    current: Generation,
    previous: Generation,
    /// The start of the current generation, by the monotonic clock.
    turned_at: Duration,
    /// The start of the last successful poll, by the monotonic clock.
    polled_at: Duration,
}

/// A filter for each list, in the order of [`RevokedList::ALL`].
type Generation = [GrowingFilter; RevokedList::ALL.len()];

impl RevocationFilter {
    /// Loads the revocations of the last `lifetime`, the longest life of an access token.
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
                current: Generation::default(),
                previous: Generation::default(),
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

    /// Inserts a grant that was revoked by the journal: one that a restore has lost has no row to be read from.
    pub fn insert_from_journal(&self, entry: Entry) {
        if let Entry::GrantRevoked(grant, _) = entry {
            self.insert(RevokedList::Grants, grant.to_bytes());
        }
    }

    /// Inserts the revocations since the last poll, of any node, and starts a new generation when it is time.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer; the filter keeps its entries and grows stale.
    pub async fn poll(&self, now: Now, lifetime: Duration) -> Result<(), Unavailable> {
        let mut read_until = self.polling.lock().await;
        {
            let mut filters = self.filters.write().unwrap_or_else(PoisonError::into_inner);
            if now.monotonic.saturating_sub(filters.turned_at) > lifetime + SETTLING {
                filters.previous = std::mem::take(&mut filters.current);
                filters.turned_at = now.monotonic;
            }
        }
        let since = if now.wall < *read_until {
            // The clock was set back, so tokens that had expired by it are valid again.
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

    /// Inserts a revocation of this node.
    pub fn insert(&self, list: RevokedList, id: RevokedId) {
        let insert = |filters: &Filters| filters.current[index(list)].insert(&id);
        let inserted = insert(&self.filters.read().unwrap_or_else(PoisonError::into_inner));
        if inserted.is_err() {
            let mut filters = self.filters.write().unwrap_or_else(PoisonError::into_inner);
            let is_last = filters.current[index(list)].grow();
            let _ = insert(&filters);
            drop(filters);
            if is_last {
                tracing::warn!(
                    list = ?list,
                    capacity = CAPACITY,
                    "so much was revoked that the filter in memory won't grow further: beyond its capacity /oauth/verify \
                     asks the database more often"
                );
            }
        }
    }

    /// Returns whether that id is revoked. Reads a row only if the filter says "perhaps".
    ///
    /// # Errors
    /// [`Unavailable`] if there is a row to read and the store can't answer.
    pub async fn is_revoked(&self, list: RevokedList, id: RevokedId) -> Result<bool, Unavailable> {
        let perhaps = {
            let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
            let mut generations = [&filters.current, &filters.previous].into_iter();
            generations.any(|lists| lists[index(list)].may_hold(&id))
        };
        Ok(perhaps && self.store.is_revoked(list, id).await?)
    }

    /// Returns the time since the store was last read.
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

/// The entries that are read at once.
const PART: usize = 10_000;

/// Returns the place of a list in [`RevokedList::ALL`].
const fn index(list: RevokedList) -> usize {
    match list {
        RevokedList::Grants => 0,
        RevokedList::AccessTokens => 1,
        RevokedList::Guests => 2,
    }
}
