//! Where sparse files have data, in the four ways that archives say it: in GNU headers (kind
//! `S`) and as PAX records, versions 0.0, 0.1 and 1.0.

use crate::block::BLOCK_BYTES;
use crate::entry::Extent;
use crate::pax::{Records, decimal};

/// Why the map of a sparse file is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SparseError {
    /// A number of the map is malformed, or numbers are missing.
    #[error("the map is malformed")]
    Malformed,
    /// The pieces are not ascending, overlap, or end beyond the file.
    #[error("pieces of data overlap or lie outside of the file")]
    Order,
    /// A piece other than the last is no multiple of 512 bytes: some programs start each piece
    /// at a block of the archive, others where the one before ends.
    #[error("a piece of data before the last is not a multiple of 512 bytes")]
    Unaligned,
    /// There are more pieces than the reader allows.
    #[error("more than {limit} pieces of data")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The archive holds less or more data than the pieces have.
    #[error("the pieces have {mapped} bytes but the archive holds {stored}")]
    Size {
        /// Bytes of all pieces.
        mapped: u64,
        /// Bytes in the archive.
        stored: u64,
    },
    /// The map's version is none that is known.
    #[error("version {major}.{minor} of the map is not known")]
    Version {
        /// As in the archive.
        major: String,
        /// As in the archive.
        minor: String,
    },
}

/// How PAX records say that a file is sparse.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PaxSparse {
    /// The records hold the map.
    Map {
        pieces: Vec<Extent>,
        real_size: Option<u64>,
    },
    /// The map precedes the data (1.0).
    InData { real_size: Option<u64> },
}

impl PaxSparse {
    /// What the records of one entry say; `None` if nothing.
    pub(crate) fn parse(records: &Records, limit: usize) -> Result<Option<Self>, SparseError> {
        let (major, minor) = (records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor"));
        let size = |key: &[u8]| {
            records
                .get(key)
                .map(|value| decimal(value).ok_or(SparseError::Malformed))
                .transpose()
        };
        let real_size = match size(b"GNU.sparse.realsize")? {
            Some(size) => Some(size),
            None => size(b"GNU.sparse.size")?,
        };
        let has_map = records.get(b"GNU.sparse.map").is_some()
            || records.get(b"GNU.sparse.offset").is_some()
            || records.get(b"GNU.sparse.numblocks").is_some();
        match (major, minor) {
            (Some(b"1"), Some(b"0")) => Ok(Some(Self::InData { real_size })),
            (None, None) if !has_map => Ok(None),
            (None, None) | (Some(b"0"), Some(b"0" | b"1")) => Ok(Some(Self::Map {
                pieces: map_in_records(records, limit)?,
                real_size,
            })),
            _ => {
                let text = |value: Option<&[u8]>| {
                    let value = value.unwrap_or_default();
                    String::from_utf8_lossy(&value[..value.len().min(20)]).into_owned()
                };
                Err(SparseError::Version {
                    major: text(major),
                    minor: text(minor),
                })
            }
        }
    }
}

fn map_in_records(records: &Records, limit: usize) -> Result<Vec<Extent>, SparseError> {
    let mut map = Map::new(limit);
    match records.get(b"GNU.sparse.map") {
        Some(b"") => {}
        Some(numbers) => {
            for number in numbers.split(|byte| *byte == b',') {
                map.push(decimal(number).ok_or(SparseError::Malformed)?)?;
            }
        }
        None => {
            let mut expected = &b"GNU.sparse.offset"[..];
            for (key, value) in &records.0 {
                if !matches!(&key[..], b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                    continue;
                }
                if key != expected {
                    return Err(SparseError::Malformed);
                }
                expected = if key == b"GNU.sparse.offset" {
                    b"GNU.sparse.numbytes"
                } else {
                    b"GNU.sparse.offset"
                };
                map.push(decimal(value).ok_or(SparseError::Malformed)?)?;
            }
        }
    }
    map.finish()
}

/// Puts a map together from its numbers: offset, size, offset, size…
#[derive(Debug)]
pub(crate) struct Map {
    extents: Vec<Extent>,
    offset: Option<u64>,
    limit: usize,
}

impl Map {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            extents: Vec::new(),
            offset: None,
            limit,
        }
    }

    pub(crate) fn push(&mut self, number: u64) -> Result<(), SparseError> {
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => {
                if self.extents.len() >= self.limit {
                    return Err(SparseError::TooMany { limit: self.limit });
                }
                self.extents.push(Extent { offset, size: number });
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Vec<Extent>, SparseError> {
        match self.offset {
            Some(_) => Err(SparseError::Malformed),
            None => Ok(self.extents),
        }
    }
}

/// Checks a map against the file's size and the bytes that the archive holds (`None`: not
/// known), and drops empty pieces.
pub(crate) fn check(mut extents: Vec<Extent>, real_size: u64, stored: Option<u64>) -> Result<Vec<Extent>, SparseError> {
    let (mut end, mut mapped) = (0, 0);
    for extent in &extents {
        if extent.offset < end {
            return Err(SparseError::Order);
        }
        end = extent.end().ok_or(SparseError::Order)?;
        // Cannot overflow: the pieces so far lie one after the other below `end`.
        mapped += extent.size;
    }
    if end > real_size {
        return Err(SparseError::Order);
    }
    extents.retain(|extent| extent.size > 0);
    if let Some((_, before)) = extents.split_last()
        && before.iter().any(|extent| extent.size % BLOCK_BYTES as u64 != 0)
    {
        return Err(SparseError::Unaligned);
    }
    match stored {
        Some(stored) if stored != mapped => Err(SparseError::Size { mapped, stored }),
        _ => Ok(extents),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, size: u64) -> Extent {
        Extent { offset, size }
    }

    fn records(pairs: &[(&str, &str)]) -> Records {
        Records(
            pairs
                .iter()
                .map(|(key, value)| (format!("GNU.sparse.{key}").into(), (*value).into()))
                .collect(),
        )
    }

    #[test]
    fn maps_of_every_version() {
        let pieces = vec![extent(0, 5), extent(10, 7)];
        let in_pairs = records(&[
            ("size", "20"),
            ("numblocks", "2"),
            ("offset", "0"),
            ("numbytes", "5"),
            ("offset", "10"),
            ("numbytes", "7"),
        ]);
        let in_one = records(&[("size", "20"), ("numblocks", "2"), ("map", "0,5,10,7")]);
        for records in [in_pairs, in_one] {
            assert_eq!(
                PaxSparse::parse(&records, 9),
                Ok(Some(PaxSparse::Map {
                    pieces: pieces.clone(),
                    real_size: Some(20),
                }))
            );
            assert_eq!(PaxSparse::parse(&records, 1), Err(SparseError::TooMany { limit: 1 }));
        }
        assert_eq!(
            PaxSparse::parse(&records(&[("major", "1"), ("minor", "0"), ("realsize", "9")]), 9),
            Ok(Some(PaxSparse::InData { real_size: Some(9) }))
        );
        assert_eq!(PaxSparse::parse(&records(&[]), 9), Ok(None));
    }

    #[test]
    fn malformed_maps_are_refused() {
        for pairs in [
            &[("map", "0,5,10")][..],
            &[("map", "0,,1,2")],
            &[("map", "-1,2")],
            &[("offset", "0"), ("offset", "1")],
            &[("numbytes", "0"), ("offset", "1")],
            &[("offset", "0")],
            &[("major", "1"), ("minor", "0"), ("realsize", "x")],
        ] {
            assert_eq!(
                PaxSparse::parse(&records(pairs), 9),
                Err(SparseError::Malformed),
                "{pairs:?}"
            );
        }
        assert!(matches!(
            PaxSparse::parse(&records(&[("major", "2"), ("minor", "0")]), 9),
            Err(SparseError::Version { .. })
        ));
    }

    #[test]
    fn pieces_must_fit() {
        assert_eq!(
            check(vec![extent(0, 512), extent(700, 0), extent(900, 1)], 1000, Some(513)),
            Ok(vec![extent(0, 512), extent(900, 1)])
        );
        assert_eq!(
            check(vec![extent(0, 511), extent(900, 512)], 2000, None),
            Err(SparseError::Unaligned)
        );
        for (pieces, size) in [
            (vec![extent(0, 5), extent(4, 1)], 10),
            (vec![extent(5, 6)], 10),
            (vec![extent(u64::MAX, 2)], u64::MAX),
            (vec![extent(11, 0)], 10),
        ] {
            assert_eq!(check(pieces, size, None), Err(SparseError::Order));
        }
        assert_eq!(
            check(vec![extent(0, 5)], 10, Some(6)),
            Err(SparseError::Size { mapped: 5, stored: 6 })
        );
    }
}
