package config

import "testing"

// BenchmarkLoad is a start with a small settings file: every command pays it.
func BenchmarkLoad(b *testing.B) {
	data := []byte("node = 'a'\nhost = '10.0.0.1'\n[provision]\ncommand = ['/usr/bin/chef-solo', '-j', '{NODE_JSON}']\n[throttle]\nsettle = '2s'\n")
	for b.Loop() {
		if _, err := loadBytes(data); err != nil {
			b.Fatal(err)
		}
	}
}
