package boxlite

import (
	"context"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// PruneOption is an option of [Client.Prune].
type PruneOption interface{ applyPrune(*pruneOptions) }

type pruneOption func(*pruneOptions)

func (o pruneOption) applyPrune(p *pruneOptions) { o(p) }

type pruneOptions struct {
	Boxes     bool `json:"boxes"`
	Images    bool `json:"images"`
	AllImages bool `json:"all_images"`
	Bundles   bool `json:"bundles"`
	Templates bool `json:"templates"`
}

// KeepBoxes keeps boxes that don't run.
func KeepBoxes() PruneOption { return pruneOption(func(p *pruneOptions) { p.Boxes = false }) }

// KeepImages keeps images without a name.
func KeepImages() PruneOption { return pruneOption(func(p *pruneOptions) { p.Images = false }) }

// KeepBundles keeps the kernels and supervisors of other versions of boxlite.
func KeepBundles() PruneOption { return pruneOption(func(p *pruneOptions) { p.Bundles = false }) }

// KeepTemplates keeps the machines that others start from.
func KeepTemplates() PruneOption { return pruneOption(func(p *pruneOptions) { p.Templates = false }) }

// AllImages removes every image that no box was made from, also those with a name.
func AllImages() PruneOption { return pruneOption(func(p *pruneOptions) { p.AllImages = true }) }

// PruneReport is what [Client.Prune] removed.
type PruneReport struct {
	Boxes      []string `json:"boxes"`     // names
	Images     []string `json:"images"`    // names, or digests
	Templates  []string `json:"templates"` // keys
	FreedBytes uint64   `json:"freed_bytes"`
}

// Prune removes what is not used: boxes that don't run, images without a name and without a box,
// templates (they are made again), bundles of other versions, and what nothing names any more.
func (c *Client) Prune(ctx context.Context, options ...PruneOption) (*PruneReport, error) {
	settings := pruneOptions{Boxes: true, Images: true, Bundles: true, Templates: true}
	for _, option := range options {
		option.applyPrune(&settings)
	}
	text, err := encode("client_prune", settings)
	if err != nil {
		return nil, err
	}
	var report PruneReport
	err = c.doJSON(ctx, "client_prune", func(client uint64) (uint64, *ffi.Error) {
		return ffi.ClientPrune(client, text)
	}, &report, nil)
	if err != nil {
		return nil, err
	}
	return &report, nil
}
