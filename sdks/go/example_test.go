package boxlite_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

// exampleImage is what the examples run: a reference such as "alpine:3.20" in a real program.
func exampleImage() string {
	return "oci:" + filepath.Join(os.Getenv("BOXLITE_TEST_FIXTURES"), "busybox")
}

// exampleBox gives what all the examples below begin with.
func exampleBox(ctx context.Context) (box *boxlite.Box, end func()) {
	home, err := os.MkdirTemp("", "boxlite-example-")
	if err != nil {
		log.Fatal(err)
	}
	client, err := boxlite.NewClient(boxlite.WithHome(home))
	if err != nil {
		log.Fatalf("%+v", err)
	}
	box, err = client.CreateBox(ctx, boxlite.BoxOptions{Image: exampleImage(), MemoryMiB: 128})
	if err != nil {
		log.Fatalf("%+v", err)
	}
	if err := box.Start(ctx); err != nil {
		log.Fatalf("%+v", err)
	}
	return box, func() {
		_ = box.Remove(context.Background(), boxlite.Force())
		_ = client.Close()
		_ = os.RemoveAll(home)
	}
}

func Example() {
	ctx := context.Background()
	home, err := os.MkdirTemp("", "boxlite-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(home) }()

	client, err := boxlite.NewClient(boxlite.WithHome(home))
	if err != nil {
		log.Fatalf("%+v", err)
	}
	defer func() { _ = client.Close() }()
	box, err := client.CreateBox(ctx, boxlite.BoxOptions{Image: exampleImage(), Name: "demo", MemoryMiB: 128})
	if err != nil {
		log.Fatalf("%+v", err)
	}
	defer func() { _ = client.RemoveBox(context.Background(), "demo", boxlite.Force()) }()
	if err := box.Start(ctx); err != nil {
		log.Fatalf("%+v", err)
	}
	out, err := box.Command(ctx, "cat", "/etc/motd").Output()
	if err != nil {
		log.Fatalf("%+v", err)
	}
	fmt.Printf("%s", out)
	// Output: hello from an OCI image
}

func ExampleCmd_Run() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	cmd := box.Command(ctx, "sort", "-n")
	cmd.Stdin = strings.NewReader("10\n9\n8\n")
	cmd.Stdout = os.Stdout
	if err := cmd.Run(); err != nil {
		log.Fatalf("%+v", err)
	}
	// Output:
	// 8
	// 9
	// 10
}

func ExampleCmd_StdinPipe() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	cmd := box.Command(ctx, "sed", "s/^/> /")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	cmd.Stdout = os.Stdout
	if err := cmd.Start(); err != nil {
		log.Fatalf("%+v", err)
	}
	if _, err := fmt.Fprintln(stdin, "a line"); err != nil {
		log.Fatal(err)
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		log.Fatalf("%+v", err)
	}
	// Output: > a line
}

func ExampleExitError() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	err := box.Command(ctx, "sh", "-c", "exit 3").Run()
	var exit *boxlite.ExitError
	if errors.As(err, &exit) {
		fmt.Println("code", exit.ExitCode())
	}
	// Output: code 3
}

func ExampleBox_Command_timeout() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	limited, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	err := box.Command(limited, "sleep", "1000").Run()
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

func ExampleBox_WriteFile() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	if err := box.WriteFile(ctx, "/tmp/greeting", []byte("hello\n"), 0o644); err != nil {
		log.Fatalf("%+v", err)
	}
	data, err := box.ReadFile(ctx, "/tmp/greeting")
	if err != nil {
		log.Fatalf("%+v", err)
	}
	fmt.Printf("%s", data)
	// Output: hello
}

func ExampleBox_CopyOutTar() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	archive, err := box.CopyOutTar(ctx, "/etc/motd")
	if err != nil {
		log.Fatalf("%+v", err)
	}
	defer func() { _ = archive.Close() }()
	reader := tar.NewReader(archive)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatalf("%+v", err)
		}
		fmt.Println(header.Name, header.Size)
	}
	// Output: motd 24
}

func ExampleBox_Stop() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	if err := box.WriteFile(ctx, "/root/kept", []byte("on the disk\n"), 0o600); err != nil {
		log.Fatalf("%+v", err)
	}
	if err := box.Stop(ctx); err != nil {
		log.Fatalf("%+v", err)
	}
	if err := box.Start(ctx); err != nil {
		log.Fatalf("%+v", err)
	}
	data, err := box.ReadFile(ctx, "/root/kept")
	fmt.Printf("%s%v\n", data, err)
	// Output:
	// on the disk
	// <nil>
}

func ExampleBox_Pause() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	if err := box.Pause(ctx); err != nil {
		log.Fatalf("%+v", err)
	}
	info, err := box.Info(ctx)
	if err != nil {
		log.Fatalf("%+v", err)
	}
	fmt.Println(info.State)
	if err := box.Unpause(ctx); err != nil {
		log.Fatalf("%+v", err)
	}
	// Output: paused
}

func ExampleError() {
	ctx := context.Background()
	box, end := exampleBox(ctx)
	defer end()

	err := box.Command(ctx, "no-such-program").Run()
	var known *boxlite.Error
	if errors.As(err, &known) {
		fmt.Println(known.Code, errors.Is(err, boxlite.ErrNotFound))
	}
	// Output: not_found true
}
