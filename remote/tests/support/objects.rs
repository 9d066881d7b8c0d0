//! Objects to write and read in the tests.

use bytes::Bytes;
use remote::{Condition, ETag, FileVersion, ListPage, ObjectKey, PartTag, PosixAttrs, Remote};

use super::Store;

pub const MIB: usize = 1024 * 1024;

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::from(text)
}

pub fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Bytes that differ everywhere.
pub fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect::<Vec<u8>>()
        .into()
}

pub fn attributes() -> PosixAttrs {
    PosixAttrs {
        mode: Some(0o640),
        uid: Some(nix::unistd::getuid().as_raw()),
        gid: Some(nix::unistd::getgid().as_raw()),
        mtime_ns: Some(1_600_000_000_123_456_789),
        atime_ns: Some(1_600_000_001_000_000_000),
        version: Some(FileVersion {
            node: 7,
            ino: 42,
            epoch: 3,
            meta_epoch: 1,
            place: u64::MAX,
        }),
    }
}

pub async fn put(remote: &Remote, name: &str, body: Bytes) -> ETag {
    remote
        .put(&key(name), body, &PosixAttrs::default(), &Condition::None)
        .await
        .unwrap()
        .etag
        .unwrap()
}

pub async fn read(remote: &Remote, name: &str) -> Bytes {
    let size = remote
        .head(&key(name))
        .await
        .unwrap()
        .expect("the object is there")
        .size;
    remote.get(&key(name), 0..size, None).await.unwrap()
}

/// All pages of a directory as one.
pub async fn list(remote: &Remote, dir: &str, page_entries: usize) -> ListPage {
    let mut all = ListPage::default();
    let mut token = None;
    loop {
        let page = remote
            .list_page(&key(dir), token.as_ref(), page_entries)
            .await
            .unwrap();
        all.files.extend(page.files);
        all.directories.extend(page.directories);
        all.hidden.extend(page.hidden);
        all.marker = all.marker.or(page.marker);
        token = page.next;
        if token.is_none() {
            return all;
        }
    }
}

pub fn names(page: &ListPage) -> Vec<&str> {
    page.files.iter().map(|meta| meta.key.name()).collect()
}

/// Two parts and a rest, sent out of order, the last one by another process.
pub async fn upload(
    store: &Store,
    name: &str,
    body: &Bytes,
) -> (remote::UploadId, Vec<(u32, PartTag)>) {
    let part = |n: usize| body.slice(n * 5 * MIB..((n + 1) * 5 * MIB).min(body.len()));
    let id = store
        .remote
        .multipart(&key(name), &attributes())
        .await
        .unwrap();
    let object = key(name);
    let (first, third) = tokio::join!(
        store.remote.put_part(&object, &id, 1, part(0)),
        store.remote.put_part(&object, &id, 3, part(2)),
    );
    let second = store
        .reopen()
        .put_part(&object, &id, 2, part(1))
        .await
        .unwrap();
    (
        id,
        vec![(1, first.unwrap()), (2, second), (3, third.unwrap())],
    )
}
