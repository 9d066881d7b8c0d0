//! A proxy between the program and an S3 server: it writes down every request, can be cut, can hold
//! requests back, and does to them what goes wrong between a program and its store ([`Fault`]).
//!
//! Requests are read whole before anything happens to them, and answers too: so each fault is exact
//! (half of *this* body, *this* answer lost after the work was done). What is passed on is passed on
//! byte for byte, the Host header included, which the signatures cover. One thread serves one
//! connection, with one connection of its own to the server.

mod message;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::Linger};

use message::{Answer, Request};

/// What can happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server's front refuses it with this status and S3 code; the server never sees it.
    Refuse(u16, &'static str),
    /// It arrives late.
    Delay(Duration),
    /// The connection breaks at once, and it arrives late: after the next try of the same.
    Overtaken(Duration),
    /// The server does it; the answer comes late.
    LateAnswer(Duration),
    /// It is swallowed, and nothing is answered until [`Proxy::mend`].
    Silence,
    /// Half of it reaches the server, then the connection breaks.
    CutRequest,
    /// The server does it; the connection breaks in the middle of the answer.
    CutAnswer,
    /// The server does it; half of the answer's body comes, as if that were all.
    ShortAnswer,
    /// The server does it; a byte in the middle of the answer's body is another one.
    WrongByte,
    /// The server does it; the answer names another version.
    WrongEtag,
    /// The server does it; the connection breaks before the answer.
    LoseAnswer,
}

impl Fault {
    /// Its name, for counting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse(_, code) => code,
            Self::Delay(_) => "delay",
            Self::Overtaken(_) => "overtaken",
            Self::LateAnswer(_) => "late answer",
            Self::Silence => "silence",
            Self::CutRequest => "cut request",
            Self::CutAnswer => "cut answer",
            Self::ShortAnswer => "short answer",
            Self::WrongByte => "wrong byte",
            Self::WrongEtag => "wrong etag",
            Self::LoseAnswer => "lost answer",
        }
    }
}

type Hold = Box<dyn Fn(&str) -> bool + Send + Sync>;
type Judge = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

/// The running proxy; its connections break when it goes.
pub struct Proxy {
    /// Where it listens on loopback.
    pub port: u16,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

struct Shared {
    server: SocketAddr,
    cut: AtomicBool,
    ended: AtomicBool,
    connects: AtomicUsize,
    state: Mutex<State>,
    /// Something in the state changed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<String>,
    fetched_bytes: u64,
    hold: Option<Hold>,
    held: bool,
    judge: Option<Judge>,
    /// Silent connections end when it moves.
    mended: u64,
    injected: BTreeMap<&'static str, u64>,
    /// Both ends of every connection, to be broken.
    open: BTreeMap<u64, Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy in front of a server, like `http://127.0.0.1:8333`.
    pub fn start(endpoint: &str) -> Self {
        let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
        let server = address.to_socket_addrs().expect("host and port").next();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            server: server.expect("an address"),
            cut: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            connects: AtomicUsize::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Self { port, shared }
    }

    /// Its address, for the program.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends all connections and every new one, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.break_all();
    }

    /// Ends every fault: what was cut connects again, what was silent breaks, nothing goes wrong any more.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
        let mut state = self.shared.state();
        state.judge = None;
        state.mended += 1;
        self.shared.changed.notify_all();
    }

    /// From now on `judge` decides about each request by its first line (method and path).
    pub fn judge(&self, judge: impl FnMut(&str) -> Option<Fault> + Send + 'static) {
        self.shared.state().judge = Some(Box::new(judge));
    }

    /// How often each kind of fault was injected.
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.shared.state().injected.clone()
    }

    /// Connections that were tried so far.
    pub fn connects(&self) -> usize {
        self.shared.connects.load(Ordering::SeqCst)
    }

    /// The first lines (method and path) of the requests that were let through.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// Bytes of objects in the answers so far, of which the requests asked for a range.
    pub fn fetched_bytes(&self) -> u64 {
        self.shared.state().fetched_bytes
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        let mut state = self.shared.state();
        state.requests.clear();
        state.fetched_bytes = 0;
    }

    /// Requests so far whose first line is so.
    pub fn count(&self, is: impl Fn(&str) -> bool) -> usize {
        let state = self.shared.state();
        state.requests.iter().filter(|line| is(line)).count()
    }

    /// Holds back requests whose first line is so, until [`Proxy::release`].
    pub fn hold(&self, is: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.shared.state().hold = Some(Box::new(is));
    }

    /// Lets go what was held back.
    pub fn release(&self) {
        self.shared.state().hold = None;
        self.shared.changed.notify_all();
    }

    /// Waits until a request is held back.
    pub fn wait_for_held(&self) {
        let state = self.shared.state();
        let held = self.shared.changed.wait_while(state, |state| !state.held);
        drop(held.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.mend();
        self.release();
        self.shared.break_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A judge that panics must not keep the guards from tidying up.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for (number, client) in listener.incoming().enumerate() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(client) = client else { continue };
            self.connects.fetch_add(1, Ordering::SeqCst);
            if self.cut.load(Ordering::SeqCst) {
                reset(&client);
                continue;
            }
            let shared = Arc::clone(&self);
            thread::spawn(move || {
                // An error is the end of the connection; the program is to cope.
                let _ = shared.serve(&client, number as u64);
                shared.state().open.remove(&(number as u64));
            });
        }
    }

    fn break_all(&self) {
        for stream in self.state().open.values().flatten() {
            reset(stream);
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(&self, client: &TcpStream, number: u64) -> io::Result<()> {
        let server = TcpStream::connect(self.server)?;
        for stream in [client, &server] {
            stream.set_nodelay(true)?;
            let other = stream.try_clone()?;
            self.state().open.entry(number).or_default().push(other);
        }
        if self.cut.load(Ordering::SeqCst) {
            return Ok(());
        }
        let (mut from_client, mut from_server) = (BufReader::new(client), BufReader::new(&server));
        while let Some(request) = Request::read(&mut from_client)? {
            let fault = self.admit(&request);
            match fault {
                Some(Fault::Refuse(status, code)) => {
                    Answer::refusal(status, code, &request).write(&mut &*client)?;
                    continue;
                }
                Some(Fault::Delay(time)) => thread::sleep(time),
                Some(Fault::Overtaken(time)) => {
                    reset(client);
                    client.shutdown(Shutdown::Both)?;
                    thread::sleep(time);
                    (&server).write_all(&request.bytes)?;
                    Answer::read(&mut from_server, &request)?;
                    return Ok(());
                }
                Some(Fault::Silence) => {
                    self.wait_for_mending();
                    return Ok(());
                }
                Some(Fault::CutRequest) => {
                    (&server).write_all(&request.bytes[..request.bytes.len() / 2])?;
                    return broken(&[client, &server]);
                }
                _ => {}
            }
            (&server).write_all(&request.bytes)?;
            let mut answer = Answer::read(&mut from_server, &request)?;
            match fault {
                Some(Fault::LoseAnswer) => return broken(&[client]),
                Some(Fault::CutAnswer) => {
                    (&mut &*client).write_all(&answer.first_half())?;
                    return broken(&[client]);
                }
                Some(Fault::LateAnswer(time)) => thread::sleep(time),
                Some(Fault::ShortAnswer) => answer.shorten(),
                Some(Fault::WrongByte) => answer.change_byte(),
                Some(Fault::WrongEtag) => answer.change_etag(),
                _ => {}
            }
            self.state().fetched_bytes += answer.part_bytes();
            answer.write(&mut &*client)?;
            if answer.closes {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits while the request is held back, writes it down, and asks the judge about it.
    fn admit(&self, request: &Request) -> Option<Fault> {
        let mut state = self.state();
        while state.hold.as_ref().is_some_and(|hold| hold(&request.line)) {
            state.held = true;
            self.changed.notify_all();
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.requests.push(request.line.clone());
        let fault = state
            .judge
            .as_mut()
            .and_then(|judge| judge(&request.line))?;
        *state.injected.entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    fn wait_for_mending(&self) {
        let state = self.state();
        let before = state.mended;
        let mended = self
            .changed
            .wait_while(state, |state| state.mended == before);
        drop(mended.unwrap_or_else(PoisonError::into_inner));
    }
}

/// The connection breaks rather than ends.
fn broken(streams: &[&TcpStream]) -> io::Result<()> {
    streams.iter().for_each(|stream| reset(stream));
    Ok(())
}

/// Closing it is a reset from now on: what was not delivered is lost.
fn reset(stream: &TcpStream) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // One that is closed already needs none.
    let _ = setsockopt(stream, Linger, &at_once);
}

/// Numbers that no two etags share.
fn unlike_any_other() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
