// Command bench takes samples of the Go SDK for boxlite-bench, which measures the same things
// without Go. It answers requests, one a line on its standard input, with milliseconds:
//
//	start         a box from CreateBox to its first Output
//	call N        N trivial calls, Go to Rust and back
//	info N        N times Box.Info
//	output BYTES  an exec's output, taken by a writer that throws it away
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	boxlite "github.com/boxlite-ai/boxlite/sdks/go"
)

func main() {
	image := flag.String("image", "", "the image of the boxes")
	cpus := flag.Uint("cpus", 1, "their vCPUs")
	memory := flag.Uint64("memory-mib", 256, "their memory")
	flag.Parse()
	options := boxlite.BoxOptions{Image: *image, CPUs: uint32(*cpus), MemoryMiB: *memory}
	if err := serve(context.Background(), options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type bench struct {
	client  *boxlite.Client
	options boxlite.BoxOptions
	box     *boxlite.Box // for what needs one that runs; made when it is first needed
}

func serve(ctx context.Context, options boxlite.BoxOptions) (err error) {
	client, err := boxlite.NewClient()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	b := &bench{client: client, options: options}
	requests := bufio.NewScanner(os.Stdin)
	for requests.Scan() {
		elapsed, err := b.answer(ctx, requests.Text())
		if err != nil {
			fmt.Println("error:", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Println(float64(elapsed.Nanoseconds()) / 1e6)
	}
	if b.box != nil {
		if err := b.box.Remove(ctx, boxlite.Force()); err != nil {
			return err
		}
	}
	return requests.Err()
}

func (b *bench) answer(ctx context.Context, request string) (time.Duration, error) {
	verb, argument, _ := strings.Cut(request, " ")
	var count int64
	if argument != "" {
		if _, err := fmt.Sscan(argument, &count); err != nil {
			return 0, err
		}
	}
	switch verb {
	case "start":
		return b.start(ctx)
	case "call":
		begin := time.Now()
		for range count {
			_ = boxlite.Version()
		}
		return time.Since(begin), nil
	case "info":
		return b.info(ctx, count)
	case "output":
		return b.output(ctx, count)
	}
	return 0, fmt.Errorf("%q is no request", request)
}

func (b *bench) start(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	box, err := b.client.CreateBox(ctx, b.options)
	if err != nil {
		return 0, err
	}
	output, err := func() ([]byte, error) {
		if err := box.Start(ctx); err != nil {
			return nil, err
		}
		return box.Command(ctx, "echo", "first output").Output()
	}()
	elapsed := time.Since(begin)
	if err == nil && string(output) != "first output\n" {
		err = fmt.Errorf("the output is %q", output)
	}
	if removal := box.Remove(ctx, boxlite.Force()); err == nil {
		err = removal
	}
	return elapsed, err
}

// running gives the box that runs.
func (b *bench) running(ctx context.Context) (*boxlite.Box, error) {
	if b.box != nil {
		return b.box, nil
	}
	box, err := b.client.CreateBox(ctx, b.options)
	if err != nil {
		return nil, err
	}
	if err := box.Start(ctx); err != nil {
		_ = box.Remove(ctx, boxlite.Force())
		return nil, err
	}
	b.box = box
	return box, nil
}

func (b *bench) info(ctx context.Context, count int64) (time.Duration, error) {
	box, err := b.running(ctx)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	for range count {
		if _, err := box.Info(ctx); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// counter has no ReadFrom, unlike io.Discard: what it is given goes through Write.
type counter struct{ bytes int64 }

func (c *counter) Write(data []byte) (int, error) {
	c.bytes += int64(len(data))
	return len(data), nil
}

func (b *bench) output(ctx context.Context, bytes int64) (time.Duration, error) {
	box, err := b.running(ctx)
	if err != nil {
		return 0, err
	}
	const block = 1 << 20
	var taken counter
	begin := time.Now()
	cmd := box.Command(ctx, "dd", "if=/dev/zero", fmt.Sprint("bs=", block), fmt.Sprint("count=", bytes/block))
	cmd.Stdout, cmd.Stderr = &taken, io.Discard
	if err := cmd.Run(); err != nil {
		return 0, err
	}
	elapsed := time.Since(begin)
	if taken.bytes != bytes {
		return 0, fmt.Errorf("%d of %d bytes came", taken.bytes, bytes)
	}
	return elapsed, nil
}
