use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    dev::Payload,
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, TRANSFER_ENCODING},
    web,
};
use bytes::{Bytes, BytesMut};
use futures::stream;

use super::Routes;
use crate::{
    FileOperationResult,
    messages::{FileStream, UploadSource, UploadStream},
    service::{
        engine::EngineError,
        http::{Authorized, Params, Problem, ProblemKind, Writer, announced, may_act, next_piece},
        schemas::FileResultSchema,
        server::Shared,
    },
};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .add::<__path_upload, _, _>(upload)
        .add::<__path_download, _, _>(download)
        .add::<__path_upload_directory, _, _>(upload_directory)
        .add::<__path_download_directory, _, _>(download_directory);
}

/// Up to this size a file is read before it is sent on, so that it can be sent again and a slow client holds up nobody.
const SMALL: u64 = 256 << 10;

/// Writes a file
///
/// The body is the file, streamed to the workspace as it comes. It appears at its path when it is whole; folders above it are
/// made.
#[utoipa::path(put, path = "/v1/workspaces/{name}/files", tag = "files",
    request_body(content = String, content_type = "application/octet-stream", description = "The file, with a `Content-Length` where it is larger than 256 KiB"),
    params(("name" = String, Path, description = "The workspace's name"),
        ("path" = String, Query, description = "Where, as an absolute path of the sandbox"),
        ("sha256" = Option<bool>, Query, description = "Whether the SHA-256 of what arrived is compared before it is put in place. Default: false")),
    responses((status = 200, body = FileResultSchema),
        (status = 409, description = "The workspace ends", body = crate::service::http::Problem)))]
async fn upload(
    _: Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let path = params.required("path")?;
    let sha256 = params.flag("sha256")?;
    params.end()?;
    let result =
        send(&shared, &request, body, async |source| shared.engine.upload(&name, source, path, sha256).await).await?;
    Ok(HttpResponse::Ok().json(result))
}

/// Unpacks a tar archive into a directory
///
/// The body is the archive, streamed to the workspace, whose `tar` unpacks it there. Files that are there already are replaced,
/// and others stay.
#[utoipa::path(put, path = "/v1/workspaces/{name}/directories", tag = "files",
    request_body(content = String, content_type = "application/x-tar", description = "The archive, with a `Content-Length` where it is larger than 256 KiB"),
    params(("name" = String, Path, description = "The workspace's name"),
        ("path" = String, Query, description = "Where, as an absolute path of the sandbox. It is made when it is missing")),
    responses((status = 200, body = FileResultSchema),
        (status = 409, description = "The sandbox has no `tar`", body = crate::service::http::Problem)))]
async fn upload_directory(
    _: Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let path = params.required("path")?;
    params.end()?;
    let result =
        send(&shared, &request, body, async |source| shared.engine.upload_directory(&name, source, &path).await)
            .await?;
    Ok(HttpResponse::Ok().json(result))
}

/// Hands a request's body to an upload.
async fn send(
    shared: &Shared,
    request: &HttpRequest,
    body: web::Payload,
    upload: impl AsyncFnOnce(UploadSource) -> Result<FileOperationResult, EngineError>,
) -> Result<FileOperationResult, Problem> {
    if request.headers().contains_key(actix_web::http::header::CONTENT_ENCODING) {
        let detail = "a body is sent as it is here, without a Content-Encoding";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    let mut payload = body.into_inner();
    let size = match announced(request) {
        Some(size) => Some(size),
        None if request.headers().contains_key(TRANSFER_ENCODING) => None,
        None => Some(0),
    };
    let size = match size {
        Some(size) if size > SMALL => size,
        _ => {
            let bytes = read_small(shared, &mut payload).await?;
            shared.metrics.uploaded.inc_by(bytes.len() as u64);
            return Ok(upload(UploadSource::Bytes(bytes)).await?);
        }
    };
    let (sender, stream) = UploadStream::new(size);
    let feed = async {
        while let Some(piece) = next_piece(shared, &mut payload).await {
            match piece {
                Ok(bytes) => {
                    shared.metrics.uploaded.inc_by(bytes.len() as u64);
                    if sender.send(bytes).await.is_err() {
                        // The upload has ended, and says itself how.
                        return None;
                    }
                }
                Err(problem) => {
                    sender.fail(problem.to_string()).await;
                    return Some(problem);
                }
            }
        }
        drop(sender);
        None
    };
    let (result, problem) = futures::join!(upload(UploadSource::Stream(stream)), feed);
    match problem {
        Some(problem) => Err(problem),
        None => Ok(result?),
    }
}

async fn read_small(shared: &Shared, payload: &mut Payload) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = next_piece(shared, payload).await {
        let piece = piece?;
        if (bytes.len() + piece.len()) as u64 > SMALL {
            let detail = "a body of more than 256 KiB says its length: send it with a Content-Length";
            return Err(Problem::new(ProblemKind::LengthRequired, detail));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// Reads a file
///
/// It is streamed as it comes from the workspace. A connection that ends before all of its length came has not brought the
/// whole file.
#[utoipa::path(get, path = "/v1/workspaces/{name}/files", tag = "files",
    params(("name" = String, Path, description = "The workspace's name"),
        ("path" = String, Query, description = "Which, as an absolute path of the sandbox")),
    responses((status = 200, description = "The file", body = String, content_type = "application/octet-stream",
        headers(("ETag" = String, description = "The version of the file, where its server names one"))),
        (status = 409, description = "The workspace ends", body = crate::service::http::Problem)))]
async fn download(
    _: Authorized,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let path = params.required("path")?;
    params.end()?;
    let stream = shared.engine.download(&name, path).await?;
    Ok(receive(&shared, "application/octet-stream", stream, ()))
}

/// Reads a directory as a tar archive
///
/// The `tar` of the workspace packs it there, before the answer begins, so that a key that may only look is not enough. Whoever
/// unpacks it should not trust the names in it.
#[utoipa::path(get, path = "/v1/workspaces/{name}/directories", tag = "files",
    params(("name" = String, Path, description = "The workspace's name"),
        ("path" = String, Query, description = "Which, as an absolute path of the sandbox")),
    responses((status = 200, description = "The archive", body = String, content_type = "application/x-tar"),
        (status = 403, description = "The key may only look, or a page of another origin asks", body = crate::service::http::Problem),
        (status = 409, description = "The sandbox has no `tar`", body = crate::service::http::Problem)))]
async fn download_directory(
    _: Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    // It writes in the sandbox, though it looks like a harmless GET.
    if !may_act(&shared, request.headers()) {
        let detail = "pages of this origin may have nothing packed here: see --allow-origin";
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    let mut params = Params::of(&request)?;
    let path = params.required("path")?;
    params.end()?;
    let (stream, folder) = shared.engine.download_directory(&name, &path).await?;
    Ok(receive(&shared, "application/x-tar", stream, folder))
}

/// Sends a file on as it comes. Something is kept until that has ended.
fn receive<K: 'static>(shared: &web::Data<Shared>, kind: &'static str, file: FileStream, kept: K) -> HttpResponse {
    let size = file.size;
    let mut response = HttpResponse::Ok();
    // A browser is not to show what a sandbox made as if it were this service's.
    response.insert_header((CONTENT_TYPE, kind)).insert_header((CONTENT_DISPOSITION, "attachment"));
    if let Some(etag) = &file.etag {
        response.insert_header((ETAG, etag.as_str()));
    }
    let downloaded = shared.metrics.downloaded.clone();
    let pieces = stream::unfold((file, kept), move |(mut file, kept)| {
        let downloaded = downloaded.clone();
        async move {
            let piece = file.next().await?;
            if let Ok(bytes) = &piece {
                downloaded.inc_by(bytes.len() as u64);
            }
            Some((piece.map_err(Problem::from), (file, kept)))
        }
    });
    match size {
        Some(size) => response.body(SizedStream::new(size, Box::pin(pieces))),
        None => response.streaming(Box::pin(pieces)),
    }
}
