#!/usr/bin/env python3
"""Writes the layers that image tools trip over, as tar files: odd_layers.py DIR"""
import io, os, subprocess, sys, tarfile, tempfile

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
TIME = 1_600_000_000


class Layer:
    def __init__(self, name):
        self.tar = tarfile.open(os.path.join(out, name), "w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind=tarfile.REGTYPE, data=b"", mode=0o644, uid=0, gid=0, link="", device=(0, 0), mtime=TIME, pax=None):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid, info.mtime, info.linkname = kind, mode, uid, gid, mtime, link
        info.devmajor, info.devminor = device
        info.size = len(data) if kind == tarfile.REGTYPE else 0
        info.pax_headers = pax or {}
        self.tar.addfile(info, io.BytesIO(data) if kind == tarfile.REGTYPE else None)

    def dir(self, name, mode=0o755, **more):
        self.add(name, tarfile.DIRTYPE, mode=mode, **more)

    def close(self):
        self.tar.close()


one = Layer("1.tar")
one.dir("odd")
one.dir("odd/gone")
one.add("odd/gone/a", data=b"a")
one.add("odd/file-then-dir", data=b"a file")
one.dir("odd/dir-then-file")
one.add("odd/dir-then-file/inner", data=b"inner")
one.dir("odd/opaque", mode=0o750, uid=7, gid=8)
one.add("odd/opaque/below", data=b"hidden by the opaque mark")
one.dir("odd/opaque/sub")
one.add("odd/opaque/sub/below", data=b"hidden too")
one.add("odd/linked", data=b"one inode, several names\n", mode=0o640)
one.add("odd/linked-2", tarfile.LNKTYPE, link="odd/linked")
one.add("odd/whited", data=b"removed above")
one.add("odd/changed", data=b"old" * 10_000)
one.dir("odd/attributes", mode=0o700)
one.dir("odd/link-target")
one.add("odd/link-to-dir", tarfile.SYMTYPE, link="link-target")
one.close()

two = Layer("2.tar")
two.add("odd/gone/.wh.a")
two.add("odd/.wh.whited")
two.add("odd/.wh.file-then-dir")
two.dir("odd/file-then-dir")
two.add("odd/file-then-dir/new", data=b"new")
two.add("odd/dir-then-file", data=b"now a file")
two.dir("odd/opaque", mode=0o711, uid=9, gid=10, mtime=TIME + 5)
two.add("odd/opaque/.wh..wh..opq")
two.add("odd/opaque/above", data=b"seen")
two.add("odd/linked-3", tarfile.LNKTYPE, link="odd/linked")
two.add("odd/changed", data=b"new")
two.dir("odd/attributes", mode=0o1777, uid=70_000, gid=4_000_000_000, mtime=TIME + 7)
two.add("odd/link-to-dir/through", data=b"lands behind the link")
two.close()

three = Layer("3.tar")
three.dir("odd/modes")
for mode in (0o000, 0o111, 0o400, 0o4755, 0o2755, 0o1644, 0o7777):
    three.add(f"odd/modes/{mode:04o}", data=b"mode", mode=mode)
three.dir("odd/modes/closed", mode=0o000)
three.add("odd/modes/closed/inside", data=b"inside a closed directory")
three.add("odd/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3))
three.add("odd/big-minor", tarfile.CHRTYPE, mode=0o600, device=(10, 200))
three.add("odd/block", tarfile.BLKTYPE, mode=0o660, gid=6, device=(259, 70))
three.add("odd/fifo", tarfile.FIFOTYPE, mode=0o620)
three.add("odd/owner", data=b"owner", uid=2_000_000_001, gid=3_000_000_002)
three.add("odd/nanoseconds", data=b"t", mtime=TIME + 0.123456789, pax={"mtime": f"{TIME}.123456789"})
three.add("odd/before-1970", data=b"t", mtime=0, pax={"mtime": "-86400.5"})
three.add("odd/after-2038", data=b"t", mtime=5_000_000_000)
three.add("odd/" + "/".join(["a-rather-long-directory-name"] * 9) + "/leaf", data=b"deep")
three.add("odd/" + "n" * 255, data=b"longest name")
three.add("odd/long-link", tarfile.SYMTYPE, link="/" + "x" * 300)
three.add("odd/dangling", tarfile.SYMTYPE, link="nowhere")
three.add("odd/\u00fcml\u00e4ut \u2014 name", data=b"utf-8")
three.add("odd/empty")
three.add("odd/exact-block", data=b"b" * 4096)
three.add("odd/block-and-one", data=b"b" * 4097)
three.add("odd/xattrs", data=b"x", pax={"SCHILY.xattr.user.plain": "value", "SCHILY.xattr.user.newline": "a\nb\n", "SCHILY.xattr.user.empty": ""})
three.dir("odd/xattr-dir", pax={"SCHILY.xattr.user.on-a-directory": "yes", "SCHILY.xattr.trusted.seen-by-root": "secret"})
# cap_net_bind_service,cap_sys_chroot+ep: revision 2, effective, with a 0x0a byte in the middle
capability = bytes.fromhex("0100000200040400" + "000000000a000000" + "00000000")
three.add("odd/capable", data=b"#!/bin/true\n", mode=0o755, pax={"SCHILY.xattr.security.capability": capability.decode("latin-1")})
three.dir("odd/many")
for n in range(3000):
    three.add(f"odd/many/{n:05d}-" + "p" * (n % 50), data=str(n).encode())
three.close()
# The pax writer above encodes values as UTF-8; bytes ≥ 0x80 do not occur in this capability.

# The last one by GNU tar, with a real sparse file and hard links of its own making.
with tempfile.TemporaryDirectory() as work:
    os.makedirs(work + "/odd/gnu")
    with open(work + "/odd/gnu/sparse", "wb") as f:
        f.truncate(64 << 20)
        for at in (0, 1 << 20, (33 << 20) + 17, (64 << 20) - 5):
            f.seek(at)
            f.write(b"data")
    with open(work + "/odd/gnu/hole-at-end", "wb") as f:
        f.write(b"begin")
        f.truncate(10 << 20)
    with open(work + "/odd/gnu/a", "wb") as f:
        f.write(os.urandom(100_000))
    os.link(work + "/odd/gnu/a", work + "/odd/gnu/b")
    os.symlink("a", work + "/odd/gnu/c")
    for base, dirs, files in os.walk(work + "/odd"):
        for n in dirs + files:
            os.utime(os.path.join(base, n), (TIME, TIME + 3), follow_symlinks=False)
    subprocess.run(["tar", "--create", "--sparse", "--format=posix", "--pax-option=delete=atime,delete=ctime", "--sort=name", "--owner=100:100", "--group=200:200", "-C", work, "-f", out + "/4.tar", "odd"], check=True)
