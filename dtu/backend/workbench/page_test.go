package workbench_test

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"hotdesk/dtu/backend/backendtest"
	"hotdesk/dtu/backend/workbench"
	"hotdesk/dtu/backend/workbench/browsertest"
)

// start serves a workbench with a picture and hands to look at.
func start(t *testing.T, w, h int) (*workbench.Workbench, *backendtest.Picture, *backendtest.Hands) {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, hands := backendtest.NewPicture(w, h), backendtest.NewHands("ada", "grace", "linus")
	b := workbench.New(workbench.Config{Listen: listen, Title: "Terminal A"})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, p, hands) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := p.Watched(); n != 0 {
			t.Errorf("%d viewers left", n)
		}
	})
	return b, p, hands
}

// want reads the events up to the last of these and fails unless they are
// among them in this order.
func want(t *testing.T, h *backendtest.Hands, events ...string) {
	t.Helper()
	// Only to say what is missing, long before the test's own end.
	enough := time.After(time.Minute)
	var seen []string
	for _, e := range events {
		for {
			var got string
			select {
			case got = <-h.Events:
			case <-enough:
				t.Fatalf("never %q, but %q", e, seen)
			}
			seen = append(seen, got)
			if got == e {
				break
			}
			if !strings.HasPrefix(got, "pointer") {
				t.Fatalf("%q, want %q; all: %q", got, e, seen)
			}
		}
	}
}

// shows is an expression that is true when the canvas has the colour "r,g,b"
// at a point.
func shows(x, y int, rgb string) string {
	return fmt.Sprintf("%s.getContext('2d').getImageData(%d, %d, 1, 1).data.slice(0, 3).join() === '%s'", screen, x, y, rgb)
}

const screen = "document.getElementById('screen')"

func card(name string) string { return "document.querySelector('[data-card=" + name + "]')" }

// settled is an expression that is true when a card is where it stays.
func settled(name string, in bool) string {
	return fmt.Sprintf("((c) => c.matches('.in') === %v && !c.ariaBusy && !c.getAnimations().length)(%s)", in, card(name))
}

func TestPage(t *testing.T) {
	b, p, hands := start(t, 1280, 1024)
	p.Fill(image.Rect(0, 0, 1280, 1024), color.RGBA{R: 38, G: 70, B: 110, A: 255})
	tab := browsertest.Start(t, 1280, 800)
	tab.Open(b.URL())

	// The picture, and changes of it.
	tab.Until(shows(1279, 1023, "38,70,110"))
	p.Fill(image.Rect(100, 50, 140, 80), color.RGBA{R: 255, G: 128, B: 1, A: 255})
	tab.Until(shows(139, 79, "255,128,1"))
	tab.Until(shows(140, 80, "38,70,110"))
	tab.Until("document.querySelector('.veil').getAnimations().length === 0")
	tab.Shot("workbench")

	// Pointer, scaled: the middle of the canvas is the middle of the screen.
	middle := tab.Middle(screen)
	tab.Click(middle)
	want(t, hands, "pointer 640,512 1", "pointer 640,512 0")
	tab.Mouse(input.DispatchMouseEventTypeMousePressed, middle, input.MouseButtonRight, 2)
	tab.Mouse(input.DispatchMouseEventTypeMouseReleased, middle, input.MouseButtonRight, 0)
	want(t, hands, "pointer 640,512 4", "pointer 640,512 0")
	tab.Wheel(middle, 0, 120)
	tab.Wheel(middle, 0, -120)
	tab.Wheel(middle, 120, 0)
	want(t, hands, "wheel 0,1", "wheel 0,-1", "wheel 1,0")

	// Keys: real presses only, by place; everything is let go at blur.
	tab.Key(input.DispatchKeyEventTypeRawKeyDown, "ShiftLeft", "Shift", false)
	tab.Key(input.DispatchKeyEventTypeRawKeyDown, "KeyZ", "Y", false)
	tab.Key(input.DispatchKeyEventTypeRawKeyDown, "KeyZ", "Y", true)
	tab.Key(input.DispatchKeyEventTypeRawKeyDown, "KeyZ", "Y", true)
	tab.Key(input.DispatchKeyEventTypeKeyUp, "KeyZ", "Y", false)
	tab.Key(input.DispatchKeyEventTypeKeyUp, "ShiftLeft", "Shift", false)
	tab.Press("Tab", "Tab")
	tab.Press("IntlBackslash", "<")
	want(t, hands, "key 0xe1 down", "key 0x1d down", "key 0x1d up", "key 0xe1 up", "key 0x2b down", "key 0x2b up", "key 0x64 down", "key 0x64 up")
	tab.Key(input.DispatchKeyEventTypeRawKeyDown, "KeyA", "a", false)
	tab.Until("(" + screen + ".blur(), true)")
	want(t, hands, "key 0x04 down", "release")
	tab.Shot("workbench-focus")

	// Cards: by click, by keyboard, by dragging in and out.
	tab.Until("document.querySelectorAll('.card').length === 3")
	tab.Click(tab.Middle(card("ada")))
	want(t, hands, "insert ada")
	tab.Until(settled("ada", true))
	tab.Until("(" + card("ada") + ".focus(), true)")
	tab.Do(chromedp.KeyEvent("\r"))
	want(t, hands, "remove")
	tab.Until(settled("ada", false))
	tab.Drag(tab.Middle(card("grace")), middle)
	want(t, hands, "insert grace")
	tab.Until(settled("grace", true))
	tab.Shot("workbench-in")
	visible := tab.Middle(card("grace"))
	visible.Y += 40
	tab.Drag(visible, browsertest.Spot{X: visible.X + 200, Y: 790})
	want(t, hands, "remove")
	tab.Until(settled("grace", false))

	// A card put in by other means is seen too.
	if err := hands.Insert("linus"); err != nil {
		t.Fatal(err)
	}
	want(t, hands, "insert linus")
	tab.Until(settled("linus", true))

	tab.Click(tab.Middle("document.getElementById('power')"))
	want(t, hands, "power")

	// Another size.
	p.Resize(800, 600)
	p.Fill(image.Rect(790, 590, 800, 600), color.RGBA{G: 255, A: 255})
	tab.Until(screen + ".width === 800 && " + shows(799, 599, "0,255,0"))
	tab.Shot("workbench-800")

	// In a small window all is still on the page, and the pointer true.
	for _, size := range []image.Point{{900, 700}, {480, 800}} {
		tab.Size(size.X, size.Y)
		tab.Until(fmt.Sprintf("innerWidth === %d && ((r) => r.left >= 0 && r.top >= 0 && r.right <= innerWidth && r.bottom <= innerHeight)(document.getElementById('monitor').getBoundingClientRect())", size.X))
		tab.Click(tab.Middle(screen))
		want(t, hands, "pointer 400,300 1", "pointer 400,300 0")
		tab.Until("document.getAnimations().length === 0")
		tab.Shot(fmt.Sprintf("workbench-at-%d", size.X))
	}
	tab.Size(1280, 800)
	tab.Dark()
	tab.Until("document.getAnimations().length === 0")
	tab.Shot("workbench-dark")
}
