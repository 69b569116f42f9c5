//! A way to a server on which the open event sockets are counted.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long is waited for a socket to be opened or closed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Passes every connection on to a server.
pub(crate) struct Passage {
    pub(crate) url: String,
    open: Arc<AtomicUsize>,
}

impl Passage {
    /// A passage to the server at `host:port`, for as long as the test runs.
    pub(crate) fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let open = Arc::new(AtomicUsize::new(0));
        let (server, counter) = (server.to_owned(), open.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (server, counter) = (server.clone(), counter.clone());
                // A connection that breaks is the end of it, as on any way.
                thread::spawn(move || pass(client, &server, &counter));
            }
        });
        Self { url, open }
    }

    /// Waits until so many event sockets are open.
    pub(crate) fn wait_for_sockets(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        while self.open_sockets() != count {
            assert!(Instant::now() < until, "{} event sockets are open, not {count}", self.open_sockets());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn open_sockets(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

fn pass(mut client: TcpStream, server: &str, open: &AtomicUsize) -> io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    let mut head = [0; 16 << 10];
    let length = client.read(&mut head)?;
    upstream.write_all(&head[..length])?;
    let is_event_socket = head[..length].starts_with(b"GET /sockets/bash-events ");
    let (mut from_client, mut to_server) = (client.try_clone()?, upstream.try_clone()?);
    if is_event_socket {
        open.fetch_add(1, Ordering::SeqCst);
    }
    let answers = thread::spawn(move || {
        let _ = io::copy(&mut upstream, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
    let _ = io::copy(&mut from_client, &mut to_server);
    if is_event_socket {
        open.fetch_sub(1, Ordering::SeqCst);
    }
    let _ = to_server.shutdown(std::net::Shutdown::Both);
    let _ = answers.join();
    Ok(())
}
