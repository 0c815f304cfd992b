//! A structure on disk: bytes that are filled field by field, at the offsets of its definition.

/// Zeros to begin with; numbers are little-endian unless the method says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    pub(crate) fn new(bytes: usize) -> Fields {
        Fields(vec![0; bytes])
    }

    pub(crate) fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn put_u8(&mut self, offset: usize, value: u8) {
        self.put(offset, &[value]);
    }

    pub(crate) fn put_u16(&mut self, offset: usize, value: u16) {
        self.put(offset, &value.to_le_bytes());
    }

    pub(crate) fn put_u32(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    pub(crate) fn put_u32_be(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_be_bytes());
    }

    /// The lower half of a number at one offset and the upper half at another.
    pub(crate) fn put_split_u64(&mut self, low: usize, high: usize, value: u64) {
        self.put_u32(low, low_u32(value));
        self.put_u32(high, low_u32(value >> 32));
    }

    /// The lower half of a number at one offset and the upper half at another.
    pub(crate) fn put_split_u32(&mut self, low: usize, high: usize, value: u32) {
        let [first, second, third, fourth] = value.to_le_bytes();
        self.put(low, &[first, second]);
        self.put(high, &[third, fourth]);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The lowest 32 bits.
pub(crate) fn low_u32(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
