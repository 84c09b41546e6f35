package check

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// once has all rules look at the same files, read when the first of them does.
var once = sync.OnceValues(func() (tree, error) {
	root, err := Root()
	if err != nil {
		return tree{}, err
	}
	files, err := Load(root)
	return tree{root, files}, err
})

type tree struct {
	root  string
	files []File
}

func load(t *testing.T) (string, []File) {
	t.Helper()
	all, err := once()
	if err != nil {
		t.Fatal(err)
	}
	root, files := all.root, all.files
	if len(files) < 20 {
		t.Fatalf("only %d Go files below %s", len(files), root)
	}
	return root, files
}

// The layout of design section 6: who looks for a thing finds it there.
func TestTopLevel(t *testing.T) {
	root, _ := load(t)
	want := []string{"LICENSE", "README.md", "dtu", "go.mod", "go.sum", "groupmgr", "protocol", "server", "smartcard", "testdata", "tools"}
	made := []string{"bin", "out"} // ignored by git: what our own tools write
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(made, e.Name()) {
			have = append(have, e.Name())
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("top level is %v, want %v", have, want)
	}
}

// Imports point one way, so that a part can be understood without those that
// use it: protocol <- smartcard <- groupmgr, dtu, server <- tools. Tests of the
// terminal's end of a connection may bring the other end, and the simulator,
// which no program links, brings the machines of all of them together.
func TestImportDirections(t *testing.T) {
	_, files := load(t)
	may := map[string][]string{
		"protocol":  {"protocol"},
		"smartcard": {"protocol", "smartcard"},
		"groupmgr":  {"protocol", "smartcard", "groupmgr"},
		"dtu":       {"protocol", "smartcard", "dtu"},
		"server":    {"protocol", "smartcard", "server"},
		"tools":     {"protocol", "smartcard", "groupmgr", "dtu", "server", "tools"},
		"testdata":  {},
	}
	for _, f := range files {
		top, _, _ := strings.Cut(f.Path, "/")
		allowed, known := may[top]
		if !known {
			t.Errorf("%s: no rule for the folder %s", f.Path, top)
			continue
		}
		for _, imp := range f.Imports {
			dir, ok := Local(imp)
			if !ok || dir == "testdata" {
				continue
			}
			to, _, _ := strings.Cut(dir, "/")
			if f.Test && top == "dtu" && strings.HasPrefix(dir, "server/session/") {
				continue
			}
			if f.Dir() == "groupmgr/simulate" && slices.Contains([]string{"dtu/terminal", "dtu/bootstrap", "server/sessions", "server/proof"}, dir) {
				continue
			}
			if !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: imports point protocol <- smartcard <- groupmgr, dtu, server <- tools", f.Path, imp)
			}
		}
	}
}

// Codecs and state machines are pure: a thousand of them can be simulated in
// one test, with the time as an argument.
func TestPurePackages(t *testing.T) {
	_, files := load(t)
	pure := []string{
		"protocol", "smartcard/apdu", "smartcard/atr", "smartcard/ccid", "smartcard/identity", "smartcard/pcsclite", "smartcard/piv",
		"groupmgr/member", "groupmgr/locate", "groupmgr/lookup", "groupmgr/balance", "groupmgr/engine", "groupmgr/simulate",
		"dtu/terminal", "dtu/bootstrap", "dtu/rumour", "dtu/keymap", "server/sessions", "server/login", "server/policy", "server/proof",
	}
	shells := map[string]string{ // shared by all programs, so they can be nowhere else
		"protocol/rpc":     "runs a connection that its caller opened",
		"protocol/program": "reads the command line, the configuration and signals",
	}
	forbidden := []string{"net", "os", "os/exec", "os/signal", "sync", "log", "syscall", "math/rand", "crypto/rand"}
	// Of these only what neither acts nor remembers: a seeded source, the value
	// by which a secret hides itself in logs.
	only := map[string][]string{
		"rand": {"Rand", "New", "NewPCG", "NewChaCha8", "PCG", "Source"},
		"slog": {"Value", "StringValue"},
	}
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	seen := map[string]bool{}
	for _, f := range files {
		if f.Test {
			continue
		}
		i := slices.IndexFunc(pure, func(p string) bool { return f.Dir() == p || strings.HasPrefix(f.Dir(), p+"/") })
		if i < 0 || shells[f.Dir()] != "" {
			continue
		}
		seen[pure[i]] = true
		for _, imp := range f.Imports {
			if slices.Contains(forbidden, imp) {
				t.Errorf("%s imports %s: %s is pure", f.Path, imp, f.Dir())
			}
			if _, local := Local(imp); strings.HasPrefix(f.Path, "protocol/") && !local && !Standard(imp) {
				t.Errorf("%s imports %s: protocol imports the standard library only", f.Path, imp)
			}
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Obj == nil && only[x.Name] != nil && !slices.Contains(only[x.Name], s.Sel.Name) {
					t.Errorf("%s: %s.%s: %s is pure", f.Pos(n), x.Name, s.Sel.Name, f.Dir())
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, s.Sel.Name) {
					t.Errorf("%s: time.%s: %s is pure, the time is an argument", f.Pos(n), s.Sel.Name, f.Dir())
				}
			}
			return true
		})
	}
	for _, p := range pure {
		if !seen[p] {
			t.Errorf("the rule names %s, which has no Go file", p)
		}
	}
}

// One session program runs per session, so what it links costs memory for
// each: neither etcd nor gRPC nor Prometheus (design section 1).
func TestSessionIsSmall(t *testing.T) {
	_, files := load(t)
	allowed := []string{
		"github.com/BurntSushi/xgb", "github.com/quic-go/quic-go", "github.com/klauspost/compress",
		"github.com/msteinert/pam", "golang.org/x/sys", "golang.org/x/net", "golang.org/x/crypto",
	}
	queue, done := []string{"server/session"}, map[string]bool{}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		if done[dir] {
			continue
		}
		done[dir] = true
		for _, f := range files {
			if f.Test || f.Dir() != dir {
				continue
			}
			for _, imp := range f.Imports {
				if to, ok := Local(imp); ok {
					queue = append(queue, to)
				} else if !Standard(imp) && !slices.ContainsFunc(allowed, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") }) {
					t.Errorf("%s imports %s, which the session program would link", f.Path, imp)
				}
			}
		}
	}
	if len(done) < 8 {
		t.Errorf("only %d packages reached from server/session: %v", len(done), done)
	}
}

// A package comment is where a newcomer begins.
func TestPackageComments(t *testing.T) {
	_, files := load(t)
	type pkg struct{ names, comments []string }
	dirs := map[string]*pkg{}
	for _, f := range files {
		if f.Test {
			continue
		}
		p := dirs[f.Dir()]
		if p == nil {
			p = &pkg{}
			dirs[f.Dir()] = p
		}
		p.names = append(p.names, f.Syntax.Name.Name)
		if d := f.Syntax.Doc; d != nil && !strings.HasPrefix(strings.TrimSpace(d.Text()), "//go:") {
			p.comments = append(p.comments, f.Path)
		}
	}
	owner := map[string]string{}
	for dir, p := range dirs {
		if len(p.comments) != 1 {
			t.Errorf("%s: %d package comments, want one: %v", dir, len(p.comments), p.comments)
		}
		name := p.names[0]
		if name == "main" || name == "app" {
			continue
		}
		if other := owner[name]; other != "" {
			t.Errorf("%s and %s are both package %s: a name says which", other, dir, name)
		}
		owner[name] = dir
	}
}

// main.go holds nothing, so that tests can run each program in their process.
func TestMainIsTenLines(t *testing.T) {
	root, files := load(t)
	for _, f := range files {
		top, _, _ := strings.Cut(f.Path, "/")
		if f.Test || f.Syntax.Name.Name != "main" || top == "tools" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.Path)))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); path.Base(f.Path) != "main.go" || n > 16 {
			t.Errorf("%s has %d lines: a program is main.go of about ten lines that calls app.Main", f.Path, n)
		}
	}
}

// What would rot: notes to self, tests that never run, tests that hope.
func TestNothingLeftBehind(t *testing.T) {
	root, files := load(t)
	for _, f := range files {
		if f.Path == "tools/internal/check/rules_test.go" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.Path)))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			for _, word := range []string{"TODO", "FIXME", "XXX", "HACK"} {
				if _, after, ok := strings.Cut(line, word); ok && !strings.HasPrefix(after, "X") {
					t.Errorf("%s:%d: %s", f.Path, i+1, word)
				}
			}
			if f.Test && (strings.Contains(line, ".Skip(") || strings.Contains(line, ".Skipf(") || strings.Contains(line, ".SkipNow(")) {
				t.Errorf("%s:%d: a test that is skipped is no test; tools/test installs what it needs", f.Path, i+1)
			}
			if f.Test && strings.Contains(line, "time.Sleep(") && !strings.Contains(string(b), "testing/synctest") {
				t.Errorf("%s:%d: wait for the event, or use testing/synctest", f.Path, i+1)
			}
		}
	}
}
