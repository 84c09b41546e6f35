package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hotdesk/smartcard/pcsclite"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/emulated/issuer"
	"hotdesk/smartcard/reader/vpcd"
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

// cardPing is a program: it has COUNT exchanges with the card in the first
// reader of the PC/SC service, and says what they took; with a PAUSE, again and
// again.
func cardPing(args []string, out io.Writer) int {
	n, pause, err := 0, time.Duration(0), errors.New("usage: cardping COUNT [PAUSE]")
	if len(args) == 1 || len(args) == 2 {
		n, err = strconv.Atoi(args[0])
	}
	if len(args) == 2 && err == nil {
		pause, err = time.ParseDuration(args[1])
	}
	for again := err == nil; again; again = pause > 0 {
		if err = pingCard(max(n, 1), out); err != nil && pause > 0 {
			fmt.Fprintln(out, "cardping:", err)
		}
		<-time.After(pause)
	}
	if err != nil {
		fmt.Fprintln(out, "cardping:", err)
		return 1
	}
	return 0
}

// cardProgram is a program: the card NAME of FOLDER, in the reader whose slot is
// SOCKET, till it is interrupted.
func cardProgram(args []string, out io.Writer) int {
	err := errors.New("usage: cardprogram SOCKET FOLDER NAME")
	if len(args) == 3 {
		err = serveCard(args[0], args[1], args[2])
	}
	if err != nil {
		fmt.Fprintln(out, "cardprogram:", err)
		return 1
	}
	return 0
}

func serveCard(socket, folder, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := emulated.New(os.DirFS(folder))
	defer r.Close()
	c, err := r.Insert(name)
	if err != nil {
		return err
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return vpcd.Serve(ctx, conn, c)
}

func pingCard(n int, out io.Writer) error {
	conn, err := net.Dial("unix", os.Getenv("PCSCLITE_CSOCK_NAME"))
	if err != nil {
		return err
	}
	defer conn.Close()
	var states pcsclite.ReaderState
	read := func(n int) []byte {
		b := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(conn, b)
		}
		return b
	}
	call := func(m pcsclite.Body) {
		if err == nil {
			_, err = conn.Write(pcsclite.AppendRequest(nil, m))
		}
		if b := read(len(pcsclite.AppendBody(nil, m))); err == nil {
			_, err = pcsclite.ParseBody(b, m)
		}
	}
	call(&pcsclite.Version{Major: pcsclite.Major, Minor: pcsclite.Minor})
	context := &pcsclite.Establish{Scope: 2}
	call(context)
	if _, err := conn.Write(pcsclite.AppendRequest(nil, &pcsclite.ReaderStates{})); err != nil {
		return err
	}
	if b := read(pcsclite.StatesSize); err == nil {
		states, _, err = pcsclite.ParseState(b)
	}
	card := &pcsclite.Connect{Context: context.Context, Share: pcsclite.Shared, Protocols: pcsclite.T0 | pcsclite.T1}
	copy(card.Reader[:], states.Name)
	call(card)
	if err != nil || card.RV != pcsclite.Success {
		return fmt.Errorf("connect: %x, %w", card.RV, err)
	}
	command := piv.Select().Append(nil)
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		tr := &pcsclite.Transmit{Card: card.Card, SendProtocol: card.Active, SendLength: uint32(len(command)), ReceiveLength: pcsclite.MaxTransfer, Data: command}
		call(tr)
		if err != nil || tr.RV != pcsclite.Success {
			return fmt.Errorf("exchange: %x, %w", tr.RV, err)
		}
		if b := read(int(tr.ReceiveLength)); err == nil && !bytes.HasSuffix(b, []byte{0x90, 0}) {
			return fmt.Errorf("answer % x", b)
		}
		took[i] = time.Since(began)
	}
	if err != nil {
		return err
	}
	slices.Sort(took)
	fmt.Fprintf(out, "median %v, p90 %v, worst %v of %d\n", took[n/2], took[n*9/10], took[n-1], n)
	return nil
}
