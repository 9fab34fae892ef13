package observe

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orlop/orlop/services/registry/replicate"
)

// Replication shows how the rules of a replicator are doing. It is a
// [prometheus.Collector]; names of rules are the operator's, so they are bounded.
type Replication struct{ Replicator *replicate.Replicator }

func figure(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("orlop_registry_replication_"+name, help, []string{"rule"}, nil)
}

var (
	replicationWaiting = figure("waiting", "References that are to be told.")
	replicationFailing = figure("failing", "References that were refused and will be tried again.")
	replicationAge     = figure("lag_seconds", "For how long the first of them waits.")
	replicationPushed  = figure("pushed_total", "References that were told.")
	replicationDeleted = figure("deleted_total", "References that were deleted.")
	replicationRefused = figure("refused_total", "Tries that the target has refused.")
	replicationBytes   = figure("bytes_total", "Bytes of blobs and manifests that were sent.")
)

// Describe is [prometheus.Collector]'s.
func (r Replication) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{replicationWaiting, replicationFailing, replicationAge, replicationPushed, replicationDeleted, replicationRefused, replicationBytes} {
		out <- d
	}
}

// Collect is [prometheus.Collector]'s.
func (r Replication) Collect(out chan<- prometheus.Metric) {
	all, err := r.Replicator.Status(context.Background())
	if err != nil {
		out <- prometheus.NewInvalidMetric(replicationWaiting, err)
		return
	}
	for _, s := range all {
		lag := 0.0
		if s.Oldest != nil {
			lag = time.Since(*s.Oldest).Seconds()
		}
		for d, v := range map[*prometheus.Desc]float64{replicationWaiting: float64(s.Waiting), replicationFailing: float64(s.Failing), replicationAge: lag} {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Name)
		}
		for d, v := range map[*prometheus.Desc]int64{replicationPushed: s.Pushed, replicationDeleted: s.Deleted, replicationRefused: s.Refused, replicationBytes: s.Bytes} {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), s.Name)
		}
	}
}
