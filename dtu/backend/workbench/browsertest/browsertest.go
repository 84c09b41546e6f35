// Package browsertest runs Debian's chromium for tests of pages.
//
// Source: github.com/chromedp/chromedp.
//
// Each browser has a profile of its own, which goes with the test, and asks
// nobody but the page. It needs the package chromium installed.
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is when a test gives up waiting for a page: long, because it says
// that something is broken, and never how fast something is.
const patience = 60 * time.Second

// A Tab is one tab of a browser. Its methods end the test when they fail.
type Tab struct {
	t   *testing.T
	ctx context.Context
}

// Start starts a browser with a window of this size. What the page's scripts
// log and fail at is logged by the test.
func Start(t *testing.T, width, height int) *Tab {
	t.Helper()
	profile, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(profile) })
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(profile),
		chromedp.WindowSize(width, height),
		chromedp.Flag("no-proxy-server", true), chromedp.Flag("disable-component-update", true))
	alloc, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, cancel := chromedp.NewContext(alloc)
	tab := &Tab{t: t, ctx: ctx}
	listening := make(chan struct{})
	tab.Do(chromedp.EmulateViewport(int64(width), int64(height)))
	messages := chromedp.Console(ctx)
	go func() {
		defer close(listening)
		for m, err := range messages {
			if err != nil {
				return
			}
			t.Log("page: ", m)
		}
	}()
	t.Cleanup(func() {
		chromedp.Cancel(ctx)
		cancel()
		stop()
		<-listening
	})
	return tab
}

// Do does actions in order.
func (tab *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, actions...); err != nil {
		tab.t.Fatal("browsertest: ", err)
	}
}

// Open goes to a page.
func (tab *Tab) Open(url string) {
	tab.t.Helper()
	tab.Do(chromedp.Navigate(url))
}

// Until waits until a JavaScript expression is true in the page.
func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	look := fmt.Sprintf(`new Promise((done) => {
		const end = performance.now() + %d;
		const look = () => (%s) ? done(true) : performance.now() > end ? done(false) : setTimeout(look, 10);
		look();
	})`, patience.Milliseconds(), expression)
	ok, err := chromedp.Run(tab.ctx, chromedp.Evaluate[bool](look, func(p *runtime.EvaluateParams) { p.AwaitPromise = new(true) }))
	if err != nil {
		tab.t.Fatalf("browsertest: %s: %v", expression, err)
	}
	if !ok {
		tab.t.Fatalf("browsertest: never true: %s", expression)
	}
}

// Value puts the value of a JavaScript expression to v, as JSON does.
func (tab *Tab) Value(v any, expression string) {
	tab.t.Helper()
	text, err := chromedp.Run(tab.ctx, chromedp.Evaluate[string]("JSON.stringify("+expression+")"))
	if err == nil {
		err = json.Unmarshal([]byte(text), v)
	}
	if err != nil {
		tab.t.Fatalf("browsertest: %s: %v", expression, err)
	}
}

// A Spot is a point of the page, in CSS pixels.
type Spot struct{ X, Y float64 }

// Middle is the middle of an element, named by an expression.
func (tab *Tab) Middle(element string) Spot {
	tab.t.Helper()
	var s Spot
	tab.Value(&s, fmt.Sprintf("((r) => ({X: r.left + r.width/2, Y: r.top + r.height/2}))((%s).getBoundingClientRect())", element))
	return s
}

// Mouse sends one event of the mouse; buttons are the ones down, as browsers
// number their bits.
func (tab *Tab) Mouse(kind input.DispatchMouseEventType, at Spot, button input.MouseButton, buttons int64) {
	tab.t.Helper()
	call(tab, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at.X, Y: at.Y, Button: button, Buttons: buttons, ClickCount: 1})
}

// Wheel turns the wheel by one notch, of so many CSS pixels.
func (tab *Tab) Wheel(at Spot, dx, dy float64) {
	tab.t.Helper()
	// DispatchMouseEventParams leaves out a zero, and the browser wants both.
	type params struct {
		Type   string  `json:"type"`
		X      float64 `json:"x"`
		Y      float64 `json:"y"`
		DeltaX float64 `json:"deltaX"`
		DeltaY float64 `json:"deltaY"`
	}
	wheel := cdp.Command[params, cdp.Empty]{Method: input.CommandDispatchMouseEvent}
	call(tab, wheel, params{"mouseWheel", at.X, at.Y, dx, dy})
}

// call sends a command of the browser's protocol.
func call[P any](tab *Tab, command cdp.Command[P, cdp.Empty], params P) {
	tab.t.Helper()
	if _, err := chromedp.Call(tab.ctx, command, params); err != nil {
		tab.t.Fatal("browsertest: ", err)
	}
}

// Click presses and releases the left button.
func (tab *Tab) Click(at Spot) {
	tab.t.Helper()
	tab.Do(chromedp.MouseClickXY(at.X, at.Y))
}

// Drag moves the mouse from one spot to another with the left button down.
func (tab *Tab) Drag(from, to Spot) {
	tab.t.Helper()
	const steps = 12
	tab.Mouse(input.DispatchMouseEventTypeMouseMoved, from, input.MouseButtonNone, 0)
	tab.Mouse(input.DispatchMouseEventTypeMousePressed, from, input.MouseButtonLeft, 1)
	for i := 1.0; i <= steps; i++ {
		at := Spot{from.X + (to.X-from.X)*i/steps, from.Y + (to.Y-from.Y)*i/steps}
		tab.Mouse(input.DispatchMouseEventTypeMouseMoved, at, input.MouseButtonLeft, 1)
	}
	tab.Mouse(input.DispatchMouseEventTypeMouseReleased, to, input.MouseButtonLeft, 0)
}

// Key sends one key event.
func (tab *Tab) Key(kind input.DispatchKeyEventType, code, key string, repeat bool) {
	tab.t.Helper()
	call(tab, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Code: code, Key: key, AutoRepeat: new(repeat)})
}

// Press presses and releases a key.
func (tab *Tab) Press(code, key string) {
	tab.t.Helper()
	tab.Key(input.DispatchKeyEventTypeRawKeyDown, code, key, false)
	tab.Key(input.DispatchKeyEventTypeKeyUp, code, key, false)
}

// Size changes the window's size.
func (tab *Tab) Size(width, height int) {
	tab.t.Helper()
	tab.Do(chromedp.EmulateViewport(int64(width), int64(height)))
}

// Dark makes the browser say that the person likes dark pages.
func (tab *Tab) Dark() {
	tab.t.Helper()
	call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
}

// Shot writes the page as PNG to $HOTDESK_SHOTS, when that is set, for people
// to look at.
func (tab *Tab) Shot(name string) {
	tab.t.Helper()
	dir := os.Getenv("HOTDESK_SHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(tab.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		tab.t.Fatal("browsertest: ", err)
	}
}
