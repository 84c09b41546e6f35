package e2e

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hotdesk/smartcard/reader/emulated/issuer"
)

func cmdPIVCard(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "pivcard NAME PIN")
	i, err := issuer.New(time.Now())
	check(ts, err)
	files, err := i.Card(issuer.Spec{Name: args[0], PIN: args[1], RSA: true})
	check(ts, err)
	for name, text := range files {
		check(ts, os.WriteFile(worldOf(ts).lab.Path("cards", name), text, 0o600))
	}
}

func cmdWaits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "waits PATH TEXT COUNT")
	want, err := strconv.Atoi(args[2])
	check(ts, err)
	for until := time.Now().Add(patience); ; pause() {
		have, _ := os.ReadFile(args[0])
		if strings.Count(string(have), args[1]) >= want {
			return
		}
		if time.Now().After(until) {
			worldOf(ts).shoot()
			ts.Fatalf("%s does not hold %q %d times:\n%s", args[0], args[1], want, have)
		}
	}
}
