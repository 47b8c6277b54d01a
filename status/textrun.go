package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Text writes the explanation: the verdict first, then what it rests on.
func (e Explain) Text(w io.Writer, now time.Time, width int) error {
	p := &page{now: now, width: width}
	p.line(e.Verdict)
	for _, r := range e.Reasons {
		p.row("because", "%s", r)
	}
	for _, d := range e.Due {
		p.row("due", "%s (%s step): %s", d.ID, d.Step, d.Why)
	}
	for _, n := range e.NotDue {
		p.row("not due", "%s", n)
	}
	for _, g := range e.Gates {
		p.gate(g)
	}
	for _, c := range e.Conditions {
		p.row(label(c.Severity), "%s, %s: %s", c.Name, p.since(c.Since), c.Text)
		if c.Hint != "" {
			p.row("", "hint: %s", c.Hint)
		}
	}
	_, err := w.Write(p.out.Bytes())
	return err
}

func (p *page) gate(g Gate) {
	state := "open  "
	if !g.Open {
		state = "CLOSED"
	}
	text := fmt.Sprintf("%s %s", state, g.Name)
	if !g.Until.IsZero() && !g.Open {
		text += " until " + p.at(g.Until)
	}
	if g.Why != "" {
		text += ": " + g.Why
	}
	p.row("gate", "%s", text)
}

// Text writes one run in full.
func (r Run) Text(w io.Writer, now time.Time, width int) error {
	p := &page{now: now, width: width}
	p.row("run", "%s, %s", r.ID, r.Kind)
	p.row("result", "%s", mark(r.Result))
	if r.Error != "" {
		p.row("error", "%s", r.Error)
	}
	p.row("started", "%s", p.ago(r.Started))
	if !r.Ended.IsZero() {
		p.row("ended", "%s, took %s", p.ago(r.Ended), span(r.Ended.Sub(r.Started)))
	}
	p.list("because", r.Reasons)
	p.list("keys", r.Keys)
	p.list("services", r.Services)
	for _, s := range r.Steps {
		p.row("step", "%s", p.step(s))
	}
	if slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Unit != "" }) {
		p.row("journal", "journalctl LISTENER_RUN_ID=%s", r.ID)
	}
	for _, f := range r.Files {
		p.row("wrote", "%s", f)
	}
	_, err := w.Write(p.out.Bytes())
	return err
}

// list is not cut: one run in full is what was asked for.
func (p *page) list(label string, list []string) {
	for len(list) > 0 {
		n := min(len(list), maxNames)
		p.row(label, "%s", strings.Join(list[:n], ", "))
		list, label = list[n:], ""
	}
}

func (p *page) step(s Step) string {
	text := s.Name + ": " + mark(s.Result)
	switch {
	case s.Signal != "":
		text += ", signal " + s.Signal
	case s.Result != "" && s.Result != "skipped":
		text += fmt.Sprintf(", exit code %d", s.Exit)
	}
	if !s.Ended.IsZero() && !s.Started.IsZero() {
		text += " after " + span(s.Ended.Sub(s.Started))
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	if len(s.Services) > 0 && (len(s.Services) > 1 || s.Services[0] != s.Name) {
		text += "; for " + names(s.Services)
	}
	return text
}

// RunsText writes one line per run, newest first as they come.
func RunsText(w io.Writer, runs []Run, now time.Time, width int) error {
	p := &page{now: now, width: width}
	if len(runs) == 0 {
		p.line("no runs yet")
	}
	for _, r := range runs {
		took := "…"
		if !r.Ended.IsZero() {
			took = span(r.Ended.Sub(r.Started))
		}
		p.line(fmt.Sprintf("%-21s %-8s %-7s %7s  %s%s", r.ID, mark(r.Result), r.Kind, took, p.clock(r.Started), because(r.Reasons, r.Keys)))
	}
	_, err := w.Write(p.out.Bytes())
	return err
}
