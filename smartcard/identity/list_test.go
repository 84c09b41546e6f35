package identity

import (
	"errors"
	"strings"
	"testing"
)

const listFile = "# ours\npiv\n\nfile a000000001 0005 4 6 badge\n file:a000000002:0005:4:6:badge\natr\n"

func TestParseList(t *testing.T) {
	l, err := ParseList(listFile)
	if err != nil || l.Text != "piv,file:a000000001:0005:4:6:badge,file:a000000002:0005:4:6:badge,atr" || len(l.Version) != 12 {
		t.Fatalf("%+v, %v", l, err)
	}
	if other, _ := ParseList("piv\n"); other.Version == l.Version {
		t.Error("two lists have one version")
	}
	for text, want := range map[string]string{
		"":                                  "there is none",
		"# nothing\n":                       "there is none",
		"piv\n\ngold\n":                     "line 3: ",
		"piv,atr":                           "line 1: one rule a line",
		"file a0 0005 0 4 x":                "line 1: ",
		strings.Repeat("atr\n", MaxRules+1): "line 17: more than 16",
		strings.Repeat("#", MaxListFile+1):  "more than",
		strings.Repeat("file a00000000100000000000000000000ff 0005 32767 32 abcdefghijklmnop\n", 16): "bytes in all",
	} {
		if l, err := ParseList(text); !errors.Is(err, ErrRules) || !strings.Contains(err.Error(), want) || l != (List{}) {
			t.Errorf("%.30q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add(listFile)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseList(text)
		if err != nil {
			return
		}
		if rules, err := ParseRules(l.Text); err != nil || len(rules) == 0 {
			t.Fatalf("%q: %v", l.Text, err)
		}
		if again, err := ParseList(strings.ReplaceAll(l.Text, ",", "\n")); err != nil || again != l {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}
