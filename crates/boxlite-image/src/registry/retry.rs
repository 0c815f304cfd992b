use std::time::Duration;

use super::error::{RegistryError, TlsProblem};

/// How often, and after how long, a failed request is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in a row without progress, the first included. Default 5; 1 never repeats.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles each time. Default 300 ms.
    pub first_delay: Duration,
    /// The longest wait that is chosen here. Default 15 s.
    pub max_delay: Duration,
    /// The longest wait that a registry may ask for (`Retry-After`); if it wants more, the
    /// request fails at once. Default 60 s.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(300),
            max_delay: Duration::from_secs(15),
            max_retry_after: Duration::from_secs(60),
        }
    }
}

/// Attempts after which a host is given up that can't even be reached: a wrong name should
/// not take long to say so.
const UNREACHABLE_ATTEMPTS: u32 = 3;

/// Counts the attempts of one request.
#[derive(Debug)]
pub(crate) struct Backoff<'policy> {
    policy: &'policy RetryPolicy,
    failures: u32,
}

impl<'policy> Backoff<'policy> {
    pub(crate) fn new(policy: &'policy RetryPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// Forgets the failures: something came.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// The number of the attempt that comes next.
    pub(crate) fn next_attempt(&self) -> u32 {
        self.failures + 1
    }

    /// How long to wait before the next attempt; `None` if there is to be none.
    pub(crate) fn delay(&mut self, error: &RegistryError) -> Option<Duration> {
        self.failures += 1;
        let (attempts, wanted) = match error {
            RegistryError::Unreachable { .. } => (self.policy.attempts.min(UNREACHABLE_ATTEMPTS), None),
            RegistryError::Tls {
                problem: TlsProblem::Other,
                ..
            }
            | RegistryError::Timeout { .. }
            | RegistryError::Interrupted { .. }
            | RegistryError::Truncated { .. } => (self.policy.attempts, None),
            RegistryError::Status {
                status: 408 | 425 | 429 | 500 | 502 | 503 | 504,
                retry_after,
                ..
            } => (self.policy.attempts, *retry_after),
            _ => return None,
        };
        if self.failures >= attempts {
            return None;
        }
        match wanted {
            Some(wanted) if wanted > self.policy.max_retry_after => None,
            // A little more than asked, so that not everyone comes at the same moment.
            Some(wanted) => Some(wanted + jitter(self.policy.first_delay)),
            None => {
                let doubled = 2u32.saturating_pow(self.failures - 1);
                let delay = self.policy.first_delay.saturating_mul(doubled);
                let delay = delay.min(self.policy.max_delay);
                Some(delay / 2 + jitter(delay / 2))
            }
        }
    }
}

/// Something random between nothing and `most`.
fn jitter(most: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without random numbers everyone waits the longest; nothing else depends on them.
    let share = match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    most.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::error::{Request, Unreachable};

    fn request() -> Box<Request> {
        Request::new("GET", &url::Url::parse("https://r.example/v2/").unwrap())
    }

    fn status(status: u16, retry_after: Option<u64>) -> RegistryError {
        RegistryError::Status {
            request: request(),
            status,
            code: None,
            message: None,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn delays_grow_and_end() {
        let policy = RetryPolicy {
            attempts: 8,
            ..RetryPolicy::default()
        };
        let mut backoff = Backoff::new(&policy);
        for failure in 0..7 {
            let full = (policy.first_delay * 2u32.pow(failure)).min(policy.max_delay);
            let delay = backoff.delay(&status(503, None)).unwrap();
            assert!(delay >= full / 2 && delay <= full, "{failure}: {delay:?} of {full:?}");
        }
        assert_eq!(backoff.delay(&status(503, None)), None);
        backoff.progressed();
        assert_eq!(backoff.next_attempt(), 1);
        assert!(backoff.delay(&status(500, None)).is_some());
    }

    #[test]
    fn the_registry_may_say_when_within_reason() {
        let policy = RetryPolicy::default();
        let delay = Backoff::new(&policy).delay(&status(429, Some(7))).unwrap();
        assert!(delay >= Duration::from_secs(7) && delay <= Duration::from_secs(8));
        assert_eq!(Backoff::new(&policy).delay(&status(429, Some(3600))), None);
    }

    #[test]
    fn what_will_not_change_is_not_repeated() {
        let policy = RetryPolicy::default();
        for code in [400, 401, 403, 404, 410, 501] {
            assert_eq!(Backoff::new(&policy).delay(&status(code, None)), None, "{code}");
        }
        let never = RetryPolicy {
            attempts: 1,
            ..policy.clone()
        };
        assert_eq!(Backoff::new(&never).delay(&status(500, None)), None);
        let refused = RegistryError::Unreachable {
            request: request(),
            problem: Unreachable::Refused,
            detail: String::new(),
        };
        let mut backoff = Backoff::new(&policy);
        assert!(backoff.delay(&refused).is_some() && backoff.delay(&refused).is_some());
        assert_eq!(backoff.delay(&refused), None);
    }
}
