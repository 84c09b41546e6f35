package greeter

import (
	"fmt"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/input"
	"hotdesk/server/session/encode"
)

func (v *viewer) press(usages ...uint16) {
	v.t.Helper()
	for _, u := range usages {
		b := input.Record{Type: input.Key, Usage: u, Down: true}.Append(nil)
		if _, err := v.input.Write(input.Record{Type: input.Key, Usage: u}.Append(b)); err != nil {
			v.t.Fatal(err)
		}
	}
}

// TestFormShown is a form over the wire: typed at, answered, replaced.
func TestFormShown(t *testing.T) {
	g := serve(t)
	answers := make(chan Answer, 1)
	form := loginForm()
	o, err := g.Show(Request{Terminal: unit, Addr: loopback, Width: 800, Height: 600, Form: &form,
		Answer: func(_ uint64, a Answer) { answers <- a }})
	if err != nil {
		t.Fatal(err)
	}
	v, err := dial(t, o, 800, 600)
	if err != nil {
		t.Fatal(err)
	}
	s := fill(form, nil)
	v.until(pixmap(newSheet(s, "desk-a", 800, 600).c.img))
	v.press(4, 0x11, 0x11, keyReturn, 0x13, 0x1A)
	press(s, 4, 0x11, 0x11, keyReturn, 0x13, 0x1A)
	v.until(pixmap(newSheet(s, "desk-a", 800, 600).c.img))
	v.press(keyReturn)
	a := <-answers
	if a.Button != 0 || string(a.Fields[0]) != "ann" || string(a.Fields[1]) != "pw" || !slices.Equal(a.Choices, []string{"us", "en_US.UTF-8", ""}) {
		t.Errorf("%+v", a)
	}
	next := Form{Title: "ann", Fields: []Field{{Label: "Code", Digits: true, Max: 6}}, Buttons: []string{"Continue", "Cancel"}, Layout: "us"}
	if ok, err := g.Put(o.Gen, next); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	v.until(pixmap(newSheet(fill(next, nil), "desk-a", 800, 600).c.img))
	v.press(4, 0x1E, 0x59, keyReturn)
	if a := <-answers; string(a.Fields[0]) != "11" {
		t.Errorf("%+v", a)
	}
	if ok, err := g.Put(o.Gen+1, next); ok || err != nil {
		t.Errorf("a form that is not there: %v, %v", ok, err)
	}
	if _, err := g.Put(o.Gen, Form{}); err == nil {
		t.Error("a form without a button")
	}
}

// TestFormRests: what was typed has a picture of its own only for a while, and
// is wiped after a longer one.
func TestFormRests(t *testing.T) {
	g := serve(t)
	s := fill(loginForm(), nil)
	f := &feed{g: g, changed: make(chan struct{}, 1), form: &formScreen{s: s, key: formKey(s.form)}}
	f.Resize(640, 480)
	see := func() (v encode.View) {
		f.View(func(got encode.View) { v = got })
		return v
	}
	first := see().Picture
	g.awake = maxAwake // others have all places
	f.Key(5, true)
	if v := see(); v.Picture == first || f.awake() || len(v.Damage) != 1 || v.Damage[0] != v.Picture.Bounds() {
		t.Errorf("without a picture of its own: damage %v", v.Damage)
	}
	f.Key(keyBackspace, true)
	see()
	g.awake = 0
	f.Key(4, true)
	if see().Picture == first || !f.awake() || g.awake != 1 {
		t.Error("what was typed is not shown")
	}
	f.Key(4, true)
	if v := see(); len(v.Damage) != 1 || v.Damage[0].Dy() > 200 {
		t.Errorf("damage %v", v.Damage)
	}
	f.rest()
	if v := see(); len(v.Damage) != 0 || f.awake() || g.awake != 0 {
		t.Errorf("at rest: damage %v", v.Damage)
	}
	f.Key(keyTab, true)
	if v := see(); v.Picture == first || string(f.form.s.values[0]) != "aa" {
		t.Errorf("%q was typed", f.form.s.values[0])
	}
	typed := f.form.s.values[0][:2]
	f.rest()
	see()
	f.rest()
	if v := see(); v.Picture != first || string(typed) != "\x00\x00" || f.form.s.touched() {
		t.Errorf("what was typed is still there: %q", typed)
	}
	f.form.still.Stop()
}

// TestThousandForms is what a login screen costs that nobody is at.
func TestThousandForms(t *testing.T) {
	const n = 1000
	g := serve(t)
	heap := func() uint64 {
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	form := loginForm()
	before := heap()
	var came atomic.Int32
	feeds := make([]*feed, 0, n)
	for i := range n {
		o, err := g.Show(Request{Terminal: alp.TerminalID(fmt.Sprintf("0800200%05x", i)), Addr: loopback, Width: 1280, Height: 1024, Form: &form, Came: func(uint64) { came.Add(1) }})
		if err != nil {
			break // as many tickets as may be under way
		}
		f := g.forms[o.Gen]
		f.View(func(encode.View) {})
		feeds = append(feeds, f)
	}
	each := float64(heap()-before) / float64(len(feeds))
	t.Logf("%d login screens: %.1f kB each, the shared picture of %d kB included", len(feeds), each/1000, 1280*1024*4/1000)
	if each > 64e3 {
		t.Errorf("a login screen costs %.0f bytes", each)
	}
	runtime.KeepAlive(feeds)
}

// TestLayouts: the tables are what the system's own keyboards have.
func TestLayouts(t *testing.T) {
	names := map[uint16]string{}
	rows := "TLDE AE01 AE02 AE03 AE04 AE05 AE06 AE07 AE08 AE09 AE10 AE11 AE12 AD01 AD02 AD03 AD04 AD05 AD06 AD07 AD08 AD09 AD10 AD11 AD12 " +
		"AC01 AC02 AC03 AC04 AC05 AC06 AC07 AC08 AC09 AC10 AC11 BKSL LSGT AB01 AB02 AB03 AB04 AB05 AB06 AB07 AB08 AB09 AB10"
	for i, n := range strings.Fields(rows) {
		names[layoutKeys[i]] = n
	}
	for _, o := range Layouts() {
		if !HasLayout(o.Value) {
			t.Errorf("there is no layout %s", o.Value)
			continue
		}
		cmd := exec.Command("xkbcomp", "-xkb", "-", "-")
		cmd.Stdin = strings.NewReader(`xkb_keymap { xkb_keycodes { include "evdev+aliases(qwerty)" }; xkb_types { include "complete" }; xkb_compat { include "complete" }; xkb_symbols { include "pc+` + o.Value + `+inet(evdev)" }; };`)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("xkbcomp %s: %v", o.Value, err)
		}
		// Letters and digits are their own names there: those are compared.
		for usage, name := range names {
			_, rest, ok := strings.Cut(string(out), "key <"+name+">")
			if !ok {
				continue
			}
			rest, _, _ = strings.Cut(rest, ";")
			_, list, _ := strings.Cut(strings.ReplaceAll(rest, "type[Group1]", ""), "[ ")
			list = strings.TrimPrefix(list, "Group1]= [")
			list, _, _ = strings.Cut(list, "]")
			for level, sym := range strings.Split(list, ",") {
				sym = strings.TrimSpace(sym)
				if level < 4 && len(sym) == 1 && levels[o.Value][usage][level] != rune(sym[0]) {
					t.Errorf("%s, key %s, level %d: %q, want %s", o.Value, name, level, levels[o.Value][usage][level], sym)
				}
			}
		}
	}
}

func TestTyping(t *testing.T) {
	const shift, altgr = 0xE1, 0xE6
	type key struct {
		usage uint16
		mods  []uint16
	}
	for _, c := range []struct {
		layout, want string
		keys         []key
	}{
		{"us", "aA1!", []key{{4, nil}, {4, []uint16{shift}}, {0x1E, nil}, {0x1E, []uint16{shift}}}},
		{"de", "zy@€ß", []key{{0x1C, nil}, {0x1D, nil}, {0x14, []uint16{altgr}}, {8, []uint16{altgr}}, {0x2D, nil}}},
		{"fr", "aé1", []key{{0x14, nil}, {0x1F, nil}, {0x1E, []uint16{shift}}}},
		{"de", "é^x", []key{{0x2E, nil}, {8, nil}, {0x35, nil}, {keySpace, nil}, {0x1B, nil}}}, // dead keys
		{"us", "123", []key{{0x59, nil}, {0x5A, nil}, {0x5B, nil}}},
		{"nonsense", "a", []key{{4, nil}}},
		{"us", "", []key{{4, []uint16{0xE0}}, {4, []uint16{0xE2}}, {0x3A, nil}, {0xFF, nil}}},
		{"us", "Ab1", []key{{keyCaps, nil}, {4, nil}, {5, []uint16{shift}}, {0x1E, nil}}},
	} {
		s := fill(Form{Fields: []Field{{}}, Buttons: []string{"x"}, Layout: c.layout}, nil)
		for _, k := range c.keys {
			for _, m := range k.mods {
				s.key(m, true)
			}
			press(s, k.usage)
			for _, m := range k.mods {
				s.key(m, false)
			}
		}
		if got := string(s.values[0]); got != c.want {
			t.Errorf("%s: %q, want %q", c.layout, got, c.want)
		}
	}
}

// TestFormKeys: the form by keyboard alone.
func TestFormKeys(t *testing.T) {
	s := fill(loginForm(), nil)
	order := []int{s.focus}
	for range s.stops() {
		press(s, keyTab)
		order = append(order, s.focus)
	}
	if fmt.Sprint(order) != "[0 1 2 3 4 5 6 0]" {
		t.Errorf("Tab goes %v", order)
	}
	s.key(0xE1, true)
	press(s, keyTab)
	s.key(0xE1, false)
	if s.focus != 6 {
		t.Errorf("Shift-Tab goes to %d", s.focus)
	}
	if a := press(s, keySpace); a == nil || a.Button != 1 {
		t.Errorf("the second button: %+v", a)
	}
	s = fill(loginForm(), nil)
	if press(s, keyReturn) != nil || s.focus != 0 {
		t.Error("an empty name was taken")
	}
	press(s, 4, 5, 6, keyLeft, keyBackspace, keyHome, keyDelete, keyEnd, 7)
	if got := string(s.values[0]); got != "cd" {
		t.Errorf("edited: %q", got)
	}
	s.key(0xE0, true)
	press(s, keyU)
	s.key(0xE0, false)
	if len(s.values[0]) != 0 {
		t.Errorf("Ctrl-U leaves %q", s.values[0])
	}
	press(s, 4, keyTab, keyTab, keyRight) // the keyboard is German from here on
	press(s, keyUp, 0x1C)
	if got := string(s.values[1]); got != "z" {
		t.Errorf("%q on the German keyboard", got)
	}
	secret := s.values[1][:1]
	a := press(s, keyReturn)
	if a == nil || string(a.Fields[1]) != "z" || a.Choices[0] != "de" || secret[0] != 0 {
		t.Errorf("%+v, the field still has %q", a, secret)
	}
	if press(s, keyReturn) != nil {
		t.Error("answered twice")
	}
	a.Wipe()
	if a := press(fill(loginForm(), nil), keyEscape); a == nil || a.Button != 1 {
		t.Errorf("Escape: %+v", a)
	}
	// With the pointer: onto a field, a choice's halves, a button.
	s = fill(loginForm(), nil)
	p := lay(s, 1280, 1024)
	click := func(stop int, left bool) *Answer {
		for _, w := range p.widgets {
			if w.stop != stop {
				continue
			}
			x := w.area.Max.X - 3
			if left {
				x = w.area.Min.X + 3
			}
			hit, part := p.at(x, (w.area.Min.Y+w.area.Max.Y)/2)
			s.pointer(hit, part, true, false)
			return s.pointer(hit, part, false, true)
		}
		t.Fatalf("no widget %d", stop)
		return nil
	}
	click(1, false)
	if s.focus != 1 {
		t.Errorf("focus %d", s.focus)
	}
	click(2, true)
	if s.chosen[0] != 2 {
		t.Errorf("the choice is %d", s.chosen[0])
	}
	if a := click(6, false); a == nil || a.Button != 1 {
		t.Errorf("%+v", a)
	}
}

func BenchmarkForm(b *testing.B) {
	s := fill(loginForm(), nil)
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			newSheet(s, "desk-a", 1920, 1080)
		}
	})
	sh := newSheet(s, "desk-a", 1920, 1080)
	b.Run("key", func(b *testing.B) {
		for b.Loop() {
			s.key(4, true)
			sh.update(s)
			s.key(keyBackspace, true)
			sh.update(s)
		}
	})
}

// FuzzForm: any keys and clicks leave a form that can be drawn.
func FuzzForm(f *testing.F) {
	f.Add([]byte{4, 5, keyReturn, 6, keyTab, keyRight, keyEscape}, uint16(800), uint16(600))
	f.Fuzz(func(t *testing.T, keys []byte, w, h uint16) {
		s := fill(loginForm(), nil)
		for _, k := range keys[:min(len(keys), 64)] {
			s.key(uint16(k), true)
			s.key(uint16(k), k&1 == 0)
		}
		if s.focus < 0 || s.focus >= s.stops() {
			t.Fatalf("focus %d", s.focus)
		}
		lay(s, alp.MinSide+int(w)%2000, alp.MinSide+int(h)%2000)
	})
}
