//! Users and groups as the box's own files name them (passwd(5), group(5)). No name
//! service: an image that needs one gives numbers.

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// The home directory, `/` for a user that no file names.
    pub(crate) home: Vec<u8>,
}

/// The box does not know a user or group.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("no user {0:?} in the box's /etc/passwd")]
    NoSuchUser(String),
    #[error("no group {0:?} in the box's /etc/group")]
    NoSuchGroup(String),
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    passwd.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (_password, uid, gid) = (fields.next()?, number(fields.next()?)?, number(fields.next()?)?);
        let home = fields.nth(1).unwrap_or_default();
        Some(User { name, uid, gid, home })
    })
}

fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    group.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (_password, gid) = (fields.next()?, number(fields.next()?)?);
        let members = fields.next().unwrap_or_default();
        Some(Group { name, gid, members })
    })
}

/// An id: decimal digits only, and not the number that means "no change".
fn number(text: &[u8]) -> Option<u32> {
    let text = str::from_utf8(text).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Who `user` is: `""` (root), `name`, `uid`, `name:group` or `uid:gid`. A name is looked
/// up before it is taken for a number; a number need not be in the files. The groups that
/// list the user are supplementary ones unless `user` names a group.
pub(crate) fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, UserError> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let id = number(user.as_bytes());
    let known = users(passwd)
        .find(|known| known.name == user.as_bytes())
        .or_else(|| users(passwd).find(|known| Some(known.uid) == id));
    let (uid, mut gid, home) = match (&known, id) {
        (Some(known), _) => (known.uid, known.gid, known.home),
        (None, Some(id)) => (id, 0, &b""[..]),
        (None, None) => return Err(UserError::NoSuchUser(user.to_owned())),
    };
    let mut supplementary = Vec::new();
    if let Some(wanted) = wanted_group {
        gid = groups(group)
            .find(|known| known.name == wanted.as_bytes())
            .map(|known| known.gid)
            .or_else(|| number(wanted.as_bytes()))
            .ok_or_else(|| UserError::NoSuchGroup(wanted.to_owned()))?;
    } else if let Some(known) = known {
        supplementary = groups(group)
            .filter(|group| {
                group
                    .members
                    .split(|byte| *byte == b',')
                    .any(|member| member == known.name)
            })
            .map(|group| group.gid)
            .collect();
        supplementary.sort_unstable();
        supplementary.dedup();
    }
    Ok(Identity {
        uid,
        gid,
        groups: supplementary,
        home: if home.is_empty() { b"/".to_vec() } else { home.to_vec() },
    })
}

/// The first name that `passwd` has for a number.
pub(crate) fn name_of(uid: u32, passwd: &[u8]) -> Option<String> {
    users(passwd)
        .find(|user| user.uid == uid)
        .map(|user| String::from_utf8_lossy(user.name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # comment\n\
        broken:x:many:1::/:\n\
        app:x:1000:1001:App,,,:/home/app:/bin/sh\n\
        1234:x:77:78::/numbers:\n\
        nohome:x:5:6\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,app\naudio:x:29:app\napp:x:1001:\nshort:x:5\nx";

    fn ids(user: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
        resolve(user, PASSWD, GROUP).map(|identity| (identity.uid, identity.gid, identity.groups))
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(ids(""), Ok((0, 0, vec![10])));
        assert_eq!(ids("app"), Ok((1000, 1001, vec![10, 29])));
        assert_eq!(ids("1000"), ids("app"));
        assert_eq!(ids("1234"), Ok((77, 78, vec![])));
        assert_eq!(ids("4242"), Ok((4242, 0, vec![])));
        assert_eq!(ids("nohome"), Ok((5, 6, vec![])));
        assert_eq!(ids("broken"), Err(UserError::NoSuchUser("broken".into())));
        assert_eq!(ids("4294967295"), Err(UserError::NoSuchUser("4294967295".into())));
        assert_eq!(ids("-1"), Err(UserError::NoSuchUser("-1".into())));
    }

    #[test]
    fn a_named_group_replaces_all_groups() {
        assert_eq!(ids("app:audio"), Ok((1000, 29, vec![])));
        assert_eq!(ids("app:555"), Ok((1000, 555, vec![])));
        assert_eq!(ids(":wheel"), Ok((0, 10, vec![])));
        assert_eq!(ids("app:"), ids("app"));
        assert_eq!(ids("app:none"), Err(UserError::NoSuchGroup("none".into())));
    }

    #[test]
    fn homes_and_names() {
        assert_eq!(resolve("app", PASSWD, GROUP).unwrap().home, b"/home/app");
        assert_eq!(resolve("nohome", PASSWD, GROUP).unwrap().home, b"/");
        assert_eq!(resolve("9", b"", b"").unwrap().home, b"/");
        assert_eq!(name_of(1000, PASSWD).as_deref(), Some("app"));
        assert_eq!(name_of(9, PASSWD), None);
    }

    proptest! {
        #[test]
        fn any_files_are_read(user: String, passwd: Vec<u8>, group: Vec<u8>) {
            let _ = resolve(&user, &passwd, &group);
        }

        #[test]
        fn numbers_need_no_files(uid in 0..u32::MAX, gid in 0..u32::MAX) {
            let identity = resolve(&format!("{uid}:{gid}"), b"", b"").unwrap();
            prop_assert_eq!((identity.uid, identity.gid), (uid, gid));
        }
    }
}
