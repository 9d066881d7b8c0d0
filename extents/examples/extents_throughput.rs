//! How fast a cold file is read: io_uring with O_DIRECT against threads with pread.
//!
//! `cargo run -p extents --example extents_throughput -- DIR [MiB]` writes a file of 1 GiB (or that many MiB) in
//! DIR, reads it cold in pieces of 1 MiB with 16 at a time, and in parts of 32 MiB one after the other,
//! with both engines, past and through the page cache. Build it with `--release` for figures that mean
//! anything.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use extents::{ExtentFile, ExtentId, ExtentStore, IoMode, Options};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

const MIB: usize = 1 << 20;
const AT_A_TIME: u64 = 16;
const ID: ExtentId = ExtentId {
    ino: 2,
    generation: 0,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let dir: PathBuf = arguments
        .next()
        .ok_or("usage: throughput DIR [MiB]")?
        .into();
    let mib: usize = arguments.next().map_or(Ok(1024), |mib| mib.parse())?;
    let store_dir = dir.join("throughput-store");
    let outcome = measure_all(&store_dir, mib).await;
    std::fs::remove_dir_all(&store_dir)?;
    outcome
}

async fn measure_all(dir: &Path, mib: usize) -> Outcome<()> {
    for io in [IoMode::Auto, IoMode::Plain] {
        let store = ExtentStore::open(
            dir,
            Options {
                io,
                durable_after_boot: false,
            },
        )?;
        println!("{io:?}: {:?}", store.capabilities());
        let file = store.open_or_create(ID)?;
        if file.stat()?.size == 0 {
            let block: Vec<u8> = (0..MIB).map(|at| (at * 31 % 251) as u8).collect();
            for at in 0..mib {
                file.write_at((at * MIB) as u64, &block)?;
            }
        }
        for buffered in [false, true] {
            let name = if buffered { "page cache" } else { "direct" };
            cold(&file).await?;
            let start = Instant::now();
            read_in_pieces(&file, mib as u64, buffered).await?;
            report(&format!("{name}, 1 MiB x {AT_A_TIME}"), mib, start);
        }
        cold(&file).await?;
        let start = Instant::now();
        for at in (0..mib).step_by(32) {
            file.read_large((at * MIB) as u64, 32 * MIB).await?;
        }
        report("direct, parts of 32 MiB", mib, start);
    }
    Ok(())
}

/// Syncs, then drops the file's pages.
async fn cold(file: &ExtentFile) -> Outcome<()> {
    file.sync_data().await?;
    Ok(posix_fadvise(
        file,
        0,
        0,
        PosixFadviseAdvice::POSIX_FADV_DONTNEED,
    )?)
}

async fn read_in_pieces(file: &Arc<ExtentFile>, mib: u64, buffered: bool) -> Outcome<()> {
    let readers: Vec<_> = (0..AT_A_TIME)
        .map(|reader| {
            let file = Arc::clone(file);
            tokio::spawn(async move {
                for at in (reader..mib).step_by(AT_A_TIME as usize) {
                    let offset = at * MIB as u64;
                    match buffered {
                        true => file.read_buffered(offset, MIB).await?,
                        false => file.read_at(offset, MIB).await?,
                    };
                }
                Ok::<(), extents::Error>(())
            })
        })
        .collect();
    for reader in readers {
        reader.await??;
    }
    Ok(())
}

fn report(name: &str, mib: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("  {name:26} {:8.0} MiB/s", mib as f64 / seconds);
}
