//! The TOML file of `-o config=FILE`.
//!
//! ```toml
//! cache_dir = "/mnt/nvme/fused"
//! cache_size = "80%"
//! ro = true
//!
//! [s3]
//! endpoint = "http://127.0.0.1:9000"
//!
//! [[rules]]
//! paths = ["*.tmp"]
//! skip = true
//! ```
//!
//! Keys are the names of the option table; switches are `true` or `false`; numbers may be written bare.
//! The tables are the business of `remote`: they are handed on as they are. Rules: see `rules`.

use std::path::Path;

use super::table::{self, Form};
use super::{Error, MountOptions, rules};

/// Tables for the store, one a family of URLs.
const STORE_TABLES: &[&str] = &["s3", "gs", "azure", "hdfs"];

/// Reads the file into the options.
pub(super) fn apply(options: &mut MountOptions, path: &Path) -> Result<(), Error> {
    let problem = |problem: String| Error::File {
        file: path.to_owned(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The error's own Display shows the line, which may hold a secret.
        let line = error
            .span()
            .map(|span| text[..span.start].matches('\n').count() + 1);
        problem(match line {
            Some(line) => format!("line {line}: {}", error.message()),
            None => error.message().to_owned(),
        })
    })?;
    for (name, value) in table {
        set(options, &name, value).map_err(|error| error.in_file(path))?;
    }
    Ok(())
}

fn set(options: &mut MountOptions, name: &str, value: toml::Value) -> Result<(), Error> {
    let bad = |problem: &str| Error::BadValue {
        name: name.to_owned(),
        problem: problem.to_owned(),
        file: None,
    };
    if STORE_TABLES.contains(&name) {
        return match value {
            toml::Value::Table(_) => {
                options.store.0.insert(name.to_owned(), value);
                Ok(())
            }
            _ => Err(bad(
                "this is a table: write it as a heading in brackets, its settings below",
            )),
        };
    }
    if name == "rules" {
        options.rules = rules::parse(&value).map_err(|problem| bad(&problem))?;
        return Ok(());
    }
    let Some(row) = table::row(name) else {
        return if table::is_private_word(name) {
            Ok(())
        } else {
            Err(table::unknown(name))
        };
    };
    match (&row.form, value) {
        (Form::Switch { set }, toml::Value::Boolean(on)) => {
            set(options, on);
            Ok(())
        }
        (Form::Switch { .. }, _) => Err(bad("write true or false")),
        // In TOML 0o22 is the number 18 and 22 is twenty-two: neither can be told from what was meant.
        (Form::Value { shape: "OCTAL", .. }, toml::Value::Integer(_)) => {
            Err(bad("write it in quotes, such as \"022\""))
        }
        (Form::Value { .. }, toml::Value::String(text)) => table::apply(options, name, Some(&text)),
        (Form::Value { .. }, toml::Value::Integer(number)) => {
            table::apply(options, name, Some(&number.to_string()))
        }
        (Form::Value { .. }, toml::Value::Float(number)) => {
            table::apply(options, name, Some(&number.to_string()))
        }
        (Form::Value { .. }, _) => Err(bad("write text in quotes, or a number")),
        (Form::Config, _) => Err(bad("one config file can't name another")),
        (Form::Word, _) => Ok(()),
    }
}
