package greeter

import (
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/encode"
)

// A terminal that changes its size all the time has a few pictures painted at
// once and then two a second; the last size it has in the end.
func TestResizesAreFew(t *testing.T) {
	g := serve(t)
	synctest.Test(t, func(t *testing.T) {
		f := &feed{g: g, screen: Screen{Kind: InsertCard}, changed: make(chan struct{}, 1)}
		painted := 0
		look := func() {
			f.View(func(v encode.View) { painted += len(v.Damage) })
		}
		for n := range 1000 {
			f.Resize(640+n%2*160, 480+n%2*120)
			look()
		}
		if painted != resizeFree {
			t.Errorf("%d pictures at once, want %d", painted, resizeFree)
		}
		began := time.Now()
		for n := 0; time.Since(began) < 10*time.Second; n++ {
			time.Sleep(time.Millisecond)
			f.Resize(640+n%7, 480)
			look()
		}
		if most := resizeFree + int(10*time.Second/resizeEvery) + 1; painted > most {
			t.Errorf("%d pictures in 10 s, at most %d are due", painted, most)
		}
		f.Resize(1024, 768)
		time.Sleep(resizeEvery)
		synctest.Wait()
		if f.w != 1024 || f.h != 768 {
			t.Errorf("it stays %dx%d", f.w, f.h)
		}
		f.Resize(alp.MaxSide, alp.MaxSide)
		time.Sleep(10 * time.Second)
		for range resizeFree { // who rests may do it at once again
			f.Resize(640, 480)
			f.Resize(800, 600)
		}
		if f.w == 1920 {
			t.Error("a size that nobody wants any more")
		}
		time.Sleep(time.Minute)
	})
}
