//! Files are written, read and cut.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use fused::vfs::{Mode, OpenRequest, Vfs};
use journal::Kind as FileKind;

use super::walk::{contents, find, new, parent_of};
use super::{Held, PAUSE_MS_MAX, Program};
use crate::tree::Kind;
use crate::world;

/// The longest file; many times the smallest part.
const BYTES_MAX: u64 = 160_000;

impl Program {
    pub(super) async fn write(&self, vfs: &Vfs, held: &mut Vec<Held>) {
        let path = self.some_path();
        let tree = self.tree();
        let Some(file) = (match tree.at(&path).map(|thing| &thing.kind) {
            None => self.create(vfs, &path).await,
            Some(Kind::File(_)) => self.open(vfs, &path, true).await,
            Some(_) => return,
        }) else {
            return;
        };
        let pieces = self.dice(|dice| 1 + dice.below(3));
        for _ in 0..pieces {
            if !self.write_some(vfs, &file, None).await {
                break;
            }
            if self.chance(200) {
                let pause = self.dice(|dice| dice.any_magnitude(PAUSE_MS_MAX));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        if self.chance(200) {
            let handle = file.opened.handle;
            let synced = self.ask(|| format!("fsync {path}"), vfs.fsync(handle));
            if synced.await.is_some() {
                self.durable(|undurable, tree| undurable.synced(file.node, tree));
            }
        }
        match held.len() < 2 && self.chance(100) {
            true => held.push(file),
            false => self.close(vfs, file).await,
        }
    }

    pub(super) async fn create(&self, vfs: &Vfs, path: &str) -> Option<Held> {
        let mut next = self.tree();
        let node = next.make(path, Kind::File(Arc::default()), 0o644);
        next.change(node, |thing| thing.writers += 1);
        let request = OpenRequest {
            writes: true,
            truncate: false,
            exclusive: true,
        };
        let created = self.call(|| format!("create {path}"), next, async {
            let (parent, name) = parent_of(vfs, path).await?;
            vfs.create(parent, name, new(FileKind::File, 0o644), request)
                .await
        });
        let (_, opened) = created.await?;
        Some(Held {
            opened,
            node,
            writes: true,
        })
    }

    pub(super) async fn open(&self, vfs: &Vfs, path: &str, truncate: bool) -> Option<Held> {
        let mut next = self.tree();
        let node = *next.names.get(path)?;
        next.change(node, |thing| thing.writers += 1);
        if truncate {
            next.truncate(node, 0);
        }
        let request = OpenRequest {
            writes: true,
            truncate,
            exclusive: false,
        };
        let opened = self.call(
            || format!("open {path}, O_TRUNC: {truncate}"),
            next,
            async { vfs.open(find(vfs, path).await?.ino, request).await },
        );
        Some(Held {
            opened: opened.await?,
            node,
            writes: true,
        })
    }

    /// Writes a piece, behind what is there unless told where.
    pub(super) async fn write_some(&self, vfs: &Vfs, file: &Held, at: Option<usize>) -> bool {
        let mut next = self.tree();
        let size = next
            .thing(file.node)
            .and_then(|thing| thing.bytes())
            .map_or(0, |bytes| bytes.len());
        let at = at.unwrap_or(size);
        let left = BYTES_MAX.saturating_sub(at as u64);
        let bytes = self.dice(|dice| {
            let len = dice.any_magnitude(left);
            vec![dice.next() as u8; len as usize]
        });
        if bytes.is_empty() {
            return true;
        }
        next.write(file.node, at, &bytes);
        let mode = file.opened.file.mode;
        let written = self.call(
            || {
                format!(
                    "write {} at {at} of #{}, {mode:?}",
                    world::outline(&bytes),
                    file.node
                )
            },
            next,
            async {
                match mode {
                    Mode::Passthrough => {
                        // As the kernel does, past the daemon.
                        let extents = file.opened.file.extents.as_fd();
                        let extents =
                            File::from(extents.try_clone_to_owned().expect("a descriptor"));
                        extents.write_all_at(&bytes, at as u64).expect("room");
                        Ok(())
                    }
                    Mode::Daemon => vfs.write(file.opened.handle, at as u64, &bytes).await,
                }
            },
        );
        written.await.is_some()
    }

    pub(super) async fn close(&self, vfs: &Vfs, file: Held) {
        let handle = file.opened.handle;
        let mut next = self.tree();
        if file.writes {
            next.change(file.node, |thing| thing.writers -= 1);
        }
        let closed = self.call(|| format!("close #{}", file.node), next, async {
            let flushed = vfs.flush(handle).await;
            vfs.release(handle).await?;
            flushed
        });
        assert!(closed.await.is_some(), "a close failed");
        self.durable(|undurable, tree| {
            if tree
                .thing(file.node)
                .is_some_and(|thing| thing.writers == 0)
            {
                undurable.is_complete(file.node, tree);
            }
        });
    }

    pub(super) async fn patch(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        if self.may_be_mixed(node) {
            return;
        }
        let Some(file) = self.open(vfs, &path, false).await else {
            return;
        };
        let size = self
            .tree()
            .thing(node)
            .and_then(|thing| thing.bytes().map(|bytes| bytes.len()))
            .unwrap_or(0);
        // What is written in place after anybody's sync of that disk may be there in part after a power cut (README).
        let appends = self.may_be_torn();
        let at = self.dice(|dice| match dice.chance(300) || appends {
            true => size,
            false => dice.below(size as u64 + 1) as usize,
        });
        self.write_some(vfs, &file, Some(at)).await;
        self.close(vfs, file).await;
    }

    pub(super) async fn truncate(&self, vfs: &Vfs) {
        if self.may_be_cut() {
            // What is written in place after it may be there in part after a power cut (README).
            return;
        }
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let mut next = self.tree();
        let len = self.dice(|dice| dice.any_magnitude(BYTES_MAX));
        next.truncate(node, len as usize);
        self.call(|| format!("truncate {path} {len}"), next, async {
            let ino = find(vfs, &path).await?.ino;
            vfs.truncate(ino, len).await
        })
        .await;
    }

    pub(super) async fn read(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let read = self.ask(|| format!("read {path}"), async {
            let ino = find(vfs, &path).await?.ino;
            contents(vfs, ino).await
        });
        if let Some(found) = read.await {
            let tree = self.tree();
            let wanted = tree.thing(node).and_then(|thing| thing.bytes());
            let wanted = wanted.map(|bytes| bytes.as_slice()).unwrap_or_default();
            assert!(
                found == wanted,
                "{path} reads as {}, but is {}",
                world::outline(&found),
                world::outline(wanted)
            );
        }
    }
}
