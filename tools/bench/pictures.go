package main

import (
	"math"
	"math/rand/v2"
)

const (
	pageCount    = 25
	clipW, clipH = 640, 360
	clipFrames   = 60
	clipX, clipY = 100, 100 // where its window is
)

// photos makes pages that are hard on an encoder in two ways: every other one
// is a set of Mandelbrot with sharp and smooth parts, the others are soft
// clouds with the noise of a camera. B G R X.
func photos(w, h, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, w*h*4)
		if i%2 == 1 {
			mandelbrot(out[i], w, h, 3*math.Pow(0.55, float64(i/2)))
		} else {
			clouds(out[i], w, h, rand.New(rand.NewPCG(uint64(i), 11)), 6)
		}
	}
	return out
}

func mandelbrot(pix []byte, w, h int, scale float64) {
	const cx, cy, most = -0.743643887, 0.131825904, 250
	for y := range h {
		for x := range w {
			a, b := cx+scale*(float64(x)/float64(w)-0.5), cy+scale*(float64(y)/float64(w)-0.5*float64(h)/float64(w))
			zx, zy, n := 0.0, 0.0, 0
			for ; n < most && zx*zx+zy*zy < 64; n++ {
				zx, zy = zx*zx-zy*zy+a, 2*zx*zy+b
			}
			o := (y*w + x) * 4
			if n == most {
				continue
			}
			t := float64(n) + 1 - math.Log2(math.Log2(zx*zx+zy*zy))
			for k := range 3 {
				pix[o+k] = byte(127.5 + 127.5*math.Sin(0.15*t+float64(k)*2))
			}
		}
	}
}

// clouds adds noise of that deviation to a sum of smooth fields.
func clouds(pix []byte, w, h int, r *rand.Rand, deviation float64) {
	const cell = 96
	gw, gh := w/cell+3, h/cell+3
	var grid [3][]float64
	for k := range grid {
		grid[k] = make([]float64, gw*gh)
		for i := range grid[k] {
			grid[k][i] = 30 + 195*r.Float64()
		}
	}
	for y := range h {
		fy := float64(y) / cell
		iy := int(fy)
		ty := fy - float64(iy)
		ty = ty * ty * (3 - 2*ty)
		for x := range w {
			fx := float64(x) / cell
			ix := int(fx)
			tx := fx - float64(ix)
			tx = tx * tx * (3 - 2*tx)
			for k := range grid {
				g := grid[k][iy*gw+ix:]
				top, bottom := g[0]+(g[1]-g[0])*tx, g[gw]+(g[gw+1]-g[gw])*tx
				v := top + (bottom-top)*ty + r.NormFloat64()*deviation
				pix[(y*w+x)*4+k] = byte(min(max(v, 0), 255))
			}
		}
	}
}

// clip is a moving picture: bars that slide over each other, and noise.
func clip() [][]byte {
	r := rand.New(rand.NewPCG(5, 5))
	out := make([][]byte, clipFrames)
	for f := range out {
		p := make([]byte, clipW*clipH*4)
		for y := range clipH {
			for x := range clipW {
				o, n := (y*clipW+x)*4, float64(r.IntN(9)-4)
				u, v := float64(x+3*f)/40, float64(y-2*f)/30
				for k := range 3 {
					c := 127.5 + 60*math.Sin(u+float64(k)) + 50*math.Cos(v-float64(k)*1.3)
					if (x-4*f+1000)%160 < 40 && y > 100 && y < 220 {
						c = float64(40 + 90*k)
					}
					p[o+k] = byte(min(max(c+n, 0), 255))
				}
			}
		}
		out[f] = p
	}
	return out
}
