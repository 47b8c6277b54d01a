package config

import (
	"cmp"
	"os"
	"strings"
)

// credentials begins the path of what systemd hands to the agent's unit with
// LoadCredential=, see systemd.exec(5).
const credentials = "$CREDENTIALS_DIRECTORY/"

// credentialsOfUnit is where the agent's credentials are for who is not the
// agent, such as another command on the node.
const credentialsOfUnit = "/run/credentials/listener.service"

// credential puts the directory into a path that names a credential.
func credential(path string) string {
	name, ok := strings.CutPrefix(path, credentials)
	if !ok {
		return path
	}
	return cmp.Or(os.Getenv("CREDENTIALS_DIRECTORY"), credentialsOfUnit) + "/" + name
}
