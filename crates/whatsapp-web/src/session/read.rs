//! Tells the network that messages were read.

use std::sync::Arc;
use std::time::Duration;

use whatsapp_rust::wacore_binary::Jid;

use super::bounded::within;
use super::{Session, SubmitError};

const LIMIT: Duration = Duration::from_secs(10);

impl Session {
    /// Reports to the network that these messages of a chat were read. `chat` and `author` are addresses: digits, `900@lid`, or
    /// the address of a group; only a group needs the author. `Ok`: the receipt was written. The network does not answer.
    pub async fn mark_read(&self, chat: &str, author: Option<&str>, ids: Vec<String>) -> Result<(), SubmitError> {
        if !self.is_up() {
            return Err(SubmitError::Down);
        }
        let (client, chat, author) = (Arc::clone(&self.client), jid(chat), author.map(jid));
        let sent = within(LIMIT, async move {
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            client.mark_as_read(&chat, author.as_ref(), &ids).await.map_err(|error| error.to_string())
        });
        sent.await.map_err(|error| SubmitError::Other(error.to_string()))?.map_err(SubmitError::Other)
    }
}

fn jid(address: &str) -> Jid {
    if let Some(lid) = address.strip_suffix("@lid") {
        Jid::lid(lid)
    } else if let Some(group) = address.strip_suffix("@g.us") {
        Jid::group(group)
    } else {
        Jid::pn(address)
    }
}

#[cfg(test)]
mod tests {
    use super::jid;

    #[test]
    fn an_address_leads_to_its_chat() {
        for (address, chat) in [
            ("5511988887777", "5511988887777@s.whatsapp.net"),
            ("900@lid", "900@lid"),
            ("5511988887777-1400000000@g.us", "5511988887777-1400000000@g.us"),
        ] {
            assert_eq!(jid(address).to_string(), chat);
        }
    }
}
