//! WhatsApp by Meta's Cloud API: everything that knows Meta's protocol.
//!
//! | File | |
//! |---|---|
//! | `link` | what a channel needs: a number's ids, its tokens |
//! | `body` | a stored message as Graph takes it |
//! | `answer` | what Graph says |
//! | `errors` | what its error codes mean, in one table |
//! | `callback` | what Meta calls us with: statuses of messages |
//!
//! Sources: Meta's OpenAPI file (`business-messaging-api_v23.0.yaml`, MIT) for the forms, and for what it does not say the
//! pages that are named beside each fact. The API takes no id of ours, so a lost answer leaves a message `UNKNOWN` until a
//! callback names it (ADR 3): by Graph's own id where it is known, else by ours, which goes along as
//! `biz_opaque_callback_data`.

pub mod answer;
pub mod body;
pub mod callback;
pub mod errors;
pub mod link;
#[cfg(test)]
mod tests;

pub use link::Link;
