//! Whether two answers are the same, and how times are compared.
//!
//! A time is either set by a program, then it is the same on both sides; or it is the moment of some
//! step, and then it is as good as the same if both lie within the same step. Two steps that follow
//! each other within [`CLOCK_NS`] can't be told apart, hence [`Event::Pause`](crate::operation::Event).
//!
//! The mount behaves as a local file system that is mounted with `noatime` (README, "atime: set by
//! utimens, not by reading"); the plain folder is looked at through a mount of that kind, so that
//! the access times compare like the others.

use crate::outcome::{Attributes, Entry, Moment, Outcome};

/// How far a file system's clock may lag: a tick at 100 Hz, and a little.
const CLOCK_NS: i128 = 12_000_000;
/// How far it may be ahead: not at all, but clocks are read at different moments.
const AHEAD_NS: i128 = 2_000_000;

/// When each step happened.
#[derive(Debug, Default)]
pub struct Windows(Vec<(i128, i128)>);

impl Windows {
    /// A step from then till now.
    pub fn add(&mut self, began: i128) {
        self.0.push((began - CLOCK_NS, now() + AHEAD_NS));
    }

    fn same(&self, one: Moment, other: Moment) -> bool {
        let holds = |(from, to): &(i128, i128), moment: Moment| (*from..=*to).contains(&moment.0);
        one == other
            || self
                .0
                .iter()
                .any(|step| holds(step, one) && holds(step, other))
    }

    /// How two attributes differ.
    fn attributes(&self, one: &Attributes, other: &Attributes) -> Option<String> {
        let mut other_but_times = other.clone();
        other_but_times.atime = one.atime;
        other_but_times.mtime = one.mtime;
        other_but_times.ctime = one.ctime;
        if *one != other_but_times {
            return Some(format!("{one:?}\n     and {other:?}"));
        }
        // Writing to a FIFO moves its times on a local file system; the kernel's FUSE leaves it out
        // and tells nobody (README, "times of FIFOs").
        if one.mode.starts_with("fifo") {
            return None;
        }
        let times = [
            ("atime", one.atime, other.atime),
            ("mtime", one.mtime, other.mtime),
            ("ctime", one.ctime, other.ctime),
        ];
        let (name, one, other) = times
            .into_iter()
            .find(|(_, one, other)| !self.same(*one, *other))?;
        Some(format!(
            "{name} {one:?} and {other:?}{}",
            self.explain(one, other)
        ))
    }

    /// Which steps two times belong to, counted from the making of the folders.
    fn explain(&self, one: Moment, other: Moment) -> String {
        let step = |moment: Moment| {
            let found = self
                .0
                .iter()
                .rposition(|(from, to)| (from + CLOCK_NS..=*to).contains(&moment.0));
            found.map_or("of no step".to_owned(), |step| format!("of step {step}"))
        };
        format!(" ({} and {})", step(one), step(other))
    }

    /// How two outcomes differ.
    pub fn outcomes(&self, one: &Outcome, other: &Outcome) -> Option<String> {
        match (one, other) {
            (Outcome::Wrong(why), _) | (_, Outcome::Wrong(why)) => Some(why.clone()),
            (Outcome::About(one), Outcome::About(other)) => self.attributes(one, other),
            _ if one == other => None,
            _ => Some(format!("{one:?}\n     and {other:?}")),
        }
    }

    /// How two trees differ.
    pub fn trees(&self, one: &[Entry], other: &[Entry]) -> Option<String> {
        let paths = |tree: &[Entry]| {
            tree.iter()
                .map(|entry| entry.path.clone())
                .collect::<Vec<_>>()
        };
        if paths(one) != paths(other) {
            return Some(format!(
                "names {:?}\n     and {:?}",
                paths(one),
                paths(other)
            ));
        }
        one.iter().zip(other).find_map(|(one, other)| {
            let differs = self
                .attributes(&one.about, &other.about)
                .or_else(|| self.outcomes(&one.content, &other.content))
                .or_else(|| (one.same_as != other.same_as).then(|| "another file".to_owned()))
                .or_else(|| {
                    (one.xattrs != other.xattrs)
                        .then(|| format!("xattrs {:?}\n     and {:?}", one.xattrs, other.xattrs))
                })?;
            Some(format!("{}: {differs}", one.path))
        })
    }
}

/// The present: nanoseconds since 1970.
pub fn now() -> i128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock after 1970").as_nanos().cast_signed()
}
