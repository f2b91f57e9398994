//! What the protocol stores about chats, accounts and devices. It is one trait of the library, with a file for each concern
//! that needs more than reading or writing one row.

mod pending;
mod phones;
mod sender_keys;
mod sent;
mod tokens;

use async_trait::async_trait;
use whatsapp_rust::wacore::store::error::Result;
use whatsapp_rust::wacore::store::traits::{
    DeviceListRecord, LidPnMappingEntry, PendingInboundKey, PendingInboundRow, ProtocolStore, TcTokenEntry,
};

use super::{Storage, delete, from_json, key, put, to_json};
use crate::{Change, Kind};

#[async_trait]
impl ProtocolStore for Storage {
    async fn get_sender_key_devices(&self, group_jid: &str) -> Result<Vec<(String, bool)>> {
        sender_keys::of_group(self, group_jid).await
    }

    async fn set_sender_key_status(&self, group_jid: &str, entries: &[(&str, bool)]) -> Result<()> {
        sender_keys::set(self, group_jid, entries).await
    }

    async fn clear_sender_key_devices(&self, group_jid: &str) -> Result<()> {
        sender_keys::clear(self, key::prefix(group_jid.as_bytes())).await
    }

    async fn delete_sender_key_device_rows(&self, device_jids: &[&str]) -> Result<()> {
        sender_keys::forget_devices(self, device_jids).await
    }

    async fn clear_all_sender_key_devices(&self) -> Result<()> {
        sender_keys::clear(self, Vec::new()).await
    }

    async fn get_lid_mapping(&self, lid: &str) -> Result<Option<LidPnMappingEntry>> {
        self.get(Kind::LidMapping, lid.into()).await?.map(|bytes| from_json(&bytes)).transpose()
    }

    async fn get_pn_mapping(&self, phone: &str) -> Result<Option<LidPnMappingEntry>> {
        phones::of_phone(self, phone).await
    }

    async fn put_lid_mapping(&self, entry: &LidPnMappingEntry) -> Result<()> {
        phones::put_all(self, std::slice::from_ref(entry)).await
    }

    async fn put_lid_mappings(&self, entries: &[LidPnMappingEntry]) -> Result<()> {
        phones::put_all(self, entries).await
    }

    async fn get_all_lid_mappings(&self) -> Result<Vec<LidPnMappingEntry>> {
        self.list(Kind::LidMapping, Vec::new()).await?.iter().map(|(_, bytes)| from_json(bytes)).collect()
    }

    async fn save_base_key(&self, address: &str, message_id: &str, base_key: &[u8]) -> Result<()> {
        self.change(put(Kind::BaseKey, pair(address, message_id), base_key)).await
    }

    async fn has_same_base_key(&self, address: &str, message_id: &str, current_base_key: &[u8]) -> Result<bool> {
        let stored = self.get(Kind::BaseKey, pair(address, message_id)).await?;
        Ok(stored.is_some_and(|stored| stored == current_base_key))
    }

    async fn delete_base_key(&self, address: &str, message_id: &str) -> Result<()> {
        self.change(delete(Kind::BaseKey, pair(address, message_id))).await
    }

    async fn update_device_list(&self, record: DeviceListRecord) -> Result<()> {
        self.change(device_list(&record)?).await
    }

    async fn update_device_lists(&self, records: Vec<DeviceListRecord>) -> Result<()> {
        self.write(records.iter().map(device_list).collect::<Result<_>>()?).await.map(drop)
    }

    async fn get_devices(&self, user: &str) -> Result<Option<DeviceListRecord>> {
        self.get(Kind::DeviceList, user.into()).await?.map(|bytes| from_json(&bytes)).transpose()
    }

    async fn delete_devices(&self, user: &str) -> Result<()> {
        self.change(delete(Kind::DeviceList, user)).await
    }

    async fn get_group_metadata(&self, group_jid: &str) -> Result<Option<Vec<u8>>> {
        self.get(Kind::GroupMetadata, group_jid.into()).await
    }

    async fn put_group_metadata(&self, group_jid: &str, blob: &[u8]) -> Result<()> {
        self.change(put(Kind::GroupMetadata, group_jid, blob)).await
    }

    async fn delete_group_metadata(&self, group_jid: &str) -> Result<()> {
        self.change(delete(Kind::GroupMetadata, group_jid)).await
    }

    async fn get_tc_token(&self, jid: &str) -> Result<Option<TcTokenEntry>> {
        tokens::get(self, jid).await
    }

    async fn put_tc_token(&self, jid: &str, entry: &TcTokenEntry) -> Result<()> {
        let _guard = self.lock().await;
        tokens::put(self, jid, entry).await
    }

    async fn delete_tc_token(&self, jid: &str) -> Result<()> {
        let _guard = self.lock().await;
        self.change(delete(Kind::TrustToken, jid)).await
    }

    async fn get_all_tc_token_jids(&self) -> Result<Vec<String>> {
        tokens::accounts(self).await
    }

    async fn delete_expired_tc_tokens(&self, token_cutoff: i64, sender_cutoff: i64) -> Result<u32> {
        tokens::delete_expired(self, token_cutoff, sender_cutoff).await
    }

    async fn touch_tc_token_sender_timestamp(&self, jid: &str, sender_timestamp: i64) -> Result<()> {
        tokens::touch_sender(self, jid, sender_timestamp).await
    }

    async fn store_received_tc_token(&self, jid: &str, token: &[u8], token_timestamp: i64) -> Result<()> {
        tokens::receive(self, jid, token, token_timestamp).await
    }

    async fn store_sent_message(&self, chat_jid: &str, message_id: &str, payload: &[u8]) -> Result<()> {
        sent::put(self, pair(chat_jid, message_id), payload).await
    }

    async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
        sent::take(self, pair(chat_jid, message_id)).await
    }

    async fn delete_expired_sent_messages(&self, cutoff_timestamp: i64) -> Result<u32> {
        sent::delete_before(self, Kind::SentMessage, cutoff_timestamp).await
    }

    async fn store_pending_inbound(&self, chat: &str, sender: &str, id: &str, message: &[u8]) -> Result<()> {
        pending::put_all(self, &[PendingInboundRow { chat, sender, id, message }]).await
    }

    async fn get_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<Option<Vec<u8>>> {
        pending::get(self, pending::key_of(chat, sender, id)).await
    }

    async fn delete_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<()> {
        pending::delete_all(self, &[PendingInboundKey { chat, sender, id }]).await
    }

    async fn delete_expired_pending_inbound(&self, cutoff_timestamp: i64) -> Result<u32> {
        pending::delete_before(self, cutoff_timestamp).await
    }

    async fn store_pending_inbound_batch(&self, rows: &[PendingInboundRow<'_>]) -> Result<()> {
        pending::put_all(self, rows).await
    }

    async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
        pending::delete_all(self, keys).await
    }
}

fn pair(first: &str, second: &str) -> Vec<u8> {
    key::of(&[first.as_bytes(), second.as_bytes()])
}

fn device_list(record: &DeviceListRecord) -> Result<Change> {
    Ok(put(Kind::DeviceList, record.user.as_str(), to_json(record)?))
}
