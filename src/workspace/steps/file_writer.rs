//! Writes a download to its file while the disk takes what was written before.

use std::io;

use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};

use crate::workspace::local_files::Access;

/// How much is written at once: each write is a hop to a thread for blocking work and back.
const AT_ONCE: usize = 256 << 10;

/// How much is written before the disk is told to take it. The sync in the end would have to wait for all of it otherwise.
const TO_DISK: u64 = 32 << 20;

/// A file that is written from its beginning.
pub(super) struct FileWriter {
    file: File,
    gathered: Vec<u8>,
    size: u64,
    /// How much was written since the disk was last told.
    untold: u64,
    sync: Option<JoinHandle<io::Result<()>>>,
}

impl FileWriter {
    pub(super) fn new(file: File) -> Self {
        Self { file, gathered: Vec::new(), size: 0, untold: 0, sync: None }
    }

    /// How much came so far.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Writes more.
    ///
    /// # Errors
    /// This or something before could not be written.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        if self.gathered.len() + bytes.len() > AT_ONCE {
            self.write_gathered().await?;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    /// Begins again with an empty file.
    pub(super) async fn clear(&mut self) -> io::Result<()> {
        self.gathered.clear();
        self.file.flush().await?;
        self.file.set_len(0).await?;
        self.file.rewind().await?;
        (self.size, self.untold) = (0, 0);
        Ok(())
    }

    /// Gives it the access that it is to have in the end. Returns when all is on the disk.
    pub(super) async fn finish(mut self, access: Option<Access>) -> io::Result<()> {
        self.write_gathered().await?;
        self.file.flush().await?;
        self.synced().await?;
        let file = self.file.into_std().await;
        let finish = move || {
            if let Some(access) = access {
                access.give(&file);
            }
            file.sync_all()
        };
        tokio::task::spawn_blocking(finish).await?
    }

    /// Waits for the sync that was begun last. The system tells of a failure once, so the next one would know nothing of it.
    async fn synced(&mut self) -> io::Result<()> {
        match self.sync.take() {
            Some(sync) => sync.await?,
            None => Ok(()),
        }
    }

    async fn write_gathered(&mut self) -> io::Result<()> {
        self.file.write_all(&self.gathered).await?;
        self.untold += self.gathered.len() as u64;
        self.gathered.clear();
        if self.untold >= TO_DISK && self.sync.as_ref().is_none_or(JoinHandle::is_finished) {
            self.synced().await?;
            self.untold = 0;
            // Where no more files can be open, the sync in the end does all of it.
            if let Ok(file) = self.file.try_clone().await {
                let file = file.into_std().await;
                self.sync = Some(tokio::task::spawn_blocking(move || file.sync_data()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn what_is_written_is_in_the_file_however_it_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut writer = FileWriter::new(File::create(&path).await.unwrap());
        writer.write(b"of an attempt before").await.unwrap();
        writer.clear().await.unwrap();
        let bytes: Vec<u8> = (0..2 * TO_DISK + 12_345).map(|at| ((at * 31) >> 7) as u8).collect();
        let mut rest = bytes.as_slice();
        for length in [1, 100, 70_000, AT_ONCE, AT_ONCE + 1, 0, 3 * AT_ONCE].into_iter().cycle() {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            writer.write(piece).await.unwrap();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(writer.size(), bytes.len() as u64);
        writer.finish(None).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}
