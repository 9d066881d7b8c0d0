//! The rows of a journal, for people: what each is, which inode or object it is about, and what it says.
//!
//! Nothing is judged here; that is what [`crate::Audit`] does. What programs keep in extended attributes is not told,
//! only how long it is.

use std::fmt::Write as _;

use serde::Serialize;

use crate::kv::{KvStore, Mode, Range, Row, Transaction};
use crate::records::{self, Record};
use crate::types::{Listing, Sent};
use crate::{Error, keys};

/// Rows read at once.
const PAGE_ROWS: usize = 512;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpedRow {
    /// What sort of row it is.
    pub kind: &'static str,
    /// What it is about.
    pub key: String,
    /// What it says. A row that can't be read says why.
    pub value: String,
    /// Length of key and value, in bytes.
    pub bytes: u64,
}

/// Tells every row of a journal, in the order of keys, until `told` says false. On the embedded store all are of one
/// instant; in a shared one each page is, and others may be changing it.
pub async fn dump(
    store: &dyn KvStore,
    told: &mut (dyn FnMut(DumpedRow) -> bool + Send),
) -> Result<(), Error> {
    let mut txn = store.begin(Mode::Read)?;
    let mut begin = Vec::new();
    loop {
        let page = page(txn.as_mut(), &begin).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        begin = keys::just_after(last);
        for (key, value) in &page {
            if !told(describe(key, value)) {
                return Ok(());
            }
        }
        if store.is_shared() {
            // A transaction there has a few seconds.
            txn = store.begin(Mode::Read)?;
        }
    }
}

async fn page(txn: &mut dyn Transaction, begin: &[u8]) -> Result<Vec<Row>, Error> {
    let range = Range {
        begin,
        end: &[0xff],
        limit: PAGE_ROWS,
        reverse: false,
    };
    Ok(txn.range(range, true).await?)
}

/// How a key goes on behind its tag.
struct Layout {
    kind: &'static str,
    numbers: &'static [&'static str],
    /// What the bytes behind the numbers are.
    tail: Option<Tail>,
    value: fn(&[u8], &[u8]) -> String,
}

#[derive(Clone, Copy)]
enum Tail {
    /// A name, or an object's key.
    Text(&'static str),
    /// A number, big-endian.
    Number(&'static str),
    /// A name, a NUL, and a number of two bytes.
    NameAndNumber,
}

fn layout(tag: u8) -> Option<Layout> {
    use Tail::{NameAndNumber, Number, Text};
    let row = |kind, numbers, tail, value| Layout {
        kind,
        numbers,
        tail,
        value,
    };
    let ino: &[&str] = &["ino"];
    let of_node: &[&str] = &["node", "ino"];
    Some(match tag {
        b'F' => row("format", &[], None, debug::<records::FormatRow>),
        b'J' => row("journal id", &[], None, debug::<records::JournalIdRow>),
        b'C' => row("counter", &[], Some(Text("of")), counter),
        b'A' => row("operation", &["node"], Some(Number("slot")), length),
        b'I' => row("inode", ino, None, debug::<records::InodeRow>),
        b'D' => row(
            "dirent",
            &["parent"],
            Some(Text("name")),
            debug::<records::DirentRow>,
        ),
        b'L' => row(
            "link",
            &["ino", "parent"],
            Some(Text("name")),
            debug::<records::LinkRow>,
        ),
        b'T' => row("symlink target", ino, Some(Number("piece")), text),
        b'X' => row("extended attribute", ino, Some(Text("name")), xattr),
        b'x' => row(
            "extended attribute, further",
            ino,
            Some(NameAndNumber),
            length,
        ),
        b'U' => row("unsynced", of_node, None, debug::<records::UnsyncedRow>),
        b'W' => row("writer", of_node, None, nothing),
        b'O' => row("orphan", of_node, None, debug::<records::OrphanRow>),
        b'B' => row("former version", of_node, None, debug::<records::FormerRow>),
        b'H' => row("pin", of_node, None, nothing),
        b'K' => row(
            "claim",
            &[],
            Some(Text("object")),
            debug::<records::ClaimRow>,
        ),
        b'G' => row(
            "garbage",
            &[],
            Some(Text("object")),
            debug::<records::GarbageRow>,
        ),
        b'P' => row("upload", ino, None, debug::<records::UploadRow>),
        b'p' => row(
            "uploaded part",
            ino,
            Some(Number("part")),
            debug::<records::PartRow>,
        ),
        b'V' => row("digests", ino, None, debug::<records::DigestedRow>),
        b'v' => row(
            "digests, further",
            &["ino", "block"],
            None,
            debug::<records::DigestRow>,
        ),
        b'N' => row(
            "uploads asked for",
            &[],
            Some(Text("object")),
            debug::<records::AskedRow>,
        ),
        b'M' => row("sent", &[], Some(Text("object")), debug::<Sent>),
        b'S' => row("listing", ino, None, debug::<Listing>),
        b'E' => row("node", &["node"], None, debug::<records::NodeRow>),
        b'R' => row("resync", ino, None, debug::<records::ResyncRow>),
        _ => return None,
    })
}

fn describe(key: &[u8], value: &[u8]) -> DumpedRow {
    let bytes = (key.len() + value.len()) as u64;
    let known = key.split_first().and_then(|(tag, rest)| {
        let layout = layout(*tag)?;
        let key_text = key_text(&layout, rest)?;
        Some((layout, key_text))
    });
    match known {
        Some((layout, text)) => DumpedRow {
            kind: layout.kind,
            key: text,
            value: (layout.value)(key, value),
            bytes,
        },
        None => DumpedRow {
            kind: "unknown",
            key: key.escape_ascii().to_string(),
            value: length(key, value),
            bytes,
        },
    }
}

/// None if the key has not this layout.
fn key_text(layout: &Layout, mut rest: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut tell = |name: &str, value: &dyn std::fmt::Display| {
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = write!(text, "{space}{name}={value}");
    };
    for name in layout.numbers {
        let (number, after) = rest.split_first_chunk()?;
        tell(name, &u64::from_be_bytes(*number));
        rest = after;
    }
    match layout.tail {
        None if rest.is_empty() => {}
        None => return None,
        Some(Tail::Text(name)) => tell(name, &format_args!("\"{}\"", rest.escape_ascii())),
        Some(Tail::Number(name)) => tell(name, &number(rest)),
        Some(Tail::NameAndNumber) => {
            let (front, piece) = rest.split_last_chunk::<2>()?;
            let name = front.strip_suffix(&[0])?;
            tell("name", &format_args!("\"{}\"", name.escape_ascii()));
            tell("piece", &u16::from_be_bytes(*piece));
        }
    }
    Some(text)
}

fn number(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().take(8);
    digits.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn debug<R: Record + std::fmt::Debug>(key: &[u8], value: &[u8]) -> String {
    match records::decode::<R>(key, value) {
        Ok(record) => format!("{record:?}"),
        Err(error) => error.to_string(),
    }
}

fn counter(key: &[u8], value: &[u8]) -> String {
    match records::decode_counter(key, Some(value)) {
        Ok(number) => number.to_string(),
        Err(error) => error.to_string(),
    }
}

fn text(key: &[u8], value: &[u8]) -> String {
    match records::decode::<records::ChunkRow>(key, value) {
        Ok(chunk) => format!("\"{}\"", chunk.bytes.escape_ascii()),
        Err(error) => error.to_string(),
    }
}

fn xattr(key: &[u8], value: &[u8]) -> String {
    match records::decode::<records::XattrRow>(key, value) {
        Ok(row) => format!("{} bytes", row.length),
        Err(error) => error.to_string(),
    }
}

fn length(_: &[u8], value: &[u8]) -> String {
    format!("{} bytes", value.len())
}

fn nothing(_: &[u8], _: &[u8]) -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Ino, NodeId};

    #[test]
    fn keys_are_told_by_their_parts() {
        let text = |key: &[u8]| {
            let row = describe(key, b"");
            (row.kind, row.key)
        };
        let (one, node) = (Ino(1), NodeId(5));
        for (key, kind, wanted) in [
            (keys::inode(Ino(515)), "inode", "ino=515"),
            (
                keys::dirent(one, b"a\n"),
                "dirent",
                r#"parent=1 name="a\n""#,
            ),
            (
                keys::link(Ino(2), one, b"a"),
                "link",
                r#"ino=2 parent=1 name="a""#,
            ),
            (keys::unsynced(node, one), "unsynced", "node=5 ino=1"),
            (keys::claim("d/x"), "claim", r#"object="d/x""#),
            (
                keys::upload_part(one, 258),
                "uploaded part",
                "ino=1 part=258",
            ),
            (
                keys::xattr_chunk(one, b"user.x", 258),
                "extended attribute, further",
                r#"ino=1 name="user.x" piece=258"#,
            ),
            (keys::NEXT_INO.to_vec(), "counter", r#"of="i""#),
            (keys::digests(one, 3), "digests, further", "ino=1 block=3"),
            (b"I\0".to_vec(), "unknown", "I\\x00"),
            (b"?x".to_vec(), "unknown", "?x"),
        ] {
            assert_eq!(text(&key), (kind, wanted.to_owned()));
        }
    }
}
