//! Makes room on a full disk: the files that were not read for the longest time go, always of the tenant that has the most
//! bytes. So a tenant with few files keeps them, however many another one has.

use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::MediaId;
use tokio::time::Instant;

use super::tidy::AT_ONCE;
use super::{Fault, MediaFiles};

/// At least this part of the stored bytes goes at a time, because each time looks at every file.
const PART: u64 = 16;
/// The wait after there was nothing to delete.
const AGAIN: Duration = Duration::from_mins(1);

/// A stored file. `None`: the channel of its owner is not known.
struct Stored {
    id: MediaId,
    owner: Option<Owner>,
    size: u64,
    read_at: Option<Millis>,
}

impl MediaFiles {
    /// Deletes stored files, so that the disk has room for a file of this size. Returns whether it may have room now.
    pub(super) async fn make_room(&self, size: u64) -> Result<bool, Fault> {
        let mut nothing_at = self.making_room.lock().await;
        let lacking = self.directory.run(move |disk| disk.lacks(size)).await?;
        if lacking == 0 {
            return Ok(true);
        }
        if nothing_at.is_some_and(|at| at.elapsed() < AGAIN) {
            return Ok(false);
        }
        let stored = self.stored_here().await?;
        let part = stored.iter().map(|file| file.size).sum::<u64>() / PART;
        let ids = choose(stored, lacking.max(part));
        for ids in ids.chunks(AT_ONCE) {
            self.store.release_files(ids.to_vec()).await?;
            for id in ids {
                self.delete_if_left_over(*id).await?;
            }
        }
        *nothing_at = ids.is_empty().then(Instant::now);
        tracing::warn!(files = ids.len(), "disk full; received files deleted that were not read for the longest time");
        Ok(!ids.is_empty())
    }

    /// The files on this node whose rows say that they are stored.
    async fn stored_here(&self) -> Result<Vec<Stored>, Fault> {
        let mut stored = Vec::new();
        for files in self.directory.run(|disk| disk.files()).await?.chunks(AT_ONCE) {
            let sizes: HashMap<_, _> = files.iter().copied().collect();
            let found = self.store.stored_files(files.iter().map(|(id, _)| *id).collect()).await?;
            stored.extend(found.into_iter().map(|file| {
                let entry = self.channels.channel(file.channel);
                let owner = entry.map(|entry| (entry.via.institution, entry.environment));
                let size = sizes.get(&file.id).copied().unwrap_or_default();
                Stored { id: file.id, owner, size, read_at: file.read_at }
            }));
        }
        Ok(stored)
    }
}

/// The files to delete for this many bytes; none, if all files together are smaller.
fn choose(mut files: Vec<Stored>, bytes: u64) -> Vec<MediaId> {
    if files.iter().map(|file| file.size).sum::<u64>() < bytes {
        return Vec::new();
    }
    // The one that was read last is the first.
    files.sort_unstable_by_key(|file| std::cmp::Reverse(file.read_at));
    let mut places = HashMap::new();
    let mut shares: Vec<(u64, Vec<Stored>)> = Vec::new();
    for file in files {
        let place = *places.entry(file.owner).or_insert_with(|| {
            shares.push((0, Vec::new()));
            shares.len() - 1
        });
        shares[place].0 += file.size;
        shares[place].1.push(file);
    }
    let mut largest: BinaryHeap<(u64, usize)> = shares.iter().map(|share| share.0).zip(0..).collect();
    let (mut chosen, mut freed) = (Vec::new(), 0);
    while freed < bytes {
        let Some((share, place)) = largest.pop() else { break };
        let Some(file) = shares[place].1.pop() else { continue };
        freed += file.size;
        chosen.push(file.id);
        largest.push((share - file.size, place));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use recado_domain::api_key::Environment::{Live, Test};
    use recado_domain::ids::InstitutionId;

    use super::*;

    #[test]
    fn the_oldest_files_of_the_largest_tenant_go_first() {
        let file = |n: u8, tenant: u8, size: u64, read_at: Millis| {
            let environment = if tenant == 3 { Test } else { Live };
            let owner = Some((InstitutionId::new(1, [tenant; 10]), environment));
            Stored { id: MediaId::new(1, [n; 10]), owner, size, read_at: Some(read_at) }
        };
        let files = || {
            vec![
                file(1, 1, 10, 1),
                file(2, 2, 40, 9),
                file(3, 2, 40, 8),
                file(4, 2, 40, 7),
                file(5, 3, 90, 6),
                file(6, 3, 5, 5),
            ]
        };
        let chosen = |bytes| -> Vec<u8> { choose(files(), bytes).iter().map(|id| id.as_bytes()[15]).collect() };
        // 120 of the second tenant, 95 of the third, 10 of the first.
        assert_eq!(chosen(0), [] as [u8; 0]);
        assert_eq!(chosen(1), [4]);
        assert_eq!(chosen(41), [4, 6]);
        assert_eq!(chosen(46), [4, 6, 5]);
        assert_eq!(chosen(150), [4, 6, 5, 3]);
        assert_eq!(chosen(225).len(), 6);
        assert_eq!(chosen(226), [] as [u8; 0], "no file is lost for room that cannot be made");
    }
}
