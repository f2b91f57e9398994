//! The rules of a channel's queue: which messages are accepted, which are sent next, what an outcome changes, and when a row
//! is deleted. They are pure; each engine reads and writes the rows itself.

mod channel;
mod claim;
mod cursor;
#[cfg(test)]
mod fixtures;
mod new_chats;
mod outcome;
mod pace;
mod report;
mod rescue;
mod retention;
mod scan;
mod transition;

pub use channel::ChannelQueue;
pub use claim::{Claim, ClaimRequest, Claimed, Submitted, UnheldSending, UnknownOutcomePolicy};
pub use cursor::ScanCursor;
pub use new_chats::CountedChat;
pub use outcome::{Outcomes, Settlement};
pub use pace::{Pace, pace};
pub use report::{ChannelEffect, Found, MAX_UNMATCHED_RECEIPTS, MessageRef, Receipt, Settled, settle};
pub use rescue::{
    FINISH_AT_ONCE, Finish, Outdated, Queued, Resendable, Resends, mark_unknown, rescue, resend, resends,
};
pub use retention::{PurgeRequest, Purged};
pub use scan::{ClaimPlan, NextWakeup, OpenRow, admit};
pub use transition::{Patch, Position, Transition};
