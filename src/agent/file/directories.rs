use std::{
    fs, io,
    path::{Path, PathBuf},
};

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::agent::http::{ApiError, ApiResult, os_error_text};

/// How many directories of the home are offered.
const MOST_FAVORITES: usize = 50;

/// Creates a directory and its parents; one that is there already is fine. Blocks.
pub(super) fn create(path: &Path) -> ApiResult<()> {
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(ApiError::internal("Failed to create directory: embedded null byte"));
    }
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            ApiError::bad_request("Path exists and is not a directory")
        }
        io::ErrorKind::PermissionDenied => denied(&error, path),
        _ => ApiError::internal(format_args!("Failed to create directory: {}", os_error_text(&error, path))),
    })
}

fn denied(error: &io::Error, path: &Path) -> ApiError {
    ApiError::detail(StatusCode::FORBIDDEN, format!("Permission denied: {}", os_error_text(error, path)))
}

/// Refuses what is not an existing directory. Blocks.
pub(super) fn check_directory(path: &Path) -> ApiResult<()> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(ApiError::bad_request("Path is not a directory")),
        Err(_) => Err(ApiError::detail(StatusCode::NOT_FOUND, "Directory not found")),
    }
}

/// The names of the directories in a directory, links left out.
fn subdirectories(path: &Path, hidden: bool) -> io::Result<Vec<String>> {
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let names = fs::read_dir(path)?
        .filter_map(Result::ok)
        .filter(is_directory)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| hidden || !name.starts_with('.'));
    let mut names: Vec<_> = names.collect();
    names.sort_by_cached_key(|name| (name.to_lowercase(), name.clone()));
    Ok(names)
}

/// One page of the directories in a directory, from the one called `page_id` on. Blocks.
pub(super) fn search(path: &Path, page_id: Option<&str>, limit: usize, hidden: bool) -> ApiResult<Value> {
    check_directory(path)?;
    let names = subdirectories(path, hidden).map_err(|error| denied(&error, path))?;
    let start = page_id.map_or(0, |page_id| {
        let exact = names.iter().position(|name| name == page_id);
        exact.or_else(|| names.iter().position(|name| name.to_lowercase() == page_id)).unwrap_or(0)
    });
    let page = names.iter().skip(start).take(limit);
    let items: Vec<_> = page.map(|name| json!({ "name": name, "path": path.join(name) })).collect();
    Ok(json!({ "items": items, "next_page_id": names.get(start + limit) }))
}

/// The home directory and where to go from there. Blocks.
pub(super) fn home(hidden: bool) -> Value {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let favorites = subdirectories(&home, hidden).unwrap_or_default();
    let favorites = favorites.iter().take(MOST_FAVORITES);
    let favorites: Vec<_> = favorites.map(|name| json!({ "label": name, "path": home.join(name) })).collect();
    json!({ "home": home, "favorites": favorites, "locations": [{ "label": "/", "path": "/" }] })
}
