//! The 512-byte header block, as POSIX.1-1988 (ustar), GNU tar and star lay it out.

pub(crate) const BLOCK_BYTES: usize = 512;

/// A field of the header: where it starts and how many bytes it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    start: usize,
    bytes: usize,
}

const fn field(name: &'static str, start: usize, bytes: usize) -> Field {
    Field { name, start, bytes }
}

pub(crate) const NAME: Field = field("name", 0, 100);
pub(crate) const MODE: Field = field("mode", 100, 8);
pub(crate) const UID: Field = field("uid", 108, 8);
pub(crate) const GID: Field = field("gid", 116, 8);
pub(crate) const SIZE: Field = field("size", 124, 12);
pub(crate) const MTIME: Field = field("mtime", 136, 12);
pub(crate) const CHECKSUM: Field = field("checksum", 148, 8);
pub(crate) const LINK: Field = field("link name", 157, 100);
pub(crate) const USER: Field = field("user name", 265, 32);
pub(crate) const GROUP: Field = field("group name", 297, 32);
pub(crate) const DEVICE_MAJOR: Field = field("device major", 329, 8);
pub(crate) const DEVICE_MINOR: Field = field("device minor", 337, 8);
pub(crate) const PREFIX: Field = field("prefix", 345, 155);
const STAR_PREFIX: Field = field("prefix", 345, 131);
pub(crate) const GNU_REAL_SIZE: Field = field("real size", 483, 12);

const TYPE_FLAG: usize = 156;
const MAGIC: usize = 257;
const STAR_TRAILER: usize = 508;
const GNU_SPARSE: usize = 386;
const GNU_IS_EXTENDED: usize = 482;
const EXTENSION_IS_EXTENDED: usize = 504;

/// Pieces of a sparse map in a GNU header, and in each block that continues it.
const GNU_SPARSE_IN_HEADER: usize = 4;
const GNU_SPARSE_IN_EXTENSION: usize = 21;

/// Which of the header's fields exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    V7,
    Ustar,
    Gnu,
    Star,
}

pub(crate) struct Block(pub(crate) [u8; BLOCK_BYTES]);

impl Block {
    pub(crate) fn zeroed() -> Self {
        Self([0; BLOCK_BYTES])
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0 == [0; BLOCK_BYTES]
    }

    pub(crate) fn bytes(&self, field: Field) -> &[u8] {
        &self.0[field.start..field.start + field.bytes]
    }

    /// The field up to its first NUL.
    pub(crate) fn text(&self, field: Field) -> &[u8] {
        until_nul(self.bytes(field))
    }

    pub(crate) fn number(&self, field: Field) -> Option<i64> {
        number(self.bytes(field))
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.0[TYPE_FLAG]
    }

    pub(crate) fn format(&self) -> Format {
        match &self.0[MAGIC..MAGIC + 8] {
            b"ustar  \0" => Format::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => {
                if &self.0[STAR_TRAILER..] == b"tar\0" {
                    Format::Star
                } else {
                    Format::Ustar
                }
            }
            _ => Format::V7,
        }
    }

    /// What goes before the name, in the formats that have it.
    pub(crate) fn prefix(&self) -> &[u8] {
        match self.format() {
            Format::Ustar => self.text(PREFIX),
            Format::Star => self.text(STAR_PREFIX),
            Format::V7 | Format::Gnu => &[],
        }
    }

    /// Whether the checksum is right, over unsigned bytes as the standard says or over signed
    /// ones as old programs had it.
    pub(crate) fn checksum_matches(&self) -> bool {
        let (unsigned, signed) = self.checksums();
        self.number(CHECKSUM)
            .is_some_and(|stored| stored == unsigned || stored == signed)
    }

    fn checksums(&self) -> (i64, i64) {
        let counted = CHECKSUM.start..CHECKSUM.start + CHECKSUM.bytes;
        self.0
            .iter()
            .enumerate()
            .fold((0, 0), |(unsigned, signed), (index, byte)| {
                let byte = if counted.contains(&index) { b' ' } else { *byte };
                (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
            })
    }

    /// The pieces of the sparse map in a GNU header and whether blocks with more follow.
    pub(crate) fn gnu_sparse(&self) -> (impl Iterator<Item = Option<(u64, u64)>> + '_, bool) {
        (
            self.sparse_pieces(GNU_SPARSE, GNU_SPARSE_IN_HEADER),
            self.0[GNU_IS_EXTENDED] != 0,
        )
    }

    /// The same for a block that continues the map.
    pub(crate) fn gnu_sparse_extension(&self) -> (impl Iterator<Item = Option<(u64, u64)>> + '_, bool) {
        (
            self.sparse_pieces(0, GNU_SPARSE_IN_EXTENSION),
            self.0[EXTENSION_IS_EXTENDED] != 0,
        )
    }

    /// Offset and size of each piece, `None` for a malformed one; ends at the first unused.
    fn sparse_pieces(&self, start: usize, count: usize) -> impl Iterator<Item = Option<(u64, u64)>> + '_ {
        self.0[start..start + count * 24]
            .chunks_exact(24)
            .take_while(|piece| piece[0] != 0 && piece[12] != 0)
            .map(|piece| {
                let (offset, size) = piece.split_at(12);
                Some((u64::try_from(number(offset)?).ok()?, u64::try_from(number(size)?).ok()?))
            })
    }

    pub(crate) fn set_ustar(&mut self, type_flag: u8) {
        self.0[MAGIC..MAGIC + 8].copy_from_slice(b"ustar\x0000");
        self.0[TYPE_FLAG] = type_flag;
    }

    /// Writes as much of `text` as fits.
    pub(crate) fn set_text(&mut self, field: Field, text: &[u8]) {
        let bytes = text.len().min(field.bytes);
        self.0[field.start..field.start + bytes].copy_from_slice(&text[..bytes]);
    }

    /// Writes `value` in octal if it fits; says whether it did, and leaves zero if not.
    pub(crate) fn set_number(&mut self, field: Field, value: u64) -> bool {
        let digits = field.bytes - 1;
        let fits = value >> (3 * digits) == 0;
        let mut rest = if fits { value } else { 0 };
        for byte in self.0[field.start..field.start + digits].iter_mut().rev() {
            *byte = b'0' + (rest & 7) as u8;
            rest >>= 3;
        }
        fits
    }

    pub(crate) fn set_checksum(&mut self) {
        let (mut rest, _) = self.checksums();
        // Six digits, NUL, space: what every program has written since V7.
        for byte in self.0[CHECKSUM.start..CHECKSUM.start + 6].iter_mut().rev() {
            *byte = b'0' + (rest & 7) as u8;
            rest >>= 3;
        }
        self.0[CHECKSUM.start + 6] = 0;
        self.0[CHECKSUM.start + 7] = b' ';
    }
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

/// A number in octal digits, or, if its first bit is set, in base 256, two's complement, the
/// first bit not counted. An empty field is 0. `None` if malformed or beyond 63 bits.
fn number(bytes: &[u8]) -> Option<i64> {
    if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        return base_256(bytes);
    }
    let start = bytes.iter().position(|byte| *byte != b' ');
    let digits = until_nul(&bytes[start.unwrap_or(bytes.len())..]).trim_ascii_end();
    digits.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

fn base_256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let first = if negative { bytes[0] } else { bytes[0] & 0x7f };
    let start = i128::from(if negative { first.cast_signed() } else { first as i8 });
    let value = bytes[1..].iter().try_fold(start, |value, byte| {
        value.checked_mul(256)?.checked_add(i128::from(*byte))
    })?;
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_octal() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"644\0junk"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"        "), Some(0));
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"64 4\0\0\0\0"), None);
        assert_eq!(number(b"-0000001"), None);
    }

    #[test]
    fn numbers_in_base_256() {
        let field = |value: i64| {
            let mut bytes = [if value < 0 { 0xff } else { 0 }; 12];
            bytes[4..].copy_from_slice(&value.to_be_bytes());
            bytes[0] |= 0x80;
            bytes
        };
        for value in [0, 1, -1, 1 << 40, -(1 << 40), i64::MAX, i64::MIN] {
            assert_eq!(number(&field(value)), Some(value));
        }
        let mut beyond = field(0);
        beyond[3] = 1;
        assert_eq!(number(&beyond), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0x1e, 0x84, 0x80]), Some(2_000_000));
    }

    #[test]
    fn numbers_come_back() {
        let mut block = Block::zeroed();
        assert!(block.set_number(UID, 0o7_777_777));
        assert_eq!(block.number(UID), Some(0o7_777_777));
        assert!(!block.set_number(UID, 0o10_000_000));
        assert_eq!(block.number(UID), Some(0));
        block.set_checksum();
        assert!(block.checksum_matches());
        block.0[0] = 1;
        assert!(!block.checksum_matches());
    }
}
