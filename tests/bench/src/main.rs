//! The measuring loops of `scripts/bench`: one system call after the other, and nothing else.
//!
//! ```text
//! bench-work write FILE BYTES [fsync]   1 MiB writes, close; the clock stops after close
//! bench-work copy FROM FILE             the same with the bytes of FROM
//! bench-work read FILE                  1 MiB reads after POSIX_FADV_DONTNEED on the file
//! bench-work read-cached FILE           the same without dropping anything
//! bench-work create DIR COUNT           create and close empty files
//! bench-work create-4k DIR COUNT        the same, with 4 KiB in each
//! bench-work list DIR                   readdir, and stat of each entry
//! bench-work stat DIR COUNT             of those; then rename, then unlink of the renamed ones
//! bench-work scattered FILE COUNT       64 KiB reads at scattered places
//! bench-work put BUCKET COUNT PARALLEL [careful]   4 KiB objects, as the AWS_ variables say; careful: none that is
//!                                       there is replaced, and each has a file's attributes
//! bench-work get BUCKET KEY PARALLEL    an object by ranges of 8 MiB; PARALLEL 0: one of 64 KiB
//! ```
//!
//! Prints the seconds that the loop took.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

const REQUEST_BYTES: usize = 1 << 20;
const SCATTERED_BYTES: usize = 64 << 10;
const RANGE_BYTES: u64 = 8 << 20;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match measure(&words) {
        Ok(seconds) => {
            let _ = writeln!(io::stdout(), "{seconds:.6}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench-work {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn measure(words: &[&str]) -> io::Result<f64> {
    let number = |text: &str| text.parse::<usize>().map_err(io::Error::other);
    match words {
        ["write", file, bytes] => write(Path::new(file), number(bytes)?, false),
        ["write", file, bytes, "fsync"] => write(Path::new(file), number(bytes)?, true),
        ["copy", from, file] => copy(Path::new(from), Path::new(file)),
        ["read", file] => read(Path::new(file), true),
        ["read-cached", file] => read(Path::new(file), false),
        ["create", dir, count] => each(dir, number(count)?, |path| File::create(path).map(drop)),
        ["create-4k", dir, count] => each(dir, number(count)?, |path| fs::write(path, [7; 4096])),
        ["list", dir] => list(Path::new(dir)),
        ["stat", dir, count] => each(dir, number(count)?, |path| fs::metadata(path).map(drop)),
        ["rename", dir, count] => each(dir, number(count)?, |path| {
            fs::rename(path, path.with_extension("renamed"))
        }),
        ["unlink", dir, count] => each(dir, number(count)?, |path| {
            fs::remove_file(path.with_extension("renamed"))
        }),
        ["scattered", file, count] => scattered(Path::new(file), number(count)?),
        ["get", bucket, key, parallel] => get(bucket, key, number(parallel)?),
        ["put", bucket, count, parallel] => put(
            bucket,
            number(count)?,
            number(parallel)?,
            PutOptions::default(),
        ),
        ["put", bucket, count, parallel, "careful"] => {
            put(bucket, number(count)?, number(parallel)?, careful())
        }
        _ => Err(io::Error::other("see the head of tests/bench/src/main.rs")),
    }
}

/// Writes data that no store can compress or deduplicate by the block.
fn write(path: &Path, bytes: usize, fsync: bool) -> io::Result<f64> {
    let mut block: Vec<u8> = Vec::with_capacity(REQUEST_BYTES);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while block.len() < REQUEST_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend(state.to_le_bytes());
    }
    let began = Instant::now();
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        block[..8].copy_from_slice(&left.to_le_bytes());
        let count = left.min(REQUEST_BYTES);
        file.write_all(&block[..count])?;
        left -= count;
    }
    if fsync {
        file.sync_all()?;
    }
    drop(file);
    Ok(began.elapsed().as_secs_f64())
}

fn copy(from: &Path, to: &Path) -> io::Result<f64> {
    let mut buffer = vec![0; REQUEST_BYTES];
    let mut source = File::open(from)?;
    let began = Instant::now();
    let mut file = File::create(to)?;
    loop {
        match source.read(&mut buffer)? {
            0 => break,
            count => file.write_all(&buffer[..count])?,
        }
    }
    drop(file);
    Ok(began.elapsed().as_secs_f64())
}

fn read(path: &Path, drop_cache: bool) -> io::Result<f64> {
    let mut buffer = vec![0; REQUEST_BYTES];
    let mut file = File::open(path)?;
    if drop_cache {
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    let began = Instant::now();
    while file.read(&mut buffer)? > 0 {}
    drop(file);
    Ok(began.elapsed().as_secs_f64())
}

fn list(dir: &Path) -> io::Result<f64> {
    let began = Instant::now();
    for entry in fs::read_dir(dir)? {
        entry?.metadata()?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn each(dir: &str, count: usize, act: impl Fn(&Path) -> io::Result<()>) -> io::Result<f64> {
    let paths: Vec<PathBuf> = (0..count)
        .map(|n| Path::new(dir).join(format!("f{n:06}")))
        .collect();
    let began = Instant::now();
    for path in &paths {
        act(path)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn scattered(path: &Path, count: usize) -> io::Result<f64> {
    let file = File::open(path)?;
    let places = file
        .metadata()?
        .len()
        .saturating_sub(SCATTERED_BYTES as u64);
    let mut buffer = vec![0; SCATTERED_BYTES];
    let began = Instant::now();
    for n in 1..=count as u64 {
        let offset = n.wrapping_mul(11_400_714_819_323_198_485) % places.max(1);
        file.read_exact_at(&mut buffer, offset)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// What a plain client does; as the environment says.
fn plain_client(bucket: &str) -> io::Result<AmazonS3> {
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    Ok(builder.with_allow_http(true).build()?)
}

#[tokio::main]
async fn get(bucket: &str, key: &str, parallel: usize) -> io::Result<f64> {
    let store = &plain_client(bucket)?;
    let path = &object_store::path::Path::from(key);
    let bytes = store.head(path).await?.size;
    let began = Instant::now();
    if parallel == 0 {
        let middle = bytes / 2;
        store
            .get_range(path, middle..middle + SCATTERED_BYTES as u64)
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

#[tokio::main]
async fn put(bucket: &str, count: usize, parallel: usize, options: PutOptions) -> io::Result<f64> {
    let store = plain_client(bucket)?;
    let began = Instant::now();
    futures::stream::iter(0..count)
        .map(|n| {
            let path = object_store::path::Path::from(format!("f{n:06}"));
            let (store, options) = (&store, options.clone());
            async move {
                store
                    .put_opts(&path, vec![7_u8; 4096].into(), options)
                    .await
            }
        })
        .buffer_unordered(parallel)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    Ok(began.elapsed().as_secs_f64())
}

/// What a client sends that must neither replace what others put there nor lose whose the file was.
fn careful() -> PutOptions {
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
