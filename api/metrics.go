package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/listener-agent/listener/status"
)

// metrics answers /metrics in the text format of Prometheus, version 0.0.4.
// A dozen gauges read from one Status do not need client_golang, which would
// add 2.9 MB to the binary and 0.5 MB to an idle agent (measured with 1.25).
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	st, err := s.agent.Status(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, err = w.Write([]byte(exposition(st)))
	return err
}

type exposer struct{ strings.Builder }

// family begins a metric; its samples follow.
func (e *exposer) family(name, kind, help string) {
	fmt.Fprintf(e, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes one line; labels are name, value pairs.
func (e *exposer) sample(name string, value float64, labels ...string) {
	e.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(e, `%s%s="%s"`, sep, labels[i], labelEscape(labels[i+1]))
	}
	if len(labels) > 1 {
		e.WriteByte('}')
	}
	fmt.Fprintf(e, " %v\n", value)
}

func (e *exposer) gauge(name, help string, value float64, labels ...string) {
	e.family(name, "gauge", help)
	e.sample(name, value, labels...)
}

func labelEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}

func exposition(st status.Status) string {
	var e exposer
	e.gauge("listener_info", "Always 1; the labels say who this is.", 1,
		"version", st.Version, "node", st.Node, "region", st.Region, "federation", st.Federation)
	e.gauge("listener_start_time_seconds", "When this agent process started.", seconds(st.Started))
	e.family("listener_runs_total", "counter", "Runs since this agent process started.")
	e.sample("listener_runs_total", float64(st.RunsTotal))
	e.gauge("listener_on", "1 when the agent provisions, 0 when it is off.", boolean(st.On))
	e.gauge("listener_running", "1 while a run is in progress.", boolean(st.Running != nil))
	e.gauge("listener_pending", "1 while a run waits.", boolean(st.Pending != nil))
	if st.Pending != nil {
		e.gauge("listener_pending_since_seconds", "When the waiting run became pending.", seconds(st.Pending.Since))
	}
	e.gauge("listener_synced", "1 when nothing runs, nothing is pending and every ready service is applied.", boolean(st.Synced))
	e.gauge("listener_store_connected", "1 while the agent's picture of the store is current.", boolean(st.Store.State == "ok"), "kind", st.Store.Kind)
	e.gauge("listener_store_revision", "Newest revision of the store seen.", float64(st.Store.Revision))
	e.gauge("listener_failing_steps", "Steps that failed last time.", float64(len(st.Failures)))
	conditions(&e, st.Conditions)
	services(&e, st.Services)
	lastRun(&e, st.LastRun)
	published(&e, st.Publishing)
	balancers(&e, st.Balancers)
	return e.String()
}

func conditions(e *exposer, cs []status.Condition) {
	counts := map[string]int{"info": 0, "warning": 0, "error": 0}
	for _, c := range cs {
		counts[c.Severity]++
	}
	e.family("listener_conditions", "gauge", "Named conditions of the node, by severity.")
	for _, sev := range []string{"info", "warning", "error"} {
		e.sample("listener_conditions", float64(counts[sev]), "severity", sev)
	}
}

func services(e *exposer, ss []status.Service) {
	counts := map[string]int{}
	for _, s := range ss {
		counts[s.State]++
	}
	e.family("listener_services", "gauge", "Services of the node, by state.")
	for _, state := range []string{"ready", "waiting", "missing", "refused"} {
		e.sample("listener_services", float64(counts[state]), "state", state)
	}
}

func lastRun(e *exposer, r *status.Run) {
	if r == nil || r.Ended.IsZero() {
		return
	}
	e.gauge("listener_last_run_timestamp_seconds", "When the last run ended.", seconds(r.Ended))
	e.gauge("listener_last_run_duration_seconds", "How long the last run took.", r.Ended.Sub(r.Started).Seconds())
	e.gauge("listener_last_run_success", "1 when the last run succeeded.", boolean(r.Result == "ok"))
}

// published counts what the node tells the fleet; nothing while it does not.
func published(e *exposer, p *status.Publishing) {
	if p == nil {
		return
	}
	counts := map[string]int{}
	for _, one := range p.Published {
		counts[one.State]++
	}
	e.family("listener_published", "gauge", "Entries of this node in the store, by state.")
	for _, state := range []string{"up", "down", "draining", "standby", "left"} {
		e.sample("listener_published", float64(counts[state]), "state", state)
	}
	e.family("listener_check_up", "gauge", "1 while the health check of a service is up.")
	for _, c := range p.Checks {
		e.sample("listener_check_up", boolean(c.State == "up"), "service", c.Service)
	}
	e.gauge("listener_drained", "1 while the node is out of service.", boolean(p.Drain != nil))
}

func balancers(e *exposer, bs []status.Balancer) {
	if len(bs) == 0 {
		return
	}
	e.family("listener_balancer_ok", "gauge", "1 while the balancer does what the store says.")
	for _, b := range bs {
		e.sample("listener_balancer_ok", boolean(b.State == "ok"), "kind", b.Kind, "path", b.Path)
	}
	e.family("listener_balancer_servers", "gauge", "Servers that the balancer leads to.")
	for _, b := range bs {
		e.sample("listener_balancer_servers", float64(b.Servers), "kind", b.Kind, "path", b.Path)
	}
	e.family("listener_balancer_updates_total", "counter", "Updates of the balancer since this agent process started.")
	for _, b := range bs {
		e.sample("listener_balancer_updates_total", float64(b.Updates), "kind", b.Kind, "path", b.Path, "how", "socket")
		e.sample("listener_balancer_updates_total", float64(b.Reloads), "kind", b.Kind, "path", b.Path, "how", "reload")
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
