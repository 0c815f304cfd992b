package boxlite

import (
	"context"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// Images are the images of a home; from [Client.Images].
type Images struct{ client *Client }

// ImageInfo is an image of a home.
type ImageInfo struct {
	Digest       string   `json:"digest"`        // of the manifest
	ConfigDigest string   `json:"config_digest"` // what docker calls the image's id
	References   []string `json:"references"`    // in full; empty: nobody names it any more
	Platform     string   `json:"platform"`
	// Created is when its maker says that it was made; zero if that does not say.
	Created     time.Time   `json:"created"`
	PulledAt    time.Time   `json:"pulled_at"`
	SizeBytes   uint64      `json:"size_bytes"`   // sum of the compressed sizes of its layers
	RootfsBytes uint64      `json:"rootfs_bytes"` // on the host's disk; 0 while it is not built
	Layers      []LayerInfo `json:"layers"`       // the lowest first
	Config      ImageConfig `json:"config"`
	Boxes       uint64      `json:"boxes"` // that were made from it
}

// UnmarshalJSON reads what the library says.
func (i *ImageInfo) UnmarshalJSON(data []byte) error {
	type plain ImageInfo
	wire := struct {
		*plain
		Created    *string `json:"created"`
		PulledAtMs unixMs  `json:"pulled_at_ms"`
	}{plain: (*plain)(i)}
	if err := decode(data, &wire); err != nil {
		return err
	}
	i.PulledAt = wire.PulledAtMs.time()
	i.Created = time.Time{}
	if wire.Created != nil {
		// Makers write what they like.
		i.Created, _ = time.Parse(time.RFC3339Nano, *wire.Created)
	}
	return nil
}

// LayerInfo is a layer of an image.
type LayerInfo struct {
	Digest    string `json:"digest"`     // of the compressed layer
	DiffID    string `json:"diff_id"`    // of what is in it
	SizeBytes uint64 `json:"size_bytes"` // compressed
}

// ImageConfig is what an image says about how it is to be run.
type ImageConfig struct {
	Entrypoint   []string          `json:"entrypoint"`
	Command      []string          `json:"command"`
	Env          []string          `json:"env"` // KEY=value
	WorkingDir   string            `json:"working_dir"`
	User         string            `json:"user"`
	StopSignal   string            `json:"stop_signal"`
	Volumes      []string          `json:"volumes"`
	ExposedPorts []string          `json:"exposed_ports"` // 80/tcp
	Labels       map[string]string `json:"labels"`
}

// ImageRemoval is what [Images.Remove] did.
type ImageRemoval struct {
	Untagged   []string `json:"untagged"` // names that are gone
	Deleted    []string `json:"deleted"`  // digests of images that are gone
	FreedBytes uint64   `json:"freed_bytes"`
}

// PullOption is an option of [Images.Pull].
type PullOption interface{ applyPull(*pullSettings) }

// LoadOption is an option of [Images.Load].
type LoadOption interface{ applyLoad(*loadSettings) }

type pullSettings struct {
	wire struct {
		Platform    string       `json:"platform,omitempty"`
		Credentials *Credentials `json:"credentials,omitempty"`
	}
	progress progressFunc
}

type loadSettings struct {
	wire struct {
		Platform string `json:"platform,omitempty"`
		Tag      string `json:"tag,omitempty"`
	}
	progress progressFunc
}

// PlatformOption is what [WithPlatform] gives.
type PlatformOption string

func (o PlatformOption) applyPull(s *pullSettings) { s.wire.Platform = string(o) }
func (o PlatformOption) applyLoad(s *loadSettings) { s.wire.Platform = string(o) }

// WithPlatform takes the image for "os/architecture[/variant]" instead of the host's.
func WithPlatform(platform string) PlatformOption { return PlatformOption(platform) }

type pullOption func(*pullSettings)

func (o pullOption) applyPull(s *pullSettings) { o(s) }

// WithCredentials gives credentials for this pull.
func WithCredentials(credentials Credentials) PullOption {
	return pullOption(func(s *pullSettings) { s.wire.Credentials = &credentials })
}

type loadOption func(*loadSettings)

func (o loadOption) applyLoad(s *loadSettings) { o(s) }

// WithTag names what is loaded, over the names that the archive has. It must then hold one image.
func WithTag(reference string) LoadOption {
	return loadOption(func(s *loadSettings) { s.wire.Tag = reference })
}

// Pull fetches an image from its registry. Layers that the home has are not fetched again. When
// ctx is done, it stops; layers that are complete are kept for the next time.
func (i *Images) Pull(ctx context.Context, reference string, options ...PullOption) (*ImageInfo, error) {
	var settings pullSettings
	for _, option := range options {
		option.applyPull(&settings)
	}
	text, err := encode("image_pull", settings.wire)
	if err != nil {
		return nil, err
	}
	var info ImageInfo
	err = i.client.doJSON(ctx, "image_pull", func(client uint64) (uint64, *ffi.Error) {
		return ffi.ImagePull(client, reference, text)
	}, &info, settings.progress.watch())
	if err != nil {
		return nil, err
	}
	return &info, nil
}

// Load loads every image of "docker-archive:PATH[:REFERENCE]", "oci:PATH[:TAG]",
// "oci-archive:PATH[:TAG]", or of the plain path of such a file.
func (i *Images) Load(ctx context.Context, source string, options ...LoadOption) ([]ImageInfo, error) {
	var settings loadSettings
	for _, option := range options {
		option.applyLoad(&settings)
	}
	text, err := encode("image_load", settings.wire)
	if err != nil {
		return nil, err
	}
	var images []ImageInfo
	err = i.client.doJSON(ctx, "image_load", func(client uint64) (uint64, *ffi.Error) {
		return ffi.ImageLoad(client, source, text)
	}, &images, settings.progress.watch())
	return images, err
}

// List lists all images, the newest first.
func (i *Images) List(ctx context.Context) ([]ImageInfo, error) {
	var images []ImageInfo
	err := i.client.doJSON(ctx, "image_list", ffi.ImageList, &images, nil)
	return images, err
}

// Get finds an image by name, digest or the beginning of a digest.
func (i *Images) Get(ctx context.Context, reference string) (*ImageInfo, error) {
	var info ImageInfo
	err := i.client.doJSON(ctx, "image_get", func(client uint64) (uint64, *ffi.Error) {
		return ffi.ImageGet(client, reference)
	}, &info, nil)
	if err != nil {
		return nil, err
	}
	return &info, nil
}

// Tag gives an image one more name.
func (i *Images) Tag(ctx context.Context, source, target string) error {
	return i.client.do(ctx, "image_tag", func(client uint64) (uint64, *ffi.Error) {
		return ffi.ImageTag(client, source, target)
	}, nil)
}

// Remove removes a name of an image, and with its last name the image. One that boxes were made
// from, and a digest with several names, are refused, unless [Force] is given; then all names go.
// What a box needs stays until the box is removed.
func (i *Images) Remove(ctx context.Context, reference string, options ...ImageRemoveOption) (*ImageRemoval, error) {
	var settings removeOptions
	for _, option := range options {
		option.applyImageRemove(&settings)
	}
	text, err := encode("image_remove", settings)
	if err != nil {
		return nil, err
	}
	var removal ImageRemoval
	err = i.client.doJSON(ctx, "image_remove", func(client uint64) (uint64, *ffi.Error) {
		return ffi.ImageRemove(client, reference, text)
	}, &removal, nil)
	if err != nil {
		return nil, err
	}
	return &removal, nil
}
