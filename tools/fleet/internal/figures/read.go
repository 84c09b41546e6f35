package figures

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxLine bounds a line of a file: a series of maxSamples is a tenth of it.
	maxLine = 2 << 20
	// maxLines bounds a file.
	maxLines = 100_000
)

// A Run is a file of figures.
type Run struct {
	Name       string // of the file
	Sum        Sum
	Points     map[string][][2]float64 // of a series: seconds of the run, milliseconds
	Seconds    map[string][]int        // of a count: by second of the run
	Faults     []Broken
	Violations []float64 // seconds of the run
}

// A Broken is a fault of a file.
type Broken struct {
	At   float64 // seconds of the run
	What string
	Took float64 // milliseconds; 0: not within patience
}

// Open reads a file.
func Open(name string) (*Run, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("figures: %s: %w", name, err)
	}
	r.Name = strings.TrimSuffix(filepath.Base(name), ".json")
	return r, nil
}

// Read reads what Write wrote. Lines of kinds that it does not know are passed
// over, so that it reads what later versions write.
func Read(from io.Reader) (*Run, error) {
	r := &Run{Points: map[string][][2]float64{}, Seconds: map[string][]int{}}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	n, summed := 0, false
	for lines.Scan() {
		if n++; n > maxLines {
			return nil, fmt.Errorf("more than %d lines", maxLines)
		}
		var l struct {
			Is        string       `json:"is"`
			Name      string       `json:"name"`
			Points    [][2]float64 `json:"points"`
			Counts    []int        `json:"counts"`
			At        float64      `json:"at"`
			What      string       `json:"what"`
			Recovered float64      `json:"recovered_ms"`
		}
		// The sum has counts of another kind.
		var is struct {
			Is string `json:"is"`
		}
		err := json.Unmarshal(lines.Bytes(), &is)
		if err == nil && is.Is == "sum" {
			summed, err = true, json.Unmarshal(lines.Bytes(), &r.Sum)
		} else if err == nil {
			err = json.Unmarshal(lines.Bytes(), &l)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		switch l.Is {
		case "series":
			r.Points[l.Name] = l.Points
		case "seconds":
			r.Seconds[l.Name] = l.Counts
		case "fault":
			r.Faults = append(r.Faults, Broken{l.At, l.What, l.Recovered})
		case "violation":
			r.Violations = append(r.Violations, l.At)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if !summed {
		return nil, errors.New("no sum in it: is it a whole file of fleet -json?")
	}
	return r, nil
}
