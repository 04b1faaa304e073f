//! Counters that requests find without a lock.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use arc_swap::ArcSwap;
use fnv::FnvBuildHasher;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The counters of one metric, by their labels: few, and none that a client chose.
pub struct Counters<L> {
    family: Family<L, Counter>,
    /// Those that were counted before.
    found: ArcSwap<HashMap<L, Counter, FnvBuildHasher>>,
}

impl<L> Counters<L>
where
    L: Clone + Debug + EncodeLabelSet + Eq + Hash + Send + Sync + 'static,
{
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self {
            family,
            found: ArcSwap::default(),
        }
    }

    /// Shows those of these labels from the start, at zero: so that the first of them is seen to come.
    pub(super) fn at_zero(self, all: impl IntoIterator<Item = L>) -> Self {
        for labels in all {
            drop(self.family.get_or_create(&labels));
        }
        self
    }

    /// Counts one more.
    pub fn inc(&self, labels: &L) {
        if let Some(counter) = self.found.load().get(labels) {
            counter.inc();
            return;
        }
        let counter = Counter::clone(&self.family.get_or_create(labels));
        counter.inc();
        self.found.rcu(|found| {
            let mut found = HashMap::clone(found);
            found.insert(labels.clone(), counter.clone());
            found
        });
    }
}
