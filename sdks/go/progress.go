package boxlite

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// progressInterval is how often a [WithProgress] function is called at most.
const progressInterval = 100 * time.Millisecond

// Progress is how far a pull, a load or the making of a box is with its image.
type Progress struct {
	Phase     ProgressPhase   `json:"phase"`
	Reference string          `json:"reference"` // the image's full name, once it is known
	Digest    string          `json:"digest"`    // of its manifest, once it is known
	Layers    []LayerProgress `json:"layers"`
	// CurrentBytes of TotalBytes are there. TotalBytes is 0 while it is not known.
	CurrentBytes uint64 `json:"current_bytes"`
	TotalBytes   uint64 `json:"total_bytes"`
	// Retry is the failure after which a request is tried again, until something moves on.
	Retry *RetryProgress `json:"retry"`
}

// ProgressPhase is what is being done about an image.
type ProgressPhase string

// The phases. Later versions may add some.
const (
	PhaseWaiting     ProgressPhase = "waiting"     // nothing yet
	PhaseResolving   ProgressPhase = "resolving"   // the registry is asked what the name stands for
	PhaseReading     ProgressPhase = "reading"     // a file or folder is being read
	PhaseDownloading ProgressPhase = "downloading" // layers are being fetched
	PhaseBuilding    ProgressPhase = "building"    // the root filesystem is being built
	PhaseDone        ProgressPhase = "done"        // the image is there
)

// LayerProgress is how far a layer is.
type LayerProgress struct {
	Digest       string `json:"digest"`
	State        string `json:"state"` // waiting, downloading, verifying, complete or exists
	CurrentBytes uint64 `json:"current_bytes"`
	TotalBytes   uint64 `json:"total_bytes"` // 0 while it is not known
}

// RetryProgress is a request that is tried again.
type RetryProgress struct {
	What    string `json:"what"`
	Reason  string `json:"reason"`
	Attempt uint32 `json:"attempt"` // that comes now; the first was 1
}

// ProgressOption is what [WithProgress] gives: an option of [Client.CreateBox], [Images.Pull] and
// [Images.Load].
type ProgressOption struct{ report progressFunc }

// WithProgress has a function called while an image is fetched: when something has changed, at
// most ten times a second, one call at a time, and a last time before the call that it is an
// option of returns. That call waits for it.
func WithProgress(report func(Progress)) ProgressOption { return ProgressOption{report} }

func (o ProgressOption) applyCreate(s *createSettings) { s.progress = o.report }
func (o ProgressOption) applyPull(s *pullSettings)     { s.progress = o.report }
func (o ProgressOption) applyLoad(s *loadSettings)     { s.progress = o.report }

type progressFunc func(Progress)

// progressWatch looks at the progress of an operation while it is there.
type progressWatch struct {
	report progressFunc
	last   string

	stopOnce sync.Once
	stop     chan struct{}
	stopped  chan struct{}
}

// watch gives nil, which is valid, if nobody wants to know.
func (f progressFunc) watch() *progressWatch {
	if f == nil {
		return nil
	}
	return &progressWatch{report: f, stop: make(chan struct{})}
}

// begin starts the watch with the operation that begin starts.
func (w *progressWatch) begin(begin func(uint64) (uint64, *ffi.Error)) func(uint64) (uint64, *ffi.Error) {
	if w == nil {
		return begin
	}
	return func(client uint64) (uint64, *ffi.Error) {
		op, failure := begin(client)
		if failure == nil {
			w.stopped = make(chan struct{})
			go w.run(op)
		}
		return op, failure
	}
}

func (w *progressWatch) run(op uint64) {
	defer close(w.stopped)
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.look(op)
		case <-w.stop:
			return
		}
	}
}

// look reports what has changed.
func (w *progressWatch) look(op uint64) {
	text, failure := ffi.OpProgressJSON(op)
	if failure != nil || text == w.last || text == "null" {
		return
	}
	w.last = text
	var progress Progress
	if decode(json.RawMessage(text), &progress) == nil {
		w.report(progress)
	}
}

// finish is for the end of the operation, while it is still there.
func (w *progressWatch) finish(op uint64) {
	if w != nil {
		w.end()
		w.look(op)
	}
}

// end stops the watch and waits for the last call.
func (w *progressWatch) end() {
	if w == nil || w.stopped == nil {
		return
	}
	w.stopOnce.Do(func() { close(w.stop) })
	<-w.stopped
}
