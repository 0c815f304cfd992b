package boxlite

import (
	"context"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// Metrics is what a box uses. Counters begin with its start.
type Metrics struct {
	SampledAt        time.Time     `json:"sampled_at"`
	CPUUsage         time.Duration `json:"cpu_usage"`          // of the box's processes
	MemoryUsageBytes uint64        `json:"memory_usage_bytes"` // of the box's processes
	MemoryLimitBytes uint64        `json:"memory_limit_bytes"` // of the machine
	NetRxBytes       uint64        `json:"net_rx_bytes"`
	NetTxBytes       uint64        `json:"net_tx_bytes"`
	BlockReadBytes   uint64        `json:"block_read_bytes"`
	BlockWriteBytes  uint64        `json:"block_write_bytes"`
	Processes        uint32        `json:"processes"`
	DiskUsedBytes    uint64        `json:"disk_used_bytes"`
	DiskTotalBytes   uint64        `json:"disk_total_bytes"`
	Uptime           time.Duration `json:"uptime"` // since the guest's kernel started
	Host             HostMetrics   `json:"host"`
}

// HostMetrics is what a box's machine costs the host.
type HostMetrics struct {
	CPU      time.Duration `json:"cpu"`       // of the engine
	RSSBytes uint64        `json:"rss_bytes"` // resident memory of the engine
	PSSBytes uint64        `json:"pss_bytes"` // proportional share of memory of engine and supervisor
}

// UnmarshalJSON reads what the library says.
func (m *Metrics) UnmarshalJSON(data []byte) error {
	type plain Metrics
	wire := struct {
		*plain
		SampledAtMs unixMs       `json:"sampled_at_ms"`
		CPUUsageUs  microseconds `json:"cpu_usage_us"`
		UptimeUs    microseconds `json:"uptime_us"`
	}{plain: (*plain)(m)}
	if err := decode(data, &wire); err != nil {
		return err
	}
	m.SampledAt = wire.SampledAtMs.time()
	m.CPUUsage, m.Uptime = wire.CPUUsageUs.duration(), wire.UptimeUs.duration()
	return nil
}

// UnmarshalJSON reads what the library says.
func (m *HostMetrics) UnmarshalJSON(data []byte) error {
	type plain HostMetrics
	wire := struct {
		*plain
		CPUUs microseconds `json:"cpu_us"`
	}{plain: (*plain)(m)}
	if err := decode(data, &wire); err != nil {
		return err
	}
	m.CPU = wire.CPUUs.duration()
	return nil
}

// Metrics measures what the box uses. The box must run.
func (b *Box) Metrics(ctx context.Context) (Metrics, error) {
	var metrics Metrics
	err := b.doJSON(ctx, "box_metrics", ffi.BoxMetrics, &metrics)
	return metrics, err
}
