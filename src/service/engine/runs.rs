use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Claim, Engine, EngineError, Made, Page, RunFollowed, Started,
    listing::list_newest,
    lock, new_id,
    run_request::{RunRequest, complete, read_jobs, read_spec},
};
use crate::{
    JobSender, RunHandle, RunSpec,
    fleet::{Job, RunEvent, RunEventKind, RunProgress, RunSummary, Work},
    protocol::EventId,
    service::{
        StoreError,
        store::{Change, Log, Order, RunJobs, RunRecord, RunState, Table, Unfinished},
    },
};

const LOCATION: &str = "/v1/runs/";

/// How many times jobs can be added to one run.
const MOST_BATCHES: u64 = 1_000_000;

/// Where a run of the service is.
pub(crate) fn run_location(id: EventId) -> String {
    format!("{LOCATION}{id}")
}

impl Engine {
    /// Writes a run down and begins it, also when nobody waits for that any more. With a claim it is begun once, however often
    /// this is asked for.
    pub(crate) async fn start_run(
        self: &Arc<Self>,
        request: RunRequest,
        claim: Option<Claim>,
    ) -> Result<Started, EngineError> {
        let engine = Arc::clone(self);
        let claimed = claim.clone();
        match self.once(claim, async move { engine.begin_run(request, claimed.as_ref()).await }).await? {
            Made::New(id) => Ok(Started { id, is_new: true }),
            Made::Before(location) => {
                let id = location.strip_prefix(LOCATION).and_then(|id| id.parse().ok());
                Ok(Started { id: id.ok_or(EngineError::KeyReused)?, is_new: false })
            }
        }
    }

    async fn begin_run(self: &Arc<Self>, request: RunRequest, claim: Option<&Claim>) -> Result<EventId, EngineError> {
        if lock(&self.runs).len() >= self.limits.runs {
            return Err(EngineError::Overloaded(format!(
                "{} runs go on already, and no more may at once: wait until one has ended, or start the service with a larger \
                 --max-runs",
                self.limits.runs
            )));
        }
        let RunRequest { spec, secret_env, open } = request;
        let (spec, bytes) = read_spec(spec)?;
        if open && !matches!(spec.work, Work::Jobs(_)) {
            return Err(EngineError::Invalid("only a run of jobs is `open` for more of them".to_owned()));
        }
        let id = new_id();
        let place = id.to_string();
        let seal = |(name, value): (&String, &SecretString)| Ok((name.clone(), self.sealer.seal(&place, value)?));
        let record = RunRecord {
            id,
            spec,
            sealed_bytes: self.seal_bytes(&place, &bytes)?,
            sealed_env: secret_env.iter().map(seal).collect::<Result<_, StoreError>>()?,
            open,
            cancelled: false,
            state: RunState::Running,
            created: Timestamp::now(),
            ended: None,
            summary: None,
            error: None,
        };
        let log = self.logs.writable(id)?;
        let changes = vec![Table::Runs.put(id, &record), Table::Unfinished.put(id, &Unfinished::Run)];
        if let Err(error) = self.commit_claimed(claim, &run_location(id), changes).await {
            drop(log);
            self.logs.remove(id);
            return Err(error);
        }
        let spec = completed(record.spec.clone(), &bytes, &secret_env);
        let run = Arc::new(RunFollowed::new(record, log, 0));
        lock(&self.runs).insert(id, Arc::clone(&run));
        self.carry_out_run(run, spec, 0);
        Ok(id)
    }

    fn seal_bytes(&self, place: &str, bytes: &[Bytes]) -> Result<Vec<String>, StoreError> {
        bytes.iter().map(|bytes| self.sealer.seal(place, &STANDARD.encode(bytes).into())).collect()
    }

    fn unseal_bytes(&self, place: &str, sealed: &[String]) -> Result<Vec<Bytes>, StoreError> {
        let open = |sealed: &String| {
            let text = self.sealer.open_text(place, sealed)?;
            let bytes = STANDARD.decode(text.expose_secret());
            bytes.map(Bytes::from).map_err(|error| StoreError::Database(error.to_string()))
        };
        sealed.iter().map(open).collect()
    }

    fn unseal_env(&self, record: &RunRecord) -> Result<BTreeMap<String, SecretString>, StoreError> {
        let place = record.id.to_string();
        let open = |(name, sealed): (&String, &String)| Ok((name.clone(), self.sealer.open_text(&place, sealed)?));
        record.sealed_env.iter().map(open).collect()
    }

    /// What a stored run does, with its secrets and the jobs that were added to it, and how many times there were some.
    pub(super) fn stored_spec(&self, record: &RunRecord) -> Result<(RunSpec, u64), StoreError> {
        let secrets = self.unseal_env(record)?;
        let bytes = self.unseal_bytes(&record.id.to_string(), &record.sealed_bytes)?;
        let mut spec = completed(record.spec.clone(), &bytes, &secrets);
        let mut batch = 0;
        if let Work::Jobs(all) = &mut spec.work {
            while let Some(jobs) = self.stored_jobs(record, batch, &secrets)? {
                all.extend(jobs);
                batch += 1;
            }
        }
        Ok((spec, batch))
    }

    fn stored_jobs(
        &self,
        record: &RunRecord,
        batch: u64,
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<Option<Vec<Job>>, StoreError> {
        let key = batch_key(record.id, batch);
        let Some(bytes) = self.store.get(Table::RunJobs, &key)? else { return Ok(None) };
        let RunJobs { mut jobs, sealed_bytes } = Table::RunJobs.read(&key, &bytes)?;
        let bytes = self.unseal_bytes(&record.id.to_string(), &sealed_bytes)?;
        jobs.iter_mut().for_each(|job| complete(job, &bytes, secrets));
        Ok(Some(jobs))
    }

    /// Carries a run out in the background, or goes on with it.
    pub(super) fn carry_out_run(self: &Arc<Self>, run: Arc<RunFollowed>, spec: RunSpec, batch: u64) {
        let record = run.record();
        let handle = self.fleet.run(spec.with_id(record.id));
        let _ = run.cancel.set(Box::new(handle.canceller()));
        self.events.run(&record, run.counts());
        // Somebody may have cancelled it before there was a way to.
        if run.record().cancelled {
            handle.cancel();
        }
        let jobs = record.open.then(|| handle.jobs());
        let (engine, fed) = (Arc::clone(self), Arc::clone(&run));
        if let Some(jobs) = jobs {
            self.spawn(async move { engine.feed(&fed, &jobs, batch).await });
        }
        let engine = Arc::clone(self);
        self.spawn(async move { engine.follow_run(&run, handle).await });
    }

    /// Hands on the jobs that are added, as the run takes them, until no more come.
    async fn feed(&self, run: &RunFollowed, sender: &JobSender, mut batch: u64) {
        let secrets = match self.unseal_env(&run.record()) {
            Ok(secrets) => secrets,
            Err(error) => return log::error!("jobs of run {} are left out: {error}", run.record().id),
        };
        loop {
            let more = run.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            // Whoever closes it has added all that is added before.
            let is_open = run.record().open;
            match self.stored_jobs(&run.record(), batch, &secrets) {
                Ok(Some(jobs)) => {
                    for job in jobs {
                        if sender.add(job).await.is_err() {
                            // It was cancelled.
                            return;
                        }
                    }
                    batch += 1;
                    continue;
                }
                Ok(None) if !is_open => return,
                Ok(None) => {}
                Err(error) => return log::error!("jobs of run {} are left out: {error}", run.record().id),
            }
            tokio::select! {
                () = more => {}
                () = self.ending.cancelled() => return,
            }
        }
    }

    async fn follow_run(&self, run: &RunFollowed, mut handle: RunHandle) {
        loop {
            let event = tokio::select! {
                biased;
                // Let go of, to be taken up again by the next service.
                () = self.ending.cancelled() => break,
                event = handle.next() => event,
            };
            let Some(event) = event else { break };
            let ended = match &event.kind {
                RunEventKind::RunFinished(summary) => Some(summary.clone()),
                _ => None,
            };
            // It counts as kept when the next one is asked for.
            if !self.keep_event(run, event).await {
                break;
            }
            if ended.is_some() {
                return self.finish_run(run, ended, None).await;
            }
        }
        // When it was not the service that ended, its fleet was.
        self.let_go(handle).await;
    }

    /// Keeps the handle of a run, whose drop would stop its commands, until the workspaces have let go of them.
    async fn let_go(&self, handle: RunHandle) {
        lock(&self.let_go).push(handle);
    }

    /// Writes down how a run ended.
    pub(super) async fn finish_run(&self, run: &RunFollowed, summary: Option<RunSummary>, error: Option<String>) {
        let finished = |record: &mut RunRecord| record.end(summary, error);
        let id = run.record().id;
        self.change_run(run, finished, &[Change::Remove(Table::Unfinished, id.to_string())]).await;
        run.log().finish();
        run.more.notify_waiters();
        lock(&self.runs).remove(&id);
    }

    /// Adds jobs to a run that is open for them.
    pub(crate) async fn add_jobs(
        self: &Arc<Self>,
        id: EventId,
        jobs: Vec<Value>,
        claim: Option<Claim>,
    ) -> Result<Arc<RunRecord>, EngineError> {
        let engine = Arc::clone(self);
        let claimed = claim.clone();
        let add = async move {
            let run = engine.open_run(id)?;
            let (jobs, bytes) = read_jobs(jobs)?;
            let sealed_bytes = engine.seal_bytes(&id.to_string(), &bytes)?;
            let mut batches = run.changing.lock().await;
            // Whoever closes it changes it, too.
            engine.open_run(id)?;
            if batches.count >= MOST_BATCHES {
                return Err(EngineError::Conflict(format!("jobs were added to this run {MOST_BATCHES} times already")));
            }
            let batch = Table::RunJobs.put(batch_key(id, batches.count), &RunJobs { jobs, sealed_bytes });
            engine.commit_claimed(claimed.as_ref(), &run_location(id), vec![batch]).await?;
            batches.count += 1;
            run.more.notify_waiters();
            Ok(())
        };
        self.once(claim, add).await?;
        self.run_record(id)
    }

    fn open_run(&self, id: EventId) -> Result<Arc<RunFollowed>, EngineError> {
        let run = self.going_run(id).filter(|run| run.record().open && !run.record().cancelled);
        match run {
            Some(run) => Ok(run),
            None => {
                self.run_record(id)?;
                let reason =
                    "the run takes no jobs: it was not started as `open`, or was closed, cancelled or has ended";
                Err(EngineError::Conflict(reason.to_owned()))
            }
        }
    }

    /// Says that no more jobs are added to a run: it ends with the last one.
    pub(crate) async fn close_run(self: &Arc<Self>, id: EventId) -> Result<Arc<RunRecord>, EngineError> {
        let engine = Arc::clone(self);
        let close = async move {
            if let Some(run) = engine.going_run(id).filter(|run| run.record().open) {
                engine.change_run(&run, |record| record.open = false, &[]).await;
                run.more.notify_waiters();
            }
            Ok(())
        };
        self.once(None, close).await?;
        self.run_record(id)
    }

    /// Cancels a run: no further target begins, what runs is stopped, `finally` steps are carried out; a second time, these are
    /// given up. A run that has ended is left as it is.
    pub(crate) async fn cancel_run(self: &Arc<Self>, id: EventId) -> Result<Arc<RunRecord>, EngineError> {
        let engine = Arc::clone(self);
        let cancel = async move {
            if let Some(run) = engine.going_run(id) {
                engine.change_run(&run, |record| record.cancelled = true, &[]).await;
                if let Some(cancel) = run.cancel.get() {
                    cancel();
                }
            }
            Ok(())
        };
        self.once(None, cancel).await?;
        self.run_record(id)
    }

    /// Runs, the newest first: those before the one that the page before ended with.
    pub(crate) async fn list_runs<T: Send + 'static>(
        self: &Arc<Self>,
        state: Option<RunState>,
        before: Option<EventId>,
        most: usize,
        tell: impl Fn(&Self, &RunRecord) -> T + Send + 'static,
    ) -> Result<Page<T>, EngineError> {
        /// What a filter looks at.
        #[derive(Deserialize)]
        struct Sight {
            state: RunState,
        }
        let engine = Arc::clone(self);
        self.blocking(move || {
            let picks = |sight: Sight| state.is_none_or(|state| sight.state == state);
            // What goes on is known better than it is written down.
            let told = |record: RunRecord| match engine.going_run(record.id) {
                Some(run) => tell(&engine, &run.record()),
                None => tell(&engine, &record),
            };
            list_newest(&*engine.store, Table::Runs, before, most, picks, told)
        })
        .await
    }

    /// The log of a run's events.
    pub(crate) fn run_log(&self, id: EventId) -> Result<Arc<Log>, EngineError> {
        if let Some(run) = self.going_run(id) {
            return Ok(Arc::clone(run.log()));
        }
        self.run_record(id)?;
        self.logs.readable(id)?.ok_or_else(|| EngineError::NotFound { what: "log of run", name: id.to_string() })
    }

    /// Goes on with a run of an earlier process, from what its log tells.
    pub(super) async fn take_up_run(self: Arc<Self>, run: Arc<RunFollowed>) {
        let (engine, reader) = (Arc::clone(&self), Arc::clone(&run));
        let read = move || {
            let told = read_progress(&reader)?;
            let stored = engine.stored_spec(&reader.record())?;
            Ok((told, stored))
        };
        match self.blocking(read).await {
            Ok(((_, Some(summary)), _)) => self.finish_run(&run, Some(summary), None).await,
            Ok(((progress, None), (spec, batch))) => {
                if let Work::Jobs(jobs) = &spec.work {
                    run.has_targets(jobs.len());
                }
                // Jobs that were added meanwhile are behind those that were read.
                self.carry_out_run(run, spec.with_progress(progress), batch);
            }
            Err(error) => {
                let reason = format!("it could not be gone on with when the service was started again: {error}");
                log::error!("run {}: {reason}", run.record().id);
                self.finish_run(&run, None, Some(reason)).await;
            }
        }
    }

    /// The keys of the jobs that were added to a run, with how many bytes they take.
    pub(super) fn batches(&self, id: EventId) -> Result<Vec<(String, u64)>, StoreError> {
        let (first, mut batches) = (format!("{id}/"), Vec::new());
        let mut from = first.clone();
        loop {
            let page = self.store.list(Table::RunJobs, Some(&from), Order::Ascending, 256)?;
            let before = batches.len();
            let of_run = page.into_iter().take_while(|(key, _)| key.starts_with(&first));
            batches.extend(of_run.map(|(key, bytes)| (key, bytes.len() as u64)));
            match batches.last().filter(|_| batches.len() > before) {
                Some((last, _)) => from.clone_from(last),
                None => return Ok(batches),
            }
        }
    }
}

fn batch_key(id: EventId, batch: u64) -> String {
    format!("{id}/{batch:07}")
}

fn completed(mut spec: RunSpec, bytes: &[Bytes], secrets: &BTreeMap<String, SecretString>) -> RunSpec {
    match &mut spec.work {
        Work::Each(job) => complete(job, bytes, secrets),
        Work::Jobs(jobs) => jobs.iter_mut().for_each(|job| complete(job, bytes, secrets)),
    }
    spec
}

/// How far a run had come, and how it ended if it did.
fn read_progress(run: &RunFollowed) -> Result<(RunProgress, Option<RunSummary>), StoreError> {
    let (mut progress, mut summary) = (RunProgress::default(), None);
    let read = run.log().scan(0, run.log().end(), |frame| {
        let event: RunEvent = serde_json::from_slice(&frame.payload()?)?;
        run.note(&event);
        progress.note(&event);
        if let RunEventKind::RunFinished(ended) = event.kind {
            summary = Some(ended);
        }
        Ok(true)
    });
    read.map_err(|error| StoreError::Database(format!("its log: {error}")))?;
    Ok((progress, summary))
}
