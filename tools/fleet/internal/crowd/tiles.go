package crowd

import (
	"image"

	"hotdesk/tools/fleet/internal/wall"
)

var _ wall.Terminals = (*Crowd)(nil)

// Tiles are all terminals for the wall.
func (c *Crowd) Tiles() []wall.Tile {
	wrong := map[string]int{}
	for _, v := range c.Judge.Verdict().Kept {
		wrong[v.Terminal]++
	}
	all := make([]wall.Tile, 0, len(c.seats))
	for _, s := range c.seats {
		st := s.state()
		t := wall.Tile{Terminal: st.Terminal, Token: st.Token, Says: st.Title, State: wall.Empty, Wrong: wrong[st.Terminal]}
		if st.Server.IsValid() {
			t.Server = st.Server.String()
		}
		if st.Card != 0 {
			t.Card, t.State = Card(st.Card), wall.Waits
		}
		if st.Picture {
			t.State = wall.Picture
		}
		if s.dark() {
			t.State, t.Says = wall.Dark, "no power"
		}
		all = append(all, t)
	}
	return all
}

// dark says that the terminal has no power.
func (s *seat) dark() bool {
	s.hand.Lock()
	defer s.hand.Unlock()
	return s.hands == nil
}

// grid is how many pixels each way make one of a small picture.
const grid = 3

// Paint draws a terminal's picture, small.
func (c *Crowd) Paint(n int, dst *image.RGBA) {
	s := c.seats[n]
	s.hand.Lock()
	pic := s.pic
	s.hand.Unlock()
	if pic == nil || c.Scenario.Counted {
		return
	}
	w, h := pic.Size()
	to := dst.Rect.Size()
	// All of the picture, as large as it fits.
	if w*to.Y > h*to.X {
		to.Y = to.X * h / w
	} else {
		to.X = to.Y * w / h
	}
	corner := dst.Rect.Size().Sub(to).Div(2)
	row := make([]byte, w*4)
	sums := make([][3]int, to.X)
	for y := range to.Y {
		clear(sums)
		for k := range grid {
			at := (y*grid + k) * h / (to.Y * grid)
			pic.Read(image.Rect(0, at, w, at+1), row, len(row))
			for x := range to.X * grid {
				p := row[x*w/(to.X*grid)*4:]
				sum := &sums[x/grid]
				sum[0], sum[1], sum[2] = sum[0]+int(p[2]), sum[1]+int(p[1]), sum[2]+int(p[0])
			}
		}
		out := dst.Pix[dst.PixOffset(corner.X, corner.Y+y):]
		for x, sum := range sums {
			for k, v := range sum {
				out[x*4+k] = byte(v / (grid * grid))
			}
			out[x*4+3] = 0xff
		}
	}
}
