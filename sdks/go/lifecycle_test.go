package boxlite_test

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

// processAlive tells whether a process runs; one that waits to be reaped does not.
func processAlive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return len(fields) > 0 && fields[0] != "Z"
}

func TestPause(t *testing.T) {
	box := startBox(t, sharedClient(t), options(t))
	ctx := within(t)
	must(t, box.Pause(ctx))
	info, err := box.Info(ctx)
	must(t, err)
	if info.State != boxlite.StatePaused {
		t.Errorf("it is %s", info.State)
	}
	if _, err := box.Command(ctx, "true").Output(); !errors.Is(err, boxlite.ErrInvalidState) {
		t.Errorf("a command in a paused box: %v", err)
	}
	must(t, box.Unpause(ctx))
	must(t, box.Command(ctx, "true").Run())
}

// A registry that answers the first request and then says nothing for ever.
func hangingRegistry(t testing.TB) (address string, asked <-chan struct{}) {
	t.Helper()
	first := make(chan struct{})
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		once.Do(func() { close(first) })
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), first
}

func TestCreateBoxIsCancelledInItsPull(t *testing.T) {
	fixtures(t)
	address, asked := hangingRegistry(t)
	home := t.TempDir()
	client, err := boxlite.NewClient(boxlite.WithHome(home), boxlite.WithRegistry(address, boxlite.Registry{PlainHTTP: true}))
	must(t, err)
	defer func() { must(t, client.Close()) }()
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		<-asked
		cancel()
	}()
	_, err = client.CreateBox(ctx, boxlite.BoxOptions{Image: address + "/some/image:latest", Name: "never"})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	boxes, err := client.ListBoxes(within(t))
	must(t, err)
	if len(boxes) != 0 {
		t.Errorf("there are boxes: %+v", boxes)
	}
	for _, folder := range []string{"boxes", "tmp", "images/tmp", "images/partial"} {
		entries, err := os.ReadDir(filepath.Join(home, folder))
		if err != nil || len(entries) != 0 {
			t.Errorf("%s has %v, %v", folder, entries, err)
		}
	}
}

func TestTwoProcessesOnOneHome(t *testing.T) {
	image := busybox(t)
	home := t.TempDir()
	client, err := boxlite.NewClient(boxlite.WithHome(home))
	must(t, err)
	defer func() { must(t, client.Close()) }()
	settings := options(t)
	settings.Name = "theirs"
	box := startBox(t, client, settings)
	must(t, box.WriteFile(within(t), "/tmp/note", []byte("a note"), 0o600))
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "BOXLITE_TEST_ROLE=use", "BOXLITE_TEST_IMAGE="+image, "BOXLITE_HOME="+home)
	out, err := other.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "read a note") {
		t.Fatalf("%v: %s", err, out)
	}
	// Its end was no concern of this box, and its box is here.
	must(t, box.Command(within(t), "true").Run())
	_, err = client.GetBox(within(t), "mine")
	must(t, err)
}

func TestAKilledProcessLeavesNoMachine(t *testing.T) {
	home := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "BOXLITE_TEST_ROLE=start-and-hang", "BOXLITE_TEST_IMAGE="+busybox(t), "BOXLITE_HOME="+home)
	stdout, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "started\n" {
		_ = other.Process.Kill()
		t.Fatalf("%q, %v, %v", line, err, other.Wait())
	}
	client, err := boxlite.NewClient(boxlite.WithHome(home))
	must(t, err)
	defer func() { must(t, client.Close()) }()
	box, err := client.GetBox(within(t), "doomed")
	must(t, err)
	info, err := box.Info(within(t))
	must(t, err)
	if info.State != boxlite.StateRunning || !processAlive(info.Run.EnginePID) {
		t.Fatalf("it is %s", info.State)
	}
	must(t, other.Process.Kill())
	_ = other.Wait()
	eventually(t, "the end of the machine", func() bool {
		return !processAlive(info.Run.EnginePID) && !processAlive(info.Run.ShimPID)
	})
	now, err := box.Info(within(t))
	must(t, err)
	if now.State != boxlite.StateStopped && now.State != boxlite.StateFailed {
		t.Errorf("it is said to be %s", now.State)
	}
}

func TestManyWaitersCostNoThreads(t *testing.T) {
	box := startBox(t, sharedClient(t), options(t))
	const waiters = 10_000
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var group sync.WaitGroup
	for range waiters {
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := box.Wait(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("a waiter got %v", err)
			}
		}()
	}
	highest := 0
	for range 20 {
		highest = max(highest, pprof.Lookup("threadcreate").Count())
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	group.Wait()
	if highest >= 50 {
		t.Errorf("%d goroutines that wait have made %d threads", waiters, highest)
	}
}

// Everything is used and closed by many at random moments: each call gives a result or an error
// of the package, and the program lives.
func TestCloseAtAnyMoment(t *testing.T) {
	image := busybox(t)
	duration := 10 * time.Second
	if text := os.Getenv("BOXLITE_TEST_CLOSE_SECONDS"); text != "" {
		seconds, err := strconv.Atoi(text)
		must(t, err)
		duration = time.Duration(seconds) * time.Second
	}
	home := t.TempDir()
	for began := time.Now(); time.Since(began) < duration; {
		client, err := boxlite.NewClient(boxlite.WithHome(home))
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		box, err := client.CreateBox(ctx, boxlite.BoxOptions{Image: image, MemoryMiB: 128, DiskMiB: 16})
		must(t, err)
		var group sync.WaitGroup
		use := func(work func()) {
			group.Add(1)
			go func() {
				defer group.Done()
				time.Sleep(time.Duration(rand.IntN(1200)) * time.Millisecond)
				work()
			}()
		}
		use(func() { _ = box.Start(ctx) })
		for range 6 {
			use(func() { _, _ = box.Command(ctx, "echo", "x").Output() })
			use(func() { _, _ = box.Info(ctx) })
			use(func() { _, _ = client.ListBoxes(ctx) })
			use(func() { _, _ = box.ReadFile(ctx, "/etc/passwd") })
		}
		use(func() { _, _ = box.Wait(ctx) })
		use(func() { _ = box.Stop(ctx) })
		for range 2 {
			use(func() { _ = box.Close() })
		}
		use(cancel)
		use(func() { _ = client.Close() })
		group.Wait()
		cancel()
		_ = client.Close()
	}
	client, err := boxlite.NewClient(boxlite.WithHome(home))
	must(t, err)
	boxes, err := client.ListBoxes(within(t))
	must(t, err)
	for _, info := range boxes {
		if info.State == boxlite.StateRunning || info.State == boxlite.StateStarting {
			t.Errorf("box %s of a closed client is %s", info.Name, info.State)
		}
		must(t, client.RemoveBox(within(t), info.ID, boxlite.Force()))
	}
	must(t, client.Close())
}

// Every method of what is closed says so. New methods are found by reflection.
func TestEveryMethodAfterClose(t *testing.T) {
	client := newClient(t)
	box := createBox(t, client, options(t))
	must(t, box.Close())
	quiet := map[string]bool{"Close": true, "ID": true, "Name": true, "Command": true, "Images": true, "Attach": true, "AttachStart": true}
	check := func(target any) {
		value := reflect.ValueOf(target)
		for i := range value.NumMethod() {
			name := value.Type().Method(i).Name
			if quiet[name] {
				continue
			}
			method := value.Method(i)
			var arguments []reflect.Value
			for j := range method.Type().NumIn() {
				kind := method.Type().In(j)
				if method.Type().IsVariadic() && j == method.Type().NumIn()-1 {
					break
				}
				switch {
				case kind == reflect.TypeFor[context.Context]():
					arguments = append(arguments, reflect.ValueOf(within(t)))
				case kind.Kind() == reflect.String:
					arguments = append(arguments, reflect.ValueOf("/x").Convert(kind))
				case kind.String() == "io.Reader":
					arguments = append(arguments, reflect.ValueOf(strings.NewReader("")))
				case kind.String() == "io.Writer":
					arguments = append(arguments, reflect.ValueOf(&strings.Builder{}))
				case kind == reflect.TypeFor[syscall.Signal]():
					arguments = append(arguments, reflect.ValueOf(syscall.SIGTERM))
				default:
					arguments = append(arguments, reflect.Zero(kind))
				}
			}
			results := method.Call(arguments)
			err, _ := results[len(results)-1].Interface().(error)
			if !errors.Is(err, boxlite.ErrClosed) {
				t.Errorf("%T.%s gives %v", target, name, err)
			}
		}
	}
	check(box)
	if err := box.Command(within(t), "true").Run(); !errors.Is(err, boxlite.ErrClosed) {
		t.Errorf("a command gives %v", err)
	}
	must(t, client.Close())
	must(t, client.Close())
	check(client)
	check(client.Images())
}
