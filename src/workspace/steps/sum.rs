//! SHA-256 on both sides of a transfer.

use std::{fmt::Write as _, rc::Rc, time::Duration};

use ring::digest::{Context, SHA256};

use super::helper;
use crate::{
    ErrorKind, Failure,
    workspace::{backoff::Retry, core::Core, shell},
};

/// What scripts exit with when the sandbox has no `sha256sum`.
pub(super) const NO_SHA256SUM: i32 = 97;

/// The slowest that a sandbox is expected to read a file.
const READ_PER_SECOND: u64 = 32 << 20;

/// The SHA-256 of what goes by.
pub(super) struct Sum(Context);

impl Sum {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// In hexadecimal digits.
    pub(super) fn finish(self) -> String {
        let digest = self.0.finish();
        digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a text can not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// How long a command may take that reads a file of this size.
pub(super) fn patience(size: u64) -> Duration {
    helper::PATIENCE + Duration::from_secs(size / READ_PER_SECOND)
}

/// The beginning of a script that needs `sha256sum`.
pub(super) fn needed() -> String {
    format!("command -v sha256sum >/dev/null 2>&1 || exit {NO_SHA256SUM}; ")
}

pub(super) fn missing() -> ErrorKind {
    let detail =
        "the sandbox has no `sha256sum`, which was to check the file: install it there, or do without the check";
    ErrorKind::Rejected { status: 200, detail: detail.to_owned() }
}

/// The SHA-256 of a file of the sandbox, of which the size is known.
pub(super) async fn of_remote(core: &Rc<Core>, retry: &Retry, path: &str, size: u64) -> Result<String, Failure> {
    let script = format!("{}sha256sum <{}", needed(), shell::quote(path));
    let output = retry.until_answered(|| helper::run_within(core, script.clone(), patience(size))).await?;
    let said = output.stdout.as_deref().and_then(|text| text.split_whitespace().next()).unwrap_or_default();
    match output.exit_code {
        Some(0) if said.len() == 64 => Ok(said.to_owned()),
        Some(NO_SHA256SUM) => Err(Failure::not_sent(missing())),
        code => {
            let words = output.stderr.as_deref().unwrap_or_default().trim();
            let detail = format!("the SHA-256 of {path} could not be told there (exit code {code:?}): {words}");
            Err(Failure::not_sent(ErrorKind::Rejected { status: 200, detail }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_standard() {
        let mut sum = Sum::new();
        sum.add(b"a");
        sum.add(b"bc");
        assert_eq!(sum.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
