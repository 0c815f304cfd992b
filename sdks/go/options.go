package boxlite

import (
	"log/slog"
	"strconv"
	"syscall"
	"time"
)

// BoxOptions is everything that can be said about a new box. Only Image is required; the zero
// value of every other field means the default.
//
// A box is idle after its start: it runs until it is stopped, and [Box.Command] runs things in
// it. Setting Command or Entrypoint, or RunImageCommand, gives it a main process with the rules
// of OCI images; when that exits, the box stops and keeps its exit status.
type BoxOptions struct {
	// Image is a registry reference ("alpine:3.20") or something on this host:
	// "docker-archive:PATH", "oci:PATH[:TAG]", "oci-archive:PATH", "dir:ROOTFS".
	Image string
	// Name is unique in the home. Empty: one is made up.
	Name string
	// CPUs is the number of virtual processors. Default 2.
	CPUs uint32
	// MemoryMiB is the machine's memory. Default 512.
	MemoryMiB uint64
	// DiskMiB is the size of the writable disk, of which only what is written takes space.
	// Default 10240.
	DiskMiB uint64
	// Env is laid over the image's environment.
	Env map[string]string
	// WorkingDir is made if it is missing. Empty: the image's, else "/".
	WorkingDir string
	// User is "name", "uid", "name:group" or "uid:gid", looked up in the box. Empty: the image's.
	User string
	// Hostname is the host name in the box. Empty: the first twelve digits of its id.
	Hostname string
	// Command is the main process, or the arguments of the entrypoint where there is one. It
	// replaces the image's command.
	Command []string
	// Entrypoint replaces the image's entrypoint and drops its command. Nil keeps the image's;
	// one that is empty but not nil clears it.
	Entrypoint []string
	// RunImageCommand runs the image's own entrypoint and command as the main process.
	RunImageCommand bool
	// Mounts are folders and files of the host in the box.
	Mounts []Mount
	// Ports of the box are published on the host.
	Ports []Port
	// Network is how the box is connected. Default [NetworkUser].
	Network NetworkMode
	// Labels are for filters and for programs.
	Labels map[string]string
	// Detached boxes live on when their client is closed or its process ends.
	Detached bool
	// Engine runs the machine. Default: the client's.
	Engine Engine
	// Platform is the image's, such as "linux/amd64". Empty: the host's.
	Platform string
	// TTY gives the main process a terminal.
	TTY bool
	// StdinOpen keeps the main process's standard input open while nobody is attached to it.
	StdinOpen bool
	// AutoRemove removes the box once it has ended.
	AutoRemove bool
	// PullPolicy says when the registry is asked. Default [PullMissing].
	PullPolicy PullPolicy
	// StopSignal asks the main process to end. 0: the image's, else SIGTERM.
	StopSignal syscall.Signal
	// StopTimeout is how long a stop waits before it kills. 0: ten seconds. Less than 0: it kills
	// at once.
	StopTimeout time.Duration
	// StartTimeout is how long a start may take without showing progress. 0: what suits the
	// accelerator.
	StartTimeout time.Duration
	// Security says how much of the jail around the engine is required. Default [SecurityStandard].
	Security Security
	// Start says what the machine's start may begin with. Default [StartAuto].
	Start StartPreference
	// ExtraHosts are lines for /etc/hosts.
	ExtraHosts []ExtraHost
	// DNS are the addresses of name servers. Empty: the host's are asked.
	DNS []string
	// DNSSearch are search domains.
	DNSSearch []string
	// LogLimits says how much output of the main process is kept. Zero: 3 files of 10 MiB beside
	// the one that is written.
	LogLimits LogLimits
}

// wireOptions is BoxOptions as the library reads it.
type wireOptions struct {
	Image           string            `json:"image"`
	Name            string            `json:"name,omitempty"`
	CPUs            uint32            `json:"cpus,omitempty"`
	MemoryMiB       uint64            `json:"memory_mib,omitempty"`
	DiskMiB         uint64            `json:"disk_mib,omitempty"`
	Env             map[string]string `json:"env,omitempty"`
	WorkingDir      string            `json:"working_dir,omitempty"`
	User            string            `json:"user,omitempty"`
	Hostname        string            `json:"hostname,omitempty"`
	Command         []string          `json:"command,omitempty"`
	Entrypoint      *[]string         `json:"entrypoint,omitempty"`
	RunImageCommand bool              `json:"run_image_command,omitempty"`
	Mounts          []Mount           `json:"mounts,omitempty"`
	Ports           []Port            `json:"ports,omitempty"`
	Network         NetworkMode       `json:"network,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Detached        bool              `json:"detached,omitempty"`
	Engine          Engine            `json:"engine,omitempty"`
	Platform        string            `json:"platform,omitempty"`
	TTY             bool              `json:"tty,omitempty"`
	StdinOpen       bool              `json:"stdin_open,omitempty"`
	AutoRemove      bool              `json:"auto_remove,omitempty"`
	PullPolicy      PullPolicy        `json:"pull_policy,omitempty"`
	StopSignal      string            `json:"stop_signal,omitempty"`
	StopTimeoutMs   *int64            `json:"stop_timeout_ms,omitempty"`
	StartTimeoutMs  *int64            `json:"start_timeout_ms,omitempty"`
	Security        Security          `json:"security,omitempty"`
	Start           StartPreference   `json:"start,omitempty"`
	ExtraHosts      []ExtraHost       `json:"extra_hosts,omitempty"`
	DNS             []string          `json:"dns,omitempty"`
	DNSSearch       []string          `json:"dns_search,omitempty"`
	LogLimits       *LogLimits        `json:"log_limits,omitempty"`
}

func (o BoxOptions) wire() wireOptions {
	wire := wireOptions{
		Image: o.Image, Name: o.Name, CPUs: o.CPUs, MemoryMiB: o.MemoryMiB, DiskMiB: o.DiskMiB, Env: o.Env,
		WorkingDir: o.WorkingDir, User: o.User, Hostname: o.Hostname, Command: o.Command,
		RunImageCommand: o.RunImageCommand, Mounts: o.Mounts, Ports: o.Ports, Network: o.Network, Labels: o.Labels,
		Detached: o.Detached, Engine: o.Engine, Platform: o.Platform, TTY: o.TTY, StdinOpen: o.StdinOpen,
		AutoRemove: o.AutoRemove, PullPolicy: o.PullPolicy, StopSignal: signalText(o.StopSignal),
		StopTimeoutMs: milliseconds(o.StopTimeout), StartTimeoutMs: milliseconds(o.StartTimeout),
		Security: o.Security, Start: o.Start, ExtraHosts: o.ExtraHosts, DNS: o.DNS, DNSSearch: o.DNSSearch,
	}
	if o.Entrypoint != nil {
		wire.Entrypoint = &o.Entrypoint
	}
	if o.LogLimits != (LogLimits{}) {
		wire.LogLimits = &o.LogLimits
	}
	return wire
}

// signalText gives a signal as the library reads it: a number is one of Linux.
func signalText(signal syscall.Signal) string {
	if signal == 0 {
		return ""
	}
	return strconv.Itoa(int(signal))
}

// milliseconds gives nil for 0, 0 for less, and rounds up.
func milliseconds(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	ms := int64(0)
	if d > 0 {
		ms = int64((d-1)/time.Millisecond) + 1
	}
	return &ms
}

// Mount is a folder or a file of the host that the box sees.
type Mount struct {
	// Source is a path on the host. A relative one is made absolute when the box is made.
	Source string `json:"source"`
	// Target is an absolute path in the box, made if it is missing.
	Target string `json:"target"`
	// ReadOnly is enforced on the host's side.
	ReadOnly bool `json:"read_only"`
}

// Port is a port of the box on the host.
type Port struct {
	// HostIP is the host's address to listen on. Empty: 127.0.0.1.
	HostIP string `json:"host_ip,omitempty"`
	// Host is the port of the host. 0: a free one at every start, which [BoxInfo.Ports] says.
	Host uint16 `json:"host"`
	// Guest is the port in the box.
	Guest uint16 `json:"guest"`
	// Protocol is the transport. Default [TCP].
	Protocol Protocol `json:"protocol,omitempty"`
}

// ExtraHost is a line of /etc/hosts.
type ExtraHost struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// LogLimits says how much output of the main process is kept.
type LogLimits struct {
	// MaxMiB is the size at which the log is rotated. 0: 10.
	MaxMiB uint64 `json:"max_mib,omitempty"`
	// Files is the number of rotated files that are kept beside the current one. 0: 3.
	Files uint32 `json:"files,omitempty"`
}

// Protocol is the transport of a port.
type Protocol string

// The transports.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// NetworkMode is how a box is connected.
type NetworkMode string

// The ways to be connected.
const (
	NetworkUser NetworkMode = "user" // outbound, with DNS, and published ports
	NetworkNone NetworkMode = "none" // loopback only
)

// Engine is what runs a machine.
type Engine string

// The engines.
const (
	EngineAuto Engine = "auto" // the first that works on this host
	EngineQEMU Engine = "qemu"
	EngineKrun Engine = "krun" // not built yet: asking for it is an error that says so
)

// Accelerator is what runs a guest's instructions.
type Accelerator string

// The accelerators.
const (
	AcceleratorAuto Accelerator = "auto" // what was seen to work on this host
	AcceleratorKVM  Accelerator = "kvm"
	AcceleratorHVF  Accelerator = "hvf"
	AcceleratorTCG  Accelerator = "tcg" // translation in software
)

// PullPolicy says when a registry is asked for an image.
type PullPolicy string

// The policies.
const (
	PullMissing PullPolicy = "missing" // when the home does not have it
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never" // it must be there
)

// StartPreference says what a machine's start may begin with.
type StartPreference string

// What a start may begin with.
const (
	StartAuto StartPreference = "auto" // a template of the machine's shape if there is one, else the kernel
	StartCold StartPreference = "cold" // the kernel
)

// Security says how much of the jail around the engine is required.
type Security string

// The levels.
const (
	SecurityStandard Security = "standard" // all that this host allows; see [BoxInfo.Jail]
	SecurityStrict   Security = "strict"   // all of it, else the box does not start
)

// ClientOption is an option of [NewClient].
type ClientOption interface{ applyClient(*clientSettings) }

type clientOption func(*clientSettings)

func (o clientOption) applyClient(s *clientSettings) { o(s) }

type clientSettings struct {
	wire   wireClient
	logger *slog.Logger
}

type wireClient struct {
	Home        string         `json:"home,omitempty"`
	Engine      Engine         `json:"engine,omitempty"`
	Accelerator Accelerator    `json:"accelerator,omitempty"`
	BundleDir   string         `json:"bundle_dir,omitempty"`
	Registries  wireRegistries `json:"registries"`
}

type wireRegistries struct {
	PlainHTTP      []string               `json:"plain_http,omitempty"`
	Mirrors        map[string][]string    `json:"mirrors,omitempty"`
	CACertificates []string               `json:"ca_certificates,omitempty"`
	Credentials    map[string]Credentials `json:"credentials,omitempty"`
}

// WithHome sets the home directory. Without it: BOXLITE_HOME, else ~/.boxlite.
func WithHome(dir string) ClientOption {
	return clientOption(func(s *clientSettings) { s.wire.Home = dir })
}

// WithEngine sets the engine of boxes that name none. Without it: BOXLITE_ENGINE, else the first
// that works.
func WithEngine(engine Engine) ClientOption {
	return clientOption(func(s *clientSettings) { s.wire.Engine = engine })
}

// WithAccelerator sets the accelerator. Without it: BOXLITE_ACCEL, else what was seen to work.
func WithAccelerator(accelerator Accelerator) ClientOption {
	return clientOption(func(s *clientSettings) { s.wire.Accelerator = accelerator })
}

// WithBundleDir names a folder with boxlite-shim, vmlinux and initramfs.cpio. Without it:
// BOXLITE_BUNDLE_DIR, else what is in the library.
func WithBundleDir(dir string) ClientOption {
	return clientOption(func(s *clientSettings) { s.wire.BundleDir = dir })
}

// WithLogger gives the log of the library to a logger. There is one library in a process: its
// log is that of all clients.
func WithLogger(logger *slog.Logger) ClientOption {
	return clientOption(func(s *clientSettings) { s.logger = logger })
}

// Registry says how a registry is reached.
type Registry struct {
	// PlainHTTP is for registries without TLS.
	PlainHTTP bool
	// Mirrors are asked before it, in this order: "https://host[:port]".
	Mirrors []string
	// Credentials for it. Nil: those of docker's and podman's files and helpers.
	Credentials *Credentials
}

// Credentials are a user name and a password, or an access token, for a registry.
type Credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// String does not give the password away.
func (c Credentials) String() string { return c.Username + ":***" }

// GoString does not give the password away.
func (c Credentials) GoString() string {
	return "boxlite.Credentials{Username:" + strconv.Quote(c.Username) + ", Password:***}"
}

// WithRegistry says how the registry host[:port] is reached.
func WithRegistry(host string, registry Registry) ClientOption {
	return clientOption(func(s *clientSettings) {
		registries := &s.wire.Registries
		if registry.PlainHTTP {
			registries.PlainHTTP = append(registries.PlainHTTP, host)
		}
		if len(registry.Mirrors) > 0 {
			if registries.Mirrors == nil {
				registries.Mirrors = make(map[string][]string)
			}
			registries.Mirrors[host] = registry.Mirrors
		}
		if registry.Credentials != nil {
			if registries.Credentials == nil {
				registries.Credentials = make(map[string]Credentials)
			}
			registries.Credentials[host] = *registry.Credentials
		}
	})
}

// WithCACertificates names PEM files with authorities to trust beside the system's.
func WithCACertificates(files ...string) ClientOption {
	return clientOption(func(s *clientSettings) {
		s.wire.Registries.CACertificates = append(s.wire.Registries.CACertificates, files...)
	})
}

// CreateOption is an option of [Client.CreateBox] beside [BoxOptions].
type CreateOption interface{ applyCreate(*createSettings) }

type createSettings struct{ progress progressFunc }

// ListOption is an option of [Client.ListBoxes]. All of them must hold.
type ListOption interface{ applyList(*listFilter) }

type listOption func(*listFilter)

func (o listOption) applyList(f *listFilter) { o(f) }

type listFilter struct {
	All       bool     `json:"all"`
	IDs       []string `json:"ids,omitempty"`
	Names     []string `json:"names,omitempty"`
	Labels    []string `json:"labels,omitempty"`
	States    []State  `json:"states,omitempty"`
	Ancestors []string `json:"ancestors,omitempty"`
}

// OnlyRunning lists boxes whose machine exists, or is about to.
func OnlyRunning() ListOption { return listOption(func(f *listFilter) { f.All = false }) }

// OnlyStates lists boxes in one of these states.
func OnlyStates(states ...State) ListOption {
	return listOption(func(f *listFilter) { f.States = append(f.States, states...) })
}

// OnlyIDs lists boxes whose id begins with one of these.
func OnlyIDs(beginnings ...string) ListOption {
	return listOption(func(f *listFilter) { f.IDs = append(f.IDs, beginnings...) })
}

// OnlyNames lists boxes whose name contains one of these.
func OnlyNames(parts ...string) ListOption {
	return listOption(func(f *listFilter) { f.Names = append(f.Names, parts...) })
}

// OnlyLabels lists boxes that have all of these labels: "key" or "key=value".
func OnlyLabels(labels ...string) ListOption {
	return listOption(func(f *listFilter) { f.Labels = append(f.Labels, labels...) })
}

// OnlyImages lists boxes that were made from one of these references or digests.
func OnlyImages(references ...string) ListOption {
	return listOption(func(f *listFilter) { f.Ancestors = append(f.Ancestors, references...) })
}

// RemoveOption is an option of [Client.RemoveBox].
type RemoveOption interface{ applyRemove(*removeOptions) }

// ImageRemoveOption is an option of [Images.Remove].
type ImageRemoveOption interface{ applyImageRemove(*removeOptions) }

type removeOptions struct {
	Force bool `json:"force"`
}

// ForceOption is what [Force] gives.
type ForceOption struct{}

func (ForceOption) applyRemove(o *removeOptions)      { o.Force = true }
func (ForceOption) applyImageRemove(o *removeOptions) { o.Force = true }

// Force removes a box also if it runs, and an image also if boxes were made from it.
func Force() ForceOption { return ForceOption{} }

// StopOption is an option of [Box.Stop] and [Box.Restart].
type StopOption interface{ applyStop(*stopOptions) }

type stopOption func(*stopOptions)

func (o stopOption) applyStop(s *stopOptions) { o(s) }

type stopOptions struct {
	TimeoutMs *int64 `json:"timeout_ms,omitempty"`
	Signal    string `json:"signal,omitempty"`
}

// StopTimeout sets how long to wait before killing. 0 kills at once.
func StopTimeout(d time.Duration) StopOption {
	return stopOption(func(s *stopOptions) {
		if d == 0 {
			d = -1
		}
		s.TimeoutMs = milliseconds(d)
	})
}

// StopSignal sets what is sent first.
func StopSignal(signal syscall.Signal) StopOption {
	return stopOption(func(s *stopOptions) { s.Signal = signalText(signal) })
}
