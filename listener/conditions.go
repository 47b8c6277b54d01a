package listener

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// Severities of a condition.
const (
	info    = "info"
	warning = "warning"
	grave   = "error"
)

// conditionsAtOnce is how many conditions that come or go together are told
// one by one: of a node without its values, each key of each service is one.
const conditionsAtOnce = 20

// conditionLevel lets a log that is read from warnings up have what is not as
// it should be.
func conditionLevel(severity string) slog.Level {
	if severity == info {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// conditions remembers since when each one holds.
type conditions struct {
	now   []status.Condition
	since map[string]time.Time
}

// updateConditions reads all conditions anew from the present state and tells
// of those that came or went.
func (a *Agent) updateConditions() {
	found := []status.Condition{} // never null in JSON
	add := func(c status.Condition) { found = append(found, c) }
	a.storeConditions(add)
	a.providerConditions(add)
	a.manifestConditions(add)
	for _, id := range a.table.ids {
		a.serviceConditions(id, a.table.rows[id], add)
	}
	a.valueConditions(add)
	a.faultConditions(add)
	a.publishConditions(add)
	a.laneConditions(add)

	now := time.Now()
	since := make(map[string]time.Time, len(found))
	came, went := 0, 0
	for i := range found {
		c := &found[i]
		k := c.Name + "\x00" + c.Service + "\x00" + c.Key
		at, had := a.conds.since[k]
		if !had {
			at = now
			if came++; came <= conditionsAtOnce {
				a.emitAt(conditionLevel(c.Severity), "condition", c.Name+": "+c.Text, "service", c.Service, "key", c.Key)
			}
		}
		since[k], c.Since = at, at
	}
	for _, k := range slices.Sorted(maps.Keys(a.conds.since)) {
		if _, still := since[k]; !still {
			p := strings.Split(k, "\x00")
			if went++; went <= conditionsAtOnce {
				a.emit("condition over", p[0]+" is over", "service", p[1], "key", p[2])
			}
		}
	}
	if more := came - conditionsAtOnce; more > 0 {
		a.emitAt(slog.LevelWarn, "condition", fmt.Sprintf("and %d more conditions: see `listener status -o json`", more))
	}
	if more := went - conditionsAtOnce; more > 0 {
		a.emit("condition over", fmt.Sprintf("and %d more are over", more))
	}
	a.conds = conditions{now: found, since: since}
}

func (a *Agent) storeConditions(add func(status.Condition)) {
	v := a.view
	name := "store unreachable"
	if errors.Is(v.err, store.ErrPermission) {
		name = "permission denied"
	}
	switch {
	case v.auth:
	case v.reset:
		add(status.Condition{
			Name: name, Severity: warning,
			Text: fmt.Sprintf("store %s: %s; the last picture stays in force", a.cfg.Store.String(), errText(v.err)),
			Hint: "the agent goes on trying; nothing changes until it is back",
		})
	case !a.booted && v.err != nil:
		add(status.Condition{
			Name: name, Severity: warning,
			Text: fmt.Sprintf("store %s: %s; the agent waits for it until %s", a.cfg.Store.String(), errText(v.err), a.watch.bootUntil.Format(time.TimeOnly)),
			Hint: "the agent goes on trying; then the replica on disk serves, or what needs nothing from the store goes ahead",
		})
	case a.booted && v.known:
		add(status.Condition{
			Name: "replica serves", Severity: warning,
			Text: fmt.Sprintf("store %s does not answer; values saved %s ago serve: %s", a.cfg.Store.String(), age(v.replicaAt), errText(v.err)),
			Hint: "the agent goes on trying",
		})
	case a.booted:
		add(status.Condition{
			Name: name, Severity: grave,
			Text: fmt.Sprintf("store %s did not answer yet and there is no replica: %s", a.cfg.Store.String(), errText(v.err)),
			Hint: "check [store] in the settings and that the store is up",
		})
	}
	if s, ok := a.opt.Store.(interface{ Warnings() []string }); ok {
		for _, text := range s.Warnings() {
			add(status.Condition{Name: "store durability", Severity: info, Text: text})
		}
	}
	if len(v.held) > 0 {
		var keys []string
		for k := range v.held {
			keys = append(keys, k.key)
		}
		slices.Sort(keys)
		add(status.Condition{
			Name: "store regression", Severity: grave,
			Text: "the store went back to an older state; these keep their values: " + shorten(slices.Compact(keys), 8),
			Hint: "`listener accept` takes what the store says now; a new write to a key takes that key",
		})
	}
}

// providerConditions tells of removals that are held.
func (a *Agent) providerConditions(add func(status.Condition)) {
	if keys, n := a.view.keptMembers(); n > 0 {
		add(status.Condition{
			Name: "providers held", Severity: grave,
			Text: fmt.Sprintf("%d providers expired at about the same time; lists and balancers keep them for at most %s: %s",
				n, a.cfg.Protect.HoldMax, shorten(keys, 8)),
			Hint: "they are let go when they return or the time is over; `listener accept` lets them go now",
		})
	}
}

func (a *Agent) manifestConditions(add func(status.Condition)) {
	for _, p := range a.svcs.problems {
		add(status.Condition{
			Name: "manifest refused", Severity: grave, Service: p.Service,
			Text: problemText(p) + a.lastGoodText(p.Service), Hint: p.Hint,
		})
	}
	for _, d := range a.svcs.missing {
		c := status.Condition{
			Name: "manifests missing", Severity: grave, Key: d.Dir,
			Text: fmt.Sprintf("%v; the manifests in force stay in force", d),
			Hint: "put the directory back, or `listener accept` to go on without its manifests",
		}
		if len(a.table.rows) == 0 { // nothing came from it yet, or that is accepted
			c.Text, c.Hint = d.Error(), "put the directory there, or correct `manifests` in the settings"
		}
		add(c)
	}
	if a.svcs.allGone {
		add(status.Condition{
			Name: "manifests gone", Severity: grave,
			Text: "all manifests vanished at once; those in force stay in force",
			Hint: "put them back, or `listener accept` if they are meant to be gone",
		})
	}
	if a.attrs.err != nil {
		add(status.Condition{
			Name: "attributes", Severity: grave,
			Text: a.attrs.err.Error() + "; the attributes read before stay in force", Hint: "`listener check` shows every problem",
		})
	}
}

// problemText begins with the file that the problem is in.
func problemText(p manifest.Problem) string {
	if strings.HasPrefix(p.Text, p.File) {
		return p.Text
	}
	return p.File + ": " + p.Text
}

func (a *Agent) lastGoodText(id string) string {
	if a.table.rows[id] != nil {
		return "; its last good version stays in force"
	}
	return ""
}

func (a *Agent) serviceConditions(id string, r *row, add func(status.Condition)) {
	switch state := r.res.State; {
	case r.res.Awaited: // for a moment: told when the store has answered
	case state == resolve.Kept:
		for _, key := range r.res.Missing {
			text := key + " is nowhere to be found"
			if a.view.offered(key) {
				text = "every provider of " + key + " was withdrawn"
			}
			if rev := a.view.deletedAt(key); rev > 0 {
				text = fmt.Sprintf("%s deleted at revision %d", key, rev)
			}
			add(status.Condition{
				Name: "missing", Severity: grave, Service: id, Key: key,
				Text: text + "; " + id + " keeps its last good values",
				Hint: "`listener put " + key + " VALUE`, or take it out of the manifest's requires",
			})
		}
	case state == resolve.Waiting:
		if !a.booted {
			return
		}
		for _, key := range r.res.Missing {
			hint := "`listener put " + key + " VALUE`, or give it in the attributes"
			if key == "HOST" || key == "PORT" {
				hint = map[string]string{"HOST": "it comes with a route to the store, or set host in the settings", "PORT": "set local_port or environment.PORT in the manifest"}[key]
			}
			add(status.Condition{
				Name: "waiting", Severity: warning, Service: id, Key: key,
				Text: id + " waits for " + key, Hint: hint,
			})
		}
	}
	for _, u := range r.res.Uses {
		if u.Answer.LastGood {
			text := fmt.Sprintf("%s is last known good, %s old", u.Key, age(a.appliedAt(id)))
			if why := a.view.whyUnproven(u.Key); why != "" {
				text += ": " + why
			}
			add(status.Condition{
				Name: "degraded", Severity: warning, Service: id, Key: u.Key,
				Text: text,
				Hint: "`listener accept " + u.Key + "` if it is meant to be gone",
			})
		}
	}
	if r.offerMissing != "" {
		add(status.Condition{
			Name: "nothing offered", Severity: warning, Service: id, Key: r.offerMissing,
			Text: "what " + id + " provides needs {" + r.offerMissing + "}, which is not known",
			Hint: "set host in the settings, or local_port in the manifest",
		})
	}
	if r.checkMissing != "" {
		add(status.Condition{
			Name: "nothing checked", Severity: warning, Service: id, Key: r.checkMissing,
			Text: "the check of " + id + " needs {" + r.checkMissing + "}, which is not known; what is published stays as it was found last",
			Hint: "set host in the settings, or local_port in the manifest",
		})
	}
}

// badProviders is how many entries that cannot be read are conditions of their own.
const badProviders = 20

func (a *Agent) valueConditions(add func(status.Condition)) {
	var bad []valueKey
	for k, e := range a.view.entries {
		if e.bad != "" && follows(a.table.needed, k) {
			bad = append(bad, k)
		}
	}
	slices.SortFunc(bad, valueKey.compare)
	providers := 0
	for _, k := range bad {
		e := a.view.entries[k]
		if !k.provider() {
			add(status.Condition{
				Name: "bad value", Severity: grave, Key: k.key,
				Text: fmt.Sprintf("%s at revision %d is refused: %s", k.key, e.rev, e.bad),
				Hint: "put a value of one line",
			})
		} else if providers++; providers <= badProviders {
			add(status.Condition{
				Name: "bad provider", Severity: warning, Service: k.service, Key: k.key,
				Text: fmt.Sprintf("the entry of %s of node %s for %s at revision %d is refused: %s", k.service, k.node, k.key, e.rev, e.bad),
				Hint: "see what publishes it there; the other providers are used",
			})
		}
	}
	if more := providers - badProviders; more > 0 {
		add(status.Condition{
			Name: "bad provider", Severity: warning, Text: fmt.Sprintf("and %d more entries are refused", more),
			Hint: "see what publishes them; the other providers are used",
		})
	}
	for path, what := range a.drift.found {
		add(status.Condition{Name: "drift", Severity: warning, Key: path, Text: path + " is " + what})
	}
}

// publishConditions are those of the publisher, but while the store is away
// that is told once.
func (a *Agent) publishConditions(add func(status.Condition)) {
	if a.pub.next {
		add(status.Condition{
			Name: "publish failing", Severity: grave,
			Text: "the store does not answer what was under way before the settings changed; until it does nothing is published",
			Hint: "when it does not end by itself: restart the agent, what is published stays",
		})
	}
	if a.pub.p == nil {
		return
	}
	for _, c := range a.pub.p.Status().Conditions {
		if a.view.auth || c.Name != "publish failing" && c.Name != "permission denied" {
			add(c)
		}
	}
}

// faultConditions shows what the agent itself cannot do at present.
func (a *Agent) faultConditions(add func(status.Condition)) {
	for _, name := range slices.Sorted(maps.Keys(a.faults)) {
		c := status.Condition{Name: name, Severity: grave, Text: a.faults[name].Error()}
		switch name {
		case "state_dir", "off file", "history", "replica", "last_provision":
			c.Hint = "check space and rights of " + a.cfg.StateDir + "; until then the agent goes on in memory"
		case "state.json", "digest.key":
			c.Hint = "everything was provisioned once more; nothing else to do"
			c.Severity = warning
		case "runner":
			c.Hint = "until then the command runs inside of the agent's own sandbox and control group"
		}
		add(c)
	}
}

// age is how long ago t was, in one unit.
func age(t time.Time) string {
	if t.IsZero() {
		return "of unknown age"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
