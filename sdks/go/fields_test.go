package boxlite_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

// optionCase sets an option and finds it again, in the guest or in what is told of the box.
type optionCase struct {
	set func(t *testing.T, o *boxlite.BoxOptions)
	// Read back from a box that runs. Nil: it is not about one that does.
	check func(t *testing.T, box *boxlite.Box, info boxlite.BoxInfo)
}

func inGuest(script, want string) func(*testing.T, *boxlite.Box, boxlite.BoxInfo) {
	return func(t *testing.T, box *boxlite.Box, _ boxlite.BoxInfo) {
		t.Helper()
		if got := sh(t, box, script); got != want {
			t.Errorf("%s gives %q instead of %q", script, got, want)
		}
	}
}

func told(what string, got func(boxlite.BoxInfo) any, want any) func(*testing.T, *boxlite.Box, boxlite.BoxInfo) {
	return func(t *testing.T, _ *boxlite.Box, info boxlite.BoxInfo) {
		t.Helper()
		if got := got(info); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is told as %v instead of %v", what, got, want)
		}
	}
}

func both(checks ...func(*testing.T, *boxlite.Box, boxlite.BoxInfo)) func(*testing.T, *boxlite.Box, boxlite.BoxInfo) {
	return func(t *testing.T, box *boxlite.Box, info boxlite.BoxInfo) {
		t.Helper()
		for _, check := range checks {
			check(t, box, info)
		}
	}
}

// One box has all of these.
var togetherCases = map[string]optionCase{
	"Image": {nil, inGuest("cat /etc/motd", "hello from an OCI image")},
	"Name": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Name = "fields" },
		told("the name", func(i boxlite.BoxInfo) any { return i.Name }, "fields"),
	},
	"CPUs": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.CPUs = 3 },
		both(inGuest("nproc", "3"), told("CPUs", func(i boxlite.BoxInfo) any { return i.CPUs }, uint32(3))),
	},
	"MemoryMiB": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.MemoryMiB = 208 },
		both(
			inGuest("awk '/MemTotal/ { print ($2 > 150000 && $2 <= 212992) }' /proc/meminfo", "1"),
			told("memory", func(i boxlite.BoxInfo) any { return i.MemoryMiB }, uint64(208)),
		),
	},
	"DiskMiB": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.DiskMiB = 96 },
		both(
			inGuest("df -m / | awk 'NR == 2 { print ($2 > 70 && $2 <= 96) }'", "1"),
			told("the disk", func(i boxlite.BoxInfo) any { return i.DiskMiB }, uint64(96)),
		),
	},
	"Env": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Env = map[string]string{"COLOUR": "sky blue"} },
		both(inGuest("echo $COLOUR", "sky blue"), func(t *testing.T, _ *boxlite.Box, info boxlite.BoxInfo) {
			if !slices.Contains(info.Env, "COLOUR=sky blue") {
				t.Errorf("the environment is told as %q", info.Env)
			}
		}),
	},
	"WorkingDir": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.WorkingDir = "/work/here" },
		both(inGuest("pwd", "/work/here"), told("the directory", func(i boxlite.BoxInfo) any { return i.WorkingDir }, "/work/here")),
	},
	"User": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.User = "1000:10" },
		both(inGuest("id -u; id -g", "1000\n10"), told("the user", func(i boxlite.BoxInfo) any { return i.User }, "1000:10")),
	},
	"Hostname": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Hostname = "inside" },
		both(inGuest("hostname; cat /etc/hostname", "inside\ninside"), told("the host name", func(i boxlite.BoxInfo) any { return i.Hostname }, "inside")),
	},
	"Command": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Command = []string{"sleep 31536001; true"} },
		inGuest("tr '\\0' ' ' < /proc/1/cmdline", "/bin/sh -c sleep 31536001; true "),
	},
	"Entrypoint": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Entrypoint = []string{"/bin/sh", "-c"} },
		told("the command", func(i boxlite.BoxInfo) any { return i.Command }, []string{"/bin/sh", "-c", "sleep 31536001; true"}),
	},
	"Mounts": {
		func(t *testing.T, o *boxlite.BoxOptions) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("of the host"), 0o644)) //nolint:gosec // the box reads it as another user
			must(t, os.Chmod(dir, 0o755))                                                   //nolint:gosec // the same
			o.Mounts = []boxlite.Mount{{Source: dir, Target: "/host", ReadOnly: true}}
		},
		both(
			inGuest("cat /host/file; touch /host/x 2>&1 | grep -c 'Read-only'", "of the host1"),
			func(t *testing.T, _ *boxlite.Box, info boxlite.BoxInfo) {
				if len(info.Mounts) != 1 || info.Mounts[0].Target != "/host" || !info.Mounts[0].ReadOnly || info.Mounts[0].Source == "" {
					t.Errorf("the mounts are told as %+v", info.Mounts)
				}
			},
		),
	},
	"Ports": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Ports = []boxlite.Port{{Guest: 8080}} },
		func(t *testing.T, _ *boxlite.Box, info boxlite.BoxInfo) {
			if len(info.Ports) != 1 || info.Ports[0].Guest != 8080 || info.Ports[0].Host == 0 || info.Ports[0].HostIP != "127.0.0.1" {
				t.Fatalf("the ports are told as %+v", info.Ports)
			}
			connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", info.Ports[0].Host))
			must(t, err)
			must(t, connection.Close())
		},
	},
	"Network": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Network = boxlite.NetworkUser },
		both(inGuest("ls /sys/class/net | tr '\\n' ' '", "eth0 lo "), told("the network", func(i boxlite.BoxInfo) any { return i.Network }, boxlite.NetworkUser)),
	},
	"Labels": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Labels = map[string]string{"kind": "test"} },
		told("labels", func(i boxlite.BoxInfo) any { return i.Labels }, map[string]string{"kind": "test", "org.example.kind": "demo"}), // the image's too
	},
	"Engine": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Engine = boxlite.EngineQEMU },
		both(told("the engine", func(i boxlite.BoxInfo) any { return i.Engine }, boxlite.EngineQEMU), func(t *testing.T, _ *boxlite.Box, info boxlite.BoxInfo) {
			if !strings.HasPrefix(info.Run.Engine, "qemu ") {
				t.Errorf("it runs on %q", info.Run.Engine)
			}
		}),
	},
	"Platform": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Platform = "linux/amd64" },
		told("the platform", func(i boxlite.BoxInfo) any { return i.Platform }, "linux/amd64"),
	},
	"StdinOpen": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.StdinOpen = true },
		told("StdinOpen", func(i boxlite.BoxInfo) any { return i.StdinOpen }, true),
	},
	"TTY": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.TTY = true },
		both(
			inGuest("readlink /proc/1/fd/1 | grep -c pts || ls -l /proc/1/fd/1", "1"),
			told("TTY", func(i boxlite.BoxInfo) any { return i.TTY }, true),
		),
	},
	"StopSignal": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.StopSignal = syscall.SIGINT },
		told("the signal", func(i boxlite.BoxInfo) any { return i.StopSignal }, "SIGINT"),
	},
	"StopTimeout": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.StopTimeout = 1500 * time.Millisecond },
		told("the timeout", func(i boxlite.BoxInfo) any { return i.StopTimeout }, 1500*time.Millisecond),
	},
	"Start": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Start = boxlite.StartCold },
		told("the mode", func(i boxlite.BoxInfo) any { return i.Run.StartMode }, "cold"),
	},
	"ExtraHosts": {
		func(_ *testing.T, o *boxlite.BoxOptions) {
			o.ExtraHosts = []boxlite.ExtraHost{{Name: "db", Address: "10.9.8.7"}}
		},
		inGuest("grep -c '^10.9.8.7.*db' /etc/hosts", "1"),
	},
	"DNS": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.DNS = []string{"9.9.9.9"} },
		inGuest("grep nameserver /etc/resolv.conf", "nameserver 9.9.9.9"),
	},
	"DNSSearch": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.DNSSearch = []string{"lan.example"} },
		inGuest("grep search /etc/resolv.conf", "search lan.example"),
	},
	"Security": {
		func(_ *testing.T, o *boxlite.BoxOptions) { o.Security = boxlite.SecurityStandard },
		func(t *testing.T, _ *boxlite.Box, info boxlite.BoxInfo) {
			if info.Jail == nil || len(info.Jail.Applied) == 0 {
				t.Errorf("the jail is told as %+v", info.Jail)
			}
		},
	},
}

// These have tests of their own, named here.
var aloneCases = map[string]string{
	"RunImageCommand": "TestTheImagesCommand",
	"Detached":        "TestDetachedBoxesLiveOn",
	"AutoRemove":      "TestAutoRemove",
	"PullPolicy":      "TestPullPolicy",
	"StartTimeout":    "TestStartTimeout",
	"LogLimits":       "TestLogLimits",
}

func TestEveryOptionHasACase(t *testing.T) {
	kind := reflect.TypeFor[boxlite.BoxOptions]()
	for i := range kind.NumField() {
		name := kind.Field(i).Name
		_, together := togetherCases[name]
		if _, alone := aloneCases[name]; together == alone {
			t.Errorf("BoxOptions.%s has %v and %v as a case", name, together, alone)
		}
	}
	if want := len(togetherCases) + len(aloneCases); want != kind.NumField() {
		t.Errorf("%d cases for %d fields", want, kind.NumField())
	}
}

func TestOptionsReachTheBox(t *testing.T) {
	client := sharedClient(t)
	settings := options(t)
	for _, c := range togetherCases {
		if c.set != nil {
			c.set(t, &settings)
		}
	}
	box := startBox(t, client, settings)
	info, err := box.Info(within(t))
	must(t, err)
	for name, c := range togetherCases {
		t.Run(name, func(t *testing.T) { c.check(t, box, info) })
	}
	// What is told and was not asked for.
	if info.ID != box.ID() || len(info.ID) != 32 || info.State != boxlite.StateRunning || info.ImageDigest == "" ||
		info.CreatedAt.IsZero() || info.StartedAt.Before(info.CreatedAt) || !info.FinishedAt.IsZero() ||
		info.ExitStatus != nil || info.ExitCode != nil || info.Error != nil || info.Directory == "" || info.Detached || info.AutoRemove {
		t.Errorf("told is %+v", info)
	}
	run := info.Run
	if run.RunID == "" || run.Accelerator == "" || len(run.AcceleratorEvidence) == 0 || run.ColdReason == "" || len(run.Stages) < 5 ||
		run.AgentVersion == "" || !strings.Contains(run.KernelRelease, "boxlite") || !processAlive(run.ShimPID) || !processAlive(run.EnginePID) {
		t.Errorf("told of the run is %+v", run)
	}
	processes, err := box.Processes(within(t))
	must(t, err)
	if len(processes) == 0 || processes[0].PID != 1 || processes[0].UID != 1000 || processes[0].MemoryBytes == 0 {
		t.Errorf("the processes are %+v", processes)
	}
	must(t, box.Signal(within(t), syscall.SIGKILL))
	status, err := box.Wait(within(t))
	must(t, err)
	info, err = box.Info(within(t))
	must(t, err)
	if status.Signal != syscall.SIGKILL || info.ExitCode == nil || *info.ExitCode != 137 || info.FinishedAt.IsZero() || info.State != boxlite.StateStopped {
		t.Errorf("after its end: %+v, %+v", status, info)
	}
}

func TestTheImagesCommand(t *testing.T) {
	settings := options(t)
	settings.RunImageCommand = true
	box := startBox(t, sharedClient(t), settings)
	if _, err := box.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	info, err := box.Info(within(t))
	must(t, err)
	if len(info.Command) == 0 || info.ExitCode == nil {
		t.Errorf("told is %q, %v", info.Command, info.ExitCode)
	}
}

func TestDetachedBoxesLiveOn(t *testing.T) {
	home := t.TempDir()
	client, err := boxlite.NewClient(boxlite.WithHome(home))
	must(t, err)
	settings := options(t)
	settings.Name, settings.Detached = "stays", true
	_ = startBox(t, client, settings)
	must(t, client.Close())
	client, err = boxlite.NewClient(boxlite.WithHome(home))
	must(t, err)
	defer func() { must(t, client.Close()) }()
	box, err := client.GetBox(within(t), "stays")
	must(t, err)
	if got := sh(t, box, "echo still here"); got != "still here" {
		t.Errorf("it says %q", got)
	}
	must(t, client.RemoveBox(within(t), "stays", boxlite.Force()))
}

func TestAutoRemove(t *testing.T) {
	client := sharedClient(t)
	settings := options(t)
	settings.AutoRemove, settings.Command = true, []string{"true"}
	box, err := client.CreateBox(within(t), settings)
	must(t, err)
	must(t, box.Start(within(t)))
	_, err = box.Wait(within(t))
	must(t, err)
	eventually(t, "its removal", func() bool {
		_, err := client.GetBox(within(t), box.ID())
		return err != nil
	})
	must(t, box.Close())
}

func TestPullPolicy(t *testing.T) {
	client := newClient(t)
	_, err := client.CreateBox(within(t), boxlite.BoxOptions{Image: "127.0.0.1:1/not/there", PullPolicy: boxlite.PullNever})
	if err == nil || !strings.Contains(err.Error(), "not/there") {
		t.Errorf("got %v", err)
	}
}

func TestStartTimeout(t *testing.T) {
	settings := options(t)
	// Less than any machine takes to show anything.
	settings.StartTimeout, settings.Start = time.Millisecond, boxlite.StartCold
	box := createBox(t, sharedClient(t), settings)
	if err := box.Start(within(t)); err == nil {
		t.Error("it started within a millisecond")
	}
	info, err := box.Info(within(t))
	must(t, err)
	if info.State != boxlite.StateFailed || info.Error == nil || info.Error.Message == "" {
		t.Errorf("it is %s, %v", info.State, info.Error)
	}
}

func TestLogLimits(t *testing.T) {
	settings := options(t)
	settings.LogLimits = boxlite.LogLimits{MaxMiB: 1, Files: 1}
	settings.Command = []string{"sh", "-c", "seq 1000000"}
	box := startBox(t, sharedClient(t), settings)
	_, err := box.Wait(within(t))
	must(t, err)
	var kept strings.Builder
	must(t, box.CopyLogs(within(t), &kept, nil))
	// Seven million bytes were written; two files of a mebibyte are kept, the newest.
	if kept.Len() > 3*mebibyte || !strings.HasSuffix(kept.String(), "999999\n1000000\n") {
		t.Errorf("%d bytes are kept", kept.Len())
	}
}
