//! The source of randomness, injected so that tests can repeat it.

use std::cell::RefCell;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Gives unpredictable bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes`. There is no error: a machine without randomness must not go on.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Random + '_ {
    /// Returns `N` unpredictable bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

/// The generator of aws-lc, seeded by the operating system.
pub struct SecureGenerator(SystemRandom);

impl SecureGenerator {
    /// Returns a generator.
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

impl SecureGenerator {
    fn draw(&self, bytes: &mut [u8]) {
        self.0
            .fill(bytes)
            .expect("the operating system gives randomness");
    }
}

impl Random for SecureGenerator {
    fn fill(&self, bytes: &mut [u8]) {
        BUFFER.with_borrow_mut(|buffer| {
            if bytes.len() > CAPACITY {
                return self.draw(bytes);
            }
            if buffer.left < bytes.len() {
                self.draw(&mut buffer.bytes);
                buffer.left = CAPACITY;
            }
            let from = buffer.left - bytes.len();
            let taken = &mut buffer.bytes[from..buffer.left];
            bytes.copy_from_slice(taken);
            taken.fill(0);
            buffer.left = from;
        });
    }
}

/// A buffer of bytes that a thread has drawn ahead, because the fixed cost of a draw exceeds that of the few bytes that
/// a request needs. Bytes are erased as they are taken.
struct Buffer {
    bytes: [u8; CAPACITY],
    left: usize,
}

const CAPACITY: usize = 512;

thread_local! {
    static BUFFER: RefCell<Buffer> = const { RefCell::new(Buffer { bytes: [0; CAPACITY], left: 0 }) };
}
