package client

import (
	"context"
	"encoding/json"
	"net"
	"testing"

	"hotdesk/protocol/rpc"
)

// TestLobby is a login over a pipe: the answer gets there, and is wiped here.
func TestLobby(t *testing.T) {
	ours, theirs := net.Pipe()
	secret := []byte("pw")
	var keeper *rpc.Conn
	keeper = rpc.New(theirs, func(ctx context.Context, op string, _ json.RawMessage) (any, error) {
		var r Reply
		if err := keeper.Call(ctx, OpPrompt, Prompt{PromptHidden, "Password:"}, &r); err != nil {
			return nil, err
		}
		if op != OpLogin || string(r.Answer) != "pw" {
			return LoggedIn{Error: "no: " + op}, nil
		}
		return LoggedIn{User: "ann"}, nil
	})
	l := NewLobby(ours, func(_ context.Context, p Prompt) (Reply, error) {
		if p.Kind != PromptHidden || p.Text != "Password:" {
			t.Errorf("%+v", p)
		}
		return Reply{secret}, nil
	})
	done := make(chan error, 2)
	go func() { done <- l.Serve(context.Background()) }()
	go func() { done <- keeper.Serve(context.Background()) }()
	in, err := l.Login(t.Context())
	if err != nil || in.User != "ann" {
		t.Errorf("%+v, %v", in, err)
	}
	if string(secret) != "\x00\x00" {
		t.Errorf("the answer is still there: %q", secret)
	}
	l.Close()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
