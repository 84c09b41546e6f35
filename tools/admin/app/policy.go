package app

import (
	"context"
	"io"
	"net/url"
	"strings"

	"hotdesk/protocol/adminapi"
)

// policyExplain asks what would happen if a token came to a terminal.
func (c *command) policyExplain(ctx context.Context, args []string) error {
	q := url.Values{"token": {args[0]}, "terminal": {args[1]}}
	if len(args) > 2 {
		q.Set("user", args[2])
	}
	var x adminapi.Explanation
	if err := c.client().ask(ctx, "GET", "/policy/explain?"+q.Encode(), nil, &x); err != nil {
		return err
	}
	return c.print(x, func(w io.Writer) {
		row(w, "outcome", x.Outcome)
		row(w, "decided by", x.Decided)
		row(w, "reason", x.Reason)
		row(w, "new session on", x.Place)
		row(w, "sessions of", x.Token)
		row(w, "user", x.User)
		row(w, "groups", strings.Join(x.Groups, ","))
		row(w, "MATTER", "VALUE", "RULE")
		for _, g := range x.Grounds {
			row(w, g.Matter, g.Value, g.Rule)
		}
	})
}
