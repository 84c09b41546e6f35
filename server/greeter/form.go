package greeter

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Limits of a form.
const (
	MaxNotes   = 6
	MaxFields  = 4
	MaxChoices = 4
	MaxOptions = 64
	MaxButtons = 3
	// MaxValue bounds what is typed into a field, in bytes.
	MaxValue = 512
)

// A Form is a screen that people fill in, by keyboard alone or with a pointer.
//
// Tab, Shift-Tab and the arrows move the focus; Return goes to the next field
// and in the last presses the first button; Escape presses the last of several
// buttons; left and right change a choice. Ctrl-U empties a field.
type Form struct {
	Title   string
	Notes   []Note // below the title
	Fields  []Field
	Choices []Choice
	Buttons []string // the first is what Return presses, the last of several what Escape does
	Busy    bool     // takes no input but Escape: somebody is at work
	Layout  string   // of the keyboard, where no choice says
	Focus   int      // the field that has the focus first
}

// Tone says how a note is meant.
type Tone int

const (
	Plain Tone = iota
	Good       // to be noticed
	Bad        // something went wrong
)

// A Note is a text for the user.
type Note struct {
	Text string
	Tone Tone
}

// A Field takes a line of text.
type Field struct {
	Label    string
	Value    string // what is in it at first; never a secret
	Secret   bool   // shown as bullets
	Digits   bool   // takes nothing else
	Optional bool   // may be sent empty
	Max      int    // bytes; 0: MaxValue
}

// A Choice is one of several options.
type Choice struct {
	Label    string
	Options  []Option
	Chosen   int  // the option that is chosen at first
	Keyboard bool // the option is the layout of the keyboard, also for this form
}

// An Option of a choice.
type Option struct{ Value, Text string }

// An Answer is what came of a form. Whoever gets it wipes it.
type Answer struct {
	Button  int // that was pressed
	Fields  [][]byte
	Choices []string // values
}

// Wipe overwrites what was typed.
func (a *Answer) Wipe() {
	for _, f := range a.Fields {
		clear(f)
	}
	a.Fields = nil
}

// check refuses a form that is too large to be drawn or kept.
func (f *Form) check() error {
	switch {
	case len(f.Notes) > MaxNotes || len(f.Fields) > MaxFields || len(f.Choices) > MaxChoices:
		return fmt.Errorf("greeter: form of %d notes, %d fields, %d choices", len(f.Notes), len(f.Fields), len(f.Choices))
	case len(f.Buttons) == 0 || len(f.Buttons) > MaxButtons:
		return fmt.Errorf("greeter: form of %d buttons", len(f.Buttons))
	case f.Focus < 0 || f.Focus > 0 && f.Focus >= len(f.Fields):
		return fmt.Errorf("greeter: focus on field %d of %d", f.Focus, len(f.Fields))
	}
	for _, fi := range f.Fields {
		if fi.Max < 0 || fi.Max > MaxValue || len(fi.Value) > MaxValue || fi.Secret && fi.Value != "" {
			return errors.New("greeter: form with a field that cannot be")
		}
	}
	for _, c := range f.Choices {
		if len(c.Options) == 0 || len(c.Options) > MaxOptions || c.Chosen < 0 || c.Chosen >= len(c.Options) {
			return fmt.Errorf("greeter: form with a choice of %d options", len(c.Options))
		}
	}
	return nil
}

// bounded returns a copy whose texts fit.
func (f Form) bounded() Form {
	f.Title = cut(f.Title)
	f.Notes = slices.Clone(f.Notes[:min(len(f.Notes), MaxNotes)])
	for i := range f.Notes {
		f.Notes[i].Text = cut(f.Notes[i].Text)
	}
	f.Fields = slices.Clone(f.Fields)
	for i := range f.Fields {
		f.Fields[i].Label = cut(f.Fields[i].Label)
	}
	return f
}

// cut bounds a text to MaxText bytes, between two characters.
func cut(s string) string {
	if len(s) <= MaxText {
		return s
	}
	n := MaxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// A filling is a form being filled in: the state behind the picture. It is
// pure: keys and clicks go in, answers come out.
type filling struct {
	form   Form
	keys   keyboard
	values [][]byte // of the fields; their memory never moves
	caret  []int    // in bytes
	chosen []int
	focus  int // fields, then choices, then buttons
	armed  int // the button under the pointer that is down, -1 for none
	sent   bool
}

// fill begins with a form. Modifiers and the layout of the form before, if any,
// stay as they are.
func fill(f Form, before *filling) *filling {
	s := &filling{form: f, armed: -1, focus: f.Focus}
	s.keys.layout = f.Layout
	if before != nil {
		s.keys.down, s.keys.caps = before.keys.down, before.keys.caps
		before.wipe()
	}
	for _, fi := range f.Fields {
		most := fi.Max
		if most == 0 {
			most = MaxValue
		}
		v := append(make([]byte, 0, most), fi.Value[:min(len(fi.Value), most)]...)
		s.values = append(s.values, v)
		s.caret = append(s.caret, len(v))
	}
	for _, c := range f.Choices {
		s.chosen = append(s.chosen, c.Chosen)
		if c.Keyboard {
			s.keys.layout = c.Options[c.Chosen].Value
		}
	}
	if len(f.Fields) == 0 && (len(f.Choices) == 0 || f.Choices[0].Keyboard) {
		s.focus = len(f.Choices) // the first button; a choice is what the form is for, but of the keyboard
	}
	return s
}

// wipe overwrites what was typed.
func (s *filling) wipe() {
	for i, v := range s.values {
		clear(v[:cap(v)])
		s.values[i], s.caret[i] = v[:0], 0
	}
}

// What has the focus, from fields over choices to buttons.
func (s *filling) field() (int, bool) { return s.focus, s.focus < len(s.values) }
func (s *filling) choice() (int, bool) {
	i := s.focus - len(s.values)
	return i, i >= 0 && i < len(s.chosen)
}
func (s *filling) button() (int, bool) {
	i := s.focus - len(s.values) - len(s.chosen)
	return i, i >= 0
}
func (s *filling) stops() int { return len(s.values) + len(s.chosen) + len(s.form.Buttons) }

func (s *filling) move(by int) { s.focus = (s.focus + by + s.stops()) % s.stops() }

// key takes a key and returns an answer, or nil.
func (s *filling) key(usage uint16, down bool) *Answer {
	if s.keys.modifier(usage, down) || !down || s.sent {
		return nil
	}
	if usage == keyEscape {
		if n := len(s.form.Buttons); n > 1 || s.form.Busy {
			return s.press(n - 1)
		}
		return nil
	}
	if s.form.Busy {
		return nil
	}
	switch usage {
	case keyTab:
		if s.keys.shift() {
			s.move(-1)
		} else {
			s.move(1)
		}
		return nil
	case keyDown:
		s.move(1)
		return nil
	case keyUp:
		s.move(-1)
		return nil
	}
	if i, ok := s.field(); ok {
		return s.edit(i, usage)
	}
	if i, ok := s.choice(); ok {
		return s.choose(i, usage)
	}
	switch b, _ := s.button(); usage {
	case keyReturn, keyPadEnter, keySpace:
		return s.press(b)
	case keyLeft:
		s.move(-1)
	case keyRight:
		s.move(1)
	}
	return nil
}

// edit is a key in a field.
func (s *filling) edit(i int, usage uint16) *Answer {
	v, at := s.values[i], s.caret[i]
	switch {
	case usage == keyReturn || usage == keyPadEnter:
		return s.enter(i)
	case usage == keyBackspace:
		if _, n := utf8.DecodeLastRune(v[:at]); at > 0 {
			s.remove(i, at-n, n)
		}
	case usage == keyDelete:
		if _, n := utf8.DecodeRune(v[at:]); at < len(v) {
			s.remove(i, at, n)
		}
	case usage == keyU && s.keys.ctrl():
		s.remove(i, 0, len(v))
	case usage == keyHome:
		s.caret[i] = 0
	case usage == keyEnd:
		s.caret[i] = len(v)
	case usage == keyLeft:
		if at > 0 {
			_, n := utf8.DecodeLastRune(v[:at])
			s.caret[i] -= n
		}
	case usage == keyRight:
		if at < len(v) {
			_, n := utf8.DecodeRune(v[at:])
			s.caret[i] += n
		}
	default:
		s.insert(i, s.keys.char(usage))
	}
	return nil
}

func (s *filling) insert(i int, c rune) {
	v, at := s.values[i], s.caret[i]
	n := utf8.RuneLen(c)
	if c < ' ' || c == 0x7f || n < 0 || len(v)+n > cap(v) || s.form.Fields[i].Digits && (c < '0' || c > '9') {
		return
	}
	v = v[:len(v)+n]
	copy(v[at+n:], v[at:])
	utf8.EncodeRune(v[at:], c)
	s.values[i], s.caret[i] = v, at+n
}

func (s *filling) remove(i, at, n int) {
	v := s.values[i]
	copy(v[at:], v[at+n:])
	clear(v[len(v)-n:])
	s.values[i], s.caret[i] = v[:len(v)-n], at
}

// lacks reports whether a field must not be sent as it is.
func (s *filling) lacks(i int) bool { return len(s.values[i]) == 0 && !s.form.Fields[i].Optional }

// enter is Return in field i: on to the next one, or the first button.
func (s *filling) enter(i int) *Answer {
	switch {
	case s.lacks(i):
		return nil
	case i+1 < len(s.values):
		s.focus = i + 1
		return nil
	}
	return s.press(0)
}

// choose is a key at a choice.
func (s *filling) choose(i int, usage uint16) *Answer {
	switch usage {
	case keyReturn, keyPadEnter:
		return s.press(0)
	case keyLeft:
		s.turn(i, -1)
	case keyRight, keySpace:
		s.turn(i, 1)
	case keyHome:
		s.turn(i, -s.chosen[i])
	case keyEnd:
		s.turn(i, -1-s.chosen[i])
	default: // to the next option that begins with the letter
		c := s.keys.char(usage)
		options := s.form.Choices[i].Options
		for by := 1; c != 0 && by < len(options); by++ {
			first, _ := utf8.DecodeRuneInString(options[(s.chosen[i]+by)%len(options)].Text)
			if first|0x20 == c|0x20 {
				s.turn(i, by)
				break
			}
		}
	}
	return nil
}

func (s *filling) turn(i, by int) {
	c := s.form.Choices[i]
	s.chosen[i] = ((s.chosen[i]+by)%len(c.Options) + len(c.Options)) % len(c.Options)
	if c.Keyboard {
		s.keys.layout = c.Options[s.chosen[i]].Value
	}
}

// press presses a button. The first sends what was filled in and needs it to
// be whole.
func (s *filling) press(b int) *Answer {
	if b == 0 && !s.form.Busy {
		for i := range s.values {
			if s.lacks(i) {
				s.focus = i
				return nil
			}
		}
	}
	a := &Answer{Button: b}
	for i, c := range s.form.Choices {
		a.Choices = append(a.Choices, c.Options[s.chosen[i]].Value)
	}
	for _, v := range s.values {
		a.Fields = append(a.Fields, append(make([]byte, 0, len(v)), v...))
	}
	for i, fi := range s.form.Fields {
		if fi.Secret {
			s.remove(i, 0, len(s.values[i]))
		}
	}
	s.sent = true
	return a
}

// pointer is the pointer with its first button down or not, over the widget
// hit: an index as of focus, -1 for none; part is -1 on its left half, else 1.
func (s *filling) pointer(hit, part int, down, was bool) *Answer {
	if s.form.Busy || s.sent {
		return nil
	}
	first := len(s.values) + len(s.chosen)
	switch {
	case down && !was && hit >= 0:
		s.focus, s.armed = hit, -1
		if i, ok := s.choice(); ok {
			s.turn(i, part)
		}
		if _, ok := s.button(); ok {
			s.armed = hit - first
		}
	case !down && was:
		armed := s.armed
		s.armed = -1
		if armed >= 0 && hit == armed+first {
			return s.press(armed)
		}
	}
	return nil
}

// capsHint reports whether people should hear that Caps Lock is on.
func (s *filling) capsHint() bool {
	return s.keys.caps && slices.ContainsFunc(s.form.Fields, func(f Field) bool { return f.Secret })
}

// touched reports whether the form looks other than at first.
func (s *filling) touched() bool {
	n := fill(s.form, nil)
	return s.sent || s.armed >= 0 || s.keys.caps || s.focus != n.focus || !slices.Equal(s.chosen, n.chosen) || !slices.Equal(s.caret, n.caret) ||
		!slices.EqualFunc(s.values, n.values, slices.Equal[[]byte])
}
