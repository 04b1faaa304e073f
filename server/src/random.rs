//! Where randomness comes from.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Unpredictable bytes, injected so that tests can repeat them.
pub trait Random: Send + Sync {
    /// Fills `bytes`. There is no error: a machine without randomness must not go on.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Random + '_ {
    /// `N` unpredictable bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

/// The generator of aws-lc, seeded by the operating system.
pub struct SecureGenerator(SystemRandom);

impl SecureGenerator {
    /// A generator.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the source that everything else is given"
    )]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SecureGenerator {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SecureGenerator {
    fn fill(&self, bytes: &mut [u8]) {
        self.0
            .fill(bytes)
            .expect("the operating system gives randomness");
    }
}
