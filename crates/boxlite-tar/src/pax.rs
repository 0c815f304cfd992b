//! PAX extended headers: POSIX.1-2017, pax, "pax Extended Header".

use crate::entry::Timestamp;

/// Why the records of a PAX header are unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PaxError {
    /// A record does not start with its length in decimal, fits not into its header, or has
    /// no `=` or no newline where its length says.
    #[error("record at byte {offset} of the PAX header is malformed")]
    Record {
        /// Where the record starts, from the header's start.
        offset: usize,
    },
    /// A value that has to be a number, a time, or base64 is not.
    #[error("PAX record {key:?} has the malformed value {value:?}")]
    Value {
        /// The record's key.
        key: String,
        /// Its value, shortened.
        value: String,
    },
    /// A path or a name contains a NUL.
    #[error("PAX record {key:?} contains a NUL")]
    Nul {
        /// The record's key.
        key: String,
    },
}

impl PaxError {
    pub(crate) fn value(key: &[u8], value: &[u8]) -> Self {
        Self::Value {
            key: String::from_utf8_lossy(key).into_owned(),
            value: String::from_utf8_lossy(&value[..value.len().min(80)]).into_owned(),
        }
    }
}

/// The records of one header, in their order; a later one overrides an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records(pub(crate) Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Takes a header's data apart, by the length of each record and by nothing else.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, PaxError> {
        let mut records = Vec::new();
        let mut rest = data;
        while !rest.is_empty() {
            let malformed = || PaxError::Record {
                offset: data.len() - rest.len(),
            };
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            // Twenty digits and more are beyond any length.
            let length = decimal(&rest[..digits.min(20)]).ok_or_else(malformed)?;
            let length = usize::try_from(length).map_err(|_| malformed())?;
            if rest.get(digits) != Some(&b' ') || length > rest.len() || length < digits + 2 {
                return Err(malformed());
            }
            let (record, after) = rest.split_at(length);
            let Some((b'\n', record)) = record[digits + 1..].split_last() else {
                return Err(malformed());
            };
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if key.is_empty() || key.contains(&0) {
                return Err(malformed());
            }
            if matches!(key, b"path" | b"linkpath" | b"uname" | b"gname" | b"GNU.sparse.name") && value.contains(&0) {
                return Err(PaxError::Nul {
                    key: String::from_utf8_lossy(key).into_owned(),
                });
            }
            records.push((key.to_vec(), value.to_vec()));
            rest = after;
        }
        Ok(Self(records))
    }

    /// The last value of `key`; an empty one is a value too.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0
            .iter()
            .rev()
            .find(|(candidate, _)| candidate == key)
            .map(|(_, value)| &value[..])
    }
}

/// Appends one record: its own length in decimal, a space, `key=value` and a newline.
pub(crate) fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let content = key.len() + value.len() + 3;
    let mut length = content + 1;
    while length != content + length.to_string().len() {
        length = content + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Decimal digits and nothing else, below 2⁶³ so that sizes can be added up.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })?;
    (value <= i64::MAX.cast_unsigned()).then_some(value)
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are dropped.
pub(crate) fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let seconds = decimal(parts.next()?)?.cast_signed();
    let fraction = parts.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = (0..9).fold(0, |value, index| {
        value * 10 + fraction.get(index).map_or(0, |digit| u32::from(digit - b'0'))
    });
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// The inverse of [`parse_time`].
pub(crate) fn format_time(time: Timestamp) -> String {
    let (sign, seconds, nanoseconds) = if time.seconds < 0 && time.nanoseconds > 0 {
        ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanoseconds)
    } else if time.seconds < 0 {
        ("-", time.seconds.unsigned_abs(), 0)
    } else {
        ("", time.seconds.unsigned_abs(), time.nanoseconds)
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let fraction = format!("{nanoseconds:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_go_by_length() {
        let mut data = Vec::new();
        push_record(&mut data, b"SCHILY.xattr.user.a", b"x\n20 path=/etc/shadow\n");
        push_record(&mut data, b"path", b"a");
        let records = Records::parse(&data).unwrap();
        assert_eq!(records.0.len(), 2);
        assert_eq!(records.get(b"path"), Some(&b"a"[..]));
    }

    #[test]
    fn malformed_records_are_refused() {
        for data in [
            &b"x"[..],
            b"5 a=\n\n",
            b"4 a=",
            b"06 a=b",
            b"7 a=bc\n ",
            b"3 =\n",
            b"5 =b\n",
            b"5 ab\n",
            b"99999999999999999999999 a=b\n",
            b"2 \n",
            b"-6 a=b\n",
            b"9 path=\0\n",
            b"6 a=b\n\0\0",
        ] {
            assert!(Records::parse(data).is_err(), "{data:?}");
        }
    }

    #[test]
    fn times() {
        let time = |seconds, nanoseconds| Some(Timestamp { seconds, nanoseconds });
        assert_eq!(parse_time(b"12"), time(12, 0));
        assert_eq!(parse_time(b"12."), time(12, 0));
        assert_eq!(parse_time(b"12.5"), time(12, 500_000_000));
        assert_eq!(parse_time(b"1.0000000019"), time(1, 1));
        assert_eq!(parse_time(b"-1.5"), time(-2, 500_000_000));
        assert_eq!(parse_time(b"-0.1"), time(-1, 900_000_000));
        assert_eq!(parse_time(b"-3"), time(-3, 0));
        for malformed in [
            &b""[..],
            b".",
            b"-",
            b".5",
            b"1.x",
            b"1e3",
            b"+1",
            b"99999999999999999999",
        ] {
            assert_eq!(parse_time(malformed), None, "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn times_come_back(seconds in -(1_i64 << 60)..1 << 60, nanoseconds in 0_u32..1_000_000_000) {
            let time = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(parse_time(format_time(time).as_bytes()), Some(time));
        }

        #[test]
        fn records_come_back(records in prop::collection::vec(
            ("[a-zA-Z.]{1,120}", prop::collection::vec(any::<u8>(), 0..1200)), 0..5,
        )) {
            let records: Vec<_> = records
                .into_iter()
                .map(|(key, value)| (format!("t.{key}").into_bytes(), value))
                .collect();
            let mut data = Vec::new();
            for (key, value) in &records {
                push_record(&mut data, key, value);
            }
            prop_assert_eq!(Records::parse(&data), Ok(Records(records)));
        }

        #[test]
        fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Records::parse(&data);
            let _ = parse_time(&data);
        }
    }
}
