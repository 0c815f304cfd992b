package boxlite_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

func TestCmdFields(t *testing.T) {
	box := sharedBox(t)
	cmd := box.Command(within(t), "sh", "-c", "pwd; id -u; id -g; echo $A; echo $B; echo $GREETING; cat; echo bad >&2")
	cmd.Dir, cmd.User = "/var/tmp", "1000:1000"
	cmd.Env = []string{"A=first", "A=a=b", "B="}
	cmd.Stdin = strings.NewReader("given\n")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	must(t, cmd.Run())
	if want := "/var/tmp\n1000\n1000\na=b\n\nfrom the image\ngiven\n"; stdout.String() != want {
		t.Errorf("stdout is %q, want %q", stdout.String(), want)
	}
	if stderr.String() != "bad\n" {
		t.Errorf("stderr is %q", stderr.String())
	}
	if cmd.Pid() <= 1 {
		t.Errorf("pid is %d", cmd.Pid())
	}
	if !cmd.ExitStatus.Success() {
		t.Errorf("status is %v", cmd.ExitStatus)
	}
	if cmd.String() != "sh -c pwd; id -u; id -g; echo $A; echo $B; echo $GREETING; cat; echo bad >&2" {
		t.Errorf("it is called %q", cmd.String())
	}
}

func TestCmdExit(t *testing.T) {
	box := sharedBox(t)
	err := box.Command(within(t), "sh", "-c", "exit 3").Run()
	var exit *boxlite.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || err.Error() != "exit status 3" {
		t.Errorf("exit 3 gives %v", err)
	}
	err = box.Command(within(t), "sh", "-c", "kill -9 $$").Run()
	if !errors.As(err, &exit) || exit.ExitCode() != -1 || exit.Signal != syscall.SIGKILL || err.Error() != "signal: killed" {
		t.Errorf("kill -9 gives %v", err)
	}
	err = box.Command(within(t), "no-such-program").Run()
	if !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("a missing program gives %v", err)
	}
}

func TestCmdMisuse(t *testing.T) {
	box, ctx := sharedBox(t), within(t)
	command := func() *boxlite.Cmd { return box.Command(ctx, "true") }
	wrong := func(want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	cmd := command()
	wrong("not started", cmd.Wait())
	wrong("not started", cmd.Kill())
	wrong("not started", cmd.Resize(1, 1))
	wrong("not started", cmd.Release())
	must(t, cmd.Start())
	wrong("already started", cmd.Start())
	_, err := cmd.StdinPipe()
	wrong("after process started", err)
	_, err = cmd.StdoutPipe()
	wrong("after process started", err)
	_, err = cmd.StderrPipe()
	wrong("after process started", err)
	must(t, cmd.Wait())
	wrong("already called", cmd.Wait())
	if err := cmd.Kill(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("killing what has ended gives %v", err)
	}
	if err := cmd.Resize(1, 1); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("resizing what has ended gives %v", err)
	}

	cmd = command()
	cmd.Stdout, cmd.Stderr, cmd.Stdin = io.Discard, io.Discard, strings.NewReader("")
	_, err = cmd.Output()
	wrong("Stdout already set", err)
	_, err = cmd.CombinedOutput()
	wrong("Stdout already set", err)
	_, err = cmd.StdinPipe()
	wrong("Stdin already set", err)
	_, err = cmd.StdoutPipe()
	wrong("Stdout already set", err)
	_, err = cmd.StderrPipe()
	wrong("Stderr already set", err)
	wrong("no command", box.Command(ctx, "").Run())
	wrong("not created with", new(boxlite.Cmd).Run())
	cmd = command()
	cmd.Env = []string{"novalue"}
	wrong("KEY=value", cmd.Run())
	cmd = command()
	cmd.Env = []string{"A=\xff"}
	wrong("UTF-8", cmd.Run())
	cmd = command()
	cmd.TTY, cmd.Stderr = true, io.Discard
	wrong("with TTY", cmd.Run())
	cmd = command()
	must(t, cmd.Start())
	wrong("unsupported signal", cmd.Signal(fakeSignal{}))
	must(t, cmd.Wait())
}

type fakeSignal struct{}

func (fakeSignal) Signal()        {}
func (fakeSignal) String() string { return "fake" }

func TestCmdOutput(t *testing.T) {
	box := sharedBox(t)
	out, err := box.Command(within(t), "sh", "-c", "echo out; seq 20000 >&2; exit 1").Output()
	var exit *boxlite.ExitError
	if !errors.As(err, &exit) || string(out) != "out\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	text := string(exit.Stderr)
	if !strings.HasPrefix(text, "1\n2\n") || !strings.HasSuffix(text, "19999\n20000\n") || !strings.Contains(text, "... omitting ") || len(text) > 66<<10 {
		t.Errorf("%d bytes of stderr: %.20q...", len(text), text)
	}
	out, err = box.Command(within(t), "sh", "-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; done").CombinedOutput()
	must(t, err)
	if string(out) != "o1\ne1\no2\ne2\no3\ne3\n" {
		t.Errorf("combined output is %q", out)
	}
}

func TestCmdPipes(t *testing.T) {
	cmd := sharedBox(t).Command(within(t), "sh", "-c", "cat; echo end >&2")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	_, err = io.WriteString(stdin, "before ")
	must(t, err)
	must(t, cmd.Start())
	_, err = io.WriteString(stdin, "after")
	must(t, err)
	must(t, stdin.Close())
	out, err := io.ReadAll(stdout)
	must(t, err)
	bad, err := io.ReadAll(stderr)
	must(t, err)
	must(t, cmd.Wait())
	if string(out) != "before after" || string(bad) != "end\n" {
		t.Errorf("got %q and %q", out, bad)
	}
	if _, err := stdin.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writing after the end gives %v", err)
	}
	if _, err := stdout.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading after Wait gives %v", err)
	}
}

func TestCmdPipesOfAFailedStart(t *testing.T) {
	cmd := sharedBox(t).Command(within(t), "no-such-program")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	read := make(chan error, 1)
	go func() {
		_, err := stdout.Read(make([]byte, 1))
		read <- err
	}()
	if cmd.Start() == nil {
		t.Fatal("it started")
	}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading gives %v", err)
	}
	if _, err := stdin.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writing gives %v", err)
	}
}

func TestCmdStdinThatNobodyReads(t *testing.T) {
	cmd := sharedBox(t).Command(within(t), "true")
	cmd.Stdin = bytes.NewReader(make([]byte, 8<<20))
	must(t, cmd.Run())
}

func TestCmdSignal(t *testing.T) {
	cmd := sharedBox(t).Command(within(t), "sh", "-c", "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.1; done")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = io.ReadFull(stdout, make([]byte, 6))
	must(t, err)
	must(t, cmd.Signal(syscall.SIGUSR1))
	rest, err := io.ReadAll(stdout)
	must(t, err)
	var exit *boxlite.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Code != 7 || string(rest) != "got\n" {
		t.Errorf("got %q, %v", rest, err)
	}
}

func TestCmdTTY(t *testing.T) {
	cmd := sharedBox(t).Command(within(t), "sh", "-c", "stty size; read line; stty size; echo said $line; tty")
	cmd.TTY, cmd.Size = true, boxlite.TerminalSize{Rows: 30, Columns: 100}
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	first := make([]byte, len("30 100\r\n"))
	_, err = io.ReadFull(stdout, first)
	must(t, err)
	must(t, cmd.Resize(40, 120))
	_, err = io.WriteString(stdin, "yes\n")
	must(t, err)
	rest, err := io.ReadAll(stdout)
	must(t, err)
	must(t, cmd.Wait())
	if string(first) != "30 100\r\n" || !strings.Contains(string(rest), "40 120\r\nsaid yes\r\n/dev/pts/") {
		t.Errorf("got %q, then %q", first, rest)
	}
	// Nobody reads what it writes: it ends all the same.
	cmd = sharedBox(t).Command(within(t), "seq", "100000")
	cmd.TTY = true
	must(t, cmd.Run())
}

func TestCmdContextKillsInTheBox(t *testing.T) {
	box := sharedBox(t)
	cause := errors.New("no more of this")
	ctx, cancel := context.WithCancelCause(context.Background())
	cmd := box.Command(ctx, "sleep", "31536000")
	must(t, cmd.Start())
	pid := cmd.Pid()
	cancel(cause)
	err := cmd.Wait()
	var exit *boxlite.ExitError
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || !errors.As(err, &exit) || exit.Signal != syscall.SIGKILL {
		t.Errorf("Wait gives %v", err)
	}
	processes, err := box.Processes(within(t))
	must(t, err)
	for _, process := range processes {
		if process.PID == pid {
			t.Errorf("it lives on: %+v", process)
		}
	}

	ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	if err := box.Command(ctx, "sleep", "31536000").Run(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline gives %v", err)
	}
	if err := box.Command(ctx, "true").Run(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline that was before gives %v", err)
	}
}

func TestCmdCancelFunction(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := sharedBox(t).Command(ctx, "sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")
	cmd.Cancel = func() error { return cmd.Signal(syscall.SIGTERM) }
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = io.ReadFull(stdout, make([]byte, 6))
	must(t, err)
	cancel()
	if err := cmd.Wait(); !errors.Is(err, context.Canceled) || !cmd.ExitStatus.Success() {
		t.Errorf("got %v, %v", err, cmd.ExitStatus)
	}
}

func TestCmdWaitDelay(t *testing.T) {
	box := sharedBox(t)
	// A grandchild holds the output, and does not care for the end of its parent.
	cmd := box.Command(within(t), "sh", "-c", "setsid sleep 60 & echo said")
	cmd.WaitDelay = 300 * time.Millisecond
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	began := time.Now()
	err := cmd.Run()
	if took := time.Since(began); !errors.Is(err, boxlite.ErrWaitDelay) || stdout.String() != "said\n" || took > 30*time.Second {
		t.Errorf("got %v and %q after %v", err, stdout.String(), took)
	}
	// The same with a context that is done, and a Cancel that does nothing.
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	cmd = box.Command(ctx, "sleep", "31536000")
	cmd.WaitDelay = 200 * time.Millisecond
	cmd.Cancel = func() error { return nil }
	if err := cmd.Run(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	sh(t, box, "killall sleep || true")
}

func TestCmdStdinThatDoesNotEnd(t *testing.T) {
	reader, writer := io.Pipe()
	cmd := sharedBox(t).Command(within(t), "true")
	cmd.Stdin = reader
	time.AfterFunc(500*time.Millisecond, func() { _ = writer.Close() })
	must(t, cmd.Run())
}

func TestCmdRelease(t *testing.T) {
	box := sharedBox(t)
	for _, detached := range []bool{false, true} {
		cmd := box.Command(within(t), "sleep", "1234")
		cmd.Detached = detached
		must(t, cmd.Start())
		must(t, cmd.Release())
		if err := cmd.Wait(); err == nil {
			t.Error("Wait after Release gives no error")
		}
		lives := func() bool {
			processes, err := box.Processes(within(t))
			must(t, err)
			for _, process := range processes {
				if process.PID == cmd.Pid() {
					return true
				}
			}
			return false
		}
		if !detached {
			eventually(t, "the process dies", func() bool { return !lives() })
			continue
		}
		time.Sleep(time.Second)
		if !lives() {
			t.Error("a detached process has died")
		}
	}
	sh(t, box, "killall sleep")
}

func TestWriterThatFails(t *testing.T) {
	wrong := errors.New("disk full")
	cmd := sharedBox(t).Command(within(t), "seq", "1000000")
	cmd.Stdout = writerFunc(func([]byte) (int, error) { return 0, wrong })
	if err := cmd.Run(); !errors.Is(err, wrong) {
		var exit *boxlite.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("got %v", err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
