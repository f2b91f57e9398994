//! Messages that could not be read, and that are waited for; messages that a former version kept. They are the driver's own rows,
//! and not the library's.

use whatsapp_rust::wacore::store::error::Result;

use super::{Storage, delete, put};
use crate::Kind;

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

    pub async fn not_taken(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.list(Kind::NotTaken, Vec::new()).await
    }

    pub async fn delete_not_taken(&self, key: Vec<u8>) -> Result<()> {
        self.change(delete(Kind::NotTaken, key)).await
    }
}
