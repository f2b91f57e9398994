//! `/v1/channels`.

mod create;
mod lifecycle;
mod messages;
mod update;
