// What makes man pages and bills of materials, apart from what the agent depends on.
module github.com/listener-agent/listener/tools/package

go 1.26.0

require github.com/listener-agent/listener v0.0.0

require github.com/BurntSushi/toml v1.6.0 // indirect

replace github.com/listener-agent/listener => ../..
