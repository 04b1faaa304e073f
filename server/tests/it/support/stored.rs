//! The stored bytes, whatever table, free page or log they stand in.

use std::collections::HashSet;

/// Every 16 bytes in a row. What is shorter can't be told from chance.
pub(crate) struct Stored(HashSet<[u8; 16]>);

impl Stored {
    /// Takes what was read.
    pub(super) fn in_all(files: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut parts = HashSet::new();
        for bytes in files {
            let part = |part| <[u8; 16]>::try_from(part).unwrap();
            parts.extend(bytes.windows(16).map(part));
        }
        Self(parts)
    }

    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        assert!(bytes.len() >= 16, "too short to search for");
        bytes.windows(16).all(|part| self.0.contains(part))
    }

    pub(crate) fn holds_any_part_of(&self, bytes: &[u8]) -> bool {
        bytes.windows(16).any(|part| self.0.contains(part))
    }
}
