package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"hotdesk/dtu/backend/workbench/browsertest"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/quickstart/demo"
)

// The quickstart's page in a real browser: a card dragged into terminal A
// brings a desktop, what is typed there is at terminal B when the card is
// dragged on.
func TestQuickstartPage(t *testing.T) {
	dir, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := lab.New(lab.Config{Bin: bin, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := demo.Page(ctx, l, "127.0.0.1:0", in)
		in.Close()
		ended <- err
	}()
	page := make(chan string, 1)
	go func() {
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if _, url, ok := strings.Cut(sc.Text(), "ready page="); ok {
				page <- url
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	var url string
	select {
	case url = <-page:
	case err := <-ended:
		t.Fatalf("the page ended: %v", err)
	}

	tab := browsertest.Start(t, 1280, 800)
	tab.Open(url)
	frame := func(i int) string { return fmt.Sprintf("document.querySelectorAll('iframe')[%d].contentDocument", i) }
	screen := func(i int) browsertest.Spot {
		at, in := tab.Middle(fmt.Sprintf("document.querySelectorAll('iframe')[%d]", i)), tab.Middle(frame(i)+".getElementById('screen')")
		var top float64
		tab.Value(&top, fmt.Sprintf("document.querySelectorAll('iframe')[%d].getBoundingClientRect().top", i))
		return browsertest.Spot{X: at.X, Y: top + in.Y}
	}
	shows := func(i int, x, y int, rgb string) string {
		return fmt.Sprintf("(() => { const c = %s?.getElementById('screen'); if (!c || !c.width) return false;"+
			" const p = c.getContext('2d').getImageData(%d, %d, 1, 1).data;"+
			" return [...p.slice(0, 3)].map(v => v.toString(16).padStart(2, '0')).join('') === '%s' })()", frame(i), x, y, rgb)
	}
	card := "document.querySelector('[data-card=card1]')"
	tab.Until(card)
	tab.Drag(tab.Middle(card), screen(0))
	tab.Until(shows(0, 400, 300, xtermColour))
	a := l.Known("a")
	if _, err := a.Rest(ctx, patience); err != nil {
		t.Fatal(err)
	}
	before, err := a.Hash(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tab.Click(screen(0))
	for _, key := range "date" {
		tab.Press("Key"+strings.ToUpper(string(key)), string(key))
	}
	tab.Press("Enter", "Enter")
	if _, err := a.Ctl(ctx, "wait", "-timeout", patience.String(), "hash!="+before); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ctl(ctx, "type", "xsetroot -solid '#2a7f62'   # typed at terminal A\n"); err != nil {
		t.Fatal(err)
	}
	tab.Until(shows(0, 1270, 1014, "2a7f62"))
	visible := tab.Middle(card)
	visible.Y += 40
	tab.Drag(visible, screen(1))
	tab.Until(shows(1, 1270, 1014, "2a7f62"))
	tab.Until("!(" + shows(0, 1270, 1014, "2a7f62") + ")")
	tab.Shot("quickstart")
}
