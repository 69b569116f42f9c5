use actix_web::{HttpResponse, http::header::CONTENT_TYPE};
use bytes::{Bytes, BytesMut};

use super::{
    Request,
    answer::Refusal,
    headers,
    pass::{self, Body},
    pieces::Pieces,
};
use crate::{
    messages::{UploadSender, UploadStream},
    protocol::UploadReply,
};

/// How long what comes before the file may be.
const HEAD: usize = 16 << 10;

/// The form of an upload, as far as its head tells it.
struct Form {
    /// Where the file goes.
    path: String,
    /// How long all of it is.
    length: u64,
    boundary: String,
}

/// Writes a file. It appears when it is whole, whatever the server does with what it is sent.
///
/// What is no upload of one file to an absolute path goes to the server as it is, which has the words for it.
pub(super) async fn upload(request: &Request, mut pieces: Pieces) -> Result<HttpResponse, Refusal> {
    let Some(form) = Form::of(request) else { return pass::pass(request, Body::Streamed(pieces)).await };
    let mut begun = BytesMut::new();
    let head = loop {
        match begun.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) => break at + 4,
            None if begun.len() > HEAD => break 0,
            None => {}
        }
        match pieces.next().await {
            Some(piece) => begun.extend_from_slice(&piece?),
            None => break 0,
        }
    };
    let begun = begun.freeze();
    let Some(size) = form.file(&begun[..head]) else {
        return pass::pass(request, Body::Begun(begun, pieces)).await;
    };
    let (sender, stream) = UploadStream::new(size);
    let feed = feed(sender, size, form.tail(), begun.slice(head..), pieces);
    let (result, fed) = futures::join!(request.workspace.file_upload(stream, form.path.clone()), feed);
    // What was wrong with the request says more than that its bytes did not come.
    fed?;
    let reply = UploadReply { success: true, file_size: result?.file_size };
    Ok(HttpResponse::Ok().json(reply))
}

impl Form {
    fn of(request: &Request) -> Option<Self> {
        let query = request.route.query.as_deref()?;
        let mut paths = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "path");
        let path = paths.next().filter(|(_, path)| path.starts_with('/') && !path.contains('\0'))?.1.into_owned();
        let kind = request.http.headers().get(CONTENT_TYPE)?.to_str().ok()?;
        let parameters = kind.strip_prefix("multipart/form-data;")?;
        let boundary = parameters.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?.trim_matches('"');
        let length = headers::announced(&request.http).filter(|length| *length > 0)?;
        let is_one = paths.next().is_none() && !boundary.is_empty();
        is_one.then(|| Self { path, length, boundary: boundary.to_owned() })
    }

    /// How long the file is, if it is the only part, whose head this is.
    fn file(&self, head: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(head).ok()?.strip_prefix(&format!("--{}\r\n", self.boundary))?;
        let disposition =
            text.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition: form-data;"))?;
        let is_encoded = text.to_ascii_lowercase().contains("content-transfer-encoding");
        let is_file = disposition.contains(" name=\"file\"") && disposition.contains(" filename=\"") && !is_encoded;
        let around = head.len() as u64 + self.tail().len() as u64;
        if is_file { self.length.checked_sub(around) } else { None }
    }

    /// What comes after the file.
    fn tail(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.boundary).into()
    }
}

/// Hands the bytes of the file over as they come. The last of them go when the form has ended as it must, so that no file
/// is written that is another than the form's.
async fn feed(sender: UploadSender, size: u64, tail: Bytes, begun: Bytes, mut pieces: Pieces) -> Result<(), Refusal> {
    let (mut left, mut held, mut rest) = (size, Bytes::new(), BytesMut::new());
    let mut begun = Some(begun).filter(|begun| !begun.is_empty());
    let refusal = loop {
        let next = match begun.take() {
            Some(begun) => Some(Ok(begun)),
            None => pieces.next().await,
        };
        match next {
            None if rest == tail && left == 0 => {
                if !held.is_empty() {
                    // An upload that has ended says itself how.
                    let _ = sender.send(held).await;
                }
                return Ok(());
            }
            None => break Refusal::bad("the form does not end where its length says: send one file as one part"),
            Some(Err(refusal)) => break refusal,
            Some(Ok(mut piece)) => {
                let of_file = piece.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(piece.len()));
                left -= of_file.len() as u64;
                rest.extend_from_slice(&piece);
                if of_file.is_empty() {
                    continue;
                }
                let earlier = std::mem::replace(&mut held, of_file);
                if !earlier.is_empty() && sender.send(earlier).await.is_err() {
                    return Ok(());
                }
            }
        }
    };
    sender.fail(refusal.detail().to_owned()).await;
    Err(refusal)
}
