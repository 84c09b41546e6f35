package main

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain is the programs of the workloads too: they run this very file.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == insideWord {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// One short repetition with Hotdesk alone: it runs to its end and reports what
// it should. How quick it was is not a test's business.
func TestTyping(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	var out, log strings.Builder
	if code := run([]string{"-peers", "hotdesk", "-work", "typing", "-reps", "1", "-keys", "5", "-geom", "800x600", "-json", file}, &out, &log); code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, &out, &log)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	n := 0
	for ; lines.Scan(); n++ {
		var r Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Peer != "hotdesk" || r.Work != "typing" || r.Geom != "800x600" || len(r.LatMS)+r.Lost != 5 || r.Down == 0 || r.CPU == 0 || r.PSS == 0 {
			t.Errorf("%+v", r)
		}
	}
	if n != 1 || !strings.Contains(out.String(), "typing  hotdesk") {
		t.Errorf("%d results\n%s", n, &out)
	}
}

func TestWrongFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-peers rdp":  "hotdesk, hotdesk-video, tigervnc",
		"-work films": "typing, scrollp",
		"-geom big":   "WxH",
		"-before /no": "no such file",
	} {
		var out, log strings.Builder
		if code := run(strings.Fields(args), &out, &log); code != 2 || !strings.Contains(log.String(), want) {
			t.Errorf("%s: exit %d, %q", args, code, log.String())
		}
	}
}

func TestPSNR(t *testing.T) {
	a, b := make([]byte, 400), make([]byte, 400)
	b[3] = 9 // does not count
	if got := psnr(a, b); got != 999 {
		t.Errorf("equal pictures: %v", got)
	}
	b[0] = 255
	if got := psnr(a, b); math.Abs(got-10*math.Log10(300)) > 1e-9 {
		t.Errorf("one of 300 values: %v", got)
	}
	if got := psnr(a, b[:4]); got != 0 {
		t.Errorf("other sizes: %v", got)
	}
}

func TestGoals(t *testing.T) {
	results := []Result{
		{Work: "typing", Peer: floor, P50: 0.5, P99: 1}, {Work: "typing", Peer: "hotdesk", P50: 0.96, P99: 4, Down: 990, LatMS: make([]float64, 10), CPU: 0.05},
		{Work: "pages", Peer: "hotdesk", Down: 42_800_000}, {Work: "pages", Peer: tigerExact, Down: 70_500_000},
		{Work: "video", Peer: "hotdesk", PSNR: 38.96},
	}
	var text, page strings.Builder
	judge(&text, results)
	goalTable(&page, results)
	for _, want := range []string{"1.92 floor", "4.00 floor", "NOT met", "0.61 TL", "38.96  "} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if got, want := page.String(), `| work | measure | Hotdesk | beside it | ratio | goal | |
|---|---|---|---|---|---|---|
| typing | echo p50 | 0.96 | floor 0.5 | 1.92 | <= 2.00 | met |
| typing | echo p99 | 4 | floor 1 | 4.00 | <= 3.00 | **missed** |
| typing | bytes a key | 99 |  |  | <= 100.00 | met |
| pages | bytes | 42.80 M | TL 70.50 M | 0.61 | <= 0.80 | met |
| video | dB | 39 |  |  | >= 36.00 | met |
`; got != want {
		t.Errorf("%s", got)
	}
}
