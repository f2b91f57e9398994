//! Messages received and not yet acknowledged to the network.

use whatsapp_rust::wacore::store::error::Result;
use whatsapp_rust::wacore::store::traits::{PendingInboundKey, PendingInboundRow};
use whatsapp_rust::wacore::time::now_secs;

use crate::storage::{Storage, delete, key};
use crate::{Change, Kind};

pub fn key_of(chat: &str, sender: &str, id: &str) -> Vec<u8> {
    key::of(&[chat.as_bytes(), sender.as_bytes(), id.as_bytes()])
}

pub async fn put_all(storage: &Storage, rows: &[PendingInboundRow<'_>]) -> Result<()> {
    let stamp = now_secs();
    let put = |row: &PendingInboundRow<'_>| Change::Put {
        kind: Kind::PendingInbound,
        key: key_of(row.chat, row.sender, row.id),
        value: row.message.to_vec(),
        stamp,
    };
    storage.write(rows.iter().map(put).collect()).await.map(drop)
}

pub async fn delete_all(storage: &Storage, keys: &[PendingInboundKey<'_>]) -> Result<()> {
    let deletes = keys.iter().map(|key| delete(Kind::PendingInbound, key_of(key.chat, key.sender, key.id)));
    storage.write(deletes.collect()).await.map(drop)
}
