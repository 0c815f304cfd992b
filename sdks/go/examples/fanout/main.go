// Fanout gives each of 20 pieces of work a machine of its own, a few at a time.
//
//	go run ./examples/fanout -image alpine:3.20 -boxes 20 -at-once 4
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

func main() {
	image := flag.String("image", "alpine:3.20", "reference of an image, or oci:DIR")
	boxes := flag.Int("boxes", 20, "how many machines")
	atOnce := flag.Int("at-once", 4, "how many at the same time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := boxlite.NewClient()
	if err != nil {
		log.Fatalf("%+v", err)
	}
	results, err := fanOut(ctx, client, *image, *boxes, *atOnce)
	if closeErr := client.Close(); err == nil {
		err = closeErr
	}
	for i, result := range results {
		fmt.Printf("%2d: %s\n", i, result)
	}
	if err != nil {
		log.Fatalf("%+v", err)
	}
}

func fanOut(ctx context.Context, client *boxlite.Client, image string, boxes, atOnce int) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results, failures := make([]string, boxes), make([]error, boxes)
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i := range boxes {
		group.Add(1)
		go func() {
			defer group.Done()
			places <- struct{}{}
			defer func() { <-places }()
			if results[i], failures[i] = square(ctx, client, image, i); failures[i] != nil {
				cancel() // The others need not go on.
			}
		}()
	}
	group.Wait()
	return results, errors.Join(failures...)
}

// square has a machine do the sum.
func square(ctx context.Context, client *boxlite.Client, image string, number int) (string, error) {
	box, err := client.CreateBox(ctx, boxlite.BoxOptions{
		Image:     image,
		CPUs:      1,
		MemoryMiB: 128,
		DiskMiB:   64,
		Network:   boxlite.NetworkNone,
		Env:       map[string]string{"NUMBER": fmt.Sprint(number)},
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = box.Remove(context.Background(), boxlite.Force()) }()
	if err := box.Start(ctx); err != nil {
		return "", err
	}
	out, err := box.Command(ctx, "sh", "-c", "echo $NUMBER squared is $((NUMBER * NUMBER)) on $(hostname)").Output()
	return strings.TrimSpace(string(out)), err
}
