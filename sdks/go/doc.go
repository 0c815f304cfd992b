/*
Package boxlite runs OCI images in small virtual machines of their own, from inside your program.

There is no daemon: the machines are children of your process, and everything is kept in one
folder, the home (~/.boxlite). Each box has a kernel of its own, so what runs in it can be
anything, also what nobody should trust.

	client, err := boxlite.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	box, err := client.CreateBox(ctx, boxlite.BoxOptions{Image: "alpine:3.20"})
	if err != nil {
		log.Fatal(err)
	}
	defer box.Remove(context.Background(), boxlite.Force())
	if err := box.Start(ctx); err != nil {
		log.Fatal(err)
	}
	out, err := box.Command(ctx, "uname", "-a").Output()

# Boxes

A box is configuration, a disk and, while it runs, a machine. [Client.CreateBox] makes one from
[BoxOptions]; it is started by [Box.Start] and stopped by [Box.Stop], as often as you like: its
disk is kept until [Client.RemoveBox]. [Client.GetBox] finds it again, also from another process
with the same home. [Box.Close] only lets go of the handle.

A box without a command is idle: it runs until it is stopped, and you run things in it. With a
Command, an Entrypoint or RunImageCommand it has a main process, and ends with it:

	box, err := client.CreateBox(ctx, boxlite.BoxOptions{
		Image:   "python:3.12-slim",
		Command: []string{"python3", "-m", "http.server", "-d", "/srv", "8000"},
		Mounts:  []boxlite.Mount{{Source: "./site", Target: "/srv", ReadOnly: true}},
		Ports:   []boxlite.Port{{Guest: 8000}},
	})
	...
	info, err := box.Info(ctx) // info.Ports[0].Host is the port of 127.0.0.1
	status, err := box.Wait(ctx)
	logs, err := box.Logs(ctx)

Boxes that are not [BoxOptions.Detached] stop when the client that started them is closed, or its
process ends in whatever way, SIGKILL included.

# Running things

[Box.Command] gives a [Cmd], and a Cmd is what os/exec has made you expect: Stdin, Stdout and
Stderr, Run, Start and Wait, Output and CombinedOutput, the pipes, WaitDelay and Cancel. An exit
code other than 0 is an [*ExitError].

	cmd := box.Command(ctx, "sort", "-n")
	cmd.Stdin = strings.NewReader("10\n9\n8\n")
	cmd.Stdout = os.Stdout
	cmd.Env = []string{"LC_ALL=C"} // over the box's environment
	err := cmd.Run()

What is different: Env is laid over the box's environment instead of replacing it; there is a
User; TTY and Size give a terminal, and [Cmd.Resize] changes its size; [Cmd.Signal] sends a
signal of Linux; a process that is started and then forgotten, or let go of by [Cmd.Release], is
killed unless it is Detached.

Output is copied byte by byte as it comes, in any amount, in bounded memory. A reader that is
slow holds up its own process and nobody else.

# Contexts

Every call that takes a context takes it seriously. When the context is done, the work is stopped
in the library, what it had begun is undone, and then the call returns with an error that matches
[context.Canceled] or [context.DeadlineExceeded], and the context's cause. Cancelling CreateBox
stops its pull and leaves nothing of the box; the context of a Cmd kills its process in the box.
A result that came first counts: then the call succeeds.

# Errors

Errors of the library are [*Error]: a stable code for programs, a message for people, a hint at
what to do next, and evidence such as the last lines of a machine's console. Compare them with
[errors.Is]:

	if errors.Is(err, boxlite.ErrNotFound) { ... }

Print them with %+v to see everything.

# Goroutines

Everything may be used from any goroutine at any time, and closed at any time; after Close,
methods give [ErrClosed]. Waiting happens in Go's own poller: ten thousand goroutines that wait
for boxes or read from them take no thread. No code of yours is ever called by a thread of the
library.

Handles that are forgotten without Close are released when they are collected, with a message at
debug level. Don't rely on it: a client holds machines.

# Images

CreateBox pulls what is missing. [Client.Images] pulls, loads archives, lists, tags and removes:

	image, err := client.Images().Pull(ctx, "alpine:3.20", boxlite.WithProgress(func(p boxlite.Progress) {
		fmt.Printf("\r%s %d/%d", p.Phase, p.CurrentBytes, p.TotalBytes)
	}))

An Image of BoxOptions can also be "docker-archive:PATH", "oci:PATH[:TAG]", "oci-archive:PATH" or
"dir:ROOTFS". Credentials come from docker's and podman's files and helpers, or [WithRegistry].

# Testing

Package boxlitetest gives a test a box that is gone after it:

	box := boxlitetest.Run(t, "postgres:17", boxlitetest.Port(5432))

# Building

The package needs cgo and Linux on x86_64. The library is linked statically from
lib/linux_amd64/libboxlite.a, which `make go` in boxlite's source puts there; with the build tag
boxlite_pkgconfig it is what pkg-config says of boxlite instead. The program that comes out is one
file; it needs QEMU 7.2 or newer where it runs (apt-get install qemu-system-x86), and a glibc no
older than the one it was built with. [Client.Doctor] says what is missing on a host.
*/
package boxlite
