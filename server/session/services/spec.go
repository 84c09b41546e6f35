package services

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

const (
	// MaxServices bounds the services of a session.
	MaxServices = 32
	// MaxFile bounds a service's file, in bytes.
	MaxFile = 16 << 10
	// MaxName bounds a service's name, in bytes.
	MaxName = 32
	// Ending is that of services' files.
	Ending = ".service"
)

// A Spec says what a service is.
type Spec struct {
	Name    string
	Command string // of /bin/sh
	// Required has it kept running: it is started again when it ends, with
	// pauses, and at once when a terminal connects.
	Required bool
	// Connect and Disconnect are commands that are run when a terminal has
	// connected or disconnected; "" is none.
	Connect, Disconnect string
}

// validName reports whether s can name a service.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '-' || c == '_')) {
			return false
		}
	}
	return s != "" && len(s) <= MaxName
}

// Parse reads a service's file: lines of key = value, empty ones and those
// that begin with #. An unknown key is an error.
func Parse(name, text string) (Spec, error) {
	s := Spec{Name: name}
	if !validName(name) {
		return Spec{}, fmt.Errorf("services: %.40q is no name: letters, digits, - and _, at most %d", name, MaxName)
	}
	if len(text) > MaxFile {
		return Spec{}, fmt.Errorf("services: %s: more than %d bytes", name, MaxFile)
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || value == "" || strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }) {
			return Spec{}, fmt.Errorf("services: %s line %d: not key = value", name, n)
		}
		switch key {
		case "command":
			s.Command = value
		case "connect":
			s.Connect = value
		case "disconnect":
			s.Disconnect = value
		case "required":
			if value != "true" && value != "false" {
				return Spec{}, fmt.Errorf("services: %s line %d: required is true or false", name, n)
			}
			s.Required = value == "true"
		default:
			return Spec{}, fmt.Errorf("services: %s line %d: unknown key %.40q; there are command, required, connect and disconnect", name, n, key)
		}
	}
	if s.Command == "" && s.Connect == "" && s.Disconnect == "" {
		return Spec{}, fmt.Errorf("services: %s has no command", name)
	}
	return s, nil
}

// Read reads the services of a directory, NAME.service each, by name. "" is
// none.
func Read(dir string) ([]Spec, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	var all []Spec
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), Ending)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if len(all) == MaxServices {
			return nil, fmt.Errorf("services: more than %d in %s", MaxServices, dir)
		}
		st, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("services: %w", err)
		}
		if st.Size() > MaxFile {
			return nil, fmt.Errorf("services: %s: more than %d bytes", name, MaxFile)
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("services: %w", err)
		}
		s, err := Parse(name, string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}
