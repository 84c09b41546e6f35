package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"hotdesk/protocol/rpc"
	"hotdesk/server/session/services"
)

type recorder chan any

func (r recorder) Attached(c Change)          { r <- [2]any{EventAttached, c} }
func (r recorder) Detached(c Change)          { r <- [2]any{EventDetached, c} }
func (r recorder) Quiet(c Change, quiet bool) { r <- [2]any{EventQuiet, c} }
func (r recorder) MediaRestarted(c Change)    { r <- [2]any{EventMedia, c} }
func (r recorder) Ended(e Ended)              { r <- [2]any{EventEnded, e} }

// pair returns a client and the connection of a keeper that answers with
// handle.
func pair(t *testing.T, handle rpc.Handler) (*Keeper, *rpc.Conn, recorder) {
	t.Helper()
	a, b := net.Pipe()
	events := make(recorder, 8)
	k, peer := New(a, events), rpc.New(b, handle)
	ended := make(chan error, 2)
	go func() { ended <- k.Serve(context.Background()) }()
	go func() { ended <- peer.Serve(context.Background()) }()
	t.Cleanup(func() {
		k.Close()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return k, peer, events
}

func TestRequests(t *testing.T) {
	status := Status{Session: "00000000000000a1", Token: "card.1", User: "ann", Started: 1, Last: 2, Terminal: "0800200a0b0c", Gen: 3, Display: ":7", Media: 4, X: 5, Services: []services.Report{{Name: "dbus", State: services.Running, PID: 6}}}
	attach := Attach{Terminal: "0800200a0b0c", Addr: netip.MustParseAddr("10.0.0.1"), Width: 1280, Height: 1024, Layout: "de"}
	offer := Offer{Port: 40000, Cert: []byte{1, 2}, Ticket: []byte{3}, Gen: 3}
	stopped := false
	k, _, _ := pair(t, func(_ context.Context, op string, body json.RawMessage) (any, error) {
		switch op {
		case OpStatus:
			return status, nil
		case OpAttach:
			var a Attach
			if err := rpc.Decode(body, &a); err != nil || !reflect.DeepEqual(a, attach) {
				t.Errorf("%+v, %v", a, err)
			}
			return offer, nil
		case OpDetach:
			var d Detach
			if err := rpc.Decode(body, &d); err != nil || d.Gen != 3 {
				t.Errorf("%+v, %v", d, err)
			}
			return nil, errors.New("keeper: no")
		case OpStop:
			stopped = true
			return nil, nil
		}
		return nil, errors.New("unknown")
	})
	if got, err := k.Status(t.Context()); err != nil || !reflect.DeepEqual(got, status) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := k.Attach(t.Context(), attach); err != nil || !reflect.DeepEqual(got, offer) {
		t.Errorf("%+v, %v", got, err)
	}
	var remote rpc.RemoteError
	if err := k.Detach(t.Context(), 3); !errors.As(err, &remote) || remote.Text != "keeper: no" {
		t.Errorf("error: %v", err)
	}
	if err := k.Stop(t.Context()); err != nil || !stopped {
		t.Errorf("error: %v", err)
	}
}

func TestEvents(t *testing.T) {
	_, peer, events := pair(t, nil)
	c := Change{Terminal: "0800200a0b0c", Gen: 3, Reason: "x"}
	for _, op := range []string{EventAttached, "unheard of", EventDetached, EventMedia} {
		if err := peer.Notify(op, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := peer.Notify(EventDetached, []string{"no change"}); err != nil { // ignored
		t.Fatal(err)
	}
	if err := peer.Notify(EventEnded, Ended{"over"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []any{[2]any{EventAttached, c}, [2]any{EventDetached, c}, [2]any{EventMedia, c}, [2]any{EventEnded, Ended{"over"}}} {
		if got := <-events; got != want {
			t.Errorf("event %+v, want %+v", got, want)
		}
	}
}
