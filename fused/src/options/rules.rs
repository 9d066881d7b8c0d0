//! `[[rules]]` of the TOML file: what holds for some paths only.
//!
//! ```toml
//! [[rules]]
//! paths = ["*.tmp", "scratch/**"]
//! skip = true
//!
//! [[rules]]
//! paths = ["datasets/2024"]
//! ttl = "12h"
//!
//! [[rules]]
//! paths = ["ckpt"]
//! close = "store"
//! ```
//!
//! Patterns are those of gitignore(5): relative to the mount; one without a slash in it holds at any depth; what
//! matches a directory holds for all below it; `*` and `?` stop at a slash, `**` does not.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use globset::{Glob, GlobBuilder, GlobSet};

use super::{SafeAt, values};

/// What holds for the paths that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathRule {
    /// Nothing stays in the cache once it is closed and in the store, nor is it brought in ahead.
    pub skip: bool,
    /// How long bytes stay in the cache after they were used last; `None` = as long as there is room.
    pub ttl: Option<Duration>,
    /// What closing a written file waits for; `None` = as the option `close` says.
    pub close: Option<SafeAt>,
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct PathRules {
    matcher: GlobSet,
    /// What the matcher is made of, each pattern with its rule.
    patterns: Vec<(Glob, PathRule)>,
}

impl PathRules {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The last one that matches a path, relative to the mount.
    pub fn of(&self, path: &[u8]) -> Option<PathRule> {
        // In the order of patterns.
        let matching = self.matcher.matches(OsStr::from_bytes(path));
        let (_, rule) = self.patterns.get(*matching.last()?)?;
        Some(*rule)
    }
}

impl PartialEq for PathRules {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

/// Reads the array.
pub(super) fn parse(value: &toml::Value) -> Result<PathRules, String> {
    let shape = "write each rule below a heading [[rules]] of its own";
    let mut rules = PathRules::default();
    let mut matcher = GlobSet::builder();
    for (n, rule) in value.as_array().ok_or(shape)?.iter().enumerate() {
        let rule = parse_rule(rule.as_table().ok_or(shape)?);
        let (globs, rule) = rule.map_err(|problem| format!("number {}: {problem}", n + 1))?;
        for glob in globs {
            matcher.add(glob.clone());
            rules.patterns.push((glob, rule));
        }
    }
    // All of them together may be too much.
    rules.matcher = matcher.build().map_err(|error| error.to_string())?;
    Ok(rules)
}

fn parse_rule(table: &toml::Table) -> Result<(Vec<Glob>, PathRule), String> {
    let mut rule = PathRule::default();
    let mut all = Vec::new();
    for (name, value) in table {
        match (name.as_str(), value) {
            ("paths", toml::Value::Array(patterns)) => {
                for pattern in patterns {
                    let text = pattern.as_str();
                    all.extend(globs(text.ok_or(PATHS)?)?);
                }
            }
            ("paths", _) => return Err(PATHS.into()),
            ("skip", toml::Value::Boolean(skip)) => rule.skip = *skip,
            ("skip", _) => return Err("`skip` is true or false".into()),
            ("ttl", toml::Value::String(text)) => rule.ttl = Some(values::duration(text)?),
            ("ttl", toml::Value::Integer(seconds)) => {
                rule.ttl = Some(values::duration(&seconds.to_string())?);
            }
            ("ttl", _) => return Err("`ttl` is a time such as \"12h\"".into()),
            ("close", toml::Value::String(text)) => rule.close = Some(values::safe_at(text)?),
            ("close", _) => return Err("`close` is \"local\" or \"store\"".into()),
            _ => {
                return Err(format!(
                    "there is no `{name}`: a rule has paths, skip, ttl and close"
                ));
            }
        }
    }
    match all.is_empty() {
        true => Err(PATHS.into()),
        false => Ok((all, rule)),
    }
}

const PATHS: &str = "`paths` is a list of patterns such as [\"*.tmp\", \"scratch/**\"]";

/// A pattern, and the one for all that is below what it matches.
fn globs(pattern: &str) -> Result<[Glob; 2], String> {
    let problem = |problem: &str| format!("`{pattern}` is no pattern: {problem}");
    let path = pattern.trim_end_matches('/');
    let inside = path.trim_start_matches('/');
    if inside.is_empty() {
        return Err(problem("it names nothing below the mount"));
    }
    let anywhere = match path.contains('/') {
        true => "",
        false => "**/",
    };
    let glob = |text: &str| {
        let mut builder = GlobBuilder::new(text);
        let built = builder
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        built.map_err(|error| problem(&error.kind().to_string()))
    };
    Ok([
        glob(&format!("{anywhere}{inside}"))?,
        glob(&format!("{anywhere}{inside}/**"))?,
    ])
}
