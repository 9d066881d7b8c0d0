//! The asking side of the control socket. Blocking, and bounded in time: a daemon that hangs makes an error,
//! never a command that hangs with it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::mounts::Mount;
use super::place;
use super::protocol::{
    Done, Entry, Failed, Freed, LINE_BYTES_MAX, Loaded, Loading, Progress, Reply, Request, Status,
    Unpinned, WirePath,
};

/// A daemon that accepts connections does so at once.
const CONNECT_SECS_MAX: i64 = 5;
/// A status is a look at counters.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// Freeing goes through every cached file: a million of them take less than this.
const FREE_SILENCE_MAX: Duration = Duration::from_secs(600);
/// The daemon speaks at least every ten seconds during a sync, a load or a listing; three times that is silence.
const SYNC_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Why the daemon can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process listens on the mount's socket.
    #[error(
        "no daemon answers for {mountpoint}: it has ended (`fused umount` takes the dead mount away, a new \
         `fused mount` replaces it), or it runs in another container"
    )]
    NotRunning {
        /// The mount.
        mountpoint: PathBuf,
    },
    /// The socket is there, and this user may not use it.
    #[error(
        "the control socket of {mountpoint} belongs to user {owner}: ask as that user or as root"
    )]
    NotAllowed {
        /// The mount.
        mountpoint: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// It listens and says nothing.
    #[error("the daemon has said nothing for {seconds} s: it hangs; its log may tell why")]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// The connection ended in the middle of an answer.
    #[error("the daemon ended while it was asked; its log may tell why")]
    Ended,
    /// An answer that isn't of the protocol.
    #[error("the daemon's answer can't be understood ({0}): is it of another version?")]
    Garbled(String),
    /// The daemon refused.
    #[error("{0}")]
    Refused(String),
    /// The socket failed otherwise.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// How much of it is in the cache.
    Entry(Entry),
    /// It can't be listed.
    Failed(Failed),
}

/// A connection to one daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon of a mount.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::NotAllowed`].
    pub fn connect(mount: &Mount) -> Result<Client, Error> {
        let mut denied = false;
        for path in place::candidates(mount.owner, mount.major, mount.minor) {
            match connect_path(&path) {
                Ok(stream) => {
                    return Ok(Client {
                        stream: BufReader::new(stream),
                    });
                }
                Err(error) => denied |= error.kind() == io::ErrorKind::PermissionDenied,
            }
        }
        let mountpoint = mount.mountpoint.clone();
        if denied {
            Err(Error::NotAllowed {
                mountpoint,
                owner: mount.owner,
            })
        } else {
            Err(Error::NotRunning { mountpoint })
        }
    }

    /// Connects to a socket whose path is known.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn connect_to(path: &Path) -> Result<Client, Error> {
        Ok(Client {
            stream: BufReader::new(connect_path(path)?),
        })
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> Option<i32> {
        socket::getsockopt(self.stream.get_ref(), sockopt::PeerCredentials)
            .ok()
            .map(|peer| peer.pid())
    }

    /// How the mount is.
    ///
    /// # Errors
    ///
    /// The daemon hangs, ends, or answers something else.
    pub fn status(&mut self) -> Result<Status, Error> {
        self.send(&Request::Status)?;
        match self.receive(STATUS_TIMEOUT)? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until everything at and below the paths (relative to the root of the file system) is in the
    /// store, or the time is over.
    ///
    /// # Errors
    ///
    /// The daemon hangs, ends, or refuses. That something is not in the store is no error but told by
    /// [`Done::unflushed`].
    pub fn sync(
        &mut self,
        paths: Vec<WirePath>,
        timeout: Option<Duration>,
        mut on_progress: impl FnMut(Progress),
    ) -> Result<Done, Error> {
        let timeout_ms = timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
        self.send(&Request::Sync { paths, timeout_ms })?;
        loop {
            match self.receive(SYNC_SILENCE_MAX)? {
                Reply::Progress(progress) => on_progress(progress),
                Reply::Done(done) => return Ok(done),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Brings everything at and below the paths into the cache.
    ///
    /// # Errors
    ///
    /// The daemon hangs, ends, or refuses. That something is not in the cache is no error but told by
    /// [`Loaded::failed`] and [`Loaded::stopped`].
    pub fn load(
        &mut self,
        paths: Vec<WirePath>,
        mut on_progress: impl FnMut(Loading),
    ) -> Result<Loaded, Error> {
        self.send(&Request::Load { paths })?;
        loop {
            match self.receive(SYNC_SILENCE_MAX)? {
                Reply::Loading(progress) => on_progress(progress),
                Reply::Loaded(loaded) => return Ok(loaded),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Pins the paths; answers how many were not pinned before.
    ///
    /// # Errors
    ///
    /// The daemon hangs, ends, or refuses.
    pub fn pin(&mut self, paths: Vec<WirePath>) -> Result<u64, Error> {
        self.send(&Request::Pin { paths })?;
        match self.receive(FREE_SILENCE_MAX)? {
            Reply::Pinned { count } => Ok(count),
            other => Err(unexpected(other)),
        }
    }

    /// Takes the pins from everything at and below the paths.
    ///
    /// # Errors
    ///
    /// The daemon hangs, ends, or refuses.
    pub fn unpin(&mut self, paths: Vec<WirePath>) -> Result<Unpinned, Error> {
        self.send(&Request::Unpin { paths })?;
        match self.receive(FREE_SILENCE_MAX)? {
            Reply::Unpinned(unpinned) => Ok(unpinned),
            other => Err(unexpected(other)),
        }
    }

    /// Asks how much of the paths is in the cache; [`Client::listed`] has the answer.
    ///
    /// # Errors
    ///
    /// The daemon hangs or ends.
    pub fn list(&mut self, paths: Vec<WirePath>, each: bool) -> Result<(), Error> {
        self.send(&Request::List { paths, each })
    }

    /// The next line of the answer to [`Client::list`]; nothing at its end.
    ///
    /// # Errors
    ///
    /// The daemon hangs, ends, or refuses.
    pub fn listed(&mut self) -> Result<Option<Listed>, Error> {
        loop {
            match self.receive(SYNC_SILENCE_MAX)? {
                Reply::Listing => {}
                Reply::Entry(entry) => return Ok(Some(Listed::Entry(entry))),
                Reply::Unlisted(failed) => return Ok(Some(Listed::Failed(failed))),
                Reply::Listed => return Ok(None),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Gives up the local bytes of what is at and below the paths and in the store.
    ///
    /// # Errors
    ///
    /// The daemon hangs, ends, or refuses.
    pub fn free(&mut self, paths: Vec<WirePath>) -> Result<Freed, Error> {
        self.send(&Request::Free { paths })?;
        match self.receive(FREE_SILENCE_MAX)? {
            Reply::Freed(freed) => Ok(freed),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until the daemon's process has ended, at most so long; whether it has.
    pub fn wait_for_end(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut scrap = [0; 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A timeout of zero would mean none at all.
            if left.is_zero() || self.stream.get_ref().set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.stream.read(&mut scrap) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return false,
                // Reset by the end of the process.
                Err(_) => return true,
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), Error> {
        let mut line = serde_json::to_vec(request).map_err(|e| Error::Garbled(e.to_string()))?;
        line.push(b'\n');
        self.stream
            .get_mut()
            .write_all(&line)
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Ended,
                _ if is_timeout(&error) => Error::Silent {
                    seconds: STATUS_TIMEOUT.as_secs(),
                },
                _ => Error::Io(error),
            })
    }

    fn receive(&mut self, silence_max: Duration) -> Result<Reply, Error> {
        self.stream.get_ref().set_read_timeout(Some(silence_max))?;
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64;
        match self
            .stream
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
        {
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {
                return Err(Error::Silent {
                    seconds: silence_max.as_secs(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(Error::Ended);
            }
            Err(error) => return Err(error.into()),
        }
        if line.last() != Some(&b'\n') {
            return Err(Error::Ended);
        }
        serde_json::from_slice(&line).map_err(|error| Error::Garbled(error.to_string()))
    }
}

fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Error { message } => Error::Refused(message),
        _ => Error::Garbled("an answer to another question".to_owned()),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Like `UnixStream::connect`, but it doesn't wait for ever when the daemon's queue is full.
fn connect_path(path: &Path) -> io::Result<UnixStream> {
    let fd = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    socket::setsockopt(
        &fd,
        sockopt::SendTimeout,
        &TimeVal::seconds(CONNECT_SECS_MAX),
    )?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(fd);
    stream.set_write_timeout(Some(STATUS_TIMEOUT))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A daemon that reads one line, answers with the given text and hangs up.
    fn answering(answer: &'static str) -> (tempfile::TempDir, Client) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0:1.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            (&stream).write_all(answer.as_bytes()).unwrap();
        });
        let client = Client::connect_to(&path).unwrap();
        (dir, client)
    }

    #[test]
    fn a_sync_tells_its_progress_and_its_end() {
        let (_dir, mut client) = answering(concat!(
            r#"{"event":"progress","files_left":2,"bytes_left":9,"files_total":3,"bytes_total":10}"#,
            "\n",
            r#"{"event":"done","unflushed":[{"path":"a","reason":"timeout"}],"unflushed_total":1}"#,
            "\n"
        ));
        let mut seen = Vec::new();
        let done = client
            .sync(vec![], None, |progress| seen.push(progress.files_left))
            .unwrap();
        assert_eq!(seen, [2]);
        assert_eq!(done.unflushed[0].path.as_bytes(), b"a");
    }

    #[test]
    fn a_daemon_that_ends_in_the_middle_of_an_answer_is_told() {
        let (_dir, mut client) = answering(r#"{"event":"sta"#);
        assert!(matches!(client.status(), Err(Error::Ended)));
    }

    #[test]
    fn a_refusal_is_told_in_the_daemons_words() {
        let (_dir, mut client) = answering("{\"event\":\"error\",\"message\":\"no such path\"}\n");
        assert_eq!(client.status().unwrap_err().to_string(), "no such path");
    }

    #[test]
    fn an_answer_of_another_protocol_is_told() {
        let (_dir, mut client) = answering("HTTP/1.1 400 Bad Request\n");
        assert!(matches!(client.status(), Err(Error::Garbled(_))));
    }

    #[test]
    fn a_daemon_that_stays_is_not_waited_for_longer_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect_to(&path).unwrap();
        assert_eq!(client.daemon_pid(), i32::try_from(std::process::id()).ok());
        assert!(!client.wait_for_end(Duration::from_millis(20)));
    }

    #[test]
    fn the_end_of_the_daemon_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect_to(&path).unwrap();
        drop(listener);
        assert!(client.wait_for_end(Duration::from_secs(10)));
    }

    #[test]
    fn a_mount_without_a_daemon_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mount = Mount {
            major: 4_000_000,
            minor: 1,
            root: "/".into(),
            mountpoint: dir.path().into(),
            fs_type: super::super::mounts::FS_TYPE.into(),
            source: "s3://b".into(),
            owner: nix::unistd::geteuid().as_raw(),
        };
        assert!(matches!(
            Client::connect(&mount),
            Err(Error::NotRunning { .. })
        ));
    }
}
