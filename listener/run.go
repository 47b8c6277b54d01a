package listener

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/throttle"
)

// execution is a run in progress. Its plan is one snapshot: whatever changes
// meanwhile belongs to the next run.
type execution struct {
	rs *runState

	// The rest is not needed after a crash.
	files []render.File
	due   []string             // services provisioned for their own sake, not only because the run is forced
	only  map[string]candidate // services that only declare, written with this run
	jobs  map[string]provision.Job
	node  []byte // node.json
	// recorded is closed when state.json and last_provision tell of the run:
	// until then files are staged, but nothing live is touched.
	recorded chan struct{}
	step     string // in progress, for Cancel
}

// begin takes the snapshot, records that a run starts, and starts it.
func (a *Agent) begin(w *work, now throttle.Now) {
	kind := a.kind(w)
	ex, err := a.snapshot(w, kind)
	a.fault("run", err)
	if err != nil {
		// Nothing was touched; what is due stays due and is looked at again.
		a.timers.in(a.cfg.Retry.Base)
		return
	}
	if kind == throttle.Manual {
		a.st.Manual = nil
	}
	a.st.Run = ex.rs
	a.markDirty(ex.rs)
	a.exec = ex
	a.wg.Go(func() { a.execute(a.runCtx, ex) })
	a.save()
	err = a.throttle.Add(now, kind)
	a.unstamped = err != nil
	a.fault("last_provision", err)
	close(ex.recorded)
	a.pend, a.meanwhile = pending{}, pending{}
	a.pub.stale = true
	a.runsTotal++
	run := &ex.rs.Run
	a.emit("run started", fmt.Sprintf("%s run %s: %s", run.Kind, run.ID, shorten(run.Reasons, 4)),
		"run", run.ID, "keys", shorten(run.Keys, 20), "services", shorten(run.Services, 20))
}

// markDirty notes, before the first file is swapped, that the services of the
// run are in between; only the success of their step ends that.
func (a *Agent) markDirty(rs *runState) {
	for _, p := range rs.Steps {
		for id, c := range p.Services {
			st := a.st.edit(id)
			for _, path := range c.Files {
				if !slices.Contains(st.Files, path) {
					st.Files = append(st.Files, path)
				}
			}
			if st.Dirty {
				rs.Dirty = append(rs.Dirty, id)
			}
			st.Dirty = true
		}
		if p.Step == nodeStep {
			if a.st.NodeDirty {
				rs.Dirty = append(rs.Dirty, nodeStep)
			}
			a.st.NodeDirty = true
		}
	}
}

// snapshot plans a run from the present state alone.
func (a *Agent) snapshot(w *work, kind throttle.Kind) (*execution, error) {
	started := time.Now()
	ex := &execution{jobs: map[string]provision.Job{}, only: map[string]candidate{}, recorded: make(chan struct{})}
	rs := &runState{Forced: a.st.Forced, Rev: a.view.rev, Run: status.Run{
		ID: provision.NewRunID(started), Kind: string(kind), Started: started,
		Reasons: a.reasons(w), Files: []string{}, Keys: []string{},
	}}
	ex.rs = rs
	inRun := make(map[string]candidate, len(w.nodeIDs)+len(w.own)+len(w.files))
	if w.node {
		rs.Steps = append(rs.Steps, a.planNode(w, inRun))
	}
	for _, id := range a.ordered(w.own) {
		if w.heldUntil[id] == 0 {
			inRun[id] = a.table.candidate(id)
			rs.Steps = append(rs.Steps, stepPlan{
				Step: id, Work: a.ownWork(id), ids: []string{id},
				Services: map[string]candidate{id: inRun[id]},
			})
		}
	}
	keys := map[string]bool{}
	for _, p := range rs.Steps {
		rs.Run.Steps = append(rs.Run.Steps, status.Step{Name: stepName(p.Step), Services: p.ids})
	}
	for id := range inRun {
		a.choose(id)
		if a.table.due(id) {
			ex.due = append(ex.due, id)
			for _, k := range a.table.changedKeys(id) {
				keys[k] = true
			}
		}
	}
	slices.Sort(ex.due)
	rs.Run.Services = ex.due
	if len(ex.due) == 0 { // only forced: then it is for all
		rs.Run.Services = slices.Sorted(maps.Keys(inRun))
	}
	rs.Run.Keys = slices.AppendSeq(rs.Run.Keys, maps.Keys(keys))
	slices.Sort(rs.Run.Keys)
	for _, id := range w.files {
		a.choose(id)
		inRun[id] = a.table.candidate(id)
		ex.only[id] = inRun[id]
	}
	return ex, a.prepare(ex, inRun)
}

// planNode is the node step for all its services that are not waiting, each of
// which it adds to inRun.
func (a *Agent) planNode(w *work, inRun map[string]candidate) stepPlan {
	p := stepPlan{
		Step: nodeStep, Work: w.nodeWork, Services: map[string]candidate{}, ids: w.nodeIDs,
		NodeDigest: a.dig.node(w.nodeIDs, a.cfg.Provision.Command),
	}
	for _, id := range w.nodeIDs {
		c := a.table.candidate(id)
		if inRun[id] = c; !a.table.settled(id, c) {
			p.Services[id] = c
		}
	}
	return p
}

// prepare renders everything that the run writes or hands to its commands.
func (a *Agent) prepare(ex *execution, inRun map[string]candidate) error {
	for _, id := range slices.Sorted(maps.Keys(inRun)) {
		if !a.table.due(id) && !a.table.rows[id].refile && a.unchanged(id) {
			continue
		}
		files, err := a.envFiles(id, inRun[id].Good.Vars)
		if err != nil {
			return err
		}
		ex.files = append(ex.files, files...)
	}
	doc := render.NodeDoc{RunID: ex.rs.Run.ID, Datastores: make(map[string]string, len(a.table.required))}
	for _, p := range ex.rs.Steps {
		for _, id := range p.ids {
			c := inRun[id]
			doc.Services = append(doc.Services, a.nodeService(id, c, p.Step == nodeStep))
			for _, u := range a.table.uses(id, c) {
				if _, had := doc.Datastores[u.Key]; !had || u.ID == u.Key { // {KEY} before {KEY[]} and {service/KEY}
					doc.Datastores[u.Key] = u.Answer.Text
				}
			}
		}
	}
	var err error
	if ex.node, err = render.NodeJSON(doc); err != nil {
		return err
	}
	for _, p := range ex.rs.Steps {
		ex.jobs[p.Step] = a.job(ex, p)
	}
	return nil
}

// unchanged reports whether the files of a service that is not due look as
// they were last seen, so that drift is found before a run at the price of a stat.
func (a *Agent) unchanged(id string) bool {
	return !slices.ContainsFunc(a.envPaths(id), func(p string) bool { return !a.savedFiles.same(p) })
}

func (a *Agent) nodeService(id string, c candidate, node bool) render.NodeService {
	m := a.table.rows[id].m
	s := render.NodeService{ID: id, Extra: m.Extra}
	if node {
		s.RunList = m.RunList
	}
	s.Environment = make([]render.Var, 0, len(c.Good.Vars))
	for name, value := range c.Good.Vars {
		s.Environment = append(s.Environment, render.Var{Name: name, Value: value})
	}
	return s
}

// ordered puts own steps in the order providers before consumers, ties by id;
// what is in a cycle comes by id.
func (a *Agent) ordered(ids []string) []string {
	in := map[string]bool{}
	for _, id := range ids {
		in[id] = true
	}
	var out []string
	state := map[string]int{} // 1 being visited, 2 done
	var visit func(id string)
	visit = func(id string) {
		if state[id] != 0 {
			return
		}
		state[id] = 1
		for _, p := range a.providersOf(id) {
			if in[p] {
				visit(p)
			}
		}
		state[id] = 2
		out = append(out, id)
	}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		visit(id)
	}
	return out
}

// providersOf are the services of this node that provide what id requires.
func (a *Agent) providersOf(id string) []string {
	var out []string
	for _, key := range a.table.rows[id].m.RequiredKeys() {
		for _, p := range a.table.offerers[key] {
			if p != id {
				out = append(out, p)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// reasons says in words why w is due, most telling first.
func (a *Agent) reasons(w *work) []string {
	var out []string
	if a.st.Manual != nil {
		out = append(out, "provision by "+a.st.Manual.Who)
	}
	for _, r := range a.st.ForcedBy {
		if a.st.Manual == nil || r != forcedManual {
			out = append(out, r)
		}
	}
	for _, d := range a.dueServices(w) {
		out = append(out, d.ID+": "+d.Why)
	}
	if w.node && len(out) == 0 && w.nodeWhy != "" {
		out = append(out, w.nodeWhy)
	}
	return out
}

// dueServices lists the services that w provisions for their own sake.
func (a *Agent) dueServices(w *work) []status.DueService {
	out := []status.DueService{}
	add := func(id, step string) {
		st := a.st.service(id)
		d := status.DueService{ID: id, Step: step}
		keys := a.table.changedKeys(id)
		switch r := a.table.rows[id]; {
		case st.Applied.Digest == "":
			d.Why = "new"
		case a.table.applied(r, st) || r.res.State == resolve.Kept:
			d.Why = "its last run did not end well"
			if !st.Dirty {
				d.Why = "forced"
			}
		case len(keys) > 0:
			d.Why, d.Keys = shorten(keys, 6)+" changed", keys
		default:
			d.Why = "its manifest changed"
		}
		out = append(out, d)
	}
	for _, id := range w.nodeIDs {
		if w.node && a.table.due(id) {
			add(id, "node")
		}
	}
	for _, id := range w.own {
		add(id, "own")
	}
	for _, id := range w.files {
		add(id, "none")
	}
	slices.SortStableFunc(out, func(x, y status.DueService) int { return cmp.Compare(x.ID, y.ID) })
	return out
}

const nodeJSONSuffix = ".node.json"

// nodeJSONPath is where the run's node.json stands while it runs.
func (a *Agent) nodeJSONPath(run string) string {
	return filepath.Join(a.opt.Config.RunDir, run+nodeJSONSuffix)
}

// writeNodeJSON is called before the first step and removeNodeJSON after the last.
func (a *Agent) writeNodeJSON(ex *execution) error {
	return atomicfile.WriteNew(a.nodeJSONPath(ex.rs.Run.ID), ex.node)
}

func (a *Agent) removeNodeJSON(run string) {
	if err := removeFile(a.nodeJSONPath(run)); err != nil {
		a.fault("node.json", err) // writeAgain tries again
	}
}
