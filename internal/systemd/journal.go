package systemd

import (
	"context"
	"encoding/binary"
	"log/slog"
	"strconv"
	"strings"
)

// JournalSocket is where the journal takes entries with fields.
const JournalSocket = "/run/systemd/journal/socket"

// JournalOptions are those of NewJournal.
type JournalOptions struct {
	// Socket is JournalSocket, but in tests.
	Socket string
	// Identifier names the program in the journal.
	Identifier string
	// Prefix begins the name of each attribute's field; Names are the exceptions.
	Prefix string
	Names  map[string]string
	Level  slog.Level
	// Else takes what the journal does not; required.
	Else slog.Handler
}

// journal is a handler that writes each record as an entry of the journal,
// with every attribute as a field and in the message.
type journal struct {
	o      JournalOptions
	to     *datagrams
	text   string // of With: " name=value" …
	fields []byte
	group  string
	or     slog.Handler
}

// NewJournal is a handler for slog that speaks systemd's journal protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL).
func NewJournal(o JournalOptions) slog.Handler {
	return &journal{o: o, to: dialDatagrams(o.Socket), or: o.Else}
}

func (j *journal) Enabled(_ context.Context, l slog.Level) bool { return l >= j.o.Level }

func (j *journal) Handle(ctx context.Context, r slog.Record) error {
	text, fields := j.text, append([]byte(nil), j.fields...)
	r.Attrs(func(a slog.Attr) bool {
		text, fields = j.add(text, fields, a)
		return true
	})
	fields = appendField(fields, "PRIORITY", priority(r.Level))
	fields = appendField(fields, "SYSLOG_IDENTIFIER", j.o.Identifier)
	fields = appendField(fields, "MESSAGE", r.Message+text)
	if j.to == nil || j.to.send(fields) != nil {
		return j.or.Handle(ctx, r)
	}
	return nil
}

// add puts one attribute into the message and among the fields.
func (j *journal) add(text string, fields []byte, a slog.Attr) (string, []byte) {
	value := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return text, fields
	}
	if value.Kind() == slog.KindGroup {
		inner := *j
		if a.Key != "" {
			inner.group += a.Key + "."
		}
		for _, m := range value.Group() {
			text, fields = inner.add(text, fields, m)
		}
		return text, fields
	}
	key := j.group + a.Key
	name, ok := j.o.Names[key]
	if !ok {
		name = j.o.Prefix + fieldName(key)
	}
	s := value.String()
	if key != "event" { // the message says it in words
		text += " " + key + "=" + quoted(s)
	}
	return text, appendField(fields, name, s)
}

func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *j
	next.fields = append([]byte(nil), j.fields...)
	for _, a := range attrs {
		next.text, next.fields = j.add(next.text, next.fields, a)
	}
	next.or = j.or.WithAttrs(attrs)
	return &next
}

func (j *journal) WithGroup(name string) slog.Handler {
	next := *j
	if name != "" {
		next.group += name + "."
	}
	next.or = j.or.WithGroup(name)
	return &next
}

// priority is a level of syslog(3).
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "3"
	case l >= slog.LevelWarn:
		return "4"
	case l >= slog.LevelInfo:
		return "6"
	}
	return "7"
}

// fieldName makes a name of a field: A-Z, 0-9 and "_", at most 64 with the
// prefix.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	return name[:min(len(name), 48)]
}

// maxField is far below what fits into one datagram.
const maxField = 32 << 10

// appendField appends NAME=value, or the form with a length for a value with
// line breaks.
func appendField(b []byte, name, value string) []byte {
	if len(value) > maxField {
		value = value[:maxField]
	}
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	b = append(b, value...)
	return append(b, '\n')
}

// quoted is s as it can stand after "name=".
func quoted(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\n\"=") {
		return strconv.Quote(s)
	}
	return s
}
