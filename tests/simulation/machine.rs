//! The machine under the simulation: its clock, its dice, and the times of its files; what of them is synced the
//! [`disk`] remembers.
//!
//! The code under test asks the system for the time, for random numbers (also for the order of a `HashMap`)
//! and for the times of its extent files. These are libc's functions; the ones here take their place in
//! this program. For the thread of a simulated world they answer from its seed and its virtual time, for all
//! others they are the system calls that they always were. So nothing in the product knows of it.
//!
//! Virtual time is tokio's paused clock, counted on from one life of the daemon to the next, and a
//! microsecond more each time that somebody asks: two events have two times, as on a real machine.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::time::Duration;

use libc::{clockid_t, off64_t, size_t, ssize_t, timespec};

use crate::disk;

/// When every world begins: 2027-01-15, in nanoseconds since 1970.
const BEGINNING_NS: u64 = 1_800_000_000_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// Time of the lives before this one, and of all questions.
    static PAST_NS: Cell<u64> = const { Cell::new(0) };
    /// Where tokio's clock stood when this life began.
    static LIFE: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
    /// Tokio may ask for the time in order to answer.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread is a machine of its own.
pub fn begin(seed: u64) {
    RANDOM.set(seed);
    PAST_NS.set(BEGINNING_NS);
    SIMULATED.set(true);
}

/// A runtime with a paused clock has begun; call it inside.
pub fn life_begins() {
    LIFE.set(Some(tokio::time::Instant::now()));
}

/// The runtime is about to end; call it inside.
pub fn life_ends() {
    PAST_NS.set(PAST_NS.get() + life_ns());
    LIFE.set(None);
}

/// Nobody lives, and time passes.
pub fn pass(time: Duration) {
    PAST_NS.set(PAST_NS.get() + time.as_nanos() as u64);
}

/// Virtual time since 1970, as of the last question; asking here does not move it.
pub fn now_ns() -> u64 {
    PAST_NS.get() + life_ns()
}

/// Virtual time since the beginning.
pub fn age() -> Duration {
    Duration::from_nanos(now_ns() - BEGINNING_NS)
}

fn life_ns() -> u64 {
    let Some(began) = LIFE.get() else { return 0 };
    if ASKING.replace(true) {
        return 0;
    }
    let lived = tokio::time::Instant::now().duration_since(began);
    ASKING.set(false);
    lived.as_nanos() as u64
}

fn timespec_of(ns: u64) -> timespec {
    timespec {
        tv_sec: (ns / SECOND_NS) as i64,
        tv_nsec: (ns % SECOND_NS) as i64,
    }
}

/// A file of this machine was changed: the kernel's time on it is of another world.
fn touch(file: c_int) {
    if !SIMULATED.get() {
        return;
    }
    let mut now = timespec_of(0);
    // SAFETY: a timespec of ours.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    let times = [timespec_of(0), now];
    let mut times = times;
    times[0].tv_nsec = libc::UTIME_OMIT;
    // SAFETY: no path, two times, a descriptor that is the caller's.
    unsafe {
        libc::syscall(
            libc::SYS_utimensat,
            file,
            std::ptr::null::<c_char>(),
            times.as_ptr(),
            0,
        )
    };
}

/// The clock.
///
/// # Safety
/// As clock_gettime(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    if !SIMULATED.get() {
        // SAFETY: the caller's.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    PAST_NS.set(PAST_NS.get() + 1000);
    // SAFETY: the caller gives a place for one.
    unsafe { *time = timespec_of(now_ns()) };
    0
}

/// The dice.
///
/// # Safety
/// As getrandom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(into: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    if !SIMULATED.get() {
        // SAFETY: the caller's.
        return unsafe { libc::syscall(libc::SYS_getrandom, into, len, flags) } as ssize_t;
    }
    let mut dice = crate::dice::Dice::new(RANDOM.get());
    let bytes = into.cast::<u8>();
    for at in 0..len {
        // SAFETY: the caller gives `len` bytes.
        unsafe { bytes.add(at).write(dice.next() as u8) };
    }
    RANDOM.set(dice.next());
    len as ssize_t
}

/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's.
    let file = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) };
    let file = file as c_int;
    if file >= 0 && flags & libc::O_EXCL != 0 {
        touch(file);
    }
    file
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    file: c_int,
    from: *const c_void,
    len: size_t,
    at: off64_t,
) -> ssize_t {
    // SAFETY: the caller's.
    let written = unsafe { libc::syscall(libc::SYS_pwrite64, file, from, len, at) };
    touch(file);
    if SIMULATED.get() {
        disk::written(file);
    }
    written as ssize_t
}

/// # Safety
/// As ftruncate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(file: c_int, len: off64_t) -> c_int {
    // SAFETY: the caller's.
    let done = unsafe { libc::syscall(libc::SYS_ftruncate, file, len) };
    touch(file);
    if SIMULATED.get() {
        disk::truncated(file);
    }
    done as c_int
}

/// # Safety
/// As fallocate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(
    file: c_int,
    mode: c_int,
    offset: off64_t,
    len: off64_t,
) -> c_int {
    // SAFETY: the caller's.
    let done = unsafe { libc::syscall(libc::SYS_fallocate, file, mode, offset, len) };
    touch(file);
    done as c_int
}

/// # Safety
/// As fdatasync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    if SIMULATED.get() {
        disk::synced(file);
    }
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_fdatasync, file) as c_int }
}

/// # Safety
/// As fsync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(file: c_int) -> c_int {
    if SIMULATED.get() {
        disk::synced(file);
    }
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_fsync, file) as c_int }
}

/// # Safety
/// As syncfs(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncfs(file: c_int) -> c_int {
    if SIMULATED.get() {
        disk::all_synced();
    }
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_syncfs, file) as c_int }
}
