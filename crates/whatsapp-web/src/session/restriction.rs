//! Asks whether the account may open new chats.

use std::sync::Arc;
use std::time::Duration;

use super::bounded::within;
use super::look_up::other;
use super::{LookUpError, Session};

const LIMIT: Duration = Duration::from_secs(10);

impl Session {
    /// The time until which the network refuses messages to people who never wrote to the account (Unix seconds). `None`:
    /// there is no restriction. The refusals themselves come as [`Nacked`](crate::Event::Nacked) with the code 463.
    pub async fn restriction(&self) -> Result<Option<i64>, LookUpError> {
        if !self.is_up() {
            return Err(LookUpError::Down);
        }
        let client = Arc::clone(&self.client);
        let answer = within(LIMIT, async move { client.mex().fetch_reachout_timelock().await }).await;
        let lock = answer.map_err(other)?.map_err(other)?;
        if lock.is_active != Some(true) {
            return Ok(None);
        }
        let end = lock.time_enforcement_ends.and_then(|end| end.parse().ok());
        end.map(Some).ok_or_else(|| other("the account is restricted, and the network does not say until when"))
    }
}
