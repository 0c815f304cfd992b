#!/usr/bin/env python3
"""Measures a built tree and prints each figure beside its floor, taken in the same run.

usage: scripts/measure.py [BOXLITE] [RUNS]

Needs what `make test` installs. Nothing here decides a test.
"""
import json, os, shutil, statistics, subprocess, sys, tempfile, time

here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
boxlite = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(here, "target/release/boxlite")
runs = int(sys.argv[2]) if len(sys.argv) > 2 else 10
kernel = os.path.join(here, "target/bundle/vmlinux")
fixtures = subprocess.run([os.path.join(here, "scripts/fixtures.sh")], check=True, capture_output=True, text=True).stdout.strip()
work = tempfile.mkdtemp(prefix="boxlite-measure-")
env = dict(os.environ, BOXLITE_HOME=os.path.join(work, "home"), NO_COLOR="1")


def call(*args, **more):
    return subprocess.run([boxlite, *args], check=True, capture_output=True, text=True, env=env, **more).stdout


def timed(action):
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1e3


def row(name, samples, unit="ms"):
    ordered = sorted(samples)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    print(f"{name:<58} n={len(ordered):<3} p50 {statistics.median(ordered):8.1f} {unit}  p95 {p95:8.1f}  max {ordered[-1]:8.1f}")
    return statistics.median(ordered)


def raw_boot_inputs():
    root = os.path.join(work, "raw")
    os.makedirs(root + "/bin")
    os.makedirs(root + "/dev")
    shutil.copy("/bin/busybox", root + "/bin/busybox")
    with open(root + "/init", "w") as f:
        f.write("#!/bin/busybox sh\n/bin/busybox echo first output\nexec /bin/busybox reboot -f\n")
    os.chmod(root + "/init", 0o755)
    subprocess.run("find . | cpio --quiet -o -H newc > ../raw.cpio", shell=True, cwd=root, check=True)


def raw_boot(accelerator):
    """QEMU, our kernel, an init that prints: the floor of a cold start."""
    cpu = "max" if accelerator == "tcg" else "host"
    command = ["qemu-system-x86_64", "-accel", accelerator, "-cpu", cpu, "-M", "microvm,acpi=off", "-m", "256", "-nodefaults", "-no-user-config",
               "-display", "none", "-no-reboot", "-kernel", kernel, "-initrd", work + "/raw.cpio", "-append", "console=ttyS0 quiet panic=-1 reboot=t", "-serial", "stdio"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    for line in process.stdout:
        if b"first output" in line:
            break
    elapsed = (time.perf_counter() - begin) * 1e3
    process.kill()
    process.wait()
    return elapsed


def first_output():
    """`create` is part of it: the time from the command to the program's first byte."""
    begin = time.perf_counter()
    process = subprocess.Popen([boxlite, "run", "--name", "m", "--memory", "256m", "busybox", "sh", "-c", "echo first; sleep 1000"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    process.stdout.readline()
    elapsed = (time.perf_counter() - begin) * 1e3
    info = json.loads(call("inspect", "m"))[0]
    # As process 1 of the box a shell ignores SIGTERM.
    process.kill()
    process.wait()
    call("rm", "-f", "m")
    return elapsed, {stage["stage"]: stage["duration_us"] for stage in info["run"]["stages"]}


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


print(f"{subprocess.run(['uname', '-sr'], capture_output=True, text=True).stdout.strip()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}")
call("load", f"oci:{fixtures}/busybox:latest", "--tag", "busybox")
info = json.loads(call("info", "--format", "json"))
accelerator = info["accelerator"]["name"]
print(f"accelerator {accelerator}, {runs} runs\n")

raw_boot_inputs()
raw, cold, stages = [], [], {}
raw_boot(accelerator), first_output()
for _ in range(runs):
    raw.append(raw_boot(accelerator))
    elapsed, timings = first_output()
    cold.append(elapsed)
    for name, value in timings.items():
        if isinstance(value, (int, float)):
            stages.setdefault(name, []).append(value / 1e3)
floor = row("floor: QEMU + kernel + an init that prints", raw)
ours = row("cold: run, create to first output", cold)
print(f"{'':<58} {ours / floor:.2f} x the floor")
for name, samples in stages.items():
    row(f"  stage {name}", samples)

call("run", "-d", "--name", "m", "--memory", "256m", "busybox", "sleep", "100000")
row("exec of true, whole command", [timed(lambda: call("exec", "m", "true")) for _ in range(runs * 3)])
row("  of which `boxlite version`", [timed(lambda: call("version")) for _ in range(runs * 3)])
script = "i=0; while [ $i -lt 100 ]; do /bin/busybox true; i=$((i+1)); done"
row("floor: fork and exec of true in the guest", [timed(lambda: call("exec", "m", "sh", "-c", script)) / 100 for _ in range(3)])

size = 256 << 20
def output_rate():
    process = subprocess.Popen([boxlite, "exec", "m", "dd", "if=/dev/zero", "bs=1M", "count=256"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    assert process.wait() == 0
row("exec output, 256 MiB", [size / timed(output_rate) / 1e3 for _ in range(3)], "MB/s")
big = os.path.join(work, "big")
with open(big, "wb") as f:
    for _ in range(256):
        f.write(os.urandom(1 << 20))
row("copy in, one file of 256 MiB", [size / timed(lambda: call("cp", big, "m:/root/big")) / 1e3 for _ in range(3)], "MB/s")
row("copy out, one file of 256 MiB", [size / timed(lambda: call("cp", "m:/root/big", big + ".back")) / 1e3 for _ in range(3)], "MB/s")

time.sleep(5)
info = json.loads(call("inspect", "m"))[0]
engine, shim = pss_kib(info["run"]["engine_pid"]), pss_kib(info["run"]["shim_pid"])
print(f"{'PSS of an idle 256 MiB box':<58} engine {engine / 1024:.1f} MiB, shim {shim / 1024:.1f} MiB, together {(engine + shim) / 1024:.1f} MiB")
call("rm", "-f", "m")

tar_bytes = os.path.getsize(fixtures + "/debian.tar")
def load():
    call("load", f"oci:{fixtures}/debian:latest", "--tag", "debian")
def forget():
    call("rmi", "-f", "debian")
    call("system", "prune", "-a", "-f")
def peers():
    subprocess.run(["skopeo", "copy", "-q", f"oci:{fixtures}/debian:latest", f"oci:{work}/copy:latest"], check=True)
    subprocess.run(["umoci", "unpack", "--image", f"{work}/copy:latest", f"{work}/unpacked"], check=True, capture_output=True)
mine, theirs = [], []
for _ in range(3):
    mine.append(tar_bytes / timed(load) / 1e3)
    forget()
    theirs.append(tar_bytes / timed(peers) / 1e3)
    shutil.rmtree(f"{work}/copy"), shutil.rmtree(f"{work}/unpacked")
row(f"load, Debian of {tar_bytes >> 20} MiB (gzip)", mine, "MB/s")
row("floor: skopeo copy + umoci unpack", theirs, "MB/s")
shutil.rmtree(work)
