package apdu

import "fmt"

// Instructions.
const (
	InsVerify               = 0x20
	InsInternalAuthenticate = 0x88
	InsGeneralAuthenticate  = 0x87
	InsSelect               = 0xA4
	InsGetResponse          = 0xC0
	InsGetData              = 0xCA
	InsGetDataObject        = 0xCB // GET DATA with a tag list in its data
)

// Status words (ISO 7816-4 section 5.1.3).
const (
	OK                   = 0x9000
	MoreData             = 0x6100 // the low byte: how many bytes wait, 0 = 256 or more
	TriesLeft            = 0x63C0 // the low digit: how many tries are left
	WrongLength          = 0x6700
	ChainingNotSupported = 0x6884
	LastExpected         = 0x6883 // the last command of the chain was expected
	SecurityNotSatisfied = 0x6982
	Blocked              = 0x6983
	ConditionsNotMet     = 0x6985
	WrongData            = 0x6A80
	FileNotFound         = 0x6A82
	WrongParameters      = 0x6A86
	DataNotFound         = 0x6A88
	WrongLe              = 0x6C00 // the low byte: the Le to ask again with
	InsNotSupported      = 0x6D00
	ClassNotSupported    = 0x6E00
	NoDiagnosis          = 0x6F00
)

// Tries tells how many tries a status word leaves, of VERIFY and the like.
func Tries(status uint16) (n int, ok bool) {
	switch {
	case status&0xfff0 == TriesLeft:
		return int(status & 0xf), true
	case status == Blocked:
		return 0, true
	}
	return 0, false
}

// StatusText says what a status word means, for people and logs.
func StatusText(status uint16) string {
	if text := exact[status]; text != "" {
		return text
	}
	switch status & 0xff00 {
	case MoreData:
		return fmt.Sprintf("%d more bytes wait", shortLe(byte(status)))
	case WrongLe:
		return fmt.Sprintf("wrong Le; the card would send %d bytes", shortLe(byte(status)))
	}
	if n, ok := Tries(status); ok {
		return fmt.Sprintf("not verified, %d tries left", n)
	}
	if text := families[byte(status>>8)]; text != "" {
		return fmt.Sprintf("%s (%04x)", text, status)
	}
	return fmt.Sprintf("not a status of ISO 7816-4 (%04x)", status)
}

var exact = map[uint16]string{
	OK:                   "done",
	0x6281:               "part of the data may be corrupted",
	0x6282:               "end of file before Le bytes",
	0x6283:               "the selected file is deactivated",
	0x6285:               "the selected file is in termination state",
	0x6300:               "not verified",
	0x6381:               "file filled up by the last write",
	0x6581:               "memory failure",
	WrongLength:          "wrong length",
	0x6881:               "logical channel not supported",
	0x6882:               "secure messaging not supported",
	LastExpected:         "last command of the chain expected",
	ChainingNotSupported: "command chaining not supported",
	0x6981:               "command does not suit the file",
	SecurityNotSatisfied: "security status not satisfied; verify the PIN first",
	Blocked:              "blocked; no tries left",
	0x6984:               "reference data not usable",
	ConditionsNotMet:     "conditions of use not satisfied",
	0x6986:               "command not allowed, no file selected",
	WrongData:            "wrong data",
	0x6A81:               "function not supported",
	FileNotFound:         "file or application not found",
	0x6A83:               "record not found",
	0x6A84:               "not enough memory in the file",
	WrongParameters:      "wrong P1 or P2",
	0x6A87:               "Lc does not suit P1 and P2",
	DataNotFound:         "referenced data not found",
	0x6A89:               "file exists already",
	0x6A8A:               "name exists already",
	0x6B00:               "wrong P1 or P2",
	InsNotSupported:      "instruction not supported",
	ClassNotSupported:    "class not supported",
	NoDiagnosis:          "failed without a diagnosis",
}

var families = map[byte]string{
	0x62: "warning, nothing changed",
	0x63: "warning, something changed",
	0x64: "error, nothing changed",
	0x65: "error, something changed",
	0x66: "security error",
	0x68: "function of the class byte not supported",
	0x69: "command not allowed",
	0x6A: "wrong parameters",
}

// SimpleAID is the application of Hotdesk's own simple card: a proprietary
// identifier (first digit F, ISO 7816-4 section 12.2.3.4) and the name.
var SimpleAID = []byte{0xF0, 'H', 'O', 'T', 'D', 'E', 'S', 'K', 0x01}

// SimpleID is the data object with the simple card's id: SimpleIDSize bytes.
const SimpleID = 0x0101

// SimpleIDSize is the length of a simple card's id in bytes.
const SimpleIDSize = 8

// Challenges of the simple card, in bytes: SimpleChallenge asks with
// MinChallenge to MaxChallenge and gets SimpleProofSize.
const (
	MinChallenge    = 16
	MaxChallenge    = 128
	SimpleProofSize = 32
)

// SimpleChallenge is INTERNAL AUTHENTICATE: the simple card answers with
// HMAC-SHA-256 of SimpleLabel and the nonce, under its secret.
func SimpleChallenge(nonce []byte) Command {
	return Command{INS: InsInternalAuthenticate, Data: nonce, Le: MaxShortLe}
}

// SimpleLabel begins what the simple card authenticates, so that its secret
// answers for nothing else.
const SimpleLabel = "hotdesk simple card 1\x00"
