// Package readers tests the USB card readers of smartcard/reader against a
// real kernel: in a virtual machine, with emulated readers plugged into it from
// outside (usbredir) and with qemu's own.
//
// It has no code but tests. The program in the machine is in folder guest; it
// runs the suite of package readertest and tells what to push and pull on the
// second serial line.
package readers
