//! How names are written on stores that take less than others.
//!
//! A few characters mean something else to a store, or are refused there. On such a store they stand as
//! `%XX`, upper case, and a name that itself holds what reads like one of these escapes gets its '%'
//! escaped, `%25XX`, one level of `25` on top of whatever levels are there. So every name has exactly one
//! spelling, and everything that the store can hold is the spelling of exactly one name. This is the
//! scheme of [`crate::keys`], applied once more, below it.

/// What a store doesn't take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spelling {
    /// Characters, all ASCII.
    pub(crate) refused: &'static [u8],
    /// Whether a name may not end with a dot.
    pub(crate) no_final_dot: bool,
}

impl Spelling {
    /// A key as the store has it.
    pub(crate) fn write(&self, key: &str) -> String {
        let components: Vec<String> = key.split('/').map(|name| self.write_name(name)).collect();
        components.join("/")
    }

    /// A name that the store has, as it is meant.
    pub(crate) fn read_name(&self, spelled: &str) -> String {
        self.respell(spelled, |escape, out| match escape.levels {
            0 => out.push(escape.byte as char),
            levels => escape_to(escape.byte, levels - 1, out),
        })
    }

    fn write_name(&self, name: &str) -> String {
        self.respell(name, |escape, out| {
            escape_to(escape.byte, escape.levels + 1, out)
        })
    }

    /// Goes through a name; `change` writes each escape anew, and plain refused characters are escaped.
    fn respell(&self, name: &str, change: impl Fn(&Escape, &mut String)) -> String {
        let mut out = String::with_capacity(name.len());
        let mut rest = name;
        while let Some(next) = rest.chars().next() {
            let length = match Escape::read(rest) {
                Some(escape) if self.refuses(escape.byte, rest.len() == escape.length()) => {
                    change(&escape, &mut out);
                    escape.length()
                }
                _ if next.is_ascii() && self.refuses(next as u8, rest.len() == 1) => {
                    escape_to(next as u8, 0, &mut out);
                    1
                }
                _ => {
                    out.push(next);
                    next.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        out
    }

    fn refuses(&self, byte: u8, last: bool) -> bool {
        self.refused.contains(&byte) || (self.no_final_dot && last && byte == b'.')
    }
}

/// `%XX` with so many `25` between.
struct Escape {
    levels: usize,
    byte: u8,
}

impl Escape {
    /// At the beginning of `text`.
    fn read(text: &str) -> Option<Escape> {
        let mut rest = text.strip_prefix('%')?;
        let mut levels = 0;
        while let Some(less) = rest.strip_prefix("25") {
            rest = less;
            levels += 1;
        }
        let digits = rest.get(..2)?;
        let upper = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        let byte = u8::from_str_radix(digits, 16).ok()?;
        (upper && byte.is_ascii()).then_some(Escape { levels, byte })
    }

    fn length(&self) -> usize {
        3 + 2 * self.levels
    }
}

fn escape_to(byte: u8, levels: usize, out: &mut String) {
    out.push('%');
    out.extend(std::iter::repeat_n("25", levels));
    out.push_str(&format!("{byte:02X}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: Spelling = Spelling {
        refused: b":\\",
        no_final_dot: true,
    };

    proptest! {
        #[test]
        fn every_name_comes_back(name in "(%|25|2E|3A|5C|\\.|:|\\\\|é|a){0,8}") {
            prop_assert_eq!(BOTH.read_name(&BOTH.write_name(&name)), name);
        }

        #[test]
        fn what_a_store_can_hold_is_the_spelling_of_one_name(spelled in "(%|25|2E|3A|5C|\\.|é|a){0,8}") {
            prop_assume!(!spelled.ends_with('.'));
            prop_assert_eq!(BOTH.write_name(&BOTH.read_name(&spelled)), spelled);
        }

        #[test]
        fn nothing_refused_is_written(name in "(%|25|2E|\\.|:|\\\\|a){0,8}") {
            let written = BOTH.write_name(&name);
            prop_assert!(!written.contains([':', '\\']) && !written.ends_with('.'), "{}", written);
        }
    }

    #[test]
    fn only_what_is_refused_is_escaped() {
        assert_eq!(BOTH.write("a.b/v1./12:30"), "a.b/v1%2E/12%3A30");
        assert_eq!(BOTH.write("a%3A/%20/%2Ex/50%"), "a%253A/%20/%2Ex/50%");
        assert_eq!(BOTH.write("dir/"), "dir/");
        assert_eq!(BOTH.read_name("12%3A30"), "12:30");
    }
}
