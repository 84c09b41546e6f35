package control_test

import (
	"testing"

	"hotdesk/protocol/adminapi"
	"hotdesk/server/session/cgroup"
)

// A rule's limits go to the parent with the session, those of a user's groups
// with the login already.
func TestLimits(t *testing.T) {
	if least := (cgroup.Limits{Memory: adminapi.MinMemory << 20, Processes: adminapi.MinProcesses, CPUWeight: adminapi.MaxCPUWeight}); least.Check() != nil ||
		cgroup.MinMemory != adminapi.MinMemory<<20 || cgroup.MinProcesses != adminapi.MinProcesses || cgroup.MaxWeight != adminapi.MaxCPUWeight {
		t.Error("rules and control groups have other bounds")
	}
	run(t, ruled("user ann groups=staff", "policy a group=staff memory=512 processes=host", "policy b bare=login memory=128 processes=64 cpu-weight=50"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.shown()
		v := r.dial(b)
		v.insert(bare(b))
		v.form().fill(0, nil, "ann", "pw")
		v.session()
		all := r.parent.Starts()
		if got, want := all[0].Limits, (cgroup.Limits{Memory: 128 << 20, Processes: 64, CPUWeight: 50}); got != want {
			t.Errorf("card.1: %+v, want %+v", got, want)
		}
		if got, want := all[1].Limits, (cgroup.Limits{Memory: 512 << 20, CPUWeight: 50}); got != want {
			t.Errorf("ann: %+v, want %+v", got, want)
		}
	})
}
