//! Directories that the store knows and the journal has yet to learn.
//!
//! What a listing shows is imported into the journal as a cache with an age: clean inodes whose
//! origin is the object. A complete listing of a directory is believed for `revalidate`; within
//! that time every lookup, also of a name that does not exist, is answered by the journal alone.
//! A directory made here is complete from the start.
//!
//! A lookup in a directory that is not believed lists its first page: usually that is all of it.
//! In a larger directory a single name costs one HEAD and one list of one key instead, and the
//! whole is listed when somebody reads the directory.
//!
//! While the store is away, what was complete once is still believed, with a line in the log; only
//! a directory never seen is an error. Listing never touches what this node has changed: the
//! journal's import skips dirty, moved and deleted names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use journal::{Found, Ino, Inode, Kind, Listing, Origin, Seen, Timestamp};
use parking_lot::Mutex;
use remote::{ListPage, ListToken, ObjectKey, ObjectMeta, keys};
use tokio::sync::OnceCell;

use super::{Error, Result, Vfs, now};

/// Keys asked for at once: the most that S3 gives.
const PAGE_KEYS: usize = 1000;

/// How long one listing request may take before the journal's knowledge has to do.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// After a failed listing, the store is not asked for others for this long.
const AWAY: Duration = Duration::from_secs(5);

/// HEAD requests under way at once for one `ls -l`.
pub(super) const HEADS_IN_FLIGHT_MAX: usize = 32;

/// Hidden keys remembered for `fused status`.
const HIDDEN_MAX: usize = 1000;

/// Initialised when the listing is over.
type Running = Arc<OnceCell<()>>;

/// Listings under way, each shared by all who wait for it.
#[derive(Default)]
pub struct Listings {
    /// By directory, and whether all of it is asked for or only the first page.
    running: Mutex<HashMap<(Ino, bool), Running>>,
    away_until: Mutex<Option<Instant>>,
    hidden: Mutex<BTreeSet<String>>,
    /// What was looked at up to this second of the clock is to be looked at again.
    doubtful_until_s: AtomicI64,
}

/// What a discovery did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Nothing: the journal knows.
    Known,
    /// Asked the store; the journal may know more now.
    Asked,
}

impl Listings {
    pub(super) fn store_is_away(&self) -> bool {
        self.away_until
            .lock()
            .is_some_and(|until| Instant::now() < until)
    }

    fn note(&self, listed: &Result<()>) {
        *self.away_until.lock() = match listed {
            Err(Error::Remote { .. }) => Some(Instant::now() + AWAY),
            _ => None,
        };
    }
}

impl Vfs {
    /// Whether an entry is only a memory of what the store once showed.
    pub(super) fn is_store_knowledge(&self, inode: &Inode) -> bool {
        match inode.kind {
            Kind::File => !inode.is_content_dirty() && inode.content.writer.is_none(),
            Kind::Directory => inode.ino != Ino::ROOT,
            _ => false,
        }
    }

    /// Learns what the store has under `name` in `parent`, unless that is known well enough.
    pub(super) async fn discover(&self, parent: Ino, name: &[u8]) -> Result<Discovery> {
        let listing = self.journal().listing(parent).await?;
        if self.is_fresh(listing.as_ref()) {
            return Ok(Discovery::Known);
        }
        let asked = match &listing {
            // Known to be larger than a page: ask for the one name.
            Some(listing) if !listing.complete => self.ask_one(parent, name).await,
            _ => self.list_first_page(parent, name).await,
        };
        self.tolerate(listing.as_ref(), asked)?;
        Ok(Discovery::Asked)
    }

    async fn list_first_page(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.list_once(parent, false).await?;
        match self.journal().listing(parent).await? {
            Some(listing) if !listing.complete => self.ask_one(parent, name).await,
            _ => Ok(()),
        }
    }

    /// Lists a directory whole, unless that was done lately.
    pub(super) async fn list_if_stale(&self, directory: Ino) -> Result<()> {
        let listing = self.journal().listing(directory).await?;
        if self.is_fresh(listing.as_ref()) {
            return Ok(());
        }
        let listed = self.list_once(directory, true).await;
        self.tolerate(listing.as_ref(), listed)
    }

    /// The last listing of a directory, if it was complete and is believed.
    pub(super) async fn believed_listing(&self, directory: Ino) -> Result<Option<Listing>> {
        let listing = self.journal().listing(directory).await?;
        Ok(listing.filter(|listing| self.is_fresh(Some(listing))))
    }

    /// For how long names that `parent` does not have now may be believed not to be there.
    pub async fn absence_ttl(&self, parent: Ino) -> Result<Duration> {
        let listing = self.believed_listing(parent).await?;
        Ok(listing.map_or(Duration::ZERO, |listing| {
            let age_s = now().secs.saturating_sub(listing.at.secs);
            let age = Duration::from_secs(u64::try_from(age_s).unwrap_or(0));
            self.inner.config.revalidate.saturating_sub(age)
        }))
    }

    fn is_fresh(&self, listing: Option<&Listing>) -> bool {
        listing.is_some_and(|listing| listing.complete && self.is_young(listing))
    }

    fn is_young(&self, listing: &Listing) -> bool {
        self.is_recent(listing.at)
    }

    /// Whether a look at the store at that time is believed.
    fn is_recent(&self, looked: Timestamp) -> bool {
        let age_s = now().secs.saturating_sub(looked.secs);
        let doubtful_until_s = self.inner.listings.doubtful_until_s.load(Ordering::Relaxed);
        looked.secs > doubtful_until_s
            && (0..self.inner.config.revalidate.as_secs() as i64).contains(&age_s)
    }

    /// Believes no look at the store that was before now: a power cut took the records of what we did to
    /// the store after them.
    pub(super) fn doubt_the_store(&self) {
        let listings = &self.inner.listings;
        listings
            .doubtful_until_s
            .store(now().secs, Ordering::Relaxed);
    }

    /// What was known once has to do while the store is away.
    fn tolerate(&self, known: Option<&Listing>, asked: Result<()>) -> Result<()> {
        match asked {
            Err(Error::Remote { key, source }) if known.is_some() => {
                tracing::warn!(%key, %source, "cannot list; going on with what is known");
                Ok(())
            }
            asked => asked,
        }
    }

    /// One listing of a directory at a time; who comes meanwhile shares its result.
    async fn list_once(&self, directory: Ino, whole: bool) -> Result<()> {
        let running = &self.inner.listings.running;
        let key = (directory, whole);
        let cell = running.lock().entry(key).or_default().clone();
        let listed = cell.get_or_try_init(|| self.list(directory, whole)).await;
        let mut running = running.lock();
        if running
            .get(&key)
            .is_some_and(|running| Arc::ptr_eq(running, &cell))
        {
            running.remove(&key);
        }
        listed.map(|&()| ())
    }

    async fn list(&self, directory: Ino, whole: bool) -> Result<()> {
        let Some(path) = self.journal().path(directory).await? else {
            return Ok(());
        };
        let prefix = directory_key(&path);
        if self.inner.listings.store_is_away() {
            return Err(away(&prefix));
        }
        let listed = self.list_pages(directory, &prefix, whole).await;
        self.inner.listings.note(&listed);
        listed
    }

    async fn list_pages(&self, directory: Ino, prefix: &ObjectKey, whole: bool) -> Result<()> {
        let before = self.journal().listing(directory).await?;
        let is_known = before.is_some_and(|before| before.complete);
        let started = now();
        let hasher = RandomState::new();
        let mut seen = HashSet::new();
        let mut after = None;
        loop {
            let page = self.list_page(prefix, after.take()).await?;
            for key in &page.hidden {
                self.hide(key, "its key can't be a file name");
            }
            after = page.next.clone();
            let found = self.found(prefix, page);
            seen.extend(found.iter().map(|found| hasher.hash_one(&found.name)));
            self.import_page(directory, &found, started, is_known)
                .await?;
            let complete = after.is_none();
            if complete {
                self.forget_missing(directory, |name| seen.contains(&hasher.hash_one(name)))
                    .await?;
            }
            if complete || !whole {
                let listing = Listing {
                    at: started,
                    complete,
                };
                self.journal().set_listing(directory, listing).await?;
                return Ok(());
            }
        }
    }

    async fn list_page(&self, prefix: &ObjectKey, after: Option<ListToken>) -> Result<ListPage> {
        let page = self.remote().list_page(prefix, after.as_ref(), PAGE_KEYS);
        match tokio::time::timeout(LIST_TIMEOUT, page).await {
            Ok(page) => page.map_err(|source| Error::remote(prefix, source)),
            Err(_) => Err(away(prefix)),
        }
    }

    /// A page as the journal takes it. Where a bucket holds both `a` and `a/b`, the directory wins.
    fn found(&self, prefix: &ObjectKey, page: ListPage) -> Vec<Found> {
        let config = &self.inner.config;
        let at = now();
        let mut directories = HashSet::new();
        let mut found = Vec::with_capacity(page.files.len() + page.directories.len());
        for name in page.directories {
            let Some(decoded) = keys::decode_name(&name) else {
                continue;
            };
            directories.insert(decoded.clone());
            found.push(Found {
                name: decoded,
                kind: Kind::Directory,
                key: prefix.child(&name).to_directory().to_string(),
                etag: None,
                size: 0,
                mtime: at,
                mode: Some(0o777 & !config.umask),
                uid: Some(config.uid),
                gid: Some(config.gid),
                learned: true,
            });
        }
        for object in page.files {
            let Some(decoded) = keys::decode_name(object.key.name()) else {
                continue;
            };
            if directories.contains(&decoded) {
                self.hide(object.key.as_str(), "a directory has its name");
                continue;
            }
            found.push(Found {
                name: decoded,
                kind: Kind::File,
                key: object.key.to_string(),
                etag: object.etag.map(|etag| etag.0),
                size: object.size,
                mtime: match object.posix.mtime_ns {
                    Some(ns) => Timestamp::from_nanos(ns),
                    None => Timestamp::from(object.modified),
                },
                learned: object.posix.mode.is_some(),
                mode: Some(object.posix.mode.unwrap_or(0o666 & !config.umask) & 0o7777),
                uid: Some(object.posix.uid.unwrap_or(config.uid)),
                gid: Some(object.posix.gid.unwrap_or(config.gid)),
            });
        }
        found
    }

    /// Reports an object that is in the bucket and can't be shown.
    fn hide(&self, key: &str, why: &str) {
        let mut hidden = self.inner.listings.hidden.lock();
        if hidden.len() < HIDDEN_MAX && hidden.insert(key.to_string()) {
            tracing::warn!(?key, why, "an object of the bucket is not shown");
        }
    }

    /// Keys of the bucket that can't be shown as files.
    pub fn hidden_keys(&self) -> BTreeSet<String> {
        self.inner.listings.hidden.lock().clone()
    }

    /// Whether the store did not answer a moment ago.
    pub fn store_is_away(&self) -> bool {
        self.inner.listings.store_is_away()
    }

    /// Learns the root directory.
    pub async fn list_root(&self) -> Result<()> {
        self.list_once(Ino::ROOT, false).await
    }

    /// Lists a directory and all below it that are not known well, before it is renamed: what was
    /// never listed would stay behind.
    pub(super) async fn list_tree(&self, directory: Ino) -> Result<()> {
        let mut pending = vec![directory];
        while let Some(directory) = pending.pop() {
            self.list_if_stale(directory).await?;
            let mut after: Option<Vec<u8>> = None;
            loop {
                let entries = self
                    .journal()
                    .read_dir(directory, after.as_deref(), PAGE_KEYS)
                    .await?;
                let directories = entries
                    .iter()
                    .filter(|entry| entry.kind == Kind::Directory)
                    .map(|entry| entry.ino);
                pending.extend(directories);
                match entries.into_iter().last() {
                    Some(last) => after = Some(last.name),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Drops cached entries that a complete listing did not show.
    async fn forget_missing(
        &self,
        directory: Ino,
        seen: impl Fn(&[u8]) -> bool + Send + Sync,
    ) -> Result<()> {
        let gone = self.journal().forget_missing(directory, &seen).await?;
        for (name, inode) in gone {
            self.inner.parts.invalidate.entry(directory, &name);
            self.inner.reaper.remove_extents(super::extent_id(&inode));
        }
        Ok(())
    }

    /// Asks the store for one name: a file by HEAD, a directory by whether anything is below.
    async fn ask_one(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let Some(mut path) = self.journal().path(parent).await? else {
            return Ok(());
        };
        let prefix = directory_key(&path);
        path.push(name.to_vec());
        let key = keys::encode(&path);
        if self.inner.listings.store_is_away() {
            return Err(away(&key));
        }
        let directory = directory_key(&path);
        let started = now();
        let asked = async {
            let below = self.remote().exists_below(&directory).await;
            let below = below.map_err(|source| Error::remote(&directory, source))?;
            let object = match below {
                true => None,
                false => self
                    .remote()
                    .head(&key)
                    .await
                    .map_err(|source| Error::remote(&key, source))?,
            };
            let page = ListPage {
                files: object.into_iter().collect(),
                directories: below.then(|| key.name().to_string()).into_iter().collect(),
                ..ListPage::default()
            };
            let found = self.found(&prefix, page);
            self.journal().import(parent, &found, started).await?;
            Ok(())
        };
        let asked = match tokio::time::timeout(LIST_TIMEOUT, asked).await {
            Ok(asked) => asked,
            Err(_) => Err(away(&key)),
        };
        self.inner.listings.note(&asked);
        asked
    }

    /// Reads the metadata of an object that was only listed so far (mode, owner and times are not
    /// in a listing), unless that will do to show it.
    pub(super) async fn learn(&self, inode: Inode) -> Result<Inode> {
        match self.is_shown_unlearned(&inode) {
            true => Ok(inode),
            false => self.learn_anyway(inode).await,
        }
    }

    /// Before a file is opened or changed that was shown as the listing has it: the kernel has judged by what was
    /// shown. If the object says something else, it has to judge again (ESTALE makes it look the path up again, once).
    pub(super) async fn learn_before_use(&self, ino: Ino) -> Result<()> {
        if !self.inner.config.shows_what_is_listed {
            return Ok(());
        }
        let shown = self.inode(ino).await?;
        if !self.is_shown_unlearned(&shown) {
            return Ok(());
        }
        let judged_by = |inode: &Inode| (inode.mode, inode.uid, inode.gid);
        let learned = self.learn_anyway(shown.clone()).await?;
        if learned.mtime != shown.mtime {
            self.inner.parts.invalidate.inode(ino);
        }
        match judged_by(&learned) == judged_by(&shown) {
            true => Ok(()),
            false => Err(nix::errno::Errno::ESTALE.into()),
        }
    }

    fn is_shown_unlearned(&self, inode: &Inode) -> bool {
        let is_seen = |origin: &Origin| origin.checked != Timestamp::default();
        self.inner.config.shows_what_is_listed
            && self.is_unlearned(inode)
            && inode.content.origin.as_ref().is_some_and(is_seen)
    }

    /// [`Self::learn`] also where that is not needed to show it.
    pub(super) async fn learn_anyway(&self, inode: Inode) -> Result<Inode> {
        if !self.is_unlearned(&inode) {
            return Ok(inode);
        }
        let Some(origin) = inode.content.origin.clone() else {
            return Ok(inode);
        };
        let asked = now();
        match self.head(&origin.key).await {
            Ok(Some(object)) => self.refreshed(inode, object, asked).await,
            Ok(None) => Ok(inode),
            Err(error) => {
                tracing::warn!(key = %origin.key, %error, "cannot read an object's attributes; showing what the listing had");
                Ok(inode)
            }
        }
    }

    /// [`Self::learn`] for the entries of one directory page, in parallel.
    pub(super) async fn learn_all(&self, inodes: Vec<Option<Inode>>) -> Result<Vec<Option<Inode>>> {
        if !inodes
            .iter()
            .flatten()
            .any(|inode| self.is_unlearned(inode) && !self.is_shown_unlearned(inode))
        {
            return Ok(inodes);
        }
        let learned: Vec<Result<Option<Inode>>> = stream::iter(inodes)
            .map(async |inode| match inode {
                Some(inode) => self.learn(inode).await.map(Some),
                None => Ok(None),
            })
            .buffered(HEADS_IN_FLIGHT_MAX)
            .collect()
            .await;
        learned.into_iter().collect()
    }

    fn is_unlearned(&self, inode: &Inode) -> bool {
        let Some(origin) = &inode.content.origin else {
            return false;
        };
        let lacks_attributes = !inode.content.learned && self.inner.parts.attributes_on_objects;
        // Recovery went back to it, on evidence that the crash may have made old.
        let never_seen = origin.checked == Timestamp::default();
        inode.kind == Kind::File
            && (lacks_attributes || never_seen)
            && self.is_store_knowledge(inode)
            && !self.inner.listings.store_is_away()
    }

    /// Asks, before an open, whether a clean file's object is still the one that is known.
    pub(super) async fn revalidate(&self, mut inode: Inode) -> Result<Inode> {
        loop {
            let Some(origin) = inode.content.origin.clone() else {
                return Ok(inode);
            };
            if !self.is_store_knowledge(&inode) || self.inner.listings.store_is_away() {
                return Ok(inode);
            }
            if self.is_recent(origin.checked) || self.is_on_its_way(&inode)? {
                return Ok(inode);
            }
            let asked = now();
            match self.head(&origin.key).await {
                Ok(Some(object)) => return self.refreshed(inode, object, asked).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(key = %origin.key, %error, "cannot ask for the object's version; going on with the known one");
                    return Ok(inode);
                }
            }
            inode = self.inode(inode.ino).await?;
            let still = inode.content.origin.as_ref().map(|origin| &origin.key);
            if still == Some(&origin.key) {
                // Gone, or replaced by a directory: the next listing forgets the name.
                self.inner.parts.invalidate.inode(inode.ino);
                return Err(nix::errno::Errno::ENOENT.into());
            }
            // Our own flusher has moved it meanwhile.
        }
    }

    /// Whether all bytes of a file with a new name or new attributes are here. Then what somebody else puts at
    /// its key is no newer version of it, but what the flusher finds there.
    fn is_on_its_way(&self, inode: &Inode) -> Result<bool> {
        if !inode.is_meta_dirty() {
            return Ok(false);
        }
        let extents = self.extents().open_file(super::extent_id(inode))?;
        Ok(extents.is_some_and(|extents| extents.is_resident(inode.content.valid)))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let key = ObjectKey::new(key);
        let head = tokio::time::timeout(LIST_TIMEOUT, self.remote().head(&key)).await;
        let head = match head {
            Ok(head) => head.map_err(|source| Error::remote(&key, source)),
            Err(_) => Err(away(&key)),
        };
        if let Err(Error::Remote { source, .. }) = &head
            && source.is_retryable()
        {
            *self.inner.listings.away_until.lock() = Some(Instant::now() + AWAY);
        }
        head
    }

    /// Takes over what the store was `asked` for, then.
    async fn refreshed(&self, inode: Inode, object: ObjectMeta, asked: Timestamp) -> Result<Inode> {
        let before = super::extent_id(&inode);
        let seen = Seen::Object {
            etag: object.etag.map(|etag| etag.0),
            size: object.size,
            mtime: match object.posix.mtime_ns {
                Some(ns) => Timestamp::from_nanos(ns),
                None => Timestamp::from(object.modified),
            },
            mode: object.posix.mode.map(|mode| mode & 0o7777),
            uid: object.posix.uid,
            gid: object.posix.gid,
        };
        let inode = self.journal().refresh(inode.ino, &seen, asked).await?;
        if super::extent_id(&inode) != before {
            self.inner.parts.invalidate.inode(inode.ino);
            self.inner.reaper.remove_extents(before);
        }
        Ok(inode)
    }
}

/// The key below which the entries of a directory are; empty for the root.
fn directory_key(path: &[Vec<u8>]) -> ObjectKey {
    match path.is_empty() {
        true => ObjectKey::new(""),
        false => keys::encode(path).to_directory(),
    }
}

pub(super) fn away(key: &ObjectKey) -> Error {
    let source = remote::Error::Unreachable {
        op: "ask for",
        key: key.to_string(),
        detail: "no answer in time, or none a moment ago".into(),
    };
    Error::remote(key, source)
}
