//! Reading messages.

use futures_util::future::join_all;
use recado_domain::channel::ChannelKey;
use recado_domain::ids::MessageId;
use recado_domain::message::{MessageQuery, NewMessage, Page, Place};
use recado_domain::queue::Settlement;
use recado_domain::status::MessageStatus;

use crate::fixtures::{Ground, NOW};

fn query(channel: ChannelKey, limit: usize) -> MessageQuery {
    MessageQuery::of(channel, limit)
}

async fn page(ground: &Ground, query: MessageQuery) -> Page {
    ground.store.messages(query).await.expect("read").expect("a cursor of this channel")
}

fn ids(page: &Page) -> Vec<MessageId> {
    page.messages.iter().map(|message| message.id).collect()
}

/// Follows the cursors to the end.
async fn read_all(ground: &Ground, mut query: MessageQuery) -> (Vec<MessageId>, usize) {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = page(ground, query.clone()).await;
        assert!(page.messages.len() <= query.limit);
        found.extend(ids(&page));
        pages += 1;
        match page.next {
            Some(next) => query.before = Some(next),
            None => return (found, pages),
        }
    }
}

pub(super) async fn a_message_is_read_through_its_channel_only(ground: Ground) {
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    let id = ground.accept(channel, "551").await;
    assert_eq!(ground.message(channel, id).await.channel, channel);
    assert_eq!(ground.store.message(neighbour, id).await.expect("read"), None);
    assert_eq!(ground.store.message(channel, MessageId::new(NOW, [9; 10])).await.expect("read"), None);
    assert_eq!(page(&ground, query(neighbour, 10)).await, Page { messages: vec![], next: None });
}

pub(super) async fn a_message_is_found_by_its_network_id_in_every_state(ground: Ground) {
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    let id = ground.accept(channel, "551").await;
    let found = async |channel, name: &str| {
        let message = ground.store.message_of_network(channel, "551".to_owned(), name.to_owned()).await.expect("read");
        message.map(|message| message.id)
    };
    let network_id = ground.message(channel, id).await.network_id;
    assert_eq!(found(channel, &network_id).await, Some(id), "queued");
    let claimed = ground.claim_one(channel).await;
    assert_eq!(found(channel, &network_id).await, Some(id), "on its way");
    let remote_id = "wamid.7".parse().ok();
    let sent = Settlement::Sent { account: None, remote_id, rendition: None };
    ground.settle(channel, claimed.seq, sent).await;
    assert_eq!(found(channel, "wamid.7").await, Some(id), "by the network's own id");
    ground.receipt(channel, &network_id, MessageStatus::Read).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Read);
    assert_eq!(found(channel, &network_id).await, Some(id), "read");
    assert_eq!((found(neighbour, &network_id).await, found(channel, "other").await), (None, None));
}

pub(super) async fn pages_are_newest_first_and_complete(ground: Ground) {
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    let mut accepted = Vec::new();
    for _ in 0..7 {
        accepted.push(ground.accept(channel, "551").await);
        ground.accept(neighbour, "551").await;
    }
    accepted.reverse();
    let first = page(&ground, query(channel, 3)).await;
    assert_eq!((ids(&first), first.next), (accepted[..3].to_vec(), Some(Place::Message(accepted[2]))));
    assert_eq!(first.messages[0], ground.message(channel, accepted[0]).await, "the same as read alone");
    for limit in [1, 3, 6, 7, 8, usize::MAX] {
        let (found, pages) = read_all(&ground, query(channel, limit)).await;
        assert_eq!((found, pages), (accepted.clone(), 7_usize.div_ceil(limit)), "in pages of {limit}");
    }
}

/// Queued and finished messages may be in any order.
pub(super) async fn waiting_and_finished_messages_are_one_list(ground: Ground) {
    let channel = ground.channel("loja").await;
    let mut accepted = Vec::new();
    for n in 0..8 {
        let id = ground.accept(channel, if n < 4 { "551" } else { "552" }).await;
        if n % 3 == 0 {
            ground.store.cancel(channel, id, NOW).await.expect("stored");
        }
        accepted.push(id);
    }
    accepted.reverse();
    for limit in [1, 2, 3, 8] {
        assert_eq!(read_all(&ground, query(channel, limit)).await.0, accepted, "in pages of {limit}");
        let theirs = MessageQuery { recipient: Some("551".to_owned()), ..query(channel, limit) };
        assert_eq!(read_all(&ground, theirs).await.0, accepted[4..], "in pages of {limit}");
    }
}

pub(super) async fn filters_narrow_a_page(ground: Ground) {
    let channel = ground.channel("loja").await;
    let mut accepted = Vec::new();
    for recipient in ["551", "552", "551", "552", "551"] {
        accepted.push(ground.accept(channel, recipient).await);
    }
    let seq = ground.claim_one(channel).await.seq;
    ground.settle(channel, seq, Settlement::Unknown { resend_at: None, hold: None }).await;
    let narrowed = async |status, recipient: Option<&str>| {
        let query = MessageQuery { status, recipient: recipient.map(str::to_owned), ..query(channel, 1) };
        read_all(&ground, query).await.0
    };
    assert_eq!(narrowed(None, Some("551")).await, [accepted[4], accepted[2], accepted[0]]);
    assert_eq!(narrowed(Some(MessageStatus::Unknown), None).await, [accepted[0]]);
    assert_eq!(narrowed(Some(MessageStatus::Queued), Some("551")).await, [accepted[4], accepted[2]]);
    assert_eq!(narrowed(Some(MessageStatus::Unknown), Some("552")).await, []);
    assert_eq!(narrowed(None, Some("55")).await, [], "the whole number");
}

pub(super) async fn a_foreign_cursor_is_no_cursor(ground: Ground) {
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    ground.accept(channel, "551").await;
    let theirs = ground.accept(neighbour, "551").await;
    for before in [theirs, MessageId::new(NOW, [9; 10])] {
        let query = MessageQuery { before: Some(Place::Message(before)), ..query(channel, 10) };
        assert_eq!(ground.store.messages(query).await.expect("read"), None);
    }
}

/// A filter with few matches must not occupy a reader for a whole history: pages are short instead, and their cursors
/// lead through all of it.
pub(super) async fn a_page_scans_a_bounded_part(ground: Ground) {
    const OTHERS: usize = 25_000;
    let channel = ground.channel("loja").await;
    let oldest = ground.accept(channel, "551").await;
    let others: Vec<NewMessage> = (0..OTHERS).map(|_| ground.new_message(channel, "552")).collect();
    for some in others.chunks(5_000) {
        join_all(some.iter().map(|message| ground.enqueue(message.clone()))).await;
    }
    ground.store.cancel(channel, oldest, NOW).await.expect("stored");
    let filtered = MessageQuery { status: Some(MessageStatus::Cancelled), ..query(channel, 10) };
    let first = page(&ground, filtered.clone()).await;
    assert!(first.messages.is_empty() && first.next.is_some(), "short, with a cursor to go on");
    assert_eq!(read_all(&ground, filtered).await, (vec![oldest], 2));
    let recipient = MessageQuery { recipient: Some("551".to_owned()), ..query(channel, 10) };
    assert_eq!(read_all(&ground, recipient.clone()).await.0, [oldest]);
    let (found, _) = read_all(&ground, query(channel, 9_000)).await;
    assert_eq!(found.len(), OTHERS + 1);
    assert!(found.is_sorted_by(|newer, older| newer > older), "none twice, none left out");
    ground.delete_channel(channel, NOW).await;
    while ground.store.cancel_former(channel, OTHERS, NOW).await.expect("stored") > 0 {}
    assert_eq!(
        read_all(&ground, recipient).await,
        (vec![oldest], 1),
        "a recipient's messages are found in a long history"
    );
}
