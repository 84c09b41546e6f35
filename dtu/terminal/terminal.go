// Package terminal is what a terminal does: which token it presents where,
// which session it shows, and what its screen says meanwhile. It is a pure
// machine; package app performs what it asks for.
//
// Source: design section 2; seed 004 figures 9a to 9c (serverQ, redirect);
// reference/alp.md section 4 (states and timers) and section 10 (codes).
//
// Invariants:
//  1. The step that takes in a card's removal first blanks the screen and
//     closes media, then tells the server; from then on no action opens or
//     keeps media of a token that was presented before.
//  2. Answers are taken for the newest presentation (tokenSeq) alone.
//  3. At most one media connection and one control connection are open. While
//     there is none, at most MaxDials are being made; the first that is made
//     wins, and the others are closed in the same step.
//  4. Blank is never asked for while media is open, unless the same step
//     closes it: media's first frame is what ends an on-screen display.
//  5. A server that fails, refuses or closes again and again is asked at a
//     falling rate, at most every maxRetry.
//  6. A host counts as dead only when control and media are lost: reset, nobody
//     listening, or silent for native.DeadAfter, of which AnswerWithin followed a
//     question. Then every known server is dialled at once, and none waits for
//     another. Time in which the terminal itself stood still is not the host's
//     (stall.go).
//  7. Of a session that a redirect could not reach, or that was lost with its
//     server, the next server is told. None is asked to make another.
//  8. Of cards that come and go fast, the one that is in counts: tokens are
//     presented at a bounded rate, and not those of cards that are out.
//  9. A server has a card do nothing but what proof.go lists, and the PIN goes
//     to the card alone.
//  10. A presentation that is not answered is made again (ReplyWithin).
//
// The package does no I/O, has no goroutines and reads no clock. A Machine is
// not safe for concurrent use. Limits: MaxCards, MaxServers, MaxDials, MaxRedirects.
package terminal

import (
	"fmt"
	"net/netip"
	"time"

	"hotdesk/protocol/alp"
	names "hotdesk/smartcard/identity"
)

const (
	// MaxCards bounds the cards that are in at once; further ones are not seen.
	MaxCards = 8
	// MaxServers bounds the servers of one Found.
	MaxServers = 64
	// MaxDials bounds the control connections that are being made at once.
	MaxDials = 16
	// MaxRedirects bounds how often one token is sent on before the terminal
	// takes a rest.
	MaxRedirects = 5
	// MaxCircles bounds those rests. Then a server is told, and asks the user.
	MaxCircles = 2
)

// Times. Those of ALP are from alp.md section 4, the others are ours.
const (
	KeepAlive     = 20 * time.Second // keepAliveReq while a session is shown
	KeepAliveIdle = 40 * time.Second // and otherwise
	DeadAfter     = 60 * time.Second // of silence on control

	// ProbeAfter is the silence on control, after media was lost, at which the
	// host counts as dead (design section 2).
	ProbeAfter = time.Second
	// AnswerWithin is the same where media was lost by silence and
	// control was asked meanwhile: two of a terminal's worst round trips.
	AnswerWithin = 400 * time.Millisecond
	// Stagger is how long a server may keep the next one waiting.
	Stagger = 250 * time.Millisecond
	// WidenAfter is how long the known servers of a dead host's group are tried
	// before the network is asked as well.
	WidenAfter = 250 * time.Millisecond
	// firstProbe is the pause after which media is touched again when control
	// was lost; it doubles, maxProbes times: a host's processes die one by one.
	firstProbe = 10 * time.Millisecond
	maxProbes  = 6
	// NoticeAfter is how long a lost connection is not worth a notice.
	NoticeAfter = time.Second
	// Dying is how long before its own end what a server said of the end of a
	// session is part of that: a host's processes die one by one.
	Dying = time.Second
	// ReplyWithin is how long a presentation may wait for its answer, however well
	// the server is: longer than a gateway's lookup and the start of a session. Then
	// it is made once more, as whatever was to bring the answer may be lost.
	ReplyWithin = 45 * time.Second
	// DetachGrace is how long a terminal whose session was taken off it waits to
	// be told why, before it asks again.
	DetachGrace = 2 * time.Second
	// SlowRetry is when a refused pseudo token is presented again.
	SlowRetry = 20 * time.Second
	// Stable is how long something must have worked to be trusted again;
	// StableShown is the same with a picture on the screen.
	Stable      = 10 * time.Second
	StableShown = time.Second

	minRetry = 50 * time.Millisecond
	maxRetry = 2 * time.Second

	// RedirectWithin is the time the target of a redirect has to answer. Then
	// another server is told that it did not.
	RedirectWithin = 2 * time.Second
	// CirclePause is a rest from being sent from server to server.
	CirclePause = 3 * time.Second
	// LinkGrace is how long the network's link may be down before what is no
	// session's is taken off the screen.
	LinkGrace = time.Second
)

// On-screen codes (alp.md section 10).
const (
	CodeLink         = 1
	CodeNoSession    = 5
	CodeDenied       = 6
	CodeUntrusted    = 15
	CodeServer       = 22
	CodeNetworkDown  = 23
	CodeDisconnected = 24
	CodeRedirected   = 25
	CodeGraphics     = 26
	CodeBroadcast    = 27
	CodeUnregistered = 48
)

// State is what the terminal is doing, for people and scripts.
//
//	            Found           ControlUp          connInf allowed     MediaDrawn
//	searching ---------> connecting -------> waiting -------------> opening ------> picture
//	    ^                    |  ^              | |  ^                  |           |  |   ^
//	    |  none answers      |  | redirectInf  | |  | MediaDown        |           |  |   |
//	    +--------------------+  +- redirecting-+ |  +------------------+-----------+  |   |
//	    |                                        |                       ControlDown  |   | connInf,
//	    |   MediaDown too: 24, race              |                                    v   | gen as it was
//	    +<-------------------------------------- | ----------------------------- reconnecting
//	                                             |
//	       discInf (from any of these)           +--> refused (connInf denied)
//	disconnected <--
//
//	A redirect's target that is silent for RedirectWithin: searching, with
//	those servers that are known; the next is told (invariant 7). A link that
//	is out for LinkGrace: searching, but for a session's picture.
//
//	A card in: reading until it is named, then its token is presented; or
//	unreadable. A card out, from anywhere: blank, then the pseudo token is
//	presented: waiting, or what there was before waiting.
type State string

const (
	Searching    State = "searching"
	Connecting   State = "connecting"
	Redirecting  State = "redirecting"
	Waiting      State = "waiting"
	Opening      State = "opening"
	Picture      State = "picture"
	Reconnecting State = "reconnecting"
	Refused      State = "refused"
	Disconnected State = "disconnected"
	Reading      State = "reading"
	Unreadable   State = "unreadable"
	Off          State = "off" // before PowerOn
)

// Config is who the terminal is.
type Config struct {
	Identity      alp.Identity
	Layout        string // of its keyboard: us, de, fr
	Width, Height int    // of its screen
}

// Status is the machine at a glance.
type Status struct {
	State    State
	OSD      OSD // what the screen says; zero while a picture is shown
	Server   netip.AddrPort
	Control  bool // the control connection is up
	Session  alp.SessionID
	Gen      uint64
	Token    alp.Token // presented or to be presented; empty: none
	TokenSeq int
}

// link is where the control connection stands.
type link int

const (
	linkOff     link = iota
	linkLocate       // waiting for Found, nothing is dialled
	linkDial         // waiting for ControlUp or ControlDown of dials
	linkBackoff      // waiting for retryAt
	linkUp
)

// verdict is what the server said of the newest presentation.
type verdict int

const (
	verdictNone verdict = iota
	verdictAllowed
	verdictDenied
	verdictDisconnected
)

type card struct {
	n      int
	read   bool
	reason string // why it cannot be read
	kind   string
	id     string
	atr    []byte
	rules  string // version of those that named it
}

// token is a name to present; kind is empty where there is none.
type token struct {
	card     int // its number, 0: the pseudo token
	kind, id string
	atr      []byte
}

// media is one media connection; id 0: none.
type media struct {
	id      int
	drawn   bool
	session alp.SessionID
	gen     uint64
	host    string
}

// had is the session that the token was last shown, and where. A server that
// is told of it says when it has ended, instead of making another in silence;
// one that makes another after the first server was lost says that.
type had struct {
	server  netip.AddrPort
	session alp.SessionID
	gen     uint64
	host    string    // its name
	lost    time.Time // when that server was lost; zero: it was not
}

// dialling is a control connection that is being made.
type dialling struct {
	n      int
	server netip.AddrPort
}

// Machine is a terminal.
type Machine struct {
	cfg     Config
	now     time.Time
	out     []Action
	powered bool

	cards []card
	tok   token // zero: none
	osd   OSD   // zero: a picture is on the screen, or nothing yet

	link      link
	controls  int            // counts control connections
	control   int            // the one that is up, or was last
	server    netip.AddrPort // of it, or the one that was dialled last
	known     netip.AddrPort // the last that took us
	dials     []dialling
	queue     []netip.AddrPort // to be dialled when it is their turn
	seeking   bool             // a Locate is under way
	raced     bool             // since something was stable
	racing    bool             // a host is dead: all are dialled at once
	widened   bool             // and the network was asked
	shun      netip.AddrPort   // of it, where to dial it would only cost time
	asked     bool             // queue holds, or held, what was found since a server was lost
	untrusted string           // why a server of this round was not believed
	fails     int              // losses since something was stable
	props     string           // redirect proof for the server that is dialled
	redirect  bool             // the server that is dialled is a redirect's target
	tries     int              // at that target
	target    netip.AddrPort   // of a redirect; zero once it has answered
	failed    netip.AddrPort   // the target that did not
	redirects int              // of this token
	circles   int              // rests from them

	pace      pace // of presentations
	seq       int
	presented bool // on this control connection
	verdict   verdict
	verdictOn OSD // what the server said with it
	verdictAt time.Time
	lastGen   uint64 // highest of lastSes for this presentation
	lastSes   alp.SessionID
	had       had
	med       media
	ask       asking                  // of the card that is presented
	channel   [names.ChannelSize]byte // the connection's own name
	rules     string                  // version of those that name cards; empty: the terminal's own
	medias    int                     // counts media connections
	broken    int                     // media losses since one was stable
	probe     bool                    // media was lost: the next presentation shows whether the host lives
	probes    int                     // of media, since control was lost
	noticed   bool                    // a connection is lost, and the user was told
	told      string                  // what a server wants to be read over the picture
	tellFor   time.Duration
	corner    Notice // what the corner says
	linkOut   bool   // the network's link is down
	stalls    int    // since the server last said something

	quietAt time.Time // control was asked, as media was quiet, and says nothing; zero: it was not

	// Timers; zero: not set.
	retryAt   time.Time // dial or locate again
	presentAt time.Time // present again
	aliveAt   time.Time // keepAliveReq is due
	deadAt    time.Time // control counts as lost
	noticeAt  time.Time // say that something is lost
	stableAt  time.Time // control has lived long enough
	mediaAt   time.Time // media has lived long enough
	nextAt    time.Time // dial the next of queue
	widenAt   time.Time // ask the network too
	touchAt   time.Time // touch media
	replyAt   time.Time // the presentation has not been answered
	targetAt  time.Time // the target of a redirect has not answered
	tellAt    time.Time // what was told has been read
	linkAt    time.Time // the link has been down for too long
	answerAt  time.Time // the question of quietAt has had its time
}

// New makes a machine that is switched off.
func New(cfg Config) *Machine { return &Machine{cfg: cfg} }

// Step takes in what happened and returns what is to be done, in that order.
func (m *Machine) Step(now time.Time, e Event) []Action {
	m.wake(now)
	switch e := e.(type) {
	case PowerOn:
		m.power()
	case PowerCycle:
		m.power()
	case CardIn:
		m.cardIn(e)
	case CardRead:
		m.cardNamed(e.Card, card{kind: e.Type, id: e.ID, atr: e.ATR, rules: e.Rules})
	case CardUnreadable:
		m.cardNamed(e.Card, card{reason: e.Reason, rules: e.Rules})
	case CardOut:
		m.cardOut(e)
	case Resized:
		m.resized(e)
	default:
		if m.powered {
			m.network(e)
		}
	}
	return m.take()
}

func (m *Machine) network(e Event) {
	switch e := e.(type) {
	case Found:
		m.found(e)
	case Searched:
		m.searched(e)
	case ControlUp:
		m.controlUp(e)
	case ControlDown:
		m.controlDown(e)
	case Line:
		m.line(e)
	case ControlBound:
		if e.Control == m.control {
			m.channel = e.Channel
		}
	case CardAnswered:
		m.cardAnswered(e)
	case PINGiven:
		m.pinGiven(e)
	case PINTries:
		m.pinTries(e)
	case Wished:
		if m.presented && m.link == linkUp && m.med.session != "" {
			m.send(alp.DeskReq{Identity: m.cfg.Identity, TokenSeq: m.seq, Wish: e.Wish}.Message())
		}
	case MediaDrawn:
		m.mediaDrawn(e)
	case MediaDown:
		m.mediaDown(e)
	case MediaQuiet:
		m.mediaQuiet(e)
	case Link:
		m.linkIs(e)
	default:
		panic(fmt.Sprintf("terminal: event %T", e))
	}
}

func (m *Machine) take() []Action {
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

// timers lists every timer with what it does when it is due.
func (m *Machine) timers() []timer {
	return []timer{
		{&m.deadAt, m.dead},
		{&m.retryAt, m.retry},
		{&m.presentAt, m.present},
		{&m.aliveAt, m.keepAlive},
		{&m.noticeAt, m.notice},
		{&m.stableAt, func() { m.fails, m.redirects, m.raced = 0, 0, false }},
		{&m.mediaAt, func() { m.broken = 0 }},
		{&m.nextAt, m.dialMore},
		{&m.widenAt, m.widen},
		{&m.touchAt, m.touch},
		{&m.replyAt, m.unheard},
		{&m.targetAt, m.unanswered},
		{&m.tellAt, func() { m.told = ""; m.speak() }},
		{&m.linkAt, m.linkLost},
		{&m.answerAt, func() {}}, // mediaDown looks at quietAt; that this comes late says something (stall.go)
	}
}

type timer struct {
	at *time.Time
	do func()
}

// Next is when Tick must be called, zero: never.
func (m *Machine) Next() time.Time {
	var next time.Time
	for _, t := range m.timers() {
		if !t.at.IsZero() && (next.IsZero() || t.at.Before(next)) {
			next = *t.at
		}
	}
	return next
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) []Action {
	m.wake(now)
	for _, t := range m.timers() {
		if !t.at.IsZero() && !t.at.After(now) {
			*t.at = time.Time{}
			t.do()
		}
	}
	return m.take()
}

// Status tells where the machine stands.
func (m *Machine) Status() Status {
	s := Status{State: m.state(), OSD: m.osd, Server: m.server, Control: m.link == linkUp, TokenSeq: m.seq}
	if m.tok.kind != "" {
		s.Token = m.tok.name()
	}
	if m.med.id != 0 {
		s.Session, s.Gen = m.med.session, m.med.gen
	}
	return s
}

func (m *Machine) state() State {
	switch {
	case !m.powered:
		return Off
	case len(m.cards) > 0 && !m.cards[0].read:
		return Reading
	case len(m.cards) > 0 && m.cards[0].reason != "":
		return Unreadable
	case m.med.drawn && m.link == linkUp:
		return Picture
	case m.med.drawn:
		return Reconnecting
	case m.link == linkUp && m.verdict == verdictDenied:
		return Refused
	case m.link == linkUp && m.verdict == verdictDisconnected:
		return Disconnected
	case m.med.id != 0:
		return Opening
	case m.link == linkUp:
		return Waiting
	case m.redirect:
		return Redirecting
	case m.link == linkDial:
		return Connecting
	}
	return Searching
}

// power starts from nothing but the cards that are in and the count of
// presentations, so that nothing that was under way can be taken for an answer.
func (m *Machine) power() {
	m.powered = true
	m.endProof()
	m.blank(osdServer)
	m.closeMedia("power off")
	m.closeControl("power off")
	*m = Machine{cfg: m.cfg, now: m.now, out: m.out, powered: true, cards: m.cards, osd: m.osd,
		controls: m.controls, seq: m.seq, medias: m.medias, linkOut: m.linkOut, rules: m.rules}
	m.settle()
	m.locate(FromKnown)
}

func (m *Machine) resized(e Resized) {
	m.cfg.Width, m.cfg.Height = e.Width, e.Height
	switch {
	case m.med.id != 0:
		m.do(ResizeMedia{m.med.id, e.Width, e.Height})
	case m.osd != (OSD{}):
		m.do(Blank{m.osd}) // drawn for the new size
	}
}
