package admin

import (
	"net/http"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
)

// explain says what would happen if a token came to a terminal of this host.
func (s *Server) explain(r *http.Request) (any, error) {
	q := r.URL.Query()
	token, terminal, user := q.Get("token"), q.Get("terminal"), q.Get("user")
	switch {
	case !alp.Token(token).Valid():
		return nil, adminapi.Invalid{Text: clip(token) + " is no token: it is KIND.ID, as `hotdesk terminal list` shows it"}
	case !alp.TerminalID(terminal).Valid():
		return nil, adminapi.Invalid{Text: clip(terminal) + " is no terminal's id: it has 12 hex digits, as `hotdesk terminal list` shows it"}
	case len(user) > adminapi.MaxName:
		return nil, adminapi.Invalid{Text: "user= is too long for a login name"}
	}
	return s.conf.Desk.Explain(r.Context(), alp.Token(token), alp.TerminalID(terminal), user), nil
}
