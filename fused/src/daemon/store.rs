//! Opening the object store and the journal that these options name.

use std::sync::Arc;

use journal::{EmbeddedOptions, EmbeddedStore, Identity, Journal, NodeId};
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

/// Opens the journal of this cache directory.
pub async fn open_journal(
    options: &MountOptions,
    cache_dir: &CacheDir,
    url: &StoreUrl,
    node: NodeId,
) -> Result<Journal, Error> {
    let identity = Identity {
        store_url: url.to_string(),
        node,
    };
    match &options.journal {
        JournalKind::Embedded => {
            let store = EmbeddedStore::open(&cache_dir.journal(), EmbeddedOptions::default())
                .map_err(journal::Error::from)?;
            Ok(Journal::open(Arc::new(store), identity).await?)
        }
        #[cfg(feature = "fdb")]
        JournalKind::FoundationDb { cluster_file } => {
            let store = journal::FdbStore::open(cluster_file)?;
            Ok(Journal::open(Arc::new(store), identity).await?)
        }
        #[cfg(not(feature = "fdb"))]
        JournalKind::FoundationDb { .. } => Err(Error::NotBuiltIn {
            what: "a journal in FoundationDB",
            feature: "fdb",
        }),
    }
}
