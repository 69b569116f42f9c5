//! One case of the suite, and how it is run against one server.

use std::{
    panic::AssertUnwindSafe,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::LocalBoxFuture};
use libtest_mimic::{Failed, Trial};

use crate::{
    sandbox::Sandbox,
    support::server::{Kind, Server},
};

/// What has to hold on every server that it is for.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    name: &'static str,
    run: for<'a> fn(&'a Sandbox) -> LocalBoxFuture<'a, ()>,
    is_for: fn(Kind) -> bool,
    alone: bool,
    limit: Duration,
}

/// A case named like the function that it is.
macro_rules! case {
    ($function:ident) => {
        $crate::case::Case::new(stringify!($function), |sandbox| Box::pin($function(sandbox)))
    };
}
pub(crate) use case;

/// Held for writing by a case that measures, so that nothing else runs meanwhile.
static MACHINE: RwLock<()> = RwLock::new(());

impl Case {
    pub(crate) const fn new(name: &'static str, run: for<'a> fn(&'a Sandbox) -> LocalBoxFuture<'a, ()>) -> Self {
        Self { name, run, is_for: |_| true, alone: false, limit: Duration::from_secs(120) }
    }

    /// Runs while no other case does, because it measures time or memory.
    pub(crate) const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Is only for some servers.
    pub(crate) const fn only(mut self, is_for: fn(Kind) -> bool) -> Self {
        self.is_for = is_for;
        self
    }

    /// May take longer than two minutes.
    pub(crate) const fn within(mut self, minutes: u64) -> Self {
        self.limit = Duration::from_secs(60 * minutes);
        self
    }

    /// This case against that server; `None` when it is not for it.
    pub(crate) fn on(self, kind: Kind, theme: &str) -> Option<Trial> {
        (self.is_for)(kind).then(|| {
            let name = format!("{kind}::{theme}::{}", self.name);
            Trial::test(name.clone(), move || self.attempt(kind, &name))
        })
    }

    fn attempt(self, kind: Kind, name: &str) -> Result<(), Failed> {
        let (_together, _alone) = if self.alone {
            (None, Some(MACHINE.write().unwrap_or_else(PoisonError::into_inner)))
        } else {
            (Some(MACHINE.read().unwrap_or_else(PoisonError::into_inner)), None)
        };
        // A server that boots keeps the machine busy, too.
        let server = Server::get(kind)?;
        let _took = Took { name, began: Instant::now() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            let sandbox = Sandbox::new(server).await;
            let case = AssertUnwindSafe((self.run)(&sandbox)).catch_unwind();
            let result = tokio::time::timeout(self.limit, case).await;
            let left = sandbox.end().await;
            match result {
                Err(_) => Err(format!("not done after {:?}", self.limit).into()),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Ok(Ok(())) if !left.is_empty() => Err(format!("processes were left: {left:#?}").into()),
                Ok(Ok(())) => Ok(()),
            }
        })
    }
}

/// Says how long a case took, where `WSFLEET_TIMES=1` asks for that.
struct Took<'a> {
    name: &'a str,
    began: Instant,
}

impl Drop for Took<'_> {
    fn drop(&mut self) {
        if std::env::var("WSFLEET_TIMES").is_ok_and(|value| value == "1") {
            eprintln!("{:>8.2} s  {}", self.began.elapsed().as_secs_f64(), self.name);
        }
    }
}
