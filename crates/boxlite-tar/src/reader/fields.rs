//! What one header and the records that go with it say.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::block::{self, Block, Field, Format};
use crate::entry::{Timestamp, Xattr};
use crate::pax::{self, PaxError, Records};
use crate::read_error::ReadError;

const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

/// Writers differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A header and the records that override its fields.
pub(super) struct Fields<'a> {
    pub(super) block: &'a Block,
    pub(super) offset: u64,
    pub(super) local: &'a Records,
    pub(super) global: &'a BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> Fields<'a> {
    /// The record that counts. An empty value stands for the header's own field.
    pub(super) fn record(&self, key: &[u8]) -> Option<&'a [u8]> {
        self.local
            .get(key)
            .or_else(|| self.global.get(key).map(|value| &value[..]))
            .filter(|value| !value.is_empty())
    }

    pub(super) fn pax(&self, source: PaxError) -> ReadError {
        ReadError::Pax {
            offset: self.offset,
            source,
        }
    }

    pub(super) fn signed(&self, field: Field) -> Result<i64, ReadError> {
        self.block
            .number(field)
            .ok_or_else(|| number_error(self.block, self.offset, field))
    }

    pub(super) fn unsigned(&self, key: &[u8], field: Field) -> Result<u64, ReadError> {
        match self.record(key) {
            Some(value) => pax::decimal(value).ok_or_else(|| self.pax(PaxError::value(key, value))),
            None => u64::try_from(self.signed(field)?).map_err(|_| number_error(self.block, self.offset, field)),
        }
    }

    pub(super) fn device(&self, key: &[u8], field: Field) -> Result<u32, ReadError> {
        u32::try_from(self.unsigned(key, field)?).map_err(|_| number_error(self.block, self.offset, field))
    }

    pub(super) fn owner(&self, key: &[u8], field: Field) -> Vec<u8> {
        match self.record(key) {
            Some(name) => name.to_vec(),
            None if self.block.format() == Format::V7 => Vec::new(),
            None => self.block.text(field).to_vec(),
        }
    }

    pub(super) fn mtime(&self) -> Result<Timestamp, ReadError> {
        match self.record(b"mtime") {
            Some(value) => pax::parse_time(value).ok_or_else(|| self.pax(PaxError::value(b"mtime", value))),
            None => Ok(Timestamp {
                seconds: self.signed(block::MTIME)?,
                nanoseconds: 0,
            }),
        }
    }

    /// Extended attributes, however they were stored. Of one that is there in both ways the
    /// raw form counts, which is the one that most programs know.
    pub(super) fn xattrs(&self) -> Result<Vec<Xattr>, ReadError> {
        let records = || {
            self.global
                .iter()
                .chain(self.local.0.iter().map(|(key, value)| (key, value)))
        };
        let mut xattrs = BTreeMap::new();
        for (key, value) in records() {
            if let Some(name) = key.strip_prefix(LIBARCHIVE_XATTR) {
                let malformed = || self.pax(PaxError::value(key, value));
                let name = decode_percent(name).ok_or_else(malformed)?;
                let value = BASE64.decode(value).map_err(|_| malformed())?;
                xattrs.insert(name, value);
            }
        }
        for (key, value) in records() {
            if let Some(name) = key.strip_prefix(SCHILY_XATTR) {
                xattrs.insert(name.to_vec(), value.clone());
            }
        }
        if let Some(name) = xattrs.keys().find(|name| name.is_empty() || name.contains(&0)) {
            return Err(self.pax(PaxError::value(SCHILY_XATTR, name)));
        }
        Ok(xattrs.into_iter().collect())
    }
}

pub(super) fn decode_percent(name: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => *byte,
        });
    }
    Some(decoded)
}

pub(super) fn join_prefix(block: &Block) -> Vec<u8> {
    let (prefix, name) = (block.prefix(), block.text(block::NAME));
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

pub(super) fn ambiguous(offset: u64, what: &'static str) -> ReadError {
    ReadError::Ambiguous { offset, what }
}

pub(super) fn number_error(block: &Block, offset: u64, field: Field) -> ReadError {
    ReadError::Number {
        offset,
        field: field.name,
        bytes: String::from_utf8_lossy(block.bytes(field)).into_owned(),
    }
}

/// The size field alone, for headers whose size no record may override.
pub(super) fn size_of(block: &Block, offset: u64) -> Result<u64, ReadError> {
    block
        .number(block::SIZE)
        .and_then(|size| u64::try_from(size).ok())
        .ok_or_else(|| number_error(block, offset, block::SIZE))
}
