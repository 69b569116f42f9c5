use serde::{Deserialize, Serialize};

/// The answer to an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadReply {
    /// Always true; failures have an error status.
    pub success: bool,
    /// The bytes written. Servers up to 1.43 do not say.
    #[serde(default)]
    pub file_size: Option<u64>,
}

/// An answer that says only that it went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// Always true; failures have an error status.
    pub success: bool,
}

/// The answer to `GET /api/file/home`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeReply {
    /// The home directory of the server's user.
    pub home: String,
}

/// One entry of [`SubdirPage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubdirEntry {
    /// The directory's own name.
    pub name: String,
    /// Its absolute path.
    pub path: String,
}

/// One page of `GET /api/file/search_subdirs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubdirPage {
    /// The directories of this page.
    pub items: Vec<SubdirEntry>,
    /// Where the next page starts, absent on the last page.
    #[serde(default)]
    pub next_page_id: Option<String>,
}
