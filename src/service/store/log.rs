use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Frame, FrameKind, StoreError,
    frame::{HEADER, MAX_PAYLOAD, encode, header},
};
use crate::protocol::EventId;

/// How much of the end of a log is kept in memory, for those who follow it.
const TAIL: usize = 64 << 10;

/// The logs, each a file that only grows. Readers take what is there at their own pace and cost nothing while they do not.
pub(crate) struct Logs {
    directory: PathBuf,
    names: Arc<Names>,
    /// Those that somebody holds.
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    logs: HashMap<EventId, Weak<Log>>,
    /// With how many those are looked for that nobody holds any more.
    sweep_at: usize,
}

impl Logs {
    /// The logs in this directory, which is made where there is none.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, StoreError> {
        let made = fs::create_dir_all(&directory).and_then(|()| File::open(&directory));
        let names = made.map_err(|source| StoreError::File { path: directory.clone(), source })?;
        Ok(Self { directory, names: Arc::new(Names::new(names)), open: Mutex::default() })
    }

    /// The log of this id, to write to; it is made where there is none. What was cut off in the middle of a frame is removed.
    pub(crate) fn writable(&self, id: EventId) -> Result<Arc<Log>, StoreError> {
        self.get(id, |path| Log::writable(path, Arc::clone(&self.names))).map(|log| log.expect("it is made"))
    }

    /// The log of this id, to read; `None` where there is none.
    pub(crate) fn readable(&self, id: EventId) -> Result<Option<Arc<Log>>, StoreError> {
        self.get(id, |path| match Log::readable(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        })
    }

    /// Removes a log and returns how many bytes it had. Who reads it goes on to its end.
    pub(crate) fn remove(&self, id: EventId) -> u64 {
        let path = self.path(id);
        lock(&self.open).logs.remove(&id);
        let size = self.size(id);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("can not remove {}: {error}", path.display());
        }
        size
    }

    /// How many bytes a log has.
    pub(crate) fn size(&self, id: EventId) -> u64 {
        fs::metadata(self.path(id)).map_or(0, |metadata| metadata.len())
    }

    /// All logs that there are, with the size of each.
    pub(crate) fn list(&self) -> Result<HashMap<EventId, u64>, StoreError> {
        let failed = |source| StoreError::File { path: self.directory.clone(), source };
        let mut logs = HashMap::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
            // One that is removed meanwhile is none.
            if let (Some(id), Ok(metadata)) = (id, entry.metadata()) {
                logs.insert(id, metadata.len());
            }
        }
        Ok(logs)
    }

    fn get(
        &self,
        id: EventId,
        open: impl FnOnce(&Path) -> io::Result<Option<Log>>,
    ) -> Result<Option<Arc<Log>>, StoreError> {
        let mut held = lock(&self.open);
        if let Some(log) = held.logs.get(&id).and_then(Weak::upgrade) {
            return Ok(Some(log));
        }
        let path = self.path(id);
        let log = open(&path).map_err(|source| StoreError::File { path, source })?.map(Arc::new);
        if let Some(log) = &log {
            if held.logs.len() >= held.sweep_at {
                held.logs.retain(|_, log| log.strong_count() > 0);
                held.sweep_at = 2 * held.logs.len().max(64);
            }
            held.logs.insert(id, Arc::downgrade(log));
        }
        Ok(log)
    }

    fn path(&self, id: EventId) -> PathBuf {
        self.directory.join(format!("{id}.log"))
    }
}

/// The names of logs in their directory, which is brought to the disk once for all that were made before that.
struct Names {
    directory: File,
    /// How often that was begun.
    begun: AtomicU64,
    /// The number of the last time that it was done.
    done: Mutex<u64>,
}

impl Names {
    fn new(directory: File) -> Self {
        Self { directory, begun: AtomicU64::new(0), done: Mutex::new(0) }
    }

    /// Brings a name to the disk that was made when this had begun so often.
    fn sync(&self, made: u64) -> io::Result<()> {
        let mut done = lock(&self.done);
        if *done <= made {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            self.directory.sync_all()?;
            *done = number;
        }
        Ok(())
    }
}

/// A log that somebody writes or reads.
pub(crate) struct Log {
    file: File,
    /// The directory that it is in, and how often that had been brought to the disk when this was made; of one that is written to.
    name: Option<(Arc<Names>, u64)>,
    /// How much of it outlives the machine.
    synced: AtomicU64,
    tail: Mutex<Tail>,
    /// Where it ends, and whether it stays so.
    end: watch::Sender<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    at: u64,
    is_final: bool,
}

/// The last frames, each with its beginning.
#[derive(Default)]
struct Tail {
    frames: VecDeque<(u64, Frame)>,
    bytes: usize,
}

impl Log {
    fn writable(path: &Path, names: Arc<Names>) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        let (length, whole) = (file.metadata()?.len(), whole_frames(&file)?);
        if whole < length {
            file.set_len(whole)?;
        }
        let begun = names.begun.load(Ordering::SeqCst);
        Ok(Some(Self::new(file, Some((names, begun)), End { at: whole, is_final: false })))
    }

    fn readable(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let at = file.metadata()?.len();
        Ok(Self::new(file, None, End { at, is_final: true }))
    }

    fn new(file: File, name: Option<(Arc<Names>, u64)>, end: End) -> Self {
        Self { file, name, synced: AtomicU64::new(0), tail: Mutex::default(), end: watch::Sender::new(end) }
    }

    /// Adds a frame, and returns where the log ends now. It outlives the process when this returns.
    pub(crate) fn append(&self, kind: FrameKind, payload: Bytes) -> io::Result<u64> {
        if payload.len() > MAX_PAYLOAD {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is too long for a log"));
        }
        let mut tail = lock(&self.tail);
        let at = self.end.borrow().at;
        let bytes = encode(at, kind, &payload);
        if let Err(error) = (&self.file).write_all(&bytes) {
            // A half would make what comes after it unreadable.
            let _ = self.file.set_len(at);
            return Err(error);
        }
        let end = at + bytes.len() as u64;
        tail.push(at, Frame { end, kind, payload });
        self.end.send_modify(|state| state.at = end);
        Ok(end)
    }

    /// Brings what is in it to the disk: it outlives the machine when this returns. Those that are brought there at the same
    /// time share most of the way.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let end = self.end();
        if self.synced.load(Ordering::SeqCst) >= end {
            return Ok(());
        }
        self.file.sync_data()?;
        if let Some((names, made)) = &self.name {
            names.sync(*made)?;
        }
        self.synced.fetch_max(end, Ordering::SeqCst);
        Ok(())
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&self) {
        self.end.send_modify(|end| end.is_final = true);
    }

    /// Where it ends now.
    pub(crate) fn end(&self) -> u64 {
        self.end.borrow().at
    }

    /// Whether nothing more comes behind this place.
    pub(crate) fn is_over(&self, at: u64) -> bool {
        let end = *self.end.borrow();
        end.is_final && at >= end.at
    }

    /// Waits until there is something behind this place, or nothing more will come.
    pub(crate) async fn wait(&self, at: u64) {
        let mut end = self.end.subscribe();
        // The sender is in the log itself.
        let _ = end.wait_for(|end| end.at > at || end.is_final).await;
    }

    /// The frames from this place on, of so many bytes at most but one at least; none at the end.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when no frame begins there.
    pub(crate) fn read(&self, from: u64, most: usize) -> io::Result<Vec<Frame>> {
        if let Some(frames) = lock(&self.tail).from(from, most) {
            return Ok(frames);
        }
        let end = self.end();
        let (mut at, mut frames, mut taken) = (from, Vec::new(), 0);
        while at < end && (frames.is_empty() || taken < most) {
            let frame = read_frame(&self.file, at, end)?;
            taken += frame.payload.len();
            at = frame.end;
            frames.push(frame);
        }
        if from > end {
            return Err(no_frame(from));
        }
        Ok(frames)
    }

    /// Goes over the frames between two places, for as long as the visitor wants more. Payloads are read only for those who
    /// ask for them.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when no frame begins there, and those of the visitor.
    pub(crate) fn scan(
        &self,
        from: u64,
        to: u64,
        mut visit: impl FnMut(&Passed<'_>) -> io::Result<bool>,
    ) -> io::Result<()> {
        let (mut at, mut head) = (from, [0; HEADER]);
        while at < to {
            if at + HEADER as u64 > to {
                return Err(no_frame(at));
            }
            self.file.read_exact_at(&mut head, at)?;
            let (kind, length) = header(at, &head).ok_or_else(|| no_frame(at))?;
            let end = at + (HEADER + length) as u64;
            if !visit(&Passed { file: &self.file, at, end, kind, length })? {
                return Ok(());
            }
            at = end;
        }
        Ok(())
    }
}

/// A frame that is passed by.
pub(crate) struct Passed<'a> {
    file: &'a File,
    at: u64,
    /// Where the log goes on behind it.
    pub(crate) end: u64,
    pub(crate) kind: FrameKind,
    /// How many bytes its payload has.
    pub(crate) length: usize,
}

impl Passed<'_> {
    /// Reads what is in it.
    pub(crate) fn payload(&self) -> io::Result<Vec<u8>> {
        let mut payload = vec![0; self.length];
        self.file.read_exact_at(&mut payload, self.at + HEADER as u64)?;
        Ok(payload)
    }
}

impl Tail {
    fn push(&mut self, at: u64, frame: Frame) {
        self.bytes += frame.payload.len() + HEADER;
        self.frames.push_back((at, frame));
        while self.bytes > TAIL
            && let Some((_, gone)) = self.frames.pop_front()
        {
            self.bytes -= gone.payload.len() + HEADER;
        }
    }

    /// The frames from this place on, where they are here.
    fn from(&self, from: u64, most: usize) -> Option<Vec<Frame>> {
        let index = self.frames.binary_search_by_key(&from, |(at, _)| *at).ok()?;
        let mut taken = 0;
        let fits = |(_, frame): &&(u64, Frame)| {
            let first = taken == 0;
            taken += frame.payload.len() + HEADER;
            first || taken <= most
        };
        Some(self.frames.range(index..).take_while(fits).map(|(_, frame)| frame.clone()).collect())
    }
}

/// Where the last whole frame ends.
fn whole_frames(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let (mut at, mut head) = (0, [0; HEADER]);
    while at + HEADER as u64 <= length {
        file.read_exact_at(&mut head, at)?;
        let Some((_, payload)) = header(at, &head) else { break };
        let end = at + (HEADER + payload) as u64;
        if end > length {
            break;
        }
        at = end;
    }
    Ok(at)
}

fn read_frame(file: &File, at: u64, end: u64) -> io::Result<Frame> {
    let mut head = [0; HEADER];
    if at + HEADER as u64 > end {
        return Err(no_frame(at));
    }
    file.read_exact_at(&mut head, at)?;
    let (kind, length) = header(at, &head).ok_or_else(|| no_frame(at))?;
    let mut payload = vec![0; length];
    file.read_exact_at(&mut payload, at + HEADER as u64)?;
    Ok(Frame { end: at + (HEADER + length) as u64, kind, payload: payload.into() })
}

fn no_frame(at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{at} is no position of this log: use one that it told"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(frames: &[Frame]) -> Vec<&[u8]> {
        frames.iter().map(|frame| frame.payload.as_ref()).collect()
    }

    #[test]
    fn what_was_written_is_read_again_from_any_position_also_by_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let id = EventId::random();
        let logs = Logs::open(directory.path().to_owned()).unwrap();
        let log = logs.writable(id).unwrap();
        let first = log.append(FrameKind::Stdout, Bytes::from_static(b"one")).unwrap();
        log.append(FrameKind::Stderr, vec![b'x'; 2 * TAIL].into()).unwrap();
        log.append(FrameKind::Stdout, Bytes::from_static(b"two")).unwrap();
        assert_eq!(payloads(&log.read(0, 1).unwrap()), [b"one"]);
        assert_eq!(log.read(first, usize::MAX).unwrap().len(), 2);
        assert_eq!(log.read(first + 1, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        drop(log);
        // As after a crash in the middle of a write.
        let path = logs.path(id);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[1, 0, 0]).unwrap();
        let log = Logs::open(directory.path().to_owned()).unwrap().writable(id).unwrap();
        log.append(FrameKind::Stdout, Bytes::from_static(b"three")).unwrap();
        let frames = log.read(0, usize::MAX).unwrap();
        assert_eq!((frames.len(), frames[3].payload.as_ref()), (4, b"three".as_slice()));
    }

    #[test]
    fn names_are_brought_to_the_disk_once_for_all_that_were_made_before() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path().to_owned()).unwrap();
        let log = || {
            let log = logs.writable(EventId::random()).unwrap();
            log.append(FrameKind::Stdout, Bytes::from_static(b"one")).unwrap();
            log
        };
        let begun = || logs.names.begun.load(Ordering::SeqCst);
        let (first, second) = (log(), log());
        first.sync().unwrap();
        second.sync().unwrap();
        assert_eq!((begun(), second.synced.load(Ordering::SeqCst)), (1, second.end()));
        log().sync().unwrap();
        assert_eq!(begun(), 2, "this one was made later");
        first.sync().unwrap();
        assert_eq!(begun(), 2);
    }

    #[tokio::test]
    async fn a_reader_waits_for_more_until_there_will_be_none() {
        let directory = tempfile::tempdir().unwrap();
        let log = Logs::open(directory.path().to_owned()).unwrap().writable(EventId::random()).unwrap();
        let reader = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                log.wait(0).await;
                let end = log.read(0, 1).unwrap()[0].end;
                log.wait(end).await;
                log.is_over(end)
            }
        });
        log.append(FrameKind::Stdout, Bytes::from_static(b"one")).unwrap();
        log.finish();
        assert!(reader.await.unwrap());
    }
}
