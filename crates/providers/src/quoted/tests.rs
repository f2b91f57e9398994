use recado_domain::ids::MessageId;
use recado_domain::message::NewMessage;
use recado_domain::queue::Settlement;
use recado_store::fixtures::{Ground, SqliteFile, claimed, sent};

use crate::quoted::*;

const WAITS: &str = "not known to the network yet";
const NEVER: &str = "was not sent";

/// A message that is claimed, settled in this way, and quoted.
async fn quoted_after(settlement: Option<Settlement>) -> Result<Quoted, String> {
    let ground = Ground::on(SqliteFile::new()).await;
    let channel = ground.channel("loja").await;
    let message = NewMessage { payload: claimed().payload, ..ground.new_message(channel, "5511999998888") };
    let target = Target { id: message.id, network_id: "3EB0".to_owned(), received: false };
    ground.enqueue(message).await;
    if let Some(settlement) = settlement {
        let message = ground.claim_one(channel).await;
        ground.settle(channel, message.seq, settlement).await;
    }
    read(&*ground.store, channel, target).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_message_that_may_have_arrived_is_quoted() {
    let named = Settlement::Sent { account: None, remote_id: "wamid.1".parse().ok(), rendition: None };
    let unknown = Settlement::Unknown { resend_at: None, hold: None };
    for (settlement, remote_id, is_unknown) in
        [(sent(), None, false), (named, Some("wamid.1"), false), (unknown, None, true)]
    {
        let quoted = quoted_after(Some(settlement)).await.expect("it can be quoted");
        assert!(quoted.network_id.starts_with("3EB0") && quoted.network_id.len() > 4, "{quoted:?}");
        assert_eq!((quoted.remote_id.as_deref(), quoted.is_unknown), (remote_id, is_unknown));
        let (content, rendition) = quoted.content.expect("a body");
        assert_eq!((content.kind().name, rendition.is_some()), ("contact", true));
    }
}

#[tokio::test]
async fn a_message_that_was_not_sent_is_not_quoted() {
    let failed = Settlement::Failed { code: "X".to_owned(), message: String::new() };
    for (settlement, error) in [(None, WAITS), (Some(Settlement::Retry { run_at: 0 }), WAITS), (Some(failed), NEVER)] {
        let refused = quoted_after(settlement).await.expect_err("it cannot be quoted");
        assert!(refused.contains(error), "{refused}");
    }
}

#[tokio::test]
async fn a_purged_message_is_quoted_by_its_id() {
    let ground = Ground::on(SqliteFile::new()).await;
    let channel = ground.channel("loja").await;
    let target = Target { id: MessageId::new(1, [9; 10]), network_id: "3EB0".to_owned(), received: false };
    let quoted = read(&*ground.store, channel, target).await.expect("the store works");
    let gone = Quoted { network_id: "3EB0".to_owned(), remote_id: None, is_unknown: false, content: None };
    assert_eq!(quoted, gone);
}

#[test]
fn a_message_that_cannot_be_read_counts_as_purged() {
    let refused = || StoreError::Refused("unknown kind".to_owned());
    assert!(matches!(readable::<()>(Err(refused())), Ok(None)));
    assert!(matches!(readable(Ok(Some(1))), Ok(Some(1))));
    assert!(matches!(readable::<()>(Err(StoreError::Fenced)), Err(StoreError::Fenced)));
}
