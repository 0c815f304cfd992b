package boxlite_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

// play is what this test program does when a test has started it again as another process.
func play(role string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fail := func(err error) int {
		fmt.Printf("%+v\n", err)
		return 1
	}
	client, err := boxlite.NewClient()
	if err != nil {
		return fail(err)
	}
	switch role {
	case "start-and-hang":
		// Started here, and killed with this process.
		box, err := client.CreateBox(ctx, boxlite.BoxOptions{Image: os.Getenv("BOXLITE_TEST_IMAGE"), Name: "doomed", MemoryMiB: 128})
		if err != nil {
			return fail(err)
		}
		if err := box.Start(ctx); err != nil {
			return fail(err)
		}
		fmt.Println("started")
		time.Sleep(patience)
		return 1
	case "use":
		// A box of another process: run something in it, and make one more.
		box, err := client.GetBox(ctx, "theirs")
		if err != nil {
			return fail(err)
		}
		out, err := box.Command(ctx, "cat", "/tmp/note").Output()
		if err != nil {
			return fail(err)
		}
		if _, err := client.CreateBox(ctx, boxlite.BoxOptions{Image: os.Getenv("BOXLITE_TEST_IMAGE"), Name: "mine"}); err != nil {
			return fail(err)
		}
		if err := client.Close(); err != nil {
			return fail(err)
		}
		fmt.Printf("read %s\n", out)
		return 0
	default:
		return fail(fmt.Errorf("no role %q", role))
	}
}
