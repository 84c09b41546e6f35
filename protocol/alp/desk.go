package alp

// CmdDeskReq is a wish of the person at a terminal about the session that is
// shown there (ours).
const CmdDeskReq = "deskReq"

// Wish is what the person wants.
type Wish string

// Wishes.
const (
	WishSwitch Wish = "switch" // another of the sessions, or a new one
	WishLeave  Wish = "leave"  // the session off this terminal; it runs on
)

// DeskReq is deskReq.
type DeskReq struct {
	Identity
	TokenSeq int // of the presentation whose picture is on the screen
	Wish     Wish
}

// Message builds the line.
func (r DeskReq) Message() Message {
	m := Message{Command: CmdDeskReq}
	m.Add("fw", r.Firmware)
	m.Add("hw", r.Hardware)
	m.Add("namespace", "IEEE802")
	m.AddInt("pn", r.Port)
	m.Add("sn", string(r.Terminal))
	m.AddInt("tokenSeq", r.TokenSeq)
	m.Add("wish", string(r.Wish))
	return m
}

// ParseDeskReq reads a deskReq.
func ParseDeskReq(m Message) (DeskReq, error) {
	p := reader{m: m, command: CmdDeskReq}
	r := DeskReq{Identity: p.identity(), TokenSeq: p.int("tokenSeq", 0, 1<<31-1), Wish: WishLeave}
	if p.either("wish", string(WishSwitch), string(WishLeave)) {
		r.Wish = WishSwitch
	}
	return done(r, p)
}
