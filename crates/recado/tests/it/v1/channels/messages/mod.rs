//! `/v1/channels/{channelId}/messages`.

mod cancel;
mod contact;
mod get;
mod kinds;
mod list;
mod schedule;
mod vcard;
