//! What is said of a row of samples.

/// A row in five figures, in the unit of its samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// How many samples there are, at least 1.
    pub(crate) n: usize,
    /// Median.
    pub(crate) p50: f64,
    /// 95 of 100 samples are no worse.
    pub(crate) p95: f64,
    /// 99 of 100 samples are no worse. With fewer than 100 samples it is the worst one.
    pub(crate) p99: f64,
    /// The worst one.
    pub(crate) max: f64,
}

/// Whether more is better or worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Times, memory.
    Less,
    /// Rates.
    More,
}

impl Summary {
    /// Of no samples there is nothing to say. The percentiles go from good to bad: of a rate,
    /// the `max` is the slowest sample.
    pub(crate) fn of(samples: &[f64], better: Better) -> Option<Self> {
        let mut ordered = samples.to_vec();
        ordered.sort_by(f64::total_cmp);
        if better == Better::More {
            ordered.reverse();
        }
        let max = *ordered.last()?;
        Some(Self {
            n: ordered.len(),
            p50: rank(&ordered, 50)?,
            p95: rank(&ordered, 95)?,
            p99: rank(&ordered, 99)?,
            max,
        })
    }
}

/// The nearest-rank percentile: always a sample that was taken, never one between two.
fn rank(ordered: &[f64], percent: usize) -> Option<f64> {
    let place = (ordered.len() * percent).div_ceil(100).max(1);
    ordered.get(place - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let summary = Summary::of(&samples, Better::Less).unwrap();
        assert_eq!(
            summary,
            Summary {
                n: 100,
                p50: 50.0,
                p95: 95.0,
                p99: 99.0,
                max: 100.0
            }
        );
    }

    #[test]
    fn few_samples_have_their_worst_as_p99() {
        let summary = Summary::of(&[3.0, 1.0, 2.0], Better::Less).unwrap();
        assert_eq!(
            (summary.p50, summary.p95, summary.p99, summary.max),
            (2.0, 3.0, 3.0, 3.0)
        );
        let one = Summary::of(&[7.5], Better::Less).unwrap();
        assert_eq!((one.n, one.p50, one.max), (1, 7.5, 7.5));
    }

    #[test]
    fn the_worst_rate_is_the_slowest() {
        let summary = Summary::of(&[100.0, 300.0, 200.0], Better::More).unwrap();
        assert_eq!((summary.p50, summary.max), (200.0, 100.0));
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(Summary::of(&[], Better::Less), None);
    }
}
