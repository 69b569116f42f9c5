use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// A bucket of tokens for each caller. A request takes one; they come back over time. Callers are those that have a key, and
/// one for all that have none, so that there are never many.
pub(crate) struct RateLimiter {
    per_second: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimiter {
    /// So many requests a second on average, and as many at once; 0 is no bound.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), buckets: Mutex::default() }
    }

    /// Takes a token of this caller.
    ///
    /// # Errors
    /// There is none; in so many seconds there will be one.
    pub(crate) fn take(&self, caller: &str, now: Instant) -> Result<(), u64> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = match buckets.get_mut(caller) {
            Some(bucket) => bucket,
            None => buckets.entry(caller.to_owned()).or_insert(Bucket { tokens: self.per_second, at: now }),
        };
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.per_second);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err((((1.0 - bucket.tokens) / self.per_second).ceil() as u64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_caller_has_a_bucket_that_fills_again() {
        let (limiter, now) = (RateLimiter::new(2), Instant::now());
        assert_eq!([0, 1, 2].map(|_| limiter.take("a", now).is_ok()), [true, true, false]);
        assert_eq!(limiter.take("a", now), Err(1));
        assert!(limiter.take("b", now).is_ok(), "another has another");
        let later = now + Duration::from_millis(500);
        assert_eq!([0, 1].map(|_| limiter.take("a", later).is_ok()), [true, false]);
        let much_later = now + Duration::from_secs(3600);
        assert_eq!([0, 1, 2].map(|_| limiter.take("a", much_later).is_ok()), [true, true, false], "it has a bound");
    }

    #[test]
    fn none_is_no_bound() {
        let (limiter, now) = (RateLimiter::new(0), Instant::now());
        assert!((0..10_000).all(|_| limiter.take("a", now).is_ok()));
    }
}
