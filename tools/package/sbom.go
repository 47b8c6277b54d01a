package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bom is a CycloneDX 1.5 bill of materials, as much of it as is known: see
// https://cyclonedx.org/docs/1.5/json/.
type bom struct {
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	SerialNumber string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Purl       string     `json:"purl,omitempty"`
	Licenses   []licensed `json:"licenses,omitempty"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type licensed struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// sbom writes what is linked into binaries, which are builds of one program for
// several platforms.
func sbom(out io.Writer, name, version string, binaries []string, when time.Time) error {
	purl := "pkg:golang/github.com/listener-agent/listener@" + version
	root := component{Type: "application", Ref: purl, Name: name, Version: version, Purl: purl, Licenses: make([]licensed, 1)}
	root.Licenses[0].License.ID = "Apache-2.0"
	b := bom{
		Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		Metadata: metadata{Timestamp: when.Format(time.RFC3339), Component: root},
	}
	seen := map[string]bool{}
	var files []string
	digest := sha256.New() // of all binaries: the serial number is the same for the same ones
	for _, binary := range binaries {
		info, err := read(binary)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		digest.Write(sum[:])
		file := "file:" + filepath.Base(filepath.Dir(binary)) + "/" + filepath.Base(binary)
		c := component{Type: "file", Ref: file, Name: file[5:], Version: version, Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}}
		for _, s := range info.Settings {
			if s.Key == "GOARCH" || s.Key == "GOOS" || s.Key == "CGO_ENABLED" {
				c.Properties = append(c.Properties, property{"go:" + s.Key, s.Value})
			}
		}
		b.Components = append(b.Components, c)
		files = append(files, file)

		uses := []string{b.add(seen, "std", strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go"), "")}
		for _, m := range info.Deps {
			uses = append(uses, b.add(seen, m.Path, m.Version, m.Sum))
		}
		b.Dependencies = append(b.Dependencies, dependency{file, uses})
	}
	b.Dependencies = append(b.Dependencies, dependency{purl, files})
	b.SerialNumber = serial(digest.Sum(nil))
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(b)
}

// add lists a module once, and returns how it is named in the bill.
func (b *bom) add(seen map[string]bool, path, version, sum string) string {
	purl := "pkg:golang/" + path + "@" + version
	if seen[purl] {
		return purl
	}
	seen[purl] = true
	c := component{Type: "library", Ref: purl, Name: path, Version: version, Purl: purl}
	if sum != "" { // of the module's tree, as go.sum has it; no hash of one file
		c.Properties = []property{{"go:sum", sum}}
	}
	b.Components = append(b.Components, c)
	return purl
}

// serial makes a UUID of a digest, version 8 (RFC 9562).
func serial(digest []byte) string {
	u := digest[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
