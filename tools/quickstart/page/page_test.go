package page_test

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"net"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/chromedp/cdproto/input"

	"hotdesk/dtu/backend/backendtest"
	"hotdesk/dtu/backend/workbench"
	"hotdesk/dtu/backend/workbench/browsertest"
	"hotdesk/tools/quickstart/page"
)

// terminal serves the workbench of a terminal that is not there.
func terminal(t *testing.T, name, host string, c color.RGBA) (page.Terminal, *backendtest.Picture, *backendtest.Hands) {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, hands := backendtest.NewPicture(1280, 1024), backendtest.NewHands("ada", "grace", "linus")
	p.Fill(image.Rect(0, 0, 1280, 1024), c)
	b := workbench.New(workbench.Config{Listen: listen, Title: name})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, p, hands) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	return page.Terminal{Name: name, Host: host, URL: u}, p, hands
}

// frame is an expression for the document in frame i.
func frame(i int) string {
	return fmt.Sprintf("document.querySelectorAll('iframe')[%d].contentDocument", i)
}

func shows(i int, rgb string) string {
	return fmt.Sprintf("((c) => c?.getContext('2d').getImageData(5, 5, 1, 1).data.slice(0, 3).join() === '%s')(%s.getElementById('screen'))", rgb, frame(i))
}

func card(name string) string { return "document.querySelector('[data-card=" + name + "]')" }

// settled is true when a card stays where it is: in a slot or not.
func settled(name string, in bool) string {
	return fmt.Sprintf("((c) => c?.matches('.in') === %v && !c.ariaBusy && !c.getAnimations().length)(%s)", in, card(name))
}

// inSlot is true when a card has come to rest in the middle of terminal i's
// slot.
func inSlot(name string, i int) string {
	return fmt.Sprintf(`((c, f, s) => Math.abs(c.left + c.width/2 - f.left - s.left - s.width/2) < 2)(
		%s.getBoundingClientRect(), document.querySelectorAll('iframe')[%d].getBoundingClientRect(), %s.getElementById('slot').getBoundingClientRect())`, card(name), i, frame(i))
}

// monitor is the middle of frame i's screen in the page.
func monitor(tab *browsertest.Tab, i int) browsertest.Spot {
	at := tab.Middle(fmt.Sprintf("document.querySelectorAll('iframe')[%d]", i))
	in := tab.Middle(frame(i) + ".getElementById('screen')")
	var corner browsertest.Spot
	tab.Value(&corner, fmt.Sprintf("((r) => ({X: r.left, Y: r.top}))(document.querySelectorAll('iframe')[%d].getBoundingClientRect())", i))
	return browsertest.Spot{X: at.X, Y: corner.Y + in.Y}
}

func wants(t *testing.T, h *backendtest.Hands, events ...string) {
	t.Helper()
	for _, e := range events {
		if got := <-h.Events; got != e {
			t.Fatalf("%q, want %q", got, e)
		}
	}
}

func TestPage(t *testing.T) {
	a, pictureA, handsA := terminal(t, "Terminal A", "north", color.RGBA{R: 52, G: 84, B: 120, A: 255})
	b, _, handsB := terminal(t, "Terminal B", "south", color.RGBA{R: 60, G: 98, B: 84, A: 255})
	p := page.New([]page.Terminal{a, b})
	server := httptest.NewServer(p)
	defer server.Close()
	tab := browsertest.Start(t, 1280, 800)
	tab.Open(server.URL + p.Path())

	// Both pictures, live through the proxy.
	tab.Until("[0, 1].every((i) => document.querySelectorAll('iframe')[i].contentDocument?.querySelector('.veil.gone'))")
	tab.Until(shows(0, "52,84,120"))
	tab.Until(shows(1, "60,98,84"))
	pictureA.Fill(image.Rect(0, 0, 10, 10), color.RGBA{R: 9, G: 8, B: 7, A: 255})
	tab.Until(shows(0, "9,8,7"))
	tab.Until("document.querySelectorAll('.card').length === 3")
	tab.Until(settled("grace", false))
	tab.Shot("page")

	// A real drag from the desk to A, and from A's slot to B.
	tab.Drag(tab.Middle(card("grace")), monitor(tab, 0))
	wants(t, handsA, "insert grace")
	tab.Until(settled("grace", true))
	tab.Shot("page-a")
	visible := tab.Middle(card("grace"))
	visible.Y += 40
	tab.Drag(visible, monitor(tab, 1))
	wants(t, handsA, "remove")
	wants(t, handsB, "insert grace")
	tab.Until(settled("grace", true))

	// The hands reach the terminal inside its frame.
	tab.Click(monitor(tab, 1))
	wants(t, handsB, "pointer 640,512 1", "pointer 640,512 0")
	tab.Press("KeyA", "a")
	wants(t, handsB, "key 0x04 down", "key 0x04 up")
	tab.Shot("page-b")

	// Half way: what a drag looks like.
	at, to := tab.Middle(card("ada")), monitor(tab, 0)
	to.Y += 150
	tab.Mouse(input.DispatchMouseEventTypeMousePressed, at, input.MouseButtonLeft, 1)
	tab.Mouse(input.DispatchMouseEventTypeMouseMoved, browsertest.Spot{X: at.X + 20, Y: at.Y - 20}, input.MouseButtonLeft, 1)
	tab.Mouse(input.DispatchMouseEventTypeMouseMoved, to, input.MouseButtonLeft, 1)
	tab.Until(frame(0) + ".querySelector('.slot.near')")
	tab.Shot("page-drag")
	tab.Mouse(input.DispatchMouseEventTypeMouseReleased, to, input.MouseButtonLeft, 0)
	wants(t, handsA, "insert ada")
	tab.Until(settled("ada", true))

	// Without dragging: a click pulls out, a click on the desk asks where to.
	visible = tab.Middle(card("grace"))
	visible.Y += 40
	tab.Click(visible)
	wants(t, handsB, "remove")
	tab.Until(settled("grace", false))
	tab.Click(tab.Middle(card("linus")))
	tab.Until("document.querySelectorAll('.choice button').length === 2")
	tab.Shot("page-choice")
	tab.Press("ArrowDown", "ArrowDown")
	tab.Click(tab.Middle("document.querySelector('.choice button:focus')"))
	wants(t, handsB, "insert linus")
	tab.Until(settled("linus", true))
	// Instead of the card that is in.
	tab.Drag(tab.Middle(card("grace")), monitor(tab, 1))
	wants(t, handsB, "insert grace")
	tab.Until(settled("linus", false))

	tab.Dark()
	tab.Until("document.getAnimations().length === 0")
	tab.Shot("page-dark")
	for _, size := range []image.Point{{1000, 700}, {600, 900}} {
		tab.Size(size.X, size.Y)
		tab.Until(fmt.Sprintf("innerWidth === %d && document.documentElement.scrollWidth <= innerWidth", size.X))
		tab.Until(inSlot("grace", 1))
		tab.Until(inSlot("ada", 0))
		tab.Shot(fmt.Sprintf("page-at-%d", size.X))
	}
}
