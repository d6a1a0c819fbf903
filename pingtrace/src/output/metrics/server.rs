//! Connections: each has a thread, and few are open at once; one that reads slowly or never is closed.

use super::board::Board;
use super::http::{self, Request, Response};
use super::web_config::WebConfig;
use anyhow::{Context, Result};
use netns::reason;
use rustix::process::nice;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Upper bound on open connections; further ones are closed at once.
const MAX_CONNECTIONS: usize = 16;
/// Upper bound on the time of a connection, whatever it does.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an error of the kernel, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);
/// Measuring goes first.
const NICENESS: i32 = 10;

/// Serves pages from the board until the process ends.
pub(super) fn start(
    listener: TcpListener,
    web: Option<WebConfig>,
    board: Arc<Board>,
) -> Result<()> {
    let service = Arc::new(Service {
        web: web.map(Mutex::new),
        board,
        open: AtomicUsize::new(0),
    });
    let thread = thread::Builder::new().name("metrics".into());
    let thread = thread.spawn(move || {
        // Threads that this one starts inherit it.
        let _ = nice(NICENESS);
        service.accept(&listener);
    });
    thread
        .context("start the thread that serves metrics")
        .map(drop)
}

struct Service {
    /// Locked while it is asked, so that checking passwords takes one CPU at most.
    web: Option<Mutex<WebConfig>>,
    board: Arc<Board>,
    open: AtomicUsize,
}

impl Service {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) => {
                    log::debug!("metrics: {}", reason(&e));
                    thread::sleep(PAUSE);
                    continue;
                }
            };
            if self.open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                log::debug!("metrics: too many connections at once");
                continue;
            }
            self.open.fetch_add(1, Ordering::Relaxed);
            let service = Arc::clone(&self);
            let one = thread::Builder::new().name("metrics-one".into());
            let started = one.spawn(move || {
                if let Err(e) = service.serve(&stream) {
                    log::debug!("metrics: {}", reason(&e));
                }
                let _ = stream.shutdown(Shutdown::Both);
                service.open.fetch_sub(1, Ordering::Relaxed);
            });
            if started.is_err() {
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut plain = Timed { stream, until };
        let web = self.web.as_ref();
        let tls = web.and_then(|web| lock(web).tls());
        match tls {
            None => self.answer(&mut plain),
            Some(config) => {
                let connection = rustls::ServerConnection::new(config);
                let mut connection = connection.map_err(io::Error::other)?;
                let mut secret = rustls::Stream::new(&mut connection, &mut plain);
                self.answer(&mut secret)?;
                connection.send_close_notify();
                while connection.wants_write() {
                    connection.write_tls(&mut plain)?;
                }
                Ok(())
            }
        }
    }

    fn answer(&self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        match http::read(stream)? {
            Err(response) => response.write(stream, true),
            Ok(request) => {
                let with_body = request.method != "HEAD";
                self.respond(&request).write(stream, with_body)
            }
        }
    }

    fn respond(&self, request: &Request) -> Response {
        let web = self.web.as_ref();
        if web.is_some_and(|web| !lock(web).allows(request.authorization.as_deref())) {
            return Response {
                headers: "WWW-Authenticate: Basic\r\n",
                ..Response::line("401 Unauthorized", "Unauthorized")
            };
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Response {
                headers: "Allow: GET, HEAD\r\n",
                ..Response::line("405 Method Not Allowed", "only GET and HEAD")
            };
        }
        match request.path.as_str() {
            "/metrics" => {
                let form = http::form(&request.accept);
                Response {
                    status: "200 OK",
                    content_type: form.content_type(),
                    headers: "",
                    body: self.board.page(form),
                }
            }
            "/" => Response::line("200 OK", "pingtrace: see /metrics"),
            _ => Response::line("404 Not Found", "there is /metrics"),
        }
    }
}

/// What panicked while it was locked left nothing half done.
fn lock(web: &Mutex<WebConfig>) -> std::sync::MutexGuard<'_, WebConfig> {
    web.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that ends at a time, however slowly its bytes come and go.
struct Timed<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
