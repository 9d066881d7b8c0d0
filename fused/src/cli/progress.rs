//! The bar of commands that take long: on a terminal only, with rate and time left.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str =
    "{bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}";

/// A bar on standard error, or none.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// One if somebody looks.
    pub(super) fn new(json: bool) -> Bar {
        if json || !std::io::stderr().is_terminal() {
            return Bar(ProgressBar::with_draw_target(
                None,
                ProgressDrawTarget::hidden(),
            ));
        }
        let bar = ProgressBar::new(0);
        // A template that can't be read is a mistake that a test finds; the plain bar is good enough.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar(bar)
    }

    /// So much is left.
    pub(super) fn show(&self, bytes_left: u64, bytes_total: u64, message: String) {
        self.0.set_length(bytes_total);
        self.0.set_position(bytes_total.saturating_sub(bytes_left));
        self.0.set_message(message);
    }

    /// It is over.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_template_can_be_read() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}
