//! What must differ between two machines that started from the same state.

use std::{fs::File, io};

use rustix::time::{ClockId, Timespec, clock_settime};

use crate::sys;

/// The least that a host must send, in bytes.
pub(crate) const ENTROPY_BYTES: usize = 32;

/// The kernel's random number generator.
#[derive(Debug)]
pub(crate) struct Generator(File);

impl Generator {
    /// Opens it (random(4)).
    pub(crate) fn open() -> io::Result<Self> {
        File::options().write(true).open("/dev/random").map(Generator)
    }

    /// Mixes the host's random bytes into it and has it start anew.
    pub(crate) fn reseed(&self, entropy: &[u8]) -> io::Result<()> {
        sys::add_entropy(&self.0, entropy)
    }
}

/// Sets the wall clock to nanoseconds since 1970.
pub(crate) fn set_clock(unix_time_ns: u64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: (unix_time_ns / 1_000_000_000) as _,
        tv_nsec: (unix_time_ns % 1_000_000_000) as _,
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// A random UUID (version 4), in the form of /proc/sys/kernel/random/boot_id.
pub(crate) fn uuid() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn uuids_have_their_form_and_differ() {
        let (one, other) = (super::uuid().unwrap(), super::uuid().unwrap());
        assert_ne!(one, other);
        let parts: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&one[14..15], "4");
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"));
    }
}
