package xdisplay

import (
	"image"
	"reflect"
	"testing"

	"github.com/BurntSushi/xgb/xproto"
)

func TestWindows(t *testing.T) {
	var w windows
	w.event(xproto.ConfigureNotifyEvent{Window: 1, X: 5, Y: 6}) // its first place that is known
	w.event(xproto.CreateNotifyEvent{Window: 2, X: 10, Y: 20})
	if len(w.moved) != 0 {
		t.Errorf("moved %v", w.moved)
	}
	w.event(xproto.ConfigureNotifyEvent{Window: 2, X: 13, Y: 18})
	w.event(xproto.ConfigureNotifyEvent{Window: 2, X: 13, Y: 18}) // only its size
	w.event(xproto.ConfigureNotifyEvent{Window: 1, X: 4, Y: -6})
	if want := []image.Point{{3, -2}, {-1, -12}}; !reflect.DeepEqual(w.moved, want) {
		t.Errorf("moved %v, want %v", w.moved, want)
	}
	w.moved = w.moved[:0]
	w.event(xproto.DestroyNotifyEvent{Window: 2})
	w.event(xproto.ConfigureNotifyEvent{Window: 2, X: 0, Y: 0}) // another one of that number
	for i := range 2 * maxMoved {
		w.event(xproto.ConfigureNotifyEvent{Window: 1, X: int16(i)})
	}
	if len(w.moved) != maxMoved || w.moved[0] != (image.Point{-4, 6}) {
		t.Errorf("moved %v", w.moved)
	}
	for i := range 2 * maxWindows {
		w.event(xproto.CreateNotifyEvent{Window: xproto.Window(i)})
	}
	if len(w.at) != maxWindows {
		t.Errorf("%d windows are known", len(w.at))
	}
}
