package listener

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/listener-agent/listener/render"
)

// driftEvery is how often files are compared with what was applied.
const driftEvery = 60 * time.Second

// driftLimit repairs of one file within driftWindow mean that somebody fights
// for it; then it is left alone and reported.
const (
	driftLimit  = 3
	driftWindow = time.Hour
)

type driftState struct {
	next    time.Time
	repairs map[string][]time.Time
	// found is what differs now and was not repaired, with the reason.
	found map[string]string
	retry []string // services whose files could not be written
}

// checkDrift looks at the files when it is time, never during a run.
func (a *Agent) checkDrift() {
	d := &a.drift
	if left := time.Until(d.next); left > 0 {
		a.timers.in(left)
		return
	}
	a.timers.in(driftEvery)
	d.next = time.Now().Add(driftEvery)
	a.sweepEnv()
	a.writeAgain()
	if a.exec != nil || a.adopting || !a.booted {
		return
	}
	a.repairDrift(!a.off.holds())
	if slices.ContainsFunc(a.lanes, func(l *lane) bool { return l.cfg.Engine != engineHAProxy }) {
		a.lanesStale = true // a template may be another one
		a.timers.in(0)
	}
	a.laneDrift(!a.off.holdsBalancers())
}

// repairDrift compares every applied file with what it should be, and writes
// it again if repair is set. A dirty service is left to its run.
func (a *Agent) repairDrift(repair bool) {
	d := &a.drift
	d.found = map[string]string{}
	retry := d.retry
	d.retry = nil
	for _, id := range a.table.ids {
		st := a.st.service(id)
		if st.Dirty || st.Good == nil {
			continue
		}
		if slices.Contains(retry, id) || slices.ContainsFunc(a.envPaths(id), func(p string) bool { return !a.savedFiles.same(p) }) {
			a.repairService(id, st, repair)
		}
	}
}

func (a *Agent) repairService(id string, st *serviceState, repair bool) {
	files, err := a.envFiles(id, st.Good.Vars)
	if err != nil {
		a.fault("files of "+id, err)
		return
	}
	drifts := render.FindDrift(files)
	if len(drifts) == 0 {
		a.fault("files of "+id, nil)
		for _, f := range files {
			a.savedFiles.note(f.Path)
		}
		return
	}
	now := time.Now()
	repairs := map[string]string{} // path → what it was
	for _, dr := range drifts {
		switch n := a.drift.recent(dr.Path, now); {
		case n >= driftLimit:
			a.drift.found[dr.Path] = fmt.Sprintf("%s for the %dth time within an hour; it is left as it is: find who else writes it", dr.What, n+1)
		case !repair:
			a.drift.found[dr.Path] = dr.What + "; it is not repaired while the agent is off"
		default:
			repairs[dr.Path] = dr.What
		}
	}
	files = slices.DeleteFunc(files, func(f render.File) bool { return repairs[f.Path] == "" })
	if len(files) == 0 {
		return
	}
	set, err := render.Stage(context.Background(), files)
	if err == nil {
		_, err = set.Swap()
		a.noteWritten(files, set)
	}
	a.fault("files of "+id, err)
	if err != nil {
		a.drift.retry = append(a.drift.retry, id)
		return
	}
	for _, f := range files {
		a.drift.repairs[f.Path] = append(a.drift.repairs[f.Path], now)
		a.emit("drift repaired", fmt.Sprintf("%s was %s; it is as it should be again", f.Path, repairs[f.Path]), "service", id)
	}
}

// recent counts the repairs of path within driftWindow, and forgets older ones.
func (d *driftState) recent(path string, now time.Time) int {
	list := slices.DeleteFunc(d.repairs[path], func(t time.Time) bool { return now.Sub(t) > driftWindow })
	if len(list) == 0 {
		delete(d.repairs, path)
	} else {
		d.repairs[path] = list
	}
	return len(list)
}
