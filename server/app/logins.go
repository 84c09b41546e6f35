package app

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"time"

	"hotdesk/server/control"
	"hotdesk/server/greeter"
	"hotdesk/server/session/desktops"
)

// localesWithin bounds the time to find the system's languages.
const localesWithin = 5 * time.Second

// logins is what this host's users can choose from.
func logins(ctx context.Context) control.Logins {
	ctx, cancel := context.WithTimeout(ctx, localesWithin)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "locale", "-a").Output() // without it there is no choice
	return control.Logins{Languages: languages(out), Desktops: sessions}
}

// languages are the locales of `locale -a` that a user may want.
func languages(list []byte) []greeter.Option {
	all := []greeter.Option{{Value: "", Text: "As the system has it"}}
	for line := range bytes.Lines(list[:min(len(list), 64<<10)]) {
		name := strings.TrimSpace(string(line))
		territory, charset, _ := strings.Cut(name, ".")
		if !strings.Contains(territory, "_") || strings.ToLower(strings.ReplaceAll(charset, "-", "")) != "utf8" || len(all) == greeter.MaxOptions {
			continue
		}
		all = append(all, greeter.Option{Value: territory + ".UTF-8", Text: territory})
	}
	return all
}

// sessions are the desktops, the default first.
func sessions() []greeter.Option {
	all := []greeter.Option{{Value: "", Text: "Default"}}
	for _, d := range desktops.List(desktops.Dir) {
		all = append(all, greeter.Option{Value: d.Name, Text: d.Title})
	}
	return all
}
