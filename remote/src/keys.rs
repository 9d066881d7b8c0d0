//! From file names to object keys and back.
//!
//! A file's key is its path with '/' between the names. Names that are UTF-8 without control
//! characters, nearly all, stand in the key as they are. The rest is written so that it can be read
//! back, and nothing else is touched, so that the keys of an existing bucket keep their spelling:
//!
//! * a control character (01..1F, 7F) or a byte that is no UTF-8 becomes `%XX`, upper case;
//! * a name that itself contains what reads like such an escape gets its '%' escaped, `%25XX`; one
//!   level of `25` is added to whatever levels are there. `100%`, `a%20b` and `%C3%A9` (which spells
//!   valid UTF-8, and so is never an escape) stay as they are;
//! * names that this crate keeps for itself (`.fused-staging`, `.fused-probe-*`) become `%2Efused-…`.
//!
//! Every name has exactly one key component. A component that no name leads to (`a%01` in lower case
//! hex reads as itself and is fine; a raw control character, an empty component, '.' or '..' is not)
//! can't be shown in a file system: [`decode_name`] says `None` and listings report the key as hidden.

use std::fmt;

/// First characters of names that are ours: staging folders and probe objects.
pub(crate) const STAGING: &str = ".fused-staging";
/// First characters of the objects that the probe writes and deletes.
pub(crate) const PROBE_PREFIX: &str = ".fused-probe-";

/// An object's key below the URL's prefix: names with '/' between them, a trailing '/' if it stands
/// for a directory, no leading one. Empty is the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ObjectKey(pub String);

impl ObjectKey {
    /// A key, spelled as the store spells it.
    pub fn new(key: impl Into<String>) -> ObjectKey {
        ObjectKey(key.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for a directory: the root, or a key that ends in '/'.
    pub fn is_directory(&self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }

    /// The same key as a directory's, with the trailing '/'.
    pub fn to_directory(&self) -> ObjectKey {
        if self.is_directory() {
            self.clone()
        } else {
            ObjectKey(format!("{}/", self.0))
        }
    }

    /// The key of `component` in the directory that this key stands for.
    pub fn child(&self, component: &str) -> ObjectKey {
        ObjectKey(format!("{}{component}", self.to_directory().0))
    }

    /// The last component, without the trailing '/'.
    pub fn name(&self) -> &str {
        let path = self.0.strip_suffix('/').unwrap_or(&self.0);
        path.rsplit('/').next().unwrap_or(path)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ObjectKey {
    fn from(key: &str) -> ObjectKey {
        ObjectKey(key.to_owned())
    }
}

/// The key of the file whose names from the root are `path`; the empty path gives the root.
pub fn encode<N: AsRef<[u8]>>(path: &[N]) -> ObjectKey {
    let names: Vec<String> = path.iter().map(|name| encode_name(name.as_ref())).collect();
    ObjectKey(names.join("/"))
}

/// The key component of a file name.
pub fn encode_name(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    if let Some(rest) = reserved_tail(name) {
        // ".fused-" -> "%2Efused-", "%2Efused-" -> "%252Efused-", and so on.
        out.push_str(if name.first() == Some(&b'.') {
            "%2E"
        } else {
            "%25"
        });
        out.push_str(&String::from_utf8_lossy(if name.first() == Some(&b'.') {
            rest
        } else {
            &name[1..]
        }));
        return out;
    }
    for chunk in name.utf8_chunks() {
        encode_text(chunk.valid(), &mut out);
        for byte in chunk.invalid() {
            push_escape(*byte, &mut out);
        }
    }
    out
}

/// The file name of a key component, or `None` if no name leads to it.
pub fn decode_name(component: &str) -> Option<Vec<u8>> {
    let name = decode_unchecked(component);
    let possible = !name.is_empty()
        && name != b"."
        && name != b".."
        && !name.contains(&0)
        && !name.contains(&b'/');
    (possible && encode_name(&name) == component).then_some(name)
}

/// Whether a component or name is one that this crate keeps for itself.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.first() == Some(&b'.') && reserved_tail(name).is_some()
}

/// Whether a name is reserved or an escape of a reserved one, to whatever level.
pub(crate) fn is_reserved_family(name: &[u8]) -> bool {
    reserved_tail(name).is_some()
}

/// What follows the '.' (or its escape, to whatever level) of a reserved name.
fn reserved_tail(name: &[u8]) -> Option<&[u8]> {
    let tail = match name.strip_prefix(b"%") {
        None => name.strip_prefix(b".")?,
        Some(mut rest) => {
            while let Some(less) = rest.strip_prefix(b"25") {
                rest = less;
            }
            rest.strip_prefix(b"2E")?
        }
    };
    let ours = tail == &STAGING.as_bytes()[1..] || tail.starts_with(&PROBE_PREFIX.as_bytes()[1..]);
    // A reserved name is plain ASCII, so that it needs no other escapes.
    (ours && tail.iter().all(|b| b.is_ascii_graphic() && *b != b'%')).then_some(tail)
}

/// A '%' with what follows it, if that reads like an escape.
struct Escape {
    /// How many `25` stand between the '%' and the two digits.
    levels: usize,
    /// What the digits say.
    byte: u8,
}

impl Escape {
    /// Reads an escape at the beginning of `text`; lengths are `1 + 2 * levels + 2`.
    fn read(text: &[u8]) -> Option<Escape> {
        let mut rest = text.strip_prefix(b"%")?;
        let mut levels = 0;
        while let Some(less) = rest.strip_prefix(b"25") {
            rest = less;
            levels += 1;
        }
        let byte = hex(*rest.first()?)? << 4 | hex(*rest.get(1)?)?;
        (byte >= 0x80 || (byte != 0 && byte.is_ascii_control())).then_some(Escape { levels, byte })
    }

    fn len(&self) -> usize {
        3 + 2 * self.levels
    }
}

/// The bytes that a run of `%XX` (8 bits, no levels) at the beginning of `text` spells.
fn read_run(text: &[u8]) -> Vec<u8> {
    let mut run = Vec::new();
    while let Some(escape) = Escape::read(&text[3 * run.len()..]) {
        if escape.levels > 0 || escape.byte < 0x80 {
            break;
        }
        run.push(escape.byte);
    }
    run
}

fn encode_text(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_ascii_control() {
            push_escape(c as u8, out);
            at += 1;
        } else if let Some(escape) = Escape::read(&bytes[at..]) {
            if escape.levels == 0 && escape.byte >= 0x80 {
                let run = read_run(&bytes[at..]);
                for chunk in run.utf8_chunks() {
                    chunk
                        .valid()
                        .bytes()
                        .for_each(|byte| push_escape(byte, out));
                    for byte in chunk.invalid() {
                        out.push_str("%25");
                        push_hex(*byte, out);
                    }
                }
                at += 3 * run.len();
            } else {
                out.push_str("%25");
                out.push_str(&text[at + 1..at + escape.len()]);
                at += escape.len();
            }
        } else {
            out.push(c);
            at += c.len_utf8();
        }
    }
}

fn decode_unchecked(component: &str) -> Vec<u8> {
    if reserved_tail(component.as_bytes()).is_some() {
        return match component.strip_prefix("%25") {
            Some(rest) => [b"%", rest.as_bytes()].concat(),
            None => [b".", component.trim_start_matches("%2E").as_bytes()].concat(),
        };
    }
    let bytes = component.as_bytes();
    let mut name = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let Some(escape) = Escape::read(&bytes[at..]) else {
            name.push(bytes[at]);
            at += 1;
            continue;
        };
        if escape.levels > 0 {
            name.push(b'%');
            name.extend_from_slice(&bytes[at + 3..at + escape.len()]);
            at += escape.len();
        } else if escape.byte < 0x80 {
            name.push(escape.byte);
            at += escape.len();
        } else {
            let run = read_run(&bytes[at..]);
            for chunk in run.utf8_chunks() {
                let mut literal = String::new();
                chunk
                    .valid()
                    .bytes()
                    .for_each(|byte| push_escape(byte, &mut literal));
                name.extend_from_slice(literal.as_bytes());
                name.extend_from_slice(chunk.invalid());
            }
            at += 3 * run.len();
        }
    }
    name
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn push_escape(byte: u8, out: &mut String) {
    out.push('%');
    push_hex(byte, out);
}

fn push_hex(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push(DIGITS[usize::from(byte >> 4)] as char);
    out.push(DIGITS[usize::from(byte & 15)] as char);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names made of the pieces that the encoding could trip over.
    fn tricky_name() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"%".to_vec()),
            Just(b"25".to_vec()),
            Just(b"%25".to_vec()),
            Just(b"01".to_vec()),
            Just(b"%2E".to_vec()),
            Just(b"2E".to_vec()),
            Just(b".fused-staging".to_vec()),
            Just(b"fused-probe-x".to_vec()),
            Just(b"%C3".to_vec()),
            Just(b"%A9".to_vec()),
            Just(b"C3%A9".to_vec()),
            Just("é".as_bytes().to_vec()),
            Just(vec![0xC3]),
            Just(vec![0xE2, 0x82]),
            Just(b"%E2%82%AC".to_vec()),
            Just(vec![0xA9]),
            Just(vec![1]),
            (1u8..=255).prop_map(|b| vec![b]),
            "[%0-9A-Fa-f]{1,4}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 1..9)
            .prop_map(|pieces| pieces.concat())
            .prop_filter("a possible name", |n| {
                !n.contains(&b'/') && n != b"." && n != b".."
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn every_name_comes_back_from_its_key(name in tricky_name()) {
            prop_assert_eq!(decode_name(&encode_name(&name)), Some(name));
        }

        #[test]
        fn a_component_that_decodes_is_the_one_its_name_encodes_to(component in "[%0-9A-F25.a-f\u{1}é]{0,12}") {
            if let Some(name) = decode_name(&component) {
                prop_assert_eq!(encode_name(&name), component);
            }
        }

        #[test]
        fn a_plain_name_is_its_own_key(name in "[a-zA-Z0-9 ._+é雪-]{1,40}") {
            prop_assume!(name != "." && name != ".." && !is_reserved(name.as_bytes()));
            prop_assert_eq!(encode_name(name.as_bytes()), name);
        }

        #[test]
        fn a_key_never_carries_control_characters(name in tricky_name()) {
            prop_assert!(encode_name(&name).chars().all(|c| !c.is_ascii_control()));
        }
    }

    #[test]
    fn common_percent_signs_stay_as_they_are() {
        for name in [
            "100%", "a%20b", "%C3%A9", "%3A", "%2F", "%e9", "50%25", "%", "%%", "%00",
        ] {
            assert_eq!(encode_name(name.as_bytes()), name);
            assert_eq!(decode_name(name), Some(name.as_bytes().to_vec()));
        }
    }

    #[test]
    fn what_is_not_text_is_escaped() {
        assert_eq!(encode_name(b"a\xFFb"), "a%FFb");
        assert_eq!(encode_name(b"a\nb"), "a%0Ab");
        assert_eq!(encode_name(b"%FF"), "%25FF");
        assert_eq!(encode_name(b"%25FF"), "%2525FF");
    }

    #[test]
    fn names_of_our_own_do_not_collide_with_a_users() {
        assert_eq!(encode_name(b".fused-staging"), "%2Efused-staging");
        assert_eq!(encode_name(b"%2Efused-staging"), "%252Efused-staging");
        assert_eq!(decode_name(".fused-staging"), None);
        assert_eq!(decode_name(".fused-probe-1"), None);
        assert_eq!(
            decode_name("%2Efused-probe-1"),
            Some(b".fused-probe-1".to_vec())
        );
    }

    #[test]
    fn keys_that_can_not_be_names_are_hidden() {
        for component in ["", ".", "..", "a\u{1}", "a\u{7f}", "a\0"] {
            assert_eq!(decode_name(component), None, "{component:?}");
        }
    }

    #[test]
    fn a_path_becomes_a_key() {
        assert_eq!(
            encode(&[&b"ckpt"[..], b"step 1.pt"]).as_str(),
            "ckpt/step 1.pt"
        );
        assert_eq!(encode::<&[u8]>(&[]).as_str(), "");
        assert_eq!(ObjectKey::from("a/b").child("c").as_str(), "a/b/c");
        assert_eq!(ObjectKey::from("").child("c").as_str(), "c");
        assert_eq!(ObjectKey::from("a/b/").name(), "b");
    }
}
