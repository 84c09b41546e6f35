package remains

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// window is the time in which lines with the same message are counted.
	window = 10 * time.Second
	// loud and quiet are how many of them there may be in it: so many, and for each
	// terminal so many more. What is no trouble is told for each card.
	loud, loudEach   = 10, 2
	quiet, quietEach = 100, 20
	// maxLine bounds a line of log.
	maxLine = 1 << 20
	// said is what a keeper writes before what its media says.
	said = "| "
)

// A Log is what is wrong with one.
type Log struct {
	Crashes []string // first line of each
	Noise   []string
}

var entry = regexp.MustCompile(`^time=(\S+) level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)`)

// ReadLog reads the log of a program that had to do with so many terminals.
func ReadLog(r io.Reader, terminals int) (l Log, err error) {
	type count struct {
		since, last time.Time
		n           int
		told        bool
	}
	counts := map[string]*count{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLine)
	for sc.Scan() {
		line := strings.TrimPrefix(sc.Text(), said)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "WARNING: DATA RACE") {
			l.Crashes = append(l.Crashes, line)
			continue
		}
		m := entry.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339, m[1])
		if err != nil {
			continue
		}
		c := counts[m[3]]
		if c == nil {
			c = &count{since: at}
			counts[m[3]] = c
		}
		if at.Sub(c.since) >= window || at.Before(c.last.Add(-time.Second)) { // clocks are set back, too
			c.since, c.n = at, 0
		}
		c.last = at
		c.n++
		most := quiet + quietEach*terminals
		if slices.Contains([]string{"WARN", "ERROR"}, m[2]) {
			most = loud + loudEach*terminals
		}
		if c.n > most && !c.told {
			c.told = true
			l.Noise = append(l.Noise, fmt.Sprintf("more than %d times in %v at %s: %s", most, window, m[1], m[3]))
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		l.Noise = append(l.Noise, fmt.Sprintf("a line of over %d bytes", maxLine))
		return l, nil
	}
	return l, sc.Err()
}
