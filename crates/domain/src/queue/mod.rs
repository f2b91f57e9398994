//! The queue of a channel: what a claim asks for and gives, what becomes of a claimed message, what a network says of it
//! later, and when its row is deleted.

mod claim;
mod outcome;
mod receipt;
mod retention;

pub use claim::{Claim, ClaimRequest, Claimed, Orphans, Unanswered};
pub use outcome::{Outcomes, SentCard, Settlement};
pub use receipt::{Named, Receipt};
pub use retention::PurgeRequest;
