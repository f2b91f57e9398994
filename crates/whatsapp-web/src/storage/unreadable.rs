//! Messages that could not be read, and that are waited for; messages that the gateway's store refused. They are the driver's
//! own rows, and not the library's.

use whatsapp_rust::wacore::store::error::Result;
use whatsapp_rust::wacore::time::now_secs;

use super::{Storage, delete, put};
use crate::{Change, Kind};

impl Storage {
    pub async fn unreadable(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.list(Kind::Unreadable, Vec::new()).await
    }

    pub async fn put_unreadable(&self, key: Vec<u8>, row: Vec<u8>) -> Result<()> {
        self.change(put(Kind::Unreadable, key, row)).await
    }

    pub async fn delete_unreadable(&self, keys: Vec<Vec<u8>>) -> Result<()> {
        self.write(keys.into_iter().map(|key| delete(Kind::Unreadable, key)).collect()).await.map(drop)
    }

    pub async fn refused(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.list(Kind::NotTaken, Vec::new()).await
    }

    pub async fn put_refused(&self, key: Vec<u8>, row: Vec<u8>) -> Result<()> {
        self.change(Change::Put { kind: Kind::NotTaken, key, value: row, stamp: now_secs() }).await
    }

    pub async fn delete_refused_before(&self, stamp: i64) -> Result<()> {
        self.change(Change::DeleteBefore { kind: Kind::NotTaken, stamp }).await
    }

    pub async fn delete_refused(&self, key: Vec<u8>) -> Result<()> {
        self.change(delete(Kind::NotTaken, key)).await
    }
}
