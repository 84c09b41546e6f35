package lab

import (
	"context"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"
)

// All lists every process of the host: its programs, its sessions, and all
// that run below them.
func (h *Host) All(ctx context.Context) ([]int, error) {
	roots := []int{h.GroupMgr.PID(), h.Server.PID()}
	ids, err := h.Sessions()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		_, keeper, err := h.Keeper(ctx, id)
		if err != nil {
			return nil, err
		}
		roots = append(roots, keeper)
	}
	procs := processes()
	var all []int
	for id := range procs {
		for up := id; up > 1; up = procs[up].parent {
			if slices.Contains(roots, up) {
				all = append(all, id)
				break
			}
		}
	}
	return all, nil
}

// Crash kills every process of the host at once, also when it is stalled, and
// returns when they are gone. What the kernel would have lost with a real host
// is not cleaned up.
func (h *Host) Crash(ctx context.Context) error {
	all := h.stalled
	if all == nil {
		var err error
		if all, err = h.All(ctx); err != nil {
			return err
		}
	}
	h.stalled = nil
	Signal(all, syscall.SIGKILL)
	return h.Gone(ctx, all)
}

// Stall stops every process of the host: it is as silent as behind a link that
// was cut. Crash or Resume ends that.
func (h *Host) Stall(ctx context.Context) (err error) {
	if h.stalled, err = h.All(ctx); err == nil {
		Signal(h.stalled, syscall.SIGSTOP)
	}
	return err
}

// Resume lets a host go on that was stalled.
func (h *Host) Resume() {
	Signal(h.stalled, syscall.SIGCONT)
	h.stalled = nil
}

// Stay has the host's programs keep their addresses when they are started
// again.
func (h *Host) Stay() error {
	addr, port, err := net.SplitHostPort(h.Addr)
	if err == nil && h.installed == nil {
		h.oldAddr, h.oldPort = []string{"-addr", addr}, []string{"-control-port", port}
	}
	return err
}

// Signal sends a signal to processes; those that have ended are passed over.
func Signal(pids []int, s syscall.Signal) {
	for _, id := range pids {
		_ = syscall.Kill(id, s)
	}
}

// Gone waits until killed processes are gone.
func (h *Host) Gone(ctx context.Context, all []int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		procs := processes()
		if !slices.ContainsFunc(all, func(id int) bool { return procs[id].id == id }) {
			<-h.GroupMgr.Done()
			<-h.Server.Done()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lab: processes of %s are still there: %w", h.Name, ctx.Err())
		}
	}
}

// Boot starts the programs of a host that crashed, at its old addresses.
func (h *Host) Boot(ctx context.Context) error {
	if err := h.Stay(); err != nil {
		return err
	}
	if err := h.StartGroupMgr(ctx); err != nil {
		return err
	}
	return h.StartServer(ctx)
}
