//! Counts the requests that somebody sends to a server, by sitting in between.

use std::{
    io::{Read, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::process::Result;

/// What ends the first line of each request and stands nowhere else in what clients send here.
const REQUEST: &[u8] = b" HTTP/1.1\r\n";

/// A port behind which there is a server, whose requests are counted. Its threads end with their connections.
pub(crate) struct Counter {
    pub(crate) port: u16,
    requests: Arc<AtomicU64>,
}

impl Counter {
    pub(crate) fn before(server: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (port, requests) = (listener.local_addr()?.port(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&requests);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                pass_on(&client, &server, &counted);
            }
        });
        Ok(Self { port, requests })
    }

    /// How many requests there were so far.
    pub(crate) fn requests(&self) -> f64 {
        self.requests.load(Ordering::Relaxed) as f64
    }
}

/// Passes on what comes, both ways.
fn pass_on(client: &TcpStream, server: &TcpStream, requests: &Arc<AtomicU64>) {
    let ways = [(client, server, Some(Arc::clone(requests))), (server, client, None)];
    for (from, to, requests) in ways {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let _ = to.set_nodelay(true);
        thread::spawn(move || copy(from, to, requests.as_deref()));
    }
}

/// Copies until one side has no more, and counts requests where there are some.
fn copy(mut from: TcpStream, mut to: TcpStream, requests: Option<&AtomicU64>) {
    let (mut bytes, mut seen) = ([0; 16 << 10], Vec::new());
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if let Some(requests) = requests {
            // The end of what came before may be the beginning of one.
            seen.extend_from_slice(&bytes[..read]);
            let found = seen.windows(REQUEST.len()).filter(|window| *window == REQUEST).count();
            requests.fetch_add(found as u64, Ordering::Relaxed);
            seen.drain(..seen.len().saturating_sub(REQUEST.len() - 1));
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
}
