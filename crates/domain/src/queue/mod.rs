//! The rules of the queue of a channel: which messages are accepted, which are sent next, what becomes of a message that
//! was sent, and when its row is deleted. Pure: how rows are read and written is each engine's own.

mod claim;
#[cfg(test)]
mod fixtures;
mod new_chats;
mod outcome;
mod pace;
mod receipt;
mod rescue;
mod retention;
mod scan;
mod settle;
mod transition;

pub use claim::{Claim, ClaimRequest, Claimed, UnheldSending, UnknownOutcomePolicy};
pub use new_chats::CountedChat;
pub use outcome::{Outcomes, Settlement};
pub use pace::{Pace, pace};
pub use receipt::{Found, MAX_UNMATCHED_RECEIPTS, MessageRef, Receipt};
pub use rescue::{FINISH_AT_ONCE, Finish, Outdated, Queued, Resendable, Resends, leave, rescue, resend, resends};
pub use retention::PurgeRequest;
pub use scan::{ChannelQueue, ClaimPlan, NextWakeup, OpenRow, ScanCursor, admit};
pub use settle::{ChannelEffect, Settled, settle};
pub use transition::{Patch, Position, Transition};
