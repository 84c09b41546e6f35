// Package vm boots virtual computers for tests: Debian's kernel, an initramfs
// with a program of ours as process 1, a screen, USB keyboards, tablets and
// card readers, network cables and serial lines that the test holds.
//
// Source: qemu-system-x86_64(1); qemu's QMP reference; libcacard's
// vscard_common.h for the card readers' sockets; cpio(5); the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
//
// Invariants:
//  1. Nothing runs on after Close or after the test process: qemu dies with the
//     thread that started it, which lives as long as qemu.
//  2. The kernel's package is downloaded and unpacked, not installed.
//  3. Every line of the guest's console is kept, so that waiting for one never
//     misses it.
//
// qemu emulates the processor (TCG): two or three seconds to process 1 on an
// idle machine, and code in the guest runs ten to thirty times slower than
// outside. Needs qemu-system-x86 (list Machine of package debian). A Machine is
// safe for concurrent use. Limits: maxConsole, maxEvents.
package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxConsole is how many lines of the console are kept.
const maxConsole = 20000

// Config describes a machine. The same Config gives the same hardware, which a
// saved state needs.
type Config struct {
	Kernel    *Kernel
	Initramfs string   // file
	Append    []string // further words of the kernel's command line
	Memory    int      // MiB; 0: 256

	// Width and Height are the screen's; 0: no screen. The guest needs the
	// module bochs for it.
	Width, Height int
	// Keyboard and Tablet and Mouse are on the USB bus; Devices are further
	// ones in qemu's words, as "usb-kbd,id=second". All USB devices hang on the
	// controller "usb.0" (modules xhci-pci, usbhid, hid-generic, evdev).
	Keyboard, Tablet, Mouse bool
	Devices                 []string
	// Readers are the ids of USB card readers that are there from the start.
	Readers []string
	// Sockets are the ids of character devices that the test holds the other
	// end of, for Devices such as "usb-redir,chardev=ID".
	Sockets []string
	// Network is a cable of a TAP device's file for each interface
	// (netlab.Net.Tap): virtio cards (module virtio_net, virtio_pci).
	Network []Cable
	// Line makes a second serial line, /dev/ttyS1 in the guest.
	Line bool
	// Args are further arguments of qemu.
	Args []string
	// Restore is a file of Save: the machine goes on from there.
	Restore string
	// Log, if not nil, gets the console as it comes.
	Log io.Writer
}

// A Cable is a network interface of the machine.
type Cable struct {
	Tap *os.File
	MAC string // as 00:03:ba:00:00:01
}

// A Machine runs.
type Machine struct {
	qmp  *qmp
	dir  string
	exit chan struct{} // closed when qemu has ended
	kill func()
	log  io.Writer

	mu      sync.Mutex
	lines   []string
	changed chan struct{}
	ended   error
	errors  bytes.Buffer // qemu's own words
	slots   map[string]*Slot
	sockets map[string]net.Conn
	line    net.Conn
	listen  map[string]net.Listener
	closed  sync.Once
}

// Start starts a machine; it boots, or goes on from where it was saved.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	dir, err := os.MkdirTemp("", "hotdesk-vm-")
	if err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	m := &Machine{dir: dir, exit: make(chan struct{}), kill: func() {}, log: cfg.Log, changed: make(chan struct{}),
		slots: map[string]*Slot{}, sockets: map[string]net.Conn{}, listen: map[string]net.Listener{}}
	if err := m.start(ctx, cfg); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context, cfg Config) error {
	err := m.launch(ctx, cfg)
	if err == nil {
		return err
	}
	select {
	case <-m.exit: // qemu's own words say why
		return errors.Join(err, m.end())
	case <-time.After(time.Second):
		return err
	}
}

func (m *Machine) launch(ctx context.Context, cfg Config) error {
	args, files, err := m.arguments(cfg)
	if err != nil {
		return err
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = &m.errors
	console, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	started := make(chan error)
	go func() {
		// The death signal comes when the thread ends that started qemu.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			close(m.exit)
			return
		}
		m.read(console)
		err = cmd.Wait()
		m.mu.Lock()
		m.ended = fmt.Errorf("vm: qemu has ended: %w: %s", errors.Join(err, io.EOF), bytes.TrimSpace(m.errors.Bytes()))
		close(m.changed)
		m.changed = make(chan struct{})
		m.mu.Unlock()
		close(m.exit)
		for _, l := range m.listen { // nobody waits for qemu any more
			l.Close()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("vm: %w; install qemu-system-x86", err)
	}
	m.kill = func() { cmd.Process.Kill() }

	conn, err := m.accept(ctx, "qmp")
	if err != nil {
		return err
	}
	if m.qmp, err = newQMP(ctx, conn); err != nil {
		return err
	}
	for _, id := range cfg.Readers {
		if err := m.slot(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range cfg.Sockets {
		if m.sockets[id], err = m.accept(ctx, id); err != nil {
			return err
		}
	}
	if cfg.Line {
		if m.line, err = m.accept(ctx, "line"); err != nil {
			return err
		}
	}
	if cfg.Restore != "" {
		return m.restore(ctx, cfg.Restore)
	}
	return nil
}

// arguments makes qemu's command line and opens the sockets that it names.
// qemu is the one that connects, so there is nothing to wait for.
func (m *Machine) arguments(cfg Config) (args []string, files []*os.File, err error) {
	socket := func(id string) string {
		path, err2 := m.hear(id)
		err = errors.Join(err, err2)
		return "socket,id=" + id + ",path=" + path
	}
	memory := cfg.Memory
	if memory == 0 {
		memory = 256
	}
	words := append([]string{"console=ttyS0", "quiet", "panic=-1", "nokaslr", "mitigations=off", "vt.global_cursor_default=0"}, cfg.Append...)
	args = []string{
		"-machine", "q35", "-accel", "tcg", "-cpu", "qemu64", "-smp", "1", "-m", strconv.Itoa(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
		"-kernel", cfg.Kernel.Image, "-initrd", cfg.Initramfs, "-append", strings.Join(words, " "),
		"-chardev", socket("qmp"), "-mon", "chardev=qmp,mode=control",
		"-serial", "stdio",
		"-device", "qemu-xhci,id=usb",
	}
	add := func(a ...string) { args = append(args, a...) }
	if cfg.Line {
		add("-chardev", socket("line"), "-serial", "chardev:line")
	}
	if cfg.Width > 0 {
		add("-device", fmt.Sprintf("bochs-display,xres=%d,yres=%d", cfg.Width, cfg.Height))
	}
	for _, d := range []struct {
		there bool
		words string
	}{{cfg.Keyboard, "usb-kbd,id=keyboard"}, {cfg.Tablet, "usb-tablet,id=tablet"}, {cfg.Mouse, "usb-mouse,id=mouse"}} {
		if d.there {
			add("-device", d.words)
		}
	}
	for _, id := range cfg.Sockets {
		add("-chardev", socket(id))
	}
	for _, id := range cfg.Readers {
		add("-chardev", socket(id+"-card"), "-device", "usb-ccid,id="+id, "-device", "ccid-card-passthru,id="+id+"-slot,chardev="+id+"-card,bus="+id+".0")
	}
	for _, d := range cfg.Devices {
		add("-device", d)
	}
	for i, c := range cfg.Network {
		files = append(files, c.Tap)
		add("-netdev", fmt.Sprintf("tap,id=net%d,fd=%d", i, 3+i), "-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,mac=%s", i, c.MAC))
	}
	if cfg.Restore != "" {
		add("-incoming", "defer")
	}
	add(cfg.Args...)
	return args, files, err
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// hear makes a socket for qemu to connect to.
func (m *Machine) hear(id string) (path string, err error) {
	path = filepath.Join(m.dir, id)
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", fmt.Errorf("vm: %w", err)
	}
	m.listen[id] = l
	return path, nil
}

func (m *Machine) accept(ctx context.Context, id string) (net.Conn, error) {
	l := m.listen[id]
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	conn, err := l.Accept()
	if err != nil {
		select {
		case <-m.exit:
			return nil, m.end()
		default:
		}
		return nil, fmt.Errorf("vm: %s: %w", id, errors.Join(err, ctx.Err()))
	}
	return conn, nil
}

func (m *Machine) slot(ctx context.Context, id string) error {
	conn, err := m.accept(ctx, id+"-card")
	if err != nil {
		return err
	}
	s, err := newSlot(conn)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.slots[id] = s
	m.mu.Unlock()
	return nil
}

// read keeps what the console says.
func (m *Machine) read(console io.Reader) {
	r := bufio.NewReaderSize(console, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			if m.log != nil {
				m.log.Write(line)
			}
			m.mu.Lock()
			if len(m.lines) < maxConsole {
				m.lines = append(m.lines, strings.TrimRight(string(line), "\r\n"))
			}
			close(m.changed)
			m.changed = make(chan struct{})
			m.mu.Unlock()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (m *Machine) end() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

// Wait waits for a line of the console that holds text, from line number from
// on, and returns it with the number of the next. The error of one that does
// not come has the last lines in it.
func (m *Machine) Wait(ctx context.Context, from int, text string) (line string, next int, err error) {
	for {
		m.mu.Lock()
		news, changed, ended := m.lines[min(from, len(m.lines)):], m.changed, m.ended
		m.mu.Unlock()
		for _, l := range news {
			if from++; strings.Contains(l, text) {
				return l, from, nil
			}
		}
		if ended != nil {
			return "", from, fmt.Errorf("vm: waiting for %q: %w; the console:\n%s", text, ended, m.tail())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", from, fmt.Errorf("vm: waiting for %q: %w; the console:\n%s", text, ctx.Err(), m.tail())
		}
	}
}

// Console is what the console said so far.
func (m *Machine) Console() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lines[:len(m.lines):len(m.lines)]
}

func (m *Machine) tail() string {
	lines := m.Console()
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// Line is the other end of the guest's /dev/ttyS1.
func (m *Machine) Line() net.Conn { return m.line }

// Socket is the other end of a character device of Config.Sockets or
// AddSocket.
func (m *Machine) Socket(id string) net.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sockets[id]
}

// Slot is the card's side of a reader.
func (m *Machine) Slot(id string) *Slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.slots[id]
}

// Exited is closed when qemu has ended, as after the guest's power off.
func (m *Machine) Exited() <-chan struct{} { return m.exit }

// Close ends the machine at once, as pulling its plug does.
func (m *Machine) Close() {
	m.closed.Do(func() {
		m.kill()
		for _, l := range m.listen {
			l.Close()
		}
		if m.qmp != nil {
			<-m.exit
			m.qmp.conn.Close()
		}
		m.mu.Lock()
		for _, s := range m.slots {
			s.conn.Close()
		}
		for _, c := range m.sockets {
			c.Close()
		}
		if m.line != nil {
			m.line.Close()
		}
		m.mu.Unlock()
		os.RemoveAll(m.dir)
	})
}
