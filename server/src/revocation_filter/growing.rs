//! A Bloom filter that grows.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use fastbloom::AtomicBloomFilter;

use crate::store::RevokedId;

/// A Bloom filter that gets a further part, twice as large, when the last one is full: so it doesn't wear out, and
/// stays small while little is in it.
///
/// A false positive comes once in a thousand from a full part, and from all of them together once in two hundred. There are
/// at most [`MOST_PARTS`], 31 MiB with room for [`CAPACITY`] entries. Beyond that the last part takes more than it has room
/// for: false positives grow more frequent, and each costs a read and never a wrong answer.
#[derive(Default)]
pub(super) struct GrowingFilter {
    /// Shared by the parts, so that an entry is hashed once for all of them. Its keys are random.
    hasher: RandomState,
    parts: Vec<Part>,
}

struct Part {
    filter: AtomicBloomFilter,
    entries: AtomicUsize,
    capacity: usize,
}

/// Says that there is no room, until [`GrowingFilter::grow`] has made some.
#[derive(Debug)]
pub(super) struct Full;

impl GrowingFilter {
    /// Inserts an entry, unless it is there.
    ///
    /// # Errors
    /// [`Full`] if the filter has to grow first; nothing was inserted.
    pub(super) fn insert(&self, id: &RevokedId) -> Result<(), Full> {
        let hash = self.hasher.hash_one(id);
        let (last, earlier) = self.parts.split_last().ok_or(Full)?;
        let holds = |part: &Part| part.filter.contains_hash(hash);
        if earlier.iter().any(holds) {
            return Ok(());
        }
        if last.is_full() && self.parts.len() < MOST_PARTS && !holds(last) {
            return Err(Full);
        }
        if !last.filter.insert_hash(hash) {
            last.entries.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Adds a part if the last one is full. Returns whether there is none to come.
    pub(super) fn grow(&mut self) -> bool {
        if self.parts.last().is_none_or(Part::is_full) && self.parts.len() < MOST_PARTS {
            self.parts.push(Part::new(1 << self.parts.len()));
            return self.parts.len() == MOST_PARTS;
        }
        false
    }

    /// Returns whether an entry may have been inserted: `false` is sure.
    pub(super) fn may_hold(&self, id: &RevokedId) -> bool {
        if self.parts.is_empty() {
            return false;
        }
        let hash = self.hasher.hash_one(id);
        // Most entries are in the newest and largest.
        let mut newest_first = self.parts.iter().rev();
        newest_first.any(|part| part.filter.contains_hash(hash))
    }
}

impl Part {
    /// Makes an empty part of so many MiB.
    fn new(size: usize) -> Self {
        Self {
            filter: AtomicBloomFilter::with_num_bits(size * 8 * 1024 * 1024).hashes(6),
            entries: AtomicUsize::new(0),
            capacity: size * ENTRIES_PER_MIB,
        }
    }

    fn is_full(&self) -> bool {
        self.entries.load(Ordering::Relaxed) >= self.capacity
    }
}

/// With so many in a MiB and six hashes, one of a thousand others is taken for an entry.
const ENTRIES_PER_MIB: usize = 600_000;

/// Parts of 1, 2, 4, 8 and 16 MiB.
const MOST_PARTS: usize = 5;

/// The entries that there is room for.
pub(super) const CAPACITY: usize = ((1 << MOST_PARTS) - 1) * ENTRIES_PER_MIB;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f52_a_filter_grows_instead_of_wearing_out() {
        let mut filter = GrowingFilter::default();
        let id = |number: usize| u128::try_from(number).unwrap().to_be_bytes();
        let mut insert = |number| {
            while filter.insert(&id(number)).is_err() {
                filter.grow();
            }
        };
        // A poll reads once more what it has read before.
        for number in (0..ENTRIES_PER_MIB)
            .chain(0..1000)
            .chain(0..4 * ENTRIES_PER_MIB)
        {
            insert(number);
        }
        assert!((0..4 * ENTRIES_PER_MIB).all(|number| filter.may_hold(&id(number))));
        let sizes: Vec<_> = filter.parts.iter().map(|part| part.capacity).collect();
        assert_eq!(sizes, [1, 2, 4].map(|size| size * ENTRIES_PER_MIB));
        let others = 1_000_000_000..1_000_100_000;
        let held = others
            .filter(|number| filter.may_hold(&id(*number)))
            .count();
        // Of 100,000 about 200: by chance alone, hardly ever a third more.
        assert!(held < 500, "{held} of 100,000");
    }

    #[test]
    fn f52_a_filter_that_has_grown_to_its_bound_goes_on() {
        let mut filter = GrowingFilter::default();
        let mut grown = Vec::new();
        for _ in 0..MOST_PARTS {
            filter.insert(&[7; 16]).unwrap_err();
            grown.push(filter.grow());
            let last = filter.parts.last().unwrap();
            last.entries.store(last.capacity, Ordering::Relaxed);
        }
        assert_eq!(grown, [false, false, false, false, true]);
        assert!(!filter.may_hold(&[7; 16]));
        filter.insert(&[7; 16]).unwrap();
        assert!(filter.may_hold(&[7; 16]));
        assert!(!filter.grow());
    }
}
