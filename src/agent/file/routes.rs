use std::{
    cell::RefCell,
    fs::File,
    path::Path,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_multipart::Multipart;
use actix_web::{HttpRequest, HttpResponse, error::PayloadError, http::Method, web};
use futures::Stream;
use percent_encoding::utf8_percent_encode;
use serde_json::{Value, json};

use super::{
    archive,
    directories::{self, check_directory},
    download::OpenFile,
    excludes::Excludes,
    path::{absolute, resolve_leniently},
    upload::{self, Destination, blocking},
};
use crate::{
    agent::{
        git,
        http::{ApiError, ApiResult, Bounds, Checks, Fault, QueryParams, Timed, drain, uuid},
        keys::Authorized,
        routes::on,
        state::AgentState,
    },
    protocol::{Success, UploadReply},
};

type State = web::Data<AgentState>;

/// Adds the routes below `/file` that also exist for a conversation.
pub(in crate::agent) fn configure(config: &mut web::ServiceConfig) {
    on(config, "/file/upload", Method::POST, upload);
    on(config, "/file/download", Method::GET, download);
    on(config, "/file/create_directory", Method::POST, create_directory);
    on(config, "/file/archive", Method::GET, archive);
    on(config, "/file/download-trajectory/{conversation_id}", Method::GET, trajectory);
}

/// Adds the routes below `/file` that exist once.
pub(in crate::agent) fn configure_discovery(config: &mut web::ServiceConfig) {
    on(config, "/file/home", Method::GET, home);
    on(config, "/file/search_subdirs", Method::GET, search_subdirs);
}

/// Takes an upload. Whatever is wrong is told only after the client has sent everything: most clients do not read before.
async fn upload(request: HttpRequest, payload: web::Payload, state: State) -> ApiResult<HttpResponse> {
    let payload = SharedPayload(Rc::new(RefCell::new(Timed::each(payload, state.idle_timeout))));
    let destination = match upload_destination(&request, &state).await {
        Ok(destination) => Arc::new(destination),
        Err(error) => {
            drain(payload).await;
            return Err(error);
        }
    };
    let form = Multipart::new(request.headers(), payload.clone());
    let received = match upload::receive(form, &destination).await {
        Ok(received) => received,
        Err(error) => {
            drain(payload).await;
            return Err(error);
        }
    };
    let file_size = blocking(move || received.persist(&destination)).await?;
    Ok(HttpResponse::Ok().json(UploadReply { success: true, file_size: Some(file_size) }))
}

async fn upload_destination(request: &HttpRequest, state: &AgentState) -> ApiResult<Destination> {
    Authorized::check(request)?;
    let content_type = request.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut checks = Checks::default();
    let path = checks.required(&QueryParams::of(request), "path");
    if !content_type.to_ascii_lowercase().starts_with("multipart/form-data") {
        checks.push(Fault::missing(), &["body", "file"], Value::Null);
    }
    let path = checks.finish(path)?;
    state.touch();
    let path = absolute(&path)?;
    blocking(move || Destination::prepare(path)).await
}

async fn download(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let path = path_of(&request)?;
    state.touch();
    let path = absolute(&path)?;
    let name = name_of(&path);
    let file = blocking(move || OpenFile::open(&path)).await?;
    Ok(file.respond(&request, &name, "application/octet-stream", Vec::new()))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn path_of(request: &HttpRequest) -> ApiResult<String> {
    let mut checks = Checks::default();
    let path = checks.required(&QueryParams::of(request), "path");
    checks.finish(path)
}

async fn create_directory(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let path = path_of(&request)?;
    state.touch();
    let path = absolute(&path)?;
    blocking(move || directories::create(&path)).await?;
    Ok(HttpResponse::Ok().json(Success { success: true }))
}

async fn home(_: Authorized, request: HttpRequest) -> ApiResult<HttpResponse> {
    let mut checks = Checks::default();
    let hidden = checks.flag(&QueryParams::of(&request), "include_hidden", false);
    let hidden = checks.finish(hidden)?;
    Ok(HttpResponse::Ok().json(blocking(move || Ok(directories::home(hidden))).await?))
}

async fn search_subdirs(_: Authorized, request: HttpRequest) -> ApiResult<HttpResponse> {
    let query = QueryParams::of(&request);
    let mut checks = Checks::default();
    let path = checks.required(&query, "path");
    let limit = checks.limit(&query, "limit", Bounds::Positive(100), 100);
    let hidden = checks.flag(&query, "include_hidden", false);
    let path = absolute(&checks.finish(path)?)?;
    let page_id = query.get("page_id").map(str::to_owned);
    let page = blocking(move || directories::search(&path, page_id.as_deref(), limit, hidden)).await?;
    Ok(HttpResponse::Ok().json(page))
}

async fn trajectory(_: Authorized, request: HttpRequest) -> ApiResult<HttpResponse> {
    let text = request.match_info().query("conversation_id");
    uuid(text).map_err(|fault| ApiError::invalid(vec![fault.entry(&["path", "conversation_id"], json!(text))]))?;
    Err(ApiError::detail(actix_web::http::StatusCode::NOT_FOUND, "Conversation not found"))
}

/// What an archive is asked for.
struct ArchiveRequest {
    path: String,
    tar_gz: bool,
    base_ref: Option<String>,
    excludes: Excludes,
}

impl ArchiveRequest {
    fn of(request: &HttpRequest) -> ApiResult<Self> {
        let query = QueryParams::of(request);
        let mut checks = Checks::default();
        let path = checks.required(&query, "path");
        let format = checks.choice(&query, "format", "literal_error", &["git-delta", "tar.gz"]);
        let defaults = checks.flag(&query, "use_default_excludes", true);
        let excludes = Excludes::new(defaults, query.all("exclude"));
        let base_ref = query.get("base_ref").map(str::to_owned);
        checks.finish(Self { path, tar_gz: format == Some(1), base_ref, excludes })
    }
}

async fn archive(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let asked = ArchiveRequest::of(&request)?;
    state.touch();
    let directory = absolute(&asked.path)?;
    let directory = blocking(move || check_directory(&directory).map(|()| resolve_leniently(&directory))).await?;
    if asked.base_ref.as_ref().is_some_and(|base| base.starts_with('-')) {
        return Err(ApiError::bad_request("base_ref must not start with '-'"));
    }
    let failed = |error: std::io::Error| ApiError::internal(format_args!("Failed to archive directory: {error}"));
    let (root, file) = blocking(move || {
        Ok((archive::repository_root(&directory), archive::scratch_file(&directory).map_err(failed)?))
    })
    .await?;
    let mut headers = Vec::new();
    let (file, suffix, media_type) = if asked.tar_gz {
        let (root, excludes) = (root.clone(), asked.excludes);
        let written = blocking(move || archive::write_tar_gz(&root, &file, &excludes).map(|()| file).map_err(failed));
        (written.await?, ".tar.gz", "application/gzip")
    } else {
        let (file, base) = write_delta(&state, &root, asked.base_ref.as_deref(), file, &asked.excludes).await?;
        if !base.is_empty() {
            headers.push(("X-Archive-Base-Commit", base));
            headers.push(("X-Archive-Base-Ref", asked.base_ref.unwrap_or_else(|| "auto".to_owned())));
        }
        (file, ".patch", "text/x-patch")
    };
    headers.extend(repository_headers(&state, &root).await);
    let name = format!("{}{suffix}", name_of(&root));
    let file = blocking(move || OpenFile::of(file).map_err(failed)).await?;
    Ok(file.respond(&request, &name, media_type, headers))
}

async fn write_delta(
    state: &AgentState,
    root: &Path,
    base_ref: Option<&str>,
    file: File,
    excludes: &Excludes,
) -> ApiResult<(File, String)> {
    let git = git::Git::new(&state.environment);
    git::write_delta(&git, root, base_ref, file, &excludes.pathspecs()).await
}

async fn repository_headers(state: &AgentState, root: &Path) -> Vec<(&'static str, String)> {
    if !root.join(".git").exists() {
        return Vec::new();
    }
    let encoded = |text: &str| utf8_percent_encode(text, git::HEADER_SAFE).to_string();
    let identity = git::identity(&git::Git::new(&state.environment), root).await;
    let mut headers: Vec<_> = identity.into_iter().map(|(name, value)| (name, encoded(&value))).collect();
    headers.push(("X-Archive-Repo-Root", encoded(&root.to_string_lossy())));
    headers
}

/// A request's payload of which what one reader leaves can be read by another.
#[derive(Clone)]
struct SharedPayload(Rc<RefCell<Timed<web::Payload>>>);

impl Stream for SharedPayload {
    type Item = Result<web::Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}
