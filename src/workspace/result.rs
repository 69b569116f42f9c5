use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::protocol::{EventId, Trace};

/// How a command ended; the `CommandResult` of the Python class, with more known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// The command as the caller wrote it.
    pub command: String,
    /// The exit code: the command's own, -N when signal N ended it, -1 when it could not be started or ran out of
    /// time. [`raw_exit_code`](Self::raw_exit_code) tells those apart.
    pub exit_code: i32,
    /// Everything it wrote to its standard output, unless [`truncated`](Self::truncated).
    pub stdout: String,
    /// Everything it wrote to its standard error, unless [`truncated`](Self::truncated).
    pub stderr: String,
    /// Whether it was ended because its time was up. The output up to then is kept.
    pub timeout_occurred: bool,
    /// Whether it was ended because somebody asked for that.
    #[serde(default)]
    pub stopped: bool,
    /// The exit code that the server reported, if it reported one: after a timeout the real one, where
    /// [`exit_code`](Self::exit_code) is -1.
    #[serde(default)]
    pub raw_exit_code: Option<i32>,
    /// The id that the server gave the command.
    pub command_id: EventId,
    /// From the answer to its start to the sight of its end.
    #[serde(with = "millis", rename = "duration_ms")]
    pub duration: Duration,
    /// How many bytes it wrote to its standard output, kept or not.
    #[serde(default)]
    pub stdout_bytes: u64,
    /// How many bytes it wrote to its standard error, kept or not.
    #[serde(default)]
    pub stderr_bytes: u64,
    /// Whether output is missing: it was beyond the bound and left out of the middle, or the command's time was up and its
    /// last event never came.
    #[serde(default)]
    pub truncated: bool,
    /// What the message belongs to, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Arc<Trace>>,
}

impl CommandResult {
    /// Whether the command ran to its end and exited with 0.
    #[must_use]
    pub const fn success(&self) -> bool {
        self.exit_code == 0 && !self.timeout_occurred && !self.stopped
    }
}

/// How a transfer ended; the `FileOperationResult` of the Python class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOperationResult {
    /// Whether the whole file arrived.
    pub success: bool,
    /// Where it was read: a local path for an upload, a remote one for a download. `<bytes>` for an upload from memory.
    pub source_path: String,
    /// Where it was written.
    pub destination_path: String,
    /// Its size in bytes; that of all files of a directory.
    pub file_size: Option<u64>,
    /// How many files and links a directory had; absent for a single file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The SHA-256 of the file in hexadecimal digits, where it was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Always absent here; failures are errors. It is filled by the conversion to what the Python
    /// class returns.
    pub error: Option<String>,
    /// What the message belongs to, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Arc<Trace>>,
}

/// Durations as whole milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Durations that may be absent, as whole milliseconds or null.
pub(crate) mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::millis::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Option::<u64>::deserialize(deserializer).map(|millis| millis.map(Duration::from_millis))
    }
}
