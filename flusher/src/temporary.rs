//! Does a name look temporary?
//!
//! Programs write `name.tmp` and rename it. Waiting a little longer for such names means that the store
//! never sees the temporary name: no put, no copy, no delete. A wrong guess only costs the longer wait.
//!
//! What is recognised, from what torch DCP, safetensors, git, rsync, editors, browsers and curl write:
//! `tmp*`, `.tmp*`, `*.tmp`, `*.tmp.*`, `*.temp`, `*.part`, `*.partial`, `*.crdownload`, `*.lock`, `*.swp`,
//! `*~`, `.~*`, `.#*`, rsync's `.name.XXXXXX` (six letters or digits after the last dot of a hidden name).

const PREFIXES: [&str; 5] = ["tmp", ".tmp", ".~", ".#", "._tmp"];
const SUFFIXES: [&str; 9] = [
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".crdownload",
    ".lock",
    ".swp",
    ".inprogress",
    "~",
];

/// Whether a file of this name is likely to be renamed or deleted soon.
pub(crate) fn looks_temporary(name: &[u8]) -> bool {
    let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
    PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| lower.ends_with(suffix))
        || lower.contains(".tmp.")
        || looks_like_rsync(name)
}

fn looks_like_rsync(name: &[u8]) -> bool {
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else {
        return false;
    };
    let tail = &name[dot + 1..];
    dot > 1
        && name[0] == b'.'
        && tail.len() == 6
        && tail.iter().all(u8::is_ascii_alphanumeric)
        // `.config.backup` is a word, mkstemp's letters are not: they mix cases or hold a digit.
        && tail.iter().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_programs_rename_away_are_recognised() {
        for name in [
            ".metadata.tmp",
            "tmpab12",
            ".tmpX1y2",
            "model.part",
            "HEAD.lock",
            ".step-1.pt.Xy3aBc",
            ".~lock.x#",
            "x.tmp.1234",
            "notes~",
            "a.CRDOWNLOAD",
        ] {
            assert!(looks_temporary(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_that_stay_are_not() {
        for name in [
            ".metadata",
            "step-100.pt",
            "latest",
            "temperature.csv",
            ".gitignore",
            ".config.backup",
            "data.parquet",
            "partition",
            "template.tmpl",
        ] {
            assert!(!looks_temporary(name.as_bytes()), "{name}");
        }
    }
}
