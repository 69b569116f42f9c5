//! What the process exits with.

use crate::{
    Outcome,
    fleet::{CancelReason, OutcomeCounts, TargetFinished, TargetValue},
};

/// All targets succeeded.
pub const SUCCESS: u8 = 0;
/// The program itself failed.
pub const INTERNAL_ERROR: u8 = 1;
/// The command line, the inventory or a local file is wrong; nothing was sent.
pub const USAGE: u8 = 2;
/// A command ran out of time, or the run did.
pub const COMMAND_TIMED_OUT: u8 = 3;
/// A workspace could not be used: unreachable, unauthorized, gone, rejected, server_error, protocol_error or
/// outcome_unknown.
pub const WORKSPACE_UNUSABLE: u8 = 4;
/// A command failed or was stopped; or stdout was closed before everything was written to it, whatever the commands did.
pub const COMMAND_FAILED: u8 = 5;
/// No workspace was selected.
pub const NOTHING_SELECTED: u8 = 6;
/// Too many targets failed, and the run ended before all had their turn or their end.
pub const MAX_FAIL_REACHED: u8 = 7;
/// Ctrl-C, or another signal that ends the program.
pub const INTERRUPTED: u8 = 130;

/// What is known of a run that decides the exit code.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) outcomes: OutcomeCounts,
    /// Whether the run was interrupted from here.
    pub(super) interrupted: bool,
    /// Why the run ended early, if it did.
    pub(super) cancelled: Option<CancelReason>,
    /// Whether a reader of what it gives went away before it had everything.
    pub(super) cut_short: bool,
    /// Whether the largest exit code of a remote command is asked for (`-S`).
    pub(super) largest_remote: bool,
    largest: u8,
}

impl Tally {
    pub(super) fn new(largest_remote: bool) -> Self {
        Self { largest_remote, ..Self::default() }
    }

    /// Counts one target.
    pub(super) fn add(&mut self, target: &TargetFinished) {
        self.outcomes.add(target.outcome);
        if let Some(TargetValue::Command(result)) = &target.value {
            self.largest = self.largest.max(process_code(result.exit_code));
        }
    }

    /// The exit code. The first that applies decides: 130, 7, 4, 3, 5.
    ///
    /// When a reader went away it is 130 or 5: how far the run had come by then is a matter of chance, and no code may depend
    /// on that.
    ///
    /// With `-S` it is the largest exit code of a remote command, if any command gave one other than 0. If none did, the
    /// rules above hold: a run of which half was unreachable has not gone well.
    pub(super) fn exit_code(&self) -> u8 {
        if self.interrupted {
            INTERRUPTED
        } else if self.cut_short {
            COMMAND_FAILED
        } else if self.largest_remote && self.largest != 0 {
            self.largest
        } else {
            let codes = self.outcomes.iter().filter(|(_, count)| *count > 0).map(|(outcome, _)| code_of(outcome));
            let codes = codes.chain(self.cancelled.map(code_of_cancellation));
            codes.min_by_key(|code| precedence(*code)).unwrap_or(SUCCESS)
        }
    }
}

/// The exit code of a run all of whose targets ended so.
const fn code_of(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => SUCCESS,
        Outcome::Failed | Outcome::Stopped => COMMAND_FAILED,
        Outcome::TimedOut => COMMAND_TIMED_OUT,
        Outcome::Unreachable
        | Outcome::Unauthorized
        | Outcome::Gone
        | Outcome::Rejected
        | Outcome::ServerError
        | Outcome::ProtocolError
        | Outcome::OutcomeUnknown => WORKSPACE_UNUSABLE,
        // Why they were skipped decides.
        Outcome::Skipped => SUCCESS,
    }
}

/// The exit code of a run that ended early for this reason.
const fn code_of_cancellation(reason: CancelReason) -> u8 {
    match reason {
        CancelReason::MaxFailWait | CancelReason::MaxFailImmediate => MAX_FAIL_REACHED,
        CancelReason::GlobalTimeout => COMMAND_TIMED_OUT,
        CancelReason::Drained | CancelReason::Cancelled => COMMAND_FAILED,
    }
}

/// Where a code stands in the order in which the first decides.
const fn precedence(code: u8) -> u8 {
    match code {
        INTERRUPTED => 0,
        MAX_FAIL_REACHED => 1,
        WORKSPACE_UNUSABLE => 2,
        COMMAND_TIMED_OUT => 3,
        COMMAND_FAILED => 4,
        _ => 5,
    }
}

/// A remote exit code as one of a process: a signal N is 128+N, as shells have it; what cannot be told is 255.
fn process_code(remote: i32) -> u8 {
    match remote {
        // A command that ran out of time or never started has no code of its own.
        -1 => 255,
        signal @ -127..=-2 => 128 + signal.unsigned_abs() as u8,
        code => u8::try_from(code).unwrap_or(255),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(outcomes: &[Outcome]) -> Tally {
        let mut tally = Tally::default();
        for outcome in outcomes {
            tally.outcomes.add(*outcome);
        }
        tally
    }

    #[test]
    fn the_first_that_applies_decides() {
        use Outcome::*;
        for (outcomes, code) in [
            (&[][..], 0),
            (&[Succeeded], 0),
            (&[Succeeded, Failed], 5),
            (&[Stopped], 5),
            (&[Failed, TimedOut], 3),
            (&[Failed, TimedOut, Unreachable], 4),
            (&[Succeeded, Skipped], 0),
        ] {
            assert_eq!(tally(outcomes).exit_code(), code, "{outcomes:?}");
            assert_eq!(Tally { interrupted: true, ..tally(outcomes) }.exit_code(), 130, "{outcomes:?}");
        }
    }

    #[test]
    fn why_a_run_ended_early_counts_as_well() {
        use Outcome::*;
        for (reason, outcomes, code) in [
            (CancelReason::MaxFailWait, &[Failed, TimedOut, Gone, Skipped][..], 7),
            (CancelReason::MaxFailImmediate, &[Failed, Stopped], 7),
            (CancelReason::GlobalTimeout, &[Succeeded, Skipped], 3),
            (CancelReason::GlobalTimeout, &[Failed, TimedOut, Skipped], 3),
            (CancelReason::GlobalTimeout, &[Unreachable, Skipped], 4),
            (CancelReason::Cancelled, &[Succeeded, Skipped], 5),
        ] {
            let tally = Tally { cancelled: Some(reason), ..tally(outcomes) };
            assert_eq!(tally.exit_code(), code, "{reason:?} {outcomes:?}");
        }
    }

    #[test]
    fn a_reader_that_went_away_is_one_code_whatever_had_happened_by_then() {
        use Outcome::*;
        for outcomes in [&[][..], &[Succeeded], &[Succeeded, Stopped, Skipped], &[Unreachable, TimedOut, Skipped]] {
            for (reason, largest) in
                [(None, 0), (Some(CancelReason::Cancelled), 77), (Some(CancelReason::MaxFailWait), 0)]
            {
                let mut ended = Tally { cancelled: reason, cut_short: true, largest, ..tally(outcomes) };
                ended.largest_remote = largest > 0;
                assert_eq!(ended.exit_code(), 5, "{ended:?}");
                ended.interrupted = true;
                assert_eq!(ended.exit_code(), 130, "{ended:?}");
            }
        }
    }

    #[test]
    fn the_decision_table_of_the_documentation_has_these_codes() {
        let lines = include_str!("../../docs/fleet.md").lines();
        let mut rows = 0;
        for line in lines.skip_while(|line| !line.starts_with("| what happens |")).skip(2).take(5) {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let reason: CancelReason = serde_json::from_str(&cells[3].replace('`', "\"")).unwrap();
            let interrupted = reason == CancelReason::Cancelled;
            let ended = Tally { cancelled: Some(reason), interrupted, ..tally(&[Outcome::Failed, Outcome::Skipped]) };
            assert_eq!(ended.exit_code().to_string(), cells[4], "{line}");
            rows += 1;
        }
        assert_eq!(rows, 5);
    }

    #[test]
    fn every_way_not_to_use_a_workspace_is_one_code() {
        use Outcome::*;
        for outcome in [Unreachable, Unauthorized, Gone, Rejected, ServerError, ProtocolError, OutcomeUnknown] {
            assert_eq!(tally(&[Succeeded, TimedOut, outcome]).exit_code(), 4, "{outcome}");
        }
    }

    #[test]
    fn the_largest_remote_code_when_asked_for() {
        let mut asked = tally(&[Outcome::Failed, Outcome::Unreachable]);
        asked.largest_remote = true;
        asked.largest = 77;
        assert_eq!(asked.exit_code(), 77);
        asked.largest = 0;
        assert_eq!(asked.exit_code(), 4, "no command failed, and still not all is well");
        asked.interrupted = true;
        assert_eq!(asked.exit_code(), 130);
    }

    #[test]
    fn remote_codes_fit_into_a_process() {
        for (remote, code) in [(0, 0), (3, 3), (255, 255), (-9, 137), (-15, 143), (-1, 255), (256, 255), (-300, 255)] {
            assert_eq!(process_code(remote), code, "{remote}");
        }
    }
}
