//! A proxy between the flusher and an S3 server: it writes down every request, can be cut, and can hold
//! requests back.
//!
//! It understands just enough of HTTP/1.1 to find where a request ends (content-length); answers are
//! passed on as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

type Hold = Box<dyn Fn(&str) -> bool + Send + Sync>;

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: u16,
    cut: watch::Sender<bool>,
    connects: AtomicUsize,
    requests: Mutex<Vec<String>>,
    holding: AtomicBool,
    hold: Mutex<Option<Hold>>,
    changed: Notify,
}

impl Proxy {
    pub async fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            cut: watch::Sender::new(false),
            connects: AtomicUsize::new(0),
            requests: Mutex::default(),
            holding: AtomicBool::new(false),
            hold: Mutex::default(),
            changed: Notify::new(),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                accepting.connects.fetch_add(1, Ordering::SeqCst);
                // Cut: the connection is closed at once.
                if !*accepting.cut.borrow() {
                    tokio::spawn(serve(Arc::clone(&accepting), client));
                }
            }
        });
        Proxy { port, shared }
    }

    /// Ends all connections and every new one, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.shared.cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.shared.cut.send_replace(false);
    }

    /// Connections that were tried so far.
    pub fn connects(&self) -> usize {
        self.shared.connects.load(Ordering::SeqCst)
    }

    /// The first lines (method and path) of the requests that were passed on.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().clone()
    }

    pub fn forget(&self) {
        self.shared.requests.lock().clear();
    }

    pub fn count(&self, is: impl Fn(&str) -> bool) -> usize {
        self.shared
            .requests
            .lock()
            .iter()
            .filter(|line| is(line))
            .count()
    }

    /// Holds back requests whose first line is so, until [`Proxy::release`].
    pub fn hold(&self, is: impl Fn(&str) -> bool + Send + Sync + 'static) {
        *self.shared.hold.lock() = Some(Box::new(is));
    }

    pub fn release(&self) {
        *self.shared.hold.lock() = None;
        self.shared.changed.notify_waiters();
    }

    /// Waits until a request is held back.
    pub async fn held(&self) {
        while !self.shared.holding.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl Shared {
    fn is_held(&self, line: &str) -> bool {
        self.hold.lock().as_ref().is_some_and(|hold| hold(line))
    }
}

async fn serve(shared: Arc<Shared>, client: TcpStream) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.server)).await else {
        return;
    };
    let mut cut = shared.cut.subscribe();
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let answers = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            if to_client.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = requests(&shared, from_client, to_server) => {}
        () = answers => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}

async fn requests(shared: &Shared, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let end = loop {
            if let Some(at) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match from.read(&mut buffer).await {
                Ok(n @ 1..) => pending.extend_from_slice(&buffer[..n]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&pending[..end]).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        let length: usize = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.trim().parse().unwrap_or(0));
        loop {
            let changed = shared.changed.notified();
            if !shared.is_held(&line) {
                break;
            }
            shared.holding.store(true, Ordering::SeqCst);
            changed.await;
        }
        shared.requests.lock().push(line);
        let mut left = end + length;
        loop {
            let n = pending.len().min(left);
            if to.write_all(&pending[..n]).await.is_err() {
                return;
            }
            pending.drain(..n);
            left -= n;
            if left == 0 {
                break;
            }
            match from.read(&mut buffer).await {
                Ok(n @ 1..) => pending.extend_from_slice(&buffer[..n]),
                _ => return,
            }
        }
    }
}
