package app

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/control"
	"hotdesk/server/registry"
)

var errNoRegistry = errors.New("server: there is no registry: start server without -registry none")

// enroll registers a card as the user's who has logged in with it in the
// reader. One that an admin has registered meanwhile stays as it is, if it is
// nobody else's.
func (o *office) enroll(ctx context.Context, token alp.Token, user string) error {
	if o.registry == nil {
		return errNoRegistry
	}
	_, _, err := o.registry.Change(ctx, registry.By{Who: user, Op: fmt.Sprintf("token add %s, by its user", token)}, func(now *registry.Snapshot) ([]adminapi.Edit, error) {
		r, there := now.Record(adminapi.KindToken, string(token))
		switch t := r.Token(); {
		case there && t.User == user:
			return nil, nil
		case there && (t.User != "" || t.Alias != "" || t.Disabled):
			return nil, registry.ErrConflict
		}
		next := adminapi.Record{Kind: adminapi.KindToken, Name: string(token), Fields: map[string]string{}}
		maps.Copy(next.Fields, r.Fields)
		next.Fields["user"] = user
		return []adminapi.Edit{adminapi.Put(next)}, nil
	})
	return err
}

// pin registers a terminal's key, where it has none yet.
func (o *office) pin(ctx context.Context, id alp.TerminalID, key string) error {
	if o.registry == nil {
		return errNoRegistry
	}
	_, _, err := o.registry.Change(ctx, registry.By{Who: "server", Op: fmt.Sprintf("terminal key %s, at its first use", id)}, func(now *registry.Snapshot) ([]adminapi.Edit, error) {
		return pinKey(now.Records(), id, key)
	})
	return err
}

// mostPinned is how many terminals the registry has at which no more are added
// to it for their keys: whoever makes terminals up leaves room for all else.
const mostPinned = 10_000

// pinKey is the change that gives a terminal its key.
func pinKey(records []adminapi.Record, id alp.TerminalID, key string) ([]adminapi.Edit, error) {
	r, known := adminapi.Find(records, adminapi.KindTerminal, string(id))
	switch r.Terminal().Key {
	case key:
		return nil, nil
	case "":
	default:
		return nil, control.ErrOtherKey
	}
	if !known {
		n := 0
		for _, r := range records {
			if r.Kind == adminapi.KindTerminal {
				n++
			}
		}
		if n >= mostPinned {
			return nil, fmt.Errorf("the registry has %d terminals, and takes no more by themselves: add those that are yours with `hotdesk terminal name`, and forget what nobody knows", n)
		}
	}
	next := adminapi.Record{Kind: adminapi.KindTerminal, Name: string(id), Fields: map[string]string{"key": key}}
	maps.Copy(next.Fields, r.Fields) // of which none is a key
	return []adminapi.Edit{adminapi.Put(next)}, nil
}
