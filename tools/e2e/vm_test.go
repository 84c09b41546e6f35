package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/vendoropt"
	"hotdesk/server/auth"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/internal/vm"
)

// A box is a terminal that is a computer of its own: qemu's hardware, Debian's
// kernel and nothing else but the terminal's program.
type box struct {
	r    *realm
	name string
	m    *vm.Machine
	on   time.Time // when it was switched on
	line int       // of the console, read so far
}

// boxes boots machines with the same program and cards.
type boxes struct {
	r     *realm
	cfg   vm.Config
	cards *emulated.Reader
}

// boxModules are the drivers of a terminal, of qemu's hardware.
var boxModules = []string{"virtio_pci", "virtio_net", "xhci-pci", "usbhid", "hid-generic", "evdev", "bochs", "button"}

func (r *realm) boxes(args ...string) *boxes {
	r.t.Helper()
	r.must(debian.Need(r.ctx, r.t.Output(), debian.Machine...))
	kernel, err := vm.Debian(r.ctx)
	r.must(err)
	modules, err := kernel.Modules(boxModules...)
	r.must(err)
	program := r.lab.Path("box-dtu")
	r.must(vm.Build(r.ctx, "hotdesk/dtu", program))
	b := &boxes{r: r, cards: emulated.New(os.DirFS(r.lab.Path("cards")))}
	r.t.Cleanup(func() { r.must(b.cards.Close()) })
	go func() {
		for range b.cards.Events() {
		}
	}()
	b.cfg = vm.Config{
		Kernel: kernel, Initramfs: r.lab.Path("initramfs"), Width: 1280, Height: 1024,
		Keyboard: true, Tablet: true, Readers: []string{"reader"},
		// What stands after the dashes are the first process's arguments.
		Append: append([]string{"--", "-display", "fb", "-readers", "usbfs"}, args...),
	}
	r.must(vm.Initramfs{Init: program, Modules: modules}.Write(b.cfg.Initramfs))
	return b
}

// boot switches a machine on.
func (b *boxes) boot(name, mac string) *box {
	r := b.r
	r.t.Helper()
	tap, err := r.net.Tap(r.ctx, 1, name)
	r.must(err)
	defer tap.Close() // qemu has its own
	log, err := os.Create(filepath.Join(r.t.ArtifactDir(), name+".console"))
	r.must(err)
	cfg := b.cfg
	cfg.Network = []vm.Cable{{Tap: tap, MAC: mac}}
	cfg.Log = log
	x := &box{r: r, name: name, on: time.Now()}
	x.m, err = vm.Start(r.ctx, cfg)
	r.must(err)
	r.t.Cleanup(func() {
		if r.t.Failed() {
			_ = x.save(filepath.Join(r.t.ArtifactDir(), name+"-failed.png")) // it may be off
		}
		x.m.Close()
		log.Close()
	})
	return x
}

// bootWithin is how long a machine whose processor is emulated is waited for: its
// boot takes half a minute of a processor that it has for itself.
const bootWithin = 4 * patience

// says waits for a line of the box's console.
func (x *box) says(text string) string {
	x.r.t.Helper()
	ctx, cancel := context.WithTimeout(x.r.ctx, bootWithin)
	defer cancel()
	line, next, err := x.m.Wait(ctx, x.line, text)
	x.r.must(err)
	x.line = next
	return line
}

// shows waits until the screen shows it.
func (x *box) shows(what string, ok func(image.Image) bool) image.Image {
	x.r.t.Helper()
	ctx, cancel := context.WithTimeout(x.r.ctx, bootWithin)
	defer cancel()
	pic, err := x.m.Shows(ctx, ok)
	if err != nil {
		x.r.t.Fatalf("%s: %s: %v\n%s", x.name, what, err, strings.Join(x.m.Console(), "\n"))
	}
	return pic
}

// save writes what the screen shows to a file.
func (x *box) save(file string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	pic, err := x.m.Screendump(ctx)
	if err != nil {
		return err
	}
	return writePNG(file, pic)
}

func writePNG(file string, pic image.Image) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(png.Encode(f, pic), f.Close())
}

// at is a pixel as six hex digits.
func at(pic image.Image, x, y int) string {
	c := color.RGBAModel.Convert(pic.At(x, y)).(color.RGBA)
	return fmt.Sprintf("%02x%02x%02x", c.R, c.G, c.B)
}

// has is a screen with that pixel.
func has(x, y int, rrggbb string) func(image.Image) bool {
	return func(pic image.Image) bool { return at(pic, x, y) == rrggbb }
}

// is a screen with exactly that picture, but for what but has.
func is(want image.Image, but image.Rectangle) func(image.Image) bool {
	flat := func(pic image.Image) *image.RGBA {
		m := image.NewRGBA(pic.Bounds())
		draw.Draw(m, m.Rect, pic, m.Rect.Min, draw.Src)
		draw.Draw(m, but, image.Black, image.Point{}, draw.Src)
		return m
	}
	w := flat(want)
	return func(pic image.Image) bool {
		return pic.Bounds() == want.Bounds() && bytes.Equal(flat(pic).Pix, w.Pix)
	}
}

func (x *box) insert(b *boxes, card string) { x.r.t.Helper(); x.put(b, "reader", card) }

// put puts a card into one of the box's readers. All boxes have one hand: a
// card that it holds elsewhere comes out there.
func (x *box) put(b *boxes, reader, card string) {
	x.r.t.Helper()
	c, err := b.cards.Insert(card)
	x.r.must(err)
	x.r.must(x.m.Slot(reader).Insert(c))
}

func (x *box) remove() {
	x.r.t.Helper()
	x.r.must(x.m.Slot("reader").Remove())
}

// picture is what a terminal of the ordinary kind shows, without its pointer.
func (r *realm) picture(t *lab.Terminal) image.Image {
	r.t.Helper()
	file := r.lab.Path("log", t.Name+"-shot.png")
	r.hands(t, "screenshot", "-bare", file)
	f, err := os.Open(file)
	r.must(err)
	defer f.Close()
	pic, err := png.Decode(f)
	r.must(err)
	return pic
}

// keep writes a picture where `go test -artifacts` keeps it.
func (r *realm) keep(name string, pic image.Image) {
	r.t.Helper()
	r.must(writePNG(filepath.Join(r.t.ArtifactDir(), name+".png"), pic))
}

// A terminal that is switched on with nothing but a network cable finds its
// way to the desktop of the card that is put in; so do a second one, and the
// second after its power failed. Beside it stands a terminal of the ordinary
// kind, to compare with.
func TestVMTerminal(t *testing.T) {
	r := newRealm(t, []string{"north", "dhcp", "a"})
	north := r.host("north", nil)
	r.dhcpFor(r.node("north").Addr)
	boxes := r.boxes("-dhcp", "eth0", "-dhcp-configure", "-trust", "dhcp", "-trust-file", "/run/trusted", "-find", "dhcp")
	a := r.terminal("a", "-server", r.at("north"), "-size", "1280x1024")
	r.see(a, "picture")
	r.rest(a)
	nothing := image.Rectangle{}
	welcome := is(r.picture(a), nothing)

	// Power on to the insert-card screen.
	x := boxes.boot("first", "00:03:ba:00:00:01")
	x.says("DHCP lease")
	x.says("control connection up")
	r.keep("welcome", x.shows("the insert-card screen", welcome))
	t.Logf("power on to the insert-card screen: %v", time.Since(x.on))

	// The card, the keyboard, the tablet.
	began := time.Now()
	x.insert(boxes, "card1")
	named := x.says("card named")
	t.Logf("the card came to its question on the wire: %v on the console; the terminal's own: %s", time.Since(began), named)
	x.shows("the desktop", has(400, 300, xtermColour))
	t.Logf("the card came to the desktop on the screen: %v; the terminal's own: %s", time.Since(began), x.says("session on the screen"))
	x.paint("336699")
	r.must(x.m.Point(r.ctx, 1000, 900, 1280, 1024))
	pointer := image.Rect(990, 890, 1030, 930)
	x.shows("the pointer", func(pic image.Image) bool { return at(pic, 1001, 903) != "336699" })
	desktop := x.rests()
	r.keep("desktop", desktop)
	ids, err := north.Sessions()
	r.must(err)

	// Out: nothing of it is left on the screen, and it is there unchanged at the
	// other terminal.
	began = time.Now()
	x.remove()
	r.keep("out", x.shows("the insert-card screen again", welcome))
	t.Logf("the card went to the insert-card screen: %v", time.Since(began))
	r.hands(a, "insert", "card1")
	r.colour(a, "336699")
	r.rest(a)
	if !is(r.picture(a), pointer)(desktop) {
		r.keep("ordinary", r.picture(a))
		t.Error("the picture on the frame buffer is not the session's")
	}
	r.hands(a, "remove")
	x.times(boxes)

	// A reader and a keyboard that are plugged in anew.
	r.must(x.m.RemoveReader(r.ctx, "reader"))
	r.must(x.m.RemoveDevice(r.ctx, "keyboard"))
	x.says("input device gone")
	r.must(x.m.AddReader(r.ctx, "reader"))
	r.must(x.m.AddDevice(r.ctx, "usb-kbd,id=keyboard"))
	x.says("input device")
	x.insert(boxes, "card1")
	x.shows("the desktop", has(1270, 1014, "336699"))
	x.paint("2a7f62")
	r.must(x.m.Keys(r.ctx, "ctrl+alt+pause"))
	x.says("power cycle by hot key")
	x.says("control connection up")
	x.shows("the desktop", has(1270, 1014, "2a7f62"))

	// Off by its button, as the card is in.
	r.must(x.m.Power(r.ctx))
	x.says("power button")
	select {
	case <-x.m.Exited():
	case <-time.After(patience):
		t.Fatalf("the machine does not go off:\n%s", strings.Join(x.m.Console(), "\n"))
	}
	x.m.Close()

	// The second terminal, whose clock has lost the time; its card is put in
	// while it boots.
	boxes.cfg.Args = []string{"-rtc", "base=1990-01-01"}
	y := boxes.boot("second", "00:03:ba:00:00:02")
	y.insert(boxes, "card1")
	y.says("session on the screen") // to look at the screen takes the machine's time
	y.shows("the desktop", has(1270, 1014, "2a7f62"))
	t.Logf("power on to the desktop of a card that is in: %v", time.Since(y.on))
	y.paint("6a3d7c")
	// Its power fails for a moment.
	y.line, y.on = len(y.m.Console()), time.Now()
	r.must(y.m.Reset(r.ctx))
	y.says("dtu: ready")
	y.says("control connection up")
	y.shows("the desktop", has(1270, 1014, "6a3d7c"))
	t.Logf("reset to the desktop: %v", time.Since(y.on))
	after, err := north.Sessions()
	r.must(err)
	if len(ids) != 1 || !slices.Equal(ids, after) {
		t.Errorf("sessions %v, and %v in the end", ids, after)
	}
	r.keep("second", y.rests())

	// The network cable is pulled, and plugged in again.
	r.must(y.m.QMP(r.ctx, "set_link", map[string]any{"name": "net0", "up": false}, nil))
	y.shows("words about the cable", func(pic image.Image) bool { return at(pic, 1270, 1014) != "6a3d7c" })
	r.keep("unplugged", y.rests())
	r.must(y.m.QMP(r.ctx, "set_link", map[string]any{"name": "net0", "up": true}, nil))
	y.shows("the desktop", has(1270, 1014, "6a3d7c"))

	// A mouse that comes later, and another reader.
	y.line = len(y.m.Console())
	r.must(y.m.AddDevice(r.ctx, "usb-mouse,id=mouse"))
	y.says("input device")
	r.must(y.m.Move(r.ctx, 300, 200)) // from the middle of the screen
	y.shows("the pointer", func(pic image.Image) bool { return at(pic, 941, 715) != "6a3d7c" && at(pic, 900, 715) == "6a3d7c" })
	y.remove()
	y.shows("the insert-card screen", welcome)
	r.must(y.m.AddReader(r.ctx, "second"))
	y.says("card reader")
	y.put(boxes, "second", "card1")
	y.shows("the desktop", has(1270, 1014, "6a3d7c"))
}

// commands runs a script in the session's terminal window. It is the user's file
// and what is typed is short: qemu's keyboard has room for sixteen presses and
// releases, and drops what comes while the guest's processor is behind.
func (x *box) commands(script string) {
	x.r.t.Helper()
	x.r.must(os.WriteFile(filepath.Join(x.r.user.Home, "s"), []byte(script), 0o644))
	x.r.must(x.m.Type(x.r.ctx, "sh s\n"))
}

// paint types a command that colours the desktop, and waits for the colour.
func (x *box) paint(rrggbb string) {
	x.r.t.Helper()
	x.commands("xsetroot -solid '#" + rrggbb + "'\n")
	x.shows("the colour "+rrggbb, has(1270, 1014, rrggbb))
}

// rests waits until the screen has stopped changing.
func (x *box) rests() image.Image {
	x.r.t.Helper()
	var last image.Image
	equal := 0
	return x.shows("a picture at rest", func(pic image.Image) bool {
		if last == nil || !is(last, image.Rectangle{})(pic) {
			last, equal = pic, 0
		}
		equal++
		return equal == 6
	})
}

// times puts a card in and pulls it again, and says how long things take, on the
// test's clock and the terminal's own. The figures are of an emulated
// processor: only how they compare with each other means something.
func (x *box) times(b *boxes) {
	r := x.r
	r.t.Helper()
	rounds := 3
	if os.Getenv("HOTDESK_LONG") != "" {
		rounds = 50
	}
	var outside, named, shown []time.Duration
	for range rounds {
		x.line = len(x.m.Console())
		began := time.Now()
		x.insert(b, "card1")
		line := x.says("card named")
		outside = append(outside, time.Since(began))
		named = append(named, r.since(line))
		shown = append(shown, r.since(x.says("session on the screen")))
		x.remove()
		x.says("card out")
	}
	for what, d := range map[string][]time.Duration{"card in the reader to infoReq, seen from outside": outside, "the terminal's notice to infoReq": named, "the terminal's notice to picture": shown} {
		slices.Sort(d)
		r.t.Logf("%s: median %v, p90 %v, worst %v of %d", what, d[len(d)/2], d[len(d)*9/10], d[len(d)-1], len(d))
	}
}

// since is the duration at the end of a line of the log.
func (r *realm) since(line string) time.Duration {
	r.t.Helper()
	d, err := time.ParseDuration(line[strings.LastIndexByte(line, '=')+1:])
	r.must(err)
	return d
}

// dhcpFor starts a DHCP server that names the host and its authority.
func (r *realm) dhcpFor(host netip.Addr) {
	r.t.Helper()
	authority, err := auth.Open(r.lab.Path("state"))
	r.must(err)
	r.dhcp("dhcp", fmt.Sprintf(`
no-daemon
no-resolv
no-hosts
no-ping
port=0
user=root
interface=eth0
bind-interfaces
except-interface=lo
dhcp-authoritative
dhcp-range=10.90.1.100,10.90.1.150,2m
dhcp-option=option:router,10.90.1.1
dhcp-option=vendor:SUNW.NewT,%d,%v
dhcp-option=vendor:SUNW.NewT,%d,"%s"
`, vendoropt.CodeAuthSrvr, host, vendoropt.CodeFingerprint, authority.Fingerprint()))
}
