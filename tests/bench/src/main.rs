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
//! bench-work read-each DIR THREADS      every file below a folder
//! bench-work put BUCKET COUNT PARALLEL [careful]   4 KiB objects, as the AWS_ variables say; careful: none that is
//!                                       there is replaced, and each has a file's attributes
//! bench-work put-tree BUCKET BELOW COUNT BYTES IN_EACH   objects in directories
//! bench-work get BUCKET KEY PARALLEL    an object by ranges of 8 MiB; PARALLEL 0: one of 64 KiB
//! bench-work list-bucket BUCKET         directory by directory
//! bench-work delay HOST:PORT MS         prints an address, and takes connections to HOST:PORT there; a round trip
//!                                       takes MS longer
//! ```
//!
//! Prints the seconds that the loop took.

mod delay;
mod local;
mod store;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use local::{copy, each, list, read, read_each, scattered, write};
use object_store::PutOptions;
use store::{Objects, careful, get, put};

/// Connections of a client that only fills a bucket.
const FILLING_PARALLEL: usize = 32;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match measure(&words).await {
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

async fn measure(words: &[&str]) -> io::Result<f64> {
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
        ["read-each", dir, threads] => read_each(Path::new(dir), number(threads)?),
        ["get", bucket, key, parallel] => get(bucket, key, number(parallel)?).await,
        ["list-bucket", bucket] => store::list(bucket).await,
        ["put", bucket, count, parallel, careful_or_none @ ..] => {
            let objects = Objects {
                below: "",
                count: number(count)?,
                bytes: 4096,
                in_each: 0,
            };
            let options = match careful_or_none {
                ["careful"] => careful(),
                _ => PutOptions::default(),
            };
            put(bucket, objects, number(parallel)?, options).await
        }
        ["put-tree", bucket, below, count, bytes, in_each] => {
            let objects = Objects {
                below,
                count: number(count)?,
                bytes: number(bytes)?,
                in_each: number(in_each)?,
            };
            put(bucket, objects, FILLING_PARALLEL, PutOptions::default()).await
        }
        ["delay", target, ms] => {
            let round_trip = Duration::from_millis(number(ms)? as u64);
            delay::serve((*target).to_owned(), round_trip / 2).await
        }
        _ => Err(io::Error::other("see the head of tests/bench/src/main.rs")),
    }
}
