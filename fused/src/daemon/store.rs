//! Opening the object store and the journal that these options name.

use std::sync::Arc;

use journal::{EmbeddedOptions, EmbeddedStore, KvStore};
use remote::{Access, Capabilities, ProbeNotes, Remote, Scheme, Settings, StoreUrl};

use super::{CacheDir, Error};
use crate::options::{JournalKind, MountOptions};

/// Opens the store and finds out whether it will do, before anything is mounted.
pub async fn open(
    options: &MountOptions,
    notes: &dyn ProbeNotes,
) -> Result<(StoreUrl, Remote, Capabilities), Error> {
    let url = StoreUrl::parse(&options.url)?;
    let mut settings = Settings::from_env();
    let table = match url.scheme() {
        Scheme::S3 => "s3",
        Scheme::Gs => "gs",
        Scheme::Az => "azure",
        Scheme::Hdfs => "hdfs",
        Scheme::File => "file",
    };
    if let Some(toml::Value::Table(table)) = options.store.0.get(table) {
        settings = settings.with_table(table)?;
    }
    let remote = Remote::open(&url, &settings)?;
    let access = match options.ro {
        true => Access::ReadOnly,
        false => Access::ReadWrite,
    };
    let capabilities = remote.probe_noted(access, notes).await?;
    tracing::info!(store = %url, ?capabilities, "the store answers");
    Ok((url, remote, capabilities))
}

/// Opens the rows of this cache directory's journal: replays its log.
pub async fn open_rows(
    options: &MountOptions,
    cache_dir: &CacheDir,
) -> Result<Arc<dyn KvStore>, Error> {
    match &options.journal {
        JournalKind::Embedded => {
            let dir = cache_dir.journal();
            let opened = tokio::task::spawn_blocking(move || {
                EmbeddedStore::open(&dir, EmbeddedOptions::default())
            });
            let opened = opened.await.map_err(|source| Error::Start {
                what: "the journal",
                source: source.into(),
            })?;
            Ok(Arc::new(opened.map_err(journal::Error::from)?))
        }
        #[cfg(feature = "foundationdb")]
        JournalKind::FoundationDb { cluster_file } => {
            let store = &cache_dir.identity().store;
            let opened = journal::kv::FdbStore::open(journal::kv::FdbOptions {
                cluster_file: cluster_file.clone(),
                // No URL has this byte, so none is the beginning of another one with it.
                prefix: format!("fused/{store}\0").into_bytes(),
            });
            let opened = opened.map_err(journal::Error::from)?;
            opened.reach().await.map_err(journal::Error::from)?;
            Ok(Arc::new(opened))
        }
        #[cfg(not(feature = "foundationdb"))]
        JournalKind::FoundationDb { .. } => Err(Error::NotBuiltIn {
            what: "a journal in FoundationDB",
            feature: "foundationdb",
        }),
    }
}
