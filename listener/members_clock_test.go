package listener

import (
	"testing"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/store"
)

// A clock that was set back while the agent was down makes neither a hold nor
// the way back to a better provider longer.
func TestAReplicaOfTheFutureHoldsNoLonger(t *testing.T) {
	now := time.Now()
	future := now.AddDate(1, 0, 0)
	space := store.Space{Prefix: "/p", Federation: "f"}
	v := newView(space, "r", config.Protect{HoldPercent: 15, HoldMin: 3, HoldMax: time.Minute}, now)
	up := string(store.Provider{Value: "x", State: store.Up}.Encode())
	v.remember(&replica{Store: "s", Saved: future, Rev: 9, Values: []replicaValue{
		{Region: "r", Key: "K", Node: "a", Service: "s", Text: up, Rev: 8, Expired: future, Kept: true},
		{Region: "r", Key: "K", Node: "b", Service: "s", Text: up, Rev: 8, UpSince: future},
	}})
	if keys, _ := v.releaseMembers(now.Add(2 * time.Minute)); len(keys) != 1 {
		t.Error("the hold goes on")
	}
	for _, q := range v.providers("K") {
		if q.UpSince.After(now.Add(time.Minute)) {
			t.Errorf("%s is up since %v", q.ID(), q.UpSince)
		}
	}
}
