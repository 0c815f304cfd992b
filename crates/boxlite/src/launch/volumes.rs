//! Which device of a machine shows which volume.

use std::os::unix::ffi::OsStrExt;

use boxlite_machine::qemu::MAX_SHARES;
use boxlite_machine::qemu::template::share_tag;
use boxlite_machine::{Share, ShareContent, ShareMember};
use boxlite_shim::Volume;

use crate::error::OptionsError;
use crate::options::Mount;

/// Checks that what is to be mounted is there. Blocking.
pub(crate) fn check(mounts: &[Mount]) -> Result<(), OptionsError> {
    for mount in mounts {
        let metadata = std::fs::metadata(&mount.source).map_err(|error| unusable(mount, error))?;
        if !metadata.is_dir() && !metadata.is_file() {
            return Err(OptionsError::MountSourceKind {
                source_path: mount.source.clone(),
            });
        }
    }
    Ok(())
}

/// The shares of a machine with these mounts, and what of them its guest mounts. Where there are
/// devices enough, each volume has its own; else they take turns, and those of one device are
/// members of its share. Blocking.
pub(super) fn plan(mounts: &[Mount]) -> Result<(Vec<Share>, Vec<Volume>), OptionsError> {
    let mut shares: Vec<Vec<ShareMember>> = vec![Vec::new(); mounts.len().min(MAX_SHARES)];
    let mut volumes = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        // The engine is confined to what was meant, also if a link changes later.
        let source = std::fs::canonicalize(&mount.source).map_err(|error| unusable(mount, error))?;
        if source.as_os_str().as_bytes().contains(&0) {
            return Err(unusable(mount, "its path has a NUL byte"));
        }
        let place = index % shares.len();
        let name = index.to_string();
        volumes.push(Volume {
            tag: share_tag(place),
            target: mount.target.clone(),
            read_only: mount.read_only,
            file_name: Some(name.clone()),
        });
        shares[place].push(ShareMember {
            name,
            source,
            read_only: mount.read_only,
        });
    }
    let mut planned = Vec::new();
    for (place, members) in shares.into_iter().enumerate() {
        let tag = share_tag(place);
        planned.push(match &members[..] {
            // It needs no mount in the jail, and so nothing that a host may not allow.
            [folder] if folder.source.is_dir() => {
                volumes[place].file_name = None;
                Share::folder(tag, &folder.source, folder.read_only)
            }
            _ => Share {
                tag,
                content: ShareContent::Members(members),
            },
        });
    }
    Ok((planned, volumes))
}

fn unusable(mount: &Mount, reason: impl ToString) -> OptionsError {
    OptionsError::MountSource {
        source_path: mount.source.clone(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// So many folders, and behind them the same number of files; every second one read-only.
    fn mounts(root: &Path, folders: usize, files: usize) -> Vec<Mount> {
        (0..folders + files)
            .map(|index| {
                let source = root.join(format!("source-{index}"));
                if index < folders {
                    std::fs::create_dir(&source).unwrap();
                } else {
                    std::fs::write(&source, "x").unwrap();
                }
                let mount = Mount::new(source, format!("/target/{index}"));
                if index % 2 == 1 { mount.read_only() } else { mount }
            })
            .collect()
    }

    fn members(share: &Share) -> Vec<(&str, bool)> {
        match &share.content {
            ShareContent::Folder { .. } => panic!("{share:?}"),
            ShareContent::Members(members) => members
                .iter()
                .map(|member| (member.name.as_str(), member.read_only))
                .collect(),
        }
    }

    #[test]
    fn up_to_four_folders_have_devices_of_their_own() {
        for count in 0..=MAX_SHARES {
            let root = tempfile::tempdir().unwrap();
            let mounts = mounts(root.path(), count, 0);
            check(&mounts).unwrap();
            let (shares, volumes) = plan(&mounts).unwrap();
            assert_eq!((shares.len(), volumes.len()), (count, count));
            for (index, (share, volume)) in shares.iter().zip(&volumes).enumerate() {
                let source = mounts[index].source.canonicalize().unwrap();
                assert_eq!(*share, Share::folder(share_tag(index), source, index % 2 == 1));
                assert_eq!(volume.tag, share.tag);
                assert_eq!(volume.target, format!("/target/{index}"));
                assert_eq!((volume.read_only, &volume.file_name), (index % 2 == 1, &None));
            }
        }
    }

    #[test]
    fn more_volumes_share_devices_in_turn() {
        let root = tempfile::tempdir().unwrap();
        let (shares, volumes) = plan(&mounts(root.path(), 6, 2)).unwrap();
        assert_eq!(shares.len(), MAX_SHARES);
        for (index, volume) in volumes.iter().enumerate() {
            assert_eq!(volume.tag, share_tag(index % MAX_SHARES));
            assert_eq!(volume.file_name.as_deref(), Some(index.to_string().as_str()));
        }
        assert_eq!(members(&shares[1]), [("1", true), ("5", true)]);
        assert_eq!(members(&shares[2]), [("2", false), ("6", false)]);
    }

    #[test]
    fn a_fifth_volume_leaves_three_to_themselves() {
        let root = tempfile::tempdir().unwrap();
        let (shares, volumes) = plan(&mounts(root.path(), 5, 0)).unwrap();
        assert_eq!(members(&shares[0]), [("0", false), ("4", false)]);
        for place in 1..MAX_SHARES {
            assert!(matches!(shares[place].content, ShareContent::Folder { .. }));
            assert_eq!(volumes[place].file_name, None);
        }
        assert_eq!(volumes[0].file_name.as_deref(), Some("0"));
        assert_eq!(volumes[4].file_name.as_deref(), Some("4"));
    }

    #[test]
    fn a_single_file_is_a_member_and_links_are_resolved() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("real");
        std::fs::write(&file, "x").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mounts = [
            Mount::new(folder.path(), "/folder"),
            Mount::new(&link, "/file").read_only(),
        ];
        check(&mounts).unwrap();
        let (shares, volumes) = plan(&mounts).unwrap();
        assert!(matches!(
            shares[0].content,
            ShareContent::Folder { read_only: false, .. }
        ));
        let ShareContent::Members(members) = &shares[1].content else {
            panic!("{shares:?}");
        };
        assert_eq!(members[0].source, file.canonicalize().unwrap());
        assert!(members[0].read_only && volumes[1].read_only);
        assert_eq!(volumes[1].file_name.as_ref(), Some(&members[0].name));
        assert_eq!(volumes[1].target, "/file");

        std::fs::remove_file(&file).unwrap();
        assert!(matches!(check(&mounts), Err(OptionsError::MountSource { .. })));
        assert!(matches!(plan(&mounts), Err(OptionsError::MountSource { .. })));
    }
}
