package status

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// table aligns columns. What other nodes wrote cannot drive the terminal.
type table struct {
	t   *tabwriter.Writer
	err error
}

func newTable(w io.Writer) *table { return &table{t: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c = clean(c); c == "" {
			c = "-"
		}
		cells[i] = c
	}
	if _, err := fmt.Fprintln(t.t, strings.Join(cells, "\t")); t.err == nil {
		t.err = err
	}
}

func (t *table) end() error { return cmp.Or(t.err, t.t.Flush()) }

// ProvidersText writes a line per entry.
func ProvidersText(w io.Writer, ps []Provider, now time.Time) error {
	t := newTable(w)
	t.row("REGION", "NODE", "SERVICE", "STATE", "VALUE", "ADDRESS", "PRIORITY", "WEIGHT", "INCARNATION", "REVISION")
	for _, p := range ps {
		if p.Error != "" {
			t.row(p.Region, p.Node, p.Service, "BAD", p.Error, "", "", "", "", p.revision(now))
			continue
		}
		t.row(p.Region, p.Node, p.Service, p.State, p.Value, address(p), strconv.Itoa(p.Priority),
			strconv.Itoa(p.Weight), strconv.FormatUint(p.Incarnation, 10), p.revision(now))
	}
	return t.end()
}

func (p Provider) revision(now time.Time) string {
	text := strconv.FormatUint(p.Revision, 10)
	if !p.Seen.IsZero() {
		text += ", seen " + span(now.Sub(p.Seen)) + " ago"
	}
	return text
}

func address(p Provider) string {
	switch {
	case p.Port == 0:
		return p.Host
	case strings.Contains(p.Host, ":"):
		return fmt.Sprintf("[%s]:%d", p.Host, p.Port)
	}
	return fmt.Sprintf("%s:%d", p.Host, p.Port)
}

// KeyProvidersText writes a line per key.
func KeyProvidersText(w io.Writer, ks []KeyProviders) error {
	t := newTable(w)
	t.row("KEY", "UP", "DOWN", "DRAINING", "STANDBY", "LEFT", "BAD", "REGIONS")
	for _, k := range ks {
		t.row(k.Key, strconv.Itoa(k.Up), strconv.Itoa(k.Down), strconv.Itoa(k.Draining), strconv.Itoa(k.Standby),
			strconv.Itoa(k.Left), strconv.Itoa(k.Bad), strings.Join(k.Regions, ","))
	}
	return t.end()
}

// NodesText writes a line per node.
func NodesText(w io.Writer, ns []Node, now time.Time) error {
	t := newTable(w)
	t.row("NODE", "REGION", "STATE", "VERSION", "LAST RUN", "APPLIED", "WAITS FOR")
	for _, n := range ns {
		if n.Error != "" {
			t.row(n.Node, "", "BAD", "", n.Error, "", "")
			continue
		}
		run := ""
		if n.Run != "" {
			run = mark(n.Result)
		}
		if !n.Ended.IsZero() {
			run += " " + span(now.Sub(n.Ended)) + " ago"
		}
		applied := ""
		if n.Applied > 0 {
			applied = "revision " + strconv.FormatUint(n.Applied, 10)
		}
		t.row(n.Node, n.Region, n.State, n.Version, run, applied, strings.Join(n.Waiting, ", "))
	}
	return t.end()
}
