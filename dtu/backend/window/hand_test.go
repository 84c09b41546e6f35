package window

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/xproto"
	"github.com/BurntSushi/xgb/xtest"
)

// A person at the X server is a process of its own: xgb allows one connection
// per process, and the window has this one. It is the test's own binary, told
// apart by the environment.
const handDisplay = "HOTDESK_TEST_HAND"

func TestMain(m *testing.M) {
	if display := os.Getenv(handDisplay); display != "" {
		if err := hand(display, os.Stdin, os.Stdout); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A person does one thing at a time and says when it is done.
type person struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

func newPerson(t *testing.T, display string) *person {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), handDisplay+"="+display)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return p
}

// do sends a command and returns the answer.
func (p *person) do(format string, a ...any) string {
	p.t.Helper()
	fmt.Fprintf(p.in, format+"\n", a...)
	line, err := p.out.ReadString('\n')
	line = strings.TrimSpace(line)
	if err != nil || strings.HasPrefix(line, "error") {
		p.t.Fatalf("%s: %s %v", fmt.Sprintf(format, a...), line, err)
	}
	return line
}

// hand does the commands of in, one a line, and answers each with a line.
func hand(display string, in io.Reader, out io.Writer) error {
	xgb.Logger = log.New(io.Discard, "", 0)
	l, err := dial(display)
	if err != nil {
		return err
	}
	x, err := xgb.NewConnNet(l)
	if err != nil {
		return err
	}
	if err := xtest.Init(x); err != nil {
		return err
	}
	root := xproto.Setup(x).DefaultScreen(x).Root
	// The window is the only one: there is no window manager.
	tree, err := xproto.QueryTree(x, root).Reply()
	if err != nil || len(tree.Children) != 1 {
		return fmt.Errorf("windows %v, %v", tree, err)
	}
	win := tree.Children[0]
	atom := func(name string) xproto.Atom {
		r, err := xproto.InternAtom(x, false, uint16(len(name)), name).Reply()
		if err != nil {
			return 0
		}
		return r.Atom
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var verb, answer string
		var a, b int
		fmt.Sscan(lines.Text(), &verb, &a, &b)
		switch verb {
		case "focus":
			err = xproto.SetInputFocusChecked(x, xproto.InputFocusParent, win, 0).Check()
		case "unfocus":
			err = xproto.SetInputFocusChecked(x, xproto.InputFocusParent, root, 0).Check()
		case "press", "release": // keycode
			err = xtest.FakeInputChecked(x, byte(xproto.KeyPress+map[string]int{"press": 0, "release": 1}[verb]), byte(a), 0, 0, 0, 0, 0).Check()
		case "down", "up": // button
			err = xtest.FakeInputChecked(x, byte(xproto.ButtonPress+map[string]int{"down": 0, "up": 1}[verb]), byte(a), 0, 0, 0, 0, 0).Check()
		case "move":
			err = xtest.FakeInputChecked(x, xproto.MotionNotify, 0, 0, root, int16(a), int16(b), 0).Check()
		case "watch": // keys of the window, as every client may
			err = xproto.ChangeWindowAttributesChecked(x, win, xproto.CwEventMask, []uint32{xproto.EventMaskKeyPress | xproto.EventMaskKeyRelease}).Check()
		case "repeats": // wait until a presses of held keys have come
			for n := 0; n < a; {
				e, xerr := x.WaitForEvent()
				if e == nil && xerr == nil {
					return fmt.Errorf("the X server has gone")
				}
				if _, is := e.(xproto.KeyPressEvent); is {
					n++
				}
			}
		case "pixel":
			var r *xproto.GetImageReply
			if r, err = xproto.GetImage(x, xproto.ImageFormatZPixmap, xproto.Drawable(win), int16(a), int16(b), 1, 1, ^uint32(0)).Reply(); err == nil {
				answer = fmt.Sprintf("%d,%d,%d", r.Data[2], r.Data[1], r.Data[0])
			}
		case "resize":
			err = xproto.ConfigureWindowChecked(x, win, xproto.ConfigWindowWidth|xproto.ConfigWindowHeight, []uint32{uint32(a), uint32(b)}).Check()
		case "title":
			var r *xproto.GetPropertyReply
			if r, err = xproto.GetProperty(x, false, win, atom("_NET_WM_NAME"), atom("UTF8_STRING"), 0, 100).Reply(); err == nil {
				answer = string(r.Value)
			}
		case "close":
			e := xproto.ClientMessageEvent{Format: 32, Window: win, Type: atom("WM_PROTOCOLS"),
				Data: xproto.ClientMessageDataUnionData32New([]uint32{uint32(atom("WM_DELETE_WINDOW")), 0, 0, 0, 0})}
			err = xproto.SendEventChecked(x, false, win, 0, string(e.Bytes())).Check()
		default:
			err = fmt.Errorf("unknown command %q", verb)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "ok", answer)
	}
	return lines.Err()
}
