//! Carries requests through, and spoils those that the script says.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};

use super::{
    Holding, Open, Shared,
    cable::reset,
    fault::{Act, Stage},
};
use crate::support::http::{self, Head, Length};

/// What half of a subscription is, which has no length.
const SOME_EVENTS: u64 = 400;

/// How long a late request may take.
const DELIVERING: Duration = Duration::from_secs(30);

/// Why a connection ends.
enum End {
    Closed,
    Reset,
}

/// Why the connection ends, if it does.
type Next = Option<End>;

pub(super) async fn serve(client: TcpStream, open: Open) {
    let shared = open.0.clone();
    let act = shared.script().for_connection();
    let Ok(upstream) = TcpStream::connect(&shared.upstream).await else { return };
    let (client, upstream) = (Side::new(client), Side::new(upstream));
    let mut connection = Connection { client, upstream, pace: None, shared, open: Some(open) };
    if let Ok(End::Reset) = connection.run(act).await {
        connection.reset();
    }
}

/// Both sides of a connection through the proxy.
struct Connection {
    client: Side,
    upstream: Side,
    /// How slowly it goes.
    pace: Option<(usize, Duration)>,
    shared: Arc<Shared>,
    /// As long as the client is there.
    open: Option<Open>,
}

struct Side {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        // Without it small messages wait; that it cannot be set only costs time.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        Self { read: BufReader::new(read), write }
    }

    /// Takes whatever comes until the other side has closed.
    async fn drain(&mut self) {
        let mut space = [0; 4096];
        while self.read.read(&mut space).await.is_ok_and(|read| read > 0) {}
    }

    /// Waits until the other side has closed, and takes nothing.
    async fn closed(&mut self) {
        if self.read.fill_buf().await.is_ok_and(|bytes| !bytes.is_empty()) {
            std::future::pending().await
        }
    }
}

impl Connection {
    async fn run(&mut self, act: Option<Act>) -> io::Result<End> {
        if let Some(act) = act
            && let Some(end) = self.act(act).await?
        {
            return Ok(end);
        }
        loop {
            if let Some(end) = self.exchange().await? {
                return Ok(end);
            }
        }
    }

    /// Carries one request through, or spoils it.
    async fn exchange(&mut self) -> io::Result<Next> {
        let Some(request) = Head::read(&mut self.client.read).await? else { return Ok(Some(End::Closed)) };
        let fault = self.shared.script().for_request(&request.path());
        match fault.map(|fault| fault.plan()) {
            None => {
                self.request(&request, None).await?;
                self.answer(None).await
            }
            Some((Stage::Undelivered, act)) => self.undelivered(request, act).await,
            Some((stage @ (Stage::RequestHead | Stage::RequestBody(_)), act)) => {
                match self.request(&request, Some((stage, act))).await? {
                    None => self.answer(None).await,
                    end => Ok(end),
                }
            }
            Some(fault) => {
                self.request(&request, None).await?;
                self.answer(Some(fault)).await
            }
        }
    }

    /// Delivers a request.
    async fn request(&mut self, request: &Head, fault: Option<(Stage, Act)>) -> io::Result<Next> {
        let head = &request.bytes;
        let mut begun = 0;
        if let Some((Stage::RequestHead, act)) = fault {
            begun = head.len() / 2;
            send(&mut self.upstream.write, &head[..begun], self.pace).await?;
            if let Some(end) = self.act(act).await? {
                return Ok(Some(end));
            }
        }
        send(&mut self.upstream.write, &head[begun..], self.pace).await?;
        let Length::Bytes(length) = request.length() else {
            http::copy_body(Length::Chunked, &mut self.client.read, &mut self.upstream.write).await?;
            return Ok(None);
        };
        let mut begun = 0;
        if let Some((Stage::RequestBody(part), act)) = fault {
            begun = part.of(length);
            pass(begun, &mut self.client.read, &mut self.upstream.write, self.pace).await?;
            if let Some(end) = self.act(act).await? {
                return Ok(Some(end));
            }
        }
        pass(length - begun, &mut self.client.read, &mut self.upstream.write, self.pace).await?;
        Ok(None)
    }

    /// Passes the answer on.
    async fn answer(&mut self, fault: Option<(Stage, Act)>) -> io::Result<Next> {
        let mut answer = Box::pin(Head::read(&mut self.upstream.read));
        let read = tokio::select! {
            read = &mut answer => read?,
            () = self.client.closed() => {
                // What the server was given it may carry out all the same.
                let _holding = Holding::new(&self.shared);
                self.open = None;
                let _ = tokio::time::timeout(DELIVERING, answer).await;
                return Ok(Some(End::Closed));
            }
        };
        drop(answer);
        let Some(answer) = read else { return Ok(Some(End::Closed)) };
        let mut begun = 0;
        match fault {
            Some((Stage::Unanswered, Act::Answer(status, retry_after))) => {
                http::copy_body(answer.length(), &mut self.upstream.read, &mut tokio::io::sink()).await?;
                return self.say(status, retry_after).await.map(|()| None);
            }
            Some((stage @ (Stage::Unanswered | Stage::AnswerHead), act)) => {
                begun = if stage == Stage::AnswerHead { answer.bytes.len() / 2 } else { 0 };
                send(&mut self.client.write, &answer.bytes[..begun], self.pace).await?;
                if let Some(end) = self.act(act).await? {
                    return Ok(Some(end));
                }
            }
            _ => {}
        }
        send(&mut self.client.write, &answer.bytes[begun..], self.pace).await?;
        if let Some(end) = self.body(&answer, fault).await? {
            return Ok(Some(end));
        }
        self.shared.answered.send_modify(|answered| *answered += 1);
        match fault {
            Some((Stage::Idle, act)) => self.act(act).await,
            _ => Ok(None),
        }
    }

    async fn body(&mut self, answer: &Head, fault: Option<(Stage, Act)>) -> io::Result<Next> {
        let fault = fault.and_then(|(stage, act)| match stage {
            Stage::AnswerBody(part) => Some((part, act)),
            _ => None,
        });
        if answer.status() == 101 {
            return self.tunnel(fault.map(|(part, act)| (part.of(SOME_EVENTS), act))).await;
        }
        let mut chunks = Vec::new();
        let length = match answer.length() {
            Length::Bytes(length) => length,
            Length::Chunked => {
                http::copy_body(Length::Chunked, &mut self.upstream.read, &mut chunks).await?;
                chunks.len() as u64
            }
        };
        let mut chunks = chunks.as_slice();
        let mut begun = 0;
        if let Some((part, act)) = fault {
            begun = part.of(length);
            self.pass_answer(begun, &mut chunks).await?;
            if let Some(end) = self.act(act).await? {
                return Ok(Some(end));
            }
        }
        self.pass_answer(length - begun, &mut chunks).await.map(|whole| (!whole).then_some(End::Closed))
    }

    /// Passes on so many bytes of what was read already, or else of what the server sends.
    async fn pass_answer(&mut self, bytes: u64, chunks: &mut &[u8]) -> io::Result<bool> {
        if chunks.is_empty() {
            return pass(bytes, &mut self.upstream.read, &mut self.client.write, self.pace).await;
        }
        pass(bytes, chunks, &mut self.client.write, self.pace).await
    }

    /// Passes on what both sides of an event socket say.
    async fn tunnel(&mut self, fault: Option<(u64, Act)>) -> io::Result<Next> {
        let (limit, act) = fault.unzip();
        let up = pass(u64::MAX, &mut self.client.read, &mut self.upstream.write, None);
        let down = pass(limit.unwrap_or(u64::MAX), &mut self.upstream.read, &mut self.client.write, self.pace);
        let whole = tokio::select! {
            up = up => return up.map(|_| Some(End::Closed)),
            down = down => down?,
        };
        if let (true, Some(act)) = (whole, act)
            && let end @ Some(_) = self.act(act).await?
        {
            return Ok(end);
        }
        let up = pass(u64::MAX, &mut self.client.read, &mut self.upstream.write, None);
        let down = pass(u64::MAX, &mut self.upstream.read, &mut self.client.write, self.pace);
        tokio::select! {
            _ = up => {}
            _ = down => {}
        }
        Ok(Some(End::Closed))
    }

    /// Keeps a request from the server.
    async fn undelivered(&mut self, request: Head, act: Act) -> io::Result<Next> {
        debug_assert!(!request.expects_continue(), "a client that waits for leave never sends its body");
        let mut body = Vec::new();
        http::copy_body(request.length(), &mut self.client.read, &mut body).await?;
        match act {
            Act::Answer(status, retry_after) => {
                self.say(status, retry_after).await?;
                return Ok(None);
            }
            Act::DeliverAfter(others) => {
                let mut answered = self.shared.answered.subscribe();
                let target = answered.borrow().saturating_add(others);
                self.deliver_when(request, body, async move {
                    // The sender lives in `shared`.
                    let _ = answered.wait_for(|answered| *answered >= target).await;
                });
                return Ok(Some(End::Reset));
            }
            Act::DeliverWhenGivenUp => {
                self.client.drain().await;
                self.deliver_when(request, body, async {});
                return Ok(Some(End::Closed));
            }
            Act::DeliverLate(time) => {
                self.deliver_when(request, body, tokio::time::sleep(time));
                self.client.drain().await;
                return Ok(Some(End::Closed));
            }
            _ => {}
        }
        if let Some(end) = self.act(act).await? {
            return Ok(Some(end));
        }
        send(&mut self.upstream.write, &request.bytes, self.pace).await?;
        send(&mut self.upstream.write, &body, self.pace).await?;
        self.answer(None).await
    }

    /// Does what is to be done in the middle of things.
    async fn act(&mut self, act: Act) -> io::Result<Next> {
        match act {
            Act::Pause(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => return Ok(None),
                    () = self.client.closed() => {}
                }
            }
            Act::Throttle(bytes, time) => {
                self.pace = Some((bytes, time));
                return Ok(None);
            }
            Act::Reset => return Ok(Some(End::Reset)),
            Act::Close => {}
            Act::Silence => self.client.drain().await,
            Act::HalfClose => self.end_and_drain().await?,
            Act::Garbage => {
                self.client.write.write_all(b"\x16\x03\x01 no HTTP at all\r\n\r\n\xff\xfe").await?;
                self.end_and_drain().await?;
            }
            Act::Answer(status, retry_after) => {
                self.say(status, retry_after).await?;
                self.end_and_drain().await?;
            }
            Act::DeliverAfter(_) | Act::DeliverWhenGivenUp | Act::DeliverLate(_) => {
                return Err(io::Error::other("only a request that was not delivered can be delivered later"));
            }
        }
        Ok(Some(End::Closed))
    }

    /// Says that no more comes, and waits until the client has closed. Closed at once, the connection would be reset because
    /// of what nobody has read, and what was said might be lost.
    async fn end_and_drain(&mut self) -> io::Result<()> {
        self.client.write.shutdown().await?;
        self.client.drain().await;
        Ok(())
    }

    async fn say(&mut self, status: u16, retry_after: Option<u32>) -> io::Result<()> {
        let page = "<html><body>a gateway's own words</body></html>";
        let retry_after = retry_after.map_or_else(String::new, |wait| format!("Retry-After: {wait}\r\n"));
        let answer = format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: text/html\r\n{retry_after}Content-Length: {}\r\n\r\n{page}",
            page.len()
        );
        self.client.write.write_all(answer.as_bytes()).await
    }

    /// Delivers a request over a connection of its own.
    fn deliver_when(&self, request: Head, body: Vec<u8>, due: impl Future<Output = ()> + Send + 'static) {
        let holding = Holding::new(&self.shared);
        tokio::spawn(async move {
            due.await;
            // Whether a late request is carried out is the server's affair; that it had its chance is ours.
            let _ = tokio::time::timeout(DELIVERING, deliver(&holding.0.upstream, &request, &body)).await;
        });
    }

    /// Ends both connections the hard way.
    fn reset(self) {
        for side in [self.client, self.upstream] {
            reset(side.read.into_inner(), side.write);
        }
    }
}

async fn deliver(upstream: &str, request: &Head, body: &[u8]) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(upstream).await?);
    stream.write_all(&request.bytes).await?;
    stream.write_all(body).await?;
    let Some(answer) = Head::read(&mut stream).await? else { return Ok(()) };
    if answer.length() != Length::Bytes(0) {
        http::copy_body(answer.length(), &mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(())
}

/// Sends bytes, slowly where a pace is given.
async fn send(to: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], pace: Option<(usize, Duration)>) -> io::Result<()> {
    let Some((at_a_time, between)) = pace else { return to.write_all(bytes).await };
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(at_a_time.min(bytes.len()));
        to.write_all(now).await?;
        tokio::time::sleep(between).await;
        bytes = later;
    }
    Ok(())
}

/// Passes on so many bytes. Returns whether they all came.
async fn pass(
    mut bytes: u64,
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    pace: Option<(usize, Duration)>,
) -> io::Result<bool> {
    while bytes > 0 {
        let came = from.fill_buf().await?;
        if came.is_empty() {
            return Ok(false);
        }
        let now = came.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        send(to, &came[..now], pace).await?;
        from.consume(now);
        bytes -= now as u64;
    }
    Ok(true)
}
