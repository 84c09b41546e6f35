package parent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/keeperapi"
)

// foundEvery is the time between two looks at the keepers of sessions that an
// earlier parent started: they are nobody's children here, and nobody tells when
// one dies.
const foundEvery = 5 * time.Second

// watchFound removes what those sessions leave whose keepers die, until ctx ends
// or there is none left.
func (p *parent) watchFound(ctx context.Context, ids []alp.SessionID) {
	tick := time.NewTicker(foundEvery)
	defer tick.Stop()
	for len(ids) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var left []alp.SessionID
		for _, id := range ids {
			lives, base, _ := alive(p.Runtime, id)
			if lives {
				left = append(left, id)
				continue
			}
			// Looked for last: it may go at any time before.
			if _, err := os.Lstat(keeperapi.Lock(p.Runtime, id)); errors.Is(err, fs.ErrNotExist) {
				continue // it ended in good order
			}
			p.Log.Error("keeper died", "session", id)
			p.remains.clear(id, base)
		}
		ids = left
	}
}
