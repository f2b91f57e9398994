//! The right to erase a person by a call.
//!
//! An erasure reads much, so few run at the same time, and one for each institution: the erasures of one institution keep no
//! other one waiting for long.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use recado_domain::ids::InstitutionId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The erasures that calls began.
#[derive(Debug)]
pub struct Erasures {
    of: Mutex<HashSet<InstitutionId>>,
    /// Given in the order of the calls.
    together: Semaphore,
    /// How long a call waits for the erasures of other institutions.
    patience: Duration,
}

/// The most erasures that run at the same time.
const TOGETHER: usize = 4;
const PATIENCE: Duration = Duration::from_mins(1);

impl Default for Erasures {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

/// The right to erase.
#[derive(Debug)]
pub struct Turn<'a> {
    of: &'a Erasures,
    institution: InstitutionId,
    /// `None` while others are before it.
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.of.of.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.institution);
    }
}

impl Erasures {
    fn new(patience: Duration) -> Self {
        Self { of: Mutex::default(), together: Semaphore::new(TOGETHER), patience }
    }

    /// Waits for the right to erase a person of an institution; `None`: another call of the institution has it, or others
    /// take too long.
    pub async fn turn(&self, institution: InstitutionId) -> Option<Turn<'_>> {
        if !self.of.lock().unwrap_or_else(PoisonError::into_inner).insert(institution) {
            return None;
        }
        let mut turn = Turn { of: self, institution, permit: None };
        turn.permit = timeout(self.patience, self.together.acquire()).await.ok()?.ok();
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_with;

    use futures_util::FutureExt;

    use super::*;

    fn institution(n: usize) -> InstitutionId {
        InstitutionId::from_bytes([u8::try_from(n).expect("a small number"); 16])
    }

    #[tokio::test]
    async fn an_institution_has_one_turn_and_keeps_no_other_waiting() {
        let erasures = Erasures::default();
        let turn = erasures.turn(institution(0)).await.expect("the first one");
        let mut others = repeat_with(|| erasures.turn(institution(0)).now_or_never());
        assert!(others.by_ref().take(100).all(|other| other.is_some_and(|other| other.is_none())));
        let mut turns = Vec::new();
        for n in 1..TOGETHER {
            turns.push(erasures.turn(institution(n)).now_or_never().flatten().expect("a free place"));
        }
        // The next one waits, and has its turn before those that came later.
        let mut next = Box::pin(erasures.turn(institution(TOGETHER)));
        assert!((&mut next).now_or_never().is_none());
        drop(turn);
        let mut later = Box::pin(erasures.turn(institution(0)));
        assert!((&mut later).now_or_never().is_none());
        let next = next.now_or_never().flatten().expect("its turn");
        assert!((&mut later).now_or_never().is_none());
        drop(next);
        assert!(later.now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn a_call_that_waits_too_long_can_be_repeated() {
        let erasures = Erasures::new(Duration::from_millis(20));
        let mut turns = Vec::new();
        for n in 0..TOGETHER {
            turns.push(erasures.turn(institution(n)).await.expect("a free place"));
        }
        assert!(erasures.turn(institution(TOGETHER)).await.is_none());
        turns.pop();
        assert!(erasures.turn(institution(TOGETHER)).await.is_some());
    }
}
