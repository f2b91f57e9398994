//! Pages of messages. A page is read in steps and ends early if its messages are long: a message may have 256 KiB, and
//! who writes to a channel decides how long the messages are.

use std::io::{self, Write};

use serde::Serialize;

/// Bytes of JSON after which a page reads nothing more. The step before may exceed them.
pub const PAGE_BYTES: usize = 4 << 20;
/// Messages that a step reads.
const STEP: usize = 50;

/// A page that is being read.
pub struct Page<T> {
    data: Vec<T>,
    limit: usize,
    bytes: usize,
}

impl<T: Serialize> Page<T> {
    /// A page of at most so many messages.
    pub fn new(limit: usize) -> Self {
        Self { data: Vec::new(), limit, bytes: 0 }
    }

    /// How many messages to read next. `None`: the page is full.
    pub fn step(&self) -> Option<usize> {
        let left = self.limit.saturating_sub(self.data.len());
        (left > 0 && self.bytes < PAGE_BYTES).then(|| left.min(STEP))
    }

    /// Adds a message.
    pub fn add(&mut self, message: T) {
        let mut length = Length(0);
        // A message that cannot be written fails the whole answer later.
        let _ = serde_json::to_writer(&mut length, &message);
        self.bytes += length.0;
        self.data.push(message);
    }

    /// The messages.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_limit_or_when_it_is_large() {
        let mut short = Page::new(STEP + 1);
        assert_eq!(short.step(), Some(STEP));
        (0..STEP).for_each(|_| short.add("a"));
        assert_eq!(short.step(), Some(1));
        short.add("a");
        assert_eq!((short.step(), short.into_data().len()), (None, STEP + 1));
        let mut large = Page::new(500);
        (0..3).for_each(|_| large.add("a".repeat(PAGE_BYTES / 4)));
        assert_eq!(large.step(), Some(STEP));
        large.add("a".repeat(PAGE_BYTES / 4));
        assert_eq!(large.step(), None);
    }
}
