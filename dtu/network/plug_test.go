package network

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestPlug: the interface of an address loses its link and has it again.
func TestPlug(t *testing.T) {
	l := newLab(t)
	l.ip("-n " + l.terminal + " addr add 10.77.0.9/24 dev eth0")
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan bool, 8), make(chan struct{})
	go func() {
		defer close(ended)
		within(t, l.terminal, func() (struct{}, error) {
			return struct{}{}, Plug(ctx, addr("10.77.0.9"), func(up bool) { told <- up })
		})
	}()
	defer func() { cancel(); <-ended }()
	for _, want := range []bool{true, false, true} {
		l.plug(want)
		select {
		case up := <-told:
			if up != want {
				t.Fatalf("the link is up: %v, want %v", up, want)
			}
		case <-time.After(patience):
			t.Fatalf("nothing is told of the link's being up: %v", want)
		}
	}
}

func TestPlugOfNobody(t *testing.T) {
	err := Plug(t.Context(), addr("192.0.2.1"), func(bool) { t.Error("it is told of") })
	if err == nil || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Error(err)
	}
}
