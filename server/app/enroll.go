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
		r, _ := now.Record(adminapi.KindTerminal, string(id))
		switch r.Terminal().Key {
		case key:
			return nil, nil
		case "":
		default:
			return nil, control.ErrOtherKey
		}
		next := adminapi.Record{Kind: adminapi.KindTerminal, Name: string(id), Fields: map[string]string{"key": key}}
		maps.Copy(next.Fields, r.Fields) // of which none is a key
		return []adminapi.Edit{adminapi.Put(next)}, nil
	})
	return err
}
