//! CRC-32C as ext4's metadata_csum uses it: reflected, without the final inversion.

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Four bytes at a time: table `n` is for a byte that `n` more follow.
const TABLES: [[u32; 256]; 4] = tables();

const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                (value >> 1) ^ POLYNOMIAL
            } else {
                value >> 1
            };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        let mut table = 1;
        while table < 4 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            table += 1;
        }
        byte += 1;
    }
    tables
}

/// Goes on with `sum` over `bytes`. A checksum on its own starts with all ones.
pub(crate) fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    let mut sum = sum;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let [first, second, third, fourth] = (sum ^ u32::from_le_bytes(*word)).to_le_bytes().map(usize::from);
        sum = TABLES[3][first] ^ TABLES[2][second] ^ TABLES[1][third] ^ TABLES[0][fourth];
    }
    for byte in rest {
        let index = usize::from(sum.to_le_bytes()[0] ^ byte);
        sum = (sum >> 8) ^ TABLES[0][index];
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_algorithm_comes_out() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(!0, b"12345"), b"6789"), crc32c(!0, b"123456789"));
    }
}
