// Package pcsc is the card readers that the operating system's PC/SC service
// knows: on Linux those of pcscd.
//
// Source: package reader (the contract); PC/SC part 5; pcsc-lite 1.9.9's API.
// It needs cgo and libpcsclite, and so the build tag pcsc.
//
// Invariants: those of package reader. Insertions and removals that happened
// between two looks are told one by one: the service counts them.
//
// A Source waits for events, it does not poll the readers; the service itself
// may. While the service is away its readers are told as removed, and it is
// looked for once a second. A card is held exclusively while it is in. There is
// one Source in a process at a time. Limit: MaxReaders.
package pcsc
