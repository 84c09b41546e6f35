package roundtrip

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"image"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"hotdesk/dtu/backend/xvfbtest"
	"hotdesk/protocol/draw"
	"hotdesk/server/session/encode"
	"hotdesk/server/session/xdisplay"
)

var recordName = flag.String("record", "", "record this program's desktop anew, one of those in recorded")

// recorded are the programs whose damage testdata holds, as real X clients make
// it. They run without a window manager on a screen of 480x320.
var recorded = map[string][]string{
	"xterm": {"xterm", "-geometry", "72x22+8+8", "-e", "sh", "-c",
		"for n in $(seq 30); do seq -s ' a line that scrolls ' $n $((n+n%5)); sleep 0.03; done; clear; for w in the quick brown fox jumps; do printf '%s ' $w; sleep 0.1; done; sleep 0.5"},
	"toolkit": {"sh", "-c", "xcalc -geometry +250+10 & xclock -update 1 -geometry 120x120+20+180 & c=$!; timeout 3 xfontsel -geometry +10+10; kill $c %1"},
	"browser": {"sh", "-c", "d=$(mktemp -d); timeout 12 chromium --no-sandbox --disable-gpu --no-first-run --user-data-dir=$d --window-position=0,0 --window-size=480,320 --app='" +
		page("<style>body{background:linear-gradient(#fff,#9cf);font:15px sans-serif}</style><div id=t></div>"+
			"<script>let n=0;setInterval(()=>{if(n++<12){t.innerHTML+=`<p>Paragraph `+n+` of a <b>page</b> that <a href=x>grows</a> and scrolls.`;scrollTo(0,1e6)}},250)</script>") + "'; rm -rf $d"},
	"video": {"sh", "-c", "d=$(mktemp -d); timeout 12 chromium --no-sandbox --disable-gpu --no-first-run --user-data-dir=$d --window-position=0,0 --window-size=480,320 --app='" +
		page("<body style=margin:0><p>A film:<br><canvas id=c width=96 height=64></canvas>"+
			"<script>let n=0,g=c.getContext(`2d`),i=g.createImageData(96,64);setInterval(()=>{if(n++>40)return;"+
			"for(let k=0;k<i.data.length;k+=4){let x=k/4%96+3*n,y=k/384|0;i.data[k]=128+90*Math.sin(x/17)+Math.random()*3;i.data[k+1]=128+90*Math.sin((x+y)/23);i.data[k+2]=128+90*Math.cos(y/11+n/9);i.data[k+3]=255}"+
			"g.putImageData(i,0,0)},60)</script>") + "'; rm -rf $d"},
}

// page is an address that holds a page; it has no single quotes.
func page(html string) string {
	return "data:text/html," + strings.NewReplacer("%", "%25", "#", "%23").Replace(html)
}

const (
	recordW, recordH = 480, 320
	recordViews      = 120              // at most
	recordFor        = 20 * time.Second // at most
	recordBytes      = 300 << 10        // packed, at most
)

// A recording is a zstd frame of Views, each: uvarint number of rectangles, and
// for each x y w h (u16) and its pixels, B G R.
type recording [][]patch

type patch struct {
	r   image.Rectangle
	bgr []byte
}

func (v recording) append(b []byte) []byte {
	for _, view := range v {
		b = binary.AppendUvarint(b, uint64(len(view)))
		for _, p := range view {
			for _, n := range [4]int{p.r.Min.X, p.r.Min.Y, p.r.Dx(), p.r.Dy()} {
				b = binary.BigEndian.AppendUint16(b, uint16(n))
			}
			b = append(b, p.bgr...)
		}
	}
	return b
}

func parseRecording(b []byte) (v recording, err error) {
	r := bufio.NewReader(bytes.NewReader(b))
	for {
		n, err := binary.ReadUvarint(r)
		if err == io.EOF {
			return v, nil
		}
		if err != nil {
			return nil, err
		}
		view := make([]patch, n)
		for i := range view {
			var at [4]uint16
			if err := binary.Read(r, binary.BigEndian, &at); err != nil {
				return nil, err
			}
			x, y, w, h := int(at[0]), int(at[1]), int(at[2]), int(at[3])
			view[i] = patch{image.Rect(x, y, x+w, y+h), make([]byte, 3*w*h)}
			if !view[i].r.In(image.Rect(0, 0, recordW, recordH)) {
				return nil, fmt.Errorf("a patch at %v", view[i].r)
			}
			if _, err := io.ReadFull(r, view[i].bgr); err != nil {
				return nil, err
			}
		}
		v = append(v, view)
	}
}

// cut takes r of p.
func cut(p *draw.Pixmap, r image.Rectangle) patch {
	c := patch{r: r.Intersect(image.Rect(0, 0, recordW, recordH))}
	for y := c.r.Min.Y; y < c.r.Max.Y; y++ {
		row := p.Row(y, c.r.Min.X, c.r.Max.X)
		for i := 0; i < len(row); i += 4 {
			c.bgr = append(c.bgr, row[i:i+3]...)
		}
	}
	return c
}

func (c patch) paste(p *draw.Pixmap) {
	bgr := c.bgr
	for y := c.r.Min.Y; y < c.r.Max.Y; y++ {
		row := p.Row(y, c.r.Min.X, c.r.Max.X)
		for i := 0; i < len(row); i += 4 {
			bgr = bgr[copy(row[i:i+3], bgr):]
		}
	}
}

// record runs a program and notes its damage till it ends.
func record(t *testing.T, command []string) (v recording) {
	x := xvfbtest.Start(t, fmt.Sprintf("%dx%dx24", recordW, recordH))
	d, err := xdisplay.Open(xdisplay.Config{Display: x.Display})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "DISPLAY="+x.Display)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	enough := time.After(recordFor)
	for len(v) < recordViews {
		select {
		case <-d.Changed():
		case <-over:
			return v
		case <-enough:
			return v
		}
		d.View(func(w encode.View) {
			var view []patch
			for _, r := range w.Damage {
				if c := cut(w.Picture, r); len(c.bgr) > 0 {
					view = append(view, c)
				}
			}
			if len(view) > 0 {
				v = append(v, view)
			}
		})
	}
	return v
}

// recordAnew is how testdata was made: go test ./tools/internal/roundtrip -run
// Desktops -record xterm.
func recordAnew(t *testing.T) {
	v := record(t, recorded[*recordName])
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		t.Fatal(err)
	}
	b := z.EncodeAll(v.append(nil), nil)
	t.Logf("%d views, %d bytes", len(v), len(b))
	for len(b) > recordBytes {
		v = v[:len(v)*3/4]
		b = z.EncodeAll(v.append(nil), b[:0])
	}
	if err := os.WriteFile(filepath.Join("testdata", *recordName+".views"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// What real programs draw arrives: exactly each time where that is asked for,
// and when the picture rests where it may be near before.
func TestRecordedDesktops(t *testing.T) {
	if *recordName != "" {
		recordAnew(t)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for name := range recorded {
		packed, err := os.ReadFile(filepath.Join("testdata", name+".views"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := z.DecodeAll(packed, nil)
		if err != nil {
			t.Fatal(err)
		}
		views, err := parseRecording(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for kind, terms := range map[string]encode.Terms{
			"exact": {}, "motion": {Motion: true}, "first": {First: true}, "slow": {Motion: true, Budget: 2000},
		} {
			t.Run(name+"/"+kind, func(t *testing.T) { replay(t, views, terms) })
		}
	}
}

// replay shows a recording, one View each 40 ms, and lets it rest now and then.
func replay(t *testing.T, views recording, terms encode.Terms) {
	src := draw.NewPixmap(recordW, recordH)
	p := newPair(t, src.W, src.H)
	moving, resting := 0, 0
	for i, view := range views {
		v := encode.View{Picture: src}
		for _, c := range view {
			c.paste(src)
			v.Damage = append(v.Damage, c.r)
		}
		terms.Now += 40 * time.Millisecond
		moving += p.showOn(t, v, terms)
		if rests := i%10 == 9 || i == len(views)-1; rests {
			resting += rest(t, p, src, &terms)
		} else if terms.Motion || terms.First {
			continue
		}
		if err := p.differs(src); err != nil {
			t.Fatalf("view %d: %v", i, err)
		}
	}
	t.Logf("%d views, %d bytes, and %d to be exact", len(views), moving, resting)
}

// rest does what is due till nothing is.
func rest(t *testing.T, p *pair, src *draw.Pixmap, terms *encode.Terms) (bytes int) {
	for range 2000 {
		at, ok := p.enc.Due()
		if !ok {
			return bytes
		}
		terms.Now = max(terms.Now+time.Millisecond, at)
		bytes += p.showOn(t, encode.View{Picture: src}, *terms)
	}
	t.Fatal("it never becomes exact")
	return bytes
}
