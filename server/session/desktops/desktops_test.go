package desktops

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const xfce = "[Desktop Entry]\nVersion=1.0\nName=Xfce Session\nName[de]=Xfce-Sitzung\nExec=startxfce4\nTryExec=sh\nIcon=\nType=Application\n"

func TestParse(t *testing.T) {
	for text, want := range map[string][]string{
		xfce: {"startxfce4"},
		"[Desktop Entry]\nName=a\nExec=\"/opt/a b/run\" --x %U 100%%\n[Other]\nExec=no\n": {"/opt/a b/run", "--x", "100%"},
		"[Desktop Entry]\nName=a\nExec=\"a\n":                                             nil,
		"[Desktop Entry]\nName=a\n":                                                       nil,
		"[Desktop Entry]\nName=a\nExec=b\nHidden=true\n":                                  nil,
		"Name=a\nExec=b\n":                                                                nil,
	} {
		d, err := Parse(text)
		if !slices.Equal(d.Exec, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %q, %v", text, d.Exec, err)
		}
	}
}

func TestList(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "xsessions")
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"xfce.desktop":    xfce,
		"../xfce.desktop": xfce, // where no name leads
		"a/b.desktop":     xfce,
		".xfce.desktop":   xfce,
		"gone.desktop":    strings.Replace(xfce, "TryExec=sh", "TryExec=/no/such/program", 1),
		"broken.desktop":  "no",
		"README":          xfce,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all := List(dir)
	if len(all) != 1 || all[0].Name != "xfce" || all[0].Title != "Xfce Session" {
		t.Errorf("%+v", all)
	}
	for _, bad := range []string{"", "../xfce", ".xfce", "a/b", "gone", "nothing"} {
		if d, err := Find(dir, bad); err == nil {
			t.Errorf("%q: %+v", bad, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(xfce)
	f.Add("[Desktop Entry]\nName=a\nExec=\"b\\\\\" %f\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err == nil && (d.Title == "" || len(d.Exec) == 0) || err != nil && d.Exec != nil {
			t.Errorf("%+v, %v", d, err)
		}
	})
}
