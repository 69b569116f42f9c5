use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::HttpRequest;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

/// The connections that are open.
#[derive(Default)]
pub(super) struct Connections {
    open: RefCell<BTreeMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
}

/// What is known of an open connection.
pub(super) struct Connection {
    /// When bytes last moved.
    moved: Cell<Instant>,
    /// Whether a request on it carried a key that was right.
    admitted: Cell<bool>,
    /// Fires when it has to give way to another.
    pub(super) evicted: CancellationToken,
}

/// A connection's place among the open ones, given back when dropped.
pub(super) struct Place {
    connections: Rc<Connections>,
    number: u64,
    pub(super) connection: Rc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.number);
    }
}

impl Connections {
    /// Takes a place for one more. When there is none, the connection without a key on which nothing has moved for longest
    /// gives way: otherwise, clients that connect and do nothing could keep out everyone else. `None` when all have keys.
    pub(super) fn enter(self: &Rc<Self>, most: usize) -> Option<Place> {
        if self.open.borrow().len() >= most && !self.evict_one() {
            return None;
        }
        let connection = Rc::new(Connection {
            moved: Cell::new(Instant::now()),
            admitted: Cell::new(false),
            evicted: CancellationToken::new(),
        });
        let number = self.next.replace(self.next.get() + 1);
        self.open.borrow_mut().insert(number, Rc::clone(&connection));
        Some(Place { connections: Rc::clone(self), number, connection })
    }

    fn evict_one(&self) -> bool {
        let mut open = self.open.borrow_mut();
        let strangers = open.iter().filter(|(_, connection)| !connection.admitted.get());
        let Some(number) = strangers.min_by_key(|(_, connection)| connection.moved.get()).map(|(number, _)| *number)
        else {
            return false;
        };
        if let Some(connection) = open.remove(&number) {
            connection.evicted.cancel();
        }
        true
    }
}

/// Notes that a request's connection belongs to someone with a key, so that it is not closed in favour of another.
pub(super) fn admit(request: &HttpRequest) {
    if let Some(connection) = request.conn_data::<Rc<Connection>>() {
        connection.admitted.set(true);
    }
}

/// A connection's stream, which fails when the client takes nothing for too long.
pub(super) struct Watched {
    stream: TcpStream,
    pub(super) connection: Rc<Connection>,
    write_time: Duration,
    /// Runs while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, connection: Rc<Connection>, write_time: Duration) -> Self {
        Self { stream, connection, write_time, stall: None }
    }

    /// Passes on the result of a write unless it has been waiting too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            self.connection.moved.set(Instant::now());
            return written;
        }
        let write_time = self.write_time;
        ready!(self.stall.get_or_insert_with(|| Box::pin(sleep(write_time))).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no more of the answer")))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.connection.moved.set(Instant::now());
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
