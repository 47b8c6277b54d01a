package listener

import (
	"maps"
	"os/user"
	"slices"
	"strings"
	"sync"

	"github.com/listener-agent/listener/provision"
)

// listMax bounds each list in a step's environment; the kernel refuses to
// start a command whose one variable is longer than 128 KiB.
const listMax = 32 << 10

// job is what the supervisor of one step gets.
func (a *Agent) job(ex *execution, p stepPlan) provision.Job {
	run := ex.rs.Run
	path := a.nodeJSONPath(run.ID)
	j := provision.Job{
		Run: run.ID, Step: p.Step, Dir: "/",
		Timeout: a.cfg.Provision.Timeout, KillAfter: a.cfg.Provision.KillAfter,
	}
	env := map[string]string{}
	if p.Step == nodeStep {
		for _, arg := range a.cfg.Provision.Command {
			j.Argv = append(j.Argv, strings.ReplaceAll(arg, "{NODE_JSON}", path))
		}
	} else {
		j.Argv = slices.Clone(a.table.rows[p.Step].m.Command.Argv)
		maps.Copy(env, p.Services[p.Step].Good.Vars)
	}
	var runList []string
	seen := map[string]bool{}
	for _, id := range p.ids {
		for _, item := range a.table.rows[id].m.RunList {
			if !seen[item] {
				seen[item] = true
				runList = append(runList, item)
			}
		}
	}
	for name, value := range baseEnv() {
		if _, own := env[name]; !own {
			env[name] = value
		}
	}
	maps.Copy(env, map[string]string{
		"LISTENER_RUN_ID":           run.ID,
		"LISTENER_REASON":           cut(strings.Join(run.Reasons, "; ")),
		"LISTENER_CHANGED_KEYS":     cut(strings.Join(run.Keys, ",")),
		"LISTENER_CHANGED_SERVICES": cut(strings.Join(ex.due, ",")),
		"LISTENER_SERVICES":         cut(strings.Join(p.ids, ",")),
		"LISTENER_RUN_LIST":         cut(strings.Join(runList, ",")),
		"LISTENER_NODE_JSON":        path,
	})
	for _, name := range slices.Sorted(maps.Keys(env)) {
		j.Env = append(j.Env, name+"="+env[name])
	}
	return j
}

// baseEnv is the fixed, clean part of a step's environment.
var baseEnv = sync.OnceValue(func() map[string]string {
	home := "/"
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		home = u.HomeDir
	}
	return map[string]string{
		"HOME": home,
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG": "C.UTF-8",
	}
})

// cut bounds s at listMax, at a whole list element where there is one.
func cut(s string) string {
	if len(s) <= listMax {
		return s
	}
	s = s[:listMax]
	if i := strings.LastIndexByte(s, ','); i > 0 {
		s = s[:i]
	}
	return s
}
