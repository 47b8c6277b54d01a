package listener

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/throttle"
)

// load reads everything in the state directory. Whatever is damaged becomes a
// fault that status shows; the agent goes on with the safe reading of it.
func (a *Agent) load() {
	dir := a.cfg.StateDir
	now := a.now()
	a.fault("machine-id", a.leaveClone(dir))
	a.fault("sweep", a.sweepOwn())
	st, fresh, err := loadState(a.statePath())
	a.fault("state.json", err)
	a.st = st
	key, newKey, err := loadDigestKey(dir)
	a.fault("digest.key", err)
	a.dig = newDigester(key)
	switch {
	case fresh && a.faults["state.json"] == nil:
		a.st.force("first start")
	case fresh || newKey:
		a.st.force("the state of the last start is lost")
	case st.Boot != now.Boot:
		a.st.force("first start after boot")
	}
	if fresh || st.Boot != now.Boot {
		a.st.BootForced = a.st.Forced
	}
	a.st.Boot, a.st.MachineID = now.Boot, a.opt.MachineID
	a.st.rebase(now)
	a.throttle, err = throttle.Open(filepath.Join(dir, "last_provision"), now, throttleSettings(a.cfg))
	a.fault("last_provision", err)
	a.history, err = provision.OpenHistory(dir)
	a.fault("history", err)
	if runs, err := a.history.List(1); err == nil && len(runs) > 0 {
		a.lastRun = &runs[0]
	}
	a.svcs, err = loadServices(filepath.Join(dir, "manifests"))
	a.fault("manifests copy", err)
	a.off = loadOff(dir)
	a.off.rebase(now)
	a.savedFiles = newFileCache()
	a.table = newTable(a)
	a.fault("attributes copy", a.rememberAttributes())
	a.loadAttributes()
	sc := readScan(a.cfg.Manifests)
	if a.enter(a.federationFor(sc)) {
		a.rememberUsed()
	}
	a.svcs.take(sc, a.space.Federation, time.Now())
	a.table.setManifests(a.svcs)
	a.setLanes()
	a.save()
}

func (a *Agent) statePath() string   { return filepath.Join(a.cfg.StateDir, "state.json") }
func (a *Agent) replicaPath() string { return filepath.Join(a.cfg.StateDir, "replica.json") }

// identity says which store the replica is a picture of.
func (a *Agent) identity() string {
	return a.cfg.Store.String() + " " + a.space.Prefix + " " + a.space.Federation
}

// keptOnClone is what a cloned image may keep of state_dir.
var keptOnClone = map[string]bool{"store.db": true, "manifests": true, "off": true, "agent.lock": true}

// leaveClone moves the state of another machine aside: state.json names the
// machine-id that wrote it.
func (a *Agent) leaveClone(dir string) error {
	st, fresh, err := peekMachine(filepath.Join(dir, "state.json"))
	if fresh || err != nil || st == "" || a.opt.MachineID == "" || st == a.opt.MachineID {
		return nil
	}
	aside := filepath.Join(dir, fmt.Sprintf("clone-of-%.8s", st))
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if keptOnClone[e.Name()] || filepath.Join(dir, e.Name()) == aside {
			continue
		}
		errs = append(errs, os.Rename(filepath.Join(dir, e.Name()), filepath.Join(aside, e.Name())))
	}
	return errors.Join(errs...)
}

// peekMachine reads only the machine-id of a state file.
func peekMachine(path string) (id string, fresh bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", errors.Is(err, fs.ErrNotExist), err
	}
	st, err := decodeState(data)
	if err != nil {
		return "", false, err
	}
	return st.MachineID, false, nil
}

// federationFor decides which federation this node belongs to: that of the
// settings, else the one kept, else the one the manifests name (then kept),
// else "default", which is not kept.
func (a *Agent) federationFor(sc scan) string {
	switch named := sc.federations(); {
	case a.cfg.Federation != "":
		return a.cfg.Federation
	case a.st.Federation != "":
		return a.st.Federation
	case len(named) == 1:
		a.st.Federation = named[0]
		return named[0]
	}
	return "default"
}

// enter makes the node a member of a federation: nothing that was seen of
// another one counts. same is false when the replica is of another store.
func (a *Agent) enter(federation string) (same bool) {
	a.space = store.Space{Prefix: a.cfg.Store.Prefix, Federation: federation}
	a.view = newView(a.space, a.region, a.cfg.Protect, time.Now())
	rep, err := loadReplica(a.replicaPath(), a.identity())
	if rep != nil {
		a.view.remember(rep)
	}
	other := errors.Is(err, errOtherStore)
	if err != nil && !other {
		a.slow.broken("replica") // until the next one is written
		a.fault("replica", err)
	}
	if a.pub.p != nil {
		a.startPublishing() // in the other federation
	}
	a.booted = false
	a.watch.force, a.watch.live = true, 0
	a.watch.gen++ // what the last Watch still says is not of this federation
	a.watch.bootUntil = time.Now().Add(a.cfg.Store.BootWait)
	return !other
}

// sweepOwn removes the temporary files that an agent left which was killed;
// we hold its lock, and write none yet.
func (a *Agent) sweepOwn() error {
	dir := a.cfg.StateDir
	return errors.Join(atomicfile.SweepOwn(dir), atomicfile.SweepOwn(filepath.Join(dir, "manifests")), atomicfile.SweepOwn(a.cfg.RunDir))
}

// sweepEnv does the same where others may write, too: by age, so again and again.
func (a *Agent) sweepEnv() {
	dir := a.cfg.Env.Dir
	a.slow.later("sweep "+dir, func() error { return atomicfile.Sweep(dir) })
}

func throttleSettings(c *config.Config) throttle.Settings {
	t := c.Throttle
	return throttle.Settings{
		Settle: t.Settle, SettleMax: t.SettleMax, MinInterval: t.MinInterval,
		Burst: t.Burst, Window: t.Window, Splay: t.Splay,
	}
}

// fault notes that something does not work, or, with nil, that it does again.
func (a *Agent) fault(name string, err error) {
	switch old := a.faults[name]; {
	case err == nil:
		delete(a.faults, name)
	case old == nil || old.Error() != err.Error():
		a.faults[name] = err // updateConditions tells it
	}
}

// faultLater is fault for the agent's other goroutines; it blocks until the
// loop takes it.
func (a *Agent) faultLater(name string, err error) {
	a.post(func() { a.fault(name, err) })
}

// writeAgain tries what could not be written once more: a disk that has room
// again is otherwise noticed only when something changes, and a restart before
// that would know nothing of what happened meanwhile.
func (a *Agent) writeAgain() {
	if a.faults["state_dir"] != nil {
		a.save()
	}
	a.forgetAgain()
	if a.faults["node.json"] != nil && !a.adopting {
		a.fault("node.json", a.sweepRunDir(nil))
	}
	if a.unstamped { // not what was damaged at the start: that stays told until the next run
		err := a.throttle.Write()
		a.unstamped = err != nil
		a.fault("last_provision", err)
	}
	if a.faults["off file"] != nil {
		a.fault("off file", a.writeOff())
	}
	if a.faults["replica"] != nil {
		a.saveReplica()
	}
	if a.faults["attributes copy"] != nil {
		a.saveAttributes()
	}
	if a.faults["history"] != nil && a.lastRun != nil && a.exec == nil {
		a.fault("history", a.history.Save(*a.lastRun))
	}
	if a.faults["history prune"] != nil && a.lastRun != nil {
		a.pruneHistory(a.lastRun.ID)
	}
}

// save writes state.json. It is called before what it records is acted on.
func (a *Agent) save() {
	err := a.st.write(a.statePath())
	a.fault("state_dir", err)
	if err == nil {
		a.slow.sync(a.statePath())
		if a.st.Run != nil {
			a.st.Run.onDisk = true
		}
	}
}
