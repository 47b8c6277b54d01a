package balancer

// SameShape reports whether next differs from old in nothing but the servers
// of backends, which Runtime.Apply can change while HAProxy runs.
func (h HAProxy) SameShape(old, next *Plan) bool { return h.structure(old, next) == "" }
