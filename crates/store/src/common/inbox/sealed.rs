//! What drivers sealed of delivered messages.

use recado_domain::channel::ChannelType;
use recado_domain::ids::MediaId;
use recado_domain::incoming::SealedIncoming;
use recado_domain::message::Seq;

use super::optional_id;
use crate::sqlkit::both::{Executor, Read, Row, values};

/// A page of the sealed parts of messages behind this place. Only sessions of linked channels seal something.
pub(crate) async fn page<E: Executor>(db: &E, after: Seq, limit: usize) -> Result<Vec<SealedIncoming>, E::Error> {
    let linked = ChannelType::ALL.into_iter().map(ChannelType::descriptor).filter(|of| of.holds_session);
    let linked: Vec<_> = linked.map(|of| format!("'{}'", of.name)).collect();
    let sql = format!(
        "SELECT m.seq, m.channel_key, m.network_id, m.raw, f.id AS file_id, f.sealed
         FROM incoming m JOIN channels c ON c.key = m.channel_key LEFT JOIN incoming_media f ON f.id = m.media_id
         WHERE m.seq > ?1 AND (m.raw IS NOT NULL OR f.sealed IS NOT NULL) AND c.type IN ({})
         ORDER BY m.seq LIMIT ?2",
        linked.join(", ")
    );
    db.rows(&sql, values![after, i64::try_from(limit).unwrap_or(i64::MAX)], row).await
}

fn row(row: &Row<'_>) -> Read<SealedIncoming> {
    let (id, sealed) = (optional_id(row, "file_id")?.map(MediaId::from_bytes), row.get::<Option<Vec<u8>>>("sealed")?);
    Ok(SealedIncoming {
        seq: row.get("seq")?,
        channel: row.get("channel_key")?,
        network_id: row.get("network_id")?,
        raw: row.get("raw")?,
        file: id.zip(sealed),
    })
}

/// Replaces sealed parts; `false` if one of them is another one by now.
pub(crate) async fn replace<E: Executor>(db: &E, old: &SealedIncoming, new: &SealedIncoming) -> Result<bool, E::Error> {
    let mut all = true;
    if let (Some(before), Some(raw)) = (&old.raw, &new.raw) {
        let sql = "UPDATE incoming SET raw = ?3 WHERE seq = ?1 AND raw = ?2";
        all &= db.run(sql, values![old.seq, before.as_slice(), raw.as_slice()]).await? == 1;
    }
    if let (Some((id, before)), Some((_, sealed))) = (&old.file, &new.file) {
        let sql = "UPDATE incoming_media SET sealed = ?3 WHERE id = ?1 AND sealed = ?2";
        all &= db.run(sql, values![&id.as_bytes()[..], before.as_slice(), sealed.as_slice()]).await? == 1;
    }
    Ok(all)
}
