//! Disks by the serial number that the host gave them, never by their order.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// No disk has the serial number.
#[derive(Debug, thiserror::Error)]
#[error("no disk has the serial {serial:?}; there are: {}", found.join(", "))]
pub(crate) struct FindDiskError {
    serial: String,
    found: Vec<String>,
}

/// The machine's disks. All machines of one template have the same, with other contents.
#[derive(Debug)]
pub(crate) struct Disks {
    /// Serial number and the kernel's name (`vda`).
    found: Vec<(String, String)>,
}

impl Disks {
    /// Looks at what there is, without reading from a disk.
    pub(crate) fn list() -> io::Result<Self> {
        Self::list_in(Path::new("/sys/block"))
    }

    fn list_in(block: &Path) -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(block)? {
            let entry = entry?;
            // Loop devices have none.
            if let Ok(serial) = fs::read_to_string(entry.path().join("serial")) {
                let name = entry.file_name().to_string_lossy().into_owned();
                found.push((serial.trim_end().to_owned(), name));
            }
        }
        found.sort();
        Ok(Disks { found })
    }

    /// The kernel's name of the disk with the virtio-blk serial number `serial`.
    pub(crate) fn find(&self, serial: &str) -> Result<String, FindDiskError> {
        match self.found.iter().find(|(own, _)| own == serial) {
            Some((_, name)) => Ok(name.clone()),
            None => Err(FindDiskError {
                serial: serial.to_owned(),
                found: self.found.iter().map(|(own, name)| format!("{name} ({own})")).collect(),
            }),
        }
    }
}

/// The device file of a disk.
pub(crate) fn device(name: &str) -> PathBuf {
    Path::new("/dev").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_its_serial_only() {
        let block = tempfile::tempdir().unwrap();
        for (name, serial) in [("loop0", None), ("vda", Some("disk")), ("vdb", Some("rootfs"))] {
            fs::create_dir(block.path().join(name)).unwrap();
            if let Some(serial) = serial {
                fs::write(block.path().join(name).join("serial"), serial).unwrap();
            }
        }
        let disks = Disks::list_in(block.path()).unwrap();
        assert_eq!(disks.find("rootfs").unwrap(), "vdb");
        let error = disks.find("vda").unwrap_err().to_string();
        assert!(error.contains("vda (disk), vdb (rootfs)"), "{error}");
    }
}
