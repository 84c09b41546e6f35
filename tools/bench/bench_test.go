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
		"-peers rdp":  "hotdesk, tigervnc",
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
