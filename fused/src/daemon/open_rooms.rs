//! The file system without its mount: what a start, a recovery and an end have in common whoever asks, a kernel
//! or a simulation.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flusher::{Flusher, FlusherConfig, Rooms};

use super::Error;
use crate::options::{AttributesFrom, MountOptions, OnConflict, Passthrough, PublishOrder, SafeAt};
use crate::vfs::{self, Invalidate, Listener, Vfs};

/// What the daemon is made of, opened.
pub struct OpenRooms {
    /// Journal, extents and store.
    pub rooms: Rooms,
    /// This daemon.
    pub node: journal::NodeId,
}

impl OpenRooms {
    /// The store's URL.
    pub fn store(&self) -> &remote::StoreUrl {
        self.rooms.remote.url()
    }

    /// Puts the file system together; nothing runs yet. `aside` is for versions that others replaced, and
    /// `tune` has the last word on how the flusher works.
    pub fn assemble(
        &self,
        options: &MountOptions,
        invalidate: Arc<dyn Invalidate>,
        aside: PathBuf,
        tune: impl FnOnce(&mut FlusherConfig),
    ) -> Vfs {
        let mut config = FlusherConfig::new(self.rooms.clone(), self.node);
        config.memory_bytes_max = options.upload_memory;
        config.uploads_max = options.uploads_max;
        config.settle = options.settle;
        config.settle_temporary = config.settle_temporary.max(options.settle);
        config.on_conflict = match options.on_conflict {
            OnConflict::KeepBoth => flusher::OnConflict::KeepBoth,
            OnConflict::Ours => flusher::OnConflict::Ours,
            OnConflict::Theirs => flusher::OnConflict::Theirs { aside },
        };
        config.verify = options.verify;
        config.publish_order = match options.publish_order {
            PublishOrder::Directory => flusher::PublishOrder::Default,
            PublishOrder::Strict => flusher::PublishOrder::Strict,
            PublishOrder::None => flusher::PublishOrder::None,
        };
        let listener = Listener::default();
        config.events = Arc::new(listener.clone());
        config.stray_age = options.stale_uploads;
        tune(&mut config);
        let flusher = Flusher::idle(config);
        let rooms = &self.rooms;
        let cache_size = options.cache_size;
        let config = vfs::Config {
            fsync_waits_for_store: options.fsync == SafeAt::Store,
            close_waits_for_store: options.close == SafeAt::Store,
            revalidate: options.revalidate,
            shows_what_is_listed: options.attributes == AttributesFrom::Listing,
            uid: options.uid,
            gid: options.gid,
            umask: options.umask,
            read_only: options.ro,
            cache_limit: Arc::new(move |available| cache_size.bytes(available)),
            dirty_wait: options.dirty_wait,
            settle: options.settle,
            passthrough: options.passthrough == Passthrough::Auto,
            prefetch: options.prefetch,
            rules: rules(options),
        };
        let vfs = Vfs::new(
            config,
            vfs::Parts {
                journal: rooms.journal.clone(),
                extents: rooms.extents.clone(),
                remote: rooms.remote.clone(),
                attributes_on_objects: rooms.capabilities.attributes,
                flusher,
                node: self.node,
                invalidate,
            },
        );
        listener.listen(&vfs);
        vfs
    }

    /// Puts right what the last daemon left, then starts the background work. `torn` is the folder for what is left
    /// of torn files.
    pub async fn recover(&self, vfs: &Vfs, torn: &Path) -> Result<(), Error> {
        let power_cut = self.rooms.extents.previous_run() == extents::PreviousRun::UncleanBoot;
        let recovered = vfs.recover(power_cut, torn).await;
        let recovered = recovered.map_err(Error::Recovery)?;
        self.rooms.extents.mark_running()?;
        if power_cut || recovered.writers + recovered.stale > 0 {
            tracing::warn!(
                power_cut,
                ?recovered,
                "the last daemon did not end cleanly; recovered"
            );
        }
        // Only now: nothing may be uploaded or removed that recovery has not judged.
        vfs.begin();
        // A listing now, so that the root is known even if the store goes away.
        if let Err(error) = vfs.list_root().await {
            tracing::warn!(%error, "cannot list the root of the store yet");
        }
        Ok(())
    }

    /// Everything that programs were told is done is on the disk when this returns.
    pub async fn leave_safe(&self, vfs: &Vfs) -> Result<(), Error> {
        vfs.end();
        vfs.settle_all().await;
        vfs.flusher().stop().await;
        let synced = self.rooms.journal.sync().await;
        synced.map_err(|error| Error::Recovery(error.into()))?;
        // What stays is empty, and removed by the next start.
        if let Err(error) = self.rooms.extents.discard_prepared(u64::MAX) {
            tracing::warn!(%error, "cannot remove extent files that were made ahead");
        }
        // Blocks for as long as the disk takes; nothing else runs on this thread any more.
        self.rooms
            .extents
            .mark_clean()
            .map_err(|error| Error::Recovery(error.into()))
    }
}

fn rules(options: &MountOptions) -> Option<vfs::Rules> {
    let rules = options.rules.clone();
    let close = options.close;
    let rule_of = move |path: &[u8]| {
        let rule = rules.of(path)?;
        Some(vfs::Rule {
            ttl: rule.ttl,
            skip: rule.skip,
            close_waits_for_store: rule.close.unwrap_or(close) == SafeAt::Store,
        })
    };
    (!options.rules.is_empty()).then(|| Arc::new(rule_of) as vfs::Rules)
}
