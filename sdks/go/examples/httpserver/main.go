// Httpserver gives each request a machine of its own: what is posted to /run is a shell script, and
// the answer is what it writes. When the client goes away, so does the machine.
//
//	go run ./examples/httpserver -image alpine:3.20 -listen 127.0.0.1:8080
//	curl --data 'uname -a; id' http://127.0.0.1:8080/run
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

const (
	// maxScript is the largest script that is taken.
	maxScript = 1 << 20
	// timeLimit bounds a request.
	timeLimit = 30 * time.Second
	// atOnce bounds the machines, and with them the memory.
	atOnce = 8
)

func main() {
	image := flag.String("image", "alpine:3.20", "an image with sh")
	listen := flag.String("listen", "127.0.0.1:8080", "address")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := boxlite.NewClient()
	if err != nil {
		log.Fatalf("%+v", err)
	}
	server := &http.Server{
		Addr:              *listen,
		Handler:           handler(client, *image),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	log.Printf("listening on %s", *listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
	}
	if err := client.Close(); err != nil {
		log.Fatalf("%+v", err)
	}
}

func handler(client *boxlite.Client, image string) http.Handler {
	places := make(chan struct{}, atOnce)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /run", func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			http.Error(w, "all machines are taken", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeLimit)
		defer cancel()
		if err := run(ctx, client, image, w, http.MaxBytesReader(w, r.Body, maxScript)); err != nil {
			log.Printf("%+v", err)
			// Without effect if some output has gone already.
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	return mux
}

func run(ctx context.Context, client *boxlite.Client, image string, w http.ResponseWriter, script io.Reader) error {
	box, err := client.CreateBox(ctx, boxlite.BoxOptions{Image: image, MemoryMiB: 256, DiskMiB: 256})
	if err != nil {
		return err
	}
	defer func() { _ = box.Remove(context.Background(), boxlite.Force()) }()
	if err := box.Start(ctx); err != nil {
		return err
	}
	cmd := box.Command(ctx, "sh", "-s")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = script, w, w
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var exit *boxlite.ExitError
	if errors.As(err, &exit) {
		return nil // The script's own business; its output says why.
	}
	return err
}
