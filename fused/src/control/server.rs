//! The daemon's end of the control socket.
//!
//! One task a connection; a request is answered before the next one is read. Connections stay open
//! until the process ends: `fused umount` waits for that.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remote::StoreUrl;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;

use super::line::{say, say_error};
use super::protocol::{
    Freed, LINE_BYTES_MAX, LastError, PassthroughState, Prefetched, Reply, Request, Sample, Status,
    Uploading, WirePath,
};
use super::{list_request, load_request, pin_request, place, sync_request};
use crate::front;
use crate::options::{JournalKind, MountOptions};
use crate::vfs::{Vfs, is_below};

/// Examples given of what may be many.
const SAMPLE_MAX: usize = 100;

/// What a status says that does not change while the daemon runs.
pub struct Facts {
    status: Status,
    passthrough: Arc<front::PassthroughState>,
    started: Instant,
}

impl Facts {
    /// The facts of this mount.
    pub fn new(
        options: &MountOptions,
        store: &StoreUrl,
        node: u64,
        passthrough: Arc<front::PassthroughState>,
    ) -> Self {
        let status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            mountpoint: options.mountpoint.as_path().into(),
            store: store.to_string(),
            journal: match &options.journal {
                JournalKind::Embedded => "embedded".into(),
                JournalKind::FoundationDb { cluster_file } => {
                    format!("fdb:{}", cluster_file.display())
                }
            },
            node: format!("{node:016x}"),
            cache_dir: options.cache_dir.as_path().into(),
            further_cache_dirs: options
                .further_cache_dirs
                .iter()
                .map(|path| path.as_path().into())
                .collect(),
            read_only: options.ro,
            ..Status::default()
        };
        Self {
            status,
            passthrough,
            started: Instant::now(),
        }
    }
}

/// The control socket; gone from the file system when this is dropped.
pub struct Server {
    path: PathBuf,
    identity: Identity,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The kernel uses device numbers again at once: by now this may be another mount's socket.
        if identity(&self.path).ok() == Some(self.identity) {
            // Clients of a dead socket say so; nothing else depends on it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A file at a path: its inode, and when it was made. Inode numbers are used again at once, too.
type Identity = (u64, (i64, i64));

/// Which file a path names at present.
fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.ino(), (metadata.ctime(), metadata.ctime_nsec())))
}

impl Server {
    /// Listens for the mount with these device numbers.
    pub fn start(
        facts: Facts,
        vfs: Vfs,
        (major, minor): (u32, u32),
        runtime: &Handle,
    ) -> io::Result<Self> {
        let dir = place::socket_dir();
        place::prepare_socket_dir(&dir)?;
        let path = dir.join(place::socket_name(major, minor));
        // Device numbers are used again: a dead daemon's socket may be in the way.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let _runtime = runtime.enter();
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let identity = identity(&path)?;
        let facts = Arc::new(facts);
        runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(converse(stream, facts.clone(), vfs.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a control connection");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
        Ok(Self { path, identity })
    }
}

async fn converse(stream: UnixStream, facts: Arc<Facts>, vfs: Vfs) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(LINE_BYTES_MAX as u64);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let answered = match serde_json::from_slice(&line) {
            Ok(Request::Status) => match status(&facts, &vfs).await {
                Ok(status) => say(&mut writer, &Reply::Status(Box::new(status))).await,
                Err(error) => say_error(&mut writer, error).await,
            },
            Ok(Request::Sync { paths, timeout_ms }) => {
                sync_request::answer(&mut writer, &vfs, paths, timeout_ms).await
            }
            Ok(Request::Load { paths }) => load_request::answer(&mut writer, &vfs, paths).await,
            Ok(Request::Pin { paths }) => {
                say(&mut writer, &pin_request::pin(&vfs, &paths).await).await
            }
            Ok(Request::Unpin { paths }) => {
                say(&mut writer, &pin_request::unpin(&vfs, &paths).await).await
            }
            Ok(Request::List { paths, each }) => {
                list_request::answer(&mut writer, &vfs, paths, each).await
            }
            Ok(Request::Free { paths }) => match free(&vfs, &paths).await {
                Ok(freed) => say(&mut writer, &Reply::Freed(freed)).await,
                Err(error) => say_error(&mut writer, error).await,
            },
            Err(error) => {
                say_error(
                    &mut writer,
                    format!("the request is not understood: {error}"),
                )
                .await
            }
        };
        if answered.is_err() {
            return;
        }
    }
}

async fn free(vfs: &Vfs, paths: &[WirePath]) -> crate::vfs::Result<Freed> {
    let freed = vfs.free(|path| paths.iter().any(|wanted| is_below(path, wanted.as_bytes())));
    let freed = freed.await?;
    Ok(Freed {
        files: freed.files,
        bytes: freed.bytes,
        dirty: freed.dirty,
        in_use: freed.in_use,
        pinned: freed.pinned,
    })
}

fn prefetched(vfs: &Vfs) -> Prefetched {
    let prefetched = vfs.prefetched();
    Prefetched {
        files: prefetched.files,
        bytes: prefetched.bytes,
        foreseen: prefetched.foreseen,
        opened: prefetched.opened,
    }
}

async fn status(facts: &Facts, vfs: &Vfs) -> crate::vfs::Result<Status> {
    // What was closed a millisecond ago counts as well.
    vfs.flusher().scanned().await;
    let flusher = vfs.flusher().status();
    let now_s = journal::Timestamp::now().secs;
    let oldest = flusher.oldest_unflushed_secs;
    let hidden = vfs.hidden_keys();
    let (pins, pinned) = vfs.pins(SAMPLE_MAX).await?;
    Ok(Status {
        store_ok: flusher.store_ok && !vfs.store_is_away(),
        cache_size: vfs.cache_budget(),
        cache_used: vfs.cache_used(),
        dirty_bytes: flusher.dirty_bytes,
        dirty_files: flusher.dirty_files,
        oldest_unflushed_age_s: oldest.map(|since_s| (now_s - since_s).max(0) as f64),
        upload_bytes_per_s: flusher.upload_bytes_per_s as f64,
        uploaded_bytes: flusher.uploaded_bytes_total,
        uploading: flusher
            .uploading
            .into_iter()
            .take(SAMPLE_MAX)
            .map(|upload| Uploading {
                key: upload.key,
                bytes_done: upload.sent_bytes,
                bytes_total: upload.bytes,
            })
            .collect(),
        passthrough: PassthroughState {
            on: facts.passthrough.is_on(),
            reason: facts.passthrough.reason(),
        },
        corrupt_blocks: flusher.corrupt_blocks,
        prefetched: prefetched(vfs),
        conflicts: Sample {
            total: flusher.conflicts,
            first: flusher
                .conflict_list
                .into_iter()
                .take(SAMPLE_MAX)
                .map(|conflict| format!("{} ({})", conflict.key, conflict.resolution))
                .collect(),
        },
        pinned: Sample {
            total: pins,
            first: pinned
                .into_iter()
                .map(|path| WirePath::from(path).to_string())
                .collect(),
        },
        hidden_keys: Sample {
            total: hidden.len() as u64,
            first: hidden.into_iter().take(SAMPLE_MAX).collect(),
        },
        last_error: flusher.last_error.map(|error| LastError {
            when: error.when_secs,
            key: Some(error.key).filter(|key| !key.is_empty()),
            message: error.message,
        }),
        uptime_s: facts.started.elapsed().as_secs_f64(),
        ..facts.status.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_made_at_the_same_place_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0:50.sock");
        let make = || {
            std::os::unix::net::UnixListener::bind(&path).unwrap();
            identity(&path).unwrap()
        };
        let first = make();
        assert_eq!(identity(&path).unwrap(), first);
        std::fs::remove_file(&path).unwrap();
        // As long as file times may be coarse.
        std::thread::sleep(Duration::from_millis(30));
        assert_ne!(make(), first);
    }
}
