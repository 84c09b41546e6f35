package app

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/registry"
)

// enroll registers a card as the user's who has logged in with it in the
// reader. One that an admin has registered meanwhile stays as it is, if it is
// nobody else's.
func (o *office) enroll(ctx context.Context, token alp.Token, user string) error {
	if o.registry == nil {
		return errors.New("server: there is no registry: start server without -registry none")
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
