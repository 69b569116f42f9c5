use actix_web::{HttpRequest, HttpResponse, http::Method, web};
use serde_json::json;

use super::{
    changes,
    command::{Git, GitError, GitResult},
    commits, diff,
};
use crate::{
    agent::{
        http::{ApiError, ApiResult, Bounds, Checks, Fault, QueryParams},
        keys::Authorized,
        routes::on,
        state::AgentState,
    },
    protocol::{GitCommitPage, GitDiff},
};

type State = web::Data<AgentState>;

/// Adds the routes below `/git` that also exist for a conversation.
pub(in crate::agent) fn configure(config: &mut web::ServiceConfig) {
    on(config, "/git/changes", Method::GET, get_changes);
    on(config, "/git/diff", Method::GET, get_diff);
    on(config, "/git/commits", Method::GET, get_commits);
    on(config, "/git/commits/{sha}/changes", Method::GET, get_commit_changes);
}

/// Adds the routes below `/git` that exist once.
pub(in crate::agent) fn configure_providers(config: &mut web::ServiceConfig) {
    on(config, "/git/repositories/search", Method::GET, search_repositories);
}

/// A path that is in no repository is answered as one in which there is nothing.
fn or_nothing<T>(result: GitResult<T>, nothing: T) -> ApiResult<T> {
    match result {
        Err(GitError::NoRepository(reason)) => {
            log::debug!("{reason}");
            Ok(nothing)
        }
        other => Ok(other?),
    }
}

/// A commit's name: hex only, so that git cannot take it for an option.
fn sha(text: &str) -> Result<String, Fault> {
    if (4..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    const PATTERN: &str = "^[0-9a-fA-F]{4,64}$";
    let fault = Fault::new("string_pattern_mismatch", format!("String should match pattern '{PATTERN}'"));
    Err(Fault { context: Some(json!({ "pattern": PATTERN })), ..fault })
}

async fn get_changes(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let query = QueryParams::of(&request);
    let mut checks = Checks::default();
    let path = checks.required(&query, "path");
    let path = checks.finish(path)?;
    state.touch();
    if path.is_empty() {
        // To the real server too this is no path of the workspace, whatever it is compared with.
        return Ok(HttpResponse::Ok().json(json!([])));
    }
    let path = state.resolve(&path);
    let git = Git::new(&state.environment);
    let changes = or_nothing(changes::changes(&git, &path, query.get("ref")).await, Vec::new())?;
    Ok(HttpResponse::Ok().json(changes))
}

async fn get_diff(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let query = QueryParams::of(&request);
    let mut checks = Checks::default();
    let path = checks.required(&query, "path");
    let commit = checks.query(&query, "commit", sha);
    let path = state.resolve(&checks.finish(path)?);
    if commit.is_some() && query.get("ref").is_some() {
        return Err(ApiError::bad_request("'ref' and 'commit' are mutually exclusive"));
    }
    state.touch();
    let git = Git::new(&state.environment);
    let diff = match commit {
        Some(commit) => commits::commit_diff(&git, &path, &commit).await,
        None => diff::diff(&git, &path, query.get("ref")).await,
    };
    Ok(HttpResponse::Ok().json(or_nothing(diff, GitDiff { modified: None, original: None })?))
}

async fn get_commits(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let query = QueryParams::of(&request);
    let mut checks = Checks::default();
    let path = checks.required(&query, "path");
    let limit = checks.limit(&query, "limit", Bounds::FromOne(200), 50);
    let path = state.resolve(&checks.finish(path)?);
    state.touch();
    let commits = commits::commits(&Git::new(&state.environment), &path, limit).await;
    Ok(HttpResponse::Ok().json(or_nothing(commits, GitCommitPage { commits: Vec::new(), has_more: false })?))
}

async fn get_commit_changes(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let mut checks = Checks::default();
    let text = request.match_info().query("sha");
    let commit = sha(text).map_err(|fault| checks.push(fault, &["path", "sha"], json!(text))).unwrap_or_default();
    let path = checks.required(&QueryParams::of(&request), "path");
    let path = state.resolve(&checks.finish(path)?);
    state.touch();
    let changes = commits::commit_changes(&Git::new(&state.environment), &path, &commit).await;
    Ok(HttpResponse::Ok().json(or_nothing(changes, Vec::new())?))
}

/// There is no token of any provider here, which is an answer the real server gives too.
async fn search_repositories(_: Authorized, request: HttpRequest) -> ApiResult<HttpResponse> {
    let query = QueryParams::of(&request);
    let mut checks = Checks::default();
    let provider = checks.required(&query, "provider");
    let providers = ["github", "gitlab", "bitbucket", "azure_devops"];
    if !provider.is_empty() {
        checks.choice(&query, "provider", "enum", &providers);
    }
    checks.limit(&query, "limit", Bounds::FromOne(100), 100);
    let provider = checks.finish(provider)?;
    if provider != "github" {
        let detail = format!("Repository discovery is not supported for provider '{provider}'");
        return Err(ApiError::bad_request(detail));
    }
    Ok(HttpResponse::Ok().json(json!({ "items": [], "next_page_id": null, "missing_token": true })))
}
