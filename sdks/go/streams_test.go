package boxlite_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const mebibyte = 1 << 20

// noise gives size bytes that no compression and no text mode survives.
func noise(size int64, sum hash.Hash) io.Reader {
	source := rand.NewChaCha8([32]byte{1, 2, 3})
	return io.TeeReader(io.LimitReader(source, size), sum)
}

func TestManyAtOnce(t *testing.T) {
	box := sharedBox(t)
	ctx := within(t)
	const goroutines = 64
	var group sync.WaitGroup
	for i := range goroutines {
		group.Add(1)
		go func() {
			defer group.Done()
			dir := "/tmp"
			if i%2 == 0 {
				dir = "/etc"
			}
			cmd := box.Command(ctx, "sh", "-c", "pwd; echo $OWN; echo err $OWN >&2; exit $OWN")
			cmd.Env = []string{fmt.Sprintf("OWN=%d", i)}
			cmd.Dir = dir
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if cmd.ExitStatus == nil || cmd.ExitStatus.Code != i || (err == nil) != (i == 0) {
				t.Errorf("%d: %v, %v", i, cmd.ExitStatus, err)
			}
			if want := fmt.Sprintf("%s\n%d\n", dir, i); stdout.String() != want {
				t.Errorf("%d: stdout is %q", i, &stdout)
			}
			if want := fmt.Sprintf("err %d\n", i); stderr.String() != want {
				t.Errorf("%d: stderr is %q", i, &stderr)
			}
		}()
	}
	group.Wait()
}

func TestShortOutputsAreWhole(t *testing.T) {
	box := sharedBox(t)
	ctx := within(t)
	numbers := make(chan int)
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range numbers {
				out, err := box.Command(ctx, "echo", fmt.Sprint("number ", i)).Output()
				if want := fmt.Sprintf("number %d\n", i); err != nil || string(out) != want {
					t.Errorf("%q, %v instead of %q", out, err, want)
				}
			}
		}()
	}
	for i := range 1000 {
		numbers <- i
	}
	close(numbers)
	group.Wait()
}

// slowWriter takes its time, and counts.
type slowWriter struct {
	sum     hash.Hash
	bytes   int64
	highest uint64
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.bytes/(16*mebibyte) != (w.bytes+int64(len(p)))/(16*mebibyte) {
		// Now and then it stops reading altogether.
		time.Sleep(50 * time.Millisecond)
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		w.highest = max(w.highest, stats.HeapAlloc)
	}
	w.bytes += int64(len(p))
	return w.sum.Write(p)
}

func TestSlowReaderOfMuch(t *testing.T) {
	const size = 200 * mebibyte
	box := sharedBox(t)
	// AES of zeros is not in busybox; a file of noise, read again and again, is as binary.
	sum := sha256.New()
	want := sha256.New()
	func() {
		noise10, err := io.ReadAll(noise(10*mebibyte, sum))
		must(t, err)
		must(t, box.WriteFile(within(t), "/tmp/noise", noise10, 0o600))
		for range size / len(noise10) {
			want.Write(noise10)
		}
	}()
	runtime.GC()

	writer := slowWriter{sum: sha256.New()}
	cmd := box.Command(within(t), "sh", "-c", "i=0; while [ $i -lt 20 ]; do cat /tmp/noise; i=$((i+1)); done")
	cmd.Stdout = &writer
	must(t, cmd.Run())
	if writer.bytes != size || !bytes.Equal(writer.sum.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes came, or others than were written", writer.bytes)
	}
	if writer.highest == 0 || writer.highest > 64*mebibyte {
		t.Errorf("the heap was %d bytes", writer.highest)
	}
}

func TestMuchThroughCat(t *testing.T) {
	const size = 100 * mebibyte
	box := sharedBox(t)
	in, out := sha256.New(), sha256.New()
	cmd := box.Command(within(t), "cat")
	cmd.Stdin = noise(size, in)
	counted := &slowWriter{sum: out}
	cmd.Stdout = counted
	must(t, cmd.Run())
	if counted.bytes != size || !bytes.Equal(in.Sum(nil), out.Sum(nil)) {
		t.Errorf("%d of %d bytes came back, or others", counted.bytes, size)
	}
}

func TestFilesAreWhole(t *testing.T) {
	box := sharedBox(t)
	ctx := within(t)
	content, err := io.ReadAll(noise(3*mebibyte+17, sha256.New()))
	must(t, err)
	must(t, box.WriteFile(ctx, "/tmp/whole", content, 0o640))
	back, err := box.ReadFile(ctx, "/tmp/whole")
	must(t, err)
	if !bytes.Equal(back, content) {
		t.Errorf("%d bytes came back, or others", len(back))
	}
	out, err := box.Command(ctx, "stat", "-c", "%a %s", "/tmp/whole").Output()
	must(t, err)
	if got := strings.TrimSpace(string(out)); got != fmt.Sprintf("640 %d", len(content)) {
		t.Errorf("in the box it is %s", got)
	}
}
