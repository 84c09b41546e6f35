package greeter

import (
	"image"
	"testing"
)

var question = Screen{Kind: Question, Text: "Your session runs on north, which cannot be reached from here.", Answers: [MaxAnswers]string{"Try again", "Open a session on this server", "Give up"}}

func TestQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(c *chooser)
		want []int
	}{
		"Return takes the first": {func(c *chooser) { c.Key(usageReturn, true) }, []int{0}},
		"a digit marks":          {func(c *chooser) { c.Key(usageOne+1, true) }, nil},
		"then Return takes it":   {func(c *chooser) { c.Key(usageOne+1, true); c.Key(usagePadEnter, true) }, []int{1}},
		"on the pad too":         {func(c *chooser) { c.Key(usagePadOne+2, true); c.Key(usageReturn, true) }, []int{2}},
		"no such option":         {func(c *chooser) { c.Key(usageOne+3, true); c.Key(usageReturn, true) }, []int{0}},
		"arrows stop at the ends": {func(c *chooser) {
			c.Key(usageUp, true)
			for range 9 {
				c.Key(usageDown, true)
			}
			c.Key(usageReturn, true)
		}, []int{2}},
		"a key's release": {func(c *chooser) { c.Key(usageReturn, false) }, nil},
		"once": {func(c *chooser) {
			c.Key(usageReturn, true)
			c.Key(usageReturn, true)
			c.Pointer(320, row(1, 640, 480).Min.Y+3, 1)
		}, []int{0}},
		"a click":            {func(c *chooser) { c.Pointer(320, row(1, 640, 480).Min.Y+3, 1) }, []int{1}},
		"a click beside":     {func(c *chooser) { c.Pointer(3, 3, 1) }, nil},
		"dragged onto a row": {func(c *chooser) { c.Pointer(3, 3, 1); c.Pointer(320, row(1, 640, 480).Min.Y+3, 1) }, nil},
	} {
		var got []int
		f := &feed{screen: question, changed: make(chan struct{}, 1), w: 640, h: 480}
		c.do(&chooser{feed: f, take: func(i int) { got = append(got, i) }})
		if len(got) != len(c.want) || len(got) == 1 && got[0] != c.want[0] {
			t.Errorf("%s: took %v, want %v", name, got, c.want)
		}
	}
}

// The rows are on the picture and apart from each other, whatever its size.
func TestRows(t *testing.T) {
	for _, size := range []image.Point{{64, 64}, {640, 480}, {1920, 1080}, {1080, 1920}, {2560, 1600}} {
		last := image.Rectangle{}
		for i := range MaxAnswers {
			r := row(i, size.X, size.Y)
			if r.Empty() || !r.In(image.Rectangle{Max: size}) || r.Overlaps(last) {
				t.Errorf("%v: option %d at %v, the one before at %v", size, i, r, last)
			}
			last = r
		}
	}
	paint(question, "desk-a", 640, 480)
}
