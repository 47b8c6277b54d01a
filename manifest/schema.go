package manifest

import _ "embed"

//go:embed schema.json
var schema string

// Schema is the JSON Schema (2020-12) of a manifest, for editors. It accepts
// every manifest that Parse accepts; Parse refuses a few more, where a rule
// spans members.
func Schema() []byte { return []byte(schema) }
