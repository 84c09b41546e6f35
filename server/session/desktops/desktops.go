// Package desktops knows the desktops that a host has: the files of
// /usr/share/xsessions.
//
// Source: the Desktop Entry Specification 1.5, sections 3 to 6 (groups, values,
// TryExec, Exec).
//
// Invariants: a name is a file's, and never leads out of the directory.
//
// Parse is pure; List and Find read files. Limits: MaxFile, MaxDesktops.
package desktops

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Dir is where a system's desktops are.
const Dir = "/usr/share/xsessions"

const (
	// MaxFile bounds what is read of a file, in bytes.
	MaxFile = 64 << 10
	// MaxDesktops bounds a list.
	MaxDesktops = 32
	// MaxName bounds the length of a name in bytes.
	MaxName = 64
)

// A Desktop is one that a user can choose.
type Desktop struct {
	Name    string // of the file, without .desktop
	Title   string // for people
	TryExec string // the program that must be there, "" for none
	Exec    []string
}

// Valid reports whether s can be a Name.
func Valid(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || i > 0 && (c == '-' || c == '.' || c == '+')) {
			return false
		}
	}
	return s != "" && len(s) <= MaxName
}

// Parse reads a file. One that is not to be shown is an error.
func Parse(text string) (Desktop, error) {
	var d Desktop
	in, command := false, ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = line == "[Desktop Entry]"
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !in || !ok || strings.HasPrefix(line, "#") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "Name":
			d.Title = value
		case "Exec":
			command = value
		case "TryExec":
			d.TryExec = value
		case "Hidden", "NoDisplay":
			if value == "true" {
				return Desktop{}, errors.New("desktops: it is hidden")
			}
		}
	}
	var err error
	if d.Exec, err = words(unescape(command)); err != nil {
		return Desktop{}, err
	}
	if d.Title == "" || len(d.Exec) == 0 {
		return Desktop{}, errors.New("desktops: no Name or no Exec")
	}
	return d, nil
}

// unescape is the general escaping of strings.
var unescape = strings.NewReplacer(`\\`, `\`, `\s`, " ", `\t`, "\t", `\n`, "\n").Replace

// words splits a command as Exec quotes it; field codes are left out.
func words(s string) ([]string, error) {
	var all []string
	for {
		s = strings.TrimLeft(s, " \t\n")
		if s == "" {
			return all, nil
		}
		var b strings.Builder
		quoted := s[0] == '"'
		if quoted {
			i := 1
			for ; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' && i+1 < len(s) {
					i++
				}
				b.WriteByte(s[i])
			}
			if i >= len(s) {
				return nil, errors.New("desktops: Exec with a quote that does not end")
			}
			s = s[i+1:]
		} else {
			i := strings.IndexAny(s, " \t\n")
			if i < 0 {
				i = len(s)
			}
			b.WriteString(s[:i])
			s = s[i:]
		}
		w := b.String()
		if !quoted && len(w) == 2 && w[0] == '%' && w != "%%" {
			continue
		}
		all = append(all, strings.ReplaceAll(w, "%%", "%"))
	}
}

// Find reads the desktop of a name.
func Find(dir, name string) (Desktop, error) {
	if !Valid(name) {
		return Desktop{}, fmt.Errorf("desktops: %.40q names no desktop", name)
	}
	f, err := os.Open(filepath.Join(dir, name+".desktop"))
	if err != nil {
		return Desktop{}, fmt.Errorf("desktops: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile))
	if err != nil {
		return Desktop{}, fmt.Errorf("desktops: %w", err)
	}
	d, err := Parse(string(text))
	if err != nil {
		return Desktop{}, fmt.Errorf("%w (%s)", err, f.Name())
	}
	d.Name = name
	if d.TryExec != "" {
		if _, err := exec.LookPath(d.TryExec); err != nil {
			return Desktop{}, fmt.Errorf("desktops: %s: %w", name, err)
		}
	}
	return d, nil
}

// List returns the desktops that can be used, by name.
func List(dir string) []Desktop {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // most servers have none
	}
	var all []Desktop
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".desktop")
		if !ok || len(all) == MaxDesktops {
			continue
		}
		if d, err := Find(dir, name); err == nil {
			all = append(all, d)
		}
	}
	return all
}
