//! Files of received messages, and what a purge deletes.

use recado_domain::conversation::Status;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{
    Captioned, Content, Ignored, MediaState, NewIncoming, NewMedia, Outcome, SenderIds, StoredFile, What,
};
use recado_domain::queue::PurgeRequest;

use super::inbox::{ANA, BIA, arrival, batch, both, contacts, conversations, delivered, message, one, owner, text};
use crate::fixtures::{DAY, Ground, NOW};

pub(super) async fn files_are_kept_by_their_last_use(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let media = NewMedia { mime_type: "audio/ogg".to_owned(), ..NewMedia::default() };
        let new = NewIncoming { media: Some(media), ..NewIncoming::new(Content::Audio(Captioned::default()), "") };
        let stored = one(&ground, channel, arrival(&format!("A{n}"), both(), What::Message(Box::new(new)))).await;
        ids.push(message(&ground, channel, stored).await.media.expect("a file").id);
    }
    let store = &ground.store;
    let hash = "ab".repeat(32);
    for (place, at) in [(0, NOW), (1, NOW)] {
        assert!(store.media_stored(ids[place], 9, hash.clone(), at).await.expect("stored"));
    }
    assert!(!store.media_gone(ids[2], MediaState::Stored).await.expect("stored"), "it is in another state");
    assert!(store.media_gone(ids[2], MediaState::Remote).await.expect("stored"));
    let strange = MediaId::new(1, [9; 10]);
    assert!(!store.media_stored(strange, 1, hash.clone(), NOW).await.expect("stored"));
    assert!(!store.media_gone(strange, MediaState::Remote).await.expect("stored"));
    let file = store.media(owner(&ground), ids[0]).await.expect("read").expect("there");
    assert_eq!((file.state, file.about.size, file.read_at), (MediaState::Stored, Some(9), Some(NOW)));
    assert_eq!((file.about.sha256, &*file.about.mime_type), (Some(hash), "audio/ogg"));
    // One that is read stays.
    assert!(store.media_read(ids[1], NOW + DAY).await.expect("noted"));
    assert!(!store.media_read(ids[2], NOW + DAY).await.expect("not noted"), "it is not stored");
    let stored = async |ids: Vec<MediaId>| {
        let mut stored = store.stored_files(ids).await.expect("read");
        stored.sort_by_key(|file| file.id);
        stored
    };
    let file = |id, read_at| StoredFile { id, channel, read_at: Some(read_at) };
    let both = {
        let mut both = vec![file(ids[0], NOW), file(ids[1], NOW + DAY)];
        both.sort_by_key(|file| file.id);
        both
    };
    assert_eq!(stored(vec![ids[2], ids[1], strange, ids[0]]).await, both);
    assert_eq!(stored(vec![]).await, []);
    assert_eq!(store.release_media(NOW + DAY).await.expect("released"), 1);
    assert_eq!(store.release_media(NOW + DAY).await.expect("released"), 0);
    let mut states = Vec::new();
    for id in &ids {
        states.push(store.media(owner(&ground), *id).await.expect("read").expect("there").state);
    }
    assert_eq!(states, [MediaState::Remote, MediaState::Stored, MediaState::Gone]);
    assert_eq!(stored(ids.clone()).await, [file(ids[1], NOW + DAY)]);
    // A full disk makes files remote early.
    assert_eq!(store.release_files(vec![]).await.expect("released"), 0);
    assert_eq!(store.release_files(vec![ids[2], strange, ids[1]]).await.expect("released"), 1);
    assert_eq!(stored(ids.clone()).await, []);
    assert_eq!(store.media(owner(&ground), ids[2]).await.expect("read").expect("there").state, MediaState::Gone);
    // What is cleared names its files.
    let mut cleared = Vec::new();
    while let Some(files) = store.clear_inbox(owner(&ground)).await.expect("cleared") {
        cleared.extend(files);
    }
    cleared.sort_unstable();
    ids.sort_unstable();
    assert_eq!(cleared, ids);
}

pub(super) async fn old_messages_go_with_their_files_and_empty_conversations(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let media = NewMedia { mime_type: "audio/ogg".to_owned(), ..NewMedia::default() };
    let new = NewIncoming { media: Some(media), ..NewIncoming::new(Content::Audio(Captioned::default()), "") };
    let old = arrival("A1", both(), What::Message(Box::new(new)));
    let held = arrival("R1", both(), What::Reaction { target: "X".parse().expect("an id"), emoji: None });
    ground.store.receive(batch(channel, vec![old, held]), NOW - 90 * DAY).await.expect("stored");
    let id = conversations(&ground).await[0].id;
    let close = recado_domain::conversation::Change::Close { reason: None };
    ground.store.change_conversation(owner(&ground), id, close, NOW - 90 * DAY).await.expect("stored");
    let early = text("A0", both(), "Oi");
    ground.store.receive(batch(channel, vec![early]), NOW - 60 * DAY).await.expect("stored");
    one(&ground, channel, text("A2", both(), "Oi")).await;
    let idle = vec![text("B1", SenderIds::of_phone(BIA), "Oi")];
    ground.store.receive(batch(channel, idle), NOW - 90 * DAY).await.expect("stored");
    let file = delivered(&ground, channel).await[0].media.clone().expect("a file").id;
    let purge = PurgeRequest { now: NOW, finished_before: NOW - 30 * DAY, used_before: 0, events_before: 0, after: 0 };
    while ground.store.purge(purge).await.expect("purged").next.is_some() {}
    let left = delivered(&ground, channel).await;
    assert_eq!(left.iter().map(|message| &*message.network_id).collect::<Vec<_>>(), ["A2"]);
    assert_eq!(ground.store.media(owner(&ground), file).await.expect("read"), None);
    let all = conversations(&ground).await;
    // An active conversation is deleted, too: otherwise it would show the text of its last message for ever.
    assert_eq!((all.len(), all[0].status, &*all[0].address), (1, Status::Pending, ANA));
    assert_eq!(all[0].unread, 1, "the one that is there");
    assert_eq!(contacts(&ground).await.len(), 2, "a contact is no message");
    let again = one(&ground, channel, arrival("R1", both(), What::OptOut(false))).await;
    assert_eq!(again.outcome, Outcome::Ignored(Ignored::Stale));
}

/// Otherwise what its sender has deleted would come back with the refused message.
pub(super) async fn a_change_waits_for_longer_than_a_refused_message_is_kept(ground: Ground) {
    let channel = ground.channel("vendas").await;
    for (id, target, days) in [("X1", "A1", 31), ("X2", "B1", 33)] {
        let what = What::Revoke { target: target.parse().expect("an id"), by_admin: false };
        let revoke = batch(channel, vec![arrival(id, both(), what)]);
        ground.store.receive(revoke, NOW - days * DAY).await.expect("stored");
    }
    let purge = PurgeRequest { now: NOW, finished_before: 0, used_before: 0, events_before: 0, after: 0 };
    while ground.store.purge(purge).await.expect("purged").next.is_some() {}
    for (id, is_revoked) in [("A1", true), ("B1", false)] {
        one(&ground, channel, text(id, both(), "segredo")).await;
        let message = delivered(&ground, channel).await.into_iter().find(|message| message.network_id == id);
        assert_eq!(message.expect("stored").revoked_at.is_some(), is_revoked, "{id}");
    }
}
