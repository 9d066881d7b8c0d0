//! A journal as a stream of bytes: to move a file system from one key-value store to another.
//!
//! ```text
//! "fused journal 1\n"
//! length:4 header                                    store, journal, node
//! key length:4, value length:4, key, value           each row, in the order of keys
//! ff ff ff ff, rows:8, blake3:32                     the digest of all bytes before it
//! ```
//!
//! Numbers are little-endian. The rows are those of [`crate::keys`], whatever they say: what a release can't read in a
//! journal, it can't read after this either.
//!
//! An import that does not end must not pass for a file system. Its format row comes last; until then there is one of a
//! format that no program opens.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::journal::newer;
use crate::kv::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::kv::{KvError, KvStore, Mode, Range, Row, Transaction};
use crate::records::{self, FormatRow, HeaderRow, JournalIdRow, NodeRow, UNFINISHED};
use crate::types::{NodeId, Place, Timestamp};
use crate::{Error, keys};

const MAGIC: &[u8; 16] = b"fused journal 1\n";
/// Where a key's length would be.
const END: u32 = u32::MAX;
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// Rows read at once.
const PAGE_ROWS: usize = 512;
/// Rows and bytes written at once: FoundationDB gives a transaction five seconds.
const BATCH_ROWS: usize = 1000;
const BATCH_BYTES: usize = 256 << 10;
const ATTEMPTS_MAX: u32 = 60;
const PAUSE: Duration = Duration::from_millis(250);

/// What an export is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportOf {
    /// The store whose files these are.
    pub store_url: String,
    /// Which journal it is; see [`crate::Journal::id`].
    pub journal: u64,
    /// The node that has made it, whose cache directory holds what is in no store.
    pub node: NodeId,
}

/// A whole export, written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// What it is of.
    pub of: ExportOf,
    /// Rows in it.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// The digest of its content, in hexadecimal: no other export has it.
    pub digest: String,
}

/// Why a journal can't be written to a stream, or read from one.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The stream failed.
    #[error("{0}")]
    Stream(#[source] io::Error),
    /// The stream has something else.
    #[error("it is no export of a journal")]
    NoExport,
    /// The stream is not what was written once.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// There is nothing to export.
    #[error("the journal holds no file system")]
    Empty,
    /// There is something where nothing may be.
    #[error(
        "the journal to import into holds a file system already; it stays as it is: import into an empty one"
    )]
    Occupied,
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] Error),
}

impl From<KvError> for TransferError {
    fn from(error: KvError) -> Self {
        Error::from(error).into()
    }
}

/// Writes all rows of a journal, which nobody changes meanwhile.
///
/// # Errors
///
/// The stream's and the journal's; what was written is then no export.
pub async fn export(
    store: &dyn KvStore,
    node: NodeId,
    to: &mut (dyn Write + Send),
) -> Result<Transferred, TransferError> {
    let mut txn = store.begin(Mode::Read)?;
    let format = load::<FormatRow>(txn.as_mut(), keys::FORMAT).await?;
    let journal = load::<JournalIdRow>(txn.as_mut(), keys::JOURNAL_ID).await?;
    let (Some(format), Some(journal)) = (format, journal) else {
        return Err(TransferError::Empty);
    };
    if format.format > records::FORMAT {
        return Err(newer(format.format).into());
    }
    let header = HeaderRow {
        store_url: format.store_url,
        journal: journal.id,
        node,
    };
    let mut sink = Sink::new(to);
    sink.put(MAGIC)?;
    let encoded = records::encode(&header)?;
    sink.put(&length(&encoded).to_le_bytes())?;
    sink.put(&encoded)?;
    let (mut rows, mut begin) = (0, Vec::new());
    loop {
        let page = page(txn.as_mut(), &begin).await?;
        let Some((last, _)) = page.last() else { break };
        begin = keys::just_after(last);
        for (key, value) in &page {
            sink.put(&length(key).to_le_bytes())?;
            sink.put(&length(value).to_le_bytes())?;
            sink.put(key)?;
            sink.put(value)?;
        }
        rows += page.len() as u64;
        if store.is_shared() {
            // A transaction there has a few seconds.
            txn = store.begin(Mode::Read)?;
        }
    }
    sink.put(&END.to_le_bytes())?;
    sink.put(&u64::to_le_bytes(rows))?;
    let digest = sink.hash.finalize();
    sink.put(digest.as_bytes())?;
    sink.to.flush().map_err(TransferError::Stream)?;
    Ok(Transferred {
        of: header.into(),
        rows,
        bytes: sink.bytes,
        digest: digest.to_hex().to_string(),
    })
}

/// Reads a whole export, and believes nothing of it before its end.
///
/// # Errors
///
/// It is none, or not as it was written.
pub fn verify(from: &mut dyn Read) -> Result<Transferred, TransferError> {
    let mut export = Source::open(from)?;
    while export.next()?.is_some() {}
    export.transferred()
}

/// All rows of an export are in a store, which no program opens yet.
pub struct Unfinished {
    transferred: Transferred,
    format: Row,
}

/// Writes all rows of an export to a store that has none, or only those of an import that did not end.
///
/// # Errors
///
/// The store's, and as [`verify`]. What is there then is for another import to replace.
pub async fn import(
    store: &dyn KvStore,
    from: &mut (dyn Read + Send),
) -> Result<Unfinished, TransferError> {
    let mut export = Source::open(from)?;
    clear(store).await?;
    let mark = FormatRow {
        format: UNFINISHED,
        store_url: export.header.store_url.clone(),
    };
    let mut batch = vec![(keys::FORMAT.to_vec(), records::encode(&mark)?)];
    write(store, &batch).await?;
    batch.clear();
    let (mut format, mut batch_bytes) = (None, 0);
    while let Some(row) = export.next()? {
        if row.0 == keys::FORMAT {
            format = Some(row);
            continue;
        }
        batch_bytes += row.0.len() + row.1.len();
        batch.push(row);
        if batch.len() >= BATCH_ROWS || batch_bytes >= BATCH_BYTES {
            write(store, &batch).await?;
            batch.clear();
            batch_bytes = 0;
        }
    }
    write(store, &batch).await?;
    let format = format.ok_or(TransferError::Damaged("it has no format"))?;
    store.sync().await?;
    Ok(Unfinished {
        transferred: export.transferred()?,
        format,
    })
}

impl Unfinished {
    /// What was imported.
    pub fn transferred(&self) -> &Transferred {
        &self.transferred
    }

    /// From now on it can be opened, and the one that it was exported from must not be any more. The node that has
    /// exported it was the last to have it mounted: what it holds is valid, what others hold is of an earlier time.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn finish(self, store: &dyn KvStore) -> Result<Transferred, TransferError> {
        let node = self.transferred.of.node;
        let mut txn = store.begin(Mode::Read)?;
        let mut last = 0;
        let mut mine = None;
        let mut begin = keys::NODES.to_vec();
        let end = keys::after_prefix(keys::NODES);
        loop {
            let page = range(txn.as_mut(), &begin, &end).await?;
            let Some((key, _)) = page.last() else { break };
            begin = keys::just_after(key);
            for (key, value) in &page {
                let row = records::decode::<NodeRow>(key, value)?;
                last = last.max(row.turn);
                if keys::parse_node(key) == Some(node) {
                    mine = Some(row);
                }
            }
        }
        let now = Timestamp::now();
        let row = NodeRow {
            mounted: false,
            turn: last + 1,
            ..mine.unwrap_or(NodeRow {
                place: Place {
                    host: "unknown".into(),
                    mountpoint: "nowhere yet".into(),
                },
                since: now,
                seen: now,
                mounted: false,
                turn: 0,
            })
        };
        let node = (keys::node(node), records::encode(&row)?);
        write(store, &[self.format, node]).await?;
        store.sync().await?;
        Ok(self.transferred)
    }
}

impl From<HeaderRow> for ExportOf {
    fn from(header: HeaderRow) -> Self {
        Self {
            store_url: header.store_url,
            journal: header.journal,
            node: header.node,
        }
    }
}

/// Keys and values have limits far below.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(END)
}

async fn load<R: records::Record>(
    txn: &mut dyn Transaction,
    key: &[u8],
) -> Result<Option<R>, Error> {
    match txn.get(key, true).await? {
        Some(value) => Ok(Some(records::decode(key, &value)?)),
        None => Ok(None),
    }
}

async fn page(txn: &mut dyn Transaction, begin: &[u8]) -> Result<Vec<Row>, KvError> {
    range(txn, begin, &[0xff]).await
}

async fn range(txn: &mut dyn Transaction, begin: &[u8], end: &[u8]) -> Result<Vec<Row>, KvError> {
    let range = Range {
        begin,
        end,
        limit: PAGE_ROWS,
        reverse: false,
    };
    txn.range(range, true).await
}

/// Removes what an import has left that did not end.
async fn clear(store: &dyn KvStore) -> Result<(), TransferError> {
    let mut txn = store.begin(Mode::Read)?;
    match load::<FormatRow>(txn.as_mut(), keys::FORMAT).await? {
        Some(row) if row.format == UNFINISHED => {}
        Some(_) => return Err(TransferError::Occupied),
        None if page(txn.as_mut(), &[]).await?.is_empty() => return Ok(()),
        None => return Err(TransferError::Occupied),
    }
    let mut begin = Vec::new();
    loop {
        let page = page(store.begin(Mode::Read)?.as_mut(), &begin).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        begin = keys::just_after(last);
        let unneeded = page.iter().filter(|(key, _)| key != keys::FORMAT);
        let unneeded: Vec<_> = unneeded.map(|(key, _)| key).collect();
        commit(store, |txn| unneeded.iter().for_each(|key| txn.clear(key))).await?;
    }
}

async fn write(store: &dyn KvStore, rows: &[Row]) -> Result<(), Error> {
    commit(store, |txn| {
        for (key, value) in rows {
            txn.set(key, value.clone());
        }
    })
    .await
}

/// Commits changes that can be made twice.
async fn commit(store: &dyn KvStore, changes: impl Fn(&mut dyn Transaction)) -> Result<(), Error> {
    for _ in 0..ATTEMPTS_MAX {
        let mut txn = store.begin(Mode::Optimistic)?;
        changes(txn.as_mut());
        match txn.commit().await {
            Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
            committed => return Ok(committed?),
        }
    }
    Err(Error::Contention {
        attempts: ATTEMPTS_MAX,
    })
}

/// An export being written.
struct Sink<'a> {
    to: &'a mut (dyn Write + Send),
    hash: blake3::Hasher,
    bytes: u64,
}

impl<'a> Sink<'a> {
    fn new(to: &'a mut (dyn Write + Send)) -> Self {
        Self {
            to,
            hash: blake3::Hasher::new(),
            bytes: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.to.write_all(bytes).map_err(TransferError::Stream)
    }
}

/// Bytes of an export, with the digest of all that were read.
struct Hashed<'a, R: ?Sized> {
    from: &'a mut R,
    hash: blake3::Hasher,
    bytes: u64,
}

impl<R: Read + ?Sized> Hashed<'_, R> {
    fn number(&mut self) -> Result<u32, TransferError> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn take(&mut self, length: u32) -> Result<Vec<u8>, TransferError> {
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TransferError> {
        let read = self.from.read_exact(bytes);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TransferError::Damaged("it ends early"),
            _ => TransferError::Stream(error),
        })?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// An export being read.
struct Source<'a, R: ?Sized> {
    bytes: Hashed<'a, R>,
    header: HeaderRow,
    rows: u64,
    last: Vec<u8>,
    has_format: bool,
    digest: Option<blake3::Hash>,
}

impl<'a, R: Read + ?Sized> Source<'a, R> {
    fn open(from: &'a mut R) -> Result<Self, TransferError> {
        let mut bytes = Hashed {
            from,
            hash: blake3::Hasher::new(),
            bytes: 0,
        };
        let mut magic = [0; MAGIC.len()];
        match bytes.fill(&mut magic) {
            Ok(()) if magic == *MAGIC => {}
            Ok(()) | Err(TransferError::Damaged(_)) => return Err(TransferError::NoExport),
            Err(error) => return Err(error),
        }
        let length = bytes.number()?;
        if length > HEADER_BYTES_MAX {
            return Err(TransferError::Damaged("its header is too long"));
        }
        let header = records::decode(b"header", &bytes.take(length)?)?;
        Ok(Self {
            bytes,
            header,
            rows: 0,
            last: Vec::new(),
            has_format: false,
            digest: None,
        })
    }

    /// The next row. After the last one all of it is what was written once.
    fn next(&mut self) -> Result<Option<Row>, TransferError> {
        let key_bytes = self.bytes.number()?;
        if key_bytes == END {
            return self.end().map(|()| None);
        }
        let value_bytes = self.bytes.number()?;
        if key_bytes as usize > KEY_BYTES_MAX || value_bytes as usize > VALUE_BYTES_MAX {
            return Err(TransferError::Damaged("a row is too long"));
        }
        let key = self.bytes.take(key_bytes)?;
        let value = self.bytes.take(value_bytes)?;
        if key <= self.last {
            return Err(TransferError::Damaged("its rows are not in order"));
        }
        if key == keys::FORMAT {
            let row = records::decode::<FormatRow>(&key, &value)?;
            if row.format > records::FORMAT {
                return Err(newer(row.format).into());
            }
            self.has_format = true;
        }
        self.rows += 1;
        self.last.clone_from(&key);
        Ok(Some((key, value)))
    }

    fn end(&mut self) -> Result<(), TransferError> {
        let mut rows = [0; 8];
        self.bytes.fill(&mut rows)?;
        let wanted = self.bytes.hash.finalize();
        let mut found = [0; blake3::OUT_LEN];
        self.bytes.fill(&mut found)?;
        if wanted != found || u64::from_le_bytes(rows) != self.rows {
            return Err(TransferError::Damaged("its digest is another one"));
        }
        if !self.has_format {
            return Err(TransferError::Damaged("it has no format"));
        }
        match self.bytes.from.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err(TransferError::Damaged("something follows its end")),
            Err(error) => return Err(TransferError::Stream(error)),
        }
        self.digest = Some(wanted);
        Ok(())
    }

    fn transferred(self) -> Result<Transferred, TransferError> {
        let digest = self.digest.ok_or(TransferError::Damaged("it ends early"))?;
        Ok(Transferred {
            of: self.header.into(),
            rows: self.rows,
            bytes: self.bytes.bytes,
            digest: digest.to_hex().to_string(),
        })
    }
}
