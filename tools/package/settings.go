package main

import (
	"strings"
	"time"

	"github.com/listener-agent/listener/config"
)

// settingsPage is listener.toml(5), from the comments of the settings.
func settingsPage(when time.Time) []byte {
	p := newPage("listener.toml", "5", when)
	p.section("NAME")
	p.text("listener.toml - settings of the listener agent")
	p.section("SYNOPSIS")
	p.literal(config.DefaultPath + "\n/etc/listener/conf.d/*.toml")
	p.section("DESCRIPTION")
	p.text("Every setting has a default that works on one machine. From lowest to highest: the defaults, the settings file, " +
		"conf.d/*.toml beside it in the order of their names, the environment (LISTENER_CFG_STORE__KIND is store.kind), flags. " +
		"An unknown setting is an error. Durations are texts such as \"90s\"; relative paths are relative to the settings file.")
	p.text("`listener config` prints the settings in force and where each comes from; `listener check` names every problem.")
	p.section("SETTINGS")
	for _, d := range config.Docs() {
		if strings.Contains(d.Type, "table") {
			title := "[" + d.Name + "]"
			if d.Name == "balancer" {
				title = "[[balancer]]"
			}
			p.subsection(title)
			p.text(d.Text)
			continue
		}
		name := d.Name[strings.LastIndex(d.Name, ".")+1:]
		text := d.Text
		if d.Default != "" {
			text += " Default: " + d.Default + "."
		}
		p.tagged(name+" ("+d.Type+")", text)
	}
	p.section("EXAMPLE")
	p.literal("region = \"eu-west\"\n\n[store]\nkind = \"etcd\"\n\n[store.etcd]\nendpoints = [\"https://10.0.0.1:2379\"]\n\n" +
		"[provision]\ncommand = [\"chef-solo\", \"-j\", \"{NODE_JSON}\"]\npreset = \"chef\"")
	p.section("SEE ALSO")
	p.text("listener(1), listener-config(1), listener-check(1), /usr/share/doc/listener/docs/settings.md")
	return p.bytes()
}
