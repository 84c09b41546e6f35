package terminal

import (
	"fmt"
	"net/netip"
	"slices"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
)

// An Event is something that happened outside the machine.
type Event interface{ event() }

// Events.
type (
	// PowerOn switches the terminal on.
	PowerOn struct{}
	// PowerCycle switches it off and on again. Cards stay in.
	PowerCycle struct{}
	// Resized: the display has another size.
	Resized struct{ Width, Height int }

	// CardIn: a card was pushed in. Card numbers rise and are never used again.
	CardIn struct{ Card int }
	// CardRead: that card has been named.
	CardRead struct {
		Card     int
		Type, ID string
		ATR      []byte
		Rules    string // version of SetRules; empty: the terminal's own
	}
	// CardUnreadable: that card could not be named, for a Reason that a person
	// understands.
	CardUnreadable struct {
		Card   int
		Reason string
		Rules  string
	}
	// CardOut: that card is out.
	CardOut struct{ Card int }

	// Found answers Locate: servers to be tried in that order, at least one.
	Found struct{ Servers []netip.AddrPort }
	// Searched tells how a search goes on: a question was broadcast, or, with
	// an Error, could not be.
	Searched struct{ Error string }

	// ControlUp answers Connect: connected, and the server proved who it is.
	ControlUp struct{ Control int }
	// ControlDown: that connection has ended or did not come about. Untrusted:
	// the server could not prove that it is of the pinned authority.
	ControlDown struct {
		Control   int
		Reason    string
		Untrusted bool
	}
	// Line: a line came on that connection.
	Line struct {
		Control int
		Message alp.Message
	}

	// Wished: the person wants something of the server, about the session that
	// is shown.
	Wished struct{ Wish alp.Wish }

	// MediaDrawn: the first whole frame of that connection is on the screen.
	MediaDrawn struct{ Media int }
	// MediaDown: that connection has ended or did not come about. Peer: the
	// media end closed it, with Code.
	MediaDown struct {
		Media  int
		Peer   bool
		Code   native.CloseCode
		Reason string
	}
	// MediaQuiet: that connection's sign of life is late. It is not lost yet.
	MediaQuiet struct{ Media int }

	// Link: the network's link is up or down, where the kernel tells. It is up
	// until something else is said.
	Link struct{ Up bool }
)

func (PowerOn) event()        {}
func (PowerCycle) event()     {}
func (Resized) event()        {}
func (CardIn) event()         {}
func (CardRead) event()       {}
func (CardUnreadable) event() {}
func (CardOut) event()        {}
func (Found) event()          {}
func (Searched) event()       {}
func (ControlUp) event()      {}
func (ControlDown) event()    {}
func (Line) event()           {}
func (Wished) event()         {}
func (MediaDrawn) event()     {}
func (MediaDown) event()      {}
func (MediaQuiet) event()     {}
func (Link) event()           {}

// An Action is something to be done. Its text is for logs and scenarios.
type Action interface {
	fmt.Stringer
	action()
}

// OSD is what the screen says while there is no picture.
type OSD struct {
	Code  int // alp.md section 10
	Title string
	Text  string
}

// From says where a search begins.
type From int

const (
	FromKnown   From = iota // the first source: servers that are known
	FromNext                // those found before did not answer: the next source
	FromNetwork             // the known server is dead: ask the network
	FromAll                 // the known server is dead: every server that is known or was heard of
)

func (f From) String() string {
	return [...]string{"known servers first", "others", "ask the network", "all that are known"}[f]
}

// Actions.
type (
	// Blank takes the picture and the notice off the screen at once, ends every
	// decoder, and shows OSD.
	Blank struct{ OSD OSD }
	// Notice shows a text in a corner over the picture, with the code of what is
	// wrong, 0 of what a server wants to be read; no text takes it away.
	Notice struct {
		Code int
		Text string
	}

	// Locate asks for servers. Answered by Found; a later Locate takes the
	// place of one that is under way.
	Locate struct{ From From }
	// Connect opens control connection number Control.
	Connect struct {
		Control int
		Server  netip.AddrPort
	}
	// CloseControl ends a connection, or gives it up; what was sent before is
	// still delivered where possible. No event comes of it afterwards.
	CloseControl struct {
		Control int
		Reason  string
	}
	// Send sends a line.
	Send struct {
		Control int
		Message alp.Message
	}

	// OpenMedia opens media connection number Media: what is on the screen
	// stays until its first frame is whole.
	OpenMedia struct {
		Media int
		Addr  netip.AddrPort
		Cert  [32]byte
		Hello native.Hello
		Card  int // whose token the session is shown for, 0: none
	}
	// CloseMedia ends a connection, or gives it up, and drops all input for it,
	// at once. No event comes of it afterwards.
	CloseMedia struct {
		Media  int
		Reason string
	}
	// TouchMedia sends something to the media end: where nobody listens any more,
	// its host says so.
	TouchMedia struct{ Media int }
	// ResizeMedia tells the media end the screen's new size.
	ResizeMedia struct{ Media, Width, Height int }
)

func (Blank) action()        {}
func (Notice) action()       {}
func (Locate) action()       {}
func (Connect) action()      {}
func (CloseControl) action() {}
func (Send) action()         {}
func (OpenMedia) action()    {}
func (CloseMedia) action()   {}
func (TouchMedia) action()   {}
func (ResizeMedia) action()  {}

// secret are the keys whose values no log shows.
var secret = []string{"redirectProps", "ticket"}

// hidden is m without secrets and without the keys that leave says.
func hidden(m alp.Message, leave ...string) alp.Message {
	short := alp.Message{Command: m.Command}
	for _, p := range m.Keys {
		switch {
		case slices.Contains(leave, p.Key) || p.Key == "rules" && p.Value == builtIn:
		case slices.Contains(secret, p.Key) && p.Value != "":
			short.Add(p.Key, "(secret)")
		default:
			short.Keys = append(short.Keys, p)
		}
	}
	return short
}

// String is for logs.
func (e Line) String() string { return fmt.Sprintf("line on %d: %v", e.Control, hidden(e.Message)) }

func (a Blank) String() string {
	return fmt.Sprintf("blank: %d %s: %s", a.OSD.Code, a.OSD.Title, a.OSD.Text)
}

func (a Notice) String() string {
	if a.Text == "" {
		return "notice: none"
	}
	if a.Code != 0 {
		return fmt.Sprintf("notice: %d %s", a.Code, a.Text)
	}
	return "notice: " + a.Text
}

func (a Locate) String() string { return "locate: " + a.From.String() }

func (a Connect) String() string { return fmt.Sprintf("connect %d: %v", a.Control, a.Server) }

func (a CloseControl) String() string {
	return fmt.Sprintf("close connection %d: %s", a.Control, a.Reason)
}

// String leaves out what is the same in every line, and secrets.
func (a Send) String() string {
	return fmt.Sprintf("send on %d: %v", a.Control, hidden(a.Message, "_", "fw", "hw", "namespace", "pn", "sn", "initState"))
}

func (a OpenMedia) String() string {
	return fmt.Sprintf("open media %d: %v gen %d %dx%d", a.Media, a.Addr, a.Hello.Gen, a.Hello.Width, a.Hello.Height)
}

func (a CloseMedia) String() string { return fmt.Sprintf("close media %d: %s", a.Media, a.Reason) }

func (a TouchMedia) String() string { return fmt.Sprintf("touch media %d", a.Media) }

func (a ResizeMedia) String() string {
	return fmt.Sprintf("resize media %d: %dx%d", a.Media, a.Width, a.Height)
}
