//! Standard output and standard error. A reader that has gone away (`fused status | head -1`) is no error.

use std::io::{self, Write};

use super::Error;

/// Writes a result to standard output.
pub(super) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Failed(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a result as JSON to standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Failed(format!("the result can't be written as JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Writes one of many results as a line of JSON to standard output.
pub(super) fn print_json_line(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value)
        .map_err(|error| Error::Failed(format!("the result can't be written as JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Says a sentence on standard error, behind the program's name.
pub(super) fn complain(sentence: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "fused: {sentence}");
}
