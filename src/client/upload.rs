//! Sends files.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use awc::{ClientResponse, body::SizedStream, error::SendRequestError, http::header::CONTENT_TYPE};
use bytes::Bytes;
use futures::{
    Stream, StreamExt as _,
    stream::{self, LocalBoxStream},
};
use log::debug;
use tokio::time::{Instant, timeout};

use super::{
    agent_client::AgentClient,
    body::Bounds,
    broken::{self, Broken},
    exchange::{late, note, uri},
    limits::ClientLimits,
    source::UploadBody,
    trace,
};
use crate::{Effect, Failure, protocol::UploadReply};

/// The slowest that a server or a gateway is expected to store what it has received.
const STORED_PER_SECOND: u64 = 4 << 20;

impl AgentClient {
    /// Writes a file of the sandbox, in place of one that is there. Folders above it are made.
    ///
    /// The bytes are sent as they are read. What bounds it is a standstill, not the whole; once all is sent, the answer
    /// may take the [answer timeout](ClientLimits::answer_timeout) and a second for each 4 MiB. A refusal that comes
    /// while bytes are still being sent is heard; but agent servers look at the session key only when they have it all.
    ///
    /// # Errors
    /// As any request, and `Local` when the file cannot be read or has not the size that it was said to have. The
    /// target is then as it was before.
    pub async fn upload(&self, path: &str, body: UploadBody) -> Result<UploadReply, Failure> {
        let target = self.api("/file/upload").with("path", path);
        let name = format!("POST {target}");
        let size = body.size();
        let uri = uri(&target).map_err(|broken| broken.failure)?;

        let lent = self.lend(true);
        let progress = Rc::new(Progress::new(size));
        let form = Form::new(size);
        let mut request = lent.client.post(uri).insert_header((CONTENT_TYPE, form.content_type()));
        for header in trace::current() {
            request = request.insert_header(header);
        }
        let stream = progress.clone().follow(form.around(body.into_chunks().await));
        let sending = request.send_body(SizedStream::new(form.length(), stream));

        let result = progress.wait(sending, self.limits(), &name).await;
        let mut answer = match result.map_err(|broken| progress.explain(broken)) {
            Ok(answer) => answer,
            Err(failure) => {
                self.tell(|observer| observer.failed(&failure));
                return Err(failure);
            }
        };
        debug!("{name}: {}", answer.status());
        note(answer.status(), &lent.watch);
        self.tell_answered(answer.status());
        if !answer.status().is_success() {
            return Err(self.refusal(&mut answer).await);
        }
        let reply = self.read_json(&mut answer, Bounds::json(self.limits()), &name).await?;
        check(reply, size)
    }
}

/// Whether the server wrote as much as it was sent. Servers up to 1.43 do not say.
fn check(reply: UploadReply, size: u64) -> Result<UploadReply, Failure> {
    match reply.file_size {
        Some(written) if written != size => {
            let reason = format!("the server says that it wrote {written} bytes, but {size} were sent");
            Err(Failure { effect: Effect::Done, ..Failure::protocol(reason) })
        }
        _ => Ok(reply),
    }
}

/// The multipart form around a file.
struct Form {
    boundary: String,
    head: Bytes,
    tail: Bytes,
    size: u64,
}

impl Form {
    fn new(size: u64) -> Self {
        let boundary = uuid::Uuid::new_v4().simple().to_string();
        // The server wants a file name but does not use it, so that no odd name needs an escape here.
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"upload\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        Self { boundary, head: head.into(), tail: tail.into(), size }
    }

    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    const fn length(&self) -> u64 {
        self.head.len() as u64 + self.size + self.tail.len() as u64
    }

    fn around(
        &self,
        chunks: LocalBoxStream<'static, Result<Bytes, Failure>>,
    ) -> impl Stream<Item = Result<Bytes, Failure>> + use<> {
        let one = |bytes: &Bytes| stream::iter([Ok(bytes.clone())]);
        one(&self.head).chain(chunks).chain(one(&self.tail))
    }
}

/// How far an upload is.
struct Progress {
    size: u64,
    /// When the last piece was taken, which is when the one before it was sent.
    moved: Cell<Option<Instant>>,
    all_taken: Cell<bool>,
    failure: RefCell<Option<Failure>>,
}

impl Progress {
    const fn new(size: u64) -> Self {
        Self { size, moved: Cell::new(None), all_taken: Cell::new(false), failure: RefCell::new(None) }
    }

    /// The same stream, with notes of how far it is.
    fn follow(
        self: Rc<Self>,
        stream: impl Stream<Item = Result<Bytes, Failure>> + 'static,
    ) -> LocalBoxStream<'static, Result<Bytes, Failure>> {
        let end = Rc::clone(&self);
        let followed = stream.inspect(move |piece| {
            self.moved.set(Some(Instant::now()));
            if let Err(failure) = piece {
                *self.failure.borrow_mut() = Some(failure.clone());
            }
        });
        let finished = stream::poll_fn(move |_| {
            end.all_taken.set(true);
            std::task::Poll::Ready(None)
        });
        followed.chain(finished).boxed_local()
    }

    /// Waits for the head of the answer as long as the upload does not stand still.
    async fn wait<F>(&self, sending: F, limits: &ClientLimits, name: &str) -> Result<ClientResponse, Broken>
    where
        F: Future<Output = Result<ClientResponse, SendRequestError>>,
    {
        let mut sending = pin!(sending);
        // A look now and then is enough, and cheaper than being woken with each piece. What is counted is looks, not
        // time, so that a process that was itself suspended does not take that for a standstill.
        let between = (limits.idle_timeout / 4).max(Duration::from_millis(1));
        let mut moved = None;
        let mut still = Duration::ZERO;
        loop {
            if let Ok(result) = timeout(between, sending.as_mut()).await {
                return result.map_err(broken::judge);
            }
            still = if self.moved.get() == moved { still + between } else { Duration::ZERO };
            moved = self.moved.get();
            let patience = self.patience(limits);
            if still >= patience {
                return Err(late(name, patience, false));
            }
        }
    }

    /// How long the next step may take.
    fn patience(&self, limits: &ClientLimits) -> Duration {
        match (self.moved.get(), self.all_taken.get()) {
            (None, _) => limits.connect_timeout + limits.idle_timeout,
            (Some(_), false) => limits.idle_timeout,
            (Some(_), true) => {
                let storing = Duration::from_secs(self.size / STORED_PER_SECOND);
                limits.idle_timeout + limits.answer_timeout + storing
            }
        }
    }

    /// The failure of an upload that got no answer. One that was not sent to its end did nothing.
    fn explain(&self, broken: Broken) -> Failure {
        let mut failure = self.failure.borrow_mut().take().unwrap_or(broken.failure);
        if !self.all_taken.get() {
            failure.effect = Effect::NotSent;
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_form_is_as_long_as_it_says() {
        let form = Form::new(5);
        let chunks = UploadBody::bytes(Bytes::from_static(b"hello")).into_chunks().await;
        let all: Vec<Bytes> = form.around(chunks).map(Result::unwrap).collect().await;
        let all = all.concat();
        assert_eq!(all.len() as u64, form.length());
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with(&format!("--{}\r\n", form.boundary)), "{text}");
        assert!(text.ends_with(&format!("\r\n\r\nhello\r\n--{}--\r\n", form.boundary)), "{text}");
    }

    #[test]
    fn a_server_that_wrote_another_size_has_not_done_it_right() {
        let reply = |file_size| UploadReply { success: true, file_size };
        assert!(check(reply(None), 7).is_ok());
        assert!(check(reply(Some(7)), 7).is_ok());
        assert_eq!(check(reply(Some(6)), 7).unwrap_err().effect, Effect::Done);
    }
}
