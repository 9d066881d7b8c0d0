//! The FUSE front: kernel request -> call of the [`Vfs`] -> reply, and nothing else.
//!
//! A call is first tried on the event-loop thread itself. On the embedded journal nearly every one
//! is ready at once, so it costs no thread switch; one that has to wait (for the store, the disk,
//! a busy file) moves to the tokio runtime together with its reply, and the thread takes the next
//! request. Nothing here decides what a file system means.
//!
//! The transport is behind this one module: another one (FUSE over io_uring) would stand beside it.

mod backing;
mod convert;
mod filesystem;
mod invalidate;
mod kernel;
mod opening;
mod reading;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::runtime::Handle;

use crate::vfs::{self, Vfs};

pub use invalidate::{InvalidateQueue, Invalidations};
pub use kernel::{mount_config, tune};

/// The file system as the kernel's counterpart.
pub struct Front {
    vfs: Vfs,
    runtime: Handle,
    backings: Arc<backing::Backings>,
    passthrough: Arc<kernel::PassthroughState>,
}

impl Front {
    /// A front for `vfs` whose waiting calls run on `runtime`.
    pub fn new(vfs: Vfs, runtime: Handle, passthrough: Arc<kernel::PassthroughState>) -> Self {
        Self {
            vfs,
            runtime,
            backings: Arc::default(),
            passthrough,
        }
    }

    /// Runs a call to its end: here if it is ready at once, on the runtime otherwise.
    fn serve(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut call = Box::pin(call);
        let _runtime = self.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        if call.as_mut().poll(&mut context).is_pending() {
            self.runtime.spawn(call);
        }
    }
}

pub use kernel::PassthroughState;

/// The errno of a failed call; a line in the log if it is nothing that programs expect.
fn errno(operation: &'static str, error: &vfs::Error) -> fuser::Errno {
    if !error.is_ordinary() {
        tracing::warn!(operation, %error, "a call failed");
    }
    fuser::Errno::from_i32(error.errno() as i32)
}
