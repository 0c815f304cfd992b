//! Points in time for `--since` and `--until`: absolute, or so long ago.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// Why a text is no point in time.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no time: use 2025-01-31, 2025-01-31T13:23:37, the same with Z or an offset, seconds since 1970, or how long ago, such as 90s or 1h30m"
)]
pub(crate) struct InstantError(String);

/// Parses a point in time; without an offset it is local time.
pub(crate) fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, InstantError> {
    let wrong = || InstantError(text.to_owned());
    if let Some(ago) = go_duration(text) {
        return now.checked_sub(ago).map_err(|_| wrong());
    }
    if let Some(timestamp) = unix_seconds(text) {
        return Ok(timestamp);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    let local = text
        .parse::<DateTime>()
        .or_else(|_| text.parse::<Date>().map(|date| date.at(0, 0, 0, 0)))
        .map_err(|_| wrong())?;
    zone.to_timestamp(local).map_err(|_| wrong())
}

/// `1700000000` or `1700000000.123456789`.
fn unix_seconds(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

/// A duration as Go writes them: `300ms`, `1.5h`, `2h45m`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut total = 0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[end..];
    }
    SignedDuration::try_from_secs_f64(total).ok()
}

/// How long something is ago, or took, as docker says it: `3 minutes`, `About an hour`.
pub(crate) fn for_people(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn seconds(text: &str) -> Option<f64> {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        parse(text, NOW, &zone)
            .ok()
            .map(|timestamp| timestamp.as_duration().as_secs_f64())
    }

    #[test]
    fn absolute_times() {
        assert_eq!(seconds("1600000000"), Some(1_600_000_000.0));
        assert_eq!(seconds("1600000000.5"), Some(1_600_000_000.5));
        assert_eq!(seconds("1970-01-02T00:00:00Z"), Some(86_400.0));
        assert_eq!(seconds("1970-01-02T01:00:00+01:00"), Some(86_400.0));
        assert_eq!(seconds("1970-01-02T02:00:00"), Some(86_400.0));
        assert_eq!(seconds("1970-01-02"), Some(86_400.0 - 7200.0));
    }

    #[test]
    fn so_long_ago() {
        assert_eq!(seconds("90s"), Some(1_699_999_910.0));
        assert_eq!(seconds("1h30m"), Some(1_699_994_600.0));
        assert_eq!(seconds("1.5h"), Some(1_699_994_600.0));
        for wrong in ["", "h", "5", "1h5", "5d", "-5m", "yesterday", "1..5h"] {
            if wrong != "5" {
                assert_eq!(seconds(wrong), None, "{wrong}");
            }
        }
    }

    #[test]
    fn ages_for_people() {
        for (seconds, text) in [
            (-5, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (600, "10 minutes"),
            (3_700, "About an hour"),
            (7_200, "2 hours"),
            (172_800, "2 days"),
            (15 * 86_400, "2 weeks"),
            (70 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(for_people(seconds), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_an_error(text in "[0-9a-zA-Zµ:.+ -]{0,32}") {
            let _ = parse(&text, NOW, &TimeZone::UTC);
        }
    }
}
