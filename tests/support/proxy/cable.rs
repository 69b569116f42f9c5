//! Bytes as they are, counted, and cut after any of them.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};

use super::Shared;

/// Whose bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The client's.
    Up,
    /// The server's.
    Down,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The hard way, on both sides.
    Reset,
    /// In peace, on both sides.
    Close,
}

/// The bytes that have gone, all connections together, and where to cut.
#[derive(Default)]
pub(super) struct Meters {
    bytes: [u64; 2],
    at: Option<(Direction, u64, Cut)>,
    was_cut: bool,
}

impl Meters {
    pub(super) fn cut_after(&mut self, direction: Direction, bytes: u64, cut: Cut) {
        self.at = Some((direction, bytes, cut));
    }

    pub(super) fn bytes(&self, direction: Direction) -> u64 {
        self.bytes[direction as usize]
    }

    pub(super) fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// Counts bytes that are about to go: how many of them may, and how the connection is cut then, if it is.
    fn take(&mut self, direction: Direction, bytes: usize) -> (usize, Option<Cut>) {
        let gone = &mut self.bytes[direction as usize];
        let before = *gone;
        match self.at {
            Some((at, limit, cut)) if at == direction && (before..=before + bytes as u64).contains(&limit) => {
                *gone = limit;
                self.at = None;
                self.was_cut = true;
                ((limit - before) as usize, Some(cut))
            }
            _ => {
                *gone += bytes as u64;
                (bytes, None)
            }
        }
    }
}

pub(super) async fn serve(client: TcpStream, shared: &Shared) {
    let Ok(upstream) = TcpStream::connect(&shared.upstream).await else { return };
    // Without it small messages wait; that it cannot be set only costs time.
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let ((mut client_read, mut client_write), (mut upstream_read, mut upstream_write)) =
        (client.into_split(), upstream.into_split());
    let cut = {
        let up = pump(&mut client_read, &mut upstream_write, Direction::Up, shared);
        let down = pump(&mut upstream_read, &mut client_write, Direction::Down, shared);
        tokio::pin!(up, down);
        tokio::select! {
            cut = &mut up => match cut {
                // A client that has said all may still listen.
                Ok(None) => down.await,
                cut => cut,
            },
            cut = &mut down => cut,
        }
    };
    if let Ok(Some(Cut::Reset)) = cut {
        for (read, write) in [(client_read, client_write), (upstream_read, upstream_write)] {
            reset(read, write);
        }
    }
}

async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    direction: Direction,
    shared: &Shared,
) -> io::Result<Option<Cut>> {
    let mut space = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut space).await?;
        if read == 0 {
            to.shutdown().await?;
            return Ok(None);
        }
        let (allowed, cut) = shared.meters().take(direction, read);
        to.write_all(&space[..allowed]).await?;
        if cut.is_some() {
            return Ok(cut);
        }
    }
}

/// Ends a connection the hard way.
pub(super) fn reset(read: OwnedReadHalf, write: OwnedWriteHalf) {
    if let Ok(stream) = read.reunite(write) {
        // Unset, the connection ends politely, and the test says that nothing was spoilt.
        let _ = stream.set_zero_linger();
    }
}
