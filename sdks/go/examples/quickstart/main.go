// Quickstart makes a box, runs a command in it and removes it.
//
//	go run ./examples/quickstart -image alpine:3.20
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

func main() {
	image := flag.String("image", "alpine:3.20", "reference of an image, or oci:DIR")
	flag.Parse()
	// Ctrl-C cancels what is going on, and what it had begun is undone.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *image); err != nil {
		log.Fatalf("%+v", err)
	}
}

func run(ctx context.Context, image string) error {
	client, err := boxlite.NewClient()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()

	box, err := client.CreateBox(ctx, boxlite.BoxOptions{Image: image, MemoryMiB: 256})
	if err != nil {
		return err
	}
	defer func() { _ = box.Remove(context.Background(), boxlite.Force()) }()
	if err := box.Start(ctx); err != nil {
		return err
	}
	kernel, err := box.Command(ctx, "uname", "-r").Output()
	if err != nil {
		return err
	}
	fmt.Printf("%s runs its own kernel: %s", box.Name(), kernel)
	return nil
}
