package adminapi

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// header is the first line of the text form that is no remark. Its number
// changes when an older program could not read what follows.
const header = "hotdesk-registry 1"

// AppendText writes records as the text of a registry, in the order of Sort: a
// header, then a line for each, "kind name field=value ...", the fields in the
// order of Schemas. Values with other bytes than letters, digits and a few
// signs stand in double quotes, as Go writes them.
//
// Lines that begin with # are remarks. They are for the reader of the file:
// they do not come back in an export. What is to stay goes into note=.
func AppendText(b []byte, records []Record) []byte {
	records = slices.Clone(records)
	Sort(records)
	b = append(b, header+"\n"...)
	for i, r := range records {
		if i == 0 || records[i-1].Kind != r.Kind {
			b = append(b, '\n')
			if s, ok := SchemaOf(r.Kind); ok {
				b = append(b, "# "+string(r.Kind)+": "+s.Help+"; fields: "+fieldNames(s)+"\n"...)
			}
		}
		b = append(r.AppendText(b), '\n')
	}
	return b
}

// AppendText writes one record as a line, without its end.
func (r Record) AppendText(b []byte) []byte {
	b = append(b, string(r.Kind)+" "+r.Name...)
	s, _ := SchemaOf(r.Kind)
	for _, f := range s.Fields {
		if v, ok := r.Fields[f.Name]; ok {
			b = append(b, " "+f.Name+"="...)
			if only(v, "_.-:@*,/+") && v != "" {
				b = append(b, v...)
			} else {
				b = strconv.AppendQuote(b, v)
			}
		}
	}
	return b
}

// ParseText reads the text of a registry. The records are checked, also against
// each other, and in the order of Sort. An error names the line, says what to
// do, and is an Invalid.
func ParseText(text []byte) ([]Record, error) {
	if len(text) > MaxText {
		return nil, invalid("the text has %d bytes; at most %d", len(text), MaxText)
	}
	if !utf8.Valid(text) {
		return nil, invalid("the text is not UTF-8")
	}
	var records []Record
	begun := false
	n := 0
	for raw := range bytes.Lines(text) {
		n++
		line := strings.TrimSpace(string(raw))
		switch {
		case line == "" || line[0] == '#':
			continue
		case !begun && line != header:
			return nil, invalid("line %d: a registry begins with the line %q; this is none, or a later version's", n, header)
		case !begun:
			begun = true
			continue
		case len(records) == MaxRecords:
			return nil, invalid("line %d: more than %d records", n, MaxRecords)
		}
		r, err := ParseRecord(line)
		if err == nil {
			err = r.Check()
		}
		if err != nil {
			return nil, invalid("line %d: %v", n, err)
		}
		records = append(records, r)
	}
	if !begun {
		return nil, invalid("the text is empty: a registry begins with the line %q", header)
	}
	Sort(records)
	if err := CheckAll(records); err != nil {
		return nil, err
	}
	return records, nil
}

// ParseRecord reads a line of the text form. The record is not checked.
func ParseRecord(line string) (Record, error) {
	kind, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimLeft(rest, " \t")
	name, rest, _ := strings.Cut(rest, " ")
	if name == "" {
		return Record{}, invalid("%q: a record is KIND NAME FIELD=VALUE ...", short(line))
	}
	r := Record{Kind: Kind(kind), Name: name}
	for rest = strings.TrimLeft(rest, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok || strings.ContainsAny(key, " \t\"") || key == "" {
			return Record{}, invalid("%q: want FIELD=VALUE; a value with spaces stands in double quotes", short(rest))
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			q, err := strconv.QuotedPrefix(after)
			if err == nil {
				value, err = strconv.Unquote(q)
			}
			if err != nil {
				return Record{}, invalid("%s=%s: the quotes do not end, or what stands in them is wrong", key, short(after))
			}
			after = after[len(q):]
			if after != "" && after[0] != ' ' && after[0] != '\t' {
				return Record{}, invalid("%s=: a space is missing behind the quotes", key)
			}
		} else if i := strings.IndexAny(after, " \t"); i >= 0 {
			value, after = after[:i], after[i:]
		} else {
			value, after = after, ""
		}
		if err := r.set(key, value); err != nil {
			return Record{}, err
		}
		rest = after
	}
	return r, nil
}

func (r *Record) set(key, value string) error {
	if _, twice := r.Fields[key]; twice {
		return invalid("%s %s: %s= stands there twice", r.Kind, r.Name, short(key))
	}
	if len(r.Fields) == MaxList {
		return invalid("%s %s: more than %d fields", r.Kind, r.Name, MaxList)
	}
	if r.Fields == nil {
		r.Fields = map[string]string{}
	}
	r.Fields[key] = value
	return nil
}

// ParseFields reads FIELD=VALUE arguments, one each, for a record. A field with
// an empty value is to be taken away.
func ParseFields(args []string) (map[string]string, error) {
	var r Record
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return nil, invalid("%q: want FIELD=VALUE", short(a))
		}
		if err := r.set(key, value); err != nil {
			return nil, err
		}
	}
	return r.Fields, nil
}
