//! What was found.

use std::path::Path;

use serde::Serialize;

use crate::control::protocol::WirePath;

/// Findings kept; the rest is counted.
const FINDINGS_MAX: usize = 10_000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Something of a user's is gone, or can't be reached.
    Lost,
    /// Journal, extent files and store contradict each other.
    Wrong,
    /// Nothing to worry about: the next mount, or the next look at the store, takes care of it.
    Leftover,
}

impl From<journal::Grade> for Grade {
    fn from(grade: journal::Grade) -> Self {
        match grade {
            journal::Grade::Lost => Grade::Lost,
            journal::Grade::Wrong => Grade::Wrong,
            journal::Grade::Leftover => Grade::Leftover,
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What it is, in words that do not change between releases.
    pub kind: &'static str,
    /// The file's path from the root of the mount, where it has one.
    pub path: Option<WirePath>,
    /// The object's key, where it is about one.
    pub key: Option<String>,
    /// The inode's number.
    pub inode: Option<u64>,
    /// What is wrong.
    pub sentence: String,
    /// It was repaired.
    pub repaired: bool,
}

impl Finding {
    pub(super) fn new(grade: Grade, kind: &'static str, sentence: impl Into<String>) -> Self {
        Finding {
            grade,
            kind,
            path: None,
            key: None,
            inode: None,
            sentence: sentence.into(),
            repaired: false,
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The cache directory.
    pub cache_dir: WirePath,
    /// The store that it belongs to.
    pub store: String,
    /// Inodes looked at.
    pub inodes: u64,
    /// Directory entries looked at.
    pub names: u64,
    /// Extent files looked at.
    pub extent_files: u64,
    /// Bytes of local copies that were compared with what was uploaded.
    pub compared_bytes: u64,
    /// Objects asked for.
    pub objects: u64,
    /// How much is lost, and not repaired.
    pub lost: u64,
    /// How much is wrong, and not repaired.
    pub wrong: u64,
    /// What needs no repair.
    pub leftover: u64,
    /// How much was repaired.
    pub repaired: u64,
    /// The findings, 10,000 at most.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub findings_left_out: u64,
    /// How long it took.
    pub elapsed_s: f64,
}

impl Report {
    pub(super) fn new(cache_dir: &Path, store: &str) -> Self {
        Report {
            cache_dir: WirePath::from(cache_dir),
            store: store.to_owned(),
            inodes: 0,
            names: 0,
            extent_files: 0,
            compared_bytes: 0,
            objects: 0,
            lost: 0,
            wrong: 0,
            leftover: 0,
            repaired: 0,
            findings: Vec::new(),
            findings_left_out: 0,
            elapsed_s: 0.0,
        }
    }

    /// Nothing is lost or wrong, or it was repaired.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lost + self.wrong == 0
    }

    pub(super) fn tell(&mut self, finding: Finding) {
        *match finding {
            Finding { repaired: true, .. } => &mut self.repaired,
            Finding { grade, .. } => match grade {
                Grade::Lost => &mut self.lost,
                Grade::Wrong => &mut self.wrong,
                Grade::Leftover => &mut self.leftover,
            },
        } += 1;
        self.keep(finding);
    }

    /// What a look at the journal could not tell one by one.
    pub(super) fn left_out(&mut self, count: u64) {
        self.wrong += count;
        self.findings_left_out += count;
    }

    fn keep(&mut self, finding: Finding) {
        match self.findings.len() < FINDINGS_MAX {
            true => self.findings.push(finding),
            false => self.findings_left_out += 1,
        }
    }
}

/// Names from the root as one path.
pub(super) fn shown(path: &[Vec<u8>]) -> WirePath {
    WirePath::from(path.join(&b'/'))
}
