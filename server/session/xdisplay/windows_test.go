package xdisplay

import (
	"image"
	"reflect"
	"testing"

	"github.com/BurntSushi/xgb/xproto"
)

func TestWindows(t *testing.T) {
	var w windows
	event := func(e interface{ Bytes() []byte }) {
		t.Helper()
		if !w.event(e.Bytes()) {
			t.Errorf("%v is not taken", e)
		}
	}
	event(xproto.ConfigureNotifyEvent{Window: 1, X: 5, Y: 6}) // its first place that is known
	event(xproto.CreateNotifyEvent{Window: 2, X: 10, Y: 20})
	if len(w.moved) != 0 {
		t.Errorf("moved %v", w.moved)
	}
	event(xproto.ConfigureNotifyEvent{Window: 2, X: 13, Y: 18})
	event(xproto.ConfigureNotifyEvent{Window: 2, X: 13, Y: 18}) // only its size
	event(xproto.ConfigureNotifyEvent{Window: 1, X: 4, Y: -6})
	if want := []image.Point{{3, -2}, {-1, -12}}; !reflect.DeepEqual(w.moved, want) {
		t.Errorf("moved %v, want %v", w.moved, want)
	}
	first := w.since(nil)
	event(xproto.ConfigureNotifyEvent{Window: 1, X: 5, Y: -6}) // while these are shown
	if w.shown(len(first)); !reflect.DeepEqual(w.moved, []image.Point{{1, 0}}) {
		t.Errorf("moved %v after what was shown", w.moved)
	}
	w.shown(1)
	if w.event(xproto.MapNotifyEvent{Window: 1}.Bytes()) {
		t.Error("another event is taken")
	}
	event(xproto.DestroyNotifyEvent{Window: 2})
	event(xproto.ConfigureNotifyEvent{Window: 2, X: 0, Y: 0}) // another one of that number
	for i := range 2 * maxMoved {
		event(xproto.ConfigureNotifyEvent{Window: 1, X: int16(i)})
	}
	if len(w.moved) != maxMoved || w.moved[0] != (image.Point{-5, 6}) {
		t.Errorf("moved %v", w.moved)
	}
	for i := range 2 * maxWindows {
		event(xproto.CreateNotifyEvent{Window: xproto.Window(i)})
	}
	if len(w.at) != maxWindows {
		t.Errorf("%d windows are known", len(w.at))
	}
}
