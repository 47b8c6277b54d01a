package status

import "fmt"

// after is the room that two conditions and the services need below.
const after = 2 + 2 + 3

// publishing shows what of the node's services is not in service, and why.
func (p *page) publishing(s *Publishing) {
	if s == nil {
		return
	}
	if d := s.Drain; d != nil {
		if text := p.drain(*d); p.room() > after+2 {
			p.row("drained", "%s", text)
		} else {
			p.line(fmt.Sprintf("%-*s%s", indent, "drained", text))
		}
	}
	p.published(s.Published, s.Drain != nil, p.checks(s.Checks))
}

func (p *page) drain(d Drain) string {
	text := "by " + d.Who + " " + p.ago(d.Since)
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	switch {
	case d.State == "draining" && !d.Until.IsZero():
		return text + "; takes nobody new, withdrawn at " + p.at(d.Until)
	case d.State == "drained":
		return text + "; withdrawn, until `listener undrain`"
	}
	return text + "; " + d.State
}

// checks shows those that are down, and returns how many there was no room
// for; one that has not risen yet is no news.
func (p *page) checks(cs []CheckResult) (more int) {
	label := "CHECK"
	for _, c := range cs {
		if c.State != "down" {
			continue
		}
		if p.room() < 2+1+after {
			more++
			continue
		}
		text := c.Service + " is down " + p.since(c.Since) + ", " + c.Kind + " " + c.Target
		if c.Error != "" {
			text += ": " + c.Error
		}
		if c.Failed > 1 {
			text += fmt.Sprintf(" (%d times in a row)", c.Failed)
		}
		p.row(label, "%s", text)
		label = ""
	}
	return more
}

// published shows the entries that are not up; of a node that is drained none
// is meant to be, so only those that could not be withdrawn are shown.
func (p *page) published(ps []Published, drained bool, checks int) {
	up := 0
	var odd []Published
	for _, e := range ps {
		switch {
		case e.State == "up" && e.Want == "" && e.Error == "":
			up++
		case drained && e.Error == "":
		default:
			odd = append(odd, e)
		}
	}
	if len(odd)+checks == 0 {
		return
	}
	text := fmt.Sprintf("%s, %d up", count(len(ps), "entry", "entries"), up)
	if checks > 0 {
		text += "; " + count(checks, "more check is down", "more checks are down")
	}
	p.row("provides", "%s", text)
	for i, e := range odd {
		left := len(odd) - i
		switch room := p.room(); {
		case room > after+1 || left == 1 && room > after:
			p.line("            " + p.entry(e))
		case room > after:
			p.line(fmt.Sprintf("            and %d more: see `listener status -o json`", left))
			return
		default:
			return
		}
	}
}

func (p *page) entry(e Published) string {
	state := e.State
	if state == "" {
		state = "not published"
	}
	text := fmt.Sprintf("%s of %s: %s", e.Key, e.Service, state)
	if e.Want != "" && e.Want != e.State {
		text += ", to be " + e.Want
	}
	if e.Why != "" {
		text += ": " + e.Why
	}
	if e.Error != "" {
		text += ": " + e.Error
	}
	return text
}
