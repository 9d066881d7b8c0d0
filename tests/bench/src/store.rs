//! What a plain client does with the store.

use std::io;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

const SCATTERED_BYTES: u64 = 64 << 10;
const RANGE_BYTES: u64 = 8 << 20;

/// As the environment says.
fn plain_client(bucket: &str) -> io::Result<AmazonS3> {
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    Ok(builder.with_allow_http(true).build()?)
}

pub(crate) async fn get(bucket: &str, key: &str, parallel: usize) -> io::Result<f64> {
    let store = &plain_client(bucket)?;
    let path = &Path::from(key);
    let bytes = store.head(path).await?.size;
    let began = Instant::now();
    if parallel == 0 {
        let middle = bytes / 2;
        store
            .get_range(path, middle..middle + SCATTERED_BYTES)
            .await?;
        return Ok(began.elapsed().as_secs_f64());
    }
    futures::stream::iter((0..bytes).step_by(RANGE_BYTES as usize))
        .map(|start| store.get_range(path, start..(start + RANGE_BYTES).min(bytes)))
        .buffer_unordered(parallel)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    Ok(began.elapsed().as_secs_f64())
}

/// How objects of a bench are named and made.
pub(crate) struct Objects<'a> {
    /// Where they are; empty: at the top.
    pub(crate) below: &'a str,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    /// So many in each directory; 0: none is in one.
    pub(crate) in_each: usize,
}

impl Objects<'_> {
    fn path(&self, n: usize) -> Path {
        let name = match n.checked_div(self.in_each) {
            Some(directory) => format!("d{directory:04}/f{n:06}"),
            None => format!("f{n:06}"),
        };
        Path::from(format!("{}/{name}", self.below))
    }
}

pub(crate) async fn put(
    bucket: &str,
    objects: Objects<'_>,
    parallel: usize,
    options: PutOptions,
) -> io::Result<f64> {
    let (store, objects) = (&plain_client(bucket)?, &objects);
    let began = Instant::now();
    futures::stream::iter(0..objects.count)
        .map(|n| {
            let options = options.clone();
            let body = vec![7_u8; objects.bytes].into();
            async move { store.put_opts(&objects.path(n), body, options).await }
        })
        .buffer_unordered(parallel)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    Ok(began.elapsed().as_secs_f64())
}

/// The bare LIST calls of a walk: each directory, a page after the other.
pub(crate) async fn list(bucket: &str) -> io::Result<f64> {
    let store = plain_client(bucket)?;
    let began = Instant::now();
    let mut ahead = vec![None];
    while let Some(prefix) = ahead.pop() {
        let found = store.list_with_delimiter(prefix.as_ref()).await?;
        ahead.extend(found.common_prefixes.into_iter().map(Some));
    }
    Ok(began.elapsed().as_secs_f64())
}

/// What a client sends that must neither replace what others put there nor lose whose the file was.
pub(crate) fn careful() -> PutOptions {
    let attributes = [
        ("file-permissions", "0100644"),
        ("file-owner", "1000"),
        ("file-group", "1000"),
        ("file-mtime", "1700000000123456789ns"),
        ("file-atime", "1700000000123456789ns"),
        ("version", "1-72735e5c2221c42e-10f2c-3-1"),
    ];
    let attributes = attributes.map(|(name, value)| (Attribute::Metadata(name.into()), value));
    PutOptions {
        mode: PutMode::Create,
        attributes: Attributes::from_iter(attributes),
        ..PutOptions::default()
    }
}
