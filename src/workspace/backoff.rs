//! Waiting between tries.

use std::time::{Duration, Instant};

use crate::Failure;

/// The wait after so many tries: the first, doubled each time, up to the longest.
pub(crate) fn doubled(first: Duration, longest: Duration, times: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(times)).min(longest)
}

/// Asks again while the failure may pass, with waits from `first` to `longest`, until it would be later than `give_up`.
/// For requests that do no harm when they are carried out twice.
pub(super) async fn until_answered<T, F: Future<Output = Result<T, Failure>>>(
    give_up: Instant,
    (first, longest): (Duration, Duration),
    request: impl Fn() -> F,
) -> Result<T, Failure> {
    let mut tries = 0;
    loop {
        let wait = doubled(first, longest, tries);
        match request().await {
            Err(failure) if failure.kind.is_transient() && Instant::now() + wait < give_up => {
                actix_rt::time::sleep(wait).await;
                tries += 1;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_the_longest_and_never_overflows() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|times| doubled(first, longest, times).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(doubled(first, longest, u32::MAX), longest);
    }
}
