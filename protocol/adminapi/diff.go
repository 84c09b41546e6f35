package adminapi

// An Edit is what one change does to one record: After is nil where it is
// taken away.
type Edit struct {
	Kind  Kind    `json:"kind"`
	Name  string  `json:"name"`
	After *Record `json:"after,omitempty"`
}

// Put makes an Edit that sets a record.
func Put(r Record) Edit { return Edit{r.Kind, r.Name, &r} }

// Delete makes an Edit that takes a record away.
func Delete(k Kind, name string) Edit { return Edit{Kind: k, Name: name} }

// Diff returns the edits that turn one set of records into the other. Both are
// in the order of Sort, and so is the result.
func Diff(from, to []Record) []Edit {
	var edits []Edit
	for len(from) > 0 || len(to) > 0 {
		c := 0
		switch {
		case len(from) == 0:
			c = 1
		case len(to) == 0:
			c = -1
		default:
			c = Compare(from[0], to[0])
		}
		switch {
		case c < 0:
			edits = append(edits, Delete(from[0].Kind, from[0].Name))
			from = from[1:]
		case c > 0:
			edits = append(edits, Put(to[0]))
			to = to[1:]
		default:
			if !from[0].Equal(to[0]) {
				edits = append(edits, Put(to[0]))
			}
			from, to = from[1:], to[1:]
		}
	}
	return edits
}

// Apply returns the records, in the order of Sort, after the edits.
func Apply(records []Record, edits []Edit) []Record {
	if len(edits) == 0 {
		return records
	}
	type key struct {
		k Kind
		n string
	}
	last := make(map[key]*Record, len(edits))
	for _, e := range edits {
		last[key{e.Kind, e.Name}] = e.After
	}
	out := make([]Record, 0, len(records)+len(edits))
	for _, r := range records {
		if _, edited := last[key{r.Kind, r.Name}]; !edited {
			out = append(out, r)
		}
	}
	for _, r := range last {
		if r != nil {
			out = append(out, *r)
		}
	}
	Sort(out)
	return out
}

// DiffText writes the difference of two sets of records, in the order of Sort,
// for people: lines with - and + as the text form has them. Empty where they
// say the same.
func DiffText(from, to []Record) string {
	var b []byte
	for _, e := range Diff(from, to) {
		if old, ok := Find(from, e.Kind, e.Name); ok {
			b = append(old.AppendText(append(b, "- "...)), '\n')
		}
		if e.After != nil {
			b = append(e.After.AppendText(append(b, "+ "...)), '\n')
		}
	}
	return string(b)
}
