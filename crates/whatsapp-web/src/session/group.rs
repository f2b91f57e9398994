//! Asks what a group is called.

use std::sync::Arc;
use std::time::Duration;

use whatsapp_rust::wacore_binary::Jid;

use super::Session;
use super::bounded::within;
use super::look_up::{LookUpError, other};

const LIMIT: Duration = Duration::from_secs(10);

impl Session {
    /// The name of a group, by the part of its address before `@g.us`. The network answers with all members of the group, so
    /// keep the answer.
    pub async fn group_name(&self, group: &str) -> Result<String, LookUpError> {
        if !self.is_up() {
            return Err(LookUpError::Down);
        }
        let (client, group) = (Arc::clone(&self.client), Jid::group(group));
        let answer = within(LIMIT, async move { client.groups().get_metadata(&group).await }).await;
        Ok(answer.map_err(other)?.map_err(other)?.subject)
    }
}
