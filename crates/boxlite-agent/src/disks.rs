//! Disks by the serial number that the host gave them, never by their order.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// No disk has the serial number.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindDiskError {
    #[error("list the disks: {0}")]
    List(#[source] io::Error),
    #[error("no disk has the serial {serial:?}; there are: {}", found.join(", "))]
    Missing { serial: String, found: Vec<String> },
}

/// The kernel's name (`vda`) of the disk with the virtio-blk serial number `serial`.
pub(crate) fn find(serial: &str) -> Result<String, FindDiskError> {
    find_in(Path::new("/sys/block"), serial)
}

fn find_in(block: &Path, serial: &str) -> Result<String, FindDiskError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(block).map_err(FindDiskError::List)? {
        let entry = entry.map_err(FindDiskError::List)?;
        let Ok(own) = fs::read_to_string(entry.path().join("serial")) else {
            // Loop devices have none.
            continue;
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        if own.trim_end() == serial {
            return Ok(name);
        }
        found.push(format!("{name} ({})", own.trim_end()));
    }
    found.sort();
    Err(FindDiskError::Missing {
        serial: serial.to_owned(),
        found,
    })
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
        assert_eq!(find_in(block.path(), "rootfs").unwrap(), "vdb");
        let error = find_in(block.path(), "vda").unwrap_err().to_string();
        assert!(error.contains("vda (disk), vdb (rootfs)"), "{error}");
    }
}
