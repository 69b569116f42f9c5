use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::EngineError;
use crate::{
    RunOperation, RunSpec,
    fleet::{Job, Work},
    messages::{ExecuteCommand, StartCommand, Stdin, UploadSource},
    service::strict,
};

/// A run that is to be started.
pub(crate) struct RunRequest {
    /// What is done, as JSON of a [`RunSpec`] in which bytes are given as `{"base64": ...}` where files of this machine are not
    /// allowed.
    pub(crate) spec: Map<String, Value>,
    /// Secret variables for each of its commands.
    pub(crate) secret_env: BTreeMap<String, SecretString>,
    /// Whether jobs are added later.
    pub(crate) open: bool,
}

/// The most that is kept of each stream of a command in the events of a run.
const MAX_OUTPUT: usize = 1 << 20;

/// The most bytes that are given in one request.
const MAX_BYTES: usize = 2 << 20;

/// How bytes are named in what is stored: by their number.
const NAMED: &str = "inline:";

/// Reads the spec of a run, and what is given as bytes in it.
pub(super) fn read_spec(mut spec: Map<String, Value>) -> Result<(RunSpec, Vec<Bytes>), EngineError> {
    for name in ["id", "progress"] {
        if spec.contains_key(name) {
            return Err(EngineError::Invalid(format!("`{name}` of a run is the service's: leave it out")));
        }
    }
    let mut bytes = Vec::new();
    if let Some(work) = spec.get_mut("work").and_then(Value::as_object_mut) {
        if let Some(job) = work.get_mut("each") {
            take_bytes(job, &mut bytes)?;
        }
        if let Some(Value::Array(jobs)) = work.get_mut("jobs") {
            jobs.iter_mut().try_for_each(|job| take_bytes(job, &mut bytes))?;
        }
    }
    let spec: RunSpec = read_strictly("a run", Value::Object(spec))?;
    match &spec.work {
        Work::Each(job) => check_job(job)?,
        Work::Jobs(jobs) => check_jobs(jobs)?,
    }
    Ok((spec, bytes))
}

/// Reads jobs that are to be added to a run, and what is given as bytes in them.
pub(super) fn read_jobs(mut jobs: Vec<Value>) -> Result<(Vec<Job>, Vec<Bytes>), EngineError> {
    let mut bytes = Vec::new();
    jobs.iter_mut().try_for_each(|job| take_bytes(job, &mut bytes))?;
    let jobs: Vec<Job> = read_strictly("the list of jobs", Value::Array(jobs))?;
    check_jobs(&jobs)?;
    Ok((jobs, bytes))
}

/// Reads what is given, of which nothing is passed over.
fn read_strictly<T: DeserializeOwned>(what: &str, given: Value) -> Result<T, EngineError> {
    match strict::read(given).map_err(|error: serde_json::Error| EngineError::Invalid(error.to_string()))? {
        (value, None) => Ok(value),
        (_, Some(path)) => Err(EngineError::Invalid(format!("{what} has no setting `{path}`"))),
    }
}

fn check_jobs(jobs: &[Job]) -> Result<(), EngineError> {
    for job in jobs {
        if job.name.as_deref().is_none_or(str::is_empty) {
            return Err(EngineError::Invalid("each job of a run has a `name`, unique within the run".to_owned()));
        }
        check_job(job)?;
    }
    Ok(())
}

fn check_job(job: &Job) -> Result<(), EngineError> {
    for step in job.steps.iter().chain(&job.finally) {
        let local = match &step.operation {
            RunOperation::Download(_) | RunOperation::DownloadDirectory(_) => "a download writes to",
            RunOperation::UploadDirectory(_) => "the upload of a directory reads from",
            _ => continue,
        };
        return Err(EngineError::Invalid(format!(
            "{local} the service's own machine, which a run cannot do: use the file routes of a workspace"
        )));
    }
    Ok(())
}

/// Puts a name in the place of each text of bytes in a job, and takes those out. Paths of this machine are refused.
fn take_bytes(job: &mut Value, bytes: &mut Vec<Bytes>) -> Result<(), EngineError> {
    for steps in ["steps", "finally"] {
        let Some(Value::Array(steps)) = job.get_mut(steps) else { continue };
        for step in steps {
            let Some(Value::Object(operation)) = step.get_mut("operation") else { continue };
            if let Some(source) = operation.get_mut("upload").and_then(|upload| upload.get_mut("source")) {
                take(source, "the source of an upload", bytes)?;
            }
            let command = if operation.contains_key("start") { "start" } else { "execute" };
            let Some(command) = operation.get_mut(command) else { continue };
            if command.get("secret_env").is_some() {
                let reason =
                    "secret variables of a run are given once, in its own `secret_env`, for all of its commands";
                return Err(EngineError::Invalid(reason.to_owned()));
            }
            for name in ["process_id", "resume"] {
                if command.get(name).is_some() {
                    return Err(EngineError::Invalid(format!("`{name}` of a run's command is the service's")));
                }
            }
            if let Some(stdin) = command.get_mut("stdin").filter(|stdin| !stdin.is_null()) {
                take(stdin, "stdin", bytes)?;
            }
        }
    }
    Ok(())
}

fn take(source: &mut Value, what: &str, bytes: &mut Vec<Bytes>) -> Result<(), EngineError> {
    let refused = || {
        EngineError::Invalid(format!(
            "{what} is given in the request as {{\"base64\": \"...\"}}: files of the service's own machine are not read"
        ))
    };
    let text = source.get("base64").and_then(Value::as_str).ok_or_else(refused)?;
    let decoded = STANDARD.decode(text).map_err(|error| EngineError::Invalid(format!("{what}: {error}")))?;
    let taken: usize = bytes.iter().map(Bytes::len).sum();
    if taken + decoded.len() > MAX_BYTES {
        let reason =
            format!("{what}: one request holds at most {MAX_BYTES} bytes: upload larger files to each workspace");
        return Err(EngineError::Invalid(reason));
    }
    *source = serde_json::json!({ "path": format!("{NAMED}{}", bytes.len()) });
    bytes.push(decoded.into());
    Ok(())
}

/// Makes a job complete that was stored: with bytes, with the secret variables of its run, and within the bounds of its events.
pub(super) fn complete(job: &mut Job, bytes: &[Bytes], secrets: &BTreeMap<String, SecretString>) {
    let named = |path: &PathBuf| {
        let number = path.to_str()?.strip_prefix(NAMED)?.parse::<usize>().ok()?;
        bytes.get(number).cloned()
    };
    for step in job.steps.iter_mut().chain(&mut job.finally) {
        match &mut step.operation {
            RunOperation::Upload(upload) => {
                if let UploadSource::Path(path) = &upload.source {
                    upload.source = UploadSource::Bytes(named(path).unwrap_or_default());
                }
            }
            RunOperation::Execute(command) | RunOperation::Start(StartCommand(command)) => {
                if let Some(Stdin::Path(path)) = &command.stdin {
                    command.stdin = Some(Stdin::Bytes(named(path).unwrap_or_default()));
                }
                complete_command(command, secrets);
            }
            RunOperation::Attach(attach) => attach.max_output = attach.max_output.min(MAX_OUTPUT),
            _ => {}
        }
    }
}

fn complete_command(command: &mut ExecuteCommand, secrets: &BTreeMap<String, SecretString>) {
    command.max_output = command.max_output.min(MAX_OUTPUT);
    for (name, value) in secrets {
        command.secret_env.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(operation: &Value) -> Result<(RunSpec, Vec<Bytes>), EngineError> {
        let spec = json!({ "selector": {}, "work": { "each": { "steps": [{ "operation": operation }] } } });
        let Value::Object(spec) = spec else { unreachable!() };
        read_spec(spec)
    }

    #[test]
    fn bytes_are_taken_out_of_what_is_stored_and_put_back_into_what_is_carried_out() {
        let upload = json!({ "upload": { "source": { "base64": "aGkh" }, "destination": "/tmp/f" } });
        let (spec, bytes) = read(&upload).unwrap();
        assert!(!serde_json::to_string(&spec).unwrap().contains("aGkh"));
        let Work::Each(mut job) = spec.work else { panic!() };
        complete(&mut job, &bytes, &BTreeMap::new());
        let RunOperation::Upload(upload) = &job.steps[0].operation else { panic!() };
        let UploadSource::Bytes(bytes) = &upload.source else { panic!("{:?}", upload.source) };
        assert_eq!(bytes.as_ref(), b"hi!");
    }

    #[test]
    fn nothing_of_the_services_own_machine_is_read_or_written() {
        for operation in [
            json!({ "upload": { "source": { "path": "/etc/passwd" }, "destination": "/tmp/f" } }),
            json!({ "upload": { "source": { "path": "inline:0" }, "destination": "/tmp/f" } }),
            json!({ "execute": { "command": "cat", "stdin": { "path": "/etc/passwd" } } }),
            json!({ "start": { "command": "cat", "stdin": { "path": "/etc/passwd" } } }),
            json!({ "download": { "source": "/tmp/f", "destination": "/tmp/g" } }),
            json!({ "upload_directory": { "source": "/etc", "destination": "/tmp/f" } }),
            json!({ "download_directory": { "source": "/tmp/f", "destination": "/tmp/g" } }),
        ] {
            let refused = read(&operation).map(drop).unwrap_err().to_string();
            assert!(refused.contains("service's own machine"), "{operation}: {refused}");
        }
    }
}
