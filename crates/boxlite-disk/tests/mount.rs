//! What a kernel says of the file systems that this crate makes: needs root and loop devices, so
//! it runs only when asked for (`cargo test -p boxlite-disk -- --ignored`).

use std::process::Command;

use boxlite_disk::{DISK_DEVICE_BYTES, FormatOptions, format};

/// Mounts the disk, uses it as the upper layer of an overlay, and takes it apart again.
const USE_IT: &str = r#"
set -eu
cd "$1"
mkdir disk lower merged
mount -o loop,discard disk.ext4 disk
trap 'umount merged 2>/dev/null || true; umount disk 2>/dev/null || true' EXIT
mkdir disk/upper disk/work
echo lower > lower/file
mkdir lower/folder
mount -t overlay overlay -o lowerdir=lower,upperdir=disk/upper,workdir=disk/work merged
echo changed > merged/file
rm -r merged/folder
mkdir merged/folder
ln -s target merged/symlink
mknod merged/device c 1 3
head -c 50000000 /dev/urandom > merged/large
i=0
while [ $i -lt 2000 ]; do : > merged/folder/entry-with-a-long-name-$i; i=$((i + 1)); done
[ "$(cat lower/file)" = lower ]
[ "$(cat merged/file)" = changed ]
sync
umount merged
umount disk
mount -o loop disk.ext4 disk
[ "$(cat disk/upper/file)" = changed ]
[ "$(ls disk/upper/folder | wc -l)" = 2000 ]
[ "$(wc -c < disk/upper/large)" = 50000000 ]
umount disk
e2fsck -f -n disk.ext4
"#;

#[test]
#[ignore = "needs root and loop devices"]
fn the_kernel_mounts_it_and_overlays_it() {
    let directory = tempfile::tempdir().unwrap();
    for filesystem_bytes in [64 << 20, 10 << 30, 1 << 40] {
        let place = directory.path().join(filesystem_bytes.to_string());
        std::fs::create_dir(&place).unwrap();
        let options = FormatOptions {
            filesystem_bytes,
            device_bytes: DISK_DEVICE_BYTES,
            label: "box".into(),
            uuid: [9; 16],
            created_at_seconds: 1_700_000_000,
            journal_bytes: None,
        };
        format(&place.join("disk.ext4"), &options).unwrap();
        let output = Command::new("sh")
            .args(["-c", USE_IT, "sh"])
            .arg(&place)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
