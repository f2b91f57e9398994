//! Sessions of linked devices.

use recado_domain::channel::{
    ChannelKey, ChannelState, ChannelType, Held, Link, SessionChange, SessionKey, SessionRow,
};

use crate::StoreError;
use crate::fixtures::{Ground, NOW};

fn put(kind: u8, key: &[u8], sealed: &[u8]) -> SessionChange {
    put_at(0, kind, key, sealed)
}

fn put_at(stamp: i64, kind: u8, key: &[u8], sealed: &[u8]) -> SessionChange {
    SessionChange::Put { kind, key: key.to_vec(), sealed: sealed.to_vec(), stamp }
}

async fn linked(ground: &Ground, id: &str) -> ChannelKey {
    ground.channel_of(ChannelType::WhatsAppWeb, id).await
}

/// A node that has the channel's first session.
fn first(channel: ChannelKey) -> Held {
    Held { channel, epoch: 0, session: 0 }
}

async fn write(ground: &Ground, channel: ChannelKey, changes: impl Into<Vec<SessionChange>>) -> u64 {
    ground.store.write_session(first(channel), changes.into()).await.expect("stored").all()
}

/// The keys of a kind that begin so.
async fn keys(ground: &Ground, channel: ChannelKey, kind: u8, prefix: &[u8]) -> Vec<Vec<u8>> {
    let rows = ground.store.session_list((channel, 0), kind, prefix.to_vec()).await.expect("read");
    rows.into_iter().map(|(key, _)| key).collect()
}

pub(super) async fn a_session_comes_back_as_it_was_written(mut ground: Ground) {
    let (channel, neighbour) = (linked(&ground, "loja").await, linked(&ground, "outra").await);
    assert_eq!(write(&ground, channel, [put(1, b"a", b"1"), put(1, b"b", b"2"), put(2, b"a", b"3")]).await, 0);
    write(&ground, neighbour, [put(1, b"a", b"theirs")]).await;
    write(&ground, channel, [put(1, b"b", b"4")]).await;
    for _ in 0..2 {
        let asked = [b"b".to_vec(), b"none".to_vec(), b"a".to_vec(), b"b".to_vec()];
        let values = ground.store.session_values((channel, 0), 1, asked.to_vec()).await.expect("read");
        let expected = [Some(b"4".to_vec()), None, Some(b"1".to_vec()), Some(b"4".to_vec())];
        assert_eq!(values, expected, "in the order of the keys, the last one written");
        assert_eq!(ground.store.session_values((channel, 0), 2, vec![b"b".to_vec()]).await.expect("read"), [None]);
        ground.reopen().await;
    }
}

pub(super) async fn a_session_is_listed_by_prefix(ground: Ground) {
    let (channel, neighbour) = (linked(&ground, "loja").await, linked(&ground, "outra").await);
    let all: [&[u8]; 6] = [b"", b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"b"];
    let rows = all.iter().rev().map(|key| put(1, key, key)).chain([put(2, b"a", b"")]);
    write(&ground, channel, rows.collect::<Vec<_>>()).await;
    write(&ground, channel, [put(3, b"\xff\x01", b""), put(3, b"\xff\xff", b""), put(3, b"a", b"")]).await;
    write(&ground, neighbour, [put(1, b"aa", b"theirs")]).await;
    assert_eq!(keys(&ground, channel, 1, b"").await, all);
    assert_eq!(keys(&ground, channel, 1, b"a").await, all[1..5]);
    assert_eq!(keys(&ground, channel, 1, b"a\xff").await, all[3..5]);
    assert_eq!(keys(&ground, channel, 3, b"\xff").await, [b"\xff\x01", b"\xff\xff"], "nothing is behind these");
    assert!(keys(&ground, channel, 1, b"c").await.is_empty());
    let rows = ground.store.session_list((channel, 0), 1, b"b".to_vec()).await.expect("read");
    assert_eq!(rows, [(b"b".to_vec(), b"b".to_vec())]);
}

pub(super) async fn deleted_rows_are_counted(ground: Ground) {
    let (channel, neighbour) = (linked(&ground, "loja").await, linked(&ground, "outra").await);
    for channel in [channel, neighbour] {
        let rows = [put_at(0, 1, b"for ever", b""), put_at(5, 1, b"old", b""), put_at(9, 1, b"young", b"")];
        write(&ground, channel, rows).await;
        write(&ground, channel, [put_at(5, 2, b"old", b""), put(2, b"p1", b""), put(2, b"p2", b"")]).await;
    }
    assert_eq!(write(&ground, channel, [SessionChange::DeleteBefore { kind: 1, stamp: 9 }]).await, 1);
    assert_eq!(keys(&ground, channel, 1, b"").await, [b"for ever".to_vec(), b"young".to_vec()]);
    let delete = |key: &[u8]| SessionChange::Delete { kind: 1, key: key.to_vec() };
    let changes = [delete(b"young"), delete(b"none"), SessionChange::DeletePrefix { kind: 2, prefix: b"p".to_vec() }];
    let deleted = ground.store.write_session(first(channel), changes.into()).await.expect("stored");
    assert_eq!((deleted.of(1), deleted.of(2), deleted.all()), (1, 2, 3), "by kind");
    assert_eq!(keys(&ground, channel, 1, b"").await, [b"for ever"]);
    assert_eq!(keys(&ground, channel, 2, b"").await, [b"old"]);
    assert_eq!(keys(&ground, neighbour, 1, b"").await.len() + keys(&ground, neighbour, 2, b"").await.len(), 6);
    let later = [SessionChange::Delete { kind: 2, key: b"old".to_vec() }, put(2, b"old", b"newer")];
    assert_eq!(write(&ground, channel, later).await, 1, "in the order given");
    assert_eq!(keys(&ground, channel, 2, b"").await, [b"old"]);
}

pub(super) async fn a_session_ends_with_its_channel(ground: Ground) {
    let (channel, neighbour) = (linked(&ground, "loja").await, linked(&ground, "outra").await);
    for channel in [channel, neighbour] {
        write(&ground, channel, [put(1, b"a", b"1"), put(2, b"b", b"2")]).await;
    }
    ground.store.end_session(first(channel)).await.expect("stored");
    assert_eq!(ground.store.session_rows(None, 10).await.expect("read").len(), 2, "the neighbour's");
    ground.delete_channel(channel, NOW).await;
    for gone in [Held { session: 1, ..first(channel) }, first(neighbour + 1)] {
        let refused = ground.store.write_session(gone, vec![put(1, b"late", b"")]).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        assert!(keys(&ground, gone.channel, 1, b"").await.is_empty());
    }
    ground.store.create_channel(ground.new_channel("livre", ChannelState::Created)).await.expect("stored");
    assert_eq!(keys(&ground, neighbour, 1, b"").await, [b"a"]);
}

/// Which of its sessions a channel has.
async fn session(ground: &Ground, channel: ChannelKey) -> Held {
    let session = ground.store.channel(channel).await.expect("read").expect("there").session;
    Held { session, ..first(channel) }
}

pub(super) async fn a_session_reads_nothing_of_the_former_one(mut ground: Ground) {
    let channel = linked(&ground, "loja").await;
    let neighbour = linked(&ground, "outra").await;
    write(&ground, neighbour, [put(1, b"a", b"theirs")]).await;
    // Ended by the network, and by the end of its channel.
    for by_deletion in [false, true] {
        let former = session(&ground, channel).await;
        ground.store.write_session(former, vec![put(1, b"a", b"1")]).await.expect("stored");
        if by_deletion {
            ground.delete_channel(channel, NOW).await;
            assert_eq!(linked(&ground, "loja").await, channel, "created again");
        } else {
            ground.store.end_session(former).await.expect("stored");
            ground.store.end_session(former).await.expect("an answer that was lost is asked for again");
        }
        ground.reopen().await;
        let next = session(&ground, channel).await;
        assert_eq!(next.session, former.session + 1);
        // A late report of the former session does not count.
        let late = ground.store.write_session(former, vec![put(1, b"a", b"late")]).await;
        assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
        let (up, down) = (ChannelState::Connected, ChannelState::LoggedOut);
        assert!(
            !ground
                .store
                .move_held_channel(former, crate::fixtures::channel_move(up, down, NOW))
                .await
                .expect("answered")
        );
        let link = Link { channel, details: "{}".to_owned(), sealed: vec![1] };
        assert!(!ground.store.link_held_channel(link, former, up, NOW).await.expect("answered"));

        ground.store.write_session(next, vec![put(1, b"b", b"2")]).await.expect("stored");
        ground.store.end_session(former).await.expect("answered");
        let of = |held: Held| (channel, held.session);
        let values = ground.store.session_values(of(next), 1, vec![b"a".to_vec(), b"b".to_vec()]).await.expect("read");
        assert_eq!(values, [None, Some(b"2".to_vec())]);
        assert_eq!(ground.store.session_values(of(former), 1, vec![b"b".to_vec()]).await.expect("read"), [None]);
        assert_eq!(ground.store.session_list(of(former), 1, Vec::new()).await.expect("read"), []);
        let all = ground.store.session_rows(None, 10).await.expect("read");
        let numbers: Vec<_> = all.iter().map(|row| (row.of.channel, row.of.session)).collect();
        assert_eq!(numbers, [(channel, next.session), (neighbour, 0)]);
        assert!(
            ground.store.move_held_channel(next, crate::fixtures::channel_move(up, up, NOW)).await.expect("stored")
        );
        // As each test begins.
        ground
            .store
            .write_session(next, vec![SessionChange::Delete { kind: 1, key: b"b".to_vec() }])
            .await
            .expect("stored");
    }
}

pub(super) async fn all_sessions_are_read_in_pages(ground: Ground) {
    let (channel, neighbour) = (linked(&ground, "loja").await, linked(&ground, "outra").await);
    let mut expected = Vec::new();
    for channel in [channel, neighbour] {
        for (kind, key) in [(1, b"a"), (1, b"b"), (2, b"a")] {
            write(&ground, channel, [put(kind, key, b"sealed")]).await;
            let of = SessionKey { channel, session: 0, kind, key: key.to_vec() };
            expected.push(SessionRow { of, sealed: b"sealed".to_vec() });
        }
    }
    for limit in [1, 2, 4, 10] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = ground.store.session_rows(after, limit).await.expect("read");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.of.clone());
            found.extend(page);
        }
        assert_eq!(found, expected, "{limit}");
    }
}

pub(super) async fn only_an_unchanged_row_is_sealed_again(ground: Ground) {
    let channel = linked(&ground, "loja").await;
    write(&ground, channel, [put_at(5, 1, b"a", b"old"), put(1, b"b", b"old")]).await;
    let row = |key: &[u8]| {
        let of = SessionKey { channel, session: 0, kind: 1, key: key.to_vec() };
        SessionRow { of, sealed: b"old".to_vec() }
    };
    assert!(ground.store.reseal_session_row(row(b"a"), b"new".to_vec()).await.expect("stored"));
    assert!(!ground.store.reseal_session_row(row(b"a"), b"late".to_vec()).await.expect("answered"));
    assert!(!ground.store.reseal_session_row(row(b"none"), b"new".to_vec()).await.expect("answered"));
    let rows = ground.store.session_list((channel, 0), 1, Vec::new()).await.expect("read");
    assert_eq!(rows, [(b"a".to_vec(), b"new".to_vec()), (b"b".to_vec(), b"old".to_vec())]);
    let deleted = write(&ground, channel, [SessionChange::DeleteBefore { kind: 1, stamp: 6 }]).await;
    assert_eq!(deleted, 1, "the stamp stays");
}
