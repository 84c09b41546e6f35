// Package greeter is the media end of the gateway's own screens: those that
// need no session.
//
// Source: design sections 1 to 3.
//
// Invariants:
//  1. Pictures are shared by all terminals that show the same screen in the
//     same size; at most MaxPictures are kept.
//  2. No picture is larger than Config.Most, whatever a terminal says of its
//     screen; a terminal centres a smaller one.
//  3. Input does nothing, but for a change of the screen's size and on forms.
//  4. A form that nobody has touched for awakeFor has no picture of its own.
//     What was typed into it is wiped when it is answered or gone.
//
// A Greeter is safe for concurrent use; Serve is its life.
package greeter

import (
	"context"
	"fmt"
	"image"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/native"
	"hotdesk/server/session/attach"
	"hotdesk/server/session/client"
	"hotdesk/server/session/encode"
)

const (
	// MaxPictures bounds the pictures kept for terminals to come.
	MaxPictures = 6
	// MaxText bounds a screen's text, in bytes.
	MaxText = 512
)

// Kind says which screen.
type Kind int

const (
	InsertCard Kind = iota + 1 // asks for a card
	Denied                     // Text says why
	Question                   // Text says what is wrong, Answers what can be done

	formKind // Text stands for the form
)

// A Screen is what is shown.
type Screen struct {
	Kind Kind
	Text string
	// Of a Question: the first ones that are not empty, and which one Return
	// takes.
	Answers [MaxAnswers]string
	Marked  int
}

// A Request is for a terminal to show a screen. Came and Gone, which may be
// nil, are called when it does and when it does no longer. With a Form, that
// is shown in place of Screen, and Answer gets what comes of it, once for each
// form that is Put.
type Request struct {
	Terminal      alp.TerminalID
	Addr          netip.Addr
	Width, Height int
	Screen        Screen
	Form          *Form
	Answer        func(gen uint64, a Answer)
	Came, Gone    func(gen uint64)
	Chose         func(gen uint64, option int) // of a Question, once at most
}

// Config says where a Greeter listens and what its pictures say.
type Config struct {
	Conn net.PacketConn // open for the life of Serve, and not closed by it
	Host string         // at the foot of each screen
	Most image.Point    // largest picture
	Log  *slog.Logger   // nil: silent
}

// A Greeter shows screens.
type Greeter struct {
	conf Config
	end  *attach.Endpoint
	cert [32]byte
	gen  atomic.Uint64

	mu       sync.Mutex
	pictures []picture        // the one used last comes last
	forms    map[uint64]*feed // by gen
	awake    int              // forms with a picture of their own

	painting chan struct{} // a place for each form that is painted for one view
}

type picture struct {
	screen Screen
	w, h   int
	pixmap *draw.Pixmap
}

// New makes a Greeter.
func New(conf Config) (*Greeter, error) {
	id, err := attach.NewIdentity()
	if err != nil {
		return nil, fmt.Errorf("greeter: %w", err)
	}
	end, err := attach.New(attach.Config{Conn: conf.Conn, Identity: id, AlivePeriod: native.AlivePeriodIdle, Log: conf.Log})
	if err != nil {
		return nil, fmt.Errorf("greeter: %w", err)
	}
	g := &Greeter{conf: conf, end: end, cert: id.CertHash(), forms: map[uint64]*feed{}, painting: make(chan struct{}, maxPainting)}
	// Numbers go on rising when the gateway is restarted.
	g.gen.Store(uint64(time.Now().UnixMicro()))
	return g, nil
}

// Serve accepts terminals until ctx ends.
func (g *Greeter) Serve(ctx context.Context) error { return g.end.Serve(ctx) }

// Show makes a ticket for a terminal.
func (g *Greeter) Show(r Request) (client.Offer, error) {
	r.Screen.Text = cut(r.Screen.Text)
	gen := g.gen.Add(1)
	f := &feed{g: g, screen: r.Screen, changed: make(chan struct{}, 1)}
	if r.Form != nil {
		if err := r.Form.check(); err != nil {
			return client.Offer{}, err
		}
		s := fill(r.Form.bounded(), nil)
		f.form = &formScreen{gen: gen, answer: r.Answer, s: s, key: formKey(s.form)}
	}
	f.Resize(r.Width, r.Height)
	spec := attach.Spec{Terminal: r.Terminal, Addr: r.Addr, Gen: gen, Source: f, Sink: f, Still: true, Awake: f.awake}
	if r.Screen.Kind == Question && r.Chose != nil {
		spec.Sink = &chooser{feed: f, take: func(option int) { r.Chose(gen, option) }}
	}
	spec.Attached = func() {
		f.mu.Lock()
		f.came = true
		f.mu.Unlock()
		if r.Came != nil {
			r.Came(gen)
		}
	}
	spec.Detached = func(string) {
		g.dropForm(gen)
		if r.Gone != nil {
			r.Gone(gen)
		}
	}
	if f.form != nil {
		g.keepForm(gen, f)
	}
	ticket, err := g.end.Offer(spec)
	if err != nil {
		g.dropForm(gen)
		return client.Offer{}, fmt.Errorf("greeter: %w", err)
	}
	return client.Offer{Port: g.end.Port(), Cert: g.cert[:], Ticket: ticket, Gen: gen}, nil
}

// Hide ends what a terminal was shown up to gen.
func (g *Greeter) Hide(terminal alp.TerminalID, gen uint64) {
	g.end.Detach(gen, terminal, native.CloseDetached, "another screen comes")
}

// picture returns a screen's picture, drawn now or before.
func (g *Greeter) picture(s Screen, w, h int) *draw.Pixmap {
	return g.shared(s, w, h, func() *draw.Pixmap { return paint(s, g.conf.Host, w, h) })
}

// shared returns the picture that goes by s, made now or before.
func (g *Greeter) shared(s Screen, w, h int, make func() *draw.Pixmap) *draw.Pixmap {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, p := range g.pictures {
		if p.screen == s && p.w == w && p.h == h {
			g.pictures = append(append(g.pictures[:i:i], g.pictures[i+1:]...), p)
			return p.pixmap
		}
	}
	p := picture{s, w, h, make()}
	if len(g.pictures) == MaxPictures {
		g.pictures = g.pictures[1:]
	}
	g.pictures = append(g.pictures, p)
	return p.pixmap
}

// hidden is the pointer on screens where there is nothing to point at.
var hidden = &encode.Cursor{Serial: 1}

// A feed is what one terminal sees: source and sink of its attachment.
type feed struct {
	g       *Greeter
	screen  Screen
	changed chan struct{}

	form *formScreen // nil for other screens

	mu   sync.Mutex
	w, h int
	want image.Point // what it should be
	late bool        // and will be, in a moment
	free float64     // changes that may be made at once,
	at   time.Time   // as of then
	new  bool        // the size has changed since the last View
	came bool        // the ticket was redeemed
}

func (f *feed) Changed() <-chan struct{} { return f.changed }

func (f *feed) View(show func(encode.View)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.form != nil {
		f.viewForm(show)
		return
	}
	v := encode.View{Picture: f.g.picture(f.screen, f.w, f.h), Cursor: hidden}
	if f.new {
		v.Damage = []image.Rectangle{v.Picture.Bounds()}
		f.new = false
	}
	show(v)
}

// A terminal's changes of size: so many at once, then one each resizeEvery, the
// last one counts. Each is a whole picture to paint, and takes another's place
// among the shared ones.
const (
	resizeFree  = 4
	resizeEvery = time.Second / 2
)

func (f *feed) Resize(w, h int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want = image.Pt(min(w, f.g.conf.Most.X), min(h, f.g.conf.Most.Y))
	if f.late || f.want == image.Pt(f.w, f.h) {
		return
	}
	now := time.Now()
	f.free = min(resizeFree, f.free+float64(now.Sub(f.at))/float64(resizeEvery)) - 1
	f.at = now
	if f.free >= 0 {
		f.resize()
		return
	}
	f.late = true
	time.AfterFunc(time.Duration(-f.free*float64(resizeEvery)), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.late = false
		if f.want != image.Pt(f.w, f.h) {
			f.resize()
		}
	})
}

// resize makes the picture as large as is wanted. mu is held.
func (f *feed) resize() {
	f.w, f.h, f.new = f.want.X, f.want.Y, true
	if f.form != nil {
		f.g.sleep(f.form)
	}
	f.poke()
}

func (f *feed) Key(usage uint16, down bool) {
	if f.form != nil {
		f.keyForm(usage, down)
	}
}

func (f *feed) Pointer(x, y int, buttons byte) {
	if f.form != nil {
		f.pointerForm(x, y, buttons)
	}
}

func (f *feed) Wheel(int, int) {}
func (f *feed) Hold(bool)      {}

func (f *feed) Release() {
	if f.form != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.form.s.keys.release()
		f.form.pressed = false
	}
}
