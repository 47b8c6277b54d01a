package status

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// What one screen has room for.
const (
	maxLines = 24
	maxTail  = 3 // lines of a failed step's output
	maxNames = 4 // names in one list
)

// Text writes the status for one screen: at most 24 lines, none wider than
// width characters (0: any width). Times are relative to now and in its zone.
func (s Status) Text(w io.Writer, now time.Time, width int) error {
	p := &page{now: now, width: width}
	p.row("node", "%s, region %s, federation %s (listener %s, up %s)", s.Node, s.Region, s.Federation, s.Version, span(now.Sub(s.Started)))
	p.row("on", "%s", p.onOff(s))
	p.holds(s.Holds)
	p.row("store", "%s", p.store(s.Store))
	p.running(s)
	p.pending(s)
	p.last(s)
	p.failures(s.Failures)
	p.publishing(s.Publishing)
	p.balancers(s.Balancers)
	p.conditions(shown(s))
	p.services(s.Services)
	_, err := w.Write(p.out.Bytes())
	return err
}

// balancers shows those first that do not do what the store says.
func (p *page) balancers(bs []Balancer) {
	bs = slices.Clone(bs)
	slices.SortStableFunc(bs, func(a, b Balancer) int { return cmp.Compare(okLast(a), okLast(b)) })
	for i, b := range bs {
		// Two lines for this one, one for "more", six for what conditions and services need.
		if p.room() < 2+1+6 {
			if i > 0 {
				p.row("", "and %s: see `listener status -o json`", count(len(bs)-i, "more balancer", "more balancers"))
			}
			return // those that failed are conditions, too
		}
		text := b.Kind + " " + b.Path + ": "
		switch b.State {
		case "ok":
			text += "ok, " + count(b.Frontends, "frontend", "frontends") + ", " + count(b.Servers, "server", "servers")
		case "due":
			text += "an update is made"
		case "waiting":
			text += "waiting for the store"
		case "off":
			text += "off; it stays as it is"
		default:
			text += "FAILED: " + b.Error
			if !b.NextTry.IsZero() {
				text += "; next try " + p.at(b.NextTry)
			}
		}
		p.row("balancer", "%s", text)
	}
}

func okLast(b Balancer) int {
	if b.State == "ok" {
		return 1
	}
	return 0
}

func (p *page) onOff(s Status) string {
	if s.On && s.Off == nil {
		return "yes"
	}
	o := s.Off
	if o == nil {
		return "NO"
	}
	text := "NO"
	if o.Lane != "" {
		text += ", the " + o.Lane + " lane"
	}
	text += ": switched off by " + o.Who + " " + p.ago(o.Since)
	if o.Reason != "" {
		text += ": " + o.Reason
	}
	if o.Until.IsZero() {
		return text + "; until `listener on`"
	}
	return text + "; until " + p.at(o.Until)
}

// holds shows the first in full; more than one is rare.
func (p *page) holds(hs []Hold) {
	for i, h := range hs {
		if i == 1 {
			p.line(fmt.Sprintf("            and %d more: see `listener status -o json`", len(hs)-1))
			return
		}
		text := "by " + h.Command
		if h.Service != "" {
			text += " of " + h.Service
		}
		text += fmt.Sprintf(" (%s, pid %d) %s", h.Who, h.PID, p.since(h.Since))
		if h.Waiting {
			text += ", once the run in progress has ended"
		}
		p.row("held", "%s", text)
	}
}

func (p *page) store(s Store) string {
	text := s.Kind
	switch s.State {
	case "ok":
		return fmt.Sprintf("%s, ok, revision %d", text, s.Revision)
	case "waiting":
		text += ", waiting for it since " + p.when(s.Since)
	case "replica":
		text += ", UNREACHABLE since " + p.when(s.Since) + "; values come from the replica on disk"
		if s.ReplicaAge != "" {
			text += ", " + s.ReplicaAge + " old"
		}
	default:
		text += ", UNREACHABLE since " + p.when(s.Since)
		if s.Revision > 0 {
			text += "; the last picture is kept"
		}
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}

func (p *page) running(s Status) {
	r := s.Running
	if r == nil {
		return
	}
	text := r.ID + ", " + r.Kind + ", started " + p.ago(r.Started)
	if i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Result == "" && !s.Started.IsZero() }); i >= 0 {
		text += ", in step " + r.Steps[i].Name
	}
	p.row("running", "%s%s", text, because(r.Reasons, r.Keys))
}

func (p *page) pending(s Status) {
	d := s.Pending
	if d == nil {
		if s.Running == nil {
			p.row("pending", "%s", nothing(s))
		}
		return
	}
	p.row("pending", "%s run since %s%s", d.Kind, p.when(d.Since), because(d.Reasons, d.Keys))
	if len(d.Services) > 0 {
		p.row("", "for %s", names(d.Services))
	}
	if d.Gate == "" {
		p.row("", "starts now")
		return
	}
	text := "held by " + d.Gate
	if !d.Until.IsZero() {
		text += " until " + p.at(d.Until)
	}
	if d.Why != "" {
		text += ": " + d.Why
	}
	p.row("", "%s", text)
}

func nothing(s Status) string {
	if s.Synced {
		return "nothing; every ready service is provisioned"
	}
	return "nothing"
}

func (p *page) last(s Status) {
	r := s.LastRun
	if r == nil {
		p.row("last run", "none yet")
		return
	}
	text := r.ID + " " + mark(r.Result) + " " + p.ago(r.Ended) + ", took " + span(r.Ended.Sub(r.Started))
	p.row("last run", "%s%s", text, because(r.Reasons, r.Keys))
	if r.Error != "" {
		p.row("", "%s", r.Error)
	}
}

// failures shows the first in full; more than one is rare.
func (p *page) failures(fs []Failure) {
	for i, f := range fs {
		if i == 1 {
			p.row("", "and %s: see `listener status -o json`", count(len(fs)-1, "more failed step", "more failed steps"))
			return
		}
		text := "step " + f.Step + ": " + f.Text + ", " + p.ago(f.At)
		if f.Count > 1 {
			text += fmt.Sprintf(", %d times in a row", f.Count)
		}
		if !f.NextTry.IsZero() {
			text += "; next try " + p.at(f.NextTry)
		}
		p.row("FAILED", "%s", text)
		tail := f.LastTail
		if len(tail) > maxTail {
			tail = tail[len(tail)-maxTail:]
		}
		for _, line := range tail {
			p.line("            | " + line)
		}
	}
}

// shown are the conditions, but those that a row of its own tells.
func shown(s Status) []Condition {
	if s.Publishing == nil {
		return s.Conditions
	}
	return slices.DeleteFunc(slices.Clone(s.Conditions), func(c Condition) bool {
		return c.Name == "drained" || c.Name == "check down"
	})
}

func (p *page) conditions(cs []Condition) {
	for i, c := range cs {
		// Two lines for this one, one for "more", three for the services.
		if left := len(cs) - i; i > 0 && p.room() < 2+1+3 && left > 1 {
			p.row("", "and %s: see `listener status -o json`", count(left, "more condition", "more conditions"))
			return
		}
		text := c.Text
		if text == "" {
			text = strings.TrimSpace(c.Service + " " + c.Key)
		}
		p.row(label(c.Severity), "%s, %s: %s", c.Name, p.since(c.Since), text)
	}
}

func label(severity string) string {
	if severity == "error" {
		return "ERROR"
	}
	return severity
}

// Count is n things in words: "1 service", "2 services".
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func (p *page) services(ss []Service) {
	if len(ss) == 0 {
		p.row("services", "none")
		return
	}
	states := map[string]int{}
	for _, s := range ss {
		states[s.State]++
	}
	var parts []string
	for _, state := range []string{"ready", "waiting", "missing", "refused"} {
		if n := states[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	p.row("services", "%d: %s", len(ss), strings.Join(parts, ", "))
	for i, s := range byUrgency(ss) {
		if left := len(ss) - i; i > 0 && left > 1 && p.room() < 2 {
			p.line(fmt.Sprintf("            and %d more", left))
			return
		}
		p.line("            " + p.service(s))
	}
}

// byUrgency puts what is not in order first.
func byUrgency(ss []Service) []Service {
	var odd, even []Service
	for _, s := range ss {
		if s.State != "ready" || s.Due || s.Dirty {
			odd = append(odd, s)
		} else {
			even = append(even, s)
		}
	}
	return append(odd, even...)
}

func (p *page) service(s Service) string {
	text := fmt.Sprintf("%-20s %-7s ", s.ID, s.State)
	switch {
	case len(s.Waiting) > 0:
		text += " needs " + names(s.Waiting)
	case s.Applied.IsZero():
		text += " not provisioned yet"
	default:
		text += " provisioned " + p.ago(s.Applied)
	}
	if s.Due {
		text += ", due"
	}
	return text
}
