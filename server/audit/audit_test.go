package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func clock() func() time.Time {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return func() time.Time { t = t.Add(time.Second); return t }
}

func verify(t *testing.T, dir string) *Verifier {
	t.Helper()
	files, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Read(filepath.Base(f), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func TestLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]")
	now := clock()
	for range 3 { // starts
		l, err := open(dir, "north", now, 2000)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if err := l.Add(Entry{What: Attach, Token: "card.1", Text: fmt.Sprintf("line\n%d \xff", i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	v := verify(t, dir)
	if len(v.Faults) > 0 || v.Torn || v.First != 1 || v.Last != 33 || len(v.Entries) != 33 || strings.Contains(v.Entries[2].Text, "\n") {
		t.Errorf("%+v", v)
	}
	if files, _ := Files(dir); len(files) < 3 {
		t.Errorf("no rotation: %v", files)
	}
}

// What an attacker, or a disk, does to the files is found.
func TestTampered(t *testing.T) {
	dir := t.TempDir()
	l, err := open(dir, "north", clock(), 1500)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := l.Add(Entry{What: Deny, Token: "card.1"}); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	files, err := Files(dir)
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"changed": func(b []byte) []byte { return bytes.Replace(b, []byte("card.1"), []byte("card.2"), 1) },
		"removed": func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			return bytes.Join(append(lines[:1:1], lines[2:]...), nil)
		},
		"swapped": func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			lines[0], lines[1] = lines[1], lines[0]
			return bytes.Join(lines, nil)
		},
		"file gone": func([]byte) []byte { return nil },
		"garbage":   func(b []byte) []byte { return append([]byte("x\n"), b...) },
		"long line": func(b []byte) []byte { return append(bytes.Repeat([]byte("x"), MaxEntry+2), b...) },
	} {
		b, err := os.ReadFile(files[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[1], change(bytes.Clone(b)), 0o600); err != nil {
			t.Fatal(err)
		}
		if v := verify(t, dir); len(v.Faults) == 0 {
			t.Errorf("%s: no fault", name)
		}
		if err := os.WriteFile(files[1], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if v := verify(t, dir); len(v.Faults) > 0 {
		t.Errorf("as it was: %v", v.Faults)
	}
}

// A crash tears the last line: it is named, and the chain goes on.
func TestTorn(t *testing.T) {
	for _, keep := range []int{0, 1} { // whole lines before it
		dir := t.TempDir()
		path := filepath.Join(dir, "audit.log")
		now := clock()
		l, err := open(dir, "north", now, MaxFile)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		torn := append(bytes.Repeat(b, keep), b[:20]...)
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if v := verify(t, dir); !v.Torn || len(v.Faults) > 0 {
			t.Errorf("torn: %+v", v)
		}
		if l, err = open(dir, "north", now, MaxFile); err != nil {
			t.Fatal(err)
		}
		l.Close()
		v := verify(t, dir)
		if v.Torn || len(v.Faults) > 0 || len(v.Entries) != keep+2 || v.Entries[keep].What != Torn || v.Entries[keep].Text != string(b[:20]) {
			t.Errorf("after: %+v", v)
		}
	}
}

// A crash in the middle of a rotation leaves the full file under both names,
// or an empty new one.
func TestRotationTorn(t *testing.T) {
	dir := t.TempDir()
	now := clock()
	l, err := open(dir, "north", now, 300)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Add(Entry{What: Deny}); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if err := os.Link(filepath.Join(dir, "audit.log"), filepath.Join(dir, "audit-000000000001.log")); err != nil {
		t.Fatal(err)
	}
	if l, err = open(dir, "north", now, 300); err != nil { // rotates
		t.Fatal(err)
	}
	l.Close()
	if v := verify(t, dir); len(v.Faults) > 0 || v.Last != 4 {
		t.Errorf("%+v", v)
	}
	if err := os.Rename(filepath.Join(dir, "audit.log"), filepath.Join(dir, "audit-000000000004.log")); err != nil {
		t.Fatal(err)
	}
	if l, err = open(dir, "north", now, 300); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if v := verify(t, dir); len(v.Faults) > 0 || v.Last != 5 {
		t.Errorf("%+v", v)
	}
}

func TestMerge(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	got := Merge([]Entry{{N: 1, Host: "b", When: at(1)}, {N: 2, Host: "b", When: at(3)}}, []Entry{{N: 7, Host: "a", When: at(1)}, {N: 8, Host: "a", When: at(2)}})
	var order []string
	for _, e := range got {
		order = append(order, fmt.Sprintf("%s%d", e.Host, e.N))
	}
	if s := strings.Join(order, " "); s != "a7 b1 a8 b2" {
		t.Error(s)
	}
}

func TestNil(t *testing.T) {
	var l *Log
	if l.Add(Entry{}) != nil || l.Err() != nil || l.Close() != nil {
		t.Error("no log is silent")
	}
}

func FuzzVerify(f *testing.F) {
	dir := f.TempDir()
	l, err := open(dir, "north", clock(), MaxFile)
	if err != nil {
		f.Fatal(err)
	}
	l.Close()
	b, err := os.ReadFile(filepath.Join(dir, "audit.log"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append(b, b...))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := &Verifier{}
		if err := v.Read("x", bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
	})
}
