package keeperapi

import (
	"fmt"
	"io"
)

// A Word of the conversation about one try of a password: the keeper asks before
// it gives the first answer of the user to a module, and the parent, which counts
// the tries of all keepers, answers or hangs up.
//
//	keeper  MayTry            WasRight, where the modules were satisfied
//	parent          DoTry
type Word byte

// Words. Only ever appended to.
const (
	MayTry Word = iota + 1
	DoTry
	WasRight
)

// Say says one word.
func Say(w io.Writer, word Word) error {
	if _, err := w.Write([]byte{byte(word)}); err != nil {
		return fmt.Errorf("keeperapi: %w", err)
	}
	return nil
}

// Hear waits for a word; another one, or none, is no.
func Hear(r io.Reader, word Word) bool {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return err == nil && Word(b[0]) == word
}
