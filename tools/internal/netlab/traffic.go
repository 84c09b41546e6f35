package netlab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// FrameOverhead is what a frame costs on an Ethernet cable beside the bytes
// that the kernel counts: preamble 8, checksum 4, gap 12.
const FrameOverhead = 24

// Traffic is what has gone over a node's first cable: to it and from it, in
// bytes of frames with their headers.
type Traffic struct{ InBytes, InFrames, OutBytes, OutFrames uint64 }

// Since is what has gone since before.
func (t Traffic) Since(before Traffic) Traffic {
	return Traffic{t.InBytes - before.InBytes, t.InFrames - before.InFrames, t.OutBytes - before.OutBytes, t.OutFrames - before.OutFrames}
}

// Traffic reads the counters of the node's first interface.
func (n *Node) Traffic() (t Traffic, err error) {
	err = n.Do(func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("netlab: netlink: %w", err)
		}
		defer h.Close()
		l, err := h.LinkByName("eth0")
		if err != nil {
			return fmt.Errorf("netlab: eth0: %w", err)
		}
		s := l.Attrs().Statistics
		t = Traffic{s.RxBytes, s.RxPackets, s.TxBytes, s.TxPackets}
		return nil
	})
	return t, err
}
