//! The client's network thread: started by the first store of the process, and never twice.

use crate::kv::KvError;
use foundationdb::api::{FdbApiBuilder, NetworkAutoStop};
use parking_lot::Mutex;

/// The client's network thread, once it was started; its second state is over.
enum Network {
    Idle,
    Running(#[expect(dead_code, reason = "stops the thread when dropped")] NetworkAutoStop),
    Stopped,
}

static NETWORK: Mutex<Network> = Mutex::new(Network::Idle);

pub(super) fn start_network() -> Result<(), KvError> {
    let failed = |reason: String| KvError::Io {
        operation: "starting the FoundationDB client",
        reason,
    };
    let mut network = NETWORK.lock();
    match *network {
        Network::Running(_) => Ok(()),
        Network::Stopped => Err(failed("it was stopped already".into())),
        Network::Idle => {
            let builder = FdbApiBuilder::default()
                .build()
                .map_err(|error| failed(error.to_string()))?;
            // SAFETY: `boot` must be called at most once per process, which the state under the lock
            // ensures, and its guard must be dropped before the process ends, for which
            // `stop_network` exists.
            let guard = unsafe { builder.boot() }.map_err(|error| failed(error.to_string()))?;
            *network = Network::Running(guard);
            Ok(())
        }
    }
}

/// Stops the client's network thread for good. To be called once, before the process ends and after
/// the last use of a store.
pub fn stop_network() {
    *NETWORK.lock() = Network::Stopped;
}
