package boxlite

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// State is the state of a box.
type State string

// The states. Later versions may add some.
const (
	StateCreated  State = "created"  // made and never started
	StateStarting State = "starting" // a start is under way
	StateRunning  State = "running"  // the machine runs
	StateStopping State = "stopping" // a stop is under way
	StateStopped  State = "stopped"  // it ran, and ended in order
	StatePaused   State = "paused"   // the machine stands still; its memory is kept
	StateFailed   State = "failed"   // the machine failed; BoxInfo.Error says how
)

// IsAlive says whether a machine exists, or is about to.
func (s State) IsAlive() bool {
	return s == StateStarting || s == StateRunning || s == StateStopping || s == StatePaused
}

// BoxInfo is everything about a box, as it was when it was asked for.
type BoxInfo struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Image       string `json:"image"`        // as it was asked for
	ImageDigest string `json:"image_digest"` // of the image's manifest
	Platform    string `json:"platform"`     // such as linux/amd64
	State       State  `json:"state"`

	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at"`  // of the last start; zero: never
	FinishedAt time.Time `json:"finished_at"` // when it last ended; zero: never

	// ExitStatus says how the main process ended, if the box has ended and had one.
	ExitStatus *ExitStatus `json:"exit_status"`
	// ExitCode is the code of ExitStatus as shells have it: 128 + the signal for one that was
	// ended by a signal. Nil where ExitStatus is.
	ExitCode *int `json:"-"`
	// Error says why the box failed, if it did.
	Error *Error `json:"error"`

	CPUs        uint32        `json:"cpus"`
	MemoryMiB   uint64        `json:"memory_mib"`
	DiskMiB     uint64        `json:"disk_mib"`
	Command     []string      `json:"command"` // of the main process; empty: the box is idle
	Env         []string      `json:"env"`     // KEY=value
	WorkingDir  string        `json:"working_dir"`
	User        string        `json:"user"` // empty: root
	Hostname    string        `json:"hostname"`
	StopSignal  string        `json:"stop_signal"` // by name
	StopTimeout time.Duration `json:"stop_timeout"`
	TTY         bool          `json:"tty"`
	StdinOpen   bool          `json:"stdin_open"`
	Detached    bool          `json:"detached"`
	AutoRemove  bool          `json:"auto_remove"`
	Mounts      []Mount       `json:"mounts"`
	// Ports have, while the box runs, the real port of the host.
	Ports   []Port      `json:"ports"`
	Network NetworkMode `json:"network"`
	// Labels are the image's and, over them, the box's own.
	Labels map[string]string `json:"labels"`
	Engine Engine            `json:"engine"` // that was asked for
	// Run is what the last start found and took. Nil before the first.
	Run *RunInfo `json:"run"`
	// Jail is what confines the engine since the last start. Nil before the first.
	Jail *JailInfo `json:"jail"`
	// Directory is the box's folder in the home.
	Directory string `json:"directory"`
}

// UnmarshalJSON reads what the library says.
func (i *BoxInfo) UnmarshalJSON(data []byte) error {
	type plain BoxInfo
	wire := struct {
		*plain
		CreatedAtMs   unixMs  `json:"created_at_ms"`
		StartedAtMs   *unixMs `json:"started_at_ms"`
		FinishedAtMs  *unixMs `json:"finished_at_ms"`
		StopTimeoutMs int64   `json:"stop_timeout_ms"`
	}{plain: (*plain)(i)}
	if err := decode(data, &wire); err != nil {
		return err
	}
	i.CreatedAt = wire.CreatedAtMs.time()
	i.StartedAt, i.FinishedAt = wire.StartedAtMs.orZero(), wire.FinishedAtMs.orZero()
	i.StopTimeout = time.Duration(wire.StopTimeoutMs) * time.Millisecond
	if i.ExitStatus != nil {
		code := i.ExitStatus.shellCode()
		i.ExitCode = &code
	}
	return nil
}

// unixMs is a time in milliseconds since 1970.
type unixMs int64

func (t unixMs) time() time.Time { return time.UnixMilli(int64(t)) }

func (t *unixMs) orZero() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.time()
}

// microseconds is a duration as the library writes it.
type microseconds int64

func (d microseconds) duration() time.Duration { return time.Duration(d) * time.Microsecond }

// RunInfo is one run of a box's machine: the current one, or the last.
type RunInfo struct {
	RunID               string        `json:"run_id"`
	Engine              string        `json:"engine"`               // and its version: "qemu 7.2.9"
	Accelerator         string        `json:"accelerator"`          // kvm, hvf or tcg
	AcceleratorEvidence []string      `json:"accelerator_evidence"` // what it was chosen by
	StartMode           string        `json:"start_mode"`           // warm (from a template) or cold (with the kernel)
	ColdReason          string        `json:"cold_reason"`          // why it was cold
	Stages              []StageTiming `json:"stages"`               // of the start, in their order
	Warnings            []string      `json:"warnings"`             // about the engine that was taken, and a start from a template that failed
	AgentVersion        string        `json:"agent_version"`
	KernelRelease       string        `json:"kernel_release"` // of the guest
	ShimPID             int           `json:"shim_pid"`       // of the supervisor on the host, while the box runs
	EnginePID           int           `json:"engine_pid"`     // of the engine on the host, while the box runs
}

// StageTiming is one stage of a start.
type StageTiming struct {
	Stage    string        `json:"stage"`
	Duration time.Duration `json:"duration"`
}

// UnmarshalJSON reads what the library says.
func (s *StageTiming) UnmarshalJSON(data []byte) error {
	var wire struct {
		Stage      string       `json:"stage"`
		DurationUs microseconds `json:"duration_us"`
	}
	if err := decode(data, &wire); err != nil {
		return err
	}
	*s = StageTiming{Stage: wire.Stage, Duration: wire.DurationUs.duration()}
	return nil
}

// JailInfo is what confines the engine on this host.
type JailInfo struct {
	Applied []string         `json:"applied"` // measures that are in force
	Missing []MissingMeasure `json:"missing"` // measures that could not be taken
}

// MissingMeasure is a measure that could not be taken.
type MissingMeasure struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// ProcessInfo is a process in a box.
type ProcessInfo struct {
	PID         int           `json:"pid"`
	ParentPID   int           `json:"parent_pid"`
	UID         uint32        `json:"uid"`
	User        string        `json:"user"` // its name in the box, or the number
	CPU         time.Duration `json:"cpu"`
	StartedAt   time.Time     `json:"started_at"`
	MemoryBytes uint64        `json:"memory_bytes"` // resident
	State       string        `json:"state"`        // one letter, proc(5)
	TTY         string        `json:"tty"`
	Command     string        `json:"command"` // its arguments, joined with spaces
}

// UnmarshalJSON reads what the library says.
func (p *ProcessInfo) UnmarshalJSON(data []byte) error {
	type plain ProcessInfo
	wire := struct {
		*plain
		CPUUs       microseconds `json:"cpu_us"`
		StartedAtMs unixMs       `json:"started_at_ms"`
	}{plain: (*plain)(p)}
	if err := decode(data, &wire); err != nil {
		return err
	}
	p.CPU, p.StartedAt = wire.CPUUs.duration(), wire.StartedAtMs.time()
	return nil
}

// ExitStatus says how a process of a box ended.
type ExitStatus struct {
	// Code is what it exited with; -1 if a signal ended it.
	Code int
	// Signal is the Linux signal that ended it, or 0.
	Signal syscall.Signal
	// OutOfMemory says that the guest's kernel killed it for want of memory.
	OutOfMemory bool
	// OutputCut says that others held its outputs when WaitDelay was over.
	OutputCut bool
}

// ExitCode is what the process exited with; -1 if a signal ended it.
func (s ExitStatus) ExitCode() int { return s.Code }

// Success says whether the process exited with code 0.
func (s ExitStatus) Success() bool { return s.Code == 0 && s.Signal == 0 }

// String says it as os/exec does: "exit status 3", "signal: killed".
func (s ExitStatus) String() string {
	var text string
	switch {
	case s.Signal != 0:
		text = "signal: " + s.Signal.String()
	case s.Code < 0:
		text = "no exit status"
	default:
		text = fmt.Sprintf("exit status %d", s.Code)
	}
	if s.OutOfMemory {
		text += " (out of memory)"
	}
	return text
}

func (s ExitStatus) shellCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

type wireStatus struct {
	Code        *int            `json:"code"`
	Signal      *syscall.Signal `json:"signal"`
	OutOfMemory bool            `json:"out_of_memory"`
	OutputCut   bool            `json:"output_cut"`
}

// UnmarshalJSON reads what the library says.
func (s *ExitStatus) UnmarshalJSON(data []byte) error {
	var wire *wireStatus
	if err := decode(data, &wire); err != nil {
		return err
	}
	*s = ExitStatus{Code: -1}
	if wire == nil {
		return nil
	}
	s.OutOfMemory, s.OutputCut = wire.OutOfMemory, wire.OutputCut
	if wire.Code != nil {
		s.Code = *wire.Code
	}
	if wire.Signal != nil {
		s.Signal = *wire.Signal
	}
	return nil
}

// MarshalJSON writes it as the library does.
func (s ExitStatus) MarshalJSON() ([]byte, error) {
	wire := wireStatus{OutOfMemory: s.OutOfMemory, OutputCut: s.OutputCut}
	if s.Signal != 0 {
		wire.Signal = &s.Signal
	} else if s.Code >= 0 {
		wire.Code = &s.Code
	}
	return json.Marshal(wire)
}

// SystemInfo is what a client works with.
type SystemInfo struct {
	Version  string `json:"version"` // of the library
	Home     string `json:"home"`
	Platform string `json:"platform"` // of images that run here
	// Engine is the one that is taken where none is named; nil, and EngineError says why.
	Engine      *EngineInfo `json:"engine"`
	EngineError *Error      `json:"engine_error"`
	// Accelerator is the one that a start takes.
	Accelerator *AcceleratorInfo `json:"accelerator"`
	// Bundle is the supervisor, the kernel and the initramfs; nil, and BundleError says why.
	Bundle          *BundleInfo `json:"bundle"`
	BundleError     *Error      `json:"bundle_error"`
	Boxes           BoxCounts   `json:"boxes"`
	Images          uint64      `json:"images"`
	HostCPUs        uint32      `json:"host_cpus"` // that this process may use
	HostMemoryBytes uint64      `json:"host_memory_bytes"`
	HostKernel      string      `json:"host_kernel"`
}

// EngineInfo is an engine on this host.
type EngineInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Path    string `json:"path"`
}

// AcceleratorInfo is an accelerator and why it was chosen.
type AcceleratorInfo struct {
	Name     Accelerator `json:"name"`
	Evidence []string    `json:"evidence"`
}

// BundleInfo says where supervisor, kernel and initramfs come from.
type BundleInfo struct {
	Directory string `json:"directory"`
	Origin    string `json:"origin"` // embedded, given or build_tree
}

// BoxCounts says how many boxes are in which state.
type BoxCounts struct {
	Total   uint64 `json:"total"`
	Running uint64 `json:"running"`
	Paused  uint64 `json:"paused"`
	Stopped uint64 `json:"stopped"` // created, stopped or failed
}

// DoctorReport is what [Client.Doctor] found.
type DoctorReport struct {
	Checks []Check `json:"checks"`
}

// OK says whether a box can be started: no check failed.
func (r *DoctorReport) OK() bool {
	for _, check := range r.Checks {
		if check.Status == CheckFailure {
			return false
		}
	}
	return true
}

// String has a line for each check, and one for what mends it.
func (r *DoctorReport) String() string {
	var b strings.Builder
	for _, check := range r.Checks {
		fmt.Fprintf(&b, "%-8s %s: %s\n", check.Status, check.Name, check.Message)
		if check.Fix != "" {
			fmt.Fprintf(&b, "         %s\n", check.Fix)
		}
	}
	return b.String()
}

// Check is one thing that a start needs.
type Check struct {
	Name    string      `json:"name"`
	Status  CheckStatus `json:"status"`
	Message string      `json:"message"` // what was found
	Fix     string      `json:"fix"`     // the command or change that mends it
}

// CheckStatus is how a check came out.
type CheckStatus string

// How checks come out.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarning CheckStatus = "warning" // a start works, but something is slower or weaker
	CheckFailure CheckStatus = "failure" // a start can't work
)

// DiskUsage is what a home takes of the host's disk. Bytes are what files really take.
type DiskUsage struct {
	Images     UsageClass   `json:"images"`      // layers, manifests and root filesystems
	Boxes      UsageClass   `json:"boxes"`       // disks and logs
	Bundles    UsageClass   `json:"bundles"`     // unpacked kernels and supervisors
	Templates  UsageClass   `json:"templates"`   // machines that have booted, for warm starts
	BuildCache UsageClass   `json:"build_cache"` // layers and root filesystems that no image names any more
	ImageList  []ImageUsage `json:"image_list"`
	BoxList    []BoxUsage   `json:"box_list"`
}

// UsageClass is one class of things that take space.
type UsageClass struct {
	Count            uint64 `json:"count"`
	Active           uint64 `json:"active"` // that are in use
	SizeBytes        uint64 `json:"size_bytes"`
	ReclaimableBytes uint64 `json:"reclaimable_bytes"` // that [Client.Prune] could free
}

// ImageUsage is what one image takes.
type ImageUsage struct {
	References  []string `json:"references"`
	Digest      string   `json:"digest"`
	LayersBytes uint64   `json:"layers_bytes"` // those that are shared are counted for each image
	RootfsBytes uint64   `json:"rootfs_bytes"`
	Boxes       uint64   `json:"boxes"` // that were made from it
}

// BoxUsage is what one box takes.
type BoxUsage struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	SizeBytes uint64 `json:"size_bytes"`
}
