//! Values of options: sizes, times, owners, masks, paths; and sizes and times as text for people.
//!
//! Sizes: `10G` and `10GiB` are 10 x 2^30 bytes, `10GB` is 10 x 10^9 (as dd has it). Times: `60`, `60s`,
//! `500ms`, `1.5m`, `1h`, `1d`. Setters return the problem as half a sentence; the caller adds the name.

use std::path::PathBuf;
use std::time::Duration;

use super::{
    AttributesFrom, CacheSize, JournalKind, LogLevel, OnConflict, Passthrough, PublishOrder, SafeAt,
};

const SIZE_HINT: &str = "write a size such as 500M, 100G, 1.5T or 10GiB";
const TIME_HINT: &str = "write a time such as 500ms, 60s, 2m or 1h";

/// A decimal number with at most nine digits after the point, as billionths; and the unit behind it.
fn number_and_unit(text: &str) -> Option<(u128, &str)> {
    const BILLION: u128 = 1_000_000_000;
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some((
        u128::from(whole) * BILLION + u128::from(fraction),
        unit.trim(),
    ))
}

/// A size in bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let problem = || format!("`{text}` is no size: {SIZE_HINT}");
    let (billionths, unit) = number_and_unit(text).ok_or_else(problem)?;
    let factor: u128 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "p" | "pib" => 1 << 50,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "pb" => 1_000_000_000_000_000,
        _ => return Err(problem()),
    };
    let bytes = billionths
        .checked_mul(factor)
        .and_then(|scaled| u64::try_from(scaled / 1_000_000_000).ok())
        .ok_or_else(problem)?;
    if bytes == 0 {
        Err(format!("`{text}` is nothing: {SIZE_HINT}"))
    } else {
        Ok(bytes)
    }
}

/// A size, or hundredths of what the file system has.
pub(super) fn cache_size(text: &str) -> Result<CacheSize, String> {
    match text.trim().strip_suffix('%') {
        None => size(text)
            .map(CacheSize::Bytes)
            .map_err(|problem| format!("{problem}, or 80%")),
        Some(percent) => match percent.trim().parse::<u8>() {
            Ok(percent @ 1..=100) => Ok(CacheSize::Percent(percent)),
            _ => Err(format!("`{text}` is not between 1% and 100%")),
        },
    }
}

/// A time; seconds when no unit is given.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("`{text}` is no time: {TIME_HINT}");
    let (billionths, unit) = number_and_unit(text).ok_or_else(problem)?;
    let nanos = match unit {
        "" | "s" => Some(billionths),
        "ms" => Some(billionths / 1_000),
        "m" | "min" => billionths.checked_mul(60),
        "h" => billionths.checked_mul(3_600),
        "d" => billionths.checked_mul(86_400),
        _ => None,
    };
    nanos
        .and_then(|n| u64::try_from(n).ok())
        .map(Duration::from_nanos)
        .ok_or_else(problem)
}

/// A count between 1 and `max`.
pub(super) fn count(text: &str, max: usize) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(n) if (1..=max).contains(&n) => Ok(n),
        _ => Err(format!("`{text}` is not a number from 1 to {max}")),
    }
}

/// An octal mask of permission bits.
pub(super) fn umask(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text.trim(), 8) {
        Ok(mask) if mask <= 0o777 => Ok(mask),
        _ => Err(format!(
            "`{text}` is no mask: write an octal number such as 022 or 077"
        )),
    }
}

/// A user by number or name.
pub(super) fn user(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match nix::unistd::User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(format!("there is no user `{text}` on this machine")),
    }
}

/// A group by number or name.
pub(super) fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match nix::unistd::Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(format!("there is no group `{text}` on this machine")),
    }
}

/// A path, made absolute (a background daemon lives in `/`).
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path is empty".to_owned());
    }
    std::path::absolute(text).map_err(|error| format!("`{text}` can't be made absolute: {error}"))
}

/// One path, or several: further ones begin with `:/`, since a path may have a colon.
pub(super) fn paths(text: &str) -> Result<(PathBuf, Vec<PathBuf>), String> {
    let mut parts = text.split(":/");
    let first = path(parts.next().unwrap_or_default())?;
    let further = parts.map(|rest| path(&format!("/{rest}")));
    Ok((first, further.collect::<Result<_, _>>()?))
}

pub(super) fn journal(text: &str) -> Result<JournalKind, String> {
    if text == "embedded" {
        return Ok(JournalKind::Embedded);
    }
    match text.strip_prefix("fdb:") {
        Some(file) if !file.is_empty() => Ok(JournalKind::FoundationDb {
            cluster_file: path(file)?,
        }),
        _ => Err(format!(
            "`{text}` is no journal: write embedded or fdb:/path/fdb.cluster"
        )),
    }
}

pub(super) fn on_conflict(text: &str) -> Result<OnConflict, String> {
    match text {
        "keep-both" => Ok(OnConflict::KeepBoth),
        "ours" => Ok(OnConflict::Ours),
        "theirs" => Ok(OnConflict::Theirs),
        _ => Err(format!("`{text}` is none of keep-both, ours and theirs")),
    }
}

pub(super) fn publish_order(text: &str) -> Result<PublishOrder, String> {
    match text {
        "directory" => Ok(PublishOrder::Directory),
        "strict" => Ok(PublishOrder::Strict),
        "none" => Ok(PublishOrder::None),
        _ => Err(format!("`{text}` is none of directory, strict and none")),
    }
}

pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}` is neither on nor off")),
    }
}

pub(super) fn passthrough(text: &str) -> Result<Passthrough, String> {
    match text {
        "auto" => Ok(Passthrough::Auto),
        "off" => Ok(Passthrough::Off),
        _ => Err(format!("`{text}` is neither auto nor off")),
    }
}

pub(super) fn attributes_from(text: &str) -> Result<AttributesFrom, String> {
    match text {
        "object" => Ok(AttributesFrom::Object),
        "listing" => Ok(AttributesFrom::Listing),
        _ => Err(format!("`{text}` is neither object nor listing")),
    }
}

pub(super) fn safe_at(text: &str) -> Result<SafeAt, String> {
    match text {
        "local" => Ok(SafeAt::Local),
        "store" => Ok(SafeAt::Store),
        _ => Err(format!("`{text}` is neither local nor store")),
    }
}

pub(super) fn log_level(text: &str) -> Result<LogLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err(format!(
            "`{text}` is none of error, warn, info, debug, trace"
        )),
    }
}

/// Bytes for people: `0 B`, `999 B`, `1.50 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // 1023.95 would be shown as 1024.0: that is 1.0 of the next unit.
    while value >= 1023.95 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = Some(next);
    }
    format!("{value:.1} {}", unit.copied().unwrap_or_default())
}

/// A time for people, in its two largest units: `0 s`, `45 s`, `3 min 20 s`, `2 d 4 h`.
pub fn format_duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match secs {
        0 if duration.as_millis() > 0 => format!("{} ms", duration.as_millis()),
        0..60 => format!("{secs} s"),
        60..3_600 => two(secs / 60, "min", secs % 60, "s"),
        3_600..86_400 => two(secs / 3_600, "h", secs % 3_600 / 60, "min"),
        _ => two(secs / 86_400, "d", secs % 86_400 / 3_600, "h"),
    }
}
