//! Instants at which a test ends the daemon as `kill -9` would.
//!
//! Around every commit of the journal, every call of the store and every change of an extent file stand two:
//! `before NAME` and `after NAME`. In a program that was built with the feature `on`, [`arm`] reads
//! `FUSED_KILL_AT=after journal commit:17` from the environment: the seventeenth time that anybody comes
//! there, the process kills itself. Without the feature nothing of this is in the program.

/// Passes `before NAME` now and `after NAME` when it is dropped, whatever the outcome.
#[must_use = "it stands for the time until it is dropped"]
#[derive(Debug)]
pub struct Around(#[cfg(feature = "on")] &'static str);

/// Begins what may be the last thing that this process does.
#[cfg_attr(
    not(feature = "on"),
    allow(unused_variables, reason = "it has no points")
)]
pub fn around(name: &'static str) -> Around {
    #[cfg(feature = "on")]
    point::pass("before", name);
    Around(
        #[cfg(feature = "on")]
        name,
    )
}

#[cfg(feature = "on")]
impl Drop for Around {
    fn drop(&mut self) {
        point::pass("after", self.0);
    }
}

/// Does what the environment says. The error says what is wrong with it.
pub fn arm() -> Result<(), String> {
    #[cfg(feature = "on")]
    point::arm()?;
    Ok(())
}

#[cfg(feature = "on")]
mod point {
    use nix::sys::signal::{Signal, raise};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// A daemon that is to live is no slower by its points.
    static ARMED: AtomicBool = AtomicBool::new(false);

    pub(super) fn pass(when: &str, name: &str) {
        if !ARMED.load(Ordering::Relaxed) {
            return;
        }
        let point = format!("{when} {name}");
        fail::fail_point!(&point);
    }

    pub(super) fn arm() -> Result<(), String> {
        let Ok(wish) = std::env::var("FUSED_KILL_AT") else {
            return Ok(());
        };
        let parts = wish.rsplit_once(':');
        let parts = parts.and_then(|(point, times)| Some((point, times.parse::<u64>().ok()?)));
        let (point, times) =
            parts.ok_or_else(|| format!("FUSED_KILL_AT={wish}: not POINT:TIMES"))?;
        ARMED.store(true, Ordering::Relaxed);
        let passed = AtomicU64::new(0);
        fail::cfg_callback(point, move || {
            if passed.fetch_add(1, Ordering::Relaxed) + 1 == times {
                // Should it fail, the test finds a daemon that lives.
                let _ = raise(Signal::SIGKILL);
            }
        })
    }
}
