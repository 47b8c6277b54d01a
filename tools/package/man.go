package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// command is what `listener schema --commands` prints.
type command struct {
	Path, Usage, Group, Short, Long, Example string

	Aliases  []string
	Flags    []option
	Commands []command
}

type option struct{ Name, Shorthand, Argument, Text string }

// page is the name of the man page: listener-runs-show.
func (c command) page() string { return strings.ReplaceAll(c.Path, " ", "-") }

// man writes a page for each command that in describes, and listener.toml(5).
func man(in io.Reader, dir string, when time.Time) error {
	var root command
	if err := json.NewDecoder(in).Decode(&root); err != nil {
		return fmt.Errorf("read the commands: %w", err)
	}
	for _, sub := range []string{"man1", "man5"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := writePages(root, root, command{}, filepath.Join(dir, "man1"), when); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "man5", "listener.toml.5"), settingsPage(when), 0o644)
}

// writePages writes the page of c and of all below it; an alias is a page that
// leads to the command's. The parent of root is a command without a path.
func writePages(root, c, parent command, dir string, when time.Time) error {
	if err := os.WriteFile(filepath.Join(dir, c.page()+".1"), commandPage(root, c, parent, when), 0o644); err != nil {
		return err
	}
	for _, alias := range c.Aliases {
		name := parent.page() + "-" + alias + ".1"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(".so man1/"+c.page()+".1\n"), 0o644); err != nil {
			return err
		}
	}
	for _, sub := range c.Commands {
		if err := writePages(root, sub, c, dir, when); err != nil {
			return err
		}
	}
	return nil
}

func commandPage(root, c, parent command, when time.Time) []byte {
	p := newPage(c.page(), "1", when)
	p.section("NAME")
	p.text(c.page() + " - " + c.Short)
	p.section("SYNOPSIS")
	p.literal(c.Usage)
	if c.Long != "" {
		p.section("DESCRIPTION")
		p.paragraphs(c.Long)
	}
	p.commands(c)
	p.options("OPTIONS", c.Flags)
	if parent.Path != "" {
		p.options("OPTIONS OF ALL COMMANDS", root.Flags)
	}
	if c.Example != "" {
		p.section("EXAMPLES")
		p.literal(unindent(c.Example))
	}
	if parent.Path == "" {
		p.section("FILES")
		p.tagged("/etc/listener/listener.toml", "settings, see listener.toml(5)")
		p.tagged("/etc/listener/data_bags/service", "manifests, one per service")
		p.tagged("/var/lib/listener", "what outlives a boot")
		p.tagged("/run/listener/listener.sock", "where the agent answers")
	}
	var also []string
	if parent.Path != "" {
		also = append(also, parent.page()+"(1)")
	}
	for _, sub := range c.Commands {
		also = append(also, sub.page()+"(1)")
	}
	p.section("SEE ALSO")
	p.text(strings.Join(append(also, "listener.toml(5)"), ", "))
	p.text("/usr/share/doc/listener")
	return p.bytes()
}

// commands lists those below c by their groups, which end in a colon.
func (p *page) commands(c command) {
	group := ""
	for i, sub := range c.Commands {
		if i == 0 {
			p.section("COMMANDS")
		}
		if sub.Group != group {
			group = sub.Group
			p.subsection(strings.TrimSuffix(group, ":"))
		}
		p.tagged(strings.TrimPrefix(sub.Path, c.Path+" "), sub.Short)
	}
}

func (p *page) options(title string, options []option) {
	for i, o := range options {
		if i == 0 {
			p.section(title)
		}
		name := "--" + o.Name
		if o.Shorthand != "" {
			name = "-" + o.Shorthand + ", " + name
		}
		if o.Argument != "" {
			name += " " + o.Argument
		}
		p.tagged(name, o.Text)
	}
}

// unindent takes away the two blanks that examples begin with.
func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}
