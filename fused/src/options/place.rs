//! Where a mount's cache lives by default.

use std::path::PathBuf;

use remote::StoreUrl;

/// Where root's caches live.
const SYSTEM_CACHE: &str = "/var/cache/fused";

/// The cache directory of a URL when none is given: a name that is made from the URL, so that two stores
/// never meet in one directory and the same store always finds its own again. Root: below
/// `/var/cache/fused`; others: below `$XDG_CACHE_HOME/fused` or `~/.cache/fused`.
pub fn default_cache_dir(url: &StoreUrl) -> PathBuf {
    cache_home().join(cache_name(url))
}

fn cache_home() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from(SYSTEM_CACHE);
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map_or_else(
            // Neither is set in a bare container: a directory of one's own that survives a reboot.
            || PathBuf::from(format!("/var/tmp/fused-{}", nix::unistd::geteuid())),
            |home| home.join("fused"),
        )
}

/// 16 bytes of the BLAKE3 of the canonical URL in hexadecimal: short enough to type, and no two URLs will ever share it.
fn cache_name(url: &StoreUrl) -> String {
    let digest = blake3::hash(url.to_string().as_bytes());
    digest.to_hex().as_str().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(url: &str) -> String {
        cache_name(&StoreUrl::parse(url).unwrap())
    }

    #[test]
    fn the_same_store_written_otherwise_has_the_same_cache_directory() {
        assert_eq!(name("S3://bucket/a/"), name("s3://bucket/a"));
        assert_ne!(name("s3://bucket/a"), name("s3://bucket/A"));
        assert_ne!(name("s3://bucket"), name("gs://bucket"));
    }

    #[test]
    fn the_name_of_a_cache_directory_never_changes_between_releases() {
        assert_eq!(name("s3://bucket/a"), "b59cb9cc21d1f8c0932651f13d04dabd");
    }
}
