//! Extended attributes, inline after their inode.

use std::sync::Arc;

use boxlite_tar::Xattr;

const HEADER_BYTES: usize = 12;
const ENTRY_BYTES: usize = 4;
/// What the field for it in an inode can say.
pub(super) const LARGEST_BODY_BYTES: usize = HEADER_BYTES + (u16::MAX as usize - 1) * ENTRY_BYTES;

/// The attributes of one inode as they are stored; no bytes if it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct XattrBody(Option<Arc<[u8]>>);

/// Why an inode's extended attributes can't be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XattrError {
    /// One of them is larger than the file system can hold.
    #[error("extended attribute {name:?} is too large: {bytes} bytes, at most 65535 are possible")]
    ValueTooLarge {
        /// Its name.
        name: String,
        /// Bytes of its value.
        bytes: usize,
    },
    /// All of them together are larger than the file system can hold.
    #[error("the extended attributes take {bytes} bytes, at most {limit} are possible")]
    TooLarge {
        /// Bytes of all.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl XattrBody {
    /// Encodes attributes, which must be sorted by name. Returns the names of those that
    /// Linux knows no file system independent place for, which are left out, beside.
    pub(crate) fn encode(xattrs: &[Xattr]) -> Result<(Self, Vec<String>), XattrError> {
        let mut body = Vec::new();
        let mut left_out = Vec::new();
        for (name, value) in xattrs {
            let lossy = || String::from_utf8_lossy(name).into_owned();
            let Some((index, suffix)) = split(name) else {
                left_out.push(lossy());
                continue;
            };
            let suffix = escaped(index, suffix);
            let (Ok(name_bytes), false) = (u8::try_from(suffix.len()), name.len() > 255) else {
                // No name can be longer on Linux.
                left_out.push(lossy());
                continue;
            };
            let Ok(value_bytes) = u16::try_from(value.len()) else {
                return Err(XattrError::ValueTooLarge {
                    name: lossy(),
                    bytes: value.len(),
                });
            };
            if body.is_empty() {
                body.resize(HEADER_BYTES, 0);
            }
            body.extend_from_slice(&[name_bytes, index]);
            body.extend_from_slice(&value_bytes.to_le_bytes());
            body.extend_from_slice(&suffix);
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(ENTRY_BYTES), 0);
        }
        if body.len() > LARGEST_BODY_BYTES {
            return Err(XattrError::TooLarge {
                bytes: body.len(),
                limit: LARGEST_BODY_BYTES,
            });
        }
        Ok((Self((!body.is_empty()).then(|| body.into())), left_out))
    }

    pub(crate) fn from_encoded(body: Arc<[u8]>) -> Self {
        Self(Some(body))
    }

    pub(crate) fn bytes(&self) -> Option<&Arc<[u8]>> {
        self.0.as_ref()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The body's size as an inode states it.
    pub(crate) fn icount(&self) -> u16 {
        match self.as_slice().len() {
            0 => 0,
            // Below 2^16 by the check in `encode`.
            bytes => ((bytes - HEADER_BYTES) / ENTRY_BYTES + 1) as u16,
        }
    }
}

/// The number that stands for a name's beginning, and the rest of the name.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    // The kernel knows access control lists by these whole names.
    match name {
        b"system.posix_acl_access" => return Some((2, b"")),
        b"system.posix_acl_default" => return Some((3, b"")),
        _ => {}
    }
    [(1, &b"user."[..]), (4, b"trusted."), (6, b"security.")]
        .into_iter()
        .find_map(|(index, prefix)| Some((index, name.strip_prefix(prefix)?)))
        .filter(|(_, suffix)| !suffix.is_empty())
}

/// An image is the lower layer of an overlay, to which `trusted.overlay.` attributes give
/// orders; escaped like this, overlayfs shows them to the box as the image has them.
fn escaped(index: u8, suffix: &[u8]) -> Vec<u8> {
    match (index, suffix.strip_prefix(b"overlay.")) {
        (4, Some(_)) => [b"overlay.", suffix].concat(),
        _ => suffix.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(xattrs: &[(&str, &[u8])]) -> (Vec<u8>, Vec<String>) {
        let xattrs: Vec<_> = xattrs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
            .collect();
        let (body, left_out) = XattrBody::encode(&xattrs).unwrap();
        assert_eq!(
            body.as_slice().len(),
            match body.icount() {
                0 => 0,
                count => 12 + 4 * (usize::from(count) - 1),
            }
        );
        (body.as_slice().to_vec(), left_out)
    }

    #[test]
    fn bodies() {
        assert_eq!(encode(&[]), (vec![], vec![]));
        let (body, _) = encode(&[("user.ab", b"xyz"), ("security.c", b"")]);
        assert_eq!(body[..12], [0; 12]);
        assert_eq!(body[12..], *b"\x02\x01\x03\0abxyz\0\0\0\x01\x06\0\0c\0\0\0");
        let (body, _) = encode(&[("system.posix_acl_access", b"acl!")]);
        assert_eq!(body[12..], *b"\0\x02\x04\0acl!");
    }

    #[test]
    fn what_linux_would_not_take_is_left_out() {
        let long = format!("user.{}", "x".repeat(251));
        let (body, left_out) = encode(&[
            ("com.apple.quarantine", b"x"),
            ("system.nfs4_acl", b"x"),
            ("user.", b"x"),
            (&long, b"x"),
        ]);
        assert_eq!((body.len(), left_out.len()), (0, 4));
    }

    #[test]
    fn orders_to_overlayfs_are_escaped() {
        let (body, _) = encode(&[("trusted.overlay.opaque", b"y")]);
        assert_eq!(body[16..38], *b"overlay.overlay.opaque");
        let (body, _) = encode(&[("trusted.overlayed", b"y")]);
        assert_eq!(body[16..25], *b"overlayed");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let value = vec![0; 65_535];
        let many: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .map(|name| (format!("user.{name}").into_bytes(), value.clone()))
            .collect();
        XattrBody::encode(&many[..3]).unwrap();
        assert!(matches!(XattrBody::encode(&many), Err(XattrError::TooLarge { .. })));
        assert!(matches!(
            XattrBody::encode(&[(b"user.a".to_vec(), vec![0; 65_536])]),
            Err(XattrError::ValueTooLarge { bytes: 65_536, .. })
        ));
    }
}
