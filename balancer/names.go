package balancer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// maxName keeps a server's line, and the command that names it, short of every
// limit of HAProxy.
const maxName = 256

const hexDigits = "0123456789ABCDEF"

// serverName is region::node::service. Bytes that HAProxy does not take in a
// name, and the colon, become :XX. A name that gets too long ends in a hash
// of all of it.
func serverName(region, node, service string) string {
	b := make([]byte, 0, 64)
	b = appendName(b, region)
	b = append(b, "::"...)
	b = appendName(b, node)
	b = append(b, "::"...)
	b = appendName(b, service)
	return shorten(b)
}

// backendName is one name for each text.
func backendName(s string) string { return shorten(appendName(nil, s)) }

func appendName(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; letter(c) || digit(c) || c >= 'A' && c <= 'Z' || c == '.' || c == '_' || c == '-' {
			b = append(b, c)
		} else {
			b = append(b, ':', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}

// shorten cuts where no escape can be: its end is told from one by the letter.
func shorten(b []byte) string {
	if len(b) <= maxName {
		return string(b)
	}
	sum := sha256.Sum256(b)
	return string(b[:maxName-40]) + ":h" + hex.EncodeToString(sum[:16])
}

// maxID is the highest id that HAProxy gives a server.
const maxID = 1<<31 - 1

// setIDs gives each server its place on the ring. HAProxy derives it from the
// server's number in the file unless told: then one more server would move
// all those after it. Servers are sorted; of two with one hash the later one
// takes the next id.
func setIDs(servers []Server) {
	used := make(map[int]bool, len(servers))
	for i := range servers {
		sum := sha256.Sum256([]byte(servers[i].Name))
		id := int(binary.BigEndian.Uint32(sum[:]) & maxID)
		for id == 0 || used[id] {
			id = id%maxID + 1
		}
		used[id] = true
		servers[i].ID = id
	}
}
