// Package hostile is peers that speak the protocols correctly until they do
// not, by seed: a relay between a terminal and its gateway that spoils lines of
// both, one between a terminal and its media end, a host of the group that signs
// what is no message, and many that never come to an end with what they say, over
// TCP, local sockets, UDP and QUIC.
//
// Source: design sections 1 and 5: what a stranger, a terminal and a trusted
// host may do at worst.
//
// Invariants:
//  1. What one seed does to one line of bytes is the same in every run.
//  2. Spoil returns at most MaxSpoilt bytes.
//  3. Run of a Relay returns when every connection that it made is closed.
package hostile

import (
	"bytes"
	"math/rand/v2"
)

// MaxSpoilt is how long a spoilt message is at most: longer than any that the
// protocols allow.
const MaxSpoilt = 8 << 10

// values stand where a message had another one.
var values = []string{"", "0", "-1", "1", "65536", "2147483648", "9223372036854775807", "18446744073709551616", "1e9",
	"true", "nan", "../../../etc/passwd", "\\000", "\\777", "\\", "=", "\x00", "\xff\xfe", "a=b", "0000000000000000", "ffffffffffff",
	"0x0", "255.255.255.255", "127.0.0.1:0", "pseudo.", "pseudo.000000000000"}

// Spoil returns a message, without its end, with something wrong in it.
func Spoil(rng *rand.Rand, line []byte) []byte {
	words := bytes.Split(bytes.Clone(line), []byte(" "))
	n := rng.IntN(len(words))
	key, _, pair := bytes.Cut(words[n], []byte("="))
	switch rng.IntN(9) {
	case 0: // another value
		if pair {
			words[n] = append(append(bytes.Clone(key), '='), values[rng.IntN(len(values))]...)
			break
		}
		fallthrough
	case 1: // a word less
		words = append(words[:n], words[n+1:]...)
	case 2: // a word twice
		words = append(words, words[n])
	case 3: // two words the other way round
		o := rng.IntN(len(words))
		words[n], words[o] = words[o], words[n]
	case 4: // a value that is long
		words[n] = append(words[n], bytes.Repeat([]byte{byte('0' + rng.IntN(10))}, 1+rng.IntN(3000))...)
	case 5: // a bit
		if len(words[n]) > 0 {
			words[n][rng.IntN(len(words[n]))] ^= 1 << rng.IntN(8)
		}
	case 6: // its beginning
		line = bytes.Join(words, []byte(" "))
		return line[:rng.IntN(len(line)+1)]
	case 7: // noise in it
		b := make([]byte, 1+rng.IntN(64))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		words[n] = append(words[n], b...)
	case 8: // many words
		for range rng.IntN(100) {
			words = append(words, words[n])
		}
	}
	line = bytes.Join(words, []byte(" "))
	return line[:min(len(line), MaxSpoilt)]
}
