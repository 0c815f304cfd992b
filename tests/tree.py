#!/usr/bin/env python3
"""Prints what a file tree is, one JSON line a path: type, mode, owner, size, mtime, xattrs,
link target, device numbers, hard-link group and content hash.

usage: tree.py ROOT [SKIP …]      SKIP: paths below ROOT, with a leading /, that are left out
"""
import hashlib, json, os, stat, sys

root = os.fsencode(sys.argv[1]).rstrip(b"/") or b"/"
skip = {os.fsencode(p) for p in sys.argv[2:]}
first_name = {}  # (device, inode) -> the first path that has it


def text(raw):
    return raw.decode("utf-8", "surrogateescape")


def describe(path, name):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    line = {"path": text(name), "type": oct(kind), "mode": oct(stat.S_IMODE(st.st_mode)), "uid": st.st_uid, "gid": st.st_gid,
            "mtime": st.st_mtime_ns}
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        line["device"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
    if kind == stat.S_IFLNK:
        line["target"] = text(os.readlink(path))
    if kind == stat.S_IFREG:
        line["size"] = st.st_size
        with open(path, "rb") as f:
            line["sha256"] = hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(f.read()).hexdigest()
    if kind != stat.S_IFDIR and st.st_nlink > 1:
        line["links"] = st.st_nlink
        line["same_as"] = text(first_name.setdefault((st.st_dev, st.st_ino), name))
    names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if not n.startswith(("trusted.overlay.", "user.overlay.", "user.rootlesscontainers", "user.umoci")))
    if names:
        line["xattrs"] = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in names}
    print(json.dumps(line, sort_keys=True))
    return kind == stat.S_IFDIR


def walk(path, name):
    if name in skip:
        return
    if describe(path, name or b"/"):
        for child in sorted(os.listdir(path)):
            walk(path + b"/" + child if path != b"/" else b"/" + child, name + b"/" + child)


walk(root, b"")
