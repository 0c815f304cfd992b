//! A minimal initramfs: one program, in the format that the kernel unpacks (cpio(5), "newc").

/// The archive with `init` as its only program, and a folder for devices.
pub(crate) fn archive(init: &[u8]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(init.len() + 1024);
    entry(&mut archive, 1, "dev", 0o040_755, &[]);
    entry(&mut archive, 2, "init", 0o100_755, init);
    entry(&mut archive, 0, "TRAILER!!!", 0, &[]);
    archive
}

fn entry(archive: &mut Vec<u8>, inode: usize, name: &str, mode: u32, data: &[u8]) {
    let links = 1;
    // Owner, group, time, device of the file and of the node are all 0.
    let header = format!(
        "070701{inode:08X}{mode:08X}{0:08X}{0:08X}{links:08X}{0:08X}{size:08X}{0:08X}{0:08X}{0:08X}{0:08X}{name_size:08X}{0:08X}{name}\0",
        0,
        size = data.len(),
        name_size = name.len() + 1,
    );
    archive.extend_from_slice(header.as_bytes());
    pad(archive);
    archive.extend_from_slice(data);
    pad(archive);
}

/// Headers and data begin at multiples of 4.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_where_the_kernel_looks() {
        let archive = archive(b"\x7fELF!");
        assert_eq!(&archive[..6], b"070701");
        // Header of 110 bytes, name with its end, padding; an empty folder takes no more.
        let second = (110 + 4usize).next_multiple_of(4);
        assert_eq!(&archive[second..second + 6], b"070701");
        assert_eq!(&archive[second + 54..second + 62], b"00000005", "the size of the file");
        let data = (second + 110 + 5).next_multiple_of(4);
        assert_eq!(&archive[data..data + 5], b"\x7fELF!");
        assert_eq!(archive.len() % 4, 0);
        assert!(archive.windows(11).any(|window| window == b"TRAILER!!!\0"));
    }
}
