//! What a program can ask of the cache: a file in the store, or off the disk.

use std::time::Duration;

use fused::vfs::Vfs;

use super::Program;
use super::walk::find;

impl Program {
    pub(super) async fn free(&self, vfs: &Vfs) {
        let path = match self.some_file() {
            Some((path, _)) if self.chance(500) => path,
            _ => self.root.clone(),
        };
        self.ask(|| format!("free {path}"), async {
            vfs.free(|of| of == path.as_bytes() || of.starts_with(format!("{path}/").as_bytes()))
                .await
        })
        .await;
    }

    /// Waits, not for ever, until a file is in the store.
    pub(super) async fn sync(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let tree = self.tree();
        if tree.thing(node).is_some_and(|thing| thing.writers > 0) {
            return;
        }
        let synced = self.ask(|| format!("sync {path}"), async {
            let ino = find(vfs, &path).await?.ino;
            let wait = tokio::time::timeout(Duration::from_secs(90), async {
                // What is below a renamed directory is marked a piece at a time.
                while !vfs.journal().resync(None, 1).await?.is_empty() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                vfs.flush_to_store(ino).await
            });
            match wait.await {
                Ok(synced) => synced.map(Some),
                Err(_) => Ok(None),
            }
        });
        if let Some(Some(())) = synced.await {
            self.durable(|undurable, tree| undurable.synced(node, tree));
            let wanted = tree.thing(node).and_then(|thing| thing.bytes());
            let bucket = self.bucket.lock();
            let names = tree.all().filter(|(_, other, _)| *other == node);
            let mut objects = names.filter_map(|(path, _, _)| bucket.objects.get(path));
            assert!(
                objects.any(|object| wanted.is_some_and(|bytes| object.bytes == bytes[..])),
                "{path} was synced, and its object is not the file"
            );
        }
    }
}
