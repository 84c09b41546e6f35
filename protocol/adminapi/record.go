// Package adminapi is what an admin and a gateway tell each other: the records
// of the registry, their text form, and the JSON of the admin API.
//
// Source: design section 5. The API is HTTP/1.1 with JSON bodies on a unix
// socket; its paths begin with Prefix and stand in api.go.
//
// A record has a kind, a name that is the only one of its kind, and fields of
// text. Schemas says which kinds and fields there are: whoever adds one writes
// a row there, and check, text form and help follow.
//
// Invariants:
//  1. A Record that Check takes has the same meaning after Append and Parse.
//  2. The text of a set of records does not depend on the order they came in.
//
// The package does no I/O and reads no clock. Values are not safe for
// concurrent change. Limits: MaxRecords, MaxName, MaxValue, MaxList, MaxText.
package adminapi

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"hotdesk/protocol/alp"
)

// Limits of a registry.
const (
	MaxRecords = 50_000
	MaxName    = 128      // bytes of a name
	MaxValue   = 1024     // bytes of a field
	MaxList    = 64       // items of a field that is a list
	MaxText    = 16 << 20 // bytes of the text of a registry
)

// Kind says what a record is about.
type Kind string

// The kinds of records, in the order of the text form.
const (
	KindUser     Kind = "user"
	KindToken    Kind = "token"
	KindTerminal Kind = "terminal"
	KindPolicy   Kind = "policy"
	KindKiosk    Kind = "kiosk"
)

// A Record is one line of the registry. Fields that are not set are not in the
// map.
type Record struct {
	Kind   Kind              `json:"kind"`
	Name   string            `json:"name"`
	Fields map[string]string `json:"fields,omitempty"`
}

// A Field is one that records of a kind may have.
type Field struct {
	Name  string
	Help  string
	check func(string) error
}

// A Schema is what a kind of record looks like.
type Schema struct {
	Kind   Kind
	Help   string
	Named  string // what its name is
	Fields []Field
	name   func(string) error
}

var note = Field{"note", "a remark for people", nil}

// Schemas are all kinds, in the order of the text form.
var Schemas = []Schema{
	{KindUser, "a person", "login name", []Field{
		{"groups", "groups for policies: NAME,NAME", list(word)},
		{"disabled", "yes: no token of this user gets a session", yes},
		note,
	}, login},
	{KindToken, "a card, or another token, that is registered", "token, as in `hotdesk terminal list`", []Field{
		{"user", "whose it is", login},
		{"alias", "the registered token whose sessions it opens", token},
		{"disabled", "yes: it gets no session", yes},
		note,
	}, token},
	{KindTerminal, "a terminal", "its id: 12 hex digits", []Field{
		{"name", "what people call it", nil},
		{"location", "where it stands", nil},
		{"key", "SHA-256 of its own key, 64 hex digits as the server's log has it: whoever has another key, or none, is not this terminal", keyHash},
		note,
	}, terminal},
	{KindPolicy, "a rule; of those that fit and say something of a matter the one of the lowest order decides it", "a word", append(slices.Clone(conditions), append(slices.Clone(Matters), note)...), word},
	{KindKiosk, "what runs in a session without a login", "a word", []Field{
		{"command", "command line of the session", nil},
		{"accounts", "accounts that take turns: NAME,NAME", list(login)},
		note,
	}, word},
}

// SchemaOf returns the schema of a kind.
func SchemaOf(k Kind) (Schema, bool) {
	i := slices.IndexFunc(Schemas, func(s Schema) bool { return s.Kind == k })
	if i < 0 {
		return Schema{}, false
	}
	return Schemas[i], true
}

// Invalid is an error of whoever wrote a record. It says what to write instead.
type Invalid struct{ Text string }

func (e Invalid) Error() string { return e.Text }

func invalid(format string, a ...any) error { return Invalid{fmt.Sprintf(format, a...)} }

// CheckName tells whether a record can have this kind and name.
func CheckName(k Kind, name string) error {
	s, ok := SchemaOf(k)
	if !ok {
		return invalid("there is no kind of record %q: it is %s", short(string(k)), kinds())
	}
	if len(name) > MaxName {
		return invalid("%s: a name of %d bytes; at most %d", k, len(name), MaxName)
	}
	if err := s.name(name); err != nil {
		return invalid("%s %q: %v", k, name, err)
	}
	return nil
}

func kinds() string {
	var all []string
	for _, s := range Schemas {
		all = append(all, string(s.Kind))
	}
	return strings.Join(all, ", ")
}

// Check tells what is wrong with a record on its own, in words that say what to
// do. The error is an Invalid.
func (r Record) Check() error {
	if err := CheckName(r.Kind, r.Name); err != nil {
		return err
	}
	s, _ := SchemaOf(r.Kind)
	for _, key := range slices.Sorted(maps.Keys(r.Fields)) {
		i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == key })
		if i < 0 {
			return invalid("%s %s: there is no field %q: it has %s", r.Kind, r.Name, short(key), fieldNames(s))
		}
		if err := printable(r.Fields[key]); err != nil {
			return invalid("%s %s: %s: %v", r.Kind, r.Name, key, err)
		}
		if check := s.Fields[i].check; check != nil {
			if err := check(r.Fields[key]); err != nil {
				return invalid("%s %s: %s=%q: %v", r.Kind, r.Name, key, short(r.Fields[key]), err)
			}
		}
	}
	if r.Kind == KindToken && r.Fields["alias"] == r.Name {
		return invalid("token %s: alias=%s is itself: name the token whose sessions it is to open", r.Name, r.Name)
	}
	if r.Kind == KindKiosk && r.Fields["command"] == "" {
		return invalid("kiosk %s: it needs command=", r.Name)
	}
	return nil
}

func fieldNames(s Schema) string {
	var all []string
	for _, f := range s.Fields {
		all = append(all, f.Name)
	}
	return strings.Join(all, ", ")
}

// CheckAll tells what is wrong with a whole registry: each record, and what
// they say of each other. The records are in the order of Sort.
func CheckAll(records []Record) error {
	if len(records) > MaxRecords {
		return invalid("%d records; at most %d", len(records), MaxRecords)
	}
	for i, r := range records {
		if err := r.Check(); err != nil {
			return err
		}
		if i > 0 && Compare(records[i-1], r) == 0 {
			return invalid("%s %s stands there twice: keep one", r.Kind, r.Name)
		}
		alias := r.Fields["alias"]
		if r.Kind != KindToken || alias == "" {
			continue
		}
		to, ok := Find(records, KindToken, alias)
		switch {
		case !ok:
			return invalid("token %s: alias=%s, which is not registered: register that first, or take the alias away first", r.Name, alias)
		case to.Fields["alias"] != "":
			return invalid("token %s: alias=%s, which is an alias itself: name %s", r.Name, alias, to.Fields["alias"])
		}
	}
	return nil
}

// Find returns a record of records in the order of Sort.
func Find(records []Record, k Kind, name string) (Record, bool) {
	i, ok := slices.BinarySearchFunc(records, Record{Kind: k, Name: name}, Compare)
	if !ok {
		return Record{}, false
	}
	return records[i], true
}

// Compare is the order of the text form: by kind, as in Schemas, then by name.
func Compare(a, b Record) int {
	return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

func rank(k Kind) int {
	i := slices.IndexFunc(Schemas, func(s Schema) bool { return s.Kind == k })
	if i < 0 {
		return len(Schemas)
	}
	return i
}

// Sort puts records into the order of the text form.
func Sort(records []Record) { slices.SortFunc(records, Compare) }

// Equal reports whether two records say the same.
func (r Record) Equal(o Record) bool {
	return r.Kind == o.Kind && r.Name == o.Name && maps.Equal(r.Fields, o.Fields)
}

func short(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "..."
	}
	return s
}

// Checks of values. Each says what would be right.

func printable(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("is empty: leave the field out")
	case len(s) > MaxValue:
		return fmt.Errorf("%d bytes; at most %d", len(s), MaxValue)
	case !utf8.ValidString(s):
		return fmt.Errorf("is not UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("has a byte that cannot be printed")
	}
	return nil
}

func token(s string) error {
	t := alp.Token(s)
	if !t.Valid() {
		return fmt.Errorf("not a token: it is KIND.ID, as `hotdesk terminal list` shows it, for example mondex.9998007668077709")
	}
	switch kind, _, _ := strings.Cut(s, "."); kind {
	case "user", "auth", "escape":
		return fmt.Errorf("tokens of kind %q are made by the server alone: name a card's", kind)
	}
	return nil
}

func terminal(s string) error {
	if !alp.TerminalID(s).Valid() {
		return fmt.Errorf("not a terminal's id: 12 lower-case hex digits, as `hotdesk terminal list` shows it")
	}
	return nil
}

func login(s string) error {
	if s == "" || len(s) > 32 || s[0] == '-' || !only(s, "_.-") {
		return fmt.Errorf("not a login name: letters, digits, _ . and -, at most 32, not - first")
	}
	return nil
}

func keyHash(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 32 || strings.ToLower(s) != s {
		return fmt.Errorf("not 64 hex digits, small letters")
	}
	return nil
}

func word(s string) error {
	if s == "" || len(s) > 64 || s[0] == '-' || !only(s, "_.-") {
		return fmt.Errorf("not a word: letters, digits, _ . and -, at most 64, not - first")
	}
	return nil
}

func only(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(more, c) >= 0) {
			return false
		}
	}
	return true
}

func pattern(s string) error {
	if s == "" || len(s) > MaxName || !only(s, "_.-:@*") || strings.Count(s, "*") > 4 {
		return fmt.Errorf("not a pattern: the bytes of a name, and at most four *")
	}
	return nil
}

func yes(s string) error { return oneOf("yes")(s) }

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("it is %s, or left out", strings.Join(words, ", "))
		}
		return nil
	}
}

func order(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 9999 || strconv.Itoa(n) != s {
		return fmt.Errorf("a number from 0 to 9999")
	}
	return nil
}

func list(item func(string) error) func(string) error {
	return func(s string) error {
		items := strings.Split(s, ",")
		if len(items) > MaxList {
			return fmt.Errorf("%d items; at most %d", len(items), MaxList)
		}
		for _, i := range items {
			if err := item(i); err != nil {
				return fmt.Errorf("%q: %w", short(i), err)
			}
		}
		return nil
	}
}
