// Coderunner executes Python that nobody has read: in a machine without a network, with bounds for
// time, memory and output, and with nothing of the host in it.
//
//	echo 'print(6 * 7)' | go run ./examples/coderunner -image python:3.12-slim
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

// maxOutput is how much of a program's output is kept.
const maxOutput = 64 << 10

// result is what came of a program.
type result struct {
	Output    string
	ExitCode  int
	TimedOut  bool
	OutOfMem  bool
	Truncated bool
}

func main() {
	image := flag.String("image", "python:3.12-slim", "an image with python3")
	limit := flag.Duration("limit", 10*time.Second, "how long the program may run")
	memory := flag.Uint64("memory", 256, "memory of the machine in MiB")
	flag.Parse()
	code, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	client, err := boxlite.NewClient()
	if err != nil {
		log.Fatalf("%+v", err)
	}
	got, err := execute(context.Background(), client, *image, *memory, *limit, code)
	if closeErr := client.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		log.Fatalf("%+v", err)
	}
	fmt.Print(got.Output)
	switch {
	case got.TimedOut:
		fmt.Fprintf(os.Stderr, "stopped after %v\n", *limit)
	case got.OutOfMem:
		fmt.Fprintf(os.Stderr, "it needs more than %d MiB\n", *memory)
	}
	os.Exit(got.ExitCode)
}

func execute(
	ctx context.Context, client *boxlite.Client, image string, memory uint64, limit time.Duration, code []byte,
) (*result, error) {
	box, err := client.CreateBox(ctx, boxlite.BoxOptions{
		Image:     image,
		MemoryMiB: memory,
		DiskMiB:   512,
		Network:   boxlite.NetworkNone,
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = box.Remove(context.Background(), boxlite.Force()) }()
	if err := box.Start(ctx); err != nil {
		return nil, err
	}
	// The clock of the program starts when the machine is there.
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	output := &bounded{left: maxOutput}
	cmd := box.Command(limited, "python3", "-I", "-")
	cmd.Stdin = bytes.NewReader(code)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.User = "65534:65534"
	cmd.Dir = "/tmp"
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	got := &result{Output: output.text.String(), Truncated: output.cut}
	if cmd.ExitStatus != nil {
		got.ExitCode, got.OutOfMem = cmd.ExitStatus.ExitCode(), cmd.ExitStatus.OutOfMemory
	}
	var exit *boxlite.ExitError
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		got.TimedOut, got.ExitCode = true, 124
	case errors.As(err, &exit), errors.Is(err, boxlite.ErrWaitDelay):
	case err != nil:
		return nil, err
	}
	return got, nil
}

// bounded keeps the beginning of what is written. It takes the rest and forgets it: a program must
// not learn from a broken pipe how much is kept.
type bounded struct {
	text bytes.Buffer
	left int
	cut  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	kept := p[:min(len(p), b.left)]
	b.left -= len(kept)
	b.cut = b.cut || len(kept) < len(p)
	b.text.Write(kept)
	return len(p), nil
}
