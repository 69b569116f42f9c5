use actix_web::{HttpRequest, HttpResponse, web};

use super::Routes;
use crate::{
    messages::{DiffBase, GitChanges, GitCommits, GitDiff},
    service::{
        http::{Authorized, Params, Problem},
        schemas::{GitChangeSchema, GitCommitPageSchema, GitDiffSchema},
        server::Shared,
    },
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add::<__path_changes, _, _>(changes).add::<__path_diff, _, _>(diff).add::<__path_commits, _, _>(commits);
}

/// Lists the files that differ
#[utoipa::path(get, path = "/v1/workspaces/{name}/git/changes", tag = "git",
    params(("name" = String, Path, description = "The workspace's name"),
        ("path" = Option<String>, Query, description = "The directory to ask about, joined to `working_dir` when relative. Default: `working_dir`"),
        ("ref" = Option<String>, Query, description = "The commit to compare with. Default: the server's choice")),
    responses((status = 200, body = Vec<GitChangeSchema>)))]
async fn changes(
    _: Authorized,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let mut changes = GitChanges::new(params.text("path")?.unwrap_or_default());
    changes.reference = params.text("ref")?;
    params.end()?;
    Ok(HttpResponse::Ok().json(shared.engine.workspace(&name).await?.ask(changes).await?))
}

/// Compares a file
#[utoipa::path(get, path = "/v1/workspaces/{name}/git/diff", tag = "git",
    params(("name" = String, Path, description = "The workspace's name"),
        ("path" = String, Query, description = "The file to ask about, joined to `working_dir` when relative"),
        ("ref" = Option<String>, Query, description = "The file now against the file there"),
        ("commit" = Option<String>, Query, description = "The file there against the file before it")),
    responses((status = 200, body = GitDiffSchema)))]
async fn diff(
    _: Authorized,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let diff = GitDiff::new(params.required("path")?);
    let base = match (params.text("ref")?, params.text("commit")?) {
        (None, None) => DiffBase::WorkingTree,
        (Some(name), None) => DiffBase::Ref(name),
        (None, Some(commit)) => DiffBase::Commit(commit),
        (Some(_), Some(_)) => return Err(Problem::invalid("give `ref` or `commit`, not both")),
    };
    params.end()?;
    Ok(HttpResponse::Ok().json(shared.engine.workspace(&name).await?.ask(diff.with_base(base)).await?))
}

/// Lists commits, the newest first
#[utoipa::path(get, path = "/v1/workspaces/{name}/git/commits", tag = "git",
    params(("name" = String, Path, description = "The workspace's name"),
        ("path" = Option<String>, Query, description = "The directory to ask about, joined to `working_dir` when relative. Default: `working_dir`"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 200, description = "How many at most. Default: 50")),
    responses((status = 200, body = GitCommitPageSchema)))]
async fn commits(
    _: Authorized,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let path = params.text("path")?.unwrap_or_default();
    let limit = params.number("limit", 1..=200, 50)?;
    params.end()?;
    let commits = GitCommits::new(path).with_limit(u32::try_from(limit).unwrap_or(200));
    Ok(HttpResponse::Ok().json(shared.engine.workspace(&name).await?.ask(commits).await?))
}
