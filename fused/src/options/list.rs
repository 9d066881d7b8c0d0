//! The comma list of `-o`: `name`, `name=value`, `name="a,b"`, `name=a\,b`.
//!
//! A backslash takes the special meaning from a comma, a double quote and a backslash, and is itself
//! before anything else (so that `\040` of a copied fstab line is not half eaten). Between double quotes a
//! comma is a character like others. Empty items are nothing: scripts that paste lists together leave
//! `a,,b` behind. The first `=` ends the name.

use super::Error;

/// Splits a list into names and values.
///
/// # Errors
///
/// [`Error::OpenQuote`].
pub fn split(list: &str) -> Result<Vec<(String, Option<String>)>, Error> {
    let mut items = Vec::new();
    let mut name = String::new();
    let mut value: Option<String> = None;
    let mut quoted = false;

    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        let literal = match c {
            '\\' => match chars.peek() {
                Some(&special @ (',' | '"' | '\\')) => {
                    chars.next();
                    special
                }
                _ => '\\',
            },
            '"' => {
                quoted = !quoted;
                continue;
            }
            ',' if !quoted => {
                finish(&mut items, &mut name, &mut value);
                continue;
            }
            '=' if value.is_none() => {
                value = Some(String::new());
                continue;
            }
            other => other,
        };
        value.as_mut().unwrap_or(&mut name).push(literal);
    }
    if quoted {
        return Err(Error::OpenQuote);
    }
    finish(&mut items, &mut name, &mut value);
    Ok(items)
}

fn finish(
    items: &mut Vec<(String, Option<String>)>,
    name: &mut String,
    value: &mut Option<String>,
) {
    let name = std::mem::take(name);
    let value = value.take();
    let trimmed = name.trim();
    if !trimmed.is_empty() || value.is_some() {
        items.push((trimmed.to_owned(), value));
    }
}

/// Writes a value so that [`split`] reads it back unchanged.
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, ',' | '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn a_list_is_names_with_and_without_values() {
        let items = split("rw,cache_size=80%,,ro,fsname=a=b,").unwrap();
        assert_eq!(
            items,
            [
                pair("rw", None),
                pair("cache_size", Some("80%")),
                pair("ro", None),
                pair("fsname", Some("a=b"))
            ]
        );
    }

    #[test]
    fn commas_are_escaped_by_backslash_or_quotes() {
        assert_eq!(
            split(r"fsname=a\,b").unwrap(),
            [pair("fsname", Some("a,b"))]
        );
        assert_eq!(
            split(r#"fsname="a,b",ro"#).unwrap(),
            [pair("fsname", Some("a,b")), pair("ro", None)]
        );
        assert_eq!(
            split(r"fsname=a\040b\\").unwrap(),
            [pair("fsname", Some(r"a\040b\"))]
        );
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert_eq!(split(r#"fsname="a,b"#), Err(Error::OpenQuote));
    }

    proptest! {
        #[test]
        fn any_escaped_value_is_read_back_unchanged(values in prop::collection::vec(".*", 1..4)) {
            let list = values.iter().map(|v| format!("fsname={}", escape(v))).collect::<Vec<_>>().join(",");
            let read: Vec<String> = split(&list).unwrap().into_iter().filter_map(|(_, v)| v).collect();
            prop_assert_eq!(read, values);
        }
    }
}
