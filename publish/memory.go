package publish

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"github.com/listener-agent/listener/internal/atomicfile"
)

// memory is StateDir/publish.json: what the next process needs to go on where
// this one ended. It is written before the store is, so that it names at
// least what is there.
type memory struct {
	owner

	Session     string `json:"session"`
	Incarnation uint64 `json:"incarnation"`
	// Entries are the keys in the store that were published in this boot and
	// are not withdrawn. Former were withdrawn, and Tickets taken, under this
	// session: a backup of the store that somebody restores brings them back,
	// and our session would keep them alive. Sorted, never changed in place.
	Entries []string `json:"entries,omitempty"`
	Former  []string `json:"former,omitempty"`
	Tickets []string `json:"tickets,omitempty"`
}

// owner is whose memory it is.
type owner struct {
	Prefix     string `json:"prefix"`
	Federation string `json:"federation"`
	Node       string `json:"node"`
	MachineID  string `json:"machine_id"`
	BootID     string `json:"boot_id"`
}

func memoryPath(dir string) string { return filepath.Join(dir, "publish.json") }

// loadMemory returns what an earlier process of the same node and boot kept.
// Anything else is of no use: its session dies by itself, with its entries.
func loadMemory(o Options) memory {
	own := owner{o.Space.Prefix, o.Space.Federation, o.Node, o.MachineID, o.BootID}
	data, err := os.ReadFile(memoryPath(o.StateDir))
	var m memory
	if err != nil || json.Unmarshal(data, &m) != nil || m.owner != own {
		return memory{owner: own}
	}
	slices.Sort(m.Entries)
	slices.Sort(m.Former)
	slices.Sort(m.Tickets)
	return m
}

func (m memory) equal(n memory) bool {
	return m.owner == n.owner && m.Session == n.Session && m.Incarnation == n.Incarnation &&
		slices.Equal(m.Entries, n.Entries) && slices.Equal(m.Former, n.Former) && slices.Equal(m.Tickets, n.Tickets)
}

// save does not wait for the disk: after a power loss the boot is another one,
// and the file of no use.
func (m memory) save(dir string) error {
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // a struct of plain fields
	}
	return atomicfile.Write(memoryPath(dir), append(data, '\n'), 0o600)
}

// with returns the sorted list with s, without changing list.
func with(list []string, s string) []string {
	i, found := slices.BinarySearch(list, s)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), i, s)
}

// without returns the sorted list without s, without changing list.
func without(list []string, s string) []string {
	i, found := slices.BinarySearch(list, s)
	if !found {
		return list
	}
	return slices.Delete(slices.Clone(list), i, i+1)
}

func contains(list []string, s string) bool {
	_, found := slices.BinarySearch(list, s)
	return found
}
