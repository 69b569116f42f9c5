use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// When a run ends early because too many of its targets failed.
///
/// Its text form is `N` or `N%`, and `:wait` (the default) or `:immediate` after it, as `10%:immediate`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaxFail {
    /// How many are too many. Every outcome but `succeeded` and `skipped` counts, `unreachable` included.
    pub limit: FailLimit,
    /// What happens to the targets that run when the limit is reached.
    pub then: OnMaxFail,
}

/// How many failed targets are too many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FailLimit {
    /// At least so many.
    Count(usize),
    /// At least so many of a hundred of the run's targets, and one at least.
    Percent(f64),
}

/// What happens to the targets that run when too many have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMaxFail {
    /// They run to their end.
    #[default]
    Wait,
    /// They are stopped.
    Immediate,
}

impl MaxFail {
    /// Whether so many failures of so many targets are too many.
    #[must_use]
    pub fn reached(&self, failed: usize, total: usize) -> bool {
        match self.limit {
            FailLimit::Count(count) => failed >= count,
            FailLimit::Percent(percent) => failed > 0 && failed as f64 * 100.0 >= percent * total as f64,
        }
    }
}

impl FromStr for MaxFail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("`{text}` is no limit of failures: give N or N%, as 10 or 5%, with :wait or :immediate after it")
        };
        let (limit, then) = match text.split_once(':') {
            None => (text, OnMaxFail::Wait),
            Some((limit, "wait")) => (limit, OnMaxFail::Wait),
            Some((limit, "immediate")) => (limit, OnMaxFail::Immediate),
            Some(_) => return Err(bad()),
        };
        let limit = match limit.strip_suffix('%') {
            Some(percent) => FailLimit::Percent(percent.parse().map_err(|_| bad())?),
            None => FailLimit::Count(limit.parse().map_err(|_| bad())?),
        };
        match limit {
            FailLimit::Count(0) => {
                Err("a limit of 0 failures would end every run before it began: give 1 or more".to_owned())
            }
            FailLimit::Percent(percent) if !(percent > 0.0 && percent <= 100.0) => Err(bad()),
            limit => Ok(Self { limit, then }),
        }
    }
}

impl fmt::Display for MaxFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            FailLimit::Count(count) => write!(f, "{count}")?,
            FailLimit::Percent(percent) => write!(f, "{percent}%")?,
        }
        f.write_str(match self.then {
            OnMaxFail::Wait => ":wait",
            OnMaxFail::Immediate => ":immediate",
        })
    }
}

impl TryFrom<String> for MaxFail {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MaxFail> for String {
    fn from(max_fail: MaxFail) -> Self {
        max_fail.to_string()
    }
}

/// Why a run ended early. The order is that of severity: a graver reason replaces a lesser one, never the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CancelReason {
    /// Too many targets failed; those that run go on to their end.
    MaxFailWait,
    /// The fleet is being drained; what runs goes on to its end, within the drain's bound.
    Drained,
    /// Too many targets failed; those that run are stopped.
    MaxFailImmediate,
    /// The run's own time was up.
    GlobalTimeout,
    /// Somebody cancelled it, or dropped its handle.
    Cancelled,
}

impl CancelReason {
    /// Whether targets that run are stopped.
    #[must_use]
    pub const fn stops_running(self) -> bool {
        !matches!(self, Self::MaxFailWait | Self::Drained)
    }

    /// The reason in words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::MaxFailWait | Self::MaxFailImmediate => "too many targets failed",
            Self::Drained => "the fleet was drained",
            Self::GlobalTimeout => "the run's time was up",
            Self::Cancelled => "the run was cancelled",
        }
    }
}

/// How fast a run begins targets, and how many at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pace {
    /// How many targets run at once, at least 1. Default: [`DEFAULT_FANOUT`](super::DEFAULT_FANOUT).
    pub fanout: usize,
    /// How many targets begin in a second at most; more than 0. Default: no bound.
    #[serde(default)]
    pub rate: Option<f64>,
    /// How many targets behind the same host and port run at once. Default: no bound.
    #[serde(default)]
    pub per_host: Option<usize>,
    /// How many targets with the same value of a label run at once. Default: no bound.
    #[serde(default)]
    pub per_label: Option<LabelCap>,
}

/// A bound for the targets that share the value of a label. Those without the label are not bound.
///
/// Its text form is `LABEL=N`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCap {
    /// The label.
    pub label: String,
    /// How many targets of each of its values run at once, at least 1.
    pub at_once: usize,
}

impl FromStr for LabelCap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.rsplit_once('=').and_then(|(label, count)| Some((label, count.parse().ok()?)));
        match read {
            Some((label, at_once @ 1..)) if !label.is_empty() => Ok(Self { label: label.to_owned(), at_once }),
            _ => Err(format!("`{text}` is no cap by label: give LABEL=N with N at least 1, as zone=4")),
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { fanout: super::DEFAULT_FANOUT, rate: None, per_host: None, per_label: None }
    }
}

impl Pace {
    /// The time between two starts.
    #[must_use]
    pub fn gap(&self) -> Duration {
        self.rate
            .filter(|rate| *rate > 0.0)
            .and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_the_events_has_every_reason() {
        let next = |reason: &CancelReason| match reason {
            CancelReason::MaxFailWait => Some(CancelReason::Drained),
            CancelReason::Drained => Some(CancelReason::MaxFailImmediate),
            CancelReason::MaxFailImmediate => Some(CancelReason::GlobalTimeout),
            CancelReason::GlobalTimeout => Some(CancelReason::Cancelled),
            CancelReason::Cancelled => None,
        };
        let reasons: Vec<_> = std::iter::successors(Some(CancelReason::MaxFailWait), next).collect();
        let schema: serde_json::Value = serde_json::from_str(include_str!("../../../docs/events.schema.json")).unwrap();
        assert_eq!(schema["$defs"]["reason"]["enum"], serde_json::to_value(reasons).unwrap());
    }

    #[test]
    fn a_limit_is_read_and_shown() {
        for (text, shown) in
            [("10", "10:wait"), ("5%", "5%:wait"), ("2.5%:immediate", "2.5%:immediate"), ("1:wait", "1:wait")]
        {
            assert_eq!(text.parse::<MaxFail>().unwrap().to_string(), shown);
        }
        for text in ["", "0", "-1", "101%", "0%", "NaN%", "10:now", "10:", "%"] {
            assert!(text.parse::<MaxFail>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_means_at_least() {
        let reached = |text: &str, failed, total| text.parse::<MaxFail>().unwrap().reached(failed, total);
        assert!(!reached("10", 9, 100) && reached("10", 10, 100));
        assert!(!reached("5%", 4, 100) && reached("5%", 5, 100));
        assert!(!reached("1%", 0, 10) && reached("1%", 1, 10));
    }

    #[test]
    fn a_graver_reason_is_greater() {
        assert!(CancelReason::MaxFailWait < CancelReason::MaxFailImmediate);
        assert!(CancelReason::GlobalTimeout < CancelReason::Cancelled);
        assert!(!CancelReason::MaxFailWait.stops_running());
    }

    #[test]
    fn a_rate_is_a_gap() {
        let gap = |rate| Pace { rate, ..Pace::default() }.gap();
        assert_eq!(gap(Some(4.0)), Duration::from_millis(250));
        for none in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(gap(none), Duration::ZERO, "{none:?}");
        }
    }
}
