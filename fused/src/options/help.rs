//! The option table as text, for `--help` and the man page.

use std::fmt::Write as _;

use super::table::{Form, Preset, ROWS};

/// One option, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelpRow {
    /// `cache_size=SIZE|PERCENT`, `ro`.
    pub usage: String,
    /// What it does.
    pub help: &'static str,
    /// What holds when it isn't given.
    pub default: &'static str,
}

/// Every option that means something, in the order of the table.
pub fn help_rows() -> impl Iterator<Item = HelpRow> {
    ROWS.iter()
        .filter(|row| !matches!(row.form, Form::Word))
        .map(|row| HelpRow {
            usage: match row.form {
                Form::Value { shape, .. } => format!("{}={shape}", row.name),
                Form::Config => format!("{}=FILE", row.name),
                Form::Switch { .. } | Form::Word => row.name.to_owned(),
            },
            help: row.help,
            default: match row.preset {
                Preset::Text(text) | Preset::Told(text) => text,
                Preset::On => "on",
                Preset::Off => "off",
                Preset::Nothing => "",
            },
        })
}

/// The words that are taken and forgotten, as one enumeration.
pub(crate) fn ignored_words() -> String {
    let mut words: Vec<&str> = ROWS
        .iter()
        .filter(|row| matches!(row.form, Form::Word))
        .map(|row| row.name)
        .collect();
    words.extend(["x-*", "X-*"]);
    words.join(", ")
}

/// The section for `--help`, wrapped at 100 columns.
pub fn help_text() -> String {
    let mut text = String::from(
        "Mount options, as -o NAME=VALUE,NAME,... (a comma in a value: \\, or double quotes) or as keys of \
         the TOML file:\n",
    );
    for row in help_rows() {
        let _ = writeln!(text, "\n  {}  [default: {}]", row.usage, row.default);
        wrap(&mut text, row.help);
    }
    text.push_str("\n  Taken from mount(8) and fstab(5) without effect:\n");
    wrap(&mut text, &ignored_words());
    text
}

fn wrap(text: &mut String, paragraph: &str) {
    const INDENT: &str = "      ";
    const WIDTH: usize = 100;
    let mut line = String::from(INDENT);
    for word in paragraph.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line = String::from(INDENT);
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(text, "{}", line.trim_end());
}
