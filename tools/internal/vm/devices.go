package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// QMP gives qemu a command; args becomes its arguments, and the answer is put
// into result unless that is nil.
func (m *Machine) QMP(ctx context.Context, command string, args, result any) error {
	return m.qmp.do(ctx, command, args, result)
}

type dict = map[string]any

// AddDevice plugs a device in, in the words of qemu's -device. A USB device
// without a bus goes where there is room.
func (m *Machine) AddDevice(ctx context.Context, words string) error {
	driver, rest, _ := strings.Cut(words, ",")
	args := dict{"driver": driver}
	for word := range strings.SplitSeq(rest, ",") {
		if k, v, ok := strings.Cut(word, "="); ok {
			args[k] = v
		}
	}
	return m.QMP(ctx, "device_add", args, nil)
}

// RemoveDevice pulls a device out by its id and waits until it is gone.
func (m *Machine) RemoveDevice(ctx context.Context, id string) error {
	before := m.qmp.told()
	if err := m.QMP(ctx, "device_del", dict{"id": id}, nil); err != nil {
		return err
	}
	_, _, err := m.qmp.wait(ctx, before, func(e Event) bool {
		var d struct{ Device string }
		return e.Name == "DEVICE_DELETED" && json.Unmarshal(e.Data, &d) == nil && d.Device == id
	})
	return err
}

// AddSocket makes a character device whose other end is Socket(id).
func (m *Machine) AddSocket(ctx context.Context, id string) error {
	if err := m.chardev(ctx, id); err != nil {
		return err
	}
	conn, err := m.accept(ctx, id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sockets[id] = conn
	return nil
}

// RemoveSocket ends a character device; its device must be gone.
func (m *Machine) RemoveSocket(ctx context.Context, id string) error {
	m.mu.Lock()
	conn := m.sockets[id]
	delete(m.sockets, id)
	m.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
	m.listen[id].Close()
	return m.QMP(ctx, "chardev-remove", dict{"id": id}, nil)
}

func (m *Machine) chardev(ctx context.Context, id string) error {
	path, err := m.hear(id)
	if err != nil {
		return err
	}
	return m.QMP(ctx, "chardev-add", dict{"id": id, "backend": dict{"type": "socket", "data": dict{
		"addr": dict{"type": "unix", "data": dict{"path": path}}, "server": false,
	}}}, nil)
}

// AddReader plugs a USB card reader in; its Slot(id) is empty.
func (m *Machine) AddReader(ctx context.Context, id string) error {
	if err := m.chardev(ctx, id+"-card"); err != nil {
		return err
	}
	if err := m.slot(ctx, id); err != nil {
		return err
	}
	if err := m.AddDevice(ctx, "usb-ccid,id="+id); err != nil {
		return err
	}
	return m.AddDevice(ctx, "ccid-card-passthru,id="+id+"-slot,chardev="+id+"-card,bus="+id+".0")
}

// RemoveReader pulls a card reader out, with the card if one is in.
func (m *Machine) RemoveReader(ctx context.Context, id string) error {
	if err := m.RemoveDevice(ctx, id); err != nil {
		return err
	}
	m.mu.Lock()
	s := m.slots[id]
	delete(m.slots, id)
	m.mu.Unlock()
	s.conn.Close()
	<-s.done
	m.listen[id+"-card"].Close()
	return m.QMP(ctx, "chardev-remove", dict{"id": id + "-card"}, nil)
}

// Screendump is what the screen shows. It is not compressed: that would hold up the
// guest, and whoever looks again and again.
func (m *Machine) Screendump(ctx context.Context) (image.Image, error) {
	file := filepath.Join(m.dir, "screen.ppm")
	if err := m.QMP(ctx, "screendump", dict{"filename": file, "format": "ppm"}, nil); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("vm: screendump: %w", err)
	}
	return readPPM(text)
}

// maxSide bounds a picture's width and height.
const maxSide = 1 << 14

// readPPM reads a picture in the binary form of ppm(5) with 8 bits a colour and no
// comments, as qemu writes it.
func readPPM(text []byte) (*image.RGBA, error) {
	var w, h int
	begins := text[:min(20, len(text))]
	_, err := fmt.Sscanf(string(begins), "P6\n%d %d\n", &w, &h)
	pix, ok := bytes.CutPrefix(text, fmt.Appendf(nil, "P6\n%d %d\n255\n", w, h))
	if err != nil || !ok || min(w, h) < 1 || max(w, h) > maxSide || len(pix) != 3*w*h {
		return nil, fmt.Errorf("vm: screendump: %d bytes are no picture: %q", len(text), begins)
	}
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		to, rgb := m.Pix[4*i:4*i+4], pix[3*i:3*i+3]
		to[0], to[1], to[2], to[3] = rgb[0], rgb[1], rgb[2], 255
	}
	return m, nil
}

// Shows waits until ok holds for what the screen shows, and returns that; with
// an error it returns what the screen showed last.
func (m *Machine) Shows(ctx context.Context, ok func(image.Image) bool) (image.Image, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		pic, err := m.Screendump(ctx)
		if err != nil || ok(pic) {
			return pic, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return pic, fmt.Errorf("vm: the screen shows something else: %w", ctx.Err())
		}
	}
}

// Power presses the power button.
func (m *Machine) Power(ctx context.Context) error {
	return m.QMP(ctx, "system_powerdown", nil, nil)
}

// Reset presses the reset button.
func (m *Machine) Reset(ctx context.Context) error { return m.QMP(ctx, "system_reset", nil, nil) }

// Save stops the machine and writes its state to a file, for Config.Restore.
// The machine is of no more use but to be closed. What comes over sockets at
// the time is lost, so everything should be at rest, and the devices must be
// those of the Config: what was plugged in later cannot be restored.
func (m *Machine) Save(ctx context.Context, file string) error {
	if err := m.QMP(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := m.QMP(ctx, "migrate-set-parameters", dict{"max-bandwidth": 1 << 40}, nil); err != nil {
		return err
	}
	return m.migrate(ctx, "migrate", "exec:cat > "+quote(file))
}

// restore takes a state in and lets the machine go on.
func (m *Machine) restore(ctx context.Context, file string) error {
	if err := m.migrate(ctx, "migrate-incoming", "exec:cat "+quote(file)); err != nil {
		return err
	}
	return m.QMP(ctx, "cont", nil, nil)
}

// migrate runs one of the commands that move a machine's state, to its end.
func (m *Machine) migrate(ctx context.Context, command, uri string) error {
	before := m.qmp.told()
	if err := m.QMP(ctx, "migrate-set-capabilities", dict{"capabilities": []dict{{"capability": "events", "state": true}}}, nil); err != nil {
		return err
	}
	if err := m.QMP(ctx, command, dict{"uri": uri}, nil); err != nil {
		return err
	}
	status := ""
	_, _, err := m.qmp.wait(ctx, before, func(e Event) bool {
		var d struct{ Status string }
		if e.Name != "MIGRATION" || json.Unmarshal(e.Data, &d) != nil {
			return false
		}
		status = d.Status
		return status == "completed" || status == "failed"
	})
	if err == nil && status != "completed" {
		err = fmt.Errorf("vm: %s %s: %s", command, uri, status)
	}
	return err
}
