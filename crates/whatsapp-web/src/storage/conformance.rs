//! Compares our storage with the library's own in memory: the same random calls give the same answers, and each call makes
//! one write.

use std::fmt::Debug;
use std::sync::Arc;

use proptest::prelude::*;
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::wacore::appstate::hash::HashState;
use whatsapp_rust::wacore::appstate::processor::AppStateMutationMAC;
use whatsapp_rust::wacore::store::error::Result;
use whatsapp_rust::wacore::store::traits::*;
use whatsapp_rust::wacore::store::{Device, InMemoryBackend};
use whatsapp_rust::wacore::time::now_secs;

use super::Storage;
use crate::memory_rows::MemoryRows;

/// Few names, so that calls collide; some names are prefixes of others.
const NAMES: [&str; 5] = ["551@s", "551:1@s", "5511@s", "552@s", "55"];

/// One call: the method, and its arguments.
#[derive(Clone, Copy, Debug)]
struct Call {
    method: u8,
    a: u8,
    b: u8,
    n: u8,
}

impl Call {
    fn first(self) -> &'static str {
        NAMES[usize::from(self.a) % NAMES.len()]
    }

    fn second(self) -> &'static str {
        NAMES[usize::from(self.b) % NAMES.len()]
    }

    fn bytes(self) -> Bytes {
        Bytes::from(vec![self.n; usize::from(self.n)])
    }

    fn ids(self) -> [u32; 2] {
        [u32::from(self.a), u32::from(self.b)]
    }

    fn batch(self) -> [(Arc<str>, Bytes); 2] {
        [(self.first().into(), self.bytes()), (self.second().into(), Bytes::from_static(b"second"))]
    }

    fn mapping(self, lid: &str, phone: &str) -> LidPnMappingEntry {
        LidPnMappingEntry {
            lid: lid.into(),
            phone_number: phone.into(),
            created_at: self.n.into(),
            updated_at: 2,
            learning_source: "usync".into(),
        }
    }

    fn devices(self, user: &str) -> DeviceListRecord {
        DeviceListRecord {
            user: user.into(),
            devices: vec![DeviceInfo::new(self.n.into(), Some(3)), DeviceInfo::new(0, None).with_hosting(true)],
            timestamp: self.b.into(),
            phash: Some("2:hash".into()),
            raw_id: Some(self.n.into()),
        }
    }

    fn secret(self, sender: &str) -> MsgSecretEntry {
        MsgSecretEntry {
            chat: self.first().into(),
            sender: sender.into(),
            msg_id: "id".into(),
            secret: [self.n; 32],
            expires_at: i64::from(self.n % 5),
            message_ts: i64::from(self.b % 3),
        }
    }
}

fn show(answer: impl Debug) -> String {
    format!("{answer:?}")
}

fn sorted<T: Debug>(answers: impl IntoIterator<Item = T>) -> String {
    let mut answers: Vec<_> = answers.into_iter().map(show).collect();
    answers.sort();
    show(answers)
}

async fn signal(of: &dyn Backend, call: Call) -> Result<String> {
    let (first, [id, other], bytes) = (call.first(), call.ids(), call.bytes());
    Ok(match call.method % 25 {
        0 => show(of.put_identity(first, [call.n; 32]).await?),
        1 => show(of.put_identities_batch(&[(first.into(), [1; 32]), (call.second().into(), [2; 32])]).await?),
        2 => show(of.load_identity(first).await?),
        3 => show(of.delete_identity(first).await?),
        4 => show(of.get_session(first).await?),
        5 => show(of.put_session(first, &bytes).await?),
        6 => show(of.put_sessions_batch(&call.batch()).await?),
        7 => show(of.delete_session(first).await?),
        8 => show(of.has_session(first).await?),
        9 => show(of.has_signal_state_for_user(first.split(['@', ':']).next().unwrap_or_default()).await?),
        10 => show(of.store_prekey(id, &bytes, false).await?),
        11 => show(of.store_prekeys_batch(&[(id, bytes), (other, Bytes::from_static(b"key"))], true).await?),
        12 => show(of.load_prekey(id).await?),
        13 => show(of.load_prekeys_batch(&[other, id, 999]).await?),
        14 => show(of.mark_prekeys_uploaded(&[id, other]).await?),
        15 => show(of.remove_prekey(id).await?),
        16 => show(of.get_max_prekey_id().await?),
        17 => show(of.store_signed_prekey(id, &bytes).await?),
        18 => show(of.load_signed_prekey(id).await?),
        19 => sorted(of.load_all_signed_prekeys().await?),
        20 => show(of.remove_signed_prekey(id).await?),
        21 => show(of.put_sender_key(first, &bytes).await?),
        22 => show(of.put_sender_keys_batch(&call.batch()).await?),
        23 => show(of.get_sender_key(first).await?),
        _ => show(of.delete_sender_key(first).await?),
    })
}

async fn app_sync(of: &dyn Backend, call: Call) -> Result<String> {
    let (name, key, mac) = (call.first(), call.second().as_bytes(), [call.n % 4; 32]);
    let version = HashState { version: call.n.into(), ..HashState::default() };
    let macs = [AppStateMutationMAC { index_mac: mac.into(), value_mac: vec![call.b; 8] }];
    Ok(match call.method % 10 {
        0 => show(of.get_sync_key(key).await?),
        1 => {
            let key_data = AppStateSyncKey { key_data: vec![call.n; 4], ..AppStateSyncKey::default() };
            show(of.set_sync_key(key, key_data).await?)
        }
        2 => show(of.get_version(name).await?),
        3 => show(of.set_version(name, version).await?),
        4 => show(of.put_mutation_macs(name, 1, &macs).await?),
        5 => show(of.get_mutation_mac(name, &mac).await?),
        6 => sorted(of.get_mutation_macs(name, &[[0; 32], [1; 32], mac]).await?),
        7 => show(of.delete_mutation_macs(name, &[mac.into(), vec![7; 32]]).await?),
        8 => show(of.clear_mutation_macs(name).await?),
        _ => show(of.get_latest_sync_key_id().await?),
    })
}

async fn protocol(of: &dyn Backend, call: Call) -> Result<String> {
    let (first, second, bytes) = (call.first(), call.second(), call.bytes());
    Ok(match call.method % 21 {
        0 => sorted(of.get_sender_key_devices(first).await?),
        1 => show(of.set_sender_key_status(first, &[(second, call.n > 9), ("551@s", true)]).await?),
        2 => show(of.clear_sender_key_devices(first).await?),
        3 => show(of.delete_sender_key_device_rows(&[second]).await?),
        4 => show(of.clear_all_sender_key_devices().await?),
        5 => show(of.get_lid_mapping(first).await?),
        6 => show(of.get_pn_mapping(first).await?),
        7 => show(of.put_lid_mapping(&call.mapping(first, second)).await?),
        8 => show(of.put_lid_mappings(&[call.mapping(first, second), call.mapping(second, first)]).await?),
        9 => sorted(of.get_all_lid_mappings().await?),
        10 => show(of.save_base_key(first, second, &bytes).await?),
        11 => show(of.has_same_base_key(first, second, &bytes).await?),
        12 => show(of.delete_base_key(first, second).await?),
        13 => show(of.update_device_list(call.devices(first)).await?),
        14 => show(of.update_device_lists(vec![call.devices(first), call.devices(second)]).await?),
        15 => show(of.get_devices(first).await?),
        16 => show(of.delete_devices(first).await?),
        17 => show(of.get_group_metadata(first).await?),
        18 => show(of.put_group_metadata(first, &bytes).await?),
        19 => show(of.delete_group_metadata(first).await?),
        _ => show(of.exists().await?),
    })
}

async fn tokens_and_messages(of: &dyn Backend, call: Call) -> Result<String> {
    let (first, second, bytes, at) = (call.first(), call.second(), call.bytes(), i64::from(call.n));
    // A cutoff after or before every stamp of this test.
    let cutoff = now_secs() + if call.n.is_multiple_of(2) { 1000 } else { -1000 };
    let token = TcTokenEntry { token: bytes.to_vec(), token_timestamp: at, sender_timestamp: None };
    Ok(match call.method % 16 {
        0 => show(of.get_tc_token(first).await?),
        1 => show(of.put_tc_token(first, &token).await?),
        2 => show(of.delete_tc_token(first).await?),
        3 => sorted(of.get_all_tc_token_jids().await?),
        4 => show(of.delete_expired_tc_tokens(at, call.b.into()).await?),
        5 => show(of.touch_tc_token_sender_timestamp(first, at).await?),
        6 => show(of.store_received_tc_token(first, &bytes, at).await?),
        7 => show(of.store_sent_message(first, second, &bytes).await?),
        8 => show(of.take_sent_message(first, second).await?),
        9 => show(of.delete_expired_sent_messages(cutoff).await?),
        10 => show(of.store_pending_inbound(first, second, "id", &bytes).await?),
        // An unknown message is refused by one of the two: it is no pending one.
        11 => show(of.get_pending_inbound(first, second, "id").await.ok().flatten()),
        12 => show(of.delete_pending_inbound(first, second, "id").await?),
        13 => show(of.delete_expired_pending_inbound(cutoff).await?),
        14 => {
            let row = PendingInboundRow { chat: first, sender: second, id: "id", message: &bytes };
            show(of.store_pending_inbound_batch(&[row, PendingInboundRow { id: "other", ..row }]).await?)
        }
        _ => {
            let key = PendingInboundKey { chat: first, sender: second, id: "id" };
            show(of.delete_pending_inbound_batch(&[key, PendingInboundKey { id: "other", ..key }]).await?)
        }
    })
}

async fn secrets_and_device(of: &dyn Backend, call: Call) -> Result<String> {
    let (first, second) = (call.first(), call.second());
    Ok(match call.method % 8 {
        0 => show(of.put_msg_secret(first, second, "id", &[call.n; 32]).await?),
        1 => show(of.put_msg_secrets(vec![call.secret(second), call.secret(first), call.secret(second)]).await?),
        2 => show(of.get_msg_secret(first, second, "id").await?),
        3 => show(of.get_msg_secret_with_ts(first, second, "id").await?),
        4 => show(of.delete_expired_msg_secrets(i64::from(call.n % 6)).await?),
        5 => {
            // Each storage creates its own device, and keeps it.
            of.create().await?;
            show(of.exists().await?)
        }
        6 => {
            let mut device = Device::new();
            device.push_name = first.into();
            show(of.save(&device).await?)
        }
        _ => show(of.load().await?.map(|device| device.push_name)),
    })
}

async fn answer(of: &dyn Backend, (group, call): (u8, Call)) -> Result<String> {
    match group {
        0 => signal(of, call).await,
        1 => app_sync(of, call).await,
        2 => protocol(of, call).await,
        3 => tokens_and_messages(of, call).await,
        _ => secrets_and_device(of, call).await,
    }
}

fn calls() -> impl Strategy<Value = Vec<(u8, Call)>> {
    let call = (any::<u8>(), 0..6_u8, 0..6_u8, 0..20_u8).prop_map(|(method, a, b, n)| Call { method, a, b, n });
    // A case tests one trait, so that its calls collide.
    (0..5_u8, prop::collection::vec(call, 1..120))
        .prop_map(|(group, calls)| calls.into_iter().map(|call| (group, call)).collect())
}

#[test]
fn answers_as_the_library_s_own_storage() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    proptest!(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }, |(calls in calls())| {
        let rows = Arc::new(MemoryRows::default());
        let (ours, theirs) = (Storage::new(rows.clone()), InMemoryBackend::new());
        for call in calls {
            let before = rows.writes();
            let (ours, theirs) = runtime.block_on(async { (answer(&ours, call).await, answer(&theirs, call).await) });
            prop_assert_eq!(show(ours), show(theirs), "{:?}", call);
            prop_assert!(rows.writes() - before <= 1, "{:?} wrote more than once", call);
        }
    });
}

#[tokio::test]
async fn a_device_is_read_as_it_was_stored() -> Result<()> {
    let storage = Storage::new(Arc::new(MemoryRows::default()));
    assert!(storage.load().await?.is_none());
    let device = Device::new();
    storage.save(&device).await?;
    let loaded = storage.load().await?.expect("it was stored");
    let json = |device| serde_json::to_string(device).expect("a device is JSON");
    assert_eq!(json(&loaded), json(&device));
    // Not stored; needed when a device is linked.
    assert_eq!(loaded.device_props, device.device_props);
    Ok(())
}
